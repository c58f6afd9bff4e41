"""Transfer: a logistic regression on the frozen features of each of several data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.data.held_out import match_classes
from coview.evaluation.benchmark import Benchmark, about_overlap, count_shared, labels_of
from coview.evaluation.eleven_points import eleven_point_map, label_table
from coview.evaluation.features import Features, Subject, labeled
from coview.evaluation.logistic import LogisticSpec, choose_classifier, logistic_card
from coview.evaluation.protocol import Protocol
from coview.evaluation.regression import LogisticRegression
from coview.evaluation.result import Outcomes, Result
from coview.evaluation.statistics import bootstrap_interval, wilson_interval, with_width
from coview.evaluation.transfer_sets import transfer_metric, transfer_set_of
from coview.evaluation.validation import official_validation, split_validation

MEAN = "mean"
"""In the place of a data set's name: the mean over all of them."""
TRAINED_ON = "trained on"
"""In the card: by subject, which test images of the data sets it was trained on, in sentences."""
MAP_RESAMPLES = 200

Rows = npt.NDArray[np.int64]
Parts = tuple[Tensor, Tensor]
Scored = tuple[float, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTask:
    """One labeled data set with the metric that the papers report of it."""

    name: str
    train: ImageStore
    test: ImageStore
    metric: str
    parts: Parts

    @classmethod
    def of(cls, name: str, train: ImageStore, test: ImageStore, spec: LogisticSpec) -> TransferTask:
        train, test = labeled(train, "A transfer"), labeled(test, "A transfer")
        metric = transfer_metric(name, train.source)
        parts = official_validation(train.names) or split_validation(
            torch.from_numpy(train.ids.copy()), spec.validation_share, seed=spec.seed
        )
        if metric != "map11":
            test = match_classes(train, test)
        elif not (train.class_names and test.class_names):
            raise DataError(
                f"The images of {name!r} may have several labels, which the names of their classes "
                "join as in dog+person, but its classes have no names."
            )
        return cls(name=name, train=train, test=test, metric=metric, parts=parts)


def evaluate_transfer(benchmark: Benchmark, *, spec: LogisticSpec | None = None) -> list[Result]:
    """The metric of each data set in ``benchmark.others`` for each subject, and their mean.

    A setting is {"data", "strength", "validation_accuracy"}, of the mean {"data": "mean"}; of a
    data set with several labels of an image {"data"}. The layer is the encoder's output. Raises
    DataError without labels. Source: Kornblith et al. 2019; SimCLR, appendix B.8.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> made = make_benchmark([pixel_subject(8)], store, others={"colors": (store, store)})
    >>> [(result.setting["data"], result.value) for result in evaluate_transfer(made)]
    [('mean', 1.0), ('colors', 1.0)]
    """
    spec = spec or LogisticSpec(seed=benchmark.seed)
    tasks = [
        TransferTask.of(name, train, test, spec) for name, (train, test) in benchmark.others.items()
    ]
    card = {**benchmark.card, **logistic_card(spec), **_card(benchmark, tasks, spec)}
    results = []
    with progress("transfer", len(tasks) * len(benchmark.subjects), unit="data sets") as advance:
        for subject in benchmark.subjects:
            of_subject = []
            for task in tasks:
                of_subject.append(_evaluate_task(benchmark, subject, task, spec, card))
                advance()
            results += [_mean_of(of_subject), *of_subject]
    return results


def mean_per_class(correct: npt.NDArray[np.bool_], labels: Rows) -> float:
    """The mean over the classes among ``labels`` of the share of their images that is correct.

    Shapes: bool [N], int64 [N] from 0.

    >>> mean_per_class(np.array([True, True, False, False]), np.array([0, 0, 0, 1]))
    0.3333333333333333
    """
    counts = np.bincount(labels)
    right = np.bincount(labels, weights=correct)
    return float((right[counts > 0] / counts[counts > 0]).mean())


def _evaluate_task(
    benchmark: Benchmark, subject: Subject, task: TransferTask, spec: LogisticSpec,
    card: Mapping[str, Any],
) -> Result:  # fmt: skip
    layer = subject.encoder_layer
    train, test = (
        benchmark.features_of(subject, store, (layer,), keep=False)
        for store in (task.train, task.test)
    )
    result = dict[str, Any](
        protocol="transfer", subject=subject.name, layer=layer, metric=task.metric,
        test_images=len(task.test), card=card,
    )  # fmt: skip
    if task.metric == "map11":
        value, interval = _several_labels(task, train, test, layer, spec)
        return Result(value=value, interval=interval, setting={"data": task.name}, **result)
    chosen = choose_classifier(
        train.layers[layer], labels_of(train), task.parts, spec, label=f"{task.name} regressions"
    )
    truth = labels_of(test).numpy()
    correct = chosen.classifier.predict(test.layers[layer]).numpy() == truth
    value, interval = _score(task.metric, correct, truth, spec.seed)
    return Result(
        value=value, interval=interval, outcomes=Outcomes.of(correct),
        setting={"data": task.name, **chosen.setting}, **result,
    )  # fmt: skip


def _score(metric: str, correct: npt.NDArray[np.bool_], labels: Rows, seed: int) -> Scored:
    if metric == "accuracy":
        share = float(correct.mean())
        return share, wilson_interval(share, len(correct))
    _, labels = np.unique(labels, return_inverse=True)
    value = mean_per_class(correct, labels)
    interval = bootstrap_interval(
        lambda rows: mean_per_class(correct[rows], labels[rows]), len(labels), seed=seed
    )
    counts = np.bincount(labels)
    low, high = with_width(interval, len(counts) * int(counts.min()))
    return value, (min(low, value), max(high, value))


def _several_labels(
    task: TransferTask, train: Features, test: Features, layer: str, spec: LogisticSpec
) -> Scored:
    """11-point mAP of one regression a class, each strength by average precision on validation.

    By cross-entropy there for a class that no image of the validation part has. A class that no
    image of the other part has, or each, cannot choose: it takes the median of the others' choices.
    """
    names = sorted({word for store in (task.train, task.test) for word in _words(store)})
    truth, test_truth = (label_table(store, names) for store in (task.train, task.test))
    rows, asked = train.layers[layer], test.layers[layer]
    scores: list[npt.NDArray[np.float64]] = []
    strengths: list[float] = []
    undecided: list[int] = []
    fit, held_out = task.parts
    axes = None
    settings: dict[str, Any] = {"tolerance": spec.tolerance, "max_steps": spec.max_steps}
    for column in range(len(names)):
        known = torch.from_numpy(truth[:, column] >= 0)
        chosen, judged = fit[known[fit]], held_out[known[held_out]]
        target = torch.from_numpy(truth[:, column].astype(np.int64))
        if len(np.unique(truth[chosen.numpy(), column])) < 2:
            scores.append(np.zeros(len(test)))
            if len(np.unique(truth[known.numpy(), column])) > 1:  # else all images have it, or none
                undecided.append(column)
            continue
        path = LogisticRegression(rows[chosen], target[chosen], axes=axes, **settings)
        axes = path.axes if len(chosen) >= rows.shape[1] else None
        has_class = truth[judged.numpy()][:, [column]]
        values = {}
        for strength in sorted(set(spec.strengths), reverse=True):
            fitted = path.fit(strength)
            if has_class.any():
                margin = _margin(fitted.scores(rows[judged]))
                values[strength] = eleven_point_map(margin[:, None], has_class)
            else:
                _, values[strength] = fitted.validate(rows[judged], target[judged])
        best = max(values, key=lambda strength: (values[strength], strength))
        last = LogisticRegression(rows[known], target[known], axes=axes, **settings).fit(best)
        scores.append(_margin(last.scores(asked)))
        strengths.append(best)
    median = float(np.median(strengths or sorted(set(spec.strengths))))
    for column in undecided:
        known = torch.from_numpy(truth[:, column] >= 0)
        target = torch.from_numpy(truth[:, column].astype(np.int64))
        last = LogisticRegression(rows[known], target[known], **settings).fit(median)
        scores[column] = _margin(last.scores(asked))
    table = np.stack(scores, axis=1)
    value = eleven_point_map(table, test_truth)
    interval = bootstrap_interval(
        lambda rows: eleven_point_map(table[rows], test_truth[rows]), len(table), seed=spec.seed,
        resamples=MAP_RESAMPLES,
    )  # fmt: skip
    low, high = with_width(interval, len(table))
    return value, (min(low, value), max(high, value))


def _margin(scores: Tensor) -> npt.NDArray[np.float64]:
    """By how much the score of having the label exceeds that of not having it: [N, 2] -> [N]."""
    return (scores[:, 1] - scores[:, 0]).double().numpy()


def _words(store: ImageStore) -> set[str]:
    assert store.labels is not None
    used = {store.class_names[int(label)] for label in np.unique(store.labels)}
    return {word.removesuffix("?") for name in used for word in name.split("+") if word}


def _mean_of(results: list[Result]) -> Result:
    """The mean over data sets; the half widths of independent intervals add as squares."""
    first, count = results[0], len(results)
    value = float(np.mean([result.value for result in results]))
    halves = [(result.interval[1] - result.interval[0]) / 2 for result in results]
    half = math.sqrt(sum(half**2 for half in halves)) / count
    return Result(
        protocol="transfer", subject=first.subject, layer=first.layer, metric="transfer_mean",
        value=value, interval=(max(0.0, value - half), min(1.0, value + half)),
        test_images=sum(result.test_images for result in results), setting={"data": MEAN},
        card=first.card,
    )  # fmt: skip


def _card(benchmark: Benchmark, tasks: list[TransferTask], spec: LogisticSpec) -> dict[str, Any]:
    caveats = [
        sentence
        for task in tasks
        for sentence in about_overlap(
            count_shared(task.train, task.test), f"The training part of {task.name!r}"
        )
    ]
    return {
        "data sets": {
            task.name: {
                "metric": task.metric, "train": len(task.train), "test": len(task.test),
                "validation": len(task.parts[1]), "fingerprints":
                [task.train.fingerprint, task.test.fingerprint],
                **({"paper": f"{known.title}: {known.split}"} if known else {}),
            }
            for task in tasks
            for known in [transfer_set_of(task.name, task.train.source)]
        },
        "selection": "strength by accuracy on the validation part of each data set (its own, or "
        f"{spec.validation_share:g} of its training part), then a new fit to both; tested once. Of "
        "images with several labels one regression a class, its strength by average precision",
        "interval": "Wilson's of an accuracy, else bootstrap over test images; of the mean from "
        "those of the data sets, which are independent",
        **({"caveats": caveats} if caveats else {}),
        **(
            {TRAINED_ON: {name: list(each) for name, each in benchmark.trained_on_others.items()}}
            if any(benchmark.trained_on_others.values()) else {}
        ),
    }  # fmt: skip


TRANSFER = Protocol(
    name="transfer", title="Transfer", evaluate=evaluate_transfer, needs=("others",),
    question="How well do the features serve other data sets?",
    headline={"metric": "transfer_mean", "data": MEAN},
)  # fmt: skip
