"""What a diagnosis is made from, and what it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coview.core.figures import DIAGNOSES, START_WORDS
from coview.diagnosis.health import HealthFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is said of a run.

    A key of ``DIAGNOSES``; sentences for everybody; at most two causes; one remedy ("" where none);
    ``details``, one line of figures for specialists ("" where the sentence holds them).
    ``undecided``: a label that says "no better", where there may be a gain that the test images are
    too few to show.
    """

    label: str
    sentence: str
    causes: tuple[str, ...]
    remedy: str
    step: int
    details: str = ""
    undecided: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of the label: 0 where training may go on, else 3 to 12."""
        return DIAGNOSES[self.label].exit_code

    def to_json(self) -> dict[str, str | int | list[str]]:
        """The content of verdict.json; ``undecided`` stands there where it is true."""
        content = {**asdict(self), "causes": list(self.causes)}
        return {key: item for key, item in content.items() if key != "undecided" or item}


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborAccuracy:
    """kNN accuracy on ``images`` held-out images: at step 0, now, and by raw pixels if known.

    ``k``: the number of neighbors, if known.
    """

    untrained: float
    now: float
    images: int
    pixels: float | None = None
    k: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The input of a rule: the reports in order of steps, the first of the network at step 0.

    That one is untrained, unless the run began ``from_weights``. ``report_step``: that of the last
    report.
    """

    reports: tuple[HealthFigures, ...]
    report_step: int
    steps_done: int
    steps_planned: int
    parameter_change: float | None
    classes: int
    neighbors: NeighborAccuracy | None = None
    unguarded: str = ""
    from_weights: bool = False

    @property
    def before(self) -> str:
        """What figures of step 0 are called: "untrained", or "at the start"."""
        return START_WORDS[self.from_weights]

    @property
    def network_before(self) -> str:
        """The network of step 0 in a sentence."""
        return f"the network {self.before}" if self.from_weights else f"the {self.before} network"

    @property
    def untrained(self) -> HealthFigures:
        return self.reports[0]

    @property
    def now(self) -> HealthFigures:
        return self.reports[-1]

    def diagnosis(self, label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        """A diagnosis after these steps, with the first two causes."""
        return Diagnosis(
            label=label, sentence=sentence, causes=causes[:2], remedy=remedy, step=self.steps_done
        )
