import numpy as np
import pytest
import torch

from coview.core.errors import InvalidValue
from coview.evaluation.calibration import (
    calibration_gaps,
    confidence_of,
    error_of_gaps,
    expected_calibration_error,
)


def literal(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [
            (c, y) for c, y in zip(confidence, correct, strict=True)
            if low < c <= high or (b == 0 and c == 0)
        ]  # fmt: skip
        if inside:
            accuracy = sum(y for _, y in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_a_loop_over_bins(bins):
    generator = np.random.default_rng(bins)
    confidence = np.r_[generator.random(500), 0, 1, 0.2, 0.6]
    correct = generator.random(len(confidence)) < confidence**2
    value = expected_calibration_error(confidence, correct, bins=bins)
    assert value == pytest.approx(literal(confidence.tolist(), correct.tolist(), bins))


def test_calibration_of_a_perfect_and_of_an_overconfident_classifier():
    assert expected_calibration_error(np.ones(5), np.ones(5)) == 0
    assert expected_calibration_error(np.ones(5), np.zeros(5)) == 1
    half = np.arange(100) % 2
    assert expected_calibration_error(np.full(100, 0.5), half) == pytest.approx(0)


def test_the_gaps_of_a_selection_give_its_error():
    generator = np.random.default_rng(0)
    confidence, correct = generator.random(60), generator.random(60) < 0.5
    rows = generator.integers(0, 60, 60)
    gaps = calibration_gaps(confidence, correct)
    expected = expected_calibration_error(confidence[rows], correct[rows])
    assert error_of_gaps(gaps[rows], 60) == pytest.approx(expected)


def test_confidence_is_the_highest_softmax_probability():
    logits = torch.tensor([[0.0, 1.0, -2.0], [1000.0, 0.0, 0.0]])
    exact = np.exp(1) / (1 + np.exp(1) + np.exp(-2))
    assert confidence_of(logits) == pytest.approx([exact, 1.0])


@pytest.mark.parametrize(
    ("confidence", "correct"), [([], []), ([0.5], [1, 0]), ([1.2], [1]), ([-0.1], [1])]
)
def test_what_is_no_confidence_is_refused(confidence, correct):
    with pytest.raises(InvalidValue, match="confidences in"):
        expected_calibration_error(confidence, correct)
