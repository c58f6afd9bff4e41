"""Batches of P classes x K images (P x K sampling), for objectives with positives of one class.

With many classes a random batch has few pairs of one class, and a supervised contrastive loss
learns little. Here every batch has P different classes and K different images of each.

The batches of an epoch depend on (seed, epoch) and the labels alone. An epoch has S batches, so
S P groups of K images. Class c has g_c(e) <= S of them in epoch e: its quota q_c, rounded down or
up so that the sum is S P and rounding errors cancel over the epochs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, permutation

Rows = npt.NDArray[np.int64]

GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1) as evenly as any number's
TOLERANCE = 1e-6  # a quota this close to S counts as S


class ClassBalancedSampler:
    """P classes x K images in every batch, for the ``sampler`` argument of :class:`BatchLoader`.

    ids int64 [N]; labels int64 [N], all known. classes: P >= 2. images: K >= 1, at most the size of
    the smallest class; K >= 2 gives positives from different images.

    No image is twice in a batch. The number of uses of two images of one class differs by at most
    one. Classes with at most 1/P of all images use their images equally often, up to one group; a
    larger class has one group in every batch, and its images are used less often.

    Rows 0 .. P-1 of a batch are one image of each class, rows P .. 2P-1 the second, and so on: a
    rank's part of the batch, or a group of ghost BatchNorm, has all classes in equal numbers.

    Raises InvalidValue for labels or numbers that do not allow it.

    >>> labels = np.repeat(np.arange(3), 4)
    >>> sampler = ClassBalancedSampler(np.arange(12), labels, classes=2, images=2, seed=0)
    >>> labels[sampler.rows(0)[:4]]
    array([0, 1, 0, 1])
    """

    def __init__(self, ids: Rows, labels: Rows, *, classes: int, images: int, seed: int) -> None:
        if classes < 2 or images < 1:
            raise InvalidValue(
                f"A batch has {classes} classes x {images} images; expected at least 2 classes and "
                "1 image of each."
            )
        self.seed, self.classes, self.images = seed, classes, images
        self.batch_size = classes * images
        order = permutation(seed, Stream.ORDER, ids, draw_index=0)
        by_class = order[np.argsort(labels[order], kind="stable")]
        self.ids = ids
        self.labels, counts = np.unique(labels, return_counts=True)
        check_classes(self.labels, counts, classes, images)
        self.members = np.split(by_class, np.cumsum(counts)[:-1])
        self.steps_per_epoch = max_steps(counts, classes, images)
        self.full, self.quotas = group_quotas(counts, self.steps_per_epoch, classes, images)

    def rows(self, epoch: int) -> Rows:
        """The rows of the S batches of an epoch, int64 [S P K]."""
        steps, classes, images = self.steps_per_epoch, self.classes, self.images
        groups, before = self.groups(epoch), self._groups(np.arange(epoch)).sum(0)
        order = permutation(self.seed, Stream.CLASSES, self.labels, draw_index=epoch)
        drawn = [self._sample(c, before[c], groups[c], epoch) for c in order if groups[c]]
        # Group i goes to batch i mod S: the groups of a class are consecutive and at most S.
        batches = np.concatenate(drawn).reshape(classes, steps, images).transpose(1, 2, 0)
        shuffled = permutation(
            self.seed, Stream.CLASS_BATCHES, np.arange(steps, dtype=np.int64), draw_index=epoch
        )
        rows: Rows = batches[shuffled].reshape(-1)
        return rows

    def groups(self, epoch: int) -> Rows:
        """The number of groups of each class in an epoch, int64 [C]."""
        groups: Rows = self._groups(np.array([epoch]))[0]
        return groups

    def _groups(self, epochs: Rows) -> Rows:
        """[E] -> [E, C]: systematic rounding of the quotas, with another offset in each epoch."""
        ends = np.concatenate(([0.0], np.cumsum(self.quotas)))
        ends[-1] = round(ends[-1])
        offsets = (0.5 + epochs * GOLDEN) % 1
        groups: Rows = np.diff(np.floor(ends + offsets[:, None]), axis=1).astype(np.int64)
        groups += self.full * self.steps_per_epoch
        return groups

    def _sample(self, class_index: int, before: int, count: int, epoch: int) -> Rows:
        """The rows of the ``count`` groups of one class in an epoch, int64 [count x K].

        The images are taken cyclically in a fixed order, then shuffled. Images that occur twice are
        in the first group and in the last.
        """
        members = self.members[class_index]
        positions = before * self.images + np.arange(count * self.images)
        cycle = members[positions % len(members)]
        again, once = cycle[len(members) :], cycle[: len(members)]
        shuffled = permutation(self.seed, Stream.ORDER, self.ids[once], draw_index=epoch + 1)
        shuffled = shuffled[np.argsort(shuffled >= len(again), kind="stable")]
        return np.concatenate((once[shuffled], again))


def check_classes(labels: Rows, counts: Rows, classes: int, images: int) -> None:
    """Raise InvalidValue unless batches of ``classes`` x ``images`` are possible."""
    if len(labels) == 0 or labels[0] < 0:
        unknown = int(counts[0]) if len(labels) else 0
        raise InvalidValue(
            f"{unknown} images have no label; class-balanced batches need one for every image."
        )
    if len(labels) < classes:
        raise InvalidValue(
            f"`classes_per_batch` is {classes} but there are {len(labels)} classes; expected at "
            f"most {len(labels)}."
        )
    if counts.min() < images:
        few = int((counts < images).sum())
        raise InvalidValue(
            f"{few} of the classes have fewer than the {images} images that a batch needs of each "
            f"class; the smallest has {counts.min()}. Raise `classes_per_batch`, lower "
            "`batch_size`, or remove those classes from the data."
        )


def max_steps(counts: Rows, classes: int, images: int) -> int:
    """S, the largest number of batches in an epoch without using an image twice.

    Class c can contribute min(n_c, S K) images, one group a batch; an epoch needs S P K images.
    """
    least, most = 1, int(counts.sum()) // (classes * images)
    while least < most:
        steps = (least + most + 1) // 2
        enough = np.minimum(counts, steps * images).sum() >= steps * classes * images
        least, most = (steps, most) if enough else (least, steps - 1)
    return least


def group_quotas(
    counts: Rows, steps: int, classes: int, images: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which classes have a group in every batch, [C], and the quotas of the others, [C].

    The quotas are proportional to the number of images; their sum is the rest of the S P groups.
    """
    full = np.zeros(len(counts), dtype=bool)
    while True:
        left = steps * (classes - int(full.sum()))
        quotas = np.where(full, 0.0, counts * (left / max(counts[~full].sum(), 1)))
        more = quotas > steps - TOLERANCE
        if not more.any():
            return full, quotas
        full |= more
