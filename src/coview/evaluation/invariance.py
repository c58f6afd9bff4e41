"""Which transformation was applied to an image? What a layer is invariant to, it cannot say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.core.rng import INVARIANCE_IMAGES, Stream, drawn_rows, stream_seed
from coview.core.text import plural
from coview.evaluation.benchmark import Benchmark
from coview.evaluation.features import Subject, layer_vectors
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Outcomes, Result
from coview.evaluation.statistics import wilson_interval
from coview.views import Noise, Rotate90, ViewParams, ViewSpec, sample_params

TRAIN_IMAGES, TEST_IMAGES = 5_000, 2_000
HIDDEN, STEPS, BATCH, LEARNING_RATE = 512, 800, 200, 0.003

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A transformation that is applied by chance, and the names of its outcomes.

    ``view`` adds it to an evaluation view; ``label`` reads from the parameters of views [N] which
    outcome each has: int64 [N].
    """

    name: str
    outcomes: tuple[str, ...]
    view: Callable[[ViewSpec], ViewSpec]
    label: Callable[[ViewParams], Labels]


TASKS = (
    Task(
        name="color", outcomes=("color", "gray"),
        view=lambda view: replace(view, grayscale=0.2),
        label=lambda params: params["grayscale"].astype(np.int64),
    ),
    Task(
        name="rotation", outcomes=("0°", "90°", "180°", "270°"),
        view=lambda view: replace(view, rotate90=Rotate90()),
        label=lambda params: params["rotate90"].astype(np.int64),
    ),
    Task(
        name="noise", outcomes=("original", "noised"),
        view=lambda view: replace(view, noise=Noise(probability=0.5)),
        label=lambda params: (params["noise"] > 0).astype(np.int64),
    ),
    Task(
        name="sobel", outcomes=("original", "filtered"),
        view=lambda view: replace(view, sobel=0.5),
        label=lambda params: params["sobel"].astype(np.int64),
    ),
)  # fmt: skip
"""Those of SimCLR, table 3. A task's place keys its draws: the order never changes."""


def evaluate_invariance(
    benchmark: Benchmark, *, train_images: int | None = TRAIN_IMAGES,
    test_images: int | None = TEST_IMAGES,
) -> list[Result]:  # fmt: skip
    """Accuracy of telling the applied transformation from the features of every layer.

    The transformation is drawn by seed and image id: gray with probability 0.2, one of four
    rotations, noise with 0.5 (sigma 0.05 to 0.2 of the value range), Sobel with 0.5. Nothing else
    is done to the evaluation view. A small MLP, equal for all layers, learns it from training
    images and is tested on test images; class labels are not used. ``train_images`` and
    ``test_images``: so many, chosen by seed and id, or None for all.

    A setting is {"task", "chance"}; chance is the accuracy of the most frequent outcome.
    ``per_class`` has the accuracy of each outcome. Source: SimCLR, section 4.2 and table 3; the
    paper does not give its probe, nor the strength of the noise.
    Raises InvalidValue for numbers below 1, DataError where a part shows one outcome alone.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> noise = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), np.uint8)
    >>> store = store_from_arrays(noise, labels=np.arange(200) % 2)
    >>> results = evaluate_invariance(make_benchmark([pixel_subject(4)], store))
    >>> [result.setting["task"] for result in results]
    ['color', 'rotation', 'noise', 'sobel']
    """
    for name, number in (("train_images", train_images), ("test_images", test_images)):
        if number is not None and number < 1:
            raise InvalidValue(f"`{name}` is {number}; expected at least 1, or None for all.")
    train = _chosen(benchmark.train, train_images, benchmark.seed)
    test = _chosen(benchmark.test, test_images, benchmark.seed)
    card = {**benchmark.card, **_card(train, test)}
    results: dict[tuple[str, str], list[Result]] = {
        (subject.name, layer): [] for subject in benchmark.subjects for layer in subject.all_layers
    }
    work = [(subject, task) for subject in benchmark.subjects for task in range(len(TASKS))]
    with progress("invariance", len(work), unit="tasks") as advance:
        for subject, task in work:
            known, known_labels = transformed_features(benchmark, subject, train, task)
            asked, labels = transformed_features(benchmark, subject, test, task)
            for part, store in ((known_labels, train), (labels, test)):
                _require_outcomes(part, store, TASKS[task])
            for layer in subject.all_layers:
                predicted = mlp_predictions(
                    known[layer], known_labels, asked[layer], seed=benchmark.seed
                )
                result = _result(subject.name, layer, TASKS[task], predicted, labels, card)
                results[subject.name, layer].append(result)
            advance()
    return [result for rows in results.values() for result in rows]


def transformed_features(
    benchmark: Benchmark, subject: Subject, store: ImageStore, task: int
) -> tuple[dict[str, npt.NDArray[np.float32]], Labels]:
    """Features [N, D] of the transformed images by layer, and which outcome each image got [N]."""
    view = TASKS[task].view(subject.view)
    vectors = layer_vectors(
        subject, store, view, subject.all_layers, seed=benchmark.seed, epoch=task,
        device=benchmark.device, batch_size=benchmark.batch_size,
    )  # fmt: skip
    params = sample_params(
        view, store.ids, store.heights, store.widths, seed=benchmark.seed, epoch=task, view=0
    )
    features = {layer: rows.numpy() for layer, rows in vectors.items()}
    return features, TASKS[task].label(params)


def mlp_predictions(
    train: npt.NDArray[np.float32], labels: Labels, test: npt.NDArray[np.float32], *, seed: int
) -> Labels:
    """What a small MLP, trained on (train, labels), says of the rows of ``test``.

    One hidden layer of the features' width (at most 512) with ReLU on standardized features; Adam
    of scikit-learn's MLPClassifier, rate 0.003, batches of 200, whole epochs until 800 steps are
    done; the last counts.
    Shapes: train float32 [N, D], labels int64 [N], test [M, D] -> int64 [M].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    epochs = math.ceil(STEPS / math.ceil(len(train) / BATCH))
    probe = MLPClassifier(
        hidden_layer_sizes=(min(train.shape[1], HIDDEN),), max_iter=epochs, tol=0.0,
        n_iter_no_change=epochs + 1, batch_size=min(BATCH, len(train)),
        learning_rate_init=LEARNING_RATE,
        random_state=stream_seed(seed, Stream.PROBE, "invariance") % (1 << 32),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed
        probe.fit(scaler.transform(train), labels)
    predicted: Labels = probe.predict(scaler.transform(test))
    return predicted


def _chosen(store: ImageStore, limit: int | None, seed: int) -> ImageStore:
    return store.subset(
        drawn_rows(seed, Stream.PROBE, store.ids, limit, draw_index=INVARIANCE_IMAGES)
    )


def _require_outcomes(labels: Labels, store: ImageStore, task: Task) -> None:
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"The task {task.name!r} of the protocol 'invariance' needs images with and without "
            f"the transformation, and all {plural(len(store), 'image')} of a part got the same; "
            "give more images."
        )


def _result(
    subject: str, layer: str, task: Task, predicted: Labels, labels: Labels, card: dict[str, Any]
) -> Result:
    correct = predicted == labels
    accuracy = float(correct.mean())
    counts = np.bincount(labels)
    return Result(
        protocol="invariance", subject=subject, layer=layer, metric="accuracy", value=accuracy,
        interval=wilson_interval(accuracy, len(labels)), test_images=len(labels),
        setting={"task": task.name, "chance": float(counts.max() / len(labels))}, card=card,
        per_class={
            task.outcomes[label]: float(correct[labels == label].mean())
            for label in np.unique(labels)
        },
        outcomes=Outcomes.of(correct),
    )  # fmt: skip


def _card(train: ImageStore, test: ImageStore) -> dict[str, Any]:
    return {
        "images": f"{len(train):,} training and {len(test):,} test images, chosen by seed and id; "
        "each is shown once, with the outcome that its id draws",
        "transformations": "on the evaluation view: gray with probability 0.2; rotation by 0, 90, "
        "180 or 270 degrees; Gaussian noise with probability 0.5, sigma 0.05 to 0.2; Sobel with "
        "probability 0.5",
        "chance": "share of the most frequent outcome among the test images",
        "probe": f"MLP with one hidden layer of the features' width, at most {HIDDEN}, on "
        f"standardized features; scikit-learn's MLPClassifier, Adam with rate {LEARNING_RATE:g}, "
        f"{STEPS} steps of {BATCH} images, the last counts; equal for all layers",
        "selection": "none",
    }


INVARIANCE = Protocol(
    name="invariance",
    title="Invariance",
    question="Which transformations can be told from a layer, and what has the projection head "
    "removed?",
    evaluate=evaluate_invariance,
    headline={"metric": "accuracy", "task": "rotation"},
    needs_labels=False,
)
