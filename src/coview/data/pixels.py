"""Storage of decoded pixels: memory while they fit, then one file, then none at all."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from coview.core.errors import DamagedFile, DataError, StorageError
from coview.core.files import (
    digest,
    read_json,
    storage_errors,
    sync_folder,
    write_bytes,
    write_json,
)
from coview.core.progress import say
from coview.core.text import byte_size
from coview.data.cache import LIMIT_VARIABLE, make_room, part_folder
from coview.data.listing import Rejected

FORMAT = "coview-store-5"
_GROWTH = 1.25
_UNSURE = 1.25
"""The encoded images that are still to come may be smaller by this factor than those before."""
_IN_MEMORY: weakref.WeakValueDictionary[int, npt.NDArray[np.uint8]] = weakref.WeakValueDictionary()
"""The decoded pixels that stores of this process hold in memory, by the id of the array."""


def bytes_in_memory() -> int:
    """The bytes of decoded pixels that open stores of this process hold in memory."""
    return sum(pixels.nbytes for pixels in list(_IN_MEMORY.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedPixels:
    """The pixels of the usable rows of a listing, the rejected rows, and the folder of the pixels.

    ``folder`` is None for pixels in memory. ``on_demand``: no pixels are kept; ``encoded`` are the
    bytes of the encoded images where their source cannot be read row by row, image k from
    ``offsets[k]`` to ``offsets[k + 1]``. ``rate``: images decoded per second.
    ``brightest``: the gray level that 99 % of the images of 16 bits do not exceed whose white is
    not known; -1 without such images.
    Shapes: pixels uint8 [P, 4]; rows, starts int64 [N]; heights, widths int32 [N]; content int64
    [N], the hash of each image's pixels; offsets int64 [N + 1] or [0].
    """

    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    content: npt.NDArray[np.int64]
    rejected: tuple[tuple[int, Rejected], ...]
    folder: Path | None = None
    on_demand: bool = False
    rate: float = 0.0
    brightest: int = -1
    encoded: npt.NDArray[np.uint8] | None = None
    offsets: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def decoded_bytes(self) -> int:
        """The bytes that all pixels take when they are decoded."""
        return 4 * int((self.heights.astype(np.int64) * self.widths).sum())


class PixelWriter:
    """Images appended one after another: in memory up to ``budget`` bytes, then in ``folder`` up to
    ``allowance`` bytes. What fits neither is not kept: the images are decoded on demand.

    most_encoded: the bytes that encoded images may take, which are copied once the decoded ones are
    not kept. total: the number of images to come, by which the size of all of them is estimated
    before a file is begun, unless their ``size`` is known. Use as a context manager: leaving it
    without :meth:`finish` removes all files.
    """

    def __init__(
        self, budget: int, folder: Path, *, allowance: int, total: int, most_encoded: int = 0,
        size: int | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.length, self.count = 0, 0
        self._encoded, self._most_encoded = 0, most_encoded
        self.on_demand = False
        self._budget, self._allowance, self._total, self._size = budget, allowance, total, size
        self._memory = np.empty((0, 4), dtype=np.uint8)
        self._stack = contextlib.ExitStack()
        self._part: Path | None = None
        self._stream: BinaryIO | None = None

    def __enter__(self) -> PixelWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def append(self, pixels: bytes | memoryview, encoded: int = 0) -> int:
        """Add one image (4 bytes a pixel); returns its start, counted in pixels. ``encoded``: its
        bytes before decoding, where they would have to be copied.

        Raises DataError once the encoded images have no place either.
        """
        start, self.length = self.length, self.length + len(pixels) // 4
        self.count += 1
        self._encoded += encoded
        if self.on_demand:
            self._check_encoded(self._encoded)
            return start
        if self._stream is None and 4 * self.length > self._budget:
            self._leave_memory(start)
        elif self._stream is not None and 4 * self.length > self._allowance:
            self._give_up(
                f"The decoded pixels take more than the {byte_size(self._allowance)} of the cache"
            )
        if self._stream is not None:
            try:
                self._stream.write(pixels)
            except OSError as error:
                self._give_up(f"The disk refuses the decoded pixels ({error.strerror})")
        elif not self.on_demand:
            if self.length > len(self._memory):
                # In place if the system can, so that there is no second copy of the images.
                capacity = max(self.length, int(len(self._memory) * _GROWTH))
                self._memory.resize((capacity, 4), refcheck=False)
            self._memory[start : self.length] = np.frombuffer(pixels, np.uint8).reshape(-1, 4)
        return start

    def copy_encoded(self, contents: Iterable[bytes]) -> npt.NDArray[np.int64]:
        """Keep the encoded images of a source that cannot be read row by row; their offsets.

        Raises DataError where they take too many bytes, and StorageError.
        """
        offsets = [0]
        with storage_errors(self.folder):
            make_room(self.folder.parents[1], self._encoded)
            part = self._open_part()
            with (part / "encoded.bin").open("wb") as stream:
                for content in contents:
                    stream.write(content)
                    offsets.append(offsets[-1] + len(content))
                    self._check_encoded(offsets[-1])
        return np.array(offsets, dtype=np.int64)

    def finish(self, description: str, **parts: Any) -> DecodedPixels:
        """All pixels, with the other fields of DecodedPixels; a file is synced and renamed."""
        if self._stream is None and not self.on_demand:
            self._memory.resize((self.length, 4), refcheck=False)
            _IN_MEMORY[id(self._memory)] = self._memory
            return DecodedPixels(pixels=self._memory, **parts)
        parts["on_demand"] = self.on_demand
        try:
            with storage_errors(self.folder):
                return self._write(description, parts)
        except StorageError:
            if not self.on_demand or len(parts.get("offsets", ())):
                raise
        # Without its index the store serves this process alone.
        return DecodedPixels(pixels=self._memory, **parts)

    def _write(self, description: str, parts: dict[str, Any]) -> DecodedPixels:
        part = self._open_part()
        if self._stream is None:
            (part / "pixels.bin").touch()
        else:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None
        _write_index(part, description, dict(parts))
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder, ignore_errors=True)
            part.rename(self.folder)
        sync_folder(self.folder.parent)
        return load_pixels(self.folder)  # of another process, if that was quicker

    def _leave_memory(self, length: int) -> None:
        """Go on in a file if all pixels will fit there; ``length`` pixels are in memory."""
        expected = self._size or 4 * self.length * self._total // self.count
        if expected > self._allowance:
            self._give_up(
                f"The decoded pixels take about {byte_size(expected)}, more than the "
                f"{byte_size(self._budget)} left of memory (`memory_share`) and the "
                f"{byte_size(self._allowance)} of the cache (${LIMIT_VARIABLE}, free disk)"
            )
            return
        say(
            f"The decoded pixels, about {byte_size(expected)}, do not fit into the "
            f"{byte_size(self._budget)} left of memory (`memory_share`) and are written to "
            f"{self.folder.parent}; `coview cache` lists and clears them."
        )
        try:
            make_room(self.folder.parents[1], expected)
            self._stream = (self._open_part() / "pixels.bin").open("wb")
            self._stream.write(self._memory[:length].data)
        except OSError as error:
            self._give_up(f"The disk refuses the decoded pixels ({error.strerror})")
        self._memory = np.empty((0, 4), dtype=np.uint8)

    def _check_encoded(self, size: float) -> None:
        """Raise DataError where encoded images of ``size`` bytes have no place."""
        if size > self._most_encoded:
            raise DataError(
                f"The encoded images take more than the {byte_size(self._most_encoded)} "
                f"of the cache {self.folder.parents[1]}; raise ${LIMIT_VARIABLE} or "
                "`memory_share`, or choose another `cache`."
            )

    def _give_up(self, why: str) -> None:
        """Keep no pixels any more. Raises DataError where encoded images will hardly fit, before
        the others are decoded."""
        self._check_encoded(self._encoded * self._total / self.count / _UNSURE)
        self.on_demand = True
        self._close()
        self._memory = np.empty((0, 4), dtype=np.uint8)
        say(f"{why}: images are decoded on demand.")

    def _open_part(self) -> Path:
        if self._part is None:
            self._part = self._stack.enter_context(part_folder(self.folder))
        return self._part

    def _close(self) -> None:
        stream, self._stream, self._part = self._stream, None, None
        if stream is not None:
            with contextlib.suppress(OSError):  # a full disk refuses what is not yet written
                stream.close()
        self._stack.close()


def load_pixels(folder: Path) -> DecodedPixels:
    """The pixels in ``folder``, memory-mapped (writes stay private).

    Raises DamagedFile if the digest of the index or the size of a file is wrong. The pixels are
    not hashed: they were synced before the rename, and reading them all would cost more than the
    cache saves.
    """
    record = read_json(folder / "store.json")
    index = (folder / "index.npz").read_bytes()
    sizes = {name: _size(folder / f"{name}.bin") for name in ("pixels", "encoded")}
    expected = {"format": FORMAT, "bytes": sizes, "index": digest(index)}
    if any(record[name] != value for name, value in expected.items()):
        raise DamagedFile(f"{folder} does not match its record.")
    with np.load(io.BytesIO(index), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    if sizes["encoded"]:
        parts["encoded"] = np.memmap(folder / "encoded.bin", dtype=np.uint8, mode="r")
    # Copy-on-write rather than read-only: torch and numba treat it like any other array.
    mapped: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
    if sizes["pixels"]:
        mapped = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="c")
    rejected = tuple(
        (int(row), Rejected(str(reason), bool(p))) for row, reason, p in record["rejected"]
    )
    with contextlib.suppress(OSError):
        os.utime(folder / "store.json")  # says when it was used last
    return DecodedPixels(
        pixels=mapped.reshape(-1, 4).view(np.ndarray), rejected=rejected, folder=folder,
        on_demand=bool(record["on_demand"]), rate=float(record["rate"]),
        brightest=int(record.get("brightest", -1)), **parts,
    )  # fmt: skip


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_index(folder: Path, description: str, parts: dict[str, Any]) -> None:
    rejected = [(row, each.reason, each.may_pass) for row, each in parts.pop("rejected")]
    plain = ("rate", "on_demand", "brightest")
    record = {"rejected": rejected, **{name: parts.pop(name) for name in plain}}
    buffer = io.BytesIO()
    np.savez(buffer, **parts)
    index = buffer.getvalue()
    write_bytes(folder / "index.npz", index)
    sizes = {name: _size(folder / f"{name}.bin") for name in ("pixels", "encoded")}
    record |= {"format": FORMAT, "bytes": sizes, "index": digest(index), "description": description}
    write_json(folder / "store.json", record)
