"""The handle on a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

from coview.core.errors import DamagedFile
from coview.core.run_folder import Description, RunFolder
from coview.core.values import decode_one, misfit
from coview.recipes import Recipe, Start, recipe_of
from coview.reports.notebook import run_card
from coview.runs.data import RunData


@dataclass(frozen=True, repr=False)
class Run(RunFolder):
    """The files of one run under ``path``, and its recipe; reading them loads no network.

    ``Run.open(path)`` raises RunError where there is no run. See RunFolder for the files.
    """

    @cached_property
    def description(self) -> dict[str, Any]:
        """run.json, whole. Raises DamagedFile where a field is missing or of another type."""
        description = RunFolder(self.path).description
        if fault := misfit(description, Description):
            raise DamagedFile(f"{self.description_path} was damaged or edited: {fault}.")
        return description

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that made the run; see :func:`coview.recipes.recipe_of`."""
        return recipe_of(self)

    @cached_property
    def start(self) -> Start | None:
        """Where the first weights came from; None for random ones."""
        start = self.description["start"]
        return None if start is None else decode_one(start, Start)

    @property
    def outer_path(self) -> Path:
        """The folder that `coview resume` takes: that of the run around a nested one."""
        return self.path.parent if self.is_nested else self.path

    def command(self, verb: str) -> str:
        """``coview VERB RUN`` as it is typed, also where the folder's name has spaces.

        >>> Run(Path("runs/my photos")).command("evaluate")
        "coview evaluate 'runs/my photos'"
        """
        return f"coview {verb} {quote(str(self.outer_path if verb == 'resume' else self.path))}"

    @cached_property
    def data(self) -> RunData:
        """What opens the images of the run again."""
        return RunData.from_json(self.description["data"]["opened"])

    @property
    def tested_data(self) -> dict[str, Any]:
        """The data as files of the run's own figures have them: with the caveats, where these were
        looked for."""
        data: dict[str, Any] = self.description["data"]
        caveats = self.description.get("caveats")
        return data if caveats is None else {**data, "caveats": caveats}

    def __str__(self) -> str:
        return f"{self.path}: {(self.verdict or {}).get('sentence', 'not ended')}"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """The run in a notebook: its verdict, its main figures and where its report lies."""
        return run_card(self.path)
