"""Classification by the vote of exact nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.rng import MONITOR_IMAGES, Stream, permutation
from coview.embeddings.neighbors import neighbors
from coview.evaluation.benchmark import Benchmark, score
from coview.evaluation.features import Subject, extract, labeled
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.validation import split_validation
from coview.views import ViewSpec

KNN_SETTINGS: tuple[tuple[int, float | None], ...] = (
    *((k, temperature) for temperature in (0.07, None) for k in (1, 10, 20, 200)),
    (200, 0.1),  # lightly's benchmarks and MoCo's CIFAR notebook
)
SWEPT_K = (1, 5, 10, 20, 50, 100, 200)
SWEPT_TEMPERATURES = (0.02, 0.05, 0.07, 0.1, 0.2, 0.5)
MAX_GROWTH = 3
"""How often the largest k doubles, and a border of the temperatures moves by a factor of 2."""
MAX_VALIDATION, VALIDATION_SHARE = 5_000, 0.2
MONITOR_K, MAX_BANK, MAX_QUERIES = 10, 5_000, 1_000


def evaluate_knn(
    benchmark: Benchmark, *, settings: tuple[tuple[int, float | None], ...] | None = None
) -> list[Result]:
    """Accuracy of nearest-neighbor votes for each setting (k, temperature or None).

    A setting is {"k", "temperature", "k_used"}; ``k_used`` is below k if there are fewer images.
    Without ``settings`` there are those of KNN_SETTINGS, and a last one that is chosen on a part of
    the training images; it has a "validation_accuracy" as well.
    Source: Wu et al., "Unsupervised feature learning via non-parametric instance discrimination",
    2018, section 3.4 (the weighted vote).

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> benchmark = make_benchmark([pixel_subject(8)], store)
    >>> (result,) = evaluate_knn(benchmark, settings=((20, 0.07),))
    >>> result.value, result.setting["k_used"]
    (1.0, 16)
    """
    fixed = tuple(dict.fromkeys(KNN_SETTINGS if settings is None else settings))
    bank_size = len(benchmark.train)

    def predictions(
        train: tuple[Tensor, Tensor], test: Tensor, ids: Tensor
    ) -> list[tuple[dict[str, float | None], Tensor]]:
        chosen = []
        if settings is None and bank_size > 1:
            chosen.append(choose_knn(*train, ids, seed=benchmark.seed))
        every = [*fixed, *((choice.k, choice.temperature) for choice in chosen)]
        predicted = knn_predictions(*train, test, settings=tuple(every))
        more = [*({} for _ in fixed), *({"validation_accuracy": c.accuracy} for c in chosen)]
        return [
            ({"k": k, "temperature": temperature, "k_used": min(k, bank_size), **extra}, labels)
            for (k, temperature), extra, labels in zip(every, more, predicted, strict=True)
        ]

    card = {
        "neighbors": "exact, by cosine of unit-length features, among all training images",
        "vote": "exp(cosine / temperature) for each neighbor, or 1 if temperature is null; of "
        "classes with equal votes the one with the nearest neighbor",
        "selection": "none: every setting is reported. Beside them the k and temperature that are "
        f"best on a part of the training images ({VALIDATION_SHARE:g} of them, at most "
        f"{MAX_VALIDATION:,}); a border that is best moves outward, at most {MAX_GROWTH} times",
    }
    return score(benchmark, "knn", card, predictions)


def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *,
    settings: tuple[tuple[int, float | None], ...],
) -> list[Tensor]:  # fmt: skip
    """The label that the vote gives each query, int64 [M], for each (k, temperature or None).

    Shapes: bank [N, D], queries [M, D], bank_labels int64 [N] of any values. A k above N uses all
    N. Neighbors are searched once. Raises InvalidValue.

    >>> bank, labels = torch.eye(3), torch.tensor([7, 7, 8])
    >>> knn_predictions(bank, labels, torch.eye(3), settings=((1, None), (3, None)))
    [tensor([7, 7, 8]), tensor([7, 7, 7])]
    """
    names, classes = torch.unique(bank_labels, return_inverse=True)
    cosines, rows = neighbors(bank, queries, max(k for k, _ in settings))
    return [
        names[vote(cosines[:, :k], classes[rows[:, :k]], len(names), temperature)]
        for k, temperature in settings
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenVote:
    """A k and a temperature, and the accuracy by which they were chosen."""

    k: int
    temperature: float
    accuracy: float


def choose_knn(bank: Tensor, bank_labels: Tensor, ids: Tensor, *, seed: int = 0) -> ChosenVote:
    """The k and temperature that classify a part of the training images best by the others.

    Of equal ones the smaller k and then the lower temperature. Where the best is the largest k or a
    border of the temperatures, the sweep grows. Shapes: bank [N, D], labels and ids int64 [N],
    N >= 2.

    >>> rows, labels = torch.eye(2).repeat(20, 1), torch.arange(2).repeat(20)
    >>> choose_knn(rows, labels, torch.arange(40))
    ChosenVote(k=1, temperature=0.0025, accuracy=1.0)
    """
    share = min(VALIDATION_SHARE, MAX_VALIDATION / len(bank))
    train, validation = split_validation(ids, share, seed=seed)
    known, queries, truth = bank[train], bank[validation], bank_labels[validation]
    names, classes = torch.unique(bank_labels[train], return_inverse=True)
    ks: tuple[int, ...] = SWEPT_K
    temperatures: tuple[float, ...] = SWEPT_TEMPERATURES
    cosines, rows = neighbors(known, queries, max(ks))
    scores: dict[tuple[int, float], float] = {}
    for _ in range(MAX_GROWTH + 1):
        if max(ks) > cosines.shape[1] < len(known):
            cosines, rows = neighbors(known, queries, max(ks))
        for k, temperature in product(ks, temperatures):
            if (k, temperature) not in scores and k <= max(1, cosines.shape[1]):
                labels = names[vote(cosines[:, :k], classes[rows[:, :k]], len(names), temperature)]
                scores[k, temperature] = float((labels == truth).double().mean())
        best = max(sorted(scores), key=lambda setting: scores[setting])
        before = ks, temperatures
        ks, temperatures = _grown(ks, temperatures, best, len(known))
        if (ks, temperatures) == before:
            break
    return ChosenVote(k=best[0], temperature=best[1], accuracy=scores[best])


def _grown(
    ks: tuple[int, ...], temperatures: tuple[float, ...], best: tuple[int, float], count: int
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The sweep, grown where the best lies on a border: the largest k, either temperature."""
    if best[0] == max(ks) and max(ks) < count:
        ks = (*ks, 2 * max(ks))
    if best[1] == max(temperatures):
        temperatures = (*temperatures, 2 * best[1])
    elif best[1] == min(temperatures):
        temperatures = (best[1] / 2, *temperatures)
    return ks, temperatures


def knn_accuracies(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *,
    settings: tuple[tuple[int, float | None], ...],
) -> list[float]:  # fmt: skip
    """The share of queries that the vote classifies correctly, for each (k, temperature or None).

    As :func:`knn_predictions`; a query whose label the bank does not hold is never correct.

    >>> bank, labels = torch.eye(3), torch.tensor([7, 7, 8])
    >>> knn_accuracies(bank, labels, torch.eye(3), labels, settings=((1, None), (3, None)))
    [1.0, 0.6666666666666666]
    """
    predicted = knn_predictions(bank, bank_labels, queries, settings=settings)
    return [float((labels == query_labels).cpu().double().mean()) for labels in predicted]


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, k: int = 20,
    temperature: float | None = 0.07,
) -> float:  # fmt: skip
    """As :func:`knn_accuracies` for one setting; with temperature None every vote weighs 1.

    >>> labels = torch.tensor([7, 7, 8])
    >>> knn_accuracy(torch.eye(3), labels, torch.eye(3), labels, k=1)
    1.0
    """
    setting = ((k, temperature),)
    return knn_accuracies(bank, bank_labels, queries, query_labels, settings=setting)[0]


def vote(cosines: Tensor, classes: Tensor, count: int, temperature: float | None) -> Tensor:
    """The class with the largest sum of votes among each query's neighbors.

    A neighbor's vote weighs exp(cosine / temperature), or 1 if temperature is None. Of classes
    with equal sums the one with the nearest neighbor wins.

    Shapes: cosines [M, k] nearest first, classes int64 [M, k] in 0 .. count-1 -> int64 [M].
    """
    if temperature is None:
        weights = torch.ones_like(cosines)
    elif temperature > 0:
        weights = ((cosines - cosines[:, :1]) / temperature).exp()  # the nearest weighs 1
    else:
        raise InvalidValue(f"The `temperature` of the vote is {temperature}; expected above 0.")
    scores = cosines.new_zeros(len(cosines), count).scatter_add_(1, classes, weights)
    leading = scores == scores.amax(1, keepdim=True)
    nearest_leading = leading.gather(1, classes).int().argmax(1)
    return classes.gather(1, nearest_leading[:, None])[:, 0]


def knn_monitor(
    encoder: nn.Module, bank: ImageStore, queries: ImageStore, view: ViewSpec, *, seed: int = 0,
    device: torch.device | str = "cpu",
) -> float:  # fmt: skip
    """A cheap kNN accuracy during training, never a result: the plain vote of 10 neighbors on h.

    At most 1,000 labeled queries and 5,000 labeled images of the bank, chosen by seed and image
    id: the same at every call. Leaves weights and training flags as they were. Raises DataError
    without labels.

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.views import eval_view
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> knn_monitor(nn.Flatten(), store, store, eval_view(8))
    1.0
    """
    subject = Subject(name="knn", encoder=encoder, view=view)
    known, unknown = (
        extract(subject, sample(store, limit, seed), device=device)
        for store, limit in ((bank, MAX_BANK), (queries, MAX_QUERIES))
    )
    assert known.labels is not None
    assert unknown.labels is not None
    return knn_accuracy(
        known.layers["h"],
        known.labels,
        unknown.layers["h"],
        unknown.labels,
        k=MONITOR_K,
        temperature=None,
    )


def sample(store: ImageStore, limit: int, seed: int) -> ImageStore:
    """At most ``limit`` labeled images, chosen by seed and id. Raises DataError without labels."""
    store = labeled(store, "The kNN monitor")
    return store.subset(
        permutation(seed, Stream.PROBE, store.ids, draw_index=MONITOR_IMAGES)[:limit]
    )


KNN = Protocol(
    name="knn", title="kNN accuracy", default=True, evaluate=evaluate_knn,
    question="How often does the vote of the nearest training images name the class?",
    headline={"metric": "accuracy", "k": 20, "temperature": 0.07},
)  # fmt: skip
