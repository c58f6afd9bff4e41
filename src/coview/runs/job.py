"""What differs between kinds of runs. Everything else of a run is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from coview.core.clock import Clock
from coview.core.images import ImageStore
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.diagnosis.gallery import write_contact_sheet
from coview.diagnosis.state import Diagnosis
from coview.planning.plan import typical_side
from coview.planning.planner import Planner
from coview.planning.trial import Equip
from coview.recipes import Recipe
from coview.runs.data import Images, RunData
from coview.runs.run import Run
from coview.training import MetricsLog

Monitor = Callable[..., bool]
"""monitor(step, last=False), after ``step`` steps: at step 0, after epochs, after the last step.

Returns whether it measured all that it measures after the last step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The images that are trained on, those that are held out, and a sentence about them.

    labeled_images: the labeled images from which the training images were chosen (fine-tuning).
    """

    training: ImageStore
    held_out: ImageStore
    note: str = ""
    labeled_images: int = 0

    @property
    def fingerprint(self) -> str:
        """Names the images of both parts: another labels file gives others."""
        return f"{self.training.fingerprint}+{self.held_out.fingerprint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """From one start of a run to its next stop: device, threads, processes, loggers, time."""

    device: torch.device
    workers: int | None = None
    ranks: Ranks = SINGLE_PROCESS
    log_to: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)

    def planner(
        self, store: ImageStore, *, trainings: float = 1, equip: Equip | None = None
    ) -> Planner:
        """What plans a run on the training images of ``store``, in this session.

        ``trainings``: those that share a budget, in lengths of the run. ``equip``: see Planner.
        """
        return Planner(
            store=store, side=typical_side(store), device=self.device, clock=self.clock,
            workers=self.workers, world=self.ranks.world, whole_runs=trainings, equip=equip,
        )  # fmt: skip


class Job(ABC):
    """One kind of run. A subclass per kind; its instances hold no state.

    ``learner`` is what :func:`coview.recipes.build_task` makes of the recipes of this kind.
    """

    kind: str
    gives_up_collapsed: ClassVar[bool] = False
    """Whether a run ends early where its representation has collapsed for good."""
    baseline_is_as_long: ClassVar[bool] = True
    """Whether the baseline beside a run, where it has one, is extended with it."""

    @abstractmethod
    def split(self, data: RunData, images: Images, seed: int) -> Parts:
        """Training and held-out images. Raises DataError where there are too few."""

    @abstractmethod
    def monitor(
        self, learner: Any, initial: Any, recipe: Recipe, parts: Parts,
        metrics_log: MetricsLog,
    ) -> Monitor:  # fmt: skip
        """What is measured during the run. ``initial`` is the network before the first step."""

    @abstractmethod
    def failed(self, run: Run, monitor: Monitor, reason: str, step: int) -> Diagnosis:
        """The diagnosis of a run that was given up because its numbers were not finite."""

    def draw_inputs(self, run: Run, parts: Parts) -> None:
        """Write report/views.png: what the network will see, for a person to look at."""
        recipe = run.recipe
        write_contact_sheet(run.path, parts.training, recipe.method.views, seed=recipe.seed)

    def prepare(self, run: Run, parts: Parts, session: Session) -> None:  # noqa: B027
        """What the main process does once before the first step."""

    def rehearse(self, run: Run, learner: Any, parts: Parts) -> None:  # noqa: B027
        """What :meth:`finish` will compute, thrown away: a run with a budget takes its time."""

    def equip(self, run: Run, learner: Any) -> None:  # noqa: B027
        """Give the learner what it learns from besides the images, such as a teacher."""

    def trainings(self, run: Run) -> float:
        """Trainings that share a budget, in lengths of this one: this one and those after it."""
        return 1

    def complete(self, run: Run, learner: Any, parts: Parts, session: Session) -> bool:
        """What all processes do after the last step and before the end; False where stopped."""
        return True

    @abstractmethod
    def finish(
        self, run: Run, learner: Any, parts: Parts, session: Session,
        diagnosis: Diagnosis | None = None,
    ) -> None:  # fmt: skip
        """Write everything that an ended run leaves, verdict.json last, and say how it went.

        ``diagnosis``: of a run that failed; None for one that trained to its end.
        """
