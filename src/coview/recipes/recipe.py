"""The complete description of a run, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, cast

from coview.core.errors import InvalidValue, UnknownName
from coview.encoders import EncoderSpec, parse_encoder
from coview.heads import HeadSpec
from coview.methods import (
    EMA,
    CosineAffinity,
    Critic,
    CrossEntropy,
    FixedWeight,
    GradientRatio,
    Method,
    Pair,
    PairObjective,
    Passes,
    Queue,
    Repulsion,
    SameNetwork,
    SetObjective,
    StopGradient,
    logo,
    multi_crop,
)
from coview.methods.passes import FULL_BATCH
from coview.methods.temperature import WithTemperature
from coview.training import OptimizerSpec, ScheduleSpec
from coview.training.optimizers import NAMES
from coview.training.schedules import Rates
from coview.views import (
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    RandAugment,
    Rotate90,
    ViewPlan,
    ViewSpec,
    eval_view,
)

VALUES: tuple[type, ...] = (
    EncoderSpec, HeadSpec, Method, OptimizerSpec, ScheduleSpec, Passes,
    Pair, SameNetwork, StopGradient, EMA, Queue, Repulsion, CosineAffinity, Critic, FixedWeight, GradientRatio,
    AutoAugment, Blur, Crop, Cutout, Jitter, Noise, Rotate90, RandAugment, ViewPlan, ViewSpec,
)  # fmt: skip


def known_values() -> tuple[type, ...]:
    """The classes of which a recipe is built, with every objective that has been defined."""
    return (*VALUES, Recipe, *SetObjective.__subclasses__(), *PairObjective.__subclasses__())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a run but the data, the machine and the seed of chance.

    Range: batch_size >= 2 images; epochs > 0, fractions allowed; seed 0 .. 2^63 - 1.
    ``precision`` is "auto" (bf16 where the hardware has it), "bf16" or "fp32"; ``passes`` says how
    a batch goes through the network where it is too large for memory. ``classes_per_batch`` P makes
    every batch of P classes with batch / P images each (supervised methods); None draws at random.
    """

    name: str
    method: Method
    encoder: EncoderSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    batch_size: int
    epochs: float
    seed: int = 0
    precision: str = "auto"
    passes: Passes = FULL_BATCH
    classes_per_batch: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise InvalidValue(f"--epochs is {self.epochs:g}; expected a number above 0.")
        if self.batch_size < 2:
            raise InvalidValue(
                f"--batch is {self.batch_size}; a contrastive batch needs at least 2 images."
            )
        classes = self.classes_per_batch
        if classes is not None and (classes < 2 or self.batch_size % classes):
            raise InvalidValue(
                f"--classes-per-batch is {classes}; expected at least 2, of which the batch of "
                f"{self.batch_size} is a multiple."
            )
        if not 0 <= self.seed < 2**63:
            raise InvalidValue(f"--seed is {self.seed}; expected 0 or a positive whole number.")
        if self.precision not in {"auto", "bf16", "fp32"}:
            raise UnknownName("precision", self.precision, ("auto", "bf16", "fp32"))

    @property
    def image_size(self) -> int:
        """The side of the first view, in pixels."""
        return self.method.views.views[0].size

    @property
    def eval_view(self) -> ViewSpec:
        """The view without augmentation in which the network is judged: center crop, resize."""
        first = self.method.views.views[0]
        return eval_view(first.size, mean=first.mean, std=first.std)

    def total_steps(self, images: int) -> int:
        """Optimizer steps on ``images`` training images; the last short batch is dropped."""
        return max(1, round(self.epochs * (images // self.batch_size)))

    def rates(self, images: int) -> Rates:
        """The learning rate of every step on ``images`` training images, float64 [total_steps]."""
        return self.schedule.rates(
            self.optimizer.peak(self.batch_size),
            total_steps=self.total_steps(images),
            steps_per_epoch=images // self.batch_size,
        )


def change(
    recipe: Recipe,
    *,
    encoder: str | None = None,
    size: int | None = None,
    batch: int | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    optimizer: str | None = None,
    temperature: float | None = None,
    learn_temperature: bool | None = None,
    jitter_strength: float | None = None,
    seed: int | None = None,
    precision: str | None = None,
    micro_batch: int | None = None,
    activation_checkpointing: bool | None = None,
    local_crops: int | None = None,
    affinity: str | None = None,
    classes_per_batch: int | None = None,
) -> Recipe:
    """``recipe`` with the given settings in place of its own; None keeps what is there.

    ``learning_rate`` is the peak itself: it replaces the base and its scaling with the batch.
    Raises InvalidValue or UnknownName.
    """
    _require_numbers(
        size=size, batch=batch, epochs=epochs, learning_rate=learning_rate, seed=seed,
        warmup_epochs=warmup_epochs, weight_decay=weight_decay, temperature=temperature,
        jitter_strength=jitter_strength, micro_batch=micro_batch, local_crops=local_crops,
        classes_per_batch=classes_per_batch,
    )  # fmt: skip
    recipe = _with(
        recipe, batch_size=batch, epochs=epochs, seed=seed, precision=precision,
        classes_per_batch=classes_per_batch,
    )  # fmt: skip
    passes = _with(
        recipe.passes, micro_batch=micro_batch, activation_checkpointing=activation_checkpointing
    )
    recipe = replace(recipe, passes=passes)
    if encoder is not None:
        recipe = replace(recipe, encoder=parse_encoder(encoder))
    if warmup_epochs is None and epochs is not None:
        # A shortened run keeps its warm-up to a tenth rather than spending itself on it.
        warmup_epochs = min(recipe.schedule.warmup_epochs, epochs / 10)
    recipe = replace(recipe, schedule=_with(recipe.schedule, warmup_epochs=warmup_epochs))
    recipe = replace(
        recipe, optimizer=_optimizer(recipe.optimizer, optimizer, learning_rate, weight_decay)
    )
    method = _tempered(recipe.method, temperature, learn_temperature)
    method = _with_views(method, size, jitter_strength)
    return replace(recipe, method=_with_crops(method, local_crops, affinity))


def _require_numbers(**given: object) -> None:
    for name, value in given.items():
        if value is not None and not isinstance(value, Real):
            raise InvalidValue(f"{name} is {value!r}; expected a number.")


def _with_crops(method: Method, count: int | None, affinity: str | None) -> Method:
    if affinity is not None:
        return logo(method, locals=2 if count is None else count, affinity=cast(Any, affinity))
    return method if count is None else multi_crop(method, locals=count)


def _optimizer(
    spec: OptimizerSpec, name: str | None, learning_rate: float | None, weight_decay: float | None
) -> OptimizerSpec:
    if name is not None and name != spec.name:
        if name not in NAMES:
            raise UnknownName("optimizer", name, NAMES)
        if learning_rate is None:
            raise InvalidValue(
                f"--optimizer {name} replaces {spec.name}, whose learning rate does not carry "
                "over; give --learning-rate as well."
            )
        spec = OptimizerSpec(
            name=cast(Any, name), learning_rate=learning_rate, scaling="none"
        )  # fmt: skip
    if learning_rate is not None:
        spec = replace(spec, learning_rate=learning_rate, scaling="none")
    changed: OptimizerSpec = _with(spec, weight_decay=weight_decay)
    return changed


def _tempered(method: Method, temperature: float | None, learn: bool | None) -> Method:
    if temperature is None and learn is None:
        return method
    if not isinstance(method.objective, WithTemperature):
        option = "--temperature" if temperature is not None else "--learn-temperature"
        raise InvalidValue(f"{option} means nothing to {method.name}: its objective has none.")
    objective = _with(method.objective, temperature=temperature, learn_temperature=learn)
    return replace(method, objective=objective)


def _with_views(method: Method, size: int | None, jitter_strength: float | None) -> Method:
    first = method.views.views[0].size
    if size is not None and size < 1:
        raise InvalidValue(f"--size is {size}; expected 1 pixel or more.")
    if jitter_strength is not None and not 0 <= jitter_strength < math.inf:
        raise InvalidValue(f"--strength is {jitter_strength:g}; expected a number from 0 up.")
    if jitter_strength is not None and all(view.jitter is None for view in method.views.views):
        raise InvalidValue(
            f"--strength means nothing to {method.name}: none of its views has a color jitter."
        )
    views = [
        # Local views keep their share of the global size.
        _view(view, size and max(1, round(size * view.size / first)), jitter_strength)
        for view in method.views.views
    ]
    return replace(method, views=ViewPlan(views=tuple(views)))


def for_classes(recipe: Recipe, classes: int) -> Recipe:
    """``recipe`` with as many logits as there are classes, where its method has logits."""
    if not isinstance(recipe.method.objective, CrossEntropy):
        return recipe
    head = replace(recipe.method.head, output=classes)
    objective = replace(recipe.method.objective, classes=classes)
    return replace(recipe, method=replace(recipe.method, head=head, objective=objective))


def _view(view: ViewSpec, size: int | None, jitter_strength: float | None) -> ViewSpec:
    if jitter_strength is not None and view.jitter is not None:
        # The color strength s of SimCLR, appendix A: 0.8 s, 0.8 s, 0.8 s, 0.2 s.
        jitter = replace(
            view.jitter, brightness=0.8 * jitter_strength, contrast=0.8 * jitter_strength,
            saturation=0.8 * jitter_strength, hue=min(0.5, 0.2 * jitter_strength),
        )  # fmt: skip
        view = replace(view, jitter=jitter)
    changed: ViewSpec = _with(view, size=size)
    return changed


def _with(value: Any, **changes: Any) -> Any:
    return replace(value, **{name: to for name, to in changes.items() if to is not None})
