"""TensorFlow's checkpoints without TensorFlow: the tensors of an index and its data files.

PREFIX.index is a sorted table (LevelDB's format): blocks of entries whose keys share beginnings,
each block with a type and a CRC-32C behind it, an index block, and a footer of 48 bytes. The key ""
holds a BundleHeaderProto, every other key is the name of a variable with a BundleEntryProto: type,
shape, file, place, size, CRC-32C. PREFIX.data-K-of-N hold the values, little-endian, row by row.
Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/lib/io/format.h.
"""

from __future__ import annotations

import glob
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import DamagedFile, InvalidValue
from coview.core.files import read_content
from coview.core.paths import open_regular
from coview.importing import protobuf
from coview.importing.crc32c import check
from coview.importing.protobuf import varint

FOOTER, TRAILER = 48, 5
MAGIC = 0xDB4775248B80FB57
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}  # fmt: skip
"""tensorflow/core/framework/types.proto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a variable is: type (a number of types.proto), shape, file, place and size in bytes."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


def data_files(prefix: Path) -> list[Path]:
    """The files with the values of a checkpoint."""
    return sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-*"))


class Bundle:
    """The variables of a checkpoint by name. Raises DamagedFile for an index that is none.

    ``prefix``: the path without .index, as TensorFlow names a checkpoint.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.index_path = prefix.with_name(f"{prefix.name}.index")
        content = read_content(self.index_path)
        if content is None:
            raise InvalidValue(f"There is no checkpoint of TensorFlow {self.index_path}.")
        try:
            table = dict(_table(content, self.index_path))
            header = protobuf.fields(table.pop(b"", b""))
            self.shards = protobuf.number(header, 1) or 1
            if protobuf.number(header, 2) != 0:
                raise DamagedFile(f"{self.index_path} is of a big-endian machine.")
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
        except (IndexError, ValueError, struct.error) as error:
            raise DamagedFile(f"{self.index_path} is no index of a checkpoint: {error}.") from error

    def data_path(self, shard: int) -> Path:
        """The file with the values of a shard."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def read(self, name: str) -> Tensor:
        """The value of a variable, checked. Raises DamagedFile, InvalidValue."""
        entry = self.entries[name]
        if entry.dtype not in DTYPES or entry.sliced:
            what = "is stored in slices" if entry.sliced else f"has the type {entry.dtype}"
            raise InvalidValue(f"The variable {name} in {self.index_path} {what}.")
        path, dtype = self.data_path(entry.shard), DTYPES[entry.dtype]
        needed = math.prod(entry.shape) * dtype.itemsize
        if entry.size != needed:
            raise DamagedFile(
                f"The variable {name} in {self.index_path} has {entry.size} bytes, but its shape "
                f"and type need {needed}: the index is damaged."
            )
        cut_short = f"{path} ends before the variable {name}: it was cut short."
        try:
            with open_regular(path) as stream:
                if entry.offset + entry.size > stream.seek(0, os.SEEK_END):
                    raise DamagedFile(cut_short)
                stream.seek(entry.offset)
                content = stream.read(entry.size)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DamagedFile(f"{path} cannot be read: {reason}.") from error
        if len(content) != entry.size:
            raise DamagedFile(cut_short)
        if not check(content, entry.crc):
            raise DamagedFile(f"The variable {name} in {path} does not have its recorded CRC-32C.")
        values = np.frombuffer(content, dtype).reshape(entry.shape)
        return torch.from_numpy(values.astype(dtype.newbyteorder("=")))


def _table(content: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a sorted table."""
    if len(content) < FOOTER or struct.unpack("<Q", content[-8:])[0] != MAGIC:
        raise DamagedFile(f"{path} is no index of a checkpoint, or was cut short.")
    footer = content[-FOOTER:]
    _, place = varint(footer, 0)  # of the metaindex block, which is empty
    _, place = varint(footer, place)
    offset, place = varint(footer, place)
    size, _ = varint(footer, place)
    for _, handle in _block(content, offset, size, path):
        start, place = varint(handle, 0)
        length, _ = varint(handle, place)
        yield from _block(content, start, length, path)


def _block(content: bytes, offset: int, size: int, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block: lengths, the rest of the key, the value."""
    block = content[offset : offset + size]
    trailer = content[offset + size : offset + size + TRAILER]
    if len(block) < size or len(trailer) < TRAILER:
        raise DamagedFile(f"{path} was cut short.")
    if not check(block + trailer[:1], struct.unpack("<I", trailer[1:])[0]):
        raise DamagedFile(f"A block of {path} does not have its recorded CRC-32C.")
    if trailer[0] != 0:
        raise InvalidValue(f"{path} is compressed, which TensorFlow's savers do not do.")
    restarts = struct.unpack("<I", block[-4:])[0]
    end, place, key = size - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = varint(block, place)
        fresh, place = varint(block, place)
        length, place = varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        yield key, block[place + fresh : place + fresh + length]
        place += fresh + length


def _entry(content: bytes) -> Entry:
    """A BundleEntryProto."""
    parts = protobuf.fields(content)
    shape = protobuf.fields(protobuf.data(parts, 2))
    sizes = (protobuf.number(protobuf.fields(each), 1) for each in protobuf.every(shape, 2))
    return Entry(
        dtype=protobuf.number(parts, 1), shape=tuple(sizes), shard=protobuf.number(parts, 3),
        offset=protobuf.number(parts, 4), size=protobuf.number(parts, 5),
        crc=protobuf.number(parts, 6), sliced=7 in parts,
    )  # fmt: skip
