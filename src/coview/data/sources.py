"""Open a data source -- folder, Parquet, known data set, arrays -- as an ImageStore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.images import ImageStore, cache_folder
from coview.core.paths import absolute_path
from coview.core.places import Kind, Place, place_of, split_pattern
from coview.core.text import plural
from coview.data.arrays import read_arrays, read_store, split_labels
from coview.data.datasets import is_dataset, read_dataset
from coview.data.decode_spec import MAX_PIXELS, DecodeSpec
from coview.data.files import read_files
from coview.data.folder import read_folder
from coview.data.kinds import describe_others, readable_suffixes
from coview.data.listing import Listing, select_rows
from coview.data.manifest import TABLE_SUFFIXES, path_table, read_manifest, read_table
from coview.data.options import SourceOptions
from coview.data.parts import ALL, part_of_file, select_part
from coview.data.refusals import refuse_place
from coview.data.scan import SHARD_SUFFIX, TABLES, FolderScan, scan_folder
from coview.data.shards import expand_braces, read_shards
from coview.data.store import NO_CACHE, CachePolicy, build_store
from coview.data.torchvision_sets import KNOWN_SETS, read_torchvision

SCENES = {
    "scenes": "train", "scenes:test": "test", "scenes:clutter": "train",
    "scenes:clutter:test": "test",
}  # fmt: skip
"""The names of the built-in scenes with the part that each means."""
CLUTTERED = "scenes:clutter"
SCENES_COUNT = {"train": 10_000, "test": 2_000}
SCENES_SIZE = 32

NAMES = (*KNOWN_SETS, *SCENES)
"""The sources that have a name."""


def open_images(
    source: Any,
    *,
    labels_from: str | None = None,
    short_side: int | None = None,
    memory_share: float = 0.25,
    allow_broken: bool = False,
    download: bool = False,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    cache: Path | str | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    white: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    root: Path | str | None = None,
    needs_labels: bool | None = None,
    for_test: bool = False,
) -> ImageStore:
    """Every usable image of ``source``, decoded once, in the order of its names.

    source: a folder of images (any nesting), one image, a list or a glob of images; a Parquet file,
    a glob or list of them, or a folder of them; tar shards, with "{000..010}" as WebDataset names
    them; a CSV, TSV or Parquet table of paths; a folder that Hugging Face's save_to_disk wrote; the
    name of a torchvision data set ("cifar10"); "scenes", "scenes:test", or "scenes:clutter" and
    "scenes:clutter:test", with several objects; images in memory: uint8
    [N, H, W, 3], [N, 3, H, W] or [N, H, W], or floats in [0, 1], as arrays of numpy or tensors of
    torch, a list of such images or of Pillow's, or (images, labels), or a list of (image, label); a
    data set of torch or of Hugging Face; or an ImageStore. A name that is also a folder here means
    the data set; "./cifar10" the folder.

    labels_from: None or "none" uses none (but labels passed as (images, labels) or in an ImageStore
    are kept); "folders" takes the first-level sub-folder of each file; "column" the label column of
    Parquet, or the labels of a torchvision set or the scenes; "auto" takes labels if the source
    clearly has them (of a folder of images: must have them if ``needs_labels`` is True, takes none
    if it is False). Labels are indices in ``class_names``.

    short_side: larger images are resized to it (see coview.data.decode). limit: the largest number
    of images, selected by (seed, id); of the scenes, the number itself. split: the part of a source
    that has parts: a torchvision set, the scenes, a folder whose sub-folders or Parquet files are
    named train, val and test (or train2017), a mapping of data sets; "all" reads all parts, but
    of the scenes. None reads the train part (``for_test``: the test part, else val), or the only
    one.
    download: allow the download of a torchvision set into ``root`` (default: the cache folder).
    white: the value that means white in images of more than 8 bits that do not declare it. workers:
    decoding threads (default: the available cores, at most 8).

    Pixels that fit into ``memory_share`` of this machine's memory, beside those of all stores that
    are open, stay there; others go to a memory-mapped file in ``cache`` (default: $COVIEW_CACHE or
    ~/.cache/coview), which the next call reuses if the source is unchanged. What fits neither there
    (all stores together take at most $COVIEW_CACHE_LIMIT, by default 20 GB, and a new one half of
    the free disk), and with ``cache="none"`` what does not fit into memory, is decoded once to
    check it, and again whenever it is needed. The pixels are the same. Of Parquet files, which are
    read in order, the encoded images are then copied to the cache, in any case.

    ``quarantine`` of the result lists the unusable images and the places that could not be looked
    at, as (name, reason); ``notes`` says what a user should know, such as ignored files. An
    ImageStore is returned unchanged if there is neither ``limit`` nor ``short_side``.

    Raises DataError if more than 1 % of the images are unusable (of few: more than three or a
    tenth), unless ``allow_broken``, or if there are none, or no such ``split``; UnknownName and
    InvalidValue for wrong arguments.

    >>> import numpy as np
    >>> store = open_images((np.zeros((4, 8, 8, 3), np.uint8), ["cat", "dog", "cat", "cat"]))
    >>> len(store), store.labels, store.class_names
    (4, array([0, 1, 0, 0]), ('cat', 'dog'))
    >>> open_images("scenes", limit=20, labels_from="auto").class_names[0]
    'striped disc'
    """
    options, spec, cache_policy = read_options(
        labels_from=labels_from, short_side=short_side, memory_share=memory_share,
        allow_broken=allow_broken, download=download, split=split, cache=cache,
        max_pixels=max_pixels, workers=workers, white=white, image_column=image_column,
        label_column=label_column, root=root, needs_labels=needs_labels, for_test=for_test,
    )  # fmt: skip
    check_selection(limit, seed)
    if isinstance(source, str) and source in SCENES:
        return open_scenes(source, options, limit, short_side, seed)
    if isinstance(source, ImageStore) and limit is None and short_side is None:
        _require_split((), options, source.source)
        return source
    listing = list_source(source, options)
    return build_store(listing, select_rows(listing, limit, seed), spec, cache_policy)


def read_options(
    *, labels_from: str | None, short_side: int | None, memory_share: float, allow_broken: bool,
    download: bool, split: str | None, cache: Path | str | None, max_pixels: int,
    workers: int | None, white: float | None, image_column: str | None, label_column: str | None,
    root: Path | str | None, needs_labels: bool | None, for_test: bool,
) -> tuple[SourceOptions, DecodeSpec, CachePolicy]:  # fmt: skip
    """The arguments of :func:`open_images`, by who needs them."""
    on_disk = cache is None or Path(cache) != NO_CACHE
    cache_policy = CachePolicy(
        memory_share=memory_share, allow_broken=allow_broken, workers=workers, on_disk=on_disk,
        cache=cache_folder() if cache is None or not on_disk else absolute_path(cache),
    )  # fmt: skip
    if labels_from is None:
        labels_from = "none" if label_column is None else "column"
    options = SourceOptions(
        labels_from=labels_from, needs_labels=needs_labels, split=split, for_test=for_test,
        columns=(image_column, label_column), download=download, white=white,
        root=cache_policy.cache / "torchvision" if root is None else absolute_path(root),
    )  # fmt: skip
    return (
        options,
        DecodeSpec(short_side=short_side, max_pixels=max_pixels, white=white),
        cache_policy,
    )


def check_selection(limit: int | None, seed: int) -> None:
    """Raise InvalidValue for a number of images or a seed out of range."""
    if limit is not None and limit < 1:
        raise InvalidValue(f"`limit` is {limit}; expected at least 1 image.")
    if not 0 <= seed < 2**63:
        raise InvalidValue(f"`seed` is {seed}; expected 0 to 2^63 - 1.")


def open_scenes(
    source: str, options: SourceOptions, limit: int | None, short_side: int | None, seed: int
) -> ImageStore:
    """The built-in scenes, drawn; ``limit`` is their number."""
    from coview.data.scenes.store import make_scenes

    options.refuse("the scenes", labels_from="folders")
    split = SCENES[source]
    if source in ("scenes", CLUTTERED) and (options.split or options.for_test):
        split = options.split or "test"
    elif options.split not in (None, split):
        raise UnknownName(f"split of {source}", options.split, [split])
    if split not in SCENES_COUNT:
        raise UnknownName("split of the scenes", split, SCENES_COUNT)
    store = make_scenes(
        limit or SCENES_COUNT[split], short_side or SCENES_SIZE, seed=seed, split=split,
        clutter=source.startswith(CLUTTERED),
    )  # fmt: skip
    return store if options.uses_labels else replace(store, labels=None, class_names=())


def list_source(source: Any, options: SourceOptions) -> Listing:
    """The images of a source that is not drawn, listed before any is decoded.

    Raises DataError where the options name a part that it does not have.
    """
    if is_path(source) and (place := place_of(source, NAMES)).kind is Kind.NAME:
        return _list_known_set(place, options)  # which knows its parts
    listing = _list_plain(source, options)
    _require_split(listing.parts, options, listing.source)
    return listing


def _require_split(parts: Sequence[str], options: SourceOptions, source: str) -> None:
    if options.split not in (None, ALL):
        select_part(parts, options.split, for_test=options.for_test, source=source)


def _list_plain(source: Any, options: SourceOptions) -> Listing:
    if is_path(source):
        return _list_place(place_of(source, NAMES), options)
    if isinstance(source, list | tuple) and source and all(is_path(item) for item in source):
        places = [place_of(item) for item in source]
        return _list_files(places, options, f"{places[0].words} ...")
    if is_dataset(source) and not isinstance(source, ImageStore):
        return read_dataset(source, options)
    options.refuse("arrays")
    if isinstance(source, ImageStore):
        return read_store(source)
    images, labels = split_labels(source)
    return read_arrays(images, labels, white=options.white)


def is_path(source: Any) -> bool:
    """Whether a source is a path or a name, and not images."""
    return isinstance(source, str | bytes | Path)


def _list_place(place: Place, options: SourceOptions) -> Listing:
    if place.kind is Kind.FOLDER:
        return _list_folder(place.path, options)
    if place.kind is Kind.PATTERN:
        return _list_pattern(place, options)
    if place.kind is Kind.FILE:
        return _list_file(place, options)
    if place.kind is Kind.MISSING and "{" in place.words:
        return _list_files([place_of(w) for w in expand_braces(place.words)], options, place.words)
    raise refuse_place(place, NAMES)


def _list_file(place: Place, options: SourceOptions) -> Listing:
    """One file: a table of images or of their paths, a tar of images, or one image."""
    if place.suffix in TABLE_SUFFIXES:
        return read_manifest(place.path, read_table(place.path), options)
    if place.suffix == ".parquet" and (table := path_table(place.path)) is not None:
        return read_manifest(place.path, table, options)
    return _list_files([place], options, place.words)


def _list_known_set(place: Place, options: SourceOptions) -> Listing:
    name = place.words
    options.refuse(f"the data set {name!r}", labels_from="folders")
    parts = KNOWN_SETS[name].parts
    split = options.split or select_part(parts, None, for_test=options.for_test, source=name)
    listing = read_torchvision(
        name, split=split, root=options.root, download=options.download, labels=options.uses_labels
    )
    if place_of(f"./{name}").kind is Kind.MISSING:
        return listing
    note = f"Reading the torchvision data set {name!r}; for the folder write ./{name}."
    return replace(listing, notes=(note,))


def _list_folder(
    root: Path, options: SourceOptions, pattern: Sequence[str] = (), source: str = ""
) -> Listing:
    """The images or the Parquet files under ``root``, those that match ``pattern`` if any."""
    scan = scan_folder(root, pattern)
    source = source or str(root)
    if not scan.images:
        if not (scan.parquet or scan.shards):
            raise _no_images(root, source, scan)
        return _list_containers(root, scan, options, source)
    if scan.parquet:
        scan = _pass_parquet_over(root, scan)
    options.refuse("a folder of images", labels_from="column")
    return read_folder(root, scan, options)


def _pass_parquet_over(root: Path, scan: FolderScan) -> FolderScan:
    """The scan with Parquet files noted that lie beside images. Raises DataError if they hold some.

    Tables of vectors often lie beside the images that they were made of.
    """
    from coview.data.parquet import holds_images

    for name in sorted(scan.parquet):
        if holds_images(root / name, beside_vectors=False):
            raise DataError(
                f"{root} has both {plural(len(scan.images), 'image')} and Parquet files of images; "
                f"give the one to read, such as '{root / name}'."
            )
    return scan


def _list_containers(root: Path, scan: FolderScan, options: SourceOptions, source: str) -> Listing:
    """A folder of Parquet files, or else of tar shards; of one part, if they are named by parts."""
    names, read, kind = sorted(scan.parquet), _list_parquet, "Parquet files"
    if not names:
        names, read, kind = sorted(scan.shards), _list_shards, "shards"
    parts = {part for name in names if (part := part_of_file(name))}
    part = ALL
    if parts:
        part = select_part(parts, options.split, for_test=options.for_test, source=str(root))
    selected = [name for name in names if part in (ALL, part_of_file(name))]
    listing = read([root / name for name in selected], options, source)
    note = (
        f"{root} has the parts {', '.join(sorted(parts))}: reading {part}, {len(selected):,} of "
        f"{len(names):,} {kind} (`split` selects another, or all)."
    )
    return replace(
        listing,
        notes=(
            *((note,) if len(selected) < len(names) else ()),
            *listing.notes,
            *scan.notes(root),
        ),
        unreadable=scan.unreadable_lines,
        parts=tuple(sorted(parts)),
    )


def _no_images(root: Path, source: str, scan: FolderScan) -> DataError:
    """The error for a folder without images, which says what is there instead."""
    if scan.unreadable:
        name, reason = scan.unreadable[0]
        return DataError(
            f"No images can be seen in {source}: {plural(len(scan.unreadable), 'place')} in it "
            f"cannot be read, such as {name} ({reason}); change the permissions, or mount it again."
        )
    count = scan.others.total()
    if source != str(root):
        return DataError(f"No image, no Parquet file and no tar matches {source}.")
    others = f", only {plural(count, 'other file')}" if count else ""
    kinds = "".join(f" {sentence}" for sentence in describe_others(scan.others))
    passed = [*scan.runs, *scan.services]
    within = f" The folder {passed[0]} was not looked into." if passed else ""
    return DataError(
        f"There are no images in the folder {source}{others}; expected files such as "
        f".jpg, .png, .webp or .tif, at any depth.{kinds}{within}"
    )


def _list_pattern(place: Place, options: SourceOptions) -> Listing:
    """What matches a pattern below the last folder without magic characters."""
    folder, pattern = split_pattern(place.path)
    base = place_of(folder)
    if not base.is_folder:
        raise refuse_place(base, ())
    return _list_folder(base.path, options, pattern, str(place.path))


def _list_files(places: Sequence[Place], options: SourceOptions, source: str) -> Listing:
    """Several files of one kind: Parquet, tar shards, or images, of which some may be missing."""
    kinds = {place.suffix for place in places}
    images = kinds <= readable_suffixes()
    for place in places:
        may_miss = images and place.kind is Kind.MISSING and len(places) > 1
        if not may_miss and (place.kind is not Kind.FILE or not _is_known(place.suffix)):
            raise refuse_place(place, ())
    paths = [place.path for place in places]
    if images:
        return read_files(paths, options, source=source)
    if kinds <= set(TABLES):
        return _list_parquet(paths, options, source)
    if kinds == {SHARD_SUFFIX}:
        return _list_shards(paths, options, source)
    raise DataError(
        f"The list has files of several kinds ({', '.join(sorted(kinds))}); give images, Parquet "
        "files or tar shards alone."
    )


def _is_known(suffix: str) -> bool:
    return suffix in readable_suffixes() or suffix in (*TABLES, SHARD_SUFFIX)


def _list_shards(paths: Sequence[Path], options: SourceOptions, source: str) -> Listing:
    return read_shards(paths, options, source=source)


def _list_parquet(paths: Sequence[Path], options: SourceOptions, source: str) -> Listing:
    from coview.data.parquet import read_parquet

    options.refuse("Parquet files", labels_from="folders", columns=False)
    return read_parquet(paths, options, source=source)
