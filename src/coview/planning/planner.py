"""The parts of a plan: memory, speed, and with a budget the candidate that fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from coview.core.clock import Clock
from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.machine import runs_here
from coview.core.memory import DoesNotFit
from coview.core.text import duration
from coview.methods import Passes
from coview.options import RecipeOptions, TrainingOptions
from coview.planning.defaults import ladder
from coview.planning.memory import (
    about_passes,
    exactness,
    plan_passes,
    release,
    usable_bytes,
)
from coview.planning.text import (
    about_groups,
    about_method,
    about_precision,
    about_processes,
    about_the_run,
)
from coview.planning.trial import Equip, Speed, Trial
from coview.recipes import Recipe, apply_options, change
from coview.recipes.batches import render_ahead
from coview.training.loop import EXACT_ONLY

# Of what is left of a budget: health figures and checkpoints take the rest,
TRAINING_SHARE = 0.95
# and these seconds the last evaluation and the report, until the run has measured its own.
CLOSING_SECONDS = 6.0
FEWEST_STEPS = 4
# Larger candidates are tried until this share of the budget is used.
PLANNING_SHARE = 0.1
# Measuring takes at most these seconds for a network, and at most this share of the time planned.
MEASURED_SECONDS, MEASURED_SHARE = 3.0, 0.01
# A step of a small batch is long enough to be trusted.
PROBE_SECONDS = 0.4
# Rendering and a whole batch change the speed of a small batch of noise by no more than this
# factor: it rules a network out, or tells that a measurement was disturbed.
UNSURE = 3.0
# Passes over the data that a candidate must be able to make to be preferred over a smaller one: at
# 60 resnet18/4 caught up with resnet10/4, which had made half as many again (docs/lab/0003).
WANTED_EPOCHS = 60
MAX_EPOCHS = 400
# A run beyond this is announced together with what would fit.
LONG_SECONDS = 3 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe for this data and this machine, with notes that explain it and its estimate.

    seconds: of training, by the median step. most_epochs: the run follows the clock of its budget,
    and makes no more epochs than these; None where its length is fixed. exact: the recipe was given
    as a value, which nothing changes during the run either.
    """

    recipe: Recipe
    notes: tuple[str, ...]
    speed: Speed
    seconds: float
    most_epochs: float | None = None
    exact: bool = False

    def with_notes(self, *notes: str) -> Plan:
        """The plan with these ``notes`` behind its own."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A recipe that was tried for a budget, and the epochs that it would make in it."""

    trial: Trial
    recipe: Recipe
    notes: tuple[str, ...]
    speed: Speed
    epochs: float

    @property
    def name(self) -> str:
        return f"{self.recipe.encoder.label()} at {self.recipe.image_size} px"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What every plan of one run depends on.

    store: the training images. side: their usual short side in pixels. clock: of the run, with its
    budget. workers: rendering threads. world: the processes that share each batch. whole_runs:
    trainings of the recipe that the run makes (fine-tuning makes another from scratch, which may be
    shorter). equip: gives a network what it learns from besides the images, such as a teacher.
    """

    store: ImageStore
    side: int
    device: torch.device
    clock: Clock
    workers: int | None = None
    world: int = 1
    whole_runs: float = 1
    max_epochs: float = MAX_EPOCHS
    equip: Equip | None = None

    @property
    def images(self) -> int:
        return len(self.store)

    @property
    def budget(self) -> float | None:
        return self.clock.budget

    def plan(self, recipe: Recipe, options: TrainingOptions, *, why: str, exact: bool) -> Plan:
        """The plan of one recipe; with a budget its epochs are those that fit.

        ``why`` ends the sentence about the encoder. ``exact``: the recipe is not adapted to memory.
        Raises InvalidValue where the batch does not fit the images or the memory.
        """
        check_batch(recipe, self.images)
        if self.budget is None:
            return replace(self._without_budget(recipe, why, exact), exact=exact)
        return self._within_budget([recipe], options, lambda wanted, fits: why, exact)

    def plan_ladder(
        self, base: Recipe, options: RecipeOptions, encoder_is: str = "as asked"
    ) -> Plan:
        """Within a budget: the largest (encoder, size) of the ladder that makes enough epochs.

        Where ``options`` has one of them, the other is chosen; ``encoder_is`` says why the encoder
        is what it is.
        """
        check_batch(base, self.images)
        steps = ladder(self.device.type, self.side)
        candidates = [
            apply_options(
                base,
                RecipeOptions(
                    size=None if options.size else size,
                    encoder=None if options.encoder else encoder,
                ),
            )
            for encoder, size in steps
        ]
        if options.size and options.encoder:  # nothing to choose but the epochs
            return self.plan(candidates[0], options, why=encoder_is, exact=False)
        begin = f"{encoder_is}; " if options.encoder else ""

        def why(wanted: str, fits: bool) -> str:
            if fits:
                return f"{begin}the largest of the candidates that makes {wanted} epochs"
            return f"{begin}the fastest candidate, and a short time for {self.images:,} images"

        plan = self._within_budget(candidates, options, why, exact=False)
        if self.device.type == "cpu":
            return plan
        note = (
            f"The candidates and the {WANTED_EPOCHS} epochs that one should make were compared on "
            "CPUs alone; `encoder` and `size` choose others."
        )
        return plan.with_notes(note)

    def _without_budget(self, recipe: Recipe, why: str, exact: bool) -> Plan:
        trial = Trial(recipe, self.device, self.store, self.clock, self.equip)
        recipe, notes = fit_memory(trial, self.world, exact=exact)
        views = self._views(recipe)
        recipe, others, speed = self._speed_in_memory(trial, recipe, views, exact=exact)
        notes += others
        lines = [f"{recipe.encoder.label()} at {recipe.image_size} px: {why}.", *notes]
        plan = self._plan(trial, recipe, lines, speed)
        if plan.seconds <= LONG_SECONDS:
            return plan
        epochs = float(f"{recipe.epochs * LONG_SECONDS / plan.seconds:.2g}")
        long = (
            "That is long. `budget` 30m or `budget` 2h chooses a network, a size and epochs that "
            f"fit; `epochs` {epochs:g} of this one takes about {duration(LONG_SECONDS)}."
        )
        return plan.with_notes(long)

    def _within_budget(
        self, candidates: Sequence[Recipe], options: TrainingOptions,
        why: Callable[[str, bool], str], exact: bool,
    ) -> Plan:  # fmt: skip
        budget = self.budget
        assert budget is not None
        wanted = options.epochs or WANTED_EPOCHS
        # From the fastest up, so that a slow machine or a short budget measures few of them.
        fastest, *others = reversed(dict.fromkeys(candidates))
        best, too_slow = self._measure(fastest, wanted, exact=exact), None
        while others and best.epochs >= wanted and self.clock.used < PLANNING_SHARE * budget:
            larger = self._measure(others.pop(0), wanted, exact=exact, faster=best.speed)
            if larger.epochs < wanted:
                too_slow = larger
                break
            best = larger
        trial, fitted, speed, name = best.trial, best.recipe, best.speed, best.name
        fits = best.epochs >= wanted
        if self._seconds_left <= 0:
            raise InvalidValue(
                f"A budget of {duration(budget)} is too short: {duration(self.clock.used)} went to "
                f"opening the images and planning, and about {duration(CLOSING_SECONDS)} are kept "
                "for evaluation and the report. Give a longer `budget`."
            )
        # A machine that is busy just now may be free later, so that a few steps are always planned.
        fewest = FEWEST_STEPS * fitted.batch_size / self.images
        epochs = max(fewest, best.epochs) if options.epochs is None else fitted.epochs
        epochs = min(epochs, self.max_epochs)
        chosen = change(fitted, epochs=float(f"{epochs:.3g}"))
        if options.warmup_epochs is not None:
            chosen = replace(chosen, schedule=fitted.schedule)
        lines = [
            f"{name}: {why(f'{wanted:g}', fits)} in {duration(budget)}.",
            *([f"`epochs` {options.epochs:g} is kept, although a budget is given."]
              if options.epochs else []),
            *best.notes,
            *([] if too_slow is None else [
                f"{too_slow.name} is too slow: it would make about {too_slow.epochs:.2g} epochs."
            ]),
        ]  # fmt: skip
        plan = self._plan(trial, chosen, lines, speed)
        if options.epochs is not None:
            return plan
        clock = (
            "The number of steps follows the clock: it is planned again while the run goes on, "
            f"which ends after {duration(budget)} with everything written."
        )
        return replace(plan, notes=(*plan.notes, clock), most_epochs=self.max_epochs)

    def _measure(
        self, recipe: Recipe, wanted: float, *, exact: bool, faster: Speed | None = None
    ) -> Candidate:
        """A candidate for this budget. ``faster``: the speed of a less demanding one."""
        trial = Trial(recipe, self.device, self.store, self.clock, self.equip)
        fitted, notes = fit_memory(trial, self.world, exact=exact)
        views = self._views(replace(fitted, epochs=1))
        least = 0.0 if faster is None else views * wanted / max(self._seconds_left, 1e-9)
        fitted, others, speed = self._speed_in_memory(
            trial, fitted, views * wanted, exact=exact, least=least, faster=faster
        )
        return Candidate(
            trial=trial, recipe=fitted, notes=(*notes, *others), speed=speed,
            epochs=self._seconds_left * speed.median / views,
        )  # fmt: skip

    @property
    def _seconds_left(self) -> float:
        """Of the budget, for training."""
        return TRAINING_SHARE * max(self.clock.left - CLOSING_SECONDS, 0.0)

    def _views(self, recipe: Recipe) -> float:
        """The views of the whole run, of all its trainings."""
        views = recipe.total_steps(self.images) * recipe.batch_size
        return float(views * len(recipe.method.views.views) * self.whole_runs)

    def _speed_in_memory(
        self, trial: Trial, recipe: Recipe, views: float, *, exact: bool, **bounds: Any
    ) -> tuple[Recipe, tuple[str, ...], Speed]:
        """:meth:`_speed`, where a step does not fit with smaller passes, as in the run itself; the
        recipe with these passes, and notes about them.

        Raises DoesNotFit where there are none. ``exact``: take only what leaves the gradient as it
        is, which is all that a detector does.
        """
        share, exactly = share_of(recipe, self.world), exact and trial.learner.takes_micro_batches
        trial.use(recipe.passes)
        while True:
            try:
                speed = self._speed(trial, recipe, views, **bounds)
                break
            except DoesNotFit as error:
                if not trial.learner.reduce_memory(share, exact=exactly):
                    if exactly:
                        raise DoesNotFit(f"{error} {EXACT_ONLY}") from error
                    raise
            # Behind the handler: the error holds the tensors of its attempt.
            release(trial.device)
        passes = trial.learner.passes
        if passes == recipe.passes:
            return recipe, (), speed
        note = f"A step that was tried did not fit: {about_passes(trial.learner, share, passes)}"
        return replace(recipe, passes=passes), (note,), speed

    def _speed(
        self, trial: Trial, recipe: Recipe, views: float, *, least: float = 0.0,
        faster: Speed | None = None,
    ) -> Speed:  # fmt: skip
        """Of all processes, by few steps alone where they tell that it is far below ``least``.

        ``views``: of the run that is planned; a short one is measured shortly. A measurement is
        impossible, and made once more, where a whole batch is much slower than a small one, or the
        network ``faster`` than a less demanding one.
        """
        whole, budget = share_of(recipe, self.world), self.budget or math.inf
        images, seconds = trial.probe(
            most_images=whole, enough=min(PROBE_SECONDS, budget * MEASURED_SHARE / 6)
        )
        per_step = images * len(recipe.method.views.views)
        probed = self.world * per_step / seconds
        if UNSURE * probed < least:
            return Speed.of(per_step, [seconds]).times(self.world)
        measured = min(MEASURED_SECONDS, MEASURED_SHARE * min(budget, views / probed))
        if whole / images * seconds > MEASURED_SECONDS:
            whole = images
        most = math.inf if faster is None else faster.median

        def measure() -> Speed:
            return trial.speed(whole, seconds=measured, workers=self.workers).times(self.world)

        speed = measure()
        if speed.median < probed / UNSURE:
            return max(speed, measure(), key=lambda each: each.median)
        if speed.median > most:
            return min(speed, measure(), key=lambda each: each.median)
        return speed

    def _plan(self, trial: Trial, recipe: Recipe, lines: list[str], speed: Speed) -> Plan:
        views = self._views(recipe)
        notes = (
            about_method(recipe), *lines, *about_precision(recipe, trial.precision),
            *about_processes(recipe, self.world), *about_groups(recipe, self.world),
            *filter(None, [render_ahead(recipe, self.device, self.workers, self.world).note]),
            *about_the_run(recipe, self.images, views, speed),
        )  # fmt: skip
        return Plan(recipe=recipe, notes=notes, speed=speed, seconds=views / speed.median)


def check_batch(recipe: Recipe, images: int) -> None:
    """Raise InvalidValue where a batch cannot be drawn from the training images."""
    if recipe.batch_size > images:
        raise InvalidValue(
            f"`batch_size` {recipe.batch_size:,} does not fit: {images:,} images are left for "
            f"training after holding some out; use `batch_size` {images} or fewer."
        )


def share_of(recipe: Recipe, world: int) -> int:
    """The most images that a process of ``world`` has in a step."""
    return -(-recipe.batch_size // world)


def fit_memory(trial: Trial, world: int, *, exact: bool = False) -> tuple[Recipe, tuple[str, ...]]:
    """The trial's recipe with passes that fit into memory, and notes about them.

    Each of ``world`` processes holds its part of a batch. ``exact``: raise InvalidValue where
    neither the recipe's own passes fit nor others that give the same gradient.
    """
    recipe, share = trial.recipe, share_of(trial.recipe, world)
    micro_batch, notes = recipe.passes.micro_batch, []
    if not exact and micro_batch is not None and micro_batch >= share:
        recipe = replace(recipe, passes=replace(recipe.passes, micro_batch=None))
        notes.append(f"`micro_batch` {micro_batch} has no effect: the batch is of {share} images.")
    is_asked = recipe.passes != Passes()
    if is_asked:
        passes, note = recipe.passes, ""
    else:
        learner, need = trial.learner, trial.memory  # on the device before what is free is read
        free = max(0.0, usable_bytes(trial.device) - trial.optimizer_bytes)
        passes, note = plan_passes(recipe, learner, need, free, images=share)
    if exact and trial.learner.unlike_in_parts(share, passes.micro_batch) and not is_asked:
        fewer = "" if runs_here() == 1 else "start fewer runs side by side, or "
        raise InvalidValue(
            f"{note} A recipe given as a value is not changed: {fewer}set its passes to {passes}."
        )
    if not note and passes.micro_batch is not None:
        note = f"As asked: {exactness(trial.learner, share, passes.micro_batch)}"
    return replace(recipe, passes=passes), (*notes, *filter(None, [note]))
