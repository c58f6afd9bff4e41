"""Listing -> ImageStore: decode once, in the order of the listing whatever the threads do."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import DamagedFile, DataError, InvalidValue
from coview.core.files import digest
from coview.core.images import ImageStore
from coview.core.machine import cores, memory_bytes
from coview.core.progress import progress, say
from coview.data.decode import Decoded, DecodeSpec, decode, strict_pillow
from coview.data.listing import Content, Listing, Rejected, stamp_of
from coview.data.pixels import FORMAT, DecodedPixels, PixelWriter, load

CEILING = 0.01
"""The share of unusable images above which a data set is refused."""
BEARABLE = 3
"""As many are left out even where they are more than that, up to a tenth of a small data set."""

_CHUNK_IMAGES, _CHUNK_BYTES = 64, 1 << 18
_EARLY = 100

Chunk = list[tuple[int, Content]]
Result = list[tuple[int, Decoded | Rejected]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Where decoded pixels may go and what is tolerated.

    memory_share: the share of this machine's memory that may be filled before a file in ``cache``
    is used instead. workers: decoding threads; None: one per available core, at most eight.
    """

    memory_share: float
    cache: Path
    allow_broken: bool
    workers: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.memory_share <= 1:
            raise InvalidValue(f"memory_share is {self.memory_share}; expected 0 to 1.")
        if self.workers is not None and self.workers < 1:
            raise InvalidValue(f"workers is {self.workers}; expected at least 1.")


def build(
    listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec, cache_policy: CachePolicy
) -> ImageStore:
    """The store of the given rows of ``listing``, in that order, without the unusable ones.

    Raises DataError where more than 1 % cannot be used (of few images: more than three or a tenth),
    unless allowed, or none can.
    """
    folder = cache_policy.cache / "stores" / _key(listing, rows, spec)
    filled = _kept(folder)
    if filled is None:
        filled = _fill(listing, rows, spec, cache_policy, folder)
    _check_broken(listing, filled.rejected, len(rows), cache_policy.allow_broken)
    _say_what_is_kept(filled, spec)
    return _store(listing, filled)


def _key(listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec) -> str:
    return stamp_of([FORMAT, listing.stamp, repr(asdict(spec)), digest(rows.tobytes())])


def _kept(folder: Path) -> DecodedPixels | None:
    """The store that an earlier open left, or None where there is no whole one."""
    if not folder.is_dir():
        return None
    try:
        return load(folder)
    except (DamagedFile, OSError, KeyError, ValueError):
        return None


def _fill(
    listing: Listing,
    rows: npt.NDArray[np.int64],
    spec: DecodeSpec,
    cache_policy: CachePolicy,
    folder: Path,
) -> DecodedPixels:
    budget = int(memory_bytes() * cache_policy.memory_share)
    kept: list[tuple[int, int, int, int]] = []
    rejected: list[tuple[int, str]] = []
    workers = cache_policy.workers or min(cores(), 8)
    with (
        PixelWriter(budget, folder) as writer,
        progress("Decoding", len(rows)) as advance,
        contextlib.closing(_decode_all(listing, rows, spec, workers)) as results,
    ):
        for result in results:
            for row, image in result:
                if isinstance(image, Rejected):
                    rejected.append((row, image.reason))
                else:
                    kept.append((row, writer.append(image.pixels), image.height, image.width))
            advance(len(result))
            if len(rejected) > _EARLY:  # A hopeless source need not be read to its end.
                _check_broken(
                    listing, rejected, len(rows), cache_policy.allow_broken, sofar="At least "
                )
        if not kept:
            raise DataError(f"No image in {listing.source} can be used: {_few(listing, rejected)}.")
        columns = np.array(kept, dtype=np.int64)
        return writer.finish(
            rows=columns[:, 0].copy(),
            starts=columns[:, 1].copy(),
            heights=columns[:, 2].astype(np.int32),
            widths=columns[:, 3].astype(np.int32),
            rejected=tuple(rejected),
        )


def _decode_all(
    listing: Listing, rows: npt.NDArray[np.int64], spec: DecodeSpec, workers: int
) -> Generator[Result]:
    """The results of all rows in order; a bounded number of images is under way."""
    waiting: deque[Future[Result]] = deque()
    with strict_pillow(), ThreadPoolExecutor(workers, "coview-decode") as pool:
        try:
            for chunk in _chunks(listing, rows):
                waiting.append(pool.submit(_decode_chunk, chunk, spec))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_chunk(chunk: Chunk, spec: DecodeSpec) -> Result:
    return [(row, decode(content, spec)) for row, content in chunk]


def _chunks(listing: Listing, rows: npt.NDArray[np.int64]) -> Iterator[Chunk]:
    """Many small images or one large image at a time: threads cost more than a tiny image."""
    chunk: Chunk = []
    held = 0
    for row, (content, size) in zip(rows.tolist(), listing.contents(rows), strict=True):
        chunk.append((row, content))
        held += size
        if len(chunk) == _CHUNK_IMAGES or held >= _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _check_broken(
    listing: Listing,
    rejected: tuple[tuple[int, str], ...] | list[tuple[int, str]],
    total: int,
    allow_broken: bool,
    sofar: str = "",
) -> None:
    bearable = int(max(CEILING * total, min(BEARABLE, total // 10)))
    if allow_broken or len(rejected) <= bearable:
        return
    raise DataError(
        f"{sofar}{len(rejected):,} of {total:,} images in {listing.source} cannot be used, more "
        f"than the {bearable:,} that are left out without a question: {_few(listing, rejected)}; "
        "mend or remove them (coview doctor lists them), or go on without them with --allow-broken "
        "(allow_broken=True)."
    )


def _few(listing: Listing, rejected: tuple[tuple[int, str], ...] | list[tuple[int, str]]) -> str:
    shown = [f"{listing.names[row]} ({reason})" for row, reason in rejected[:3]]
    return ", ".join(shown) + (" ..." if len(rejected) > 3 else "")


def _say_what_is_kept(filled: DecodedPixels, spec: DecodeSpec) -> None:
    side = np.minimum(filled.heights, filled.widths).max()
    if spec.short_side is not None and side >= spec.short_side:
        say(f"Images of a short side above {spec.short_side} px are kept at {spec.short_side} px.")
    if filled.folder is not None:
        size = f"{filled.pixels.nbytes / 1e6:,.0f} MB"
        say(f"The decoded images, {size}, are kept in {filled.folder} and reused.")


def _store(listing: Listing, filled: DecodedPixels) -> ImageStore:
    rows = filled.rows
    return ImageStore(
        pixels=filled.pixels,
        starts=filled.starts,
        heights=filled.heights,
        widths=filled.widths,
        ids=listing.ids[rows],
        names=[listing.names[row] for row in rows.tolist()],
        labels=None if listing.labels is None else listing.labels[rows],
        class_names=listing.class_names,
        source=listing.source,
        quarantine=tuple((listing.names[row], reason) for row, reason in filled.rejected),
    )
