"""The files of a run: the only module that knows their names, but for those inside a checkpoint
(``coview.training.checkpoints``) and an export (``coview.encoders.exchange``).

    lock.json            the process that writes the run; absent where none does
    run.json             the description: kind, recipe, data, environment; makes the folder a run
    metrics.jsonl        one JSON line per report, each with "kind" and "step"
    log.txt              every line that was printed, with its time
    quarantine.jsonl     one JSON line per image file that could not be used
    checkpoints/         step-*/ with the state; a checkpoint is complete when its END is there
    encoder/             the exported encoder
    exports/             the encoder in the formats of other libraries
    loggers/             what TensorBoard and wandb write
    embeddings/          tables of features, one per data set, and indexes of them (.usearch)
    predictions/         tables of classes, one per data set
    selections/          images to label next, one table per data set
    tags/                tags and labels of coview browse, one table per data set
    evaluation/*.json    one file per protocol
    predictions.json     predictions for the test images (fine-tuning)
    objects/             detected.json and true.json of the test images (detection)
    probe.json           those of the linear probe (fine-tuning)
    scratch/             a nested run: the same network trained from scratch (fine-tuning)
    report/              pictures of the report: gallery.npz, views.png and found.png
    verdict.json         the diagnosis; it is written when the run has ended
    cell.json            how long the run took, on what, as a part of a study
    report.html          the report

The readers work on a run that is still going: they skip half-written lines and take a missing file
for "not written yet". A file or folder that is there and cannot be read raises RunError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypedDict

from coview.core.errors import DamagedFile, RunError, nearest
from coview.core.files import (
    digest,
    entries,
    exists,
    parse_json,
    read_content,
    read_lines,
    write_json,
)
from coview.core.paths import local_path
from coview.core.values import misfit

DESCRIPTION = "run.json"
STEP = "step-"
CHECKPOINT_END = "END"
"""The file of a checkpoint that is written last."""


class OpenedData(TypedDict):
    images: dict[str, Any]
    test: dict[str, Any] | None
    labels: str
    label_draw: int


class DataDescription(TypedDict):
    source: str
    images: int
    held_out: int
    fingerprint: str
    parts: str
    class_names: list[str]
    opened: OpenedData


class Environment(TypedDict):
    precision: str


class _Required(TypedDict):
    recipe: dict[str, Any]
    hash: str
    start: dict[str, Any] | None
    data: DataDescription
    environment: Environment
    chance_level: float
    steps_per_epoch: int
    total_steps: int
    created: str


class ImportedFile(TypedDict):
    file: str
    hash: str


class Description(_Required, total=False):
    """The fields of run.json by which a run goes on; the others are for people."""

    kind: str
    nested: bool
    processes: int
    needs_labels: bool
    baselines: bool
    keep_every: int | None
    log_to: list[str]
    imports: list[ImportedFile]
    durations: list[dict[str, Any]]
    epochs: float


class Verdict(TypedDict):
    """The fields of verdict.json."""

    label: str
    sentence: str
    causes: list[str]
    remedy: str
    step: int


class Predictions(TypedDict):
    """The field of predictions.json and probe.json by which a run goes on."""

    predicted: list[int]


class Report(TypedDict, total=False):
    """The fields of lines of metrics.jsonl that figures and diagnoses are made of."""

    kind: str
    step: int
    epoch: float
    loss: float | None
    seconds: float | None
    images_per_second: float | None
    wait_share: float | None
    accuracy: float | None
    parameter_change: float | None
    figures: dict[str, float | None]


def is_report(row: dict[str, Any]) -> bool:
    """Whether a line of metrics.jsonl is whole: it has a kind and a step, and its types."""
    return {"kind", "step"} <= row.keys() and not misfit(row, Report)


class _File:
    """An attribute of a run: the path of one of its files or folders."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, _: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The run in the folder ``path``: where its files are, and what is in them.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp(), "photos")
    >>> folder.mkdir()
    >>> _ = (folder / "run.json").write_text('{"total_steps": 400}')
    >>> _ = (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 8, "loss": 4.5}\\n{"ki')
    >>> run = RunFolder.open(folder)
    >>> run.kind, run.description["total_steps"], run.is_ended
    ('pretrain', 400, False)
    >>> run.metrics("step")
    [{'kind': 'step', 'step': 8, 'loss': 4.5}]
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The run in ``path``. Raises RunError where there is none, with the nearest name."""
        folder = local_path(path)
        if is_run(folder):
            return cls(folder)
        if not exists(folder):
            near = near_run(folder, _is_run_quietly)
            hint = f" Did you mean {folder.parent / near}?" if near else ""
            raise RunError(f"There is no run folder {folder}.{hint}")
        raise RunError(f"{folder} is not a run: it has no {DESCRIPTION}. Give the folder of a run.")

    description_path = _File(DESCRIPTION)
    lock_path = _File("lock.json")
    metrics_path = _File("metrics.jsonl")
    log_path = _File("log.txt")
    loggers_path = _File("loggers")
    quarantine_path = _File("quarantine.jsonl")
    checkpoints_path = _File("checkpoints")
    encoder_path = _File("encoder")
    exports_path = _File("exports")
    embeddings_path = _File("embeddings")
    predicted_path = _File("predictions")
    selections_path = _File("selections")
    tags_path = _File("tags")
    evaluation_path = _File("evaluation")
    predictions_path = _File("predictions.json")
    probe_path = _File("probe.json")
    scratch_path = _File("scratch")
    detected_path = _File("objects/detected.json")
    true_objects_path = _File("objects/true.json")
    found_path = _File("report/found.png")
    gallery_path = _File("report/gallery.npz")
    views_path = _File("report/views.png")
    verdict_path = _File("verdict.json")
    cell_path = _File("cell.json")
    report_path = _File("report.html")

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints_path / step_name(step)

    def evaluation_of(self, step: int) -> Path:
        """Where the figures of a kept checkpoint lie, beside those of the end."""
        return self.evaluation_path / self.checkpoint_path(step).name

    @property
    def evaluated_steps(self) -> list[int]:
        """The steps of which evaluation/ has figures, in order, with or without the checkpoint."""
        return steps_named(entries(self.evaluation_path))

    @cached_property
    def description(self) -> dict[str, Any]:
        """run.json. Raises DamagedFile where it is not as it was written, or of other types."""
        value = self._required(self.description_path, Description, partial=True)
        recorded = value.pop("digest", None)
        if recorded is not None and recorded != _digest(value):
            raise DamagedFile(
                f"{self.description_path} is not as the run wrote it: it was damaged or edited. "
                "Bring the original back; after an edit on purpose remove its line `digest`."
            )
        return value

    def write_description(self, description: Mapping[str, Any]) -> None:
        """Write run.json with a digest of its content; this makes the folder a run."""
        write_json(self.description_path, {**description, "digest": _digest(description)})

    @property
    def kind(self) -> str:
        """What the run does: "pretrain", "finetune", "distill" or "detect"."""
        return str(self.description.get("kind", "pretrain"))

    @property
    def is_nested(self) -> bool:
        """Whether the run lies inside another one, as its baseline."""
        return bool(self.description.get("nested"))

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in the order of writing; only those of ``kind`` if given."""
        rows = [row for row in read_objects(self.metrics_path) if is_report(row)]
        return rows if kind is None else [row for row in rows if row.get("kind") == kind]

    @property
    def total_steps(self) -> int:
        """The steps of the whole run, as they were last planned."""
        return planned_steps(self.description, self.metrics("plan"))

    @property
    def last_step(self) -> int:
        """The step at which an ended run has ended; of another one that of its plan."""
        verdict = self.verdict
        return self.total_steps if verdict is None else int(verdict["step"])

    @property
    def verdict(self) -> dict[str, Any] | None:
        """verdict.json; None while the run has not ended. Raises DamagedFile as description."""
        return read_object(self.verdict_path, Verdict)

    @property
    def is_ended(self) -> bool:
        """Whether the run has ended. False while it is running, stopped or killed."""
        return exists(self.verdict_path)

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Every file of evaluation/, in the order of their names."""
        return [value for path in self.evaluation_paths if (value := read_object(path)) is not None]

    @property
    def evaluation_paths(self) -> list[Path]:
        """The JSON files of evaluation/, in the order of their names."""
        names = entries(self.evaluation_path)
        return [self.evaluation_path / name for name in names
                if name.endswith(".json") and not name.startswith(".")]  # fmt: skip

    @property
    def predictions(self) -> dict[str, Any]:
        """predictions.json of a fine-tuning run. Raises RunError before the run has written it."""
        return self._required(self.predictions_path, Predictions)

    @property
    def probe(self) -> dict[str, Any]:
        """probe.json of a fine-tuning run. Raises RunError before the run has written it."""
        return self._required(self.probe_path, Predictions)

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        """The files that could not be used: {"file", "reason"}."""
        return read_objects(self.quarantine_path)

    @property
    def checkpoint_steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order."""
        steps = steps_named(entries(self.checkpoints_path))
        return [step for step in steps if exists(self.checkpoint_path(step) / CHECKPOINT_END)]

    def require_checkpoint(self, step: int) -> None:
        """Raise RunError, with the steps that there are, where none is of ``step``."""
        steps = self.checkpoint_steps
        if step not in steps:
            names = f"only of {', '.join(map(str, steps))}" if steps else "nor any other"
            raise RunError(f"{self.path} has no checkpoint of step {step}, {names}.")

    def _required(self, path: Path, kind: Any, *, partial: bool = False) -> dict[str, Any]:
        value = read_object(path, kind, partial=partial)
        if value is None:
            raise RunError(f"{self.path} has no {path.name}.")
        return value


def step_name(step: int) -> str:
    """The name of the folder of a checkpoint.

    >>> step_name(40)
    'step-00000040'
    """
    return f"{STEP}{step:08d}"


def steps_named(names: Iterable[str]) -> list[int]:
    """The steps of the checkpoints with these names of folders, in order.

    >>> steps_named(["step-00000040", "step-00000008", ".step-00000080.tmp", "notes"])
    [8, 40]
    """
    numbers = [name.removeprefix(STEP) for name in names if name.startswith(STEP)]
    return sorted(int(number) for number in numbers if number.isdecimal())


def planned_steps(description: dict[str, Any], rows: list[dict[str, Any]]) -> int:
    """The steps of a run with these lines of metrics.jsonl, as they were last planned.

    >>> planned_steps({"total_steps": 400}, [{"kind": "plan", "step": 8, "total_steps": 300}])
    300
    """
    totals = [description, *(row for row in rows if row.get("kind") == "plan")]
    steps = [total for row in totals if isinstance(total := row.get("total_steps"), int)]
    return steps[-1] if steps else 0


def _digest(description: Mapping[str, Any]) -> str:
    return digest(json.dumps(description, sort_keys=True, allow_nan=False).encode())


def near_run(folder: Path, is_one: Callable[[Path], bool]) -> str | None:
    """The name beside ``folder`` that is nearest to its own, of folders of which ``is_one`` holds;
    None where none is near, or the folder around cannot be read."""
    with suppress(RunError):
        parent = folder.parent
        return nearest(folder.name, (name for name in entries(parent) if is_one(parent / name)))
    return None


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is the folder of a run. Raises RunError where it cannot be looked into."""
    return exists(local_path(path) / DESCRIPTION)


def read_object(path: Path, kind: Any = dict, *, partial: bool = False) -> dict[str, Any] | None:
    """The JSON object in ``path``, or None where there is no such file.

    ``kind``, ``partial``: see :func:`~coview.core.values.misfit`. Raises DamagedFile where the
    content is not a JSON object of that kind, RunError where it cannot be read.
    """
    content = read_content(path)
    if content is None:
        return None
    value = parse_json(content, path)
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} should hold one JSON object; it holds a {type(value).__name__}.")
    if fault := misfit(value, kind, partial=partial):
        raise DamagedFile(f"{path} was damaged or edited: {fault}. Restore it from a copy.")
    return value


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in the lines of ``path``; damaged lines are skipped.

    Raises RunError where it cannot be read.
    """
    return [row for row in read_lines(path) if isinstance(row, dict)]


def _is_run_quietly(path: Path) -> bool:
    with suppress(RunError):
        return is_run(path)
    return False
