"""Listing -> ImageStore: decode once, in the order of the listing for any number of threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.ahead import map_ahead
from coview.core.errors import DamagedFile, DataError, InvalidValue, UnreadableFile
from coview.core.files import digest, exists
from coview.core.images import ImageStore, pixel_hash
from coview.core.machine import cores, memory_bytes
from coview.core.progress import progress
from coview.core.text import byte_size, plural
from coview.data.cache import allowance, remove_unfinished
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import Decoded, DecodeSpec
from coview.data.listing import Content, Listing, Rejected, hash_lines
from coview.data.on_demand import OnDemand, encoded_bytes, encoded_size
from coview.data.pixels import FORMAT, DecodedPixels, PixelWriter, bytes_in_memory, load_pixels
from coview.data.rgb import MAX_DARK, REWRITE_COLORS, likely_white

MAX_UNUSABLE_SHARE = 0.01
"""A data set with a larger share of unusable images is refused."""
TOLERATED_UNUSABLE = 3
"""This many unusable images are skipped in any case, up to a tenth of a small data set."""
NAMED = 3
"""Unusable images that a sentence names."""


_CHUNK_IMAGES, _CHUNK_BYTES = 64, 1 << 18
_EARLY = 100

Chunk = list[tuple[int, Content]]
Result = list[tuple[int, Decoded | Rejected, int, int]]
"""Of each image its row, its pixels or why not, their hash, and its size before decoding."""


NO_CACHE = Path("none")
"""In place of a cache folder: no decoded pixels on disk; what does not fit into memory is decoded
again whenever it is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Where decoded pixels are kept, and whether many unusable images are tolerated.

    memory_share: the share of this machine's memory for the pixels of all stores that are open;
    more pixels go to a file in ``cache``, or nowhere if ``on_disk`` is False. workers: decoding
    threads; None: one per available core, at most eight.
    """

    memory_share: float
    cache: Path
    allow_broken: bool
    workers: int | None = None
    on_disk: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.memory_share <= 1:
            raise InvalidValue(f"`memory_share` is {self.memory_share}; expected 0 to 1.")
        if self.workers is not None and self.workers < 1:
            raise InvalidValue(f"`workers` is {self.workers}; expected at least 1.")

    @property
    def budget(self) -> int:
        """The bytes of memory for the pixels of one more store."""
        return max(0, int(memory_bytes() * self.memory_share) - bytes_in_memory())

    @property
    def allowance(self) -> int:
        """The bytes on disk for pixels."""
        return allowance(self.cache) if self.on_disk else 0


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
    if decoded is None or not _is_current(decoded, listing, spec, cache_policy):
        remove_unfinished(cache_policy.cache)
        size = None if decoded is None else decoded.decoded_bytes
        decoded = _decode_into_store(listing, rows, spec, cache_policy, folder, size)
    check_unusable(listing, decoded.rejected, len(rows), cache_policy.allow_broken)
    return make_store(listing, decoded, spec)


def _load_cached(folder: Path) -> DecodedPixels | None:
    """The pixels that an earlier call cached, or None if there are none or they are damaged."""
    try:
        return load_pixels(folder) if exists(folder) else None
    except (DamagedFile, UnreadableFile, OSError, KeyError, ValueError, TypeError):
        return None


def _is_current(
    decoded: DecodedPixels, listing: Listing, spec: DecodeSpec, cache_policy: CachePolicy
) -> bool:
    """Whether the cached pixels are those that decoding would give now, kept as they would be."""
    if decoded.on_demand:
        most = max(cache_policy.budget, cache_policy.allowance)
        is_needed = decoded.decoded_bytes > most
    else:
        is_needed = cache_policy.on_disk
    refused = [row for row, image in decoded.rejected if image.may_pass]
    with strict_pillow():
        contents = listing.contents(np.array(refused, np.int64)) if refused else ()
        return is_needed and all(
            isinstance(decode_image(content, spec), Rejected) for content, _ in contents
        )


def _decode_into_store(
    listing: Listing,
    rows: npt.NDArray[np.int64],
    spec: DecodeSpec,
    cache_policy: CachePolicy,
    folder: Path,
    size: int | None,
) -> DecodedPixels:
    images: list[tuple[int, ...]] = []
    rejected: list[tuple[int, Rejected]] = []
    levels: list[int] = []
    workers = cache_policy.workers or min(cores(), 8)
    start = time.perf_counter()
    with (
        PixelWriter(
            cache_policy.budget,
            folder,
            allowance=cache_policy.allowance,
            most_encoded=allowance(cache_policy.cache) if listing.is_sequential else 0,
            total=len(rows),
            size=size,
        ) as writer,
        progress("Decoding", len(rows)) as advance,
        contextlib.closing(decode_all(listing, rows, spec, workers)) as results,
    ):
        for result in results:
            for row, image, content, encoded in result:
                if isinstance(image, Rejected):
                    rejected.append((row, image))
                else:
                    place = writer.append(image.pixels, encoded)
                    images.append((row, place, image.height, image.width, content))
                    if image.highest >= 0:
                        levels.append(image.highest)
            advance(len(result))
            if len(rejected) > _EARLY:  # Stop early: more images cannot make it acceptable.
                check_unusable(
                    listing, rejected, len(rows), cache_policy.allow_broken, prefix="At least "
                )
        if not images:
            raise no_usable_image(listing, rejected)
        columns = np.array(images, dtype=np.int64)
        usable = columns[:, 0].copy()
        parts: dict[str, Any] = {}
        rate = len(rows) / (time.perf_counter() - start)
        if writer.on_demand and listing.is_sequential:
            contents = (encoded_bytes(content) for content, _ in listing.contents(usable))
            parts["offsets"] = writer.copy_encoded(contents)
        return writer.finish(
            f"{plural(len(usable), 'image')} of {listing.source}",
            rows=usable,
            starts=columns[:, 1].copy(),
            heights=columns[:, 2].astype(np.int32),
            widths=columns[:, 3].astype(np.int32),
            content=columns[:, 4].copy(),
            rejected=tuple(rejected),
            rate=rate,
            brightest=brightest_of(levels),
            **parts,
        )


def brightest_of(levels: Sequence[int]) -> int:
    """The level that 99 % of ``levels``, the highest of each image, do not exceed; -1 of none.

    So that one wrong image does not hide what the others are.

    >>> brightest_of([16] * 199 + [255]), brightest_of([16, 255]), brightest_of([])
    (16, 255, -1)
    """
    return int(np.quantile(levels, 0.99, method="higher")) if levels else -1


def notes_on_black(brightest: int) -> tuple[str, ...]:
    """A sentence where images of 16 bits, of which 99 % do not exceed this level, are too dark."""
    if not 0 <= brightest <= MAX_DARK:
        return ()
    return (
        "The images of 16 bits are nearly black: 99 % of them have no gray level above "
        f"{brightest} of 255. If they use fewer bits, set `white` to the value that means white, "
        f"perhaps {likely_white(brightest)}, if they are gray; {REWRITE_COLORS}.",
    )


def decode_all(
    listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec, workers: int
) -> Generator[Result]:
    """What :data:`Result` says of all rows in order, some of them at a time.

    A bounded number of images is in memory. The size before decoding is known of a source that is
    read in order, whose encoded images may have to be copied; 0 of others.
    """

    def decode_chunk(chunk: Chunk) -> Result:
        images = ((row, decode_image(content, spec), content) for row, content in chunk)
        return [
            (
                row, image, 0 if isinstance(image, Rejected) else pixel_hash(image.pixels),
                encoded_size(content) if listing.is_sequential else 0,
            )
            for row, image, content in images
        ]  # fmt: skip

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


def check_unusable(
    listing: Listing,
    rejected: Sequence[tuple[int, Rejected]],
    total: int,
    allow_broken: bool,
    prefix: str = "",
) -> None:
    """Raise DataError where more of ``total`` images are unusable than is tolerated."""
    tolerated = int(max(MAX_UNUSABLE_SHARE * total, min(TOLERATED_UNUSABLE, total // 10)))
    if allow_broken or len(rejected) <= tolerated:
        return
    if len(rejected) == total:  # skipping them would leave none
        raise no_usable_image(listing, rejected)
    count = len(rejected)
    limit = f", more than the {tolerated:,} that are skipped by default" if tolerated else ""
    listed = " (`coview doctor` lists them)" if count > NAMED else ""
    it = "it" if count == 1 else "them"
    raise DataError(
        f"{prefix}{count:,} of {plural(total, 'image')} in {listing.source} cannot be used{limit}: "
        f"{name_first(listing, rejected)}; repair or remove {it}{listed}, or skip {it} with "
        "`allow_broken`."
    )


def no_usable_image(listing: Listing, rejected: Sequence[tuple[int, Rejected]]) -> DataError:
    """The error where all images, or the only one, are unusable."""
    if len(listing.names) == 1:
        ((row, image),) = rejected
        return DataError(f"The image {listing.names[row]} cannot be used: {image.reason}.")
    return DataError(f"No image in {listing.source} is usable: {name_first(listing, rejected)}.")


def name_first(listing: Listing, rejected: Sequence[tuple[int, Rejected]]) -> str:
    """The first three unusable images, each with the reason."""
    shown = [f"{listing.names[row]} ({image.reason})" for row, image in rejected[:NAMED]]
    return ", ".join(shown) + (" ..." if len(rejected) > NAMED else "")


def _notes_of(decoded: DecodedPixels, spec: DecodeSpec) -> tuple[str, ...]:
    """What the user cannot know: that images are nearly black, and in which size and in which
    folder they are kept."""
    notes = list(notes_on_black(decoded.brightest))
    side = np.minimum(decoded.heights, decoded.widths).max()
    if spec.short_side is not None and side >= spec.short_side:
        notes.append(
            f"Images of a short side above {spec.short_side} px are kept at {spec.short_side} px."
        )
    if decoded.folder is not None and not decoded.on_demand:
        size = f"{decoded.pixels.nbytes / 1e6:,.0f} MB"
        notes.append(f"The decoded images, {size}, are kept in {decoded.folder} and reused.")
    return tuple(notes)


def _storage(decoded: DecodedPixels) -> str:
    """Where pixels are that are not in memory, in words."""
    if decoded.on_demand:
        copy = decoded.encoded
        source = (
            "" if copy is None else f", from {byte_size(copy.nbytes)} of encoded images on disk"
        )
        return f"decoded on demand at about {decoded.rate:,.0f} images/s{source}"
    return "" if decoded.folder is None else f"{byte_size(decoded.pixels.nbytes)} on disk"


def make_store(listing: Listing, decoded: DecodedPixels, spec: DecodeSpec) -> ImageStore:
    """The store of the usable rows of ``listing``, whose pixels are ``decoded``."""
    rows = decoded.rows
    on_demand = OnDemand(listing, spec, decoded) if decoded.on_demand else None
    return ImageStore(
        pixels=decoded.pixels, starts=decoded.starts if on_demand is None else np.arange(len(rows)),
        heights=decoded.heights, widths=decoded.widths, ids=listing.ids[rows],
        content=decoded.content,
        names=[listing.names[row] for row in rows.tolist()],
        labels=None if listing.labels is None else listing.labels[rows],
        class_names=listing.class_names, source=listing.source,
        quarantine=(
            *listing.unreadable,
            *((listing.names[row], image.reason) for row, image in decoded.rejected),
        ),
        notes=listing.notes + _notes_of(decoded, spec), parts=listing.parts,
        decoder=on_demand, kept=_storage(decoded), brightest=decoded.brightest,
    )  # fmt: skip
