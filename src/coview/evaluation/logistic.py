"""The logistic regression of the transfer papers: a path of penalties, chosen on validation."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.progress import progress
from coview.evaluation.benchmark import Benchmark, score
from coview.evaluation.protocol import Protocol
from coview.evaluation.regression import LinearClassifier, LogisticRegression
from coview.evaluation.result import Result
from coview.evaluation.validation import split_validation

STRENGTHS = tuple(float(value) for value in np.logspace(5, -6, 45))
"""45 strengths from 1e5 to 1e-6, evenly on a logarithmic scale (Kornblith et al. 2019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticSpec:
    """Strengths of the penalty, and how one is chosen and each is fitted.

    A strength s weighs s / 2 |weights|^2 beside the sum of the cross-entropies. The one with the
    highest accuracy on a share ``validation_share`` of the training part, of equal ones that with
    the lowest validation loss, is fitted to all of it. Raises InvalidValue.

    >>> len(LogisticSpec().strengths)
    45
    """

    strengths: tuple[float, ...] = STRENGTHS
    validation_share: float = 0.2
    tolerance: float = 1e-6
    max_steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) < 0 or not 0 < self.validation_share < 1:
            raise InvalidValue(
                "A logistic regression needs `strengths` from 0 and a `validation_share` in "
                f"(0, 1); got {self.strengths} and {self.validation_share}."
            )
        if self.tolerance <= 0 or self.max_steps < 1:
            raise InvalidValue(
                "A logistic regression needs a `tolerance` above 0 and `max_steps` of at least 1; "
                f"got {self.tolerance} and {self.max_steps}."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChosenClassifier:
    """The classifier of the chosen strength, and the validation accuracy of each, by strength."""

    classifier: LinearClassifier
    strength: float
    validation: dict[float, float]

    @property
    def setting(self) -> dict[str, float]:
        """What a result says of the choice."""
        return {
            "strength": self.strength, "validation_accuracy": self.validation[self.strength],
        }  # fmt: skip


def evaluate_logistic(benchmark: Benchmark, *, spec: LogisticSpec | None = None) -> list[Result]:
    """Test accuracy of a logistic regression for each subject and layer.

    A setting is {"strength", "validation_accuracy"}. Raises DataError with fewer than 2 classes.
    Source: Kornblith et al., "Do better ImageNet models transfer better?", 2019, which SimCLR
    follows (Chen et al. 2020, appendix B.8).

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> (result,) = evaluate_logistic(make_benchmark([pixel_subject(8)], store))
    >>> result.value, list(result.setting)
    (1.0, ['strength', 'validation_accuracy'])
    """
    spec = spec or LogisticSpec(seed=benchmark.seed)

    def predictions(
        train: tuple[Tensor, Tensor], test: Tensor, ids: Tensor
    ) -> list[tuple[dict[str, float], Tensor]]:
        chosen = choose_classifier(*train, split_validation(
            ids, spec.validation_share, seed=spec.seed), spec)  # fmt: skip
        return [(chosen.setting, chosen.classifier.predict(test))]

    card = {**logistic_card(spec), "selection": f"strength by accuracy on "
        f"{spec.validation_share:g} of the training part, then a new fit to all of it; tested "
        "once"}  # fmt: skip
    return score(benchmark, "logistic", card, predictions)


def logistic_card(spec: LogisticSpec) -> dict[str, object]:
    """What every protocol with this regression says of it."""
    return {
        "classifier": "multinomial logistic regression, a penalty of strength / 2 |weights|^2 "
        "beside the sum of the cross-entropies, none on the bias (C = 1 / strength of "
        "scikit-learn), by L-BFGS",
        "normalization": "none: features as they are",
        "augmentation": "none: features are computed once",
        "source": "Kornblith et al. 2019; Chen et al. 2020, appendix B.8",
        "regression": asdict(spec),
    }


def choose_classifier(
    features: Tensor, labels: Tensor, parts: tuple[Tensor, Tensor], spec: LogisticSpec, *,
    label: str = "regressions",
) -> ChosenClassifier:  # fmt: skip
    """The classifier of a training part, of the strength that is best on a part of it.

    ``parts`` are (train, validation) rows of it. Shapes: features float [N, D], labels int64 [N].
    Raises DataError with fewer than 2 classes among the train rows.

    >>> import torch
    >>> rows, labels = torch.eye(2).repeat(50, 1), torch.tensor([3, 8]).repeat(50)
    >>> parts = split_validation(torch.arange(100))
    >>> chosen = choose_classifier(rows, labels, parts, LogisticSpec(strengths=(1.0, 0.1)))
    >>> chosen.strength, chosen.classifier.predict(torch.eye(2))
    (0.1, tensor([3, 8]))
    """
    train, validation = parts
    validation_rows, truth = features[validation], labels[validation]
    path = LogisticRegression(
        features[train], labels[train], tolerance=spec.tolerance, max_steps=spec.max_steps
    )
    scores: dict[float, tuple[int, float]] = {}
    strengths = sorted(set(spec.strengths), reverse=True)
    with progress(label, len(strengths), unit="fits") as advance:
        for strength in strengths:
            scores[strength] = path.fit(strength).validate(validation_rows, truth)
            advance()
    best = max(scores, key=lambda strength: scores[strength])
    whole = LogisticRegression(features, labels, tolerance=spec.tolerance, max_steps=spec.max_steps)
    accuracies = {strength: right / len(truth) for strength, (right, _) in scores.items()}
    return ChosenClassifier(classifier=whole.fit(best), strength=best, validation=accuracies)


LOGISTIC = Protocol(
    name="logistic", title="Logistic regression", evaluate=evaluate_logistic,
    question="How often does a logistic regression, fitted as in the transfer papers, name the "
    "class?",
)  # fmt: skip
