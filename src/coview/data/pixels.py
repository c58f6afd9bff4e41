"""Storage of decoded pixels: memory while they fit, then one file, written atomically."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from coview.core.errors import DamagedFile
from coview.core.files import (
    digest,
    read_json,
    storage_errors,
    sync_folder,
    write_bytes,
    write_json,
)

FORMAT = "coview-store-3"
_DAY = 86400.0
_GROWTH = 1.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedPixels:
    """The pixels of the usable rows of a listing, the rejected rows, and the folder of the pixels.

    ``folder`` is None for pixels in memory. Shapes: pixels uint8 [P, 4]; rows, starts int64 [N];
    heights, widths int32 [N]; content int64 [N], the hash of each image's pixels.
    """

    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    content: npt.NDArray[np.int64]
    rejected: tuple[tuple[int, str], ...]
    folder: Path | None = None


class PixelWriter:
    """Images appended one after another: in memory up to ``budget`` bytes, then in ``folder``.

    Use as a context manager: leaving it without :meth:`finish` removes all files.
    """

    def __init__(self, budget: int, folder: Path) -> None:
        self.folder = folder
        self.length = 0
        self._budget = budget
        self._memory = np.empty((0, 4), dtype=np.uint8)
        self._temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        self._stream: BinaryIO | None = None

    def __enter__(self) -> PixelWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def append(self, pixels: bytes | memoryview) -> int:
        """Add one image (4 bytes a pixel); returns its start, counted in pixels."""
        start, self.length = self.length, self.length + len(pixels) // 4
        if self._stream is None and 4 * self.length > self._budget:
            self._spill(start)
        if self._stream is not None:
            with storage_errors(self._temporary):
                self._stream.write(pixels)
        else:
            if self.length > len(self._memory):
                # In place if the system can, so that there is no second copy of the images.
                capacity = max(self.length, int(len(self._memory) * _GROWTH))
                self._memory.resize((capacity, 4), refcheck=False)
            self._memory[start : self.length] = np.frombuffer(pixels, np.uint8).reshape(-1, 4)
        return start

    def finish(self, **parts: Any) -> DecodedPixels:
        """All pixels, with the other fields of DecodedPixels; a file is synced and renamed."""
        if self._stream is None:
            self._memory.resize((self.length, 4), refcheck=False)
            return DecodedPixels(pixels=self._memory, **parts)
        with storage_errors(self.folder):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            _write_index(self._temporary, 4 * self.length, parts)
            # Another process may have written the same store meanwhile; then use that one.
            with contextlib.suppress(OSError, DamagedFile, KeyError, ValueError):
                existing = load_pixels(self.folder)
                shutil.rmtree(self._temporary, ignore_errors=True)
                return existing
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder, ignore_errors=True)
                self._temporary.rename(self.folder)
            sync_folder(self.folder.parent)
            return load_pixels(self.folder)

    def _spill(self, length: int) -> None:
        with storage_errors(self._temporary):
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.folder)
            self._temporary.mkdir()
            self._stream = (self._temporary / "pixels.bin").open("wb")
            self._stream.write(self._memory[:length].data)
        self._memory = np.empty((0, 4), dtype=np.uint8)


def load_pixels(folder: Path) -> DecodedPixels:
    """The pixels in ``folder``, memory-mapped (writes stay private).

    Raises DamagedFile if the digest of the index or the size of the pixels is wrong. The pixels are
    not hashed: they were synced before the rename, and reading them all would cost more than the
    cache saves.
    """
    record = read_json(folder / "store.json")
    index = (folder / "index.npz").read_bytes()
    size = (folder / "pixels.bin").stat().st_size
    expected = {"format": FORMAT, "bytes": size, "index": digest(index)}
    if any(record[name] != value for name, value in expected.items()):
        raise DamagedFile(f"{folder} does not match its record.")
    with np.load(io.BytesIO(index), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    # Copy-on-write rather than read-only: torch and numba treat it like any other array.
    mapped = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="c").reshape(-1, 4)
    rejected = tuple((int(row), str(reason)) for row, reason in record["rejected"])
    return DecodedPixels(pixels=mapped.view(np.ndarray), rejected=rejected, folder=folder, **parts)


def _write_index(folder: Path, size: int, parts: dict[str, Any]) -> None:
    rejected = parts.pop("rejected")
    buffer = io.BytesIO()
    np.savez(buffer, **parts)
    index = buffer.getvalue()
    write_bytes(folder / "index.npz", index)
    record = {"format": FORMAT, "bytes": size, "index": digest(index), "rejected": rejected}
    write_json(folder / "store.json", record)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary folders of the same store that are older than a day: writers crashed."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - (leftover / "pixels.bin").stat().st_mtime > _DAY:
                shutil.rmtree(leftover)
