"""The linear probe: multinomial logistic regression on frozen features.

All settings of the sweep are trained together: they share the batches, so that their logits are
one matrix product with the weights side by side.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import DataError, InvalidValue
from coview.core.progress import progress
from coview.core.rng import LINEAR_BATCHES, Stream, permutation
from coview.evaluation.benchmark import Benchmark, accuracy_result, labels_of
from coview.evaluation.features import Subject
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.validation import split_validation

Setting = tuple[float, float]
"""A learning rate and a weight decay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How the probe is trained: SGD with Nesterov momentum, cosine schedule to zero, zero start.

    ``learning_rates`` x ``weight_decays`` (not on the bias) are the sweep. The setting with the
    highest accuracy on a share ``validation_share`` of the training part is trained on all of it.
    A weight decay d of rows N is the C = 1 / (d N) of scikit-learn's logistic regression.
    Where the best learning rate or weight decay is the first or last of two or more, the sweep
    grows by one beyond it, at most ``growth`` times.

    >>> len(ProbeSpec().settings)
    20
    """

    learning_rates: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    weight_decays: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    momentum: float = 0.9
    epochs: int = 60
    batch_size: int = 256
    validation_share: float = 0.2
    growth: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        valid = self.learning_rates and self.weight_decays and min(self.learning_rates) > 0
        if not (valid and min(self.weight_decays) >= 0 and 0 <= self.momentum < 1):
            raise InvalidValue(
                "A probe needs `learning_rates` above 0, `weight_decays` from 0 and a `momentum` "
                f"in [0, 1); got {self.learning_rates}, {self.weight_decays} and {self.momentum}."
            )
        if not (self.epochs >= 1 and self.batch_size >= 1 and 0 < self.validation_share < 1):
            raise InvalidValue(
                "A probe needs `epochs` and `batch_size` of at least 1 and a `validation_share` "
                f"in (0, 1); got {self.epochs}, {self.batch_size} and {self.validation_share}."
            )
        if self.growth < 0:
            raise InvalidValue(f"A probe needs a `growth` from 0; got {self.growth}.")

    @property
    def settings(self) -> tuple[tuple[float, float], ...]:
        """Every (learning rate, weight decay) of the sweep."""
        return tuple(product(self.learning_rates, self.weight_decays))

    def beyond(self, best: Setting) -> ProbeSpec:
        """The sweep, grown by one value at each border that ``best`` lies on.

        >>> ProbeSpec(learning_rates=(1, 10), weight_decays=(0.1,)).beyond((10, 0.1)).learning_rates
        (1, 10, 100.0)
        """
        return replace(
            self, learning_rates=grown(self.learning_rates, best[0]),
            weight_decays=grown(self.weight_decays, best[1]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A trained probe and its (learning rate, weight decay).

    Shapes: weights [D, C], bias [C] on standardized features; labels int64 [C], one a class;
    ``validation`` holds the validation accuracy of each of ``settings``: those of the sweep in its
    order, then those that it grew by.
    """

    scale: Standardization
    weights: Tensor
    bias: Tensor
    labels: Tensor
    setting: Setting
    settings: tuple[Setting, ...]
    validation: tuple[float, ...]

    def predict(self, features: Tensor) -> Tensor:
        """The label of each row: [N, D] -> int64 [N]."""
        return self.labels[self.logits(features).argmax(1)]

    def logits(self, features: Tensor) -> Tensor:
        """The logit of each class, in the order of ``labels``: [N, D] -> [N, C]."""
        return self.scale(features) @ self.weights + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of rows whose label is predicted."""
        return float((self.predict(features) == labels).cpu().double().mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardization:
    """Scales each dimension to mean 0 and deviation 1 of the training part, divided by sqrt(D).

    Rows then have mean squared length 1, and one range of learning rates fits every encoder.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardization:
        deviation = features.std(0, correction=0)
        # A constant dimension becomes 0, not 0 / 0.
        constant = deviation <= 1e-6 * features.abs().amax(0)
        return cls(mean=features.mean(0), deviation=deviation.masked_fill(constant, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / (self.deviation * math.sqrt(features.shape[1]))


def evaluate_linear(benchmark: Benchmark, *, spec: ProbeSpec | None = None) -> list[Result]:
    """Test accuracy of a linear probe for each subject and layer.

    Each probe's setting {"learning_rate", "weight_decay", "validation_accuracy"} is chosen within
    the training part. Raises DataError with fewer than 2 classes.

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> benchmark = make_benchmark([pixel_subject(8)], store)
    >>> (result,) = evaluate_linear(benchmark, spec=ProbeSpec(epochs=2))
    >>> result.metric, result.value
    ('accuracy', 1.0)
    """
    spec = spec or ProbeSpec(seed=benchmark.seed)

    card = {
        "normalization": "each dimension to mean 0 and deviation 1 of the training part, then "
        "divided by the square root of the width",
        "augmentation": "none: features are computed once",
        "optimizer": "SGD with Nesterov momentum, cosine schedule to zero, zero start; no weight "
        "decay on the bias",
        "selection": f"learning rate and weight decay by accuracy on {spec.validation_share:g} of "
        "the training part, then a new probe on all of it; the last epoch counts; where the best "
        f"lies on a border of the sweep, that border moves outward, at most {spec.growth} times",
        "probe": asdict(spec),
    }
    card = {**benchmark.card, **card}
    results = []
    for subject in benchmark.subjects:
        test = benchmark.features_of(subject, benchmark.test)
        for layer in subject.layers:
            probe = probe_of(benchmark, subject, layer, spec)
            learning_rate, weight_decay = probe.setting
            setting = {
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "validation_accuracy": max(probe.validation),
            }
            results.append(
                accuracy_result(
                    benchmark, probe.predict(test.layers[layer]), protocol="linear",
                    subject=subject.name, layer=layer, setting=setting, card=card,
                )
            )  # fmt: skip
    return results


def probe_of(
    benchmark: Benchmark, subject: Subject, layer: str, spec: ProbeSpec | None = None
) -> Probe:
    """The linear probe of a subject's layer on the training part, trained once for a benchmark."""
    spec = spec or ProbeSpec(seed=benchmark.seed)

    def train() -> Probe:
        features = benchmark.features_of(subject, benchmark.train, [layer])
        return linear_probe(features.layers[layer], labels_of(features), features.ids, spec)

    probe: Probe = benchmark.once(("linear probe", subject.name, layer, spec), train)
    return probe


def linear_probe(
    features: Tensor, labels: Tensor, ids: Tensor, spec: ProbeSpec | None = None
) -> Probe:
    """The probe of a training part: the sweep's best setting, trained on the whole part.

    The setting with the highest validation accuracy is the best, of equal ones that with the lower
    validation loss. The last epoch counts. No test data enters.

    Shapes: features float [N, D] (float32 or float64), labels int64 [N] of any values, ids int64
    [N], which key the split and the batches. Raises DataError with fewer than 2 classes or images.

    >>> features, labels = torch.eye(2).repeat(50, 1), torch.tensor([3, 8]).repeat(50)
    >>> probe = linear_probe(features, labels, torch.arange(100), ProbeSpec(epochs=2))
    >>> probe.predict(torch.eye(2))
    tensor([3, 8])
    """
    spec = spec or ProbeSpec()
    names, classes = torch.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"A linear probe needs at least 2 classes; the labels hold {len(names)}.")
    keys = ids.numpy()
    parts = split_validation(ids, spec.validation_share, seed=spec.seed)
    scores = _sweep(features, classes, keys, parts, len(names), spec)
    setting = max(scores, key=lambda each: scores[each])

    scale = Standardization.of(features)
    weights, bias = train_probe(scale(features), classes, keys, len(names), (setting,), spec)
    return Probe(
        scale=scale, weights=weights[0], bias=bias[0], labels=names, setting=setting,
        settings=tuple(scores), validation=tuple(accuracy for accuracy, _ in scores.values()),
    )  # fmt: skip


def grown(values: tuple[float, ...], best: float) -> tuple[float, ...]:
    """``values`` and one more beyond ``best`` if it is the first or last of them, in equal ratio.

    A single value is no sweep and stays; 0 has nothing below it.

    >>> grown((2.0, 1.0), 1.0), grown((1.0, 3.0, 9.0), 3.0), grown((0.0, 0.1), 0.0)
    ((2.0, 1.0, 0.5), (1.0, 3.0, 9.0), (0.0, 0.1))
    """
    ordered = sorted(values)
    if len(ordered) < 2 or best not in (ordered[0], ordered[-1]) or best == 0:
        return values
    neighbor = ordered[1] if best == ordered[0] else ordered[-2]
    return (*values, best * best / neighbor) if neighbor > 0 else values


def _sweep(
    features: Tensor, classes: Tensor, keys: np.ndarray[tuple[int], np.dtype[np.int64]],
    parts: tuple[Tensor, Tensor], count: int, spec: ProbeSpec,
) -> dict[Setting, tuple[float, float]]:  # fmt: skip
    """(accuracy, minus loss) on the validation part of every setting, in the order of training."""
    train, validation = parts
    scale = Standardization.of(features[train])
    rows, held_out = scale(features[train]), scale(features[validation])
    scores: dict[Setting, tuple[float, float]] = {}
    settings = spec.settings
    for _ in range(spec.growth + 1):
        weights, bias = train_probe(
            rows, classes[train], keys[train.numpy()], count, settings, spec, label="probe sweep"
        )
        accuracies, losses = _validate(held_out, classes[validation], weights, bias)
        for setting, accuracy, loss in zip(settings, accuracies, losses, strict=True):
            scores[setting] = accuracy, -loss
        spec = spec.beyond(max(scores, key=lambda each: scores[each]))
        settings = tuple(setting for setting in spec.settings if setting not in scores)
        if not settings:
            break
    return scores


def train_probe(
    rows: Tensor, classes: Tensor, keys: np.ndarray[tuple[int], np.dtype[np.int64]], count: int,
    settings: tuple[tuple[float, float], ...], spec: ProbeSpec, *, label: str = "probe",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weights [S, D, C] and biases [S, C] of S settings after the last epoch, trained together.

    Shapes: rows [N, D] standardized, classes int64 [N] in 0 .. count-1, keys int64 [N]. A setting
    that diverges ends with non-finite weights and leaves the others as they are.
    """
    width, together = rows.shape[1], len(settings)
    # One more input of 1 makes the bias a row of the weights.
    rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
    rates, decays = (
        rows.new_tensor(column).repeat_interleave(count) for column in zip(*settings, strict=True)
    )
    decays = decays.repeat(width + 1, 1)
    decays[-1] = 0
    weights = rows.new_zeros(width + 1, together * count)
    velocity = torch.zeros_like(weights)
    steps = spec.epochs * math.ceil(len(rows) / spec.batch_size)
    done = 0
    with progress(label, spec.epochs, unit="epochs") as advance:
        for epoch in range(spec.epochs):
            order = permutation(spec.seed, Stream.PROBE, keys, draw_index=LINEAR_BATCHES + epoch)
            for part in torch.split(torch.from_numpy(order), spec.batch_size):
                gradient = _gradient(rows[part], classes[part], weights, together)
                gradient.addcmul_(decays, weights)
                velocity.mul_(spec.momentum).add_(gradient)
                anneal = 0.5 * (1 + math.cos(math.pi * done / steps))
                weights.sub_(gradient.add_(velocity, alpha=spec.momentum).mul_(rates * anneal))
                done += 1
            advance()
    table = weights.view(width + 1, together, count).transpose(0, 1)
    return table[:, :-1].contiguous(), table[:, -1].contiguous()


def _gradient(rows: Tensor, classes: Tensor, weights: Tensor, together: int) -> Tensor:
    """Gradient of each setting's mean cross-entropy, X^T (softmax(X W) - Y) / N: [D + 1, S * C]."""
    error = (rows @ weights).view(len(rows), together, -1).softmax(2)
    error[torch.arange(len(rows)), :, classes] -= 1
    return rows.T @ error.view(len(rows), -1) / len(rows)


def _validate(
    rows: Tensor, classes: Tensor, weights: Tensor, bias: Tensor
) -> tuple[list[float], list[float]]:
    """Accuracy and mean cross-entropy of each setting; -1 and infinity for a diverged one."""
    accuracies, losses = [], []
    for table, offset in zip(weights, bias, strict=True):
        logits = rows @ table + offset
        finite = bool(logits.isfinite().all())
        loss = torch.nn.functional.cross_entropy(logits, classes)
        accuracies.append(
            float((logits.argmax(1) == classes).cpu().double().mean()) if finite else -1.0
        )
        losses.append(float(loss) if finite else math.inf)
    return accuracies, losses


LINEAR = Protocol(
    name="linear", title="Linear accuracy", default=True, evaluate=evaluate_linear,
    question="How often does a linear classifier on the frozen features name the class?",
)  # fmt: skip
