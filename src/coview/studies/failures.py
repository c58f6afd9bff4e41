"""Runs of a study that have failed: the others go on, and the study ends with what went wrong."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path

from coview.core.errors import (
    CoviewError,
    SeveralErrors,
    StorageError,
    UnreadableFile,
)
from coview.studies.cell import Cell


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a run, in a sentence. ``ends_all``: the other runs would fail by it too,
    as where the disk is full."""

    sentence: str
    ends_all: bool = False

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """
        >>> Failure.of(StorageError("The disk is full."))
        Failure(sentence='The disk is full.', ends_all=True)
        """
        refused = isinstance(error, StorageError) and not isinstance(error, UnreadableFile)
        return cls(about_error(error), refused or isinstance(error, MemoryError))


@dataclass
class Failures:
    """Those of a study whose runs lie in ``root``."""

    root: Path
    sentences: dict[str, str] = field(default_factory=dict)
    """The key of a cell -> its name, its folder and what went wrong."""
    left: set[str] = field(default_factory=set)
    """The keys of the cells that need one of these."""

    def add(self, cell: Cell, failure: Failure) -> str:
        """The sentence of the cell, with its name and folder."""
        sentence = f"{cell.name} ({cell.folder(self.root)}): {failure.sentence}"
        self.sentences[cell.key] = sentence
        return sentence

    def leaves_out(self, cell: Cell) -> bool:
        """Whether the cell needs one that has failed, or that is left out itself."""
        lost = any(need.key in self.sentences or need.key in self.left for need in cell.needs)
        if lost:
            self.left.add(cell.key)
        return lost

    def raise_any(self) -> None:
        """Raise SeveralErrors with a sentence for each run that has failed, if there are any."""
        sentences = list(self.sentences.values())
        if len(sentences) > 1:
            sentences.insert(0, f"{len(sentences)} runs have failed.")
        if sentences:
            raise SeveralErrors(sentences)


def about_error(error: Exception) -> str:
    """What went wrong in a run, in a sentence; of an error that is none of ours also where.

    >>> about_error(CoviewError("The run is gone."))
    'The run is gone.'
    """
    if isinstance(error, CoviewError):
        return str(error) or type(error).__name__
    *_, frame = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__}: {error} ({place})"
