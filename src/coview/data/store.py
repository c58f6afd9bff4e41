"""Listing -> ImageStore: decode once, in the order of the listing for any number of threads."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.ahead import map_ahead
from coview.core.errors import DamagedFile, DataError, InvalidValue
from coview.core.files import digest
from coview.core.images import ImageStore, pixel_hash
from coview.core.machine import cores, memory_bytes
from coview.core.progress import progress
from coview.data.decode import Decoded, DecodeSpec, decode_image, strict_pillow
from coview.data.listing import Content, Listing, Rejected, hash_lines
from coview.data.pixels import FORMAT, DecodedPixels, PixelWriter, load_pixels

MAX_UNUSABLE_SHARE = 0.01
"""A data set with a larger share of unusable images is refused."""
TOLERATED_UNUSABLE = 3
"""This many unusable images are skipped in any case, up to a tenth of a small data set."""

_CHUNK_IMAGES, _CHUNK_BYTES = 64, 1 << 18
_EARLY = 100

Chunk = list[tuple[int, Content]]
Result = list[tuple[int, Decoded | Rejected, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Where decoded pixels are kept, and whether many unusable images are tolerated.

    memory_share: the share of this machine's memory for pixels; more pixels go to a file in
    ``cache``. workers: decoding threads; None: one per available core, at most eight.
    """

    memory_share: float
    cache: Path
    allow_broken: bool
    workers: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.memory_share <= 1:
            raise InvalidValue(f"`memory_share` is {self.memory_share}; expected 0 to 1.")
        if self.workers is not None and self.workers < 1:
            raise InvalidValue(f"`workers` is {self.workers}; expected at least 1.")


def build_store(
    listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec, cache_policy: CachePolicy
) -> ImageStore:
    """The store of the given rows of ``listing``, in that order, without unusable images.

    Raises DataError if more than 1 % are unusable (of few images: more than three or a tenth),
    unless allowed, or if all are.
    """
    key = hash_lines([FORMAT, listing.stamp, repr(asdict(spec)), digest(rows.tobytes())])
    folder = cache_policy.cache / "stores" / key
    decoded = _load_cached(folder)
    if decoded is None:
        decoded = _decode_into_store(listing, rows, spec, cache_policy, folder)
    _check_unusable(listing, decoded.rejected, len(rows), cache_policy.allow_broken)
    return _make_store(listing, decoded, _storage_notes(decoded, spec))


def _load_cached(folder: Path) -> DecodedPixels | None:
    """The pixels that an earlier call cached, or None if there are none or they are damaged."""
    if not folder.is_dir():
        return None
    try:
        return load_pixels(folder)
    except (DamagedFile, OSError, KeyError, ValueError):
        return None


def _decode_into_store(
    listing: Listing,
    rows: npt.NDArray[np.int64],
    spec: DecodeSpec,
    cache_policy: CachePolicy,
    folder: Path,
) -> DecodedPixels:
    budget = int(memory_bytes() * cache_policy.memory_share)
    images: list[tuple[int, ...]] = []
    rejected: list[tuple[int, str]] = []
    workers = cache_policy.workers or min(cores(), 8)
    with (
        PixelWriter(budget, folder) as writer,
        progress("Decoding", len(rows)) as advance,
        contextlib.closing(_decode_all(listing, rows, spec, workers)) as results,
    ):
        for result in results:
            for row, image, content in result:
                if isinstance(image, Rejected):
                    rejected.append((row, image.reason))
                else:
                    start = writer.append(image.pixels)
                    images.append((row, start, image.height, image.width, content))
            advance(len(result))
            if len(rejected) > _EARLY:  # Stop early: more images cannot make it acceptable.
                _check_unusable(
                    listing, rejected, len(rows), cache_policy.allow_broken, prefix="At least "
                )
        if not images:
            raise DataError(
                f"No image in {listing.source} is usable: {_name_first(listing, rejected)}."
            )
        columns = np.array(images, dtype=np.int64)
        return writer.finish(
            rows=columns[:, 0].copy(),
            starts=columns[:, 1].copy(),
            heights=columns[:, 2].astype(np.int32),
            widths=columns[:, 3].astype(np.int32),
            content=columns[:, 4].copy(),
            rejected=tuple(rejected),
        )


def _decode_all(
    listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec, workers: int
) -> Generator[Result]:
    """The results of all rows in order, with a bounded number of images in memory."""

    def decode_chunk(chunk: Chunk) -> Result:
        images = ((row, decode_image(content, spec)) for row, content in chunk)
        return [
            (row, image, 0 if isinstance(image, Rejected) else pixel_hash(image.pixels))
            for row, image in images
        ]

    with strict_pillow():
        yield from map_ahead(
            decode_chunk, _chunks(listing, rows), workers, most=2 * workers + 1, name="decode"
        )


def _chunks(listing: Listing, rows: npt.NDArray[np.int64]) -> Iterator[Chunk]:
    """Many small images or one large image per task: a task costs more than a tiny image."""
    chunk: Chunk = []
    pending = 0
    for row, (content, size) in zip(rows.tolist(), listing.contents(rows), strict=True):
        chunk.append((row, content))
        pending += size
        if len(chunk) == _CHUNK_IMAGES or pending >= _CHUNK_BYTES:
            yield chunk
            chunk, pending = [], 0
    if chunk:
        yield chunk


def _check_unusable(
    listing: Listing,
    rejected: Sequence[tuple[int, str]],
    total: int,
    allow_broken: bool,
    prefix: str = "",
) -> None:
    tolerated = int(max(MAX_UNUSABLE_SHARE * total, min(TOLERATED_UNUSABLE, total // 10)))
    if allow_broken or len(rejected) <= tolerated:
        return
    raise DataError(
        f"{prefix}{len(rejected):,} of {total:,} images in {listing.source} are unusable, more "
        f"than the {tolerated:,} that are skipped by default: {_name_first(listing, rejected)}; "
        "repair or remove them (`coview doctor` lists them), or skip them with `allow_broken`."
    )


def _name_first(listing: Listing, rejected: Sequence[tuple[int, str]]) -> str:
    shown = [f"{listing.names[row]} ({reason})" for row, reason in rejected[:3]]
    return ", ".join(shown) + (" ..." if len(rejected) > 3 else "")


def _storage_notes(decoded: DecodedPixels, spec: DecodeSpec) -> tuple[str, ...]:
    """In which size and in which folder the images are kept, if the user cannot know."""
    notes = []
    side = np.minimum(decoded.heights, decoded.widths).max()
    if spec.short_side is not None and side >= spec.short_side:
        notes.append(
            f"Images of a short side above {spec.short_side} px are kept at {spec.short_side} px."
        )
    if decoded.folder is not None:
        size = f"{decoded.pixels.nbytes / 1e6:,.0f} MB"
        notes.append(f"The decoded images, {size}, are kept in {decoded.folder} and reused.")
    return tuple(notes)


def _make_store(listing: Listing, decoded: DecodedPixels, notes: tuple[str, ...]) -> ImageStore:
    rows = decoded.rows
    return ImageStore(
        pixels=decoded.pixels, starts=decoded.starts, heights=decoded.heights,
        widths=decoded.widths, ids=listing.ids[rows], content=decoded.content,
        names=[listing.names[row] for row in rows.tolist()],
        labels=None if listing.labels is None else listing.labels[rows],
        class_names=listing.class_names, source=listing.source,
        quarantine=(
            *listing.unreadable,
            *((listing.names[row], reason) for row, reason in decoded.rejected),
        ),
        notes=listing.notes + notes, parts=listing.parts,
    )  # fmt: skip
