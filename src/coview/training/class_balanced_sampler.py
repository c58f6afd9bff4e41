"""Batches of P classes x K images each, for objectives that need positives of the same class.

With many classes a batch drawn at random holds hardly two images of one class, and a supervised
contrastive loss has little to learn from. Here every batch has P different classes and K different
images of each.

The arithmetic is whole-numbered and has no state: the batches of an epoch follow from (seed, epoch)
and the labels alone. An epoch has S batches, so S P groups of K images; class c gives g_c(e) of
them in epoch e, its quota q_c rounded down or up so that the sum is S P and the roundings even out
over the epochs. A group a batch is the most that a class can give, so g_c <= S.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, permutation

Rows = npt.NDArray[np.int64]

GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1) as evenly as any number's
FULL = 1e-6  # quotas as close to S are S: what rounding could push above it


class ClassBalancedSampler:
    """An order of P classes x K images a batch, to be given to a Feed.

    ids int64 [N]; labels int64 [N], all known. classes: P >= 2. images: K >= 1, which every class
    has at least; give K >= 2 to have positives of other images.

    Every image is used equally often as far as classes of different size allow: the uses of two
    images of one class never differ by more than one; those of all images of classes that hold
    at most 1/P of the images differ by about one group. A larger class has one group in every
    batch, and its images are used less often. No image is twice in a batch.

    In a batch the first P rows are one image of each class, the next P the second, and so on: a
    process's part of the batch, or a group of BatchNorm, sees all classes alike.

    Raises InvalidValue for labels or numbers that do not allow it.
    """

    def __init__(self, ids: Rows, labels: Rows, *, classes: int, images: int, seed: int) -> None:
        if classes < 2 or images < 1:
            raise InvalidValue(
                f"Batches of {classes} classes x {images} images cannot be; expected at least 2 "
                "classes and 1 image of each."
            )
        self.seed, self.classes, self.images = seed, classes, images
        self.batch_size = classes * images
        fixed = permutation(seed, Stream.ORDER, ids, draw_index=0)
        by_class = fixed[np.argsort(labels[fixed], kind="stable")]
        self.ids = ids
        self.labels, counts = np.unique(labels, return_counts=True)
        check(self.labels, counts, classes, images)
        self.members = np.split(by_class, np.cumsum(counts)[:-1])
        self.steps_per_epoch = most_steps(counts, classes, images)
        self.full, self.quotas = shared_out(counts, self.steps_per_epoch, classes, images)

    def rows(self, epoch: int) -> Rows:
        """The rows of the S batches of an epoch, int64 [S P K]."""
        steps, classes, images = self.steps_per_epoch, self.classes, self.images
        given, before = self.groups(epoch), self.given_before(epoch)
        order = permutation(self.seed, Stream.CLASSES, self.labels, draw_index=epoch)
        drawn = [self._drawn(c, before[c], given[c], epoch) for c in order if given[c]]
        # Group i goes to batch i mod S: the groups of a class are consecutive and at most S.
        batches = np.concatenate(drawn).reshape(classes, steps, images).transpose(1, 2, 0)
        shuffled = permutation(
            self.seed, Stream.CLASS_BATCHES, np.arange(steps, dtype=np.int64), draw_index=epoch
        )
        rows: Rows = batches[shuffled].reshape(-1)
        return rows

    def groups(self, epoch: int) -> Rows:
        """How many groups each class gives in an epoch, int64 [C]."""
        given: Rows = self._given(np.array([epoch]))[0]
        return given

    def given_before(self, epoch: int) -> Rows:
        """How many groups each class has given in all epochs before, int64 [C]."""
        given: Rows = self._given(np.arange(epoch)).sum(0)
        return given

    def _given(self, epochs: Rows) -> Rows:
        """[E] -> [E, C]: systematic rounding of the quotas, from a start that each epoch shifts."""
        ends = np.concatenate(([0.0], np.cumsum(self.quotas)))
        ends[-1] = round(ends[-1])
        starts = (0.5 + epochs * GOLDEN) % 1
        given: Rows = np.diff(np.floor(ends + starts[:, None]), axis=1).astype(np.int64)
        given += self.full * self.steps_per_epoch
        return given

    def _drawn(self, which: int, before: int, count: int, epoch: int) -> Rows:
        """The rows of the groups of one class in an epoch, int64 [count x K].

        The class's images are taken in turn from a fixed circle, and shuffled. Where a few come
        round a second time, they are in the first group and again in the last.
        """
        members = self.members[which]
        wanted = count * self.images
        turn = members[(before * self.images + np.arange(wanted)) % len(members)]
        again, once = turn[len(members) :], turn[: len(members)]
        shuffled = permutation(self.seed, Stream.ORDER, self.ids[once], draw_index=epoch + 1)
        shuffled = shuffled[np.argsort(shuffled >= len(again), kind="stable")]
        return np.concatenate((once[shuffled], again))


def check(labels: Rows, counts: Rows, classes: int, images: int) -> None:
    """Raise InvalidValue unless batches of ``classes`` x ``images`` can be made."""
    if len(labels) == 0 or labels[0] < 0:
        unknown = int(counts[0]) if len(labels) else 0
        raise InvalidValue(
            f"{unknown} images have no label; batches of classes need one for every image."
        )
    if len(labels) < classes:
        raise InvalidValue(
            f"There are {len(labels)} classes, too few for batches of {classes} classes x "
            f"{images} images; give at most {len(labels)} classes."
        )
    if counts.min() < images:
        few = int((counts < images).sum())
        raise InvalidValue(
            f"{few} of the classes have fewer than the {images} images that a batch takes of each, "
            f"the smallest {counts.min()}: take more classes of fewer images each "
            "(--classes-per-batch, --batch), or remove those classes from the data."
        )


def most_steps(counts: Rows, classes: int, images: int) -> int:
    """S, the most batches of an epoch in which no class has to give more than it has.

    A class can give min(n_c, S K) images, one group a batch; S P K of them are needed.
    """
    least, most = 1, int(counts.sum()) // (classes * images)
    while least < most:
        steps = (least + most + 1) // 2
        enough = np.minimum(counts, steps * images).sum() >= steps * classes * images
        least, most = (steps, most) if enough else (least, steps - 1)
    return least


def shared_out(
    counts: Rows, steps: int, classes: int, images: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which classes give a group to every batch, [C]; the quotas of the others in an epoch, [C].

    The others give in proportion to their images, all together what is left of S P.
    """
    full = np.zeros(len(counts), dtype=bool)
    while True:
        left = steps * (classes - int(full.sum()))
        quotas = np.where(full, 0.0, counts * (left / max(counts[~full].sum(), 1)))
        more = quotas > steps - FULL
        if not more.any():
            return full, quotas
        full |= more
