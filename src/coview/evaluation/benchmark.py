"""A benchmark: the features of several subjects on one pair of data sets, usually labeled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore
from coview.core.metrics import FEW_TEST_IMAGES
from coview.core.rng import TEST_PART, Stream, permutation
from coview.core.text import plural
from coview.core.values import encode
from coview.data.held_out import match_classes
from coview.evaluation.feature_cache import FeatureCache
from coview.evaluation.features import (
    Features,
    Subject,
    extract,
    features_of_layers,
    has_labels,
    labeled,
)
from coview.evaluation.result import Outcomes, Result
from coview.evaluation.statistics import wilson_interval

FEW_OF_A_CLASS = 5

MAX_CONFUSED_CLASSES = 40
"""Classes of a confusion matrix that can still be read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Subjects, and the training and test images that they are judged on.

    Both parts have labels, or none has (see ``needs_labels`` of :func:`make_benchmark`).

    Features are computed when a protocol first needs them. Those of ``train`` and ``test`` are kept
    for the others; outliers and further data are read by one protocol each. ``card`` says how.
    ``outliers``: images from elsewhere, by the name of their data. ``others``: further labeled
    data, (train, test) by name. ``corrupted``: a folder of published corrupted images.
    ``more``: what the caller knows against the figures. ``trained_on_others``: by subject,
    sentences on test images of ``others`` that it was trained on. ``cache``: where features are
    kept.
    """

    subjects: tuple[Subject, ...]
    train: ImageStore
    test: ImageStore
    card: Mapping[str, Any]
    seed: int = 0
    device: torch.device | str = "cpu"
    batch_size: int = 256
    outliers: Mapping[str, ImageStore] = field(default_factory=dict)
    others: Mapping[str, tuple[ImageStore, ImageStore]] = field(default_factory=dict)
    corrupted: Path | None = None
    more: tuple[str, ...] = ()
    trained_on_others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cache: FeatureCache | None = None
    _features: dict[tuple[str, str], Features] = field(default_factory=dict, repr=False)
    _made: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def features_of(
        self, subject: Subject, store: ImageStore, layers: Sequence[str] | None = None, *,
        keep: bool = True,
    ) -> Features:  # fmt: skip
        """The features of ``store`` at ``layers``, by default ``subject.layers``, in its order.

        ``keep``: in memory, for the next call. Without it they are on disk alone, if anywhere.
        """
        layers = subject.layers if layers is None else tuple(layers)
        key = (subject.name, store.fingerprint)
        known = self._features.get(key)
        missing = [layer for layer in layers if known is None or layer not in known.layers]
        if known is None or missing:
            new = self._compute(subject, store, missing)
            known = replace(new, layers={**(known.layers if known else {}), **new.layers})
            if keep:
                self._features[key] = known
        return replace(known, layers={layer: known.layers[layer] for layer in layers})

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What ``make`` returned at the first call with ``key``, for protocols that share it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _compute(self, subject: Subject, store: ImageStore, layers: Sequence[str]) -> Features:
        """From disk as far as they are there; what is computed is kept there."""
        kept = {} if self.cache is None else self.cache.load(subject, store, layers, self.device)
        missing = [layer for layer in layers if layer not in kept]
        if not missing:
            return features_of_layers(store, kept)
        new = extract(
            subject, store, layers=missing, device=self.device, batch_size=self.batch_size
        )
        if self.cache is not None:
            self.cache.save(subject, store, new.layers, self.device)
        return replace(new, layers={**kept, **new.layers})

    @cached_property
    def features(self) -> dict[str, tuple[Features, Features]]:
        """(train, test) features of the subject's layers, by its name."""
        return {
            subject.name: (
                self.features_of(subject, self.train), self.features_of(subject, self.test),
            )
            for subject in self.subjects
        }  # fmt: skip

    @property
    def data(self) -> dict[str, Any]:
        """Source, size and fingerprint of both parts; the chance level of a labeled test part."""
        return {
            "train": _describe_part(self.train),
            "test": _describe_part(self.test),
            **_describe_classes(self.train, self.test),
            "images_in_both_parts": self.shared_images,
            "caveats": list(self.caveats),
        }

    @cached_property
    def shared_images(self) -> int:
        """The number of test images whose pixels are those of a training image."""
        return count_shared(self.train, self.test)

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Sentences on why the figures say less than they seem to."""
        return (
            *about_counts(self.train, self.test),
            *(() if self.train.labels is None else about_overlap(self.shared_images)),
            *self.more,
        )


def make_benchmark(
    subjects: Sequence[Subject], train: ImageStore, test: ImageStore | None = None, *,
    test_share: float = 0.2, seed: int = 0, device: torch.device | str = "cpu",
    batch_size: int = 256, caveats: Callable[[ImageStore], tuple[str, ...]] | None = None,
    outliers: Mapping[str, ImageStore] | None = None,
    others: Mapping[str, tuple[ImageStore, ImageStore]] | None = None,
    trained_on_others: Mapping[str, Sequence[str]] | None = None,
    corrupted: Path | None = None, cache: FeatureCache | None = None, needs_labels: bool = True,
) -> Benchmark:  # fmt: skip
    """Subjects and images for any number of protocols, which share the features.

    Without ``test``, a share ``test_share`` of the labeled images, chosen by seed and image id, is
    the test part. Where both have names of classes, labels are matched by these names, in
    ``others`` too, and the training part must have every class of the test images. Images without
    a label are left out. Without ``needs_labels`` images of which a part has no label at all are
    taken without any, for protocols that read none. The networks are already on ``device``.
    ``cache``: where features are kept on disk; None: nowhere. ``caveats``: of the test part,
    sentences for the results on what else is known of it. ``trained_on_others``: the same of the
    test images of ``others``, by subject.
    Raises InvalidValue for subjects without names of their own, DataError without labels or images
    and for test images of a class whose name the training part lacks.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import evaluate_knn, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> benchmark = make_benchmark([pixel_subject(8)], store)
    >>> (result,) = evaluate_knn(benchmark, settings=((1, None),))
    >>> result.subject, result.value
    ('pixels', 1.0)
    """
    names = Counter(subject.name for subject in subjects)
    if not names or max(names.values()) > 1:
        raise InvalidValue(f"`subjects` are named {list(names)}; expected one or more, each once.")
    split = "train and test parts as given"
    given, (train, test) = test, parts_of(train, test, test_share, seed, needs_labels=needs_labels)
    if given is None:
        images = "images" if train.labels is None else "labeled images"
        split = f"{test_share:g} of the {images} are the test part, chosen by seed and id"
    card = {
        "features": "h is the output of the encoder, z that of the head, pixels the resized image "
        "itself; frozen networks in evaluation mode",
        "subjects": {
            subject.name: {
                "weights": subject.weights_hash,
                "view": encode(subject.view),
                **({"note": subject.note} if subject.note else {}),
            }
            for subject in subjects
        },
        "split": split,
        "seed": seed,
    }
    return Benchmark(
        subjects=tuple(subjects),
        train=train,
        test=test,
        card=card,
        seed=seed,
        device=device,
        batch_size=batch_size,
        outliers=outliers or {},
        others=others or {},
        trained_on_others=trained_on_others or {},
        corrupted=corrupted,
        cache=cache,
        more=() if caveats is None else caveats(test),
    )


def parts_of(
    train: ImageStore, test: ImageStore | None, test_share: float = 0.2, seed: int = 0, *,
    needs_labels: bool = True,
) -> tuple[ImageStore, ImageStore]:  # fmt: skip
    """The training and test images of :func:`make_benchmark`; without labels where a part has none.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((20, 2, 2, 3), np.uint8))
    >>> [len(part) for part in parts_of(store, None, needs_labels=False)]
    [16, 4]
    """
    parts = [train] if test is None else [train, test]
    if needs_labels or all(has_labels(part.labels) for part in parts):
        parts = [labeled(part, "An evaluation") for part in parts]
    else:
        parts = [replace(part, labels=None, class_names=()) for part in parts]
    if test is None:
        return split_test(parts[0], test_share, seed=seed)
    return parts[0], match_classes(*parts)


Predictions = Callable[
    [tuple[Tensor, Tensor], Tensor, Tensor], Iterable[tuple[Mapping[str, Any], Tensor]]
]


def score(
    benchmark: Benchmark, protocol: str, card: Mapping[str, Any], predictions: Predictions
) -> list[Result]:
    """One accuracy for each subject, layer and setting, with its 95 % Wilson interval.

    ``predictions`` maps (train features, labels), test features and the train ids to pairs
    (setting, predicted labels int64 [M]). It gives the settings of every subject in the same order.
    """
    card = {**benchmark.card, **card}
    return [
        accuracy_result(
            benchmark, predicted, protocol=protocol, subject=name, layer=layer, setting=setting,
            card=card,
        )
        for name, (train, test) in benchmark.features.items()
        for layer in train.layers
        for setting, predicted in predictions(
            (train.layers[layer], labels_of(train)), test.layers[layer], train.ids
        )
    ]  # fmt: skip


def accuracy_result(
    benchmark: Benchmark, predicted: Tensor, *, protocol: str, subject: str, layer: str,
    setting: Mapping[str, Any], card: Mapping[str, Any],
) -> Result:  # fmt: skip
    """The accuracy of labels int64 [M] that were predicted for the test part, and of each class."""
    labels = np.asarray(benchmark.test.labels)
    classes = predicted.cpu().numpy()
    correct = classes == labels
    accuracy = float(correct.mean())
    return Result(
        protocol=protocol, subject=subject, layer=layer, metric="accuracy", value=accuracy,
        interval=wilson_interval(accuracy, len(labels)), test_images=len(labels), setting=setting,
        card=card, outcomes=Outcomes.of(correct),
        per_class=class_means(benchmark.test, correct),
        confusion=confusion_of(benchmark.test, classes),
    )  # fmt: skip


def confusion_of(store: ImageStore, predicted: np.ndarray[Any, Any]) -> dict[str, Any]:
    """{"classes": names, "counts": images of each class (row) by the class predicted (column)}.

    ``predicted`` int64 [N] are labels for the labeled images of ``store``. Empty above 40 classes,
    which nobody reads as a matrix.

    >>> from coview.core.images import store_from_arrays
    >>> pixels = np.zeros((3, 2, 2, 3), np.uint8)
    >>> store = store_from_arrays(pixels, labels=[0, 0, 1], class_names=("cat", "dog"))
    >>> confusion_of(store, np.array([0, 1, 1]))
    {'classes': ['cat', 'dog'], 'counts': [[1, 1], [0, 1]]}
    """
    labels = np.asarray(store.labels)
    known = np.union1d(labels, predicted)
    if len(known) > MAX_CONFUSED_CLASSES:
        return {}
    counts = np.zeros((len(known), len(known)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(known, labels), np.searchsorted(known, predicted)), 1)
    names = dict(enumerate(store.class_names))
    return {
        "classes": [names.get(int(label), str(label)) for label in known],
        "counts": counts.tolist(),
    }


def class_means(store: ImageStore, values: np.ndarray[Any, Any]) -> dict[str, float]:
    """The mean over the images of each class, by its name, of ``values`` [N] of labeled images."""
    labels, names = np.asarray(store.labels), dict(enumerate(store.class_names))
    return {
        names.get(int(label), str(label)): float(values[labels == label].mean())
        for label in np.unique(labels)
    }


def labels_of(features: Features) -> Tensor:
    """The labels of a labeled part, int64 [N]."""
    assert features.labels is not None
    return features.labels


def split_test(
    store: ImageStore, share: float = 0.2, *, seed: int = 0
) -> tuple[ImageStore, ImageStore]:
    """(train, test) parts of ``store``, chosen by seed and image id. Raises DataError.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((20, 2, 2, 3), np.uint8))
    >>> [len(part) for part in split_test(store)]
    [16, 4]
    """
    count = round(share * len(store))
    if not 0 < count < len(store):
        raise DataError(
            f"A test share of {share:g} leaves {len(store) - count} training and {count} test "
            f"images of {len(store)}; both parts need some. Label more images, or give `test`."
        )
    order = permutation(seed, Stream.PROBE, store.ids, draw_index=TEST_PART)
    return store.subset(np.sort(order[count:])), store.subset(np.sort(order[:count]))


def about_counts(train: ImageStore, test: ImageStore) -> list[str]:
    """What is wrong with the numbers of images: few to test on, few of a class, missing classes."""
    if train.labels is None or test.labels is None:
        few = f"{plural(len(test), 'test image')} are few; the 95 % interval says how little is"
        return [f"{few} known."] if len(test) < FEW_TEST_IMAGES else []
    sentences = []
    if len(test) < FEW_TEST_IMAGES:
        sentences.append(
            f"{plural(len(test), 'test image')} are too few for an accuracy: each of them is "
            f"{100 / len(test):.0f} points; the 95 % interval says how little is known."
        )
    known, counts = np.unique(train.labels, return_counts=True)
    tested = np.unique(test.labels)
    if len(unknown := np.setdiff1d(tested, known)):
        sentences.append(
            f"The training part has no image of {_names(test, unknown)} of the test images, so "
            "that no classifier can name them."
        )
    if len(untested := np.setdiff1d(known, tested)):
        sentences.append(
            f"There is no test image of {_names(train, untested)}, so that the accuracy says "
            "nothing about them."
        )
    if counts.min() < FEW_OF_A_CLASS:
        rare = known[counts < FEW_OF_A_CLASS]
        sentences.append(
            f"Of {_names(train, rare)} there are fewer than {FEW_OF_A_CLASS} training images each; "
            f"the rarest has {plural(int(counts.min()), 'image')}."
        )
    return sentences


def about_overlap(
    shared: int, part: str = "The training part", *, image: str = "test image"
) -> list[str]:
    """A sentence where this number of test images is among the training images, called ``part``.

    ``image``: what a test image is called.
    """
    if shared == 0:
        return []
    return [
        f"{part} has {plural(shared, image)} too, with equal pixels: the figures there are "
        "those of images that are known."
    ]


def count_shared(train: ImageStore, test: ImageStore) -> int:
    """The number of test images whose pixels are those of a training image."""
    return int(np.isin(test.content, train.content).sum())


def _names(store: ImageStore, labels: np.ndarray[Any, Any]) -> str:
    """The classes of these labels in words, the first three by name."""
    names = dict(enumerate(store.class_names))
    named = ", ".join(names.get(int(label), str(label)) for label in labels[:3])
    dots = " ..." if len(labels) > 3 else ""
    return f"{plural(len(labels), 'class', 'classes')} ({named}{dots})"


def _describe_classes(train: ImageStore, test: ImageStore) -> dict[str, Any]:
    """The number of classes and the chance level; {} without labels."""
    if train.labels is None or test.labels is None:
        return {}
    _, counts = np.unique(test.labels, return_counts=True)
    return {
        "classes": len(np.unique(train.labels)),
        "largest_class_share": float(counts.max() / counts.sum()),
    }


def _describe_part(store: ImageStore) -> dict[str, Any]:
    return {
        "source": store.source, "images": len(store), "fingerprint": store.fingerprint,
        "left_out": [list(entry) for entry in store.quarantine],
    }  # fmt: skip
