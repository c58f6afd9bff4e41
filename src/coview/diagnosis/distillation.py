"""Has the student learned what its teacher knows? Figures during the run, and a diagnosis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.images import ImageStore
from coview.diagnosis.finetuning import (
    MAX_REPORTS,
    MAX_TEST_IMAGES,
    MAX_TRAIN_IMAGES,
    Contender,
    better_by_test,
    logits_of,
    p_value,
    sample_of,
)
from coview.diagnosis.rules import MIN_STEPS, more_epochs
from coview.diagnosis.state import Diagnosis
from coview.evaluation import embed_views
from coview.methods import Learner
from coview.recipes import Recipe
from coview.training import MetricsLog
from coview.views import ViewPlan


class AgreementMonitor:
    """Writes "validation" lines: how often the student gives the teacher's class, on held-out and
    on training images, and its accuracy on the held-out images that have labels.

    The samples are those of fine-tuning, in the view without augmentation. Nothing is selected by
    these figures: the last epoch counts.
    """

    def __init__(
        self, learner: Learner, recipe: Recipe, training: ImageStore, held_out: ImageStore,
        metrics_log: MetricsLog,
    ) -> None:  # fmt: skip
        self.learner, self.recipe, self.metrics_log = learner, recipe, metrics_log
        self.training = sample_of(training, MAX_TRAIN_IMAGES, recipe.seed)
        self.held_out = sample_of(held_out, MAX_TEST_IMAGES, recipe.seed)
        self.steps_per_epoch = len(training) // recipe.batch_size
        total = recipe.total_steps(len(training))
        epochs = max(1, total // max(1, self.steps_per_epoch))
        self.every = -(-epochs // MAX_REPORTS)
        self._teacher: tuple[Tensor, Tensor] | None = None

    def __call__(self, step: int, last: bool = False) -> bool:
        """As that of :class:`~coview.diagnosis.finetuning.AccuracyMonitor`."""
        epoch = step // self.steps_per_epoch
        if not last and epoch % self.every:
            return False
        if self._teacher is None:  # it does not change
            self._teacher = (
                teacher_logits_of(self.learner, self.held_out, self.recipe).argmax(1),
                teacher_logits_of(self.learner, self.training, self.recipe).argmax(1),
            )
        held_out, training = (
            logits_of(self.learner, store, self.recipe).argmax(1)
            for store in (self.held_out, self.training)
        )
        agreement, train_agreement = (
            float((mine == theirs).double().mean())
            for mine, theirs in zip((held_out, training), self._teacher, strict=True)
        )
        labels = torch.from_numpy(np.asarray(self.held_out.labels))
        known = labels >= 0
        accuracy = (
            {"accuracy": float((held_out == labels)[known].double().mean())} if known.any() else {}
        )
        self.metrics_log.write(
            "validation", step, epoch=step / self.steps_per_epoch, **accuracy, agreement=agreement,
            train_agreement=train_agreement, images=len(self.held_out),
        )  # fmt: skip
        return True


def teacher_logits_of(learner: Learner, store: ImageStore, recipe: Recipe) -> Tensor:
    """The teacher's logits of every image in the view without augmentation, float32 [N, classes].

    On the CPU.
    """
    teacher, device = learner.teacher, next(learner.parameters()).device
    assert teacher is not None
    plan = ViewPlan(views=(recipe.eval_view,))
    ((logits,),) = embed_views(
        lambda images: (teacher(images.to(device)),), store, plan, device=device, label="Teacher"
    )
    return logits


def diagnose_distillation(
    student: npt.NDArray[np.int64], teacher: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64], *, labels_alone: Contender | None, baseline: str, step: int,
) -> Diagnosis:  # fmt: skip
    """The diagnosis of an ended run, from the classes that student and teacher give test images.

    Shapes: int64 [N]; labels are -1 where unknown. labels_alone: the same network, trained on the
    labels alone (``baseline`` names it), on the labeled test images; None where it was left out.
    The first of these that holds: too early or at chance, no better than the labels alone; else
    learned.
    """
    images, agreement = len(student), float((student == teacher).mean())
    _, counts = np.unique(teacher, return_counts=True)
    largest = float(counts.max() / images)
    error = (agreement * (1 - agreement) / images) ** 0.5
    figures = (
        f"on {_percent(agreement)} of {images:,} test images the student gives the teacher's class"
    )
    known = labels >= 0
    ours = Contender(name="student", correct=(student == labels)[known])
    if known.any():
        theirs = Contender(name="teacher", correct=(teacher == labels)[known])
        beside = "" if labels_alone is None else _beside(ours, labels_alone, baseline)
        figures += (
            f"; {_percent(ours.accuracy)} are classified correctly (teacher "
            f"{_percent(theirs.accuracy)}{beside})"
        )

    def diagnosis(label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        return Diagnosis(label=label, sentence=sentence, causes=causes, remedy=remedy, step=step)

    if agreement <= largest + 2 * error:
        common = f"the teacher's most frequent class alone gives {_percent(largest)}"
        if step < MIN_STEPS:
            return diagnosis(
                "too early", f"Too early to judge after {step:,} steps: {figures}; {common}.",
                remedy=more_epochs(step),
            )  # fmt: skip
        if largest == 1:
            return diagnosis(
                "at chance", f"At chance: {figures}; {common}.",
                "The teacher gives every test image one class, so that it has nothing to teach.",
                remedy="Judge the teacher first, and fine-tune it longer or on more labels.",
            )  # fmt: skip
        return diagnosis(
            "at chance", f"At chance: {figures}; {common}.",
            "The learning rate is too high or too low, or the run too short.",
            remedy="Try a third and three times the `learning_rate`, or more `epochs`.",
        )  # fmt: skip
    if labels_alone is not None and not better_by_test(ours, labels_alone):
        return diagnosis(
            "no better than from scratch", f"No better than the labels alone: {figures}.",
            "The teacher is not much better than what the labels give without it.",
            "There are too few test images to see the difference.",
            remedy="Judge the teacher first; more unlabeled images or more `epochs` may help.",
        )  # fmt: skip
    return diagnosis("learned", f"Learned: {figures}.")


def _beside(student: Contender, other: Contender, name: str) -> str:
    p = p_value(student, other)
    return f"; {name} {_percent(other.accuracy)}, {'p < 0.001' if p < 0.001 else f'p = {p:.2g}'}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
