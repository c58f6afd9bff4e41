"""The handle on a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from coview.core.run_folder import RunFolder
from coview.core.values import decode
from coview.recipes import Recipe, known_values


@dataclass(frozen=True, repr=False)
class Run(RunFolder):
    """The files of one run under ``path``, and its recipe; reading them loads no network.

    ``Run.open(path)`` raises RunError where there is no run. See RunFolder for the files.
    """

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that made the run. Raises UnknownValue, UnknownName for a class, a field."""
        value = decode(self.description["recipe"], known_values())
        assert isinstance(value, Recipe)
        return value

    def __str__(self) -> str:
        return f"{self.path}: {(self.verdict or {}).get('sentence', 'not ended')}"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"
