"""The complete description of a run, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from coview import methods, views
from coview.core.errors import InvalidValue, UnknownName
from coview.dense import DenseMethod, Detector, Segmenter
from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods.passes import FULL_BATCH
from coview.training import OptimizerSpec, ScheduleSpec, StepSchedule
from coview.training.timeline import Rates, Schedule, Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHead:
    """The first ``layers`` layers of a pretrained projection head, as a part of the encoder.

    SimCLRv2 (section 2.2) fine-tunes from such a middle layer. Range: layers 1 .. head.layers.
    Raises InvalidValue.
    """

    head: HeadSpec
    layers: int

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= self.head.layers:
            raise InvalidValue(
                f"`from_layer` is {self.layers}, but the projection head has {self.head.layers} "
                f"layers; give 0 (the encoder's output) to {self.head.layers}."
            )


VALUES: tuple[type, ...] = (
    EncoderSpec, HeadSpec, OptimizerSpec, ScheduleSpec, KeptHead, methods.Method, methods.Passes,
    methods.Pair, methods.SameNetwork, methods.StopGradient, methods.EMA, methods.Teacher,
    methods.Queue,
    methods.Repulsion, methods.CosineAffinity, methods.Critic, methods.FixedWeight,
    methods.GradientRatio, views.AutoAugment, views.Blur, views.Crop, views.Cutout, views.Jitter,
    views.Noise, views.OrderedViewSpec, views.Rotate90, views.RandAugment, views.ViewPlan,
    views.ViewSpec, Detector, Segmenter, StepSchedule,
)  # fmt: skip


def known_values() -> tuple[type, ...]:
    """The classes of which a recipe is built, with every objective that has been defined.

    >>> from coview.core.values import decode, encode
    >>> from coview.recipes import recipe
    >>> decode(encode(recipe("simclr-cpu")), known_values()) == recipe("simclr-cpu")
    True
    """
    return (
        *VALUES,
        Recipe,
        DenseRecipe,
        *_below(methods.SetObjective),
        *_below(methods.PairObjective),
    )


def _below(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a run but the data, the first weights and the machine.

    Range: batch_size >= 2 images; epochs > 0, fractions allowed; seed 0 .. 2^63 - 1.
    ``precision`` is "auto" (bf16 where the hardware has it), "bf16" or "fp32"; ``passes`` says how
    a batch goes through the network where it is too large for memory. ``classes_per_batch`` P draws
    every batch from P classes, batch / P images of each (supervised methods); None draws at random.
    ``kept_head``: layers of a pretrained head that stay with the encoder (fine-tuning).
    Raises InvalidValue or UnknownName.

    >>> from coview.recipes import recipe
    >>> recipe("simclr-cifar").total_steps(images=50_000)
    97000
    """

    name: str
    method: methods.Method
    encoder: EncoderSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    batch_size: int
    epochs: float
    seed: int = 0
    precision: str = "auto"
    passes: methods.Passes = FULL_BATCH
    classes_per_batch: int | None = None
    kept_head: KeptHead | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise InvalidValue(f"`epochs` is {self.epochs:g}; expected a number above 0.")
        if self.batch_size < 2:
            raise InvalidValue(f"`batch_size` is {self.batch_size}; expected at least 2 images.")
        classes = self.classes_per_batch
        if classes is not None and (classes < 2 or self.batch_size % classes):
            raise InvalidValue(
                f"`classes_per_batch` is {classes}; expected a divisor of the batch of "
                f"{self.batch_size}, at least 2."
            )
        if not 0 <= self.seed < 2**63:
            raise InvalidValue(f"`seed` is {self.seed}; expected 0 or a positive whole number.")
        if self.precision not in {"auto", "bf16", "fp32"}:
            raise UnknownName("precision", self.precision, ("auto", "bf16", "fp32"))

    @property
    def image_size(self) -> int:
        """The side of the first view, in pixels."""
        return self.first_view.size

    @property
    def first_view(self) -> views.ViewSpec:
        """The first view: its size and normalization are those of the network's images."""
        return self.method.views.views[0]

    @property
    def eval_view(self) -> views.ViewSpec:
        """The view without augmentation in which the network is judged: center crop, resize."""
        first = self.first_view
        return views.eval_view(first.size, mean=first.mean, std=first.std)

    def steps_per_epoch(self, images: int) -> int:
        """Batches in an epoch of ``images`` training images; the last short one is dropped."""
        return images // self.batch_size

    def total_steps(self, images: int) -> int:
        """Optimizer steps on ``images`` training images, at least one."""
        return max(1, round(self.epochs * self.steps_per_epoch(images)))

    def rates(self, images: int) -> Rates:
        """The learning rate of every step on ``images`` training images, float64 [total_steps]."""
        return self.schedule_of(images, Timeline.of(self.total_steps(images))).rates

    def schedule_of(self, images: int, timeline: Timeline) -> Schedule:
        """The schedule of a run on ``images`` training images along ``timeline``."""
        peak, per_epoch = self.optimizer.peak(self.batch_size), self.steps_per_epoch(images)
        return Schedule(
            lambda line: self.schedule.rates_along(line, peak, steps_per_epoch=per_epoch), timeline
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRecipe(Recipe):
    """The recipe of a detector or a segmenter: its ``method`` stands on the maps of the encoder.

    Raises InvalidValue for settings that have no effect on whole images with objects.
    """

    method: DenseMethod  # type: ignore[assignment]  # no comparison of views

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        if self.classes_per_batch is not None or self.kept_head is not None:
            field = "classes_per_batch" if self.kept_head is None else "kept_head"
            raise InvalidValue(f"`{field}` has no effect on images with several objects.")
        if self.passes.micro_batch is not None:
            raise InvalidValue(
                "`micro_batch` has no effect on whole images with objects, of which a batch has "
                "few; take `activation_checkpointing`, a smaller `batch_size`, or several "
                "processes."
            )
