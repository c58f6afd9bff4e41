"""Data as a value: where images are and how they are opened, so that a run can open them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.errors import DataError, RunError, UnknownName
from coview.core.images import ImageStore
from coview.core.machine import processes_here
from coview.core.values import decode_one
from coview.data.sources import LABELS, SCENES, open_images
from coview.data.torchvision_sets import KNOWN_SETS
from coview.options import DataOptions

# Photographs are kept at the short side that evaluation at 224 px starts from everywhere.
SHORT_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class DataSpec(DataOptions):
    """A source of images with the options that open it.

    source: a path, a glob, a name, or several paths; None for images in memory, which only the
    caller has. needs_labels: labels are used, so that a folder's sub-folders are its classes
    unless ``labels_from`` says otherwise. seed: of the images that ``limit`` draws.

    >>> spec = DataSpec.of("scenes", limit=40, short_side=16)
    >>> len(spec.open()), DataSpec.from_json(spec.to_json()) == spec
    (40, True)
    """

    source: str | tuple[str, ...] | None = None
    needs_labels: bool = False
    seed: int = 0

    @classmethod
    def of(
        cls,
        data: Any,
        options: DataOptions | None = None,
        *,
        size: int | None = None,
        **changes: Any,
    ) -> DataSpec:
        """What opens ``data`` again from any working folder, with these options.

        Where no short side is asked for, images are kept large enough for views of ``size``
        pixels. Raises UnknownName for an unknown place of labels.
        """
        given = {} if options is None else _fields(options)
        spec = cls(source=source_of(data), **{**given, **changes})
        if spec.labels_from not in {*LABELS, "none"}:
            raise UnknownName("place of labels", spec.labels_from, (*LABELS, "none"))
        spec = replace(spec, root=_absolute(spec.root), cache=_absolute(spec.cache))
        if spec.short_side is None:
            spec = replace(spec, short_side=default_short_side(spec.source, size))
        return spec

    def open(self, data: Any = None) -> ImageStore:
        """The images. ``data`` stands in for the source: arrays in memory, or a moved folder.

        Raises RunError where the source was in memory and ``data`` is missing, and the errors of
        :func:`coview.data.open_images`.
        """
        source = self.source if data is None else data
        if source is None:
            raise RunError("The images were arrays in memory; give the same ones again as `data`.")
        if isinstance(source, tuple) and all(isinstance(item, str) for item in source):
            source = list(source)
        settings = {
            name: value
            for name, value in _fields(self).items()
            if name not in ("labels_from", "memory_share")
        }
        return open_images(
            source,
            labels=self._labels(source),
            # The processes of a run on one machine share its memory.
            memory_share=self.memory_share / processes_here(),
            seed=self.seed,
            **settings,
        )

    def _labels(self, source: Any) -> str | None:
        """Where labels are read: a folder's sub-folders only where labels are needed or named."""
        folder = isinstance(source, (str, Path)) and Path(source).expanduser().is_dir()
        if self.labels_from != "auto" or not folder or _holds_parquet(Path(source).expanduser()):
            return None if self.labels_from == "none" else self.labels_from
        if not self.needs_labels:
            return None
        if not any(entry.is_dir() for entry in Path(source).expanduser().iterdir()):
            raise DataError(
                f"Labels are needed and {source} has none: put the images of each class into a "
                "sub-folder of its own. `coview pretrain` learns without labels."
            )
        return "folders"

    def to_json(self) -> dict[str, Any]:
        """A JSON object. A permission to download is not part of it."""
        plain = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return {"type": "DataSpec", **plain, "download": False}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataSpec:
        spec = decode_one(dict(data), cls)
        return replace(spec, root=_absolute(spec.root), cache=_absolute(spec.cache))


def source_of(data: Any) -> str | tuple[str, ...] | None:
    """What opens ``data`` from any working folder; None for arrays, which only the caller has.

    >>> source_of("cifar10"), source_of([[1, 2]])
    ('cifar10', None)
    """
    if isinstance(data, str) and (data in SCENES or data in KNOWN_SETS):
        return data
    if isinstance(data, (str, Path)) and str(data):
        return str(Path(data).expanduser().absolute())
    is_list = isinstance(data, (list, tuple)) and len(data) > 0
    if is_list and all(isinstance(item, (str, Path)) for item in data):
        return tuple(str(Path(item).expanduser().absolute()) for item in data)
    return None


def default_short_side(source: Any, size: int | None) -> int | None:
    """The short side at which images are kept: 256 px, or 1.15 times the views if that is more.

    The scenes are drawn at the size of the views.

    >>> default_short_side("photos", 96), default_short_side("scenes", 32)
    (256, 32)
    """
    if isinstance(source, str) and source in SCENES:
        return size
    return max(SHORT_SIDE, round(1.15 * (size or 0)))


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser().absolute()


def _holds_parquet(folder: Path) -> bool:
    return any(folder.rglob("*.parquet"))


def _fields(options: DataOptions) -> dict[str, Any]:
    """The options that ``DataOptions`` declares, of it or of a class that inherits them."""
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(DataOptions)}
