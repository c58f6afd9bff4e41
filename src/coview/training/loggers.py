"""The metrics of a run in TensorBoard, Weights & Biases or MLflow, beside metrics.jsonl.

A logger gets every line of metrics.jsonl as figures with names such as "train/loss". Each start of
a run hands it the whole record up to there, so that a run that has stopped, crashed or gone back to
an earlier checkpoint has every step once. Nothing leaves this machine unless the library's own
settings ($WANDB_MODE, $MLFLOW_TRACKING_URI) say so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from coview.core.errors import MissingExtra, UnknownName
from coview.core.files import digest
from coview.core.progress import say

PROJECT, DATABASE = "coview", "mlflow.db"
MAX_TEXT = 500  # characters of a parameter of MLflow


class Logger(Protocol):
    """What takes the figures of a run; a class of your own needs these two methods."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures after ``step`` steps. A step may come several times in a row."""

    def close(self) -> None:
        """Write everything out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a logger is told of the run: its folder, where the logger may write, and its settings.

    ``settings``: the recipe, flat, as {"method.objective.temperature": 0.5}. ``created``: the time
    of the run's beginning, which tells it from another run that lay in the same folder.
    """

    path: Path
    folder: Path
    created: str
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for every start of one run."""
        return digest(f"{self.path.absolute()} {self.created}".encode())[:16]


class TensorBoard:
    """Event files in ``folder``/tensorboard, which are written anew at each start."""

    def __init__(self, info: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = info.folder / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder))
        rows = "\n".join(f"    {name}: {value}" for name, value in info.settings.items())
        self._writer.add_text("recipe", rows)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb in ``folder``/wandb, offline unless $WANDB_MODE says otherwise.

    Each start writes a run of the same id; a server drops the steps that it already has.
    """

    def __init__(self, info: RunInfo) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # sends nothing to its makers
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        shutil.rmtree(info.folder / "wandb", ignore_errors=True)
        info.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=info.path.name, id=info.key,
            dir=str(info.folder), mode=mode, resume="allow", config=dict(info.settings),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow: at $MLFLOW_TRACKING_URI, or in mlflow.db beside the folder of the run.

    An earlier start of the same run is deleted there.
    """

    def __init__(self, info: RunInfo) -> None:
        import mlflow

        beside = f"sqlite:///{info.path.absolute().parent / DATABASE}"
        self._client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or beside)
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        tag = "coview.run"
        for old in self._client.search_runs([experiment], f"tags.`{tag}` = '{info.key}'"):
            self._client.delete_run(old.info.run_id)
        run = self._client.create_run(experiment, run_name=info.path.name, tags={tag: info.key})
        self._id = run.info.run_id
        for name, value in info.settings.items():
            self._client.log_param(self._id, name, str(value)[:MAX_TEXT])

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._id)


LOGGERS: dict[str, tuple[str, Callable[[RunInfo], Logger]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "wandb": ("wandb", WeightsAndBiases),
    "mlflow": ("mlflow", MLflow),
}
"""Of each name the package that it needs, and what opens it."""


def logger_names(words: Iterable[str]) -> tuple[str, ...]:
    """The names in ``words``, each of which may hold several with commas.

    Raises UnknownName, and MissingExtra where the package is not installed.

    >>> logger_names(["tensorboardd"])
    Traceback (most recent call last):
    ...
    coview.core.errors.UnknownName: There is no logger 'tensorboardd'. Did you mean 'tensorboard'? \
Known: mlflow, tensorboard, wandb.
    """
    names = dict.fromkeys(
        name.strip() for word in words for name in word.split(",") if name.strip()
    )
    for name in names:
        if name not in LOGGERS:
            raise UnknownName("logger", name, LOGGERS)
        package = LOGGERS[name][0]
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, package, f"`log_to` {name}")
    return tuple(names)


class Loggers:
    """Several loggers as one. A logger that fails is dropped with one sentence; the run goes on.

    >>> class Mine:
    ...     def log(self, step, figures):
    ...         print(step, figures)
    ...     def close(self):
    ...         print("closed")
    >>> loggers = Loggers({"mine": Mine})
    >>> loggers.log({"kind": "step", "step": 8, "epoch": 0.5, "loss": 4.5, "learning_rate": None})
    8 {'epoch': 0.5, 'train/loss': 4.5}
    >>> loggers.close()
    closed
    """

    def __init__(self, makers: Mapping[str, Callable[[], Logger]] | None = None) -> None:
        self._open: dict[str, Logger] = {}
        for name, make in (makers or {}).items():
            self._try(name, partial(self._add, name, make))

    @classmethod
    def of(cls, names: Iterable[str], info: RunInfo) -> Loggers:
        """The loggers with these names, of :data:`LOGGERS`."""
        return cls({name: partial(LOGGERS[name][1], info) for name in names})

    def log(self, row: Mapping[str, Any]) -> None:
        """Hand over a line of metrics.jsonl; lines without figures are left out."""
        figures = dict(figures_of(row))
        for name, logger in list(self._open.items()) if figures else ():
            self._try(name, partial(logger.log, row["step"], figures))

    def close(self) -> None:
        for name, logger in list(self._open.items()):
            self._try(name, logger.close)
        self._open.clear()

    def _add(self, name: str, make: Callable[[], Logger]) -> None:
        self._open[name] = make()

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            say(f"The logger {name} has failed; the run goes on without it ({reason}).")


def figures_of(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, number) of every figure in a line of metrics.jsonl.

    >>> dict(figures_of({"kind": "health", "step": 9, "epoch": 1.0, "figures": {"rank": 4.5}}))
    {'epoch': 1.0, 'health/rank': 4.5}
    """
    group = {"step": "train"}.get(row["kind"], row["kind"])
    for name, value in flatten({n: v for n, v in row.items() if n not in ("kind", "step")}):
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = name.removeprefix("figures.").replace(".", "/")
            yield name if name == "epoch" else f"{group}/{name}", float(value)


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """("path.of.key", value) for every leaf of nested mappings; a list is one leaf.

    >>> dict(flatten({"method": {"objective": {"temperature": 0.5}}, "epochs": 3}))
    {'method.objective.temperature': 0.5, 'epochs': 3}
    """
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        yield from flatten(item, f"{name}.{key}" if name else str(key))
