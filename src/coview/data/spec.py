"""Data as a value: where images are and how they are opened, so that a run can open them again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.errors import RunError, UnknownName
from coview.core.images import ImageStore
from coview.core.machine import sharing
from coview.core.paths import absolute_path
from coview.core.places import Kind, place_of, split_pattern
from coview.core.values import decode_one
from coview.data.kinds import IMAGE_SUFFIXES
from coview.data.manifest import TABLE_SUFFIXES
from coview.data.options import LABELS
from coview.data.scan import SHARD_SUFFIX, TABLES
from coview.data.sources import NAMES, SCENES, is_path, open_images
from coview.data.store import NO_CACHE
from coview.data.stream import ImageStream, open_stream
from coview.options import DataOptions

# Photographs are kept at the short side that evaluation at 224 px starts from everywhere.
SHORT_SIDE = 256


_OPENED: ContextVar[dict[Any, ImageStore] | None] = ContextVar("opened", default=None)


@contextmanager
def opened_once() -> Iterator[None]:
    """Inside, a source that is opened again with the same options is not read again.

    For several runs on the same images in one process. The images stay in memory until the end
    of the outermost one.

    >>> with opened_once():
    ...     DataSpec.of("scenes", limit=4).open() is DataSpec.of("scenes", limit=4).open()
    True
    """
    outer = _OPENED.get()
    token = _OPENED.set({} if outer is None else outer)
    try:
        yield
    finally:
        _OPENED.reset(token)


@dataclass(frozen=True, kw_only=True)
class DataSpec(DataOptions):
    """A source of images with the options that open it.

    source: a path, a glob, a name, or several paths; None for images in memory, which only the
    caller has. needs_labels: labels are used, so that a folder's sub-folders are its classes
    unless ``labels_from`` says otherwise; None: they are where they clearly can be. for_test: the
    images are tested on, which is the part that is opened unless ``split`` names one. seed: of the
    images that ``limit`` draws.

    >>> spec = DataSpec.of("scenes", limit=40, short_side=16)
    >>> len(spec.open()), DataSpec.from_json(spec.to_json()) == spec
    (40, True)
    """

    source: str | tuple[str, ...] | None = None
    needs_labels: bool | None = False
    for_test: bool = False
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
        given = {} if options is None else data_settings(options)
        spec = cls(source=source_of(data), **{**given, **changes})
        if spec.labels_from not in {*LABELS, "none"}:
            raise UnknownName("place of labels", spec.labels_from, (*LABELS, "none"))
        spec = replace(spec, root=_absolute(spec.root), cache=_cache(spec.cache))
        if spec.short_side is None:
            spec = replace(spec, short_side=default_short_side(spec.source, size))
        return spec

    def open(self, data: Any = None, *, workers: int | None = None) -> ImageStore:
        """The images. ``data`` stands in for the source: arrays in memory, or a moved folder.
        ``workers``: the threads that decode, at least one.

        Raises RunError where the source was in memory and ``data`` is missing, and the errors of
        :func:`coview.data.open_images`.
        """
        opened = _OPENED.get()
        source = self.source if data is None else source_of(data)
        key = None if source is None else (self, source)
        if opened is None or key is None:
            return self._open(data, workers)
        if key not in opened:
            opened[key] = self._open(data, workers)
        return opened[key]

    def _open(self, data: Any, workers: int | None) -> ImageStore:
        share = self.memory_share / sharing()
        return open_images(self._source(data), **self._settings(workers), memory_share=share)

    def stream(self, data: Any = None, *, workers: int | None = None) -> ImageStream:
        """The images, to be decoded part by part: for a use that needs each of them once.

        Arguments and errors are those of :meth:`open`.
        """
        return open_stream(self._source(data), **self._settings(workers))

    def _source(self, data: Any) -> Any:
        source = self.source if data is None else data
        if source is None:
            raise RunError("The images were in memory; give the same ones again as `data`.")
        if isinstance(source, tuple) and all(isinstance(item, str) for item in source):
            return list(source)
        return source

    def _settings(self, workers: int | None) -> dict[str, Any]:
        return {
            **{
                name: value for name, value in data_settings(self).items() if name != "memory_share"
            },
            "needs_labels": self.needs_labels,
            "for_test": self.for_test,
            "seed": self.seed,
            "workers": None if workers is None else max(1, workers),
        }

    def tests(self) -> DataSpec:
        """The same source with the images to test on, all of them."""
        return replace(self, split=None, for_test=True, limit=None)

    def to_json(self) -> dict[str, Any]:
        """A JSON object. A permission to download is not part of it."""
        plain = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return {"type": "DataSpec", **plain, "download": False}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataSpec:
        paths = {name: _absolute(data[name]) for name in ("root",) if data.get(name)}
        if data.get("cache"):
            paths["cache"] = _cache(data["cache"])
        return decode_one({**data, **paths}, cls)


def tests_like(spec: DataSpec, data: Any, options: DataOptions) -> DataSpec | None:
    """What opens the labeled ``data`` to test on, at the short side of ``spec``; None for no data.

    Raises UnknownName for an unknown place of labels.
    """
    if data is None:
        return None
    tests = DataSpec.of(data, options, needs_labels=True).tests()
    return replace(tests, short_side=spec.short_side)


def source_of(data: Any) -> str | tuple[str, ...] | None:
    """What opens ``data`` from any working folder; None for arrays, which only the caller has.

    >>> source_of("cifar10"), source_of([[1, 2]])
    ('cifar10', None)
    """
    if is_path(data):
        place = place_of(data, NAMES)
        return place.words if place.kind in (Kind.NAME, Kind.ADDRESS) else str(place.path)
    if isinstance(data, (list, tuple)) and data and all(is_path(item) for item in data):
        return tuple(str(place_of(item).path) for item in data)
    return None


def name_of(data: Any) -> str:
    """The name of ``data``, for a folder or a file that belongs to it.

    The last part of its path as it was given: a link is not followed.

    >>> name_of("photos/2024.v2/"), name_of("a/train.parquet"), name_of("scenes:test")
    ('2024.v2', 'train', 'scenes-test')
    >>> name_of("photos/*.parquet"), name_of([[0]]), name_of("train-{000..010}.tar")
    ('photos', 'arrays', 'train')
    >>> name_of(["a/cat.jpg", "b/dog.jpg"]), name_of(["a/train-0.parquet", "a/train-1.parquet"])
    ('images', 'train-0')
    """
    if isinstance(data, (list, tuple)) and data and is_path(data[0]):
        data = data[0]
        # The first of many images says nothing of the others.
        if place_of(data, NAMES).suffix in IMAGE_SUFFIXES:
            return "images"
    if not is_path(data):
        return "arrays"
    place = place_of(data, NAMES)
    if place.kind is Kind.NAME:
        return place.words.replace(":", "-")
    pattern = place.kind is Kind.PATTERN
    path = split_pattern(place.path)[0] if pattern else place.path
    path = path.resolve() if path.name == ".." else path
    name = (
        path.stem if path.suffix.lower() in (*TABLES, *TABLE_SUFFIXES, SHARD_SUFFIX) else path.name
    )
    if "{" in name:
        name = re.sub(r"\{.*?\}", "", name).strip("-_.")
    return name or "images"


def default_short_side(source: Any, size: int | None) -> int | None:
    """The short side at which images are kept: 256 px, or 1.15 times the views if that is more.

    The scenes are drawn at the size of the views.

    >>> default_short_side("photos", 96), default_short_side("scenes", 32)
    (256, 32)
    """
    if isinstance(source, str) and source in SCENES:
        return size
    return max(SHORT_SIDE, round(1.15 * (size or 0)))


def _cache(path: str | Path | None) -> Path | None:
    return NO_CACHE if path is not None and Path(path) == NO_CACHE else _absolute(path)


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else absolute_path(path)


def data_settings(options: DataOptions) -> dict[str, Any]:
    """The options that ``DataOptions`` declares, of it or of a class that inherits them."""
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(DataOptions)}
