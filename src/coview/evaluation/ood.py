"""Are images from elsewhere told from those of the data? Scores that never see such images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import DataError, InvalidValue
from coview.core.progress import progress
from coview.core.text import plural
from coview.embeddings.neighbors import neighbors
from coview.evaluation.benchmark import Benchmark, class_means, labels_of
from coview.evaluation.features import Features, Subject
from coview.evaluation.linear import Probe, ProbeSpec, linear_probe, probe_of
from coview.evaluation.ood_metrics import Resampling, Separation, placements
from coview.evaluation.ood_scores import (
    Gaussians,
    cosine_norm,
    energy,
    kmeans_groups,
    knn_score,
    max_softmax,
)
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.statistics import RESAMPLES

OOD_K = 50

Setting = dict[str, Any]
Rate = Callable[[Tensor], list[Tensor]]
"""Rows [M, D] -> for each of several settings one number each [M], higher for the data."""
Scores = npt.NDArray[np.float64]


def evaluate_ood(
    benchmark: Benchmark, *, k: int = OOD_K, clusters: tuple[int, ...] = (1,),
    spec: ProbeSpec | None = None, resamples: int = RESAMPLES,
) -> list[Result]:  # fmt: skip
    """AUROC, FPR95 and average precision of every score, at every layer, for each set of outliers.

    A setting is {"outliers", "score"}, with what the score has: "k" and "k_used"; "clusters". The
    metric "aupr" is there twice, with "positive" "data" and "outliers". The scores are fitted on
    the training part; ``clusters``: the numbers of k-means clusters of "mahalanobis", each a
    setting. Intervals: the bootstrap over test images and, apart from them, over outliers; they do
    not cover another training or other outliers. Raises DataError without outliers, InvalidValue.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> images = np.random.default_rng(0).integers(0, 99, (60, 8, 8, 3), np.uint8)
    >>> store = store_from_arrays(images, labels=np.arange(60) % 2)
    >>> benchmark = make_benchmark(
    ...     [pixel_subject(2)], store, outliers={"bright": store_from_arrays(images + 99)})
    >>> first = evaluate_ood(benchmark, spec=ProbeSpec(epochs=1), resamples=100)[0]
    >>> first.metric, first.setting
    ('auroc', {'outliers': 'bright', 'score': 'knn', 'k': 50, 'k_used': 48})
    """
    if k < 1:
        raise InvalidValue(f"`k` is {k}; expected at least 1.")
    if not benchmark.outliers:
        raise DataError(
            "The protocol 'ood' needs images from elsewhere and there are none; name a data set of "
            "them as `outliers`."
        )
    spec = spec or ProbeSpec(seed=benchmark.seed)
    draws = {
        name: Resampling.of(
            len(benchmark.test), len(store), seed=benchmark.seed, resamples=resamples
        )
        for name, store in benchmark.outliers.items()
    }
    card = {**benchmark.card, **_card(benchmark, k, spec, resamples)}

    def of_subject(subject: Subject) -> Iterator[Result]:
        bank, test, *others = _features(benchmark, subject)
        for layer in subject.all_layers:
            own_logits = subject.logits == layer
            several = len(torch.unique(labels_of(bank))) > 1
            fitted = scorers(
                bank.layers[layer], labels_of(bank), bank.ids, k=k, clusters=clusters, spec=spec,
                own_logits=own_logits,
                probe=probe_of(benchmark, subject, layer, spec) if several and not own_logits
                else None,
            )  # fmt: skip
            settings = [setting for settings, _ in fitted for setting in settings]
            data = score(fitted, test.layers[layer])
            outliers = {
                name: score(fitted, part.layers[layer])
                for name, part in zip(draws, others, strict=True)
            }
            where = {"subject": subject.name, "layer": layer, "card": card}
            for name, elsewhere in outliers.items():
                for setting, *values in zip(settings, data, elsewhere, strict=True):
                    yield from _results(
                        benchmark, where, {"outliers": name, **setting}, values, draws[name]
                    )
            advance()

    layers = sum(len(subject.all_layers) for subject in benchmark.subjects)
    with progress("out-of-distribution", layers, unit="layers") as advance:
        return [result for subject in benchmark.subjects for result in of_subject(subject)]


def scorers(
    bank: Tensor, labels: Tensor, ids: Tensor, *, k: int = OOD_K, clusters: tuple[int, ...] = (1,),
    spec: ProbeSpec | None = None, own_logits: bool = False, probe: Probe | None = None,
) -> list[tuple[list[Setting], Rate]]:  # fmt: skip
    """The scores as (settings, function of rows), fitted on a labeled bank; they see nothing else.

    A function gives the scores of all its settings. Those that need classes are left out where
    the bank has a single one. Sources are with the functions of :mod:`ood_scores`; the relative
    distance is that of Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD
    detection", 2021. ``own_logits``: the rows are the logits of a classifier; of other
    rows a linear probe makes them: ``probe``, or one that is trained here.

    Shapes: bank [N, D], labels int64 [N] of any values, ids int64 [N] (they key the probe's draws).

    >>> bank, labels = torch.eye(3).repeat(40, 1), torch.arange(3).repeat(40)
    >>> fitted = scorers(bank, labels, torch.arange(120), spec=ProbeSpec(epochs=2))
    >>> [setting["score"] for settings, _ in fitted for setting in settings]
    ['knn', 'cosine-norm', 'mahalanobis', 'mahalanobis-classes', 'mahalanobis-relative', 'softmax',
    'energy']
    >>> score(fitted, torch.tensor([[0.0, 5.0, 0.0]]))[1]
    array([5.])
    """
    spec = spec or ProbeSpec()
    names, classes = torch.unique(labels, return_inverse=True)
    found = [
        _neighbor_scores(bank, k),
        _normal_scores(bank, classes if len(names) > 1 else None, clusters, seed=spec.seed),
    ]
    if own_logits:
        found.append(_logit_scores(lambda rows: rows))
    elif len(names) > 1:
        probe = probe or linear_probe(bank, labels, ids, spec)
        found.append(_logit_scores(probe.logits))
    return found


def score(fitted: list[tuple[list[Setting], Rate]], rows: Tensor) -> list[Scores]:
    """Every score of rows [M, D], in the order of the settings: float64 [M] each."""
    return [values.double().cpu().numpy() for _, rate in fitted for values in rate(rows)]


def _neighbor_scores(bank: Tensor, k: int) -> tuple[list[Setting], Rate]:
    def rate(rows: Tensor) -> list[Tensor]:
        cosines, _ = neighbors(bank, rows, k)
        return [knn_score(cosines), cosine_norm(cosines, rows)]

    knn = {"score": "knn", "k": k, "k_used": min(k, len(bank))}
    return [knn, {"score": "cosine-norm"}], rate


def _normal_scores(
    bank: Tensor, classes: Tensor | None, clusters: tuple[int, ...], *, seed: int
) -> tuple[list[Setting], Rate]:
    whole = Gaussians.fit(bank)
    clustered = [
        whole
        if count == 1
        else Gaussians.fit(bank, kmeans_groups(bank, count, seed=seed), shared=False)
        for count in clusters
    ]
    of_classes = None if classes is None else Gaussians.fit(bank, classes)

    def rate(rows: Tensor) -> list[Tensor]:
        one = whole.nearest(rows)
        values = [-(one if fitted is whole else fitted.nearest(rows)) for fitted in clustered]
        if of_classes is not None:
            nearest = of_classes.nearest(rows)
            values += [-nearest, one - nearest]
        return values

    settings: list[Setting] = [{"score": "mahalanobis", "clusters": count} for count in clusters]
    if of_classes is not None:
        settings += [{"score": "mahalanobis-classes"}, {"score": "mahalanobis-relative"}]
    return settings, rate


def _logit_scores(logits: Callable[[Tensor], Tensor]) -> tuple[list[Setting], Rate]:
    def rate(rows: Tensor) -> list[Tensor]:
        values = logits(rows)
        return [max_softmax(values), energy(values)]

    return [{"score": "softmax"}, {"score": "energy"}], rate


def _features(benchmark: Benchmark, subject: Subject) -> list[Features]:
    """Features of the training part, the test part and each set of outliers, at all layers."""
    return [
        *(benchmark.features_of(subject, store, subject.all_layers)
          for store in (benchmark.train, benchmark.test)),
        *(benchmark.features_of(subject, store, subject.all_layers, keep=False)
          for store in benchmark.outliers.values()),
    ]  # fmt: skip


def _results(
    benchmark: Benchmark, where: Mapping[str, Any], setting: Setting, values: Sequence[Scores],
    drawn: Resampling,
) -> Iterator[Result]:  # fmt: skip
    """The figures of one score, given for the test part and for outliers.

    ``where`` are the subject, the layer and the card.
    """
    data, outliers = values
    point, intervals = Separation.of(data, outliers), drawn.intervals(data, outliers)
    for figure, (low, high) in intervals.items():
        metric, _, positive = figure.partition("_")
        value = float(getattr(point, figure)[0])
        yield Result(
            protocol="ood", metric=metric, value=value, test_images=len(data),
            # Of few images a draw repeats some, which moves AUPR and FPR95 to one side.
            interval=(min(low, value), max(high, value)),
            setting={**setting, **({"positive": positive} if positive else {})},
            per_class=class_means(benchmark.test, placements(data, outliers))
            if metric == "auroc"
            else {},
            **where,
        )  # fmt: skip


def _card(benchmark: Benchmark, k: int, spec: ProbeSpec, resamples: int) -> dict[str, Any]:
    card = {
        "positive_class": "the data: its images should score high; AUPR is there for both classes",
        "fitted_on": "the training part alone; no score, k, cluster or probe sees an outlier or a "
        "test image",
        "selection": "none: every score of every layer is reported",
        "layers": "the encoder's output, every layer of the head, z before it is scaled to unit "
        "length",
        "knn": f"minus the distance to the neighbor of rank {k} of unit-length rows, among all "
        "training images",
        "mahalanobis": "SSD: rows to unit length, each dimension to mean 0 and deviation 1, minus "
        "the squared distance by the pseudo-inverse of the biased covariance, to the nearest of "
        "the clusters (k-means, each with its covariance; 1: all images)",
        "mahalanobis-classes": "the same rows; class means, one covariance within the classes; "
        "uses the labels of the training part",
        "mahalanobis-relative": "the squared distance of mahalanobis with 1 cluster minus that of "
        "mahalanobis-classes (Ren et al. 2021, on the scaled rows)",
        "cosine-norm": "the highest cosine to a training image times the length of the row",
        "softmax, energy": "largest probability, and log of the sum of exp(logits); the logits "
        "are the subject's own at the layer that own_logits names, elsewhere those of a linear "
        "probe on the labels of the training part",
        "own_logits": {
            subject.name: subject.logits for subject in benchmark.subjects if subject.logits
        },
        "probe": asdict(spec),
        "threshold": "FPR95 takes the score that 95 % of the test images reach",
        "intervals": f"{resamples} bootstrap draws of the test images and, independently, of the "
        "outliers, widened to hold the value; not of trainings",
        "outliers": {
            name: {"source": store.source, "images": len(store), "fingerprint": store.fingerprint}
            for name, store in benchmark.outliers.items()
        },
    }
    caveats = [
        f"{plural(count, 'image')} of the outliers {name!r} {'is' if count == 1 else 'are'} in the "
        f"{part} part too, with equal pixels."
        for name, store in benchmark.outliers.items()
        for part, own in (("training", benchmark.train), ("test", benchmark.test))
        if (count := int(np.isin(store.content, own.content).sum()))
    ]
    return {**card, **({"caveats": caveats} if caveats else {})}


OOD = Protocol(
    name="ood", title="Out-of-distribution", evaluate=evaluate_ood, needs=("outliers",),
    question="Are images from elsewhere told from those of the data?",
    headline={"metric": "auroc", "layer": "h", "score": "knn"},
)  # fmt: skip
