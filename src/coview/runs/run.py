"""A run is a folder; this is the handle on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coview.core.errors import RunError
from coview.core.files import read_json, read_lines
from coview.core.run_folder import DESCRIPTION, run_folder
from coview.core.values import decode
from coview.recipes import Recipe, known_values


@dataclass(frozen=True)
class Run:
    """The files of one run under ``path``; reading them never loads a network."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in ``path``. Raises RunError where there is none, naming a near one."""
        return cls(run_folder(path))

    @cached_property
    def description(self) -> dict[str, Any]:
        """run.json."""
        return dict(read_json(self.path / DESCRIPTION))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that made the run."""
        value = decode(self.description["recipe"], known_values())
        assert isinstance(value, Recipe)
        return value

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl, one dict a line, in the order of writing."""
        return list(read_lines(self.path / "metrics.jsonl"))

    @property
    def verdict(self) -> dict[str, Any] | None:
        """verdict.json, or None while the run has not ended."""
        path = self.path / "verdict.json"
        return dict(read_json(path)) if path.exists() else None

    @property
    def is_stopped(self) -> bool:
        """Whether the run has not come to its end: stopped by a signal, given up, or killed."""
        return self.verdict is None

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Every file of evaluation/, by name."""
        return [dict(read_json(path)) for path in sorted(self.path.glob("evaluation/*.json"))]

    @property
    def encoder_folder(self) -> Path:
        """The export. Raises RunError while the run has not written one."""
        folder = self.path / "encoder"
        if not (folder / "config.json").exists():
            raise RunError(
                f"{self.path} has no encoder yet; let the run end, or go on with: "
                f"coview resume {self.path}"
            )
        return folder

    def __str__(self) -> str:
        sentence = (self.verdict or {}).get("sentence", "not ended")
        return f"{self.path}: {sentence}"

    def __repr__(self) -> str:
        return f"Run({json.dumps(str(self.path))})"
