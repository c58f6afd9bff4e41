"""Accuracy against the number of labels: a classifier on frozen features, from few to many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.core.rng import LABEL_FOLDS, Stream, permutation
from coview.data.labels import label_subset
from coview.evaluation.benchmark import Benchmark, labels_of
from coview.evaluation.features import Features
from coview.evaluation.protocol import Protocol
from coview.evaluation.regression import LinearClassifier, LogisticRegression, PrincipalAxes
from coview.evaluation.result import Result
from coview.evaluation.statistics import mean_interval

SUBSETS = (
    "1-per-class", "2-per-class", "5-per-class", "10-per-class", "25-per-class", "100-per-class",
    "1%", "10%",
)  # fmt: skip
DRAWS = 5
STRENGTHS = tuple(10.0**power for power in range(5, -7, -1))
"""One strength of the penalty a decade, of the range of the transfer papers."""
FOLDS, ALL_FOLDS_UP_TO = 5, 1_000
"""Parts of a cross-validation, and the number of labels up to which each is validated on."""
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSubset:
    """One number of labels: its words, and the rows of the training part in each draw."""

    words: str
    draws: tuple[npt.NDArray[np.int64], ...]

    @property
    def labels(self) -> int:
        """The number of labels, the same in each draw."""
        return len(self.draws[0])


def evaluate_few_labels(benchmark: Benchmark, *, draws: int = DRAWS) -> list[Result]:
    """Test accuracy for each subject, layer and number of labels, the mean over the draws.

    A setting is {"labels", "subset", "draws"}; the interval is that of a mean over draws. Subsets
    that the training part is too small for are left out. Raises DataError where all are.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(30) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(30) % 2)
    >>> results = evaluate_few_labels(make_benchmark([pixel_subject(8)], store), draws=2)
    >>> [(result.setting["labels"], result.value) for result in results]
    [(2, 1.0), (4, 1.0), (10, 1.0), (20, 1.0)]
    """
    subsets = label_subsets(benchmark.train, draws)
    card = {
        **benchmark.card,
        "labels": "class-balanced subsets of the training part; within a draw a smaller one lies "
        "within every larger one",
        "classifier": "multinomial logistic regression on frozen features as they are, by L-BFGS",
        "selection": "the strength of the penalty, one a decade from 1e5 to 1e-6, by "
        f"{FOLDS}-fold cross-validation among the chosen labels alone (fewer folds where a class "
        f"has fewer; above {ALL_FOLDS_UP_TO:,} labels on one fold); with one label of a class the "
        "mean squared length of the centered features",
        "value": f"mean over {draws} draws",
        "interval": "of the mean over draws (Student); it does not cover the choice of test images",
    }
    results = []
    with progress("few labels", len(benchmark.subjects), unit="subjects") as advance:
        for subject in benchmark.subjects:
            train, test = benchmark.features[subject.name]
            for layer in train.layers:
                for subset, accuracies in _accuracies(train, test, layer, subsets):
                    low, high = mean_interval(accuracies)
                    results.append(Result(
                        protocol="few-labels", subject=subject.name, layer=layer,
                        metric="accuracy", value=float(np.mean(accuracies)),
                        interval=(max(0.0, low), min(1.0, high)), test_images=len(test),
                        setting={
                            "labels": subset.labels, "subset": subset.words, "draws": draws,
                        }, card=card,
                    ))  # fmt: skip
            advance()
    return results


def _accuracies(
    train: Features, test: Features, layer: str, subsets: Sequence[LabelSubset]
) -> Iterator[tuple[LabelSubset, list[float]]]:
    """The test accuracy of each draw, for each number of labels."""
    axes: PrincipalAxes | None = None  # of the first subset that is large enough, for all others
    for subset in subsets:
        accuracies = []
        for draw, rows in enumerate(subset.draws):
            chosen = torch.from_numpy(rows)
            classifier, axes = few_label_classifier(
                train.layers[layer][chosen], labels_of(train)[chosen], train.ids[chosen], axes,
                seed=draw,
            )  # fmt: skip
            accuracies.append(classifier.accuracy(test.layers[layer], labels_of(test)))
        yield subset, accuracies


def label_subsets(train: ImageStore, draws: int = DRAWS) -> list[LabelSubset]:
    """The subsets that fit the training part, by their number of labels. Raises DataError.

    Of two with equally many labels the first of SUBSETS stays.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((40, 2, 2, 3), np.uint8), labels=np.arange(40) % 4)
    >>> [(subset.words, subset.labels) for subset in label_subsets(store)]
    [('1-per-class', 4), ('2-per-class', 8), ('5-per-class', 20)]
    """
    by_size: dict[int, LabelSubset] = {}
    for words in SUBSETS:
        with suppress(DataError):  # less than one label of each class
            rows = tuple(label_subset(train, words, draw=draw) for draw in range(draws))
            if len(rows[0]) < len(train):
                by_size.setdefault(len(rows[0]), LabelSubset(words=words, draws=rows))
    if not by_size:
        raise DataError(
            f"{train.source or 'The training part'} has too few labeled images for a part of them: "
            f"{len(train)}; give two or more of each class."
        )
    return [by_size[size] for size in sorted(by_size)]


def few_label_classifier(
    features: Tensor, labels: Tensor, ids: Tensor, axes: PrincipalAxes | None = None, *,
    seed: int = 0,
) -> tuple[LinearClassifier, PrincipalAxes | None]:  # fmt: skip
    """The classifier of a few labels, its strength chosen among them; and the axes to go on with.

    Shapes: features float [N, D], labels int64 [N], ids int64 [N], which key the folds.
    """
    strength, axes = _choose_strength(features, labels, ids, axes, seed)
    final = LogisticRegression(features, labels, tolerance=TOLERANCE, axes=axes)
    return final.fit(strength), axes


def _choose_strength(
    features: Tensor, labels: Tensor, ids: Tensor, axes: PrincipalAxes | None, seed: int
) -> tuple[float, PrincipalAxes | None]:
    """The strength with the most right answers over the folds, then with the lowest loss."""
    scores = {strength: (0, 0.0) for strength in STRENGTHS}
    for train, validation in folds(labels, ids, seed):
        path = LogisticRegression(features[train], labels[train], tolerance=TOLERANCE, axes=axes)
        if len(train) >= features.shape[1]:
            axes = path.axes
        for strength in STRENGTHS:
            right, total = path.fit(strength).validate(features[validation], labels[validation])
            scores[strength] = scores[strength][0] + right, scores[strength][1] + total
    if not any(right for right, _ in scores.values()):  # one of a class, or nothing can be told
        centered = features - features.mean(0)
        return float(centered.square().sum(1).mean().clamp_min(1e-12)), axes
    return max(scores, key=lambda strength: scores[strength]), axes


def folds(labels: Tensor, ids: Tensor, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """(train, validation) rows: each class is spread evenly over the folds, by seed and image id.

    As many folds as the rarest class has images, at most 5; none where one has a single image.

    >>> [len(rows) for _, rows in folds(torch.arange(12) % 4, torch.arange(12))]
    [4, 4, 4]
    """
    count = min(FOLDS, int(torch.unique(labels, return_counts=True)[1].min()))
    if count < 2:
        return
    order = permutation(seed, Stream.PROBE, ids.numpy(), draw_index=LABEL_FOLDS)
    fold = torch.empty(len(labels), dtype=torch.int64)
    for label in torch.unique(labels):
        members = torch.from_numpy(order)[labels[torch.from_numpy(order)] == label]
        fold[members] = torch.arange(len(members)) % count
    for part in range(count if len(labels) <= ALL_FOLDS_UP_TO else 1):
        yield (fold != part).nonzero()[:, 0], (fold == part).nonzero()[:, 0]


FEW_LABELS = Protocol(
    name="few-labels", title="Few labels", evaluate=evaluate_few_labels, axis="labels",
    question="How often is the class named by a classifier that was given few labels?",
    headline={"metric": "accuracy", "subset": "10-per-class"},
)  # fmt: skip
