"""The images of a source, decoded part by part: memory does not grow with their number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.data.arrays import read_store
from coview.data.decode_spec import MAX_PIXELS, Decoded, DecodeSpec
from coview.data.listing import Listing, Rejected, hash_lines, select_rows
from coview.data.on_demand import OnDemand
from coview.data.pixels import FORMAT, DecodedPixels
from coview.data.sources import (
    SCENES,
    check_selection,
    list_source,
    open_scenes,
    read_options,
)
from coview.data.store import (
    brightest_of,
    check_unusable,
    decode_all,
    make_store,
    no_usable_image,
    notes_on_black,
)

Rows = npt.NDArray[np.int64]

PART_BYTES = 64 << 20
"""Decoded pixels of one part, in bytes; the image that exceeds it is the last of its part."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageStream:
    """N images in the order of their names, listed; :meth:`parts` decodes them.

    ``decoding`` names how pixels are made of files: rows with an equal stamp (:attr:`stamps`) and
    an equal ``decoding`` have equal pixels. ``unusable``, and ``levels`` of images of 16 bits
    (:attr:`Decoded.highest`), grow while images are decoded.
    Shapes: ids int64 [N]; labels int64 [N], -1 unknown, or None; stamps int64 [N], or None.

    >>> stream = open_stream("scenes", limit=5, short_side=8, labels_from="auto")
    >>> [rows.tolist() for rows, part in stream.parts(np.arange(5), most=2)]
    [[0, 1], [2, 3], [4]]
    """

    listing: Listing
    rows: Rows
    spec: DecodeSpec
    workers: int
    allow_broken: bool = False
    unusable: list[tuple[int, Rejected]] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def source(self) -> str:
        return self.listing.source

    @property
    def ids(self) -> Rows:
        return self.listing.ids[self.rows]

    @property
    def labels(self) -> Rows | None:
        return None if self.listing.labels is None else self.listing.labels[self.rows]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.listing.class_names

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.listing.notes, *notes_on_black(brightest_of(self.levels)))

    @property
    def stamps(self) -> Rows | None:
        return None if self.listing.stamps is None else self.listing.stamps[self.rows]

    @property
    def decoding(self) -> str:
        return hash_lines([FORMAT, repr(asdict(self.spec))])

    @property
    def quarantine(self) -> tuple[tuple[str, str], ...]:
        """(name, reason) of unreadable places and of the unusable images among those decoded."""
        names = self.listing.names
        return (
            *self.listing.unreadable,
            *((names[row], image.reason) for row, image in sorted(self.unusable, key=_row)),
        )

    def name(self, row: int) -> str:
        return self.listing.names[int(self.rows[row])]

    def path(self, row: int) -> Path | None:
        """The file of an image; None where it is no file of its own."""
        path_of = self.listing.path_of
        return None if path_of is None else path_of(int(self.rows[row]))

    def parts(self, rows: Rows, *, most: int = 256) -> Iterator[tuple[Rows, ImageStore]]:
        """Ascending ``rows`` part by part, with a store of at most ``most`` images or about 64 MB.

        Unusable images are left out. Raises DataError where they are too many, as
        :func:`coview.data.open_images` does.
        """
        chosen = self.rows[rows]
        images: list[tuple[int, Decoded, int]] = []
        size = 0
        with contextlib.closing(
            decode_all(self.listing, chosen, self.spec, self.workers)
        ) as results:
            for result in results:
                for row, image, content, _ in result:
                    if isinstance(image, Rejected):
                        self.unusable.append((row, image))
                        continue
                    if image.highest >= 0:
                        self.levels.append(image.highest)
                    images.append((row, image, content))
                    size += len(image.pixels)
                    if len(images) == most or size >= PART_BYTES:
                        yield self._part(images)
                        images, size = [], 0
        if images:
            yield self._part(images)

    def store(self, rows: Rows, heights: Rows, widths: Rows, content: Rows) -> ImageStore:
        """A store of rows that were decoded before; each is decoded again when it is asked for.
        One that cannot be read is refused at once, for somebody waits for it.

        ``heights``, ``widths`` and ``content`` (the :func:`pixel_hash`) are those of the rows, [N].
        For sources whose images are files of their own: of others a single image takes long.

        >>> stream = open_stream("scenes", limit=5, short_side=8)
        >>> ((rows, part),) = stream.parts(np.arange(5))
        >>> again = stream.store(rows[3:], part.heights[3:], part.widths[3:], part.content[3:])
        >>> again.names == part.names[3:], np.array_equal(again.image(1), part.image(4))
        (True, True)
        """
        decoded = DecodedPixels(
            pixels=np.zeros((0, 4), np.uint8), rows=self.rows[rows], starts=np.arange(len(rows)),
            heights=heights.astype(np.int32), widths=widths.astype(np.int32), content=content,
            rejected=(), on_demand=True,
        )  # fmt: skip
        decoder = OnDemand(self.listing, self.spec, decoded, pauses=())
        return replace(make_store(self.listing, decoded, self.spec), decoder=decoder)

    def check(self, prefix: str = "") -> None:
        """Raise DataError where too many images are unusable, or all. ``prefix``: of the sentence,
        where not all are decoded."""
        check_unusable(self.listing, self.unusable, len(self), self.allow_broken, prefix)
        if len(self.unusable) == len(self):
            raise no_usable_image(self.listing, self.unusable)

    def _part(self, images: list[tuple[int, Decoded, int]]) -> tuple[Rows, ImageStore]:
        rows = np.array([row for row, _, _ in images], dtype=np.int64)
        heights = np.array([image.height for _, image, _ in images], dtype=np.int32)
        widths = np.array([image.width for _, image, _ in images], dtype=np.int32)
        pixels = [np.frombuffer(image.pixels, np.uint8).reshape(-1, 4) for _, image, _ in images]
        listing = self.listing
        store = ImageStore(
            pixels=np.concatenate(pixels), heights=heights, widths=widths, ids=listing.ids[rows],
            starts=np.cumsum([0, *map(len, pixels[:-1])], dtype=np.int64),
            content=np.array([content for _, _, content in images], dtype=np.int64),
            names=[listing.names[row] for row in rows.tolist()],
            labels=None if listing.labels is None else listing.labels[rows],
            class_names=listing.class_names, source=listing.source,
        )  # fmt: skip
        return np.searchsorted(self.rows, rows), store


def _row(entry: tuple[int, Rejected]) -> int:
    return entry[0]


def open_stream(
    source: Any, *, short_side: int | None = None, limit: int | None = None, seed: int = 0,
    labels_from: str | None = None, allow_broken: bool = False, workers: int | None = None,
    **options: Any,
) -> ImageStream:  # fmt: skip
    """The images of ``source``, listed and not yet decoded; arguments as for `open_images`.

    Nothing is kept in the cache. Raises as :func:`coview.data.open_images`, but for unusable
    images, which show when they are decoded.

    >>> open_stream("scenes", limit=3, short_side=8).name(0)
    'scenes/train/0/000000'
    """
    source_options, spec, policy = read_options(
        short_side=short_side, labels_from=labels_from, allow_broken=allow_broken, workers=workers,
        **{**DEFAULTS, **options},
    )  # fmt: skip
    check_selection(limit, seed)
    if isinstance(source, str) and source in SCENES:
        listing = read_store(open_scenes(source, source_options, limit, short_side, seed))
    else:
        listing = list_source(source, source_options)
    return ImageStream(
        listing=listing, rows=select_rows(listing, limit, seed), spec=spec,
        workers=policy.workers or min(cores(), 8), allow_broken=allow_broken,
    )  # fmt: skip


DEFAULTS: dict[str, Any] = {
    "memory_share": 0.25, "download": False, "split": None, "cache": None,
    "max_pixels": MAX_PIXELS, "white": None, "image_column": None, "label_column": None,
    "root": None, "needs_labels": None, "for_test": False,
}  # fmt: skip
