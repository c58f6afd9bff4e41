"""How long the cells of a study take on this machine, before the first of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coview.core.errors import CoviewError
from coview.core.files import digest, write_json
from coview.core.images import cache_folder
from coview.core.machine import cores, cpu_name
from coview.core.memory import DoesNotFit
from coview.core.run_folder import read_object
from coview.core.text import duration, plural
from coview.core.threads import threads
from coview.methods import Learner, Passes
from coview.planning.memory import release
from coview.planning.trial import Trial
from coview.studies.cell import Cell, Work
from coview.studies.jobs import threads_of
from coview.training import choose_device

MOST_IMAGES, FEWEST_IMAGES = 128, 2
"""Of a step that is measured: an image of a larger step takes as long. BatchNorm needs two."""
TOO_LARGE = "not even a small step fits into the memory that is free here"
BESIDES = 1.5
"""Seconds of a run that are not of its steps: plan, figures of its health, pictures, verdict, and
judging some hundred images. Measured on two cores at the scale tiny; more images take longer."""
KEPT = "speeds.json"
ENOUGH, STEPS, FEW_STEPS = 0.5, 4, 2
"""A step of so many seconds is measured twice, a shorter one so often; the fastest one counts. The
few steps are for the list of all studies, whose networks are many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The ``seconds`` of each cell that has not ended, by its key, and of all of them together.

    ``known``: how many of them are known from ended runs; ``unknown``: how many not at all, such as
    detections, which count nothing before one has ended. ``unmeasured``: the keys of those of which
    not even a small step fits into memory here, which count nothing either.
    """

    seconds: Mapping[str, float]
    whole: float
    known: int
    unknown: int = 0
    unmeasured: Collection[str] = ()

    @property
    def words(self) -> str:
        """How long all of them take."""
        if self.unmeasured and len(self.unmeasured) == len(self.seconds):
            return f"not measured: {TOO_LARGE}"
        return f"about {duration(self.whole)} {self.basis}"

    @property
    def basis(self) -> str:
        """What it is made of, in words."""
        measured = (
            f"at the speed measured here and {BESIDES:g} s a run besides; opening images, and "
            "judging more than some hundred, take longer"
        )
        ended = "as long as ended runs of their kind took"
        if not self.known:
            basis = measured
        elif self.known == len(self.seconds):
            basis = ended
        else:
            basis = f"{ended}, the others {measured}"
        return f"{basis}{self.lacking}"

    @property
    def lacking(self) -> str:
        """What is not in it, in words; "" for nothing."""
        lacking = []
        if self.unknown:
            lacking.append(f"{plural(self.unknown, 'run')} of a kind of which none has ended yet")
        if self.unmeasured:
            lacking.append(f"{plural(len(self.unmeasured), 'run')} not measured ({TOO_LARGE})")
        return "".join(f", and {each}" for each in lacking)


class Speeds:
    """The time of cells: that of ended ones of their kind, else by a few steps on noise.

    ``device`` as everywhere; ``jobs``: so many cells are trained side by side; ``steps``: of a
    measurement. Measurements are kept in speeds.json of the cache folder; with ``kept`` those of
    this machine are taken from there.
    """

    def __init__(
        self, device: str, jobs: int = 1, *, steps: int = STEPS, kept: bool = False
    ) -> None:
        self.device, self.jobs, self.steps, self.kept = choose_device(device), jobs, steps, kept
        self.threads = torch.get_num_threads() if jobs == 1 else threads_of(jobs)
        # On a GPU the runs share what one of them has alone.
        self.side_by_side = min(jobs, cores()) if self.device.type == "cpu" else 1
        self._measured: dict[Hashable, float | None] = {}

    def estimate(self, cells: Sequence[Cell], root: Path, images: Callable[[], int]) -> Estimate:
        """Of the cells that have not ended in ``root``. ``images``: the number of training images,
        read where a cell has to be measured.

        What a measurement took of a GPU is given back, for the processes that train there.
        """
        count = cache(images)
        machine = {"device": self.device.type, "threads": self.threads}
        taken: dict[Hashable, list[float]] = {}
        for cell in cells:
            took = cell.took(root)
            if machine.items() <= took.items() and cell.is_ended(root):
                taken.setdefault(kind_of(cell), []).append(took["seconds"])
        missing = [cell for cell in cells if not cell.is_ended(root)]
        known = {
            cell.key: statistics.median(taken[kind_of(cell)])
            for cell in missing
            if kind_of(cell) in taken and not cell.is_trained(root)
        }
        seconds = {
            cell.key: known[cell.key] if cell.key in known else self._planned(cell, root, count)
            for cell in missing
        }
        whole = time_of_all(missing, seconds, self.side_by_side)
        others = [cell for cell in missing if not (cell.key in known or cell.is_trained(root))]
        unmeasured = [
            cell.key for cell in others if any(self._measure(work) is None for work in cell.work)
        ]
        release(self.device)
        return Estimate(
            seconds=seconds, known=len(known), whole=whole, unmeasured=unmeasured,
            unknown=sum(not cell.work for cell in others),
        )  # fmt: skip

    def _planned(self, cell: Cell, root: Path, images: Callable[[], int]) -> float:
        """Of the training, and BESIDES; 0 where it is done, or the cell does not say what it
        trains, or it could not be measured."""
        if cell.is_trained(root):
            return 0.0
        training = sum(
            images() * work.share * work.passes * (self._measure(work) or 0.0)
            for work in cell.work
        )  # fmt: skip
        return training + BESIDES if training else 0.0

    def _measure(self, work: Work) -> float | None:
        """Seconds of an image in a step; None where not even a small step fits into memory."""
        shape = shape_of(work)
        if shape not in self._measured:
            key = digest(repr((shape, self.machine, torch.__version__)).encode())
            known: dict[str, Any] = {}
            with suppress(CoviewError):  # a damaged file is as good as none
                known = read_object(cache_folder() / KEPT) or {}
            if not (self.kept and isinstance(known.get(key), float)):
                seconds = self._seconds_of_an_image(work)
                self._measured[shape] = seconds
                if seconds is None:
                    return None
                known[key] = seconds
                with suppress(OSError):
                    cache_folder().mkdir(parents=True, exist_ok=True)
                    write_json(cache_folder() / KEPT, known)
            self._measured[shape] = known[key]
        return self._measured[shape]

    def _seconds_of_an_image(self, work: Work) -> float | None:
        """In the largest step that fits into memory, by the recipe's own passes where it has some.

        The run itself plans what fits, with its whole batch and its images.
        """
        recipe, most = work.recipe, min(MOST_IMAGES, work.recipe.batch_size)
        with threads(self.threads):
            trial = Trial(recipe, self.device, equip=teaching(work))
            while most >= FEWEST_IMAGES:
                try:
                    if recipe.passes != Passes():
                        trial.use(recipe.passes)
                    images, took = trial.probe(most_images=most, enough=ENOUGH, steps=self.steps)
                except (DoesNotFit, MemoryError, torch.OutOfMemoryError):
                    most //= 4
                else:
                    return took / images
        return None

    @property
    def machine(self) -> str:
        """The device by its name, and the threads of a run."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        name = cpu_name() if self.device.type == "cpu" else self.device.type
        return f"{name}, {plural(self.threads, 'thread')}"


def shape_of(work: Work) -> Hashable:
    """What the time of a step depends on."""
    recipe, method = work.recipe, work.recipe.method
    return (
        recipe.encoder, min(recipe.batch_size, MOST_IMAGES),
        tuple(view.size for view in method.views.views), type(method.objective), method.target,
        method.memory, method.repulsion, method.batch_norm,
        *([] if recipe.passes == Passes() else [recipe.passes]), work.teacher,
    )  # fmt: skip


def kind_of(cell: Cell) -> Hashable:
    """What the time of a cell depends on, on the same images."""
    works = tuple((shape_of(work), work.passes, work.share) for work in cell.work)
    return cell.verb, cell.protocols, works


def teaching(work: Work) -> Callable[[Learner], None] | None:
    """Gives a student a teacher, of random weights; None without one."""
    spec = work.teacher
    if spec is None:
        return None

    def equip(learner: Learner) -> None:
        encoder = spec.build()
        learner.set_teacher(
            nn.Sequential(encoder, nn.Linear(encoder.features, learner.head.widths[-1]))
        )

    return equip


def time_of_all(cells: Sequence[Cell], seconds: Mapping[str, float], jobs: int) -> float:
    """When the last of the cells ends, if ``jobs`` are trained side by side, each after its needs.

    >>> first = Cell(name="first", verb="pretrain", settings=())
    >>> others = [Cell(name="", verb="finetune", settings=(("start", first), ("seed", seed)))
    ...           for seed in range(2)]
    >>> time_of_all([first, *others], {cell.key: 10.0 for cell in (first, *others)}, jobs=2)
    20.0
    """
    waiting, running, now = list(cells), list[tuple[float, str]](), 0.0
    left = set(seconds)
    while waiting or running:
        free = [cell for cell in waiting if left.isdisjoint(need.key for need in cell.needs)]
        for cell in free[: jobs - len(running)]:
            waiting.remove(cell)
            heappush(running, (now + seconds[cell.key], cell.key))
        now, ended = heappop(running)
        left.remove(ended)
    return now
