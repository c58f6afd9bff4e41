"""Classification by the vote of exact nearest neighbors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.embeddings.neighbors import neighbors
from coview.evaluation.benchmark import Benchmark, score
from coview.evaluation.features import Subject, extract, labeled
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.views import ViewSpec

KNN_SETTINGS = tuple((k, temperature) for temperature in (0.07, None) for k in (1, 10, 20, 200))
MONITOR_K, MAX_BANK, MAX_QUERIES = 10, 5_000, 1_000
SAMPLE = 0
"""The draw index of the monitor's sample."""


def evaluate_knn(
    benchmark: Benchmark, *, settings: tuple[tuple[int, float | None], ...] = KNN_SETTINGS
) -> list[Result]:
    """Accuracy of nearest-neighbor votes for each setting (k, temperature or None).

    A setting is {"k", "temperature", "k_used"}; ``k_used`` is below k if there are fewer images.
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
    settings = tuple(dict.fromkeys(settings))
    bank_size = len(benchmark.train)

    def predictions(
        train: tuple[Tensor, Tensor], test: Tensor, ids: Tensor
    ) -> list[tuple[dict[str, float | None], Tensor]]:
        predicted = knn_predictions(*train, test, settings=settings)
        return [
            ({"k": k, "temperature": temperature, "k_used": min(k, bank_size)}, labels)
            for (k, temperature), labels in zip(settings, predicted, strict=True)
        ]

    card = {
        "neighbors": "exact, by cosine of unit-length features, among all training images",
        "vote": "exp(cosine / temperature) for each neighbor, or 1 if temperature is null; of "
        "classes with equal votes the one with the nearest neighbor",
        "selection": "none: every setting is reported",
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
    return store.subset(permutation(seed, Stream.PROBE, store.ids, draw_index=SAMPLE)[:limit])


KNN = Protocol(
    name="knn", title="kNN accuracy", default=True, evaluate=evaluate_knn,
    question="How often does the vote of the nearest training images name the class?",
    headline={"metric": "accuracy", "k": 20, "temperature": 0.07},
)  # fmt: skip
