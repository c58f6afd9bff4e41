"""Has fine-tuning been worth it? Accuracy during the run, and a diagnosis against two baselines.

The baselines are a linear probe on the same labels and the same network trained from scratch. All
are tested on the same images, so that two of them are compared by the images on which they differ
(McNemar 1947, exact and two-sided).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coview.core.images import ImageStore
from coview.core.metrics import LEVEL, p_in_words
from coview.core.rng import ACCURACY_IMAGES, Stream, permutation
from coview.diagnosis.evidence import MORE_TEST_IMAGES, undecided
from coview.diagnosis.rules import more_steps
from coview.diagnosis.state import Diagnosis
from coview.evaluation import embed_views, paired_permutation_test
from coview.evaluation.statistics import Z_95
from coview.methods import Learner
from coview.planning.defaults import MIN_STEPS
from coview.recipes import Recipe
from coview.training import MetricsLog
from coview.views import ViewPlan

MAX_TEST_IMAGES, MAX_TRAIN_IMAGES, MAX_REPORTS = 2_000, 512, 10
NO_HELP = (
    "The pretrained encoder has learned little, or something else than these classes.",
    "There are enough labels to learn without pretraining.",
)
NO_GAIN = (
    "There are too few labels to train the whole network.",
    "The learning rate suits neither the encoder nor the classifier.",
)
JUDGE = "Judge the encoder by `coview evaluate`; a longer pretraining may help."
USE_PROBE = "Use the linear probe on the frozen encoder, or try a third of the `learning_rate`."

Bools = npt.NDArray[np.bool_]


class ClassifierMonitor(ABC):
    """Writes "validation" lines at some ends of epochs: figures of samples of both parts.

    The samples are fixed: at most 2,000 test and 512 training images, in the view without
    augmentation. Nothing is selected by these figures: the last epoch counts.
    """

    def __init__(
        self, learner: Learner, recipe: Recipe, training: ImageStore, held_out: ImageStore,
        metrics_log: MetricsLog,
    ) -> None:  # fmt: skip
        self.learner, self.recipe, self.metrics_log = learner, recipe, metrics_log
        self.training = sample_of(training, MAX_TRAIN_IMAGES, recipe.seed)
        self.held_out = sample_of(held_out, MAX_TEST_IMAGES, recipe.seed)
        self.steps_per_epoch = recipe.steps_per_epoch(len(training))
        total = recipe.total_steps(len(training))
        epochs = max(1, total // max(1, self.steps_per_epoch))
        self.every = -(-epochs // MAX_REPORTS)

    def __call__(self, step: int, last: bool = False) -> bool:
        """After ``step`` steps, at the end of an epoch or of the run; step 0 is before training.

        Returns whether it measured.
        """
        epoch = step // self.steps_per_epoch
        if not last and epoch % self.every:
            return False
        self.metrics_log.write(
            "validation", step, epoch=step / self.steps_per_epoch, **self.figures(),
            images=len(self.held_out),
        )  # fmt: skip
        return True

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """What a line holds besides its step, its epoch and the number of test images."""


class AccuracyMonitor(ClassifierMonitor):
    """Accuracy on test and on training images, and the loss."""

    def figures(self) -> dict[str, float]:
        accuracy, loss = self._measure(self.held_out)
        train_accuracy, _ = self._measure(self.training)
        return {"accuracy": accuracy, "loss": loss, "train_accuracy": train_accuracy}

    def _measure(self, store: ImageStore) -> tuple[float, float]:
        logits = logits_of(self.learner, store, self.recipe)
        labels = torch.from_numpy(store.labels)
        accuracy = float((logits.argmax(1) == labels).cpu().double().mean())
        return accuracy, float(torch.nn.functional.cross_entropy(logits, labels))


def logits_of(learner: Learner, store: ImageStore, recipe: Recipe) -> torch.Tensor:
    """The logits of every image in the view without augmentation, float32 [N, classes], CPU."""
    device = next(learner.parameters()).device
    plan = ViewPlan(views=(recipe.eval_view,))
    ((_, logits),) = embed_views(learner.embed, store, plan, device=device, label="Accuracy")
    return logits


def sample_of(store: ImageStore, limit: int, seed: int) -> ImageStore:
    """At most ``limit`` images of ``store``, the same for one seed."""
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=ACCURACY_IMAGES)[:limit]
    return store.subset(np.sort(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One classifier on the test images: which of them it classifies correctly, bool [N]."""

    name: str
    correct: Bools

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def p_value(one: Contender, other: Contender) -> float:
    """Of the hypothesis that both are equally good: exact McNemar test, two-sided.

    >>> right = np.ones(6, bool)
    >>> p_value(Contender(name="a", correct=right), Contender(name="b", correct=~right))
    0.03125
    """
    return paired_permutation_test(one.correct, other.correct)


def better_by_test(one: Contender, other: Contender) -> bool:
    """Whether ``one`` is right more often than ``other`` at the 5 % level, two-sided."""
    return one.accuracy > other.accuracy and p_value(one, other) < LEVEL


def gain_interval(one: Contender, other: Contender) -> tuple[float, float]:
    """The 95 % interval of the accuracy of ``one`` above that of ``other`` on the same images.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", 2005: Wald's, with half an image more of each of the four outcomes.

    >>> right = np.arange(80) < 20
    >>> low, high = gain_interval(
    ...     Contender(name="a", correct=right), Contender(name="b", correct=right[::-1])
    ... )
    >>> round(low, 3), round(high, 3)
    (-0.153, 0.153)
    """
    won, lost = (
        float((first.correct & ~second.correct).sum()) + 0.5
        for first, second in ((one, other), (other, one))
    )
    images = len(one.correct) + 2
    gain = (won - lost) / images
    error = Z_95 * max(0.0, won + lost - images * gain**2) ** 0.5 / images
    return gain - error, gain + error


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMean:
    """The mean over K classes of the share of their images that is right, and its standard error.

    What a network gives that always names one class, or guesses: 1 / K, however many images each
    class has. The accuracy of naming the most frequent class alone may be above that of a network
    that tells the classes apart.
    """

    value: float
    error: float
    classes: int

    @classmethod
    def of(cls, correct: Bools, classes: npt.NDArray[np.int64]) -> ClassMean:
        """``correct`` bool [N], of images of ``classes`` int64 [N].

        >>> mean = ClassMean.of(np.array([True, True, True, False]), np.array([0, 0, 0, 1]))
        >>> mean.value, mean.is_chance
        (0.5, True)
        """
        _, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
        right = np.bincount(places, weights=correct)
        # One image more of each outcome: a few images that are all right are not without error.
        share = (right + 1) / (counts + 2)
        error = float((share * (1 - share) / counts).sum() ** 0.5) / len(counts)
        return cls(value=float((right / counts).mean()), error=error, classes=len(counts))

    @property
    def is_chance(self) -> bool:
        """Whether it is at most two errors above 1 / K."""
        return self.value <= 1 / self.classes + 2 * self.error

    @property
    def text(self) -> str:
        return f"{_percent(self.value)} of each class on average, by chance " + _percent(
            1 / self.classes
        )


def diagnose_finetuning(
    finetuned: Contender, probe: Contender | None, scratch: Contender | None, *,
    labels: npt.NDArray[np.int64], validation: Sequence[Mapping[str, Any]], step: int,
) -> Diagnosis:  # fmt: skip
    """The diagnosis of an ended run.

    labels: of the test images. validation: the "validation" lines of the run. The first of these
    that holds: unusable data (test images of one class), too early, at chance (neither the accuracy
    nor the mean over the classes is above chance), overfitted, no better than from scratch, no
    better than the linear probe; else learned. A baseline that is None was left out.
    """
    _, counts = np.unique(labels, return_counts=True)
    largest = float(counts.max() / counts.sum())
    images, accuracy = len(labels), finetuned.accuracy
    error = (accuracy * (1 - accuracy) / images) ** 0.5
    baselines = [each for each in (probe, scratch) if each is not None]
    beside = "; ".join(f"{each.name} {compared(finetuned, each)}" for each in baselines)
    figures = (
        f"{_percent(accuracy)} of {images:,} test images are classified correctly"
        f"{f' ({beside})' if beside else ''}"
    )

    def diagnosis(label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        return Diagnosis(label=label, sentence=sentence, causes=causes, remedy=remedy, step=step)

    if len(counts) == 1:
        return diagnosis(
            "unusable data",
            f"Unusable data: all test images are of one class, so a network that always names it "
            f"would be right as well; {figures}.",
            "The test images are a part of the data that is sorted by class, or of one folder.",
            remedy="Test on images of several classes.",
        )
    common = f"the most frequent class alone gives {_percent(largest)}"
    is_common = accuracy <= largest + 2 * error
    mean = ClassMean.of(finetuned.correct, labels)
    if is_common and not mean.is_chance:
        figures += f"; {mean.text}; {common}"
    elif is_common:
        if step < MIN_STEPS:
            return diagnosis(
                "too early",
                f"Too early to judge after {step:,} steps: {figures}; {common}.",
                remedy=more_steps(step),
            )
        causes = ["The learning rate is too high or too low, or the run too short."]
        if probe is None or (
            probe.accuracy <= largest and ClassMean.of(probe.correct, labels).is_chance
        ):
            causes.append("The labels have nothing to do with what the images show.")
        return diagnosis(
            "at chance", f"At chance: {figures}; {common}.", *causes,
            remedy="Try a third and three times the `learning_rate`, or more `epochs`.",
        )  # fmt: skip
    accuracies = [row["accuracy"] for row in validation]
    train = validation[-1]["train_accuracy"] if validation else None
    best, last = (max(accuracies), accuracies[-1]) if accuracies else (accuracy, accuracy)
    sampled = validation[-1]["images"] if validation else images
    spread = (best * (1 - best) / sampled) ** 0.5
    if train is not None and best - last > 3 * spread and train > best:
        return diagnosis(
            "overfitted",
            f"Overfitted: {figures}. Accuracy on test images fell from {_percent(best)} to "
            f"{_percent(last)} while that on the training images rose to {_percent(train)}.",
            "The run is longer than these labels allow.",
            remedy="Fewer `epochs` or a smaller `learning_rate`; choose them on a part of the "
            "labels, not by these test images.",
        )
    for baseline, words, reasons, remedy in (
        (scratch, "than from scratch", NO_HELP, JUDGE),
        (probe, "than the linear probe", NO_GAIN, USE_PROBE),
    ):
        if baseline is None or better_by_test(finetuned, baseline):
            continue
        label = f"no better {words}"
        if may_be := may_be_better(words, finetuned, baseline):
            found = diagnosis(label, f"{may_be}: {figures}.", remedy=MORE_TEST_IMAGES)
            return replace(found, undecided=True)
        worse = _worse(finetuned, baseline)
        return diagnosis(label, f"{label.capitalize()}: {figures}.{worse}", *reasons, remedy=remedy)
    return diagnosis("learned", f"Learned: {figures}.")


def may_be_better(words: str, one: Contender, other: Contender) -> str:
    """:func:`undecided` of two classifiers; "" too where ``one`` is worse by the test."""
    if better_by_test(other, one):
        return ""
    gain, (low, high) = one.accuracy - other.accuracy, gain_interval(one, other)
    # The exact test has not excluded 0, as the interval may where its p is close to the level.
    return undecided(words, len(one.correct), gain, (min(low, 0.0), high))


def compared(one: Contender, other: Contender) -> str:
    """The accuracy of ``other``, a baseline, and how sure it is that ``one`` does better."""
    if other.accuracy > one.accuracy:  # the p value of a lead says nothing then
        return f"{_percent(other.accuracy)}, which is higher"
    return f"{_percent(other.accuracy)}, {p_in_words(p_value(one, other))}"


def _worse(finetuned: Contender, other: Contender) -> str:
    return f" It is significantly worse than {other.name}." * better_by_test(other, finetuned)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
