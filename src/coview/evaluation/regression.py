"""Multinomial logistic regression by L-BFGS, for a path of strengths of its penalty.

The penalty and the bias, which has none, do not change under a shift and a rotation of the
features. So the rows are centered, and the weights are written on the principal axes, where the
Hessian is close to diagonal: scaled by it, the problem takes few steps at every strength. The
optimum is that of the features as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from coview.core.errors import DataError, InvalidValue
from coview.core.threads import threads

SMALLEST_AXIS = 1e-12
"""Variance, as a share of the largest, below which an axis of fewer rows than columns is noise."""
AXIS_ROWS = 4_096
"""At least so many rows, and twice their width, give the axes; more would change little."""
FEW_NUMBERS = 1 << 23
"""Features below which one thread is the fastest (50,000 rows of 128: 4.6 s, with two 5.9 s)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearClassifier:
    """Scores features @ weights + bias, one a class: weights [D, C], bias [C], labels int64 [C]."""

    weights: Tensor
    bias: Tensor
    labels: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        return features @ self.weights + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """The label of each row: [N, D] -> int64 [N]."""
        return self.labels[self.scores(features).argmax(1)]

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """The share of rows whose label is predicted."""
        return float((self.predict(features) == labels).double().mean())

    def validate(self, features: Tensor, labels: Tensor) -> tuple[int, float]:
        """(number of right answers, minus the sum of the cross-entropies): higher is better.

        A row whose label the training part lacks counts as wrong, and in the sum not at all.
        """
        scores = self.scores(features)
        places = torch.searchsorted(self.labels, labels).clamp_max(len(self.labels) - 1)
        known = (self.labels[places] == labels).nonzero()[:, 0]
        logs = log_softmax(scores[known], dim=1)
        right = self.labels[scores.argmax(1)] == labels
        total = logs[torch.arange(len(known)), places[known]].sum(dtype=torch.float64)
        return int(right.sum()), float(total)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrincipalAxes:
    """Directions [D, R] of features, nearly uncorrelated, and the variance of each [R]."""

    directions: Tensor
    variances: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> PrincipalAxes:
        """The axes of centered rows [N, D], of an even part of them if there are many."""
        step = max(1, len(rows) // max(AXIS_ROWS, 2 * rows.shape[1]))
        part = rows[::step]
        variances, directions = torch.linalg.eigh(part.T @ part / len(part))
        smallest = 1e-7 * variances.amax().clamp_min(1e-30)
        return cls(directions=directions, variances=variances.clamp_min(smallest))


class LogisticRegression:
    """Fits of one training part at several strengths, each of which starts at the last.

    A fit minimizes sum(cross-entropy) + strength / 2 |weights|^2 over weights [D, C] and a bias [C]
    without penalty: with three or more classes that of scikit-learn with C = 1 / strength. It ends
    where a step lowers the mean of the objective by less than ``tolerance`` of it (of a mean below
    1, by less than ``tolerance`` itself), or after ``max_steps``. From strong to weak, a fit costs
    the fewest steps. ``axes`` of similar features save computing those of these.

    Shapes: features float32 or float64 [N, D], labels int64 [N] of any values. Raises DataError
    with fewer than 2 classes.

    >>> rows, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4) * 10
    >>> regression = LogisticRegression(rows, labels)
    >>> regression.fit(1.0).predict(torch.eye(3))
    tensor([ 0, 10, 20])
    """

    def __init__(
        self, features: Tensor, labels: Tensor, *, tolerance: float = 1e-7, max_steps: int = 1000,
        axes: PrincipalAxes | None = None,
    ) -> None:  # fmt: skip
        self.labels, self._classes = torch.unique(labels, return_inverse=True)
        if len(self.labels) < 2:
            raise DataError(
                "A logistic regression needs at least 2 classes; the labels hold "
                f"{len(self.labels)}."
            )
        self._tolerance, self._max_steps = tolerance, max_steps
        self._mean = features.mean(0)
        self._rows, self._back = features - self._mean, None
        if len(features) < features.shape[1]:
            # The optimum lies in the span of the rows: solve it there.
            self._rows, self._back = _within_span(self._rows)
            axes = None
        self.axes = axes or PrincipalAxes.of(self._rows)
        # Weights on the axes and the bias in the last column. A class is a row: products of this
        # shape with the features are several times faster than those of their transposes.
        self._on_axes = self._rows.new_zeros(len(self.labels), len(self.axes.variances) + 1)

    def fit(self, strength: float) -> LinearClassifier:
        """The classifier at ``strength``. Raises InvalidValue unless it is a number from 0."""
        if not 0 <= strength < float("inf"):
            raise InvalidValue(f"The `strength` of a penalty is {strength}; expected from 0.")
        rows, directions, count = self._rows, self.axes.directions, len(self._rows)
        penalty = strength / count
        # At zero weights the Hessian of a class is about the variance divided by their number.
        curvature = self.axes.variances / len(self.labels) + penalty
        bias_curvature = curvature.new_full((1,), 1 / len(self.labels))
        scale = torch.cat([curvature, bias_curvature]).rsqrt()
        each = torch.arange(count)

        def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            on_axes = torch.from_numpy(flat).to(scale.dtype).view_as(self._on_axes) * scale
            weights, bias = on_axes[:, :-1], on_axes[:, -1:]
            logs = log_softmax((weights @ directions.T) @ rows.T + bias, dim=0)
            loss = -float(logs[self._classes, each].mean(dtype=torch.float64))
            loss += penalty / 2 * float(weights.square().sum(dtype=torch.float64))
            error = logs.exp_().div_(count)
            error[self._classes, each] -= 1 / count
            slope = (error @ rows) @ directions + penalty * weights
            gradient = torch.cat([slope, error.sum(1, keepdim=True)], dim=1)
            return loss, (gradient * scale).double().flatten().numpy()

        from scipy.optimize import minimize  # slow to import
        from threadpoolctl import threadpool_limits

        start = (self._on_axes / scale).double().flatten().numpy()
        options = {"maxiter": self._max_steps, "ftol": self._tolerance, "gtol": 1e-9}
        # SciPy's own algebra is of few numbers, and so is torch's of few rows: in several threads
        # both take many times as long, waiting for each other.
        workers = 1 if rows.numel() < FEW_NUMBERS else torch.get_num_threads()
        with threadpool_limits(1, user_api="blas"), threads(workers):
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        self._on_axes = torch.from_numpy(found.x).to(scale.dtype).view_as(self._on_axes) * scale
        weights = directions @ self._on_axes[:, :-1].T
        if self._back is not None:
            weights = self._back @ weights
        bias = self._on_axes[:, -1] - self._mean @ weights
        return LinearClassifier(weights=weights, bias=bias, labels=self.labels)


def _within_span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, D], N < D, as [N, R] in an orthonormal basis of their span, and the basis [D, R]."""
    wide = rows.double()
    squares, vectors = torch.linalg.eigh(wide @ wide.T)
    known = squares > SMALLEST_AXIS * squares.amax()
    known[-1] = True  # of equal rows, a direction without variance
    lengths, vectors = squares[known].clamp_min(1e-30).sqrt(), vectors[:, known]
    return (vectors * lengths).to(rows.dtype), (wide.T @ (vectors / lengths)).to(rows.dtype)
