"""Copies in data: a table, a page with pictures, and what to read first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import free_file
from coview.core.progress import progress, say
from coview.core.run_folder import RunFolder
from coview.core.text import plural
from coview.core.user_code import import_files
from coview.data.parts import part_of_file
from coview.data.scan import SHARD_SUFFIX, TABLES
from coview.data.sources import is_path
from coview.data.spec import DataSpec, data_settings, name_of
from coview.data.torchvision_sets import KNOWN_SETS
from coview.embeddings.duplicates import (
    SIMILAR,
    Group,
    Pair,
    equal_rows,
    find_pairs,
    group_column,
    group_pairs,
)
from coview.embeddings.signatures import Signatures, signatures
from coview.options import DuplicatesOptions
from coview.reports.duplicates import PAGE_GROUPS, SIDE, Copies, Copy, write_duplicates_page
from coview.reports.pictures import shrink
from coview.runs.data import say_source

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHOWN = 12
"""Images of a group on the page."""
GROUP = "duplicate_group"
"""The column of a table with the number of each image's group, from 1; 0 is none."""
NAMED = 3
"""Groups that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """The copies among images.

    ``groups``: those of contradicting labels first, then those that are in more than one part,
    then the others, most similar first; their rows count over all images. ``names``, ``classes``
    and ``parts`` are of each image: "" where unknown. ``sources``: the name of the data, and that
    of the test data where these were given.
    """

    groups: tuple[Group, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def column(self) -> npt.NDArray[np.int64]:
        """The number of the group of each image, from 1; 0 for an image without a copy."""
        return group_column(len(self.names), self.groups)

    @property
    def surplus(self) -> int:
        """The images that can go, if one of each group stays."""
        return sum(len(group.rows) - 1 for group in self.groups)

    def rows(self) -> list[dict[str, Any]]:
        """A flat dict for each image that has a copy, group by group."""
        return [
            {
                "duplicate_group": number,
                "name": self.names[row],
                "part": self.parts[row],
                "class": self.classes[row],
                "copy_of": self.names[_other(pair, row)],
                "similarity": round(pair.similarity, 4),
                "kind": pair.kind,
                "labels_contradict": group.contradicts,
                "leak": group.leaks,
            }
            for number, group in enumerate(self.groups, 1)
            for best in (group.best_pairs(),)
            for row in group.rows
            for pair in (best[row],)
        ]

    def to_table(self) -> pa.Table:
        """:meth:`rows` as an Arrow table."""
        import pyarrow as pa

        kinds = {
            "duplicate_group": pa.int64(), "similarity": pa.float64(),
            "labels_contradict": pa.bool_(), "leak": pa.bool_(),
        }  # fmt: skip
        names = (
            "duplicate_group", "name", "part", "class", "copy_of", "similarity", "kind",
            "labels_contradict", "leak",
        )  # fmt: skip
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
        return pa.Table.from_pylist(self.rows(), schema=schema)

    def sentences(self, *, examples: bool = True) -> Iterator[str]:
        """What a user should read, the worst first. ``examples``: name the first groups too."""
        wrong = [group for group in self.groups if group.contradicts]
        leaks = [group for group in self.groups if group.leaks]
        if wrong:
            yield (
                f"{plural(len(wrong), 'group')} of copies "
                f"{'has' if len(wrong) == 1 else 'have'} contradicting labels"
                f"{self._examples(wrong) if examples else ''}."
            )
        if leaks:
            yield (
                f"{plural(len(leaks), 'group')} of copies "
                f"{'is' if len(leaks) == 1 else 'are'} in {self._parts_in_words}"
                f"{self._examples(leaks) if examples else ''}. "
                "A test on such images measures memory."
            )
        if not leaks and len(set(self.parts)) > 1:
            names = sorted(set(self.parts))
            yield f"No image is in more than one part ({', '.join(names)})."
        images = plural(len(self.names), "image")
        if len(self.sources) > 1:
            images += f" of {' and '.join(self.sources)}"
        if not self.groups:
            yield f"No copies among {images}."
            return
        share = self.surplus / len(self.names)
        rest = [group for group in self.groups if not (group.contradicts or group.leaks)]
        shown = self._examples(rest) if rest and examples else ""
        surplus = plural(self.surplus, "surplus copy", "surplus copies")
        yield (
            f"{plural(len(self.groups), 'group')} of copies among {images}; {surplus} "
            f"({share:.1%}){shown}."
        )

    def _examples(self, groups: list[Group]) -> str:
        texts = []
        for group in groups[:NAMED]:
            pair = self._telling(group)
            one, two = (self._named(row) for row in (pair.first, pair.second))
            texts.append(f"{one} = {two} ({pair.kind})")
        more = len(groups) - NAMED
        return ": " + "; ".join(texts) + (f"; and {more:,} more" if more > 0 else "")

    @property
    def _parts_in_words(self) -> str:
        sources = self.sources
        return f"both {' and '.join(sources)}" if len(sources) > 1 else "more than one part"

    def _telling(self, group: Group) -> Pair:
        """The most similar pair that shows what is wrong with the group, if one does."""
        for values, wanted in ((self.classes, group.contradicts), (self.parts, group.leaks)):
            for pair in group.pairs if wanted else ():
                if values[pair.first] != values[pair.second]:
                    return pair
        return group.pairs[0]

    def _named(self, row: int) -> str:
        label = f" [{self.classes[row]}]" if self.classes[row] else ""
        return f"{self.names[row]}{label}"


def _other(pair: Pair, row: int) -> int:
    return pair.second if row == pair.first else pair.first


@takes(DuplicatesOptions)
def duplicates(options: DuplicatesOptions) -> Duplicates:
    """The copies among the images of ``data``, and between it and ``test``.

    Identical pixels, and images that are re-encoded, resized, cropped by up to 20 % of each side,
    flipped, brighter or darker, or marked. A table (.csv or .parquet) is written to ``out`` where
    given, and beside it a page with the pictures (.html), or the page alone.

    >>> import coview
    >>> result = coview.duplicates("scenes", limit=60)
    >>> len(result), result.surplus, result.column.tolist().count(0)
    (0, 0, 60)
    """
    import_files(options.import_)
    if not 0 < options.similarity <= 1:
        raise InvalidValue(
            f"`similarity` is {options.similarity:g}; expected a number above 0 and up to 1."
        )
    out = options.out
    sources = [options.data] if options.test is None else [options.data, options.test]
    stores = [_open(data, options, is_test=place > 0) for place, data in enumerate(sources)]
    for store in stores:
        say_source(store)
    if not any(map(len, stores)):
        raise DataError(f"{stores[0].source} holds no image that can be read.")
    result = duplicates_in(
        stores, source_names(sources), vectors=_vectors(options, stores, sources),
        threshold=options.similarity,
    )  # fmt: skip
    if out is not None:
        _write(result, stores, out, options)
    if options.with_ is not None:
        _mark_table(result, len(stores[0]), options)
    return result


def default_table(options: DuplicatesOptions) -> Path:
    """Where the command writes its table: a file named after the images, which replaces none.

    >>> default_table(DuplicatesOptions(data="photos/", test="holdout/", limit=800)).as_posix()
    'duplicates/photos-limit-800-and-holdout.csv'
    """
    from coview.runs.embed import part_name

    names = [part_name(options.data, options)]
    names += [] if options.test is None else [name_of(options.test)]
    return free_file(Path("duplicates") / f"{'-and-'.join(names)}.csv", ".html")


def duplicates_in(
    stores: list[ImageStore], sources: list[str], *, vectors: npt.NDArray[np.float32] | None,
    threshold: float = SIMILAR,
) -> Duplicates:  # fmt: skip
    """The copies among the images of one or two ``stores``, whose names are ``sources``.

    ``vectors``: of all images by an encoder, float32 [N, D], whose neighbors are compared as well.
    """
    images = _signatures_of(stores)
    content, heights, widths = (
        np.concatenate([getattr(store, name) for store in stores])
        for name in ("content", "heights", "widths")
    )
    pairs = find_pairs(
        images, exact=equal_rows(content, heights, widths),
        sizes=np.stack([heights, widths], axis=1), vectors=vectors, threshold=threshold,
    )  # fmt: skip
    return _grouped(pairs, stores, sources)


def _open(data: Any, options: DuplicatesOptions, *, is_test: bool) -> ImageStore:
    """The images: of data with parts all of them, or with ``test`` the part of its kind."""
    spec = DataSpec.of(data, options, needs_labels=None)
    if is_test:
        return spec.tests().open(data)
    if options.split is not None or options.test is not None:
        return spec.open(data)
    try:
        return replace(spec, split="all").open(data)
    except (InvalidValue, UnknownName):  # a source without parts, before any image is read
        return spec.open(data)


def source_names(sources: list[Any]) -> list[str]:
    """The name of each source; of equal names the paths, and "data" and "test" of images in memory.

    >>> source_names(["photos", "holdout"]), source_names(["a/photos", "b/photos"])
    (['photos', 'holdout'], ['a/photos', 'b/photos'])
    """
    names = [name_of(data) for data in sources]
    if len(set(names)) == len(names):
        return names
    paths = [str(data) for data in sources if is_path(data)]
    return paths if len(set(paths)) == len(names) else ["data", "test"]


def _signatures_of(stores: list[ImageStore]) -> Signatures:
    with progress("Reading images", sum(map(len, stores))) as advance:
        parts = [signatures(store, advance) for store in stores]
    return parts[0] if len(parts) == 1 else parts[0].followed_by(parts[1])


def _grouped(pairs: list[Pair], stores: list[ImageStore], sources: list[str]) -> Duplicates:
    names: list[str] = []
    classes: list[str] = []
    parts: list[str] = []
    distinct = len(stores) > 1
    for store, source in zip(stores, sources, strict=True):
        names += store.names
        labels = [-1] * len(store) if store.labels is None else store.labels.tolist()
        known = store.class_names
        classes += [
            "" if label < 0 else known[label] if label < len(known) else str(label)
            for label in labels
        ]
        own = [_part_of_name(name) for name in store.names] if store.parts else [""] * len(store)
        parts += [source] * len(store) if distinct else own
    # Classes are compared by name: two sources number them differently.
    number = {name: place for place, name in enumerate(sorted(set(classes) - {""}))}
    part_number = {name: place for place, name in enumerate(sorted(set(parts)))}
    groups = group_pairs(
        len(names), pairs,
        labels=np.array([number.get(name, -1) for name in classes], np.int64),
        parts=np.array([part_number[name] for name in parts], np.int64),
    )  # fmt: skip
    return Duplicates(
        groups=tuple(groups), names=tuple(names), classes=tuple(classes), parts=tuple(parts),
        sources=tuple(sources),
    )  # fmt: skip


def _part_of_name(name: str) -> str:
    """The part of an image of a source with parts: its first folder, that of its Parquet or tar
    file, or of a set with a name; "" where the name says none.

    >>> _part_of_name("test/cats/1.jpg"), _part_of_name("data/train-00000-of-00002.parquet#17")
    ('test', 'train')
    >>> _part_of_name("cifar10:train#17")
    'train'
    """
    file = name.partition("#")[0]
    known, _, part = file.partition(":")
    if known in KNOWN_SETS:
        return part
    if file.lower().endswith((*TABLES, SHARD_SUFFIX)):
        return part_of_file(file) or ""
    return name.partition("/")[0] if "/" in name else ""


def _vectors(
    options: DuplicatesOptions, stores: list[ImageStore], sources: list[Any]
) -> npt.NDArray[np.float32] | None:
    """The vectors of all images by the encoder of ``with_``; None without one."""
    if options.with_ is None:
        return None
    from coview.runs.load import say_verdict

    say_verdict(options.with_)
    of_tests = replace(options, split=None, limit=None)
    parts = [
        _kept_vectors(of_tests if place else options, store, data)
        for place, (store, data) in enumerate(zip(stores, sources, strict=True))
    ]
    return np.concatenate(parts).astype(np.float32)


def _kept_vectors(
    options: DuplicatesOptions, store: ImageStore, data: Any
) -> npt.NDArray[np.float32]:
    """The vectors of the images of ``store``, as `coview embed` keeps them. Those of the part that
    is tested on by default, which that does not take, are computed here."""
    from coview.evaluation import extract
    from coview.runs.embed import embeddings_of
    from coview.runs.load import load_subject
    from coview.runs.subjects import on_device
    from coview.training import choose_device

    settings = data_settings(options)
    if len(store.parts) > 1:
        settings["split"] = "all"
    table = embeddings_of(
        options.with_, data, device=options.device, import_=options.import_, **settings
    )
    row_of = {number: row for row, number in enumerate(table.ids.tolist())}
    rows = [row_of.get(number, -1) for number in store.ids.tolist()]
    if min(rows, default=-1) >= 0:
        return table.vectors("h")[rows]
    device = choose_device(options.device)
    subject = on_device(load_subject(str(options.with_), None), device)
    features = extract(subject, store, device=device, layers=("h",), label="Embedding")
    vectors: npt.NDArray[np.float32] = features.layers["h"].numpy()
    return vectors


def _mark_table(result: Duplicates, images: int, options: DuplicatesOptions) -> None:
    """Write the groups of the first ``images`` into the tables of them that the run keeps."""
    from coview.embeddings.table import EmbeddingTable
    from coview.runs.embed_job import source_text, tables_of

    group = dict(zip(result.names[:images], result.column[:images].tolist(), strict=True))
    folder = RunFolder(local_path(str(options.with_))).embeddings_path
    for path in tables_of(folder, source_text(options.data)):
        table = EmbeddingTable.open(path)
        if group.keys() >= set(table.names):  # else nothing is known of some
            column = np.array([group[name] for name in table.names], np.int64)
            table.with_columns({GROUP: column}).write(path)
            say(f"The groups are in {path} as well, for coview browse.", detail=True)


def _write(
    result: Duplicates, stores: list[ImageStore], out: Path, options: DuplicatesOptions
) -> None:
    table = result.to_table()
    if out.suffix.lower() in (".csv", ".parquet"):
        from coview.runs.embed import write_table

        write_table(table, out)
    page = out.with_suffix(".html")
    starts = np.cumsum([0, *map(len, stores)])

    def picture(row: int) -> npt.NDArray[np.uint8]:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        return shrink(stores[place].image(row - int(starts[place])), SIDE, enlarge=True)

    copies = [
        Copies(
            contradicts=group.contradicts, leaks=group.leaks, similarity=group.similarity,
            number=number,
            images=tuple(
                Copy(
                    name=result.names[row], label=result.classes[row], part=result.parts[row],
                    similarity=best[row].similarity, kind=best[row].kind, pixels=picture(row),
                )
                for row in group.rows[:MAX_SHOWN]
            ),
            left_out=max(0, len(group.rows) - MAX_SHOWN),
        )
        for number, group in enumerate(result.groups[:PAGE_GROUPS], 1)
        for best in (group.best_pairs(),)
    ]  # fmt: skip
    write_duplicates_page(
        page, copies, sentences=list(result.sentences(examples=False)), number=len(result.groups),
        title=" and ".join(result.sources),
        encoder=None if options.with_ is None else str(options.with_),
    )  # fmt: skip
    say(f"Page: {page}" if page == out else f"Table: {out}; page with the pictures: {page}")
