"""The linear probe: multinomial logistic regression on frozen features.

All settings of the sweep are trained together: they share the batches, so that their logits are
one matrix product with the weights side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import DataError, InvalidValue
from coview.core.progress import progress
from coview.core.rng import Stream, permutation

VALIDATION, BATCHES = 1, 2
"""Words of the probe's keyed draws: the split for the sweep, and from here on one an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How the probe is trained: SGD with Nesterov momentum, cosine schedule to zero, zero start.

    ``learning_rates`` x ``weight_decays`` (not on the bias) are the sweep; its best is chosen by
    the accuracy on ``validation`` (a share) of the training part, and refitted on all of it.
    """

    learning_rates: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    weight_decays: tuple[float, ...] = (0.0, 1e-4, 1e-3)
    momentum: float = 0.9
    epochs: int = 60
    batch: int = 256
    validation: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        usable = self.learning_rates and self.weight_decays and min(self.learning_rates) > 0
        if not (usable and min(self.weight_decays) >= 0 and 0 <= self.momentum < 1):
            raise InvalidValue(
                "A probe needs learning rates above 0, weight decays from 0 and a momentum in "
                f"[0, 1); got {self.learning_rates}, {self.weight_decays} and {self.momentum}."
            )
        if not (self.epochs >= 1 and self.batch >= 1 and 0 < self.validation < 1):
            raise InvalidValue(
                "A probe needs 1 epoch or more, batches of 1 or more and a validation share "
                f"between 0 and 1; got {self.epochs}, {self.batch} and {self.validation}."
            )

    @property
    def settings(self) -> tuple[tuple[float, float], ...]:
        """Every (learning rate, weight decay) of the sweep."""
        return tuple(product(self.learning_rates, self.weight_decays))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A fitted probe and how its setting was chosen.

    Shapes: weights [D, C], bias [C] on standardized features; names int64 [C] are the labels;
    ``validation`` holds the validation accuracy of every setting of the sweep, in its order.
    """

    scale: Standardization
    weights: Tensor
    bias: Tensor
    names: Tensor
    setting: tuple[float, float]
    validation: tuple[float, ...]

    def predict(self, features: Tensor) -> Tensor:
        """The label of each row: [N, D] -> int64 [N]."""
        return self.names[(self.scale(features) @ self.weights + self.bias).argmax(1)]

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of rows whose label is predicted."""
        return float((self.predict(features) == labels).double().mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardization:
    """Each dimension to mean 0 and deviation 1 of the training part, all divided by sqrt(D).

    So rows have mean squared length 1 and one range of learning rates fits every encoder.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardization:
        deviation = features.std(0, correction=0)
        # A dimension that never changes carries nothing: it becomes 0, not 0 / 0.
        constant = deviation <= 1e-6 * features.abs().amax(0)
        return cls(mean=features.mean(0), deviation=deviation.masked_fill(constant, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / (self.deviation * math.sqrt(features.shape[1]))


def linear_probe(
    features: Tensor, labels: Tensor, ids: Tensor, spec: ProbeSpec | None = None
) -> Probe:
    """The probe fitted to the training part; no test data enters, so none can be selected on.

    The setting with the highest validation accuracy wins, of equal ones that with the lower
    validation loss; it is then trained on the whole training part, and its last epoch counts.

    Shapes: features float [N, D] (float32 or float64), labels int64 [N] of any values, ids int64
    [N], which key the split and the batches. Raises DataError with fewer than 2 classes or images.
    """
    spec = spec or ProbeSpec()
    names, classes = torch.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"A linear probe needs at least 2 classes; the labels hold {len(names)}.")
    keys = ids.numpy()
    order = permutation(spec.seed, Stream.PROBE, keys, draw_index=VALIDATION)
    held = min(max(1, round(spec.validation * len(order))), len(order) - 1)
    chosen_rows, fit_rows = torch.from_numpy(order[:held]), torch.from_numpy(order[held:])

    scale = Standardization.of(features[fit_rows])
    weights, bias = train_probe(
        scale(features[fit_rows]), classes[fit_rows], keys[fit_rows.numpy()],
        len(names), spec.settings, spec, label="probe sweep",
    )  # fmt: skip
    accuracies, losses = _judge(scale(features[chosen_rows]), classes[chosen_rows], weights, bias)
    pairs = list(zip(accuracies, [-loss for loss in losses], strict=True))
    setting = spec.settings[pairs.index(max(pairs))]

    scale = Standardization.of(features)
    weights, bias = train_probe(scale(features), classes, keys, len(names), (setting,), spec)
    return Probe(
        scale=scale, weights=weights[0], bias=bias[0], names=names,
        setting=setting, validation=tuple(accuracies),
    )  # fmt: skip


def train_probe(
    rows: Tensor,
    classes: Tensor,
    keys: np.ndarray[tuple[int], np.dtype[np.int64]],
    count: int,
    settings: tuple[tuple[float, float], ...],
    spec: ProbeSpec,
    *,
    label: str = "probe",
) -> tuple[Tensor, Tensor]:
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
    steps = spec.epochs * math.ceil(len(rows) / spec.batch)
    done = 0
    with progress(label, spec.epochs, unit="epochs") as advance:
        for epoch in range(spec.epochs):
            order = permutation(spec.seed, Stream.PROBE, keys, draw_index=BATCHES + epoch)
            for part in torch.split(torch.from_numpy(order), spec.batch):
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
    """Of the mean cross-entropy of each setting: X^T (softmax(X W) - Y) / N. [D + 1, S * C]."""
    error = (rows @ weights).view(len(rows), together, -1).softmax(2)
    error[torch.arange(len(rows)), :, classes] -= 1
    return rows.T @ error.view(len(rows), -1) / len(rows)


def _judge(
    rows: Tensor, classes: Tensor, weights: Tensor, bias: Tensor
) -> tuple[list[float], list[float]]:
    """Accuracy and mean cross-entropy of each setting; a diverged one gets -1 and infinity."""
    accuracies, losses = [], []
    for table, offset in zip(weights, bias, strict=True):
        logits = rows @ table + offset
        finite = bool(logits.isfinite().all())
        loss = torch.nn.functional.cross_entropy(logits, classes)
        accuracies.append(float((logits.argmax(1) == classes).double().mean()) if finite else -1.0)
        losses.append(float(loss) if finite else math.inf)
    return accuracies, losses
