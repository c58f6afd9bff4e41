"""The twelve data sets of the transfer papers: metric, split, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from coview.core.errors import DataError, UnknownName
from coview.core.images import ImageStore
from coview.data.labels import label_subset
from coview.data.spec import DataSpec

METRIC_OF_OTHERS = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSet:
    """What the papers do with a data set, and how it is opened.

    ``metric``: a name in ``coview.core.metrics``. ``split``: the papers' parts in words, and what
    differs here. ``parts``: torchvision's (train, test); empty where it has no such parts.
    ``each``: images of a class in (train, test) where the parts are drawn; 0 takes the rest.
    ``absent``: why it is not opened by its name.
    """

    title: str
    metric: str
    split: str
    parts: tuple[str, ...] = ()
    each: tuple[int, int] = (0, 0)
    absent: str = ""


def _whole(title: str, metric: str = "accuracy") -> TransferSet:
    return TransferSet(
        title=title, metric=metric, split="published train and test", parts=("train", "test")
    )


def _with_validation(title: str, metric: str, split: str) -> TransferSet:
    return TransferSet(title=title, metric=metric, split=split, parts=("train+val", "test"))


TRANSFER_SETS: Mapping[str, TransferSet] = {
    "food101": _whole("Food-101"),
    "cifar10": _whole("CIFAR-10"),
    "cifar100": _whole("CIFAR-100"),
    "birdsnap": TransferSet(
        title="Birdsnap", metric="accuracy", split="published train and test",
        absent="torchvision does not have it; give folders of its images",
    ),
    "sun397": TransferSet(
        title="SUN397", metric="accuracy", each=(50, 50), parts=("train",),
        split="the papers take the first published split; torchvision has none, so that 50 + 50 "
        "images of each class are drawn by seed",
    ),
    "stanfordcars": _whole("Stanford Cars"),
    "fgvcaircraft": TransferSet(
        title="FGVC Aircraft", metric="mean_per_class", parts=("train", "test"),
        split="train is the published trainval; the papers validate on its published val, here on "
        "a drawn part",
    ),
    "voc2007": TransferSet(
        title="PASCAL VOC 2007", metric="map11", split="published trainval and test",
        absent="its images have several labels; give tables of paths and labels such as "
        "dog+person (docs/evaluation.md has the lines that write them)",
    ),
    "dtd": _with_validation("DTD", "accuracy", "first published split, validated on its val"),
    "oxfordiiitpet": _whole("Oxford-IIIT Pets", "mean_per_class"),
    "caltech101": TransferSet(
        title="Caltech-101", metric="mean_per_class", each=(30, 0), parts=("train",),
        split="30 images of each class, drawn by seed, and the rest; torchvision leaves out the "
        "background class, which the papers count as the 102nd",
    ),
    "flowers102": _with_validation(
        "Oxford 102 Flowers", "mean_per_class", "published parts, validated on val"
    ),
}  # fmt: skip
"""Metric and split of each: Kornblith et al. 2019, table 1 and appendix A; SimCLR, B.8."""


def transfer_set_of(name: str, source: str = "") -> TransferSet | None:
    """The set that a name or a source belongs to, such as "dtd" or "dtd:train"; None for others.

    >>> transfer_set_of("flowers102:train").metric, transfer_set_of("my photos")
    ('mean_per_class', None)
    """
    for words in (name, source):
        key = words.split(":")[0].lower().replace("-", "").replace("_", "")
        if key in TRANSFER_SETS:
            return TRANSFER_SETS[key]
    return None


def transfer_metric(name: str, source: str = "") -> str:
    """The metric of a data set: that of :func:`transfer_set_of`, or the accuracy.

    >>> transfer_metric("voc2007"), transfer_metric("my photos")
    ('map11', 'accuracy')
    """
    known = transfer_set_of(name, source)
    return METRIC_OF_OTHERS if known is None else known.metric


def open_transfer_set(
    name: str, *, spec: DataSpec | None = None, seed: int = 0
) -> tuple[ImageStore, ImageStore]:
    """The (train, test) images of one of TRANSFER_SETS, as the papers divide them.

    They are read by torchvision, and found, decoded and kept as ``spec`` says, by default as
    ``DataSpec.of(name)`` does; its ``limit`` leaves a published test part whole. ``seed`` draws
    the parts of sets that have none. Raises UnknownName, and DataError where the set is absent.

    >>> open_transfer_set("birdsnap")
    Traceback (most recent call last):
    ...
    coview.core.errors.DataError: Birdsnap is not opened by its name: torchvision does not have ...
    """
    if name not in TRANSFER_SETS:
        raise UnknownName("transfer data set", name, TRANSFER_SETS)
    known = TRANSFER_SETS[name]
    if known.absent:
        raise DataError(f"{known.title} is not opened by its name: {known.absent}.")

    train = replace(
        DataSpec.of(name) if spec is None else spec, source=name, split=known.parts[0],
        labels_from="column", needs_labels=True, image_column=None, label_column=None,
    )  # fmt: skip
    if len(known.parts) == 1:
        return drawn_parts(train.open(), *known.each, seed=seed)
    return train.open(), replace(train.tests(), split=known.parts[1]).open()


def drawn_parts(
    store: ImageStore, train: int, test: int = 0, *, seed: int = 0
) -> tuple[ImageStore, ImageStore]:
    """(train, test) with ``train`` and ``test`` images of each class, drawn by seed and id.

    With ``test`` 0 the second part is the rest. A class that has fewer gives what it has.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((20, 2, 2, 3), np.uint8), labels=np.arange(20) % 2)
    >>> [len(part) for part in drawn_parts(store, 3)], [len(p) for p in drawn_parts(store, 3, 2)]
    ([6, 14], [6, 4])
    """
    chosen = label_subset(store, f"{train}-per-class", draw=seed)
    rest = store.subset(np.setdiff1d(np.arange(len(store)), chosen))
    if test:
        rest = rest.subset(label_subset(rest, f"{test}-per-class", draw=seed))
    return store.subset(chosen), rest
