"""Has this run learned anything? Read from the files of its folder, running or ended or killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coview.core.files import read_json, read_lines
from coview.core.run_folder import DESCRIPTION, run_folder
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.verdict import EXIT_CODES, Option, verdict

DATA_BOUND = 0.2  # share of the time that steps wait for images
RECENT = 20  # step lines over which it is averaged
LAST_FILE = "END"  # of a checkpoint: written when all others are whole

TABLE = (
    ("instance_accuracy_z", "views of one image that find each other by z", "share"),
    ("instance_accuracy_h", "the same by h", "share"),
    ("loss", "loss on held-out views", "number"),
    ("feature_std_z", "spread of z (0 identical, 1 centered)", "number"),
    ("feature_std_h", "spread of h", "number"),
    ("rank_z", "rank of z (RankMe, uncentered unit rows)", "number"),
    ("rank_h", "rank of h", "number"),
    ("alignment", "alignment (0 best)", "number"),
    ("uniformity", "uniformity (lower is more uniform)", "number"),
    ("mean_positive_similarity", "cosine of two views of one image", "number"),
    ("mean_negative_similarity", "cosine of views of two images", "number"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run's files say; ``notes`` are sentences about refused steps, waiting and the rest.

    ``figures`` maps a figure to (now, untrained); empty where no health report is there.
    """

    folder: str
    verdict: str
    sentence: str
    causes: tuple[str, ...]
    remedy: str
    ended: bool
    step: int
    total_steps: int
    figures: dict[str, tuple[float, float]]
    health_step: int
    images: int
    checkpoints: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 where the run is learning or young, else the code of its verdict (3 to 7)."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; figures that are not finite become null."""
        names = ("folder", "verdict", "sentence", "remedy", "ended", "step", "total_steps")
        figures = {
            name: {"now": _finite(now), "untrained": _finite(before)}
            for name, (now, before) in self.figures.items()
        }
        return {
            **{name: getattr(self, name) for name in names},
            "causes": list(self.causes),
            "figures": figures,
            "health_step": self.health_step,
            "images": self.images,
            "checkpoints": list(self.checkpoints),
            "notes": list(self.notes),
        }

    def render_text(self) -> str:
        """Verdict first, then causes and remedy, the figures beside the untrained network's."""
        lines = [self.sentence]
        lines += [f"  Likely cause: {cause}" for cause in self.causes]
        lines += [f"  What to do: {self.remedy}"] if self.remedy else []
        lines += ["", *self._table(), ""] if self.figures else [""]
        state = "ended" if self.ended else "not ended: running, stopped or killed"
        lines.append(f"{self.step:,} of {self.total_steps:,} steps ({state}).")
        kept = ", ".join(self.checkpoints)
        lines.append(f"Checkpoints: {kept}." if kept else "No whole checkpoint is kept.")
        return "\n".join([*lines, *self.notes])

    def _table(self) -> list[str]:
        head = f"step {self.health_step:,}"
        lines = [f"{f'On {self.images:,} held-out images':<46}{head:>12}{'untrained':>12}"]
        for name, label, kind in TABLE:
            cells = (f"{value:.1%}" if kind == "share" else f"{value:.2f}"
                     for value in self.figures[name])  # fmt: skip
            lines.append(f"  {label:<44}" + "".join(f"{cell:>12}" for cell in cells))
        return lines


def doctor_run(folder: str | Path) -> RunReport:
    """The report on the run in ``folder``; loads no network and writes nothing.

    The verdict is that of verdict.json where it stands for the last step; else it is made from
    metrics.jsonl, so that a run that was killed or still runs is judged as well. Raises RunError
    where ``folder`` is not a run, DamagedFile where its run.json is not readable.
    """
    folder = run_folder(folder)
    run = dict(read_json(folder / DESCRIPTION))
    lines = [line for line in read_lines(folder / "metrics.jsonl") if isinstance(line, dict)]
    history = health_history(lines)
    step = max((int(line.get("step", 0)) for line in lines), default=0)
    recorded = _recorded(folder, step)
    found = recorded or _judged(run, lines, history, step)
    return RunReport(
        folder=str(folder),
        verdict=found["verdict"],
        sentence=found["sentence"],
        causes=tuple(found["causes"]),
        remedy=found["remedy"],
        ended=recorded is not None,
        step=max(step, int(found["step"])),
        total_steps=int(run.get("total_steps", 0)),
        figures=_beside_untrained(history),
        health_step=max(history, default=0),
        images=history[max(history)].images if history else 0,
        checkpoints=checkpoints(folder),
        notes=(*_refused(lines), *_waiting(lines)),
    )


def health_history(lines: list[dict[str, Any]]) -> dict[int, HealthFigures]:
    """The health figures by step; where a resumed run wrote a step twice, the later line stands."""
    return {
        int(line["step"]): HealthFigures.from_json(line["figures"])
        for line in lines
        if line.get("kind") == "health"
    }


def checkpoints(folder: Path) -> tuple[str, ...]:
    """Names of the checkpoints that were written to their end, in order of step."""
    return tuple(
        sorted(path.parent.name for path in folder.glob(f"checkpoints/step-*/{LAST_FILE}"))
    )


def supervised_classes(run: dict[str, Any]) -> int:
    """Number of classes that the run's objective draws together; 0 where it uses no labels."""
    return len(run.get("data", {}).get("class_names", [])) if run.get("needs_labels") else 0


def first_and_last_accuracy(lines: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Of the neighbors of the untrained network and of the last report; None without labels."""
    found = [line["accuracy"] for line in lines if line.get("kind") == "knn"]
    return (float(found[0]), float(found[-1])) if len(found) > 1 else None


def _recorded(folder: Path, step: int) -> dict[str, Any] | None:
    """verdict.json, unless it is missing or the run went on after it."""
    path = folder / "verdict.json"
    recorded = dict(read_json(path)) if path.exists() else {}
    fits = recorded.get("verdict") in EXIT_CODES and int(recorded.get("step", -1)) >= step
    return recorded if fits else None


def _judged(
    run: dict[str, Any], lines: list[dict[str, Any]], history: dict[int, HealthFigures], step: int
) -> dict[str, Any]:
    if 0 not in history:
        return {
            "verdict": "too early",
            "sentence": "Nothing to judge yet: the run wrote no figures of the untrained network.",
            "causes": (),
            "remedy": "Let it run; if it has stopped, go on with `coview resume`.",
            "step": step,
        }
    changes = [line["parameter_change"] for line in lines if "parameter_change" in line]
    return verdict(
        history,
        steps_done=step,
        steps_planned=int(run.get("total_steps", step)),
        parameter_change=changes[-1] if changes else None,
        classes=supervised_classes(run),
        accuracies=first_and_last_accuracy(lines),
    ).to_json()


def _beside_untrained(history: dict[int, HealthFigures]) -> dict[str, tuple[float, float]]:
    if 0 not in history:
        return {}
    now, before = history[max(history)], history[0]
    return {name: (getattr(now, name), getattr(before, name)) for name, _, _ in TABLE}


def _refused(lines: list[dict[str, Any]]) -> list[str]:
    refused = [line for line in lines if line.get("kind") == "skipped"]
    if not refused:
        return []
    last = refused[-1]
    ids = ", ".join(str(i) for i in list(last.get("ids", ()))[:4])
    which = f"; images {ids}" if ids else ""
    return [
        f"Refused steps: {len(refused):,}, the last at step {int(last['step']):,} "
        f"({last.get('reason', 'no reason recorded')}{which}). Weights did not change in them."
    ]


def _waiting(lines: list[dict[str, Any]]) -> list[str]:
    shares = [float(line["wait_share"]) for line in lines if line.get("wait_share") is not None]
    wait = float(np.mean(shares[-RECENT:])) if shares else 0.0
    if wait <= DATA_BOUND:
        return []
    return [
        f"Data-bound: a step waits {wait:.0%} of its time for images. Raise "
        f"{Option.WORKERS}, or keep smaller images: {Option.SHORT_SIDE}."
    ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
