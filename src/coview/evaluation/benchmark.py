"""Protocols: features of the trained encoder, of the untrained one and of raw pixels -> results.

Every result says how it was made (the card), on which data, and stands beside the same figure for
the untrained encoder and for the raw pixels. Nothing is ever chosen by the test part.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from coview.core.errors import DataError, InvalidValue
from coview.core.files import write_json
from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.core.values import encode
from coview.evaluation.features import (
    Features,
    extract,
    labeled,
    pixel_features,
    weights_fingerprint,
)
from coview.evaluation.knn import knn_accuracies
from coview.evaluation.linear import Probe, ProbeSpec, linear_probe
from coview.views import ViewSpec

TRAINED, UNTRAINED, PIXELS = "trained", "untrained", "pixels"
KNN_SETTINGS = tuple((k, temperature) for temperature in (0.07, None) for k in (1, 10, 20, 200))
TEST_SPLIT = 0x54455354
"""Word of the keyed draw that makes a test part where none is given."""
Parts = tuple[Features, Features]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Benchmark:
    """Training and test features of the trained encoder, the untrained one, and raw pixels.

    ``features`` holds (train, test) by "trained", "untrained" and "pixels", labeled images only;
    ``card`` and ``data`` are the parts of a result that all protocols share.
    """

    features: Mapping[str, Parts]
    card: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps of the trained encoder: ("h",) or ("h", "z")."""
        return tuple(self.features[TRAINED][0].taps)


def compare(
    encoder: nn.Module,
    head: nn.Module | None,
    train: ImageStore,
    test: ImageStore | None = None,
    *,
    untrained: tuple[nn.Module, nn.Module | None],
    view: ViewSpec,
    test_share: float = 0.2,
    pixel_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 256,
    threads: int = 1,
) -> Benchmark:
    """Everything that the protocols need, computed once.

    ``untrained`` is the same encoder and head as they were drawn, before any step. Without a test
    store, ``test_share`` of the labeled images, chosen by seed and image id, becomes the test
    part. Images without a label take no part. Raises DataError without labels or images.
    """
    if (head is None) != (untrained[1] is None):
        raise InvalidValue("Give a head for both the trained and the untrained encoder, or none.")
    given = test is not None
    train = labeled(train, "An evaluation")
    if test is None:
        train, test = _split(train, test_share, seed)
    else:
        test = labeled(test, "An evaluation")
    modules = {TRAINED: (encoder, head), UNTRAINED: untrained}
    features: dict[str, Parts] = {}
    for name, (body, top) in modules.items():
        first, second = (
            extract(body, top, store, view, device=device, batch=batch, threads=threads,
                    label=f"{name} features")
            for store in (train, test)
        )  # fmt: skip
        features[name] = (first, second)
    features[PIXELS] = (
        pixel_features(train, pixel_size, threads=threads),
        pixel_features(test, pixel_size, threads=threads),
    )
    card = {
        "features": "h is the encoder's output, z the head's; both in evaluation mode, frozen, "
        "as they are at the end of training",
        "view": encode(view),
        "untrained": "the same encoder and head with the weights that they were drawn with",
        "pixels": f"the central square resized to {pixel_size} x {pixel_size}, flattened",
        "pixel_size": pixel_size,
        "encoder_hash": weights_fingerprint(encoder),
        "head_hash": None if head is None else weights_fingerprint(head),
        "untrained_encoder_hash": weights_fingerprint(untrained[0]),
        "split": "train and test parts as given"
        if given
        else f"{test_share:g} of the labeled images are the test part, chosen by seed and id",
        "seed": seed,
    }
    return Benchmark(features=features, card=card, data=_describe(train, test))


def evaluate_knn(
    benchmark: Benchmark,
    *,
    settings: tuple[tuple[int, float | None], ...] = KNN_SETTINGS,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Accuracy of nearest-neighbor votes for each setting (k, temperature; None = plain votes).

    Returns the result, and writes it to ``folder``/knn.json where given.
    """
    bank_size = benchmark.data["train"]["images"]
    settings = tuple(dict.fromkeys(settings))

    def accuracies(parts: Parts, tap: str) -> list[float]:
        bank, queries = parts
        bank_labels, query_labels = _labels(bank), _labels(queries)
        return knn_accuracies(
            bank.taps[tap], bank_labels, queries.taps[tap], query_labels, settings=settings
        )

    pixels = accuracies(benchmark.features[PIXELS], PIXELS)
    rows = []
    for tap in benchmark.taps:
        trained = accuracies(benchmark.features[TRAINED], tap)
        untrained = accuracies(benchmark.features[UNTRAINED], tap)
        for place, (k, temperature) in enumerate(settings):
            setting = {"k": k, "temperature": temperature, "k_used": min(k, bank_size)}
            rows.append(_row(tap, setting, trained[place], untrained[place], pixels[place]))
    card = {
        "neighbors": "exact, by cosine of unit-length features, among all training images",
        "vote": "exp(cosine / temperature) for each neighbor, or 1 where temperature is null; "
        "of equally placed classes the one with the nearest neighbor",
        "selection": "none: every setting is reported",
    }
    return _result("knn", benchmark, card, rows, folder)


def evaluate_linear(
    benchmark: Benchmark, *, spec: ProbeSpec | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Test accuracy of a linear probe per tap; the untrained encoder and the pixels get their own.

    Each probe's setting is chosen within the training part. Returns the result, and writes it to
    ``folder``/linear.json where given.
    """
    spec = spec or ProbeSpec(seed=benchmark.card["seed"])

    def judged(parts: Parts, tap: str) -> tuple[Probe, float]:
        train, test = parts
        probe = linear_probe(train.taps[tap], _labels(train), train.ids, spec)
        return probe, probe.accuracy(test.taps[tap], _labels(test))

    pixels = judged(benchmark.features[PIXELS], PIXELS)
    rows = []
    for tap in benchmark.taps:
        trained = judged(benchmark.features[TRAINED], tap)
        untrained = judged(benchmark.features[UNTRAINED], tap)
        probes = {TRAINED: trained[0], UNTRAINED: untrained[0], PIXELS: pixels[0]}
        setting = {name: _setting(probe) for name, probe in probes.items()}
        rows.append(_row(tap, setting, trained[1], untrained[1], pixels[1]))
    card = {
        "normalization": "each dimension to mean 0 and deviation 1 of the training part, then "
        "divided by the square root of the width",
        "augmentation": "none: features are computed once",
        "optimizer": "SGD with Nesterov momentum, cosine schedule to zero, zero start; "
        "weight decay not on the bias",
        "selection": f"learning rate and weight decay by accuracy on {spec.validation:g} of the "
        "training part, then a new fit on all of it; the last epoch counts",
        "probe": asdict(spec),
    }
    return _result("linear", benchmark, card, rows, folder)


def _setting(probe: Probe) -> dict[str, float]:
    rate, decay = probe.setting
    best = max(probe.validation)
    return {"learning_rate": rate, "weight_decay": decay, "validation_accuracy": best}


def _row(
    tap: str, setting: dict[str, Any], trained: float, untrained: float, pixels: float
) -> dict[str, Any]:
    return {
        "tap": tap,
        "setting": setting,
        "accuracy": trained,
        "untrained": untrained,
        "pixels": pixels,
    }


def _result(
    protocol: str,
    benchmark: Benchmark,
    card: dict[str, Any],
    rows: list[dict[str, Any]],
    folder: Path | None,
) -> dict[str, Any]:
    result = {
        "protocol": protocol,
        "card": {**benchmark.card, **card},
        "data": dict(benchmark.data),
        "results": rows,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if folder is not None:
        write_json(folder / f"{protocol}.json", result)
    return result


def _labels(features: Features) -> torch.Tensor:
    assert features.labels is not None  # a comparison holds labeled images only
    return features.labels


def _split(store: ImageStore, share: float, seed: int) -> tuple[ImageStore, ImageStore]:
    count = round(share * len(store))
    if not 0 < count < len(store):
        raise DataError(
            f"A test share of {share:g} leaves {len(store) - count} training and {count} test "
            f"images of {len(store)}; both parts need some."
        )
    order = permutation(seed, Stream.PROBE, store.ids, draw_index=TEST_SPLIT)
    return store.subset(np.sort(order[count:])), store.subset(np.sort(order[:count]))


def _describe(train: ImageStore, test: ImageStore) -> dict[str, Any]:
    assert train.labels is not None
    assert test.labels is not None
    _, counts = np.unique(test.labels, return_counts=True)
    return {
        "train": _describe_part(train),
        "test": _describe_part(test),
        "classes": len(np.unique(train.labels)),
        "largest_class_share": float(counts.max() / counts.sum()),
        "images_in_both_parts": int(np.isin(test.ids, train.ids).sum()),
    }


def _describe_part(store: ImageStore) -> dict[str, Any]:
    return {"source": store.source, "images": len(store), "fingerprint": store.fingerprint}
