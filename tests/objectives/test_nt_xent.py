import math

import pytest
import torch
from slow_losses import example, mean, random_views, slow_nt_xent_rows

from coview.core.errors import InvalidValue
from coview.objectives import chance_level, nt_xent


@pytest.mark.parametrize(
    ("temperature", "value"), [(0.1, 4.701612), (0.5, 1.475513), (1.0, 1.419293)]
)
def test_nt_xent_known_value(temperature, value):
    assert nt_xent(example(), temperature=temperature).item() == pytest.approx(value, abs=1e-6)


def test_nt_xent_loop_oracle_known_rows():
    rows = slow_nt_xent_rows(example(), 0.1)
    known = [0.000186, 10.410781, 8.344274, 0.001654, 5.803796, 3.648980]
    assert rows == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("views", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
def test_nt_xent_equals_the_loop(views, temperature):
    given = random_views(views, 5, 7)
    expected = mean(slow_nt_xent_rows(given, temperature))
    assert nt_xent(given, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)


def test_nt_xent_known_gradient():
    rows = torch.cat(example()).requires_grad_()
    nt_xent([rows[:3], rows[3:]], temperature=0.5).backward()
    known = torch.tensor([0.168283, 0.038388, 0.011071, -0.074360], dtype=torch.float64)
    assert torch.allclose(rows.grad[0], known, atol=1e-6)
    assert rows.grad.norm().item() == pytest.approx(1.564111, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_gradcheck(views, temperature):
    given = [view.requires_grad_() for view in random_views(views, 3, 4)]
    assert torch.autograd.gradcheck(lambda *v: nt_xent(v, temperature=temperature), given)


@pytest.mark.parametrize("temperature", [0.005, 0.07, 0.5, 10.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nt_xent_of_equal_embeddings_is_the_log_of_the_candidates(temperature, dtype):
    view = torch.ones(512, 8, dtype=dtype)
    loss = nt_xent([view, view], temperature=temperature).item()
    assert loss == pytest.approx(math.log(1023), abs=5e-5)
    assert loss == pytest.approx(chance_level(1024), abs=5e-5)


@pytest.mark.parametrize(
    ("images", "temperature", "value"),
    [(512, 0.5, 4.936721), (256, 0.5, 4.248795), (512, 0.1, 0.045354)],
)
def test_nt_xent_of_aligned_orthogonal_rows(images, temperature, value):
    view = torch.eye(images)
    assert nt_xent([view, view], temperature=temperature).item() == pytest.approx(value, abs=2e-6)


def test_nt_xent_of_random_rows_is_chance_plus_the_spread_term():
    given = random_views(2, 1024, 128, dtype=torch.float32)
    loss = nt_xent(given, temperature=0.2).item()
    assert loss == pytest.approx(math.log(2047) + 1 / (2 * 128 * 0.2**2), abs=0.02)


def test_nt_xent_invariant_to_the_order_of_images():
    given = random_views(2, 9, 6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    shuffled = [view[order] for view in given]
    one, two = (nt_xent(v, temperature=0.1).item() for v in (given, shuffled))
    assert one == pytest.approx(two, rel=1e-13)


def test_nt_xent_view_swap_leaves_value_and_gradient():
    first, second = (view.requires_grad_() for view in random_views(2, 9, 6))
    one, two = nt_xent([first, second], temperature=0.1), nt_xent([second, first], temperature=0.1)
    assert one.item() == pytest.approx(two.item(), rel=1e-13)
    for view in (first, second):
        grads = [torch.autograd.grad(x, view, retain_graph=True)[0] for x in (one, two)]
        assert torch.allclose(*grads, rtol=1e-10, atol=1e-14)


def test_nt_xent_wrong_pairing_changes_the_value():
    first, second = random_views(2, 9, 6)
    aligned = nt_xent([first, first + 0.01 * second], temperature=0.1)
    misordered = nt_xent([first, (first + 0.01 * second).roll(1, 0)], temperature=0.1)
    assert misordered > aligned + 1


def test_nt_xent_gradient_is_orthogonal_to_its_row():
    given = [view.requires_grad_() for view in random_views(2, 9, 6)]
    nt_xent(given, temperature=0.1).backward()
    for view in given:
        assert (view.grad * view).sum(1).abs().max() < 1e-14
        assert view.grad.norm() > 1e-3


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e18, 1e30])
def test_nt_xent_scale_of_rows_does_not_matter(scale):
    given = random_views(2, 7, 5, dtype=torch.float32)
    scaled = [(view * scale).requires_grad_() for view in given]
    loss = nt_xent(scaled, temperature=0.1)
    if scale > 1e-12:
        assert loss.item() == pytest.approx(nt_xent(given, temperature=0.1).item(), rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(view.grad).all() for view in scaled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.002, 0.1])
def test_nt_xent_zero_rows_are_finite(dtype, temperature):
    given = [view.to(dtype) for view in random_views(2, 6, 5)]
    given[0][2] = 0
    given[1][:3] = 0
    given = [view.requires_grad_() for view in given]
    loss = nt_xent(given, temperature=temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(view.grad).all() for view in given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nt_xent_half_precision_input_costs_only_its_rounding(dtype):
    exact = [view.requires_grad_() for view in random_views(2, 64, 32)]
    half = [view.detach().to(dtype).requires_grad_() for view in exact]
    one, two = nt_xent(exact, temperature=0.1), nt_xent(half, temperature=0.1)
    one.backward(), two.backward()
    assert two.dtype == torch.float32
    assert two.item() == pytest.approx(one.item(), abs=1e-3 if dtype == torch.float16 else 1e-2)
    error = (half[0].grad.double() - exact[0].grad).norm() / exact[0].grad.norm()
    assert error < (0.01 if dtype == torch.float16 else 0.03)


def test_nt_xent_ignores_autocast_forward_and_backward():
    given = [view.requires_grad_() for view in random_views(2, 32, 16, dtype=torch.float32)]
    outside = nt_xent(given, temperature=0.05)
    expected = torch.autograd.grad(outside, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent(given, temperature=0.05)
        found = torch.autograd.grad(inside, given)
    assert inside.dtype == torch.float32
    assert inside.item() == outside.item()
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


@pytest.mark.parametrize("temperature", [0.002, 0.005, 0.01, 0.03])
def test_nt_xent_float32_is_accurate_at_low_temperature(temperature):
    given = random_views(2, 40, 16)
    narrow = [view.float().requires_grad_() for view in given]
    wide = [view.float().double().requires_grad_() for view in given]
    one, two = nt_xent(narrow, temperature=temperature), nt_xent(wide, temperature=temperature)
    one.backward(), two.backward()
    assert one.item() == pytest.approx(two.item(), rel=1e-5)
    error = (narrow[0].grad.double() - wide[0].grad).norm() / wide[0].grad.norm()
    assert error < 1e-3


def test_nt_xent_nan_in_one_row_reaches_the_loss():
    for temperature in (0.005, 0.5):
        given = random_views(2, 6, 5)
        given[0][3, 2] = torch.nan
        assert torch.isnan(nt_xent(given, temperature=temperature))


def test_nt_xent_of_one_image_is_zero():
    given = [view.requires_grad_() for view in random_views(2, 1, 4)]
    loss = nt_xent(given, temperature=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert given[0].grad.abs().max() < 1e-13


def test_nt_xent_does_not_change_its_input():
    given = random_views(2, 6, 5)
    before = [view.clone() for view in given]
    nt_xent(given, temperature=0.5)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "0.1", None])
def test_nt_xent_refuses_a_temperature_that_is_no_positive_number(temperature):
    with pytest.raises(InvalidValue, match="temperature"):
        nt_xent(example(), temperature=temperature)


@pytest.mark.parametrize(
    "views",
    [
        [],
        [torch.randn(3, 4)],
        torch.randn(2, 3, 4),
        [torch.randn(3, 4), torch.randn(4, 4)],
        [torch.randn(3, 4), torch.randn(3, 5)],
        [torch.randn(2, 3, 4), torch.randn(2, 3, 4)],
        [torch.randn(0, 4), torch.randn(0, 4)],
        [torch.ones(3, 4, dtype=torch.int64)] * 2,
    ],
)
def test_nt_xent_refuses_views_of_other_shapes(views):
    with pytest.raises(InvalidValue):
        nt_xent(views, temperature=0.5)
