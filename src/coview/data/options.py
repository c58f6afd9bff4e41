"""How a source of images is opened, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coview.core.errors import InvalidValue, UnknownName

LABELS = ("folders", "column", "auto")
"""Where labels may come from, besides "none"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """The options of a source.

    labels_from: one of LABELS or "none". needs_labels: whether "auto" must find labels in a folder
    of images (True), may (None), or leaves its sub-folders alone (False). split: the part asked
    for, None for the one that suits; for_test: whether that is the part for tests. columns: those
    of images and labels in Parquet. root: where torchvision's sets are; download: fetch them.
    white: the value of white in images of more than 8 bits.
    """

    labels_from: str = "none"
    needs_labels: bool | None = None
    split: str | None = None
    for_test: bool = False
    columns: tuple[str | None, str | None] = (None, None)
    root: Path
    download: bool = False
    white: float | None = None

    def __post_init__(self) -> None:
        if self.labels_from not in (*LABELS, "none"):
            raise UnknownName("place of labels", self.labels_from, (*LABELS, "none"))

    @property
    def uses_labels(self) -> bool:
        return self.labels_from != "none"

    def refuse(self, what: str, *, labels_from: str | None = None, columns: bool = True) -> None:
        """Raise InvalidValue for options that do not apply to ``what``."""
        if columns and self.columns != (None, None):
            raise InvalidValue(f"`image_column` and `label_column` do not apply to {what}.")
        if labels_from is not None and self.labels_from == labels_from:
            other = "folders" if labels_from == "column" else "column"
            raise InvalidValue(
                f"`labels_from` is {labels_from!r}, which does not apply to {what}; use {other!r} "
                "or 'auto'."
            )
