import math

import pytest
import torch

from coview.core.errors import InvalidValue
from coview.objectives import chance_level, estimated_lower_bound, nt_xent


@pytest.mark.parametrize(
    ("rows", "value"), [(6, 1.609438), (512, 6.236370), (1024, 6.930495), (8192, 9.010791)]
)
def test_chance_level_known_value(rows, value):
    assert chance_level(rows) == pytest.approx(value, abs=1e-6)


def test_chance_level_refuses_a_single_row():
    with pytest.raises(InvalidValue, match="2 rows"):
        chance_level(1)


@pytest.mark.parametrize(
    ("images", "temperature", "value"),
    [(512, 0.07, 0.001), (512, 0.1, 0.066), (512, 0.2, 2.15), (512, 0.5, 4.95), (512, 1.0, 5.94),
     (2048, 0.1, 0.24), (2048, 0.5, 6.34)],
)  # fmt: skip
def test_lower_bound_known_value(images, temperature, value):
    tolerance = 0.006 if value > 0.1 else 0.0006
    assert estimated_lower_bound(2 * images, 128, temperature) == pytest.approx(
        value, abs=tolerance
    )


def test_lower_bound_is_what_aligned_random_embeddings_reach():
    view = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    loss = nt_xent([view, view], temperature=0.3).item()
    assert loss == pytest.approx(estimated_lower_bound(1024, 64, 0.3), abs=0.01)


@pytest.mark.parametrize("temperature", [0.001, 0.005, 0.1, 5.0])
def test_lower_bound_is_never_above_chance_level(temperature):
    for width in (2, 128):
        assert 0 <= estimated_lower_bound(64, width, temperature) <= math.log(63) + 1e-12
