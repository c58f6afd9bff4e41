"""Open a data source -- folder, Parquet, known data set, arrays -- as an ImageStore."""

from __future__ import annotations

import glob
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.errors import DataError, InvalidValue, UnknownName, nearest
from coview.core.images import ImageStore, cache_folder
from coview.core.text import plural
from coview.data.arrays import read_arrays, read_store
from coview.data.decode import MAX_PIXELS, DecodeSpec
from coview.data.folder import IMAGE_SUFFIXES, read_folder, scan_folder
from coview.data.listing import Listing, select_rows
from coview.data.store import CachePolicy, build_store
from coview.data.torchvision_sets import KNOWN_SETS, read_torchvision

SCENES = {"scenes": "train", "scenes:test": "test"}
SCENES_COUNT = {"train": 10_000, "test": 2_000}
SCENES_SIZE = 32

LABELS = ("folders", "column", "auto")
"""Where labels may come from, besides None (no labels)."""


def open_images(
    source: Any,
    *,
    labels: str | None = None,
    short_side: int | None = None,
    memory_share: float = 0.25,
    allow_broken: bool = False,
    download: bool = False,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    cache: Path | str | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    white: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    root: Path | str | None = None,
) -> ImageStore:
    """Every usable image of ``source``, decoded once, in the order of its names.

    source: a folder of images (any nesting); a Parquet file, a glob or list of them, or a folder
    of them; the name of a torchvision data set ("cifar10"); "scenes" or "scenes:test"; uint8
    arrays [N, H, W, 3] or [N, H, W], a list of [H, W, 3] or [H, W], or (images, labels) of such;
    or an ImageStore. A name that is also a folder here means the data set; "./cifar10" the folder.

    labels: None uses none (but labels passed as (images, labels) or in an ImageStore are kept);
    "folders" takes the first-level sub-folder of each file; "column" the label column of Parquet,
    or the labels of a torchvision set or the scenes; "auto" takes labels if the source clearly has
    them. Labels are indices in ``class_names``.

    short_side: larger images are resized to it (see coview.data.decode). limit: the largest number
    of images, selected by (seed, id); of the scenes, the number itself. split: of torchvision sets,
    of the scenes, and of folders of Parquet files named by split. download: allow the download of a
    torchvision set into ``root`` (default: the cache folder). white: the value that means white in
    images of more than 8 bits that do not declare it. workers: decoding threads (default: the
    available cores, at most 8).

    Pixels that fit into ``memory_share`` of this machine's memory stay there; others go to a
    memory-mapped file in ``cache`` (default: $COVIEW_CACHE or ~/.cache/coview), which the next
    call reuses if the source is unchanged.

    ``quarantine`` of the result lists the unusable images as (name, reason); ``notes`` says what a
    user should know, such as ignored files. An ImageStore is returned unchanged if there is neither
    ``limit`` nor ``short_side``.

    Raises DataError if more than 1 % of the images are unusable (of few: more than three or a
    tenth), unless ``allow_broken``, or if there are none; UnknownName and InvalidValue for wrong
    arguments.

    >>> import numpy as np
    >>> store = open_images((np.zeros((4, 8, 8, 3), np.uint8), ["cat", "dog", "cat", "cat"]))
    >>> len(store), store.labels, store.class_names
    (4, array([0, 1, 0, 0]), ('cat', 'dog'))
    >>> open_images("scenes", limit=20, labels="auto").class_names[0]
    'striped disc'
    """
    options = SourceOptions(
        labels=labels or (None if label_column is None else "column"), split=split,
        columns=(image_column, label_column), download=download,
    )  # fmt: skip
    cache_policy = CachePolicy(
        memory_share=memory_share, cache=cache_folder() if cache is None else Path(cache),
        allow_broken=allow_broken, workers=workers,
    )  # fmt: skip
    spec = DecodeSpec(short_side=short_side, max_pixels=max_pixels, white=white)
    _check_selection(limit, seed)
    if isinstance(source, str) and source in SCENES:
        return _open_scenes(source, options, limit, short_side, seed)
    if isinstance(source, ImageStore) and limit is None and short_side is None:
        return source
    listing = _list_source(
        source, options, white, cache_policy.cache / "torchvision" if root is None else Path(root)
    )
    return build_store(listing, select_rows(listing, limit, seed), spec, cache_policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """The options of a source, as given by the user."""

    labels: str | None
    split: str
    columns: tuple[str | None, str | None]
    download: bool

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels not in LABELS:
            raise UnknownName("place of labels", self.labels, LABELS)

    def refuse(self, what: str, *, labels: str | None = None, columns: bool = True) -> None:
        """Raise InvalidValue for options that do not apply to ``what``."""
        if columns and self.columns != (None, None):
            raise InvalidValue(f"`image_column` and `label_column` do not apply to {what}.")
        if labels is not None and self.labels == labels:
            other = "folders" if labels == "column" else "column"
            raise InvalidValue(
                f"`labels` is {labels!r}, which does not apply to {what}; use {other!r} or 'auto'."
            )


def _check_selection(limit: int | None, seed: int) -> None:
    if limit is not None and limit < 1:
        raise InvalidValue(f"`limit` is {limit}; expected at least 1 image.")
    if not 0 <= seed < 2**63:
        raise InvalidValue(f"`seed` is {seed}; expected 0 to 2^63 - 1.")


def _open_scenes(
    source: str, options: SourceOptions, limit: int | None, short_side: int | None, seed: int
) -> ImageStore:
    from coview.data.scenes.store import make_scenes

    options.refuse("the scenes", labels="folders")
    split = options.split if source == "scenes" else SCENES[source]
    if split not in SCENES_COUNT:
        raise UnknownName("split of the scenes", split, SCENES_COUNT)
    store = make_scenes(
        limit or SCENES_COUNT[split], short_side or SCENES_SIZE, seed=seed, split=split
    )
    return store if options.labels else replace(store, labels=None, class_names=())


def _list_source(source: Any, options: SourceOptions, white: float | None, root: Path) -> Listing:
    if isinstance(source, str) and source in KNOWN_SETS:
        options.refuse(f"the data set {source!r}", labels="folders")
        listing = read_torchvision(
            source, split=options.split, root=root, download=options.download, labels=options.labels
        )
        note = f"Reading the torchvision data set {source!r}; for the folder write ./{source}."
        return replace(listing, notes=(note,)) if Path(source).exists() else listing
    if isinstance(source, str | Path):
        return _list_path(source, options)
    if _are_paths(source):
        return _list_parquet([Path(path) for path in source], options, f"{source[0]} ...")
    options.refuse("arrays")
    if isinstance(source, ImageStore):
        return read_store(source)
    images, labels = source if _is_pair(source) else (source, None)
    return read_arrays(images, labels, white=white)


def _is_pair(source: Any) -> bool:
    """(images, labels), as opposed to a tuple of two images."""
    return isinstance(source, tuple) and len(source) == 2 and _depth(source[0]) > _depth(source[1])


def _depth(value: Any) -> int:
    """The number of axes of an array, or of a list of arrays."""
    if isinstance(value, list | tuple):
        return 1 + (_depth(value[0]) if len(value) else 0)
    return getattr(value, "ndim", 0)


def _are_paths(source: Any) -> bool:
    paths = isinstance(source, list | tuple) and len(source) > 0
    return paths and all(isinstance(item, str | Path) for item in source)


def _list_path(source: str | Path, options: SourceOptions) -> Listing:
    path = Path(source).expanduser()
    if source == "":
        raise InvalidValue("The source is empty; expected a folder, a file or a data set.")
    if path.is_dir():
        return _list_folder(path, options)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _list_parquet([path], options, str(source))
    if path.exists():
        raise DataError(_describe_wrong_file(path))
    if glob.has_magic(str(path)):
        return _list_glob(path, options)
    raise _missing_error(source, path)


def _list_folder(root: Path, options: SourceOptions) -> Listing:
    scan = scan_folder(root)
    if scan.images and scan.parquet:
        raise DataError(
            f"{root} has both {plural(len(scan.images), 'image')} and "
            f"{plural(len(scan.parquet), 'Parquet file')}; give the one to read, such as "
            f"'{root / scan.parquet[0]}'."
        )
    if scan.parquet:
        from coview.data.parquet import select_split

        names = select_split(sorted(scan.parquet), options.split)
        listing = _list_parquet([root / name for name in names], options, str(root))
        if len(names) == len(scan.parquet):
            return listing
        first = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        note = (
            f"Reading the {options.split} part of {root}, {len(names):,} of "
            f"{len(scan.parquet):,} Parquet files: {first}."
        )
        return replace(listing, notes=(note,))
    if not scan.images:
        others = f", only {plural(scan.stray, 'other file')}" if scan.stray else ""
        raise DataError(
            f"There are no images in the folder {root}{others}; expected files such as "
            f".jpg, .png, .webp or .tif, at any depth."
        )
    options.refuse("a folder of images", labels="column")
    return read_folder(root, scan, options.labels)


def _list_glob(pattern: Path, options: SourceOptions) -> Listing:
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    base = Path(*fixed)
    paths = sorted(base.glob(str(pattern.relative_to(base))))
    if not paths:
        raise DataError(f"No file matches {pattern}; expected Parquet files.")
    return _list_parquet(paths, options, str(pattern))


def _list_parquet(paths: list[Path], options: SourceOptions, source: str) -> Listing:
    from coview.data.parquet import read_parquet

    options.refuse("Parquet files", labels="folders", columns=False)
    for path in paths:
        if not path.exists():
            raise _missing_error(path, path)
        if path.suffix.lower() != ".parquet":
            raise DataError(f"{path} is not a Parquet file; lists and patterns are for Parquet.")
    image, label = options.columns
    return read_parquet(
        paths, labels=options.labels, image_column=image, label_column=label, source=source
    )


def _describe_wrong_file(path: Path) -> str:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return f"{path} is one image; give the folder of your images."
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file; expected a folder of images or Parquet (.parquet)."


def _missing_error(source: str | Path, path: Path) -> Exception:
    """The error for a path that does not exist, with the nearest name that does."""
    if "://" in str(source):
        return DataError(f"{source} is an address; download it and give the folder or file.")
    near = nearest(path.name, _names_in(path.parent))
    if str(source) == path.name and not path.suffix:
        known = [*KNOWN_SETS, *SCENES]
        if near is None or nearest(path.name, [near, *known]) != near:
            return UnknownName("folder, file or data set", path.name, known)
    elif not path.parent.is_dir():
        parent = nearest(path.parent.name, _names_in(path.parent.parent))
        hint = f" Did you mean {path.parent.with_name(parent) / path.name}?" if parent else ""
        return DataError(f"There is no {path}, since there is no folder {path.parent}.{hint}")
    hint = f" Did you mean {path.with_name(near)}?" if near else ""
    return DataError(f"There is no folder or file {path}.{hint}")


def _names_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
