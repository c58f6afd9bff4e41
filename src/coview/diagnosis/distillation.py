"""Has the student learned what its teacher knows? Figures during the run, and a diagnosis."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.images import ImageStore
from coview.diagnosis.evidence import MORE_TEST_IMAGES
from coview.diagnosis.finetuning import (
    ClassifierMonitor,
    ClassMean,
    Contender,
    better_by_test,
    compared,
    logits_of,
    may_be_better,
)
from coview.diagnosis.rules import more_steps
from coview.diagnosis.state import Diagnosis
from coview.evaluation import embed_views
from coview.methods import Learner
from coview.planning.defaults import MIN_STEPS
from coview.recipes import Recipe
from coview.views import ViewPlan


class AgreementMonitor(ClassifierMonitor):
    """How often the student gives the teacher's class, on test and on training images, and its
    accuracy on the test images that have labels."""

    @cached_property
    def _teacher(self) -> tuple[Tensor, Tensor]:
        """The teacher's classes of the test and the training sample; they do not change."""
        held_out, training = (
            teacher_logits_of(self.learner, store, self.recipe).argmax(1)
            for store in (self.held_out, self.training)
        )
        return held_out, training

    def figures(self) -> dict[str, float]:
        teacher = self._teacher
        held_out, training = (
            logits_of(self.learner, store, self.recipe).argmax(1)
            for store in (self.held_out, self.training)
        )
        agreement, train_agreement = (
            float((mine == theirs).double().mean())
            for mine, theirs in zip((held_out, training), teacher, strict=True)
        )
        labels = torch.from_numpy(np.asarray(self.held_out.labels))
        known = labels >= 0
        accuracy = (
            {"accuracy": float((held_out == labels)[known].double().mean())} if known.any() else {}
        )
        return {**accuracy, "agreement": agreement, "train_agreement": train_agreement}


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
    The first of these that holds: too early or at chance (neither the agreement nor its mean over
    the teacher's classes is above chance), no better than the labels alone; else learned.
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
        beside = "" if labels_alone is None else f"; {baseline} {compared(ours, labels_alone)}"
        figures += (
            f"; {_percent(ours.accuracy)} are classified correctly (teacher "
            f"{_percent(theirs.accuracy)}{beside})"
        )

    def diagnosis(label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        return Diagnosis(label=label, sentence=sentence, causes=causes, remedy=remedy, step=step)

    common = f"the teacher's most frequent class alone gives {_percent(largest)}"
    is_common = agreement <= largest + 2 * error
    mean = ClassMean.of(student == teacher, teacher)
    if is_common and not mean.is_chance:
        figures += f"; {mean.text}; {common}"
    elif is_common:
        if step < MIN_STEPS:
            return diagnosis(
                "too early", f"Too early to judge after {step:,} steps: {figures}; {common}.",
                remedy=more_steps(step),
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
        if may_be := may_be_better("than the labels alone", ours, labels_alone):
            found = diagnosis(
                "no better than from scratch", f"{may_be}: {figures}.", remedy=MORE_TEST_IMAGES
            )
            return replace(found, undecided=True)
        return diagnosis(
            "no better than from scratch", f"No better than the labels alone: {figures}.",
            "The teacher is not much better than what the labels give without it.",
            remedy="Judge the teacher first; more unlabeled images or more `epochs` may help.",
        )  # fmt: skip
    return diagnosis("learned", f"Learned: {figures}.")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
