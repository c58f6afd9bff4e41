"""torchvision's classification data sets by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, UnknownName
from coview.core.places import place_of
from coview.data.listing import Content, Listing, hash_lines, image_ids
from coview.data.parts import ALL
from coview.data.scan import scan_folder

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """A data set of torchvision: its class, the arguments of each split, and where labels are.

    labels: the attribute with one class number per image ("_samples": pairs of path and number).
    megabytes: the approximate size of the download.
    """

    kind: str
    splits: Mapping[str, Mapping[str, Any]]
    labels: str
    megabytes: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The splits that share no image.

        >>> KNOWN_SETS["stl10"].parts
        ('train', 'test', 'unlabeled')
        """
        return tuple(split for split in self.splits if "+" not in split)


def _splits(*splits: str, **renamed: str) -> Mapping[str, Mapping[str, Any]]:
    names = {**{split: split for split in splits}, **renamed}
    return {ours: {"split": theirs} for ours, theirs in names.items()}


_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_WHOLE: Mapping[str, Mapping[str, Any]] = {"train": {}}
_TABLE = (
    ("caltech101", "Caltech101", _WHOLE, "y", 137),
    ("cifar10", "CIFAR10", _FLAG, "targets", 170),
    ("cifar100", "CIFAR100", _FLAG, "targets", 169),
    ("country211", "Country211", _splits("train", "test", val="valid"), "targets", 11_000),
    ("dtd", "DTD", _splits("train", "val", "test"), "_labels", 625),
    ("eurosat", "EuroSAT", _WHOLE, "targets", 94),
    ("fashionmnist", "FashionMNIST", _FLAG, "targets", 31),
    ("fgvcaircraft", "FGVCAircraft", _splits("test", train="trainval"), "_labels", 2_750),
    ("flowers102", "Flowers102", _splits("train", "val", "test"), "_labels", 345),
    ("food101", "Food101", _splits("train", "test"), "_labels", 5_000),
    ("gtsrb", "GTSRB", _splits("train", "test"), "_samples", 360),
    ("imagenette", "Imagenette", _splits("train", "val"), "_samples", 1_560),
    ("kmnist", "KMNIST", _FLAG, "targets", 21),
    ("mnist", "MNIST", _FLAG, "targets", 12),
    ("oxfordiiitpet", "OxfordIIITPet", _splits("test", train="trainval"), "_labels", 811),
    ("stanfordcars", "StanfordCars", _splits("train", "test"), "_samples", 1_960),
    ("stl10", "STL10", _splits("train", "test", "unlabeled", "train+unlabeled"), "labels", 2_640),
    ("sun397", "SUN397", _WHOLE, "_labels", 37_000),
    ("svhn", "SVHN", _splits("train", "test", "extra"), "labels", 250),
)
KNOWN_SETS: Mapping[str, KnownSet] = {
    name: KnownSet(kind=kind, splits=splits, labels=labels, megabytes=megabytes)
    for name, kind, splits, labels, megabytes in _TABLE
}
_IMAGE_BYTES = 1 << 14  # a guess; it decides only how many images are decoded as one task


def read_torchvision(name: str, *, split: str, root: Path, download: bool, labels: bool) -> Listing:
    """The images of one split, named "cifar10:train#17"; of "train+val" those of both, one after
    the other; of "all" those of every part.

    Raises UnknownName for a split that the set does not have,
    and DataError if the data are not under ``root`` and may not be downloaded.
    """
    known = KNOWN_SETS[name]
    parts = (split,) if split in known.splits else tuple(split.split("+"))
    if split == ALL:
        parts = known.parts
    for part in parts:
        if part not in known.splits:
            raise UnknownName(f"split of {name}", split, known.splits)
    datasets = [_open_set(name, known, part, root, download) for part in parts]
    places = [(dataset, row) for dataset in datasets for row in range(len(dataset))]
    names = [
        f"{name}:{part}#{row}"
        for part, dataset in zip(parts, datasets, strict=True)
        for row in range(len(dataset))
    ]
    numbers, classes = _labels_of_all(datasets, known) if labels else (None, ())

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((partial(_read_image, *places[row]), _IMAGE_BYTES) for row in rows.tolist())

    return Listing(
        source=f"{name}:{split}", names=names, contents=contents,
        stamp=hash_lines(["torchvision", name, split, str(root.resolve()), str(len(places))]),
        ids=image_ids(names), labels=numbers, class_names=classes, parts=tuple(sorted(known.parts)),
    )  # fmt: skip


def _open_set(name: str, known: KnownSet, split: str, root: Path, download: bool) -> Any:
    from torchvision import datasets

    if download:
        root.mkdir(parents=True, exist_ok=True)
    try:
        return getattr(datasets, known.kind)(root, download=download, **known.splits[split])
    except ImportError as error:
        raise DataError(f"The data set {name!r} needs another package: {error}.") from error
    except OSError as error:
        if download:
            raise DataError(
                f"The data set {name!r} could not be downloaded to {root} ({error})."
            ) from error
        raise _missing_error(name, known, split, root) from error
    except RuntimeError as error:
        raise _missing_error(name, known, split, root) from error


def _missing_error(name: str, known: KnownSet, split: str, root: Path) -> DataError:
    place = place_of(root)
    unreadable = [(str(root), place.reason)] if place.reason else []
    if place.is_folder:  # torchvision takes what it may not read for absent
        unreadable = scan_folder(root).unreadable
    if unreadable:
        where, reason = unreadable[0]
        return DataError(f"The data set {name!r} is looked for in {root}; {where}: {reason}.")
    return DataError(
        f"The {split} part of {name!r} is missing or incomplete in {root}; allow the download of "
        f"the set (about {known.megabytes:,} MB) with `download`, or put it there as "
        f"torchvision.datasets.{known.kind} expects it"
        f"{'' if split == 'train' else ', or name another part by `split`'}."
    )


def _read_image(dataset: Any, row: int) -> Image.Image:
    image: Image.Image = dataset[row][0]
    return image


def _labels_of_all(
    datasets: list[Any], known: KnownSet
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """The labels of all parts one after the other, -1 in a part without any; None if none has."""
    labels = [_read_labels(dataset, known) for dataset in datasets]
    if all(numbers is None for numbers, _ in labels):
        return None, ()
    filled = [
        np.full(len(dataset), -1, np.int64) if numbers is None else numbers
        for dataset, (numbers, _) in zip(datasets, labels, strict=True)
    ]
    return np.concatenate(filled), max((classes for _, classes in labels), key=len)


def _read_labels(
    dataset: Any, known: KnownSet
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    values = getattr(dataset, known.labels)
    if known.labels == "_samples":
        values = [sample[1] for sample in values]
    numbers = np.asarray(values, dtype=np.int64)
    if (numbers < 0).all():
        return None, ()
    classes = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    names = classes or range(int(numbers.max()) + 1)
    # Imagenette gives several names of each class, of which the first is used.
    return numbers, tuple(str(c[0]) if isinstance(c, tuple | list) else str(c) for c in names)
