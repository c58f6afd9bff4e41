"""Files that should do harm: images that take too much, weights that run commands or lie."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from coview.encoders import resnet
from damage import encode, flip, picture, splice, truncate, zero_block


def png_of(
    width: int, height: int, bits: int, color: int, data: bytes, extra: bytes = b""
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + sum_

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bomb(number: int, rng: np.random.Generator) -> bytes:
    """A file that takes too much if its header is not looked at."""
    width, height = (int(2 ** rng.uniform(13.2, 15)) for _ in range(2))
    small = picture(rng, 32)
    kind = number % 6
    if kind == 0:  # rows of zeros, a thousand times compressed
        row = bytes(1 + -(-width // 8))
        packer = zlib.compressobj(1)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
        return png_of(width, height, 1, 0, data)
    if kind == 1:  # rows that never come
        return png_of(int(rng.integers(4000, 8000)), 8000, 8, 2, rng.bytes(1000))
    if kind == 2:  # a JPEG of another size than its header says
        content = bytearray(encode(small, "JPEG"))
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", min(height, 65500), min(width, 65500))
        return bytes(content)
    if kind == 3:  # thousands of scans
        content = encode(small.resize((2048, 2048)), "JPEG progressive gray")
        scan = content[content.rindex(b"\xff\xda") : content.rindex(b"\xff\xda") + 14]
        return content[:-2] + scan * int(rng.integers(3000, 9000)) + content[-2:]
    if kind == 4:
        content = bytearray(encode(small, "GIF"))
        content[6:10] = struct.pack("<HH", 65535, min(height, 65535))
        return bytes(content)
    content = bytearray(encode(small, "WebP"))
    content[26:30] = struct.pack("<HH", 16383, 16383)
    return bytes(content)


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def hostile_weights(number: int, rng: np.random.Generator, canary: Path) -> tuple[str, bytes]:
    """(suffix, content) of a file that should do harm: run a command, take memory, or lie."""
    tensors = resnet(18, width=0.125, stem="small", seed=0).state_dict()
    command = f"touch {canary}"
    kind = number % 8
    if kind == 0:
        return ".pth", pickle.dumps(
            {"state_dict": Payload(command)}, protocol=int(rng.integers(0, 5))
        )
    if kind == 1:
        stream = io.BytesIO()
        torch.save({"state_dict": {**tensors, "x": Payload(command)}}, stream)
        return ".pth", stream.getvalue()
    if kind == 2:
        stream = io.BytesIO()
        old = {"_use_new_zipfile_serialization": False}
        torch.save({"state_dict": tensors, "a": Payload(command)}, stream, **old)
        return ".pth", stream.getvalue()
    if kind == 3:  # the pickle inside the archive is exchanged, or packed a thousand times
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(command)))
            archive.writestr("archive/data/0", bytes(int(rng.integers(1, 200)) << 20))
        return (".pth", ".safetensors")[number // 8 % 2], stream.getvalue()
    content = save(tensors)
    (length,) = struct.unpack("<Q", content[:8])
    if kind == 4:  # a header of any length
        return ".safetensors", struct.pack("<Q", int(rng.integers(0, 2**63))) + content[8:]
    if kind == 5:  # offsets, shapes and names that lie
        header = content[8 : 8 + length]
        words = [
            (b"data_offsets", b"data_offsetz"), (b"[0,", b"[9,"), (b'"F32"', b'"F64"'),
            (b'"shape":[', b'"shape":[999999999,'), (b"conv1", b"../../x"),
        ]  # fmt: skip
        old, new = words[rng.integers(len(words))]
        header = header.replace(old, new, int(rng.integers(1, 4)))
        return ".safetensors", struct.pack("<Q", len(header)) + header + content[8 + length :]
    if kind == 6:
        nested = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        return ".safetensors", struct.pack("<Q", len(nested)) + nested
    return ".safetensors", (truncate, flip, zero_block, splice)[rng.integers(4)](content, rng)
