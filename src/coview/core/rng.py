"""Randomness as keys, not streams.

Every draw is a pure function of (seed, stream, epoch, image id, view, draw number) through
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). So the same
seed gives the same view of the same image on any number of workers, processes or restarts, and
no generator state has to be saved.

Layout of the 128-bit counter, one meaning per word: (view * 2^16 + block, id low, id high, epoch);
key: (seed low, seed high XOR domain). One block gives four uniforms.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


class Stream(IntEnum):
    """What a draw is for; no two uses share a domain."""

    ORDER = 1
    VIEWS = 2
    INIT = 3
    SPLIT = 4
    HEALTH = 5
    PROBE = 6
    SCENES = 7
    STEP = 8
    CLASSES = 9
    CLASS_BATCHES = 10


def philox(counter: npt.NDArray[np.uint64], key: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """Philox4x32-10 of every counter.

    Shapes: counter [..., 4] of 32-bit words held in uint64 -> [..., 4] of 32-bit words.
    """
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c2 = (p1 >> _WORD) ^ c1 ^ np.uint64(k0), (p0 >> _WORD) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def key_words(seed: int, stream: Stream) -> tuple[int, int]:
    """The two key words of (seed, domain). ``seed`` in 0 .. 2^63 - 1."""
    return seed & 0xFFFFFFFF, ((seed >> 32) & 0xFFFFFFFF) ^ (int(stream) << 24)


def uniforms(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], *, epoch: int, view: int, count: int
) -> npt.NDArray[np.float32]:
    """Uniform numbers in [0, 1), exact multiples of 2^-24.

    Shapes: ids [N] -> [N, count]. The first k columns do not depend on ``count``.
    """
    blocks = (count + 3) // 4
    words = np.ascontiguousarray(ids).view(np.uint64)[:, None]
    counter = np.empty((len(ids), blocks, 4), dtype=np.uint64)
    counter[..., 0] = np.uint64(view << 16) + np.arange(blocks, dtype=np.uint64)
    counter[..., 1] = words & _LOW
    counter[..., 2] = words >> _WORD
    counter[..., 3] = np.uint64(epoch)
    bits = philox(counter, key_words(seed, stream)).reshape(len(ids), blocks * 4)[:, :count]
    return (bits >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def permutation(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], *, epoch: int
) -> npt.NDArray[np.int64]:
    """The order of one epoch: positions 0 .. N-1 sorted by a keyed 64-bit number of each id.

    The place of an image relative to another depends on their ids alone, so adding images to a
    data set does not reshuffle the others.
    """
    words = np.ascontiguousarray(ids).view(np.uint64)
    counter = np.zeros((len(ids), 4), dtype=np.uint64)
    counter[:, 1], counter[:, 2] = words & _LOW, words >> _WORD
    counter[:, 3] = np.uint64(epoch)
    bits = philox(counter, key_words(seed, stream))
    return np.argsort((bits[:, 0] << _WORD) | bits[:, 1], kind="stable").astype(np.int64)


def stream_seed(seed: int, stream: Stream, part: str) -> int:
    """The seed of a sequential generator for one named part, for draws that have no image id.

    Different parts (the encoder's first values, the head's) must not see the same numbers.
    """
    word = hashlib.blake2b(f"{seed}/{int(stream)}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(word, "little") >> 1
