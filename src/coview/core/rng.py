"""Counter-based random numbers: keyed, without generator state.

Every draw is a pure function of (seed, stream, epoch, image id, view, draw number) through
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The same seed
gives the same view of the same image on any number of workers, processes or restarts, and a
checkpoint needs no generator state.

Layout of the 128-bit counter, one meaning per word: (view * 2^16 + block, id low, id high, epoch);
key: (seed low, seed high XOR stream << 24). One block gives four uniforms.
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
    """What a draw is for. The numbers never change: published figures depend on them."""

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
    CORRUPTIONS = 11


# `draw_index` of the permutations of Stream.HEALTH. Two uses may share a number: they draw from
# different data, and the numbers never change.
HEALTH_IMAGES = 0  # held-out images that the monitor measures
CHECKED_IMAGES = 0  # images that the data checks compare in pairs
GALLERY_IMAGES = 1  # images of a report's gallery
COLOR_CHECK_IMAGES = 1  # images that the data checks render views of
CONTACT_SHEET_IMAGES = 2
SETTLING_IMAGES = 3  # training images whose statistics an untrained network gets
ACCURACY_IMAGES = 7  # images whose accuracy is in the reports of a fine-tuning
DETECTION_IMAGES = 8  # the same of a detector or a segmenter
# The same of Stream.SPLIT; the epoch numbers of Stream.ORDER count from 0.
HELD_OUT_IMAGES = 0
LIMITED_IMAGES = 1  # images of a source that is opened with a limit
LABEL_SUBSET = 2  # images whose labels are used
# The same of Stream.PROBE. To the number of batches the epoch is added.
MONITOR_IMAGES = 0  # the bank and the queries of the monitor's kNN
VALIDATION_IMAGES = 1
LINEAR_BATCHES = 2
SGD_LINEAR_BATCHES = 0x53474400
CONTRASTIVE_IMAGES = 0x434F4E54
CORRUPTED_IMAGES = 0x434F5252
LABEL_FOLDS = 0x464F4C44  # parts of a cross-validation
INVARIANCE_IMAGES = 0x494E5641  # images that are transformed
LABEL_FREE_IMAGES = 0x4C414245
RETRIEVAL_QUERIES = 0x52455452  # test images that search among the training images
TEST_PART = 0x54455354  # the test part of images that have none


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
    """The two key words of (seed, stream). ``seed`` in 0 .. 2^63 - 1."""
    return seed & 0xFFFFFFFF, ((seed >> 32) & 0xFFFFFFFF) ^ (int(stream) << 24)


def keyed_words(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], *, epoch: int, first: int, count: int
) -> npt.NDArray[np.uint64]:
    """Philox words of every id for the counters ``first`` .. ``first + count - 1``.

    Shapes: ids [N] -> [N, count, 4] of 32-bit words.
    """
    words = np.ascontiguousarray(ids, np.int64).view(np.uint64)[:, None]
    counter = np.empty((len(ids), count, 4), dtype=np.uint64)
    counter[..., 0] = np.arange(first, first + count, dtype=np.uint64)
    counter[..., 1], counter[..., 2] = words & _LOW, words >> _WORD
    counter[..., 3] = np.uint64(epoch)
    return philox(counter, key_words(seed, stream))


def uniforms(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], *, epoch: int, view: int, count: int
) -> npt.NDArray[np.float32]:
    """Uniform numbers in [0, 1), exact multiples of 2^-24.

    Shapes: ids [N] -> [N, count]. The first k columns do not depend on ``count``.

    >>> uniforms(0, Stream.VIEWS, np.array([7]), epoch=0, view=0, count=4).shape
    (1, 4)
    """
    blocks = (count + 3) // 4
    words = keyed_words(seed, stream, ids, epoch=epoch, first=view << 16, count=blocks)
    bits = words.reshape(len(ids), blocks * 4)[:, :count]
    return (bits >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def permutation(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], *, draw_index: int
) -> npt.NDArray[np.int64]:
    """Positions 0 .. N-1 in a random order: sorted by a keyed 64-bit number of each id.

    ``draw_index`` in 0 .. 2^32 - 1 tells the permutations of one stream apart: the epoch for
    Stream.ORDER, a named constant for the others. Whether an image comes before another depends
    on their two ids alone: images that are added to a data set do not reshuffle the others.

    Shapes: ids [N] -> [N].

    >>> permutation(0, Stream.ORDER, np.arange(4), draw_index=0)
    array([1, 3, 2, 0])
    """
    bits = keyed_words(seed, stream, ids, epoch=draw_index, first=0, count=1)[:, 0]
    return np.argsort((bits[:, 0] << _WORD) | bits[:, 1], kind="stable").astype(np.int64)


def drawn_rows(
    seed: int, stream: Stream, ids: npt.NDArray[np.int64], limit: int | None, *, draw_index: int
) -> npt.NDArray[np.int64]:
    """The first ``limit`` positions of :func:`permutation`, ascending; all of them for None.

    >>> drawn_rows(0, Stream.ORDER, np.arange(4), 2, draw_index=0)
    array([1, 3])
    """
    return np.sort(permutation(seed, stream, ids, draw_index=draw_index)[:limit])


def stream_seed(seed: int, stream: Stream, part: str) -> int:
    """The seed of a sequential generator for one named part, for draws that have no image id.

    Different parts (the encoder's initial weights, the head's) get unrelated numbers.

    Range: 0 .. 2^63 - 1.
    """
    word = hashlib.blake2b(f"{seed}/{int(stream)}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(word, "little") >> 1
