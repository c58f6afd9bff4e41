"""Has this run learned anything? Read from its folder, while it runs or after it was stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coview.core.figures import DIAGNOSES, FIGURES, START_WORDS
from coview.core.plain import finite
from coview.core.run_folder import RunFolder
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.rules import diagnose
from coview.diagnosis.state import Diagnosis, NeighborAccuracy

DATA_BOUND = 0.2  # share of the time that steps wait for images
WITHOUT_NEGATIVES = {"NegativeCosine", "SquaredDistance"}
RECENT = 20  # step lines over which that share is averaged
WIDTH = 56  # letters of the name of a figure and of its better direction


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The diagnosis of a run with its figures.

    ``figures`` maps a health figure to (now, at step 0); it is empty without a health report.
    ``from_weights``: the run began with trained weights, so that step 0 is no untrained network.
    ``images`` is the number of held-out images behind them. ``notes`` are sentences about skipped
    steps and about waiting for images.
    """

    folder: str
    label: str
    sentence: str
    details: str
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
    from_weights: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of the label: 0 where training may go on, else 3 to 12."""
        return DIAGNOSES[self.label].exit_code if self.label in DIAGNOSES else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; figures that are not finite become null.

        Each figure holds "now" and "before", the figure of step 0: of an untrained network, or with
        ``from_weights`` of the weights that the run began with.
        """
        figures = {
            name: {"now": now, "before": before} for name, (now, before) in self.figures.items()
        }
        content: dict[str, Any] = finite({**asdict(self), "figures": figures})
        return content

    def render_text(self) -> str:
        """The diagnosis, causes and remedy; then each figure beside that of step 0."""
        lines = [self.sentence, *filter(None, [self.details])]
        lines += [f"  Likely cause: {cause}" for cause in self.causes]
        lines += [f"  What to do: {self.remedy}"] if self.remedy else []
        lines += ["", *self._table(), ""] if self.figures else [""]
        state = "ended" if self.ended else "not ended: running, stopped or killed"
        lines.append(f"{self.step:,} of {self.total_steps:,} steps ({state}).")
        names = ", ".join(self.checkpoints)
        lines.append(f"Checkpoints: {names}." if names else "There is no complete checkpoint.")
        return "\n".join([*lines, *self.notes])

    def _table(self) -> list[str]:
        head, before = f"step {self.health_step:,}", START_WORDS[self.from_weights]
        lines = [f"{f'On {self.images:,} held-out images':<{WIDTH + 2}}{head:>14}{before:>14}"]
        for name, figure in FIGURES.items():
            form = ".1%" if figure.format == "share" else ".2f"
            better = f" ({figure.better} is better)" if figure.better else ""
            cells = "".join(
                f"{f'{value:{form}}' if math.isfinite(value) else '-':>14}"
                for value in self.figures[name]
            )
            lines.append(f"  {figure.label + better:<{WIDTH}}{cells}")
        return lines


def check_run(folder: str | Path) -> RunReport:
    """The diagnosis of the run in ``folder``; loads no network and writes nothing.

    The diagnosis is that of verdict.json where it was made at the last step. Otherwise it is made
    from metrics.jsonl, so that a running or killed run has one too. Raises RunError where
    ``folder`` is not a run, DamagedFile where one of its files is damaged.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text('{"total_steps": 400}')
    >>> check_run(folder).label
    'too early'
    """
    run = RunFolder.open(folder)
    rows = run.metrics()
    history = health_history(rows)
    step = max((int(row.get("step", 0)) for row in rows), default=0)
    recorded = _recorded(run, step)
    diagnosis: dict[str, Any] = recorded or dict(diagnose_run(run).to_json())
    return RunReport(
        folder=str(run.path), label=diagnosis["label"], sentence=diagnosis["sentence"],
        details=diagnosis.get("details", ""),
        causes=tuple(diagnosis["causes"]), remedy=diagnosis["remedy"], ended=recorded is not None,
        step=max(step, int(diagnosis["step"])),
        total_steps=run.total_steps, figures=_beside_untrained(history),
        health_step=max(history, default=0), images=history[max(history)].images if history else 0,
        checkpoints=tuple(run.checkpoint_path(step).name for step in run.checkpoint_steps),
        notes=(*_skipped_steps(rows), *_waiting(rows)),
        from_weights=run.description.get("start") is not None,
    )  # fmt: skip


def health_history(rows: Sequence[Mapping[str, Any]]) -> dict[int, HealthFigures]:
    """The health figures by step; where a resumed run wrote a step twice, the later line counts."""
    return {
        int(row["step"]): HealthFigures.from_json(row.get("figures", {}))
        for row in rows
        if row.get("kind") == "health"
    }


def supervised_classes(description: Mapping[str, Any]) -> int:
    """Number of classes of a supervised objective; 0 for an objective without labels.

    >>> supervised_classes({"needs_labels": True, "data": {"class_names": ["cat", "dog"]}})
    2
    """
    names = description.get("data", {}).get("class_names", [])
    return len(names) if description.get("needs_labels") else 0


def neighbor_accuracy(rows: Sequence[Mapping[str, Any]]) -> NeighborAccuracy | None:
    """kNN accuracy at step 0 and of the last report; None with fewer than two.

    >>> lines = [{"kind": "knn", "accuracy": a, "images": 128} for a in (0.25, 0.5, 0.75)]
    >>> neighbor_accuracy(lines).untrained, neighbor_accuracy(lines).now
    (0.25, 0.75)
    """
    knn = [
        row for row in rows
        if row.get("kind") == "knn" and None not in (row.get("accuracy"), row.get("images"))
    ]  # fmt: skip
    if len(knn) < 2:
        return None
    first, last = knn[0], knn[-1]
    return NeighborAccuracy(
        untrained=first["accuracy"], now=last["accuracy"], images=first["images"],
        pixels=first.get("pixels"), k=last.get("k"),
    )  # fmt: skip


def missing_guard(description: Mapping[str, Any]) -> str:
    """What keeps a method without negatives from collapsing and is missing; "" where nothing is.

    >>> siamese = {"objective": {"type": "NegativeCosine"}, "predictor": None}
    >>> missing_guard({"recipe": {"method": siamese}})
    'predictor'
    """
    method = description.get("recipe", {}).get("method", {})
    if method.get("objective", {}).get("type") not in WITHOUT_NEGATIVES:
        return ""
    kind = method.get("target", {}).get("type")
    missing = [
        "stop-gradient" if kind == "SameNetwork" else "",
        "predictor" if method.get("predictor") is None else "",
    ]
    return " and no ".join(filter(None, missing))


def _recorded(run: RunFolder, step: int) -> dict[str, Any] | None:
    """verdict.json, unless it is missing or the run went on after it."""
    verdict = run.verdict or {}
    is_known = run.kind != "pretrain" or verdict.get("label") in DIAGNOSES
    return verdict if verdict and is_known and int(verdict.get("step", -1)) >= step else None


def has_negatives(description: Mapping[str, Any]) -> bool:
    """Whether the loss of a run drives embeddings apart: those of different images, or those of
    local views by LoGo's repulsion."""
    method = description.get("recipe", {}).get("method", {})
    is_compared = method.get("objective", {}).get("type") not in WITHOUT_NEGATIVES
    return is_compared or method.get("repulsion") is not None


def diagnose_run(run: RunFolder) -> Diagnosis:
    """The diagnosis by the metrics of a run so far, whatever verdict.json holds."""
    rows = run.metrics()
    if 0 not in health_history(rows):
        step = max((int(row.get("step", 0)) for row in rows), default=0)
        return Diagnosis(
            label="too early", sentence=f"Too early to judge: {_progress(run, rows)}.", causes=(),
            remedy="Let it run. If it has stopped, continue with `coview resume`.", step=step,
        )  # fmt: skip
    return diagnose_rows(run.description, rows, total_steps=run.total_steps)


def diagnose_rows(
    description: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, total_steps: int
) -> Diagnosis:
    """The diagnosis of a pretraining run by its run.json and lines of metrics.jsonl.

    ``total_steps``: as planned, 0 where unknown. Raises InvalidValue without a report of step 0.
    """
    history = health_history(rows)
    step = max((int(row.get("step", 0)) for row in rows), default=0)
    changes = [row["parameter_change"] for row in rows if "parameter_change" in row]
    return diagnose(
        history, steps_done=step, steps_planned=total_steps or step,
        parameter_change=changes[-1] if changes else None,
        classes=supervised_classes(description), neighbors=neighbor_accuracy(rows),
        unguarded=missing_guard(description), from_weights=description.get("start") is not None,
    )  # fmt: skip


def _progress(run: RunFolder, rows: Sequence[Mapping[str, Any]]) -> str:
    if run.kind == "pretrain":
        return "the run has written no figures of the network before training yet"
    measured = [words for row in rows if row.get("kind") == "validation"
                if (words := _measured(row))]  # fmt: skip
    return "; ".join(["the run has written no verdict yet", *measured[-1:]])


def _measured(row: Mapping[str, Any]) -> str:
    """What a "validation" line says of the test images, in words; "" where it has no figure."""
    if (accuracy := row.get("accuracy")) is not None:
        return f"{accuracy:.1%} of the test images are classified correctly"
    if (agreement := row.get("agreement")) is not None:
        return f"the student gives the teacher's class of {agreement:.1%} of the test images"
    if (value := row.get("value")) is not None:
        return f"{row.get('figure', 'the figure')} {value:.1%} on test images"
    return ""


def _beside_untrained(history: Mapping[int, HealthFigures]) -> dict[str, tuple[float, float]]:
    if 0 not in history:
        return {}
    now, untrained = history[max(history)], history[0]
    # The loss has levels of its own for each number of images: its share of the way has not.
    fields = {name: "position" if name == "loss" else name for name in FIGURES}
    return {name: (getattr(now, own), getattr(untrained, own)) for name, own in fields.items()}


def _skipped_steps(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    skipped = [row for row in rows if row.get("kind") == "skipped"]
    if not skipped:
        return []
    last = skipped[-1]
    ids = ", ".join(str(i) for i in list(last.get("ids", ()))[:4])
    images = f"; images {ids}" if ids else ""
    return [
        f"Skipped steps: {len(skipped):,}, the last at step {int(last['step']):,} "
        f"({last.get('reason', 'no reason recorded')}{images}). They did not change the weights."
    ]


def _waiting(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shares = [float(row["wait_share"]) for row in rows if row.get("wait_share") is not None]
    wait = float(np.mean(shares[-RECENT:])) if shares else 0.0
    if wait <= DATA_BOUND:
        return []
    return [
        f"Data-bound: a step waits {wait:.0%} of its time for images. Raise `workers`, or store "
        "smaller images with `short_side`."
    ]
