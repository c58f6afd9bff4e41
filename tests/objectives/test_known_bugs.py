"""Arithmetic that losses of this kind are known to get wrong, checked on every objective of ours."""

import pytest
import torch
from every_objective import AT_TEMPERATURE, NAMES, at
from slow_losses import random_views


def run(loss, views):
    views = [view.detach().requires_grad_() for view in views]
    value = loss(views)
    value.backward()
    return value.detach(), [view.grad for view in views]


# N2, N10: the row maximum, and exponentials without one.
@pytest.mark.parametrize("name", AT_TEMPERATURE)
@pytest.mark.parametrize("temperature", [0.002, 0.005, 0.01, 0.03])
def test_low_temperature_in_float32_is_accurate(name, temperature):
    views = random_views(2, 40, 16, dtype=torch.float32)
    value, grads = run(at(temperature)[name], views)
    exact, exact_grads = run(at(temperature)[name], [view.double() for view in views])
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    found, expected = torch.cat(grads).double(), torch.cat(exact_grads)
    assert (found - expected).norm() < 2e-3 * expected.norm()


# N2, N12: rows of no length, of any length, and rows that are all equal.
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.002, 0.1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_and_equal_rows_are_finite(name, temperature, dtype):
    views = [view.to(dtype) for view in random_views(2, 8, 5)]
    views[0][2] = 0
    views[1][:3] = 0
    views[0][4:] = 1
    views[1][5:] = 1
    for given in (views, [torch.zeros_like(view) for view in views], [views[0], views[0]]):
        value, grads = run(at(temperature)[name], given)
        assert torch.isfinite(value)
        assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e30])
def test_scale_of_rows_does_not_matter(name, scale):
    views = random_views(2, 9, 5, dtype=torch.float32)
    scaled = [view * scale for view in views]
    value, grads = run(at(0.1)[name], scaled)
    assert value.item() == pytest.approx(at(0.1)[name](views).item(), rel=1e-4)
    assert all(torch.isfinite(grad).all() for grad in grads)


# N6: what is detached and should not be, or the reverse.
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    views = [view.requires_grad_() for view in random_views(2, 5, 4)]
    assert torch.autograd.gradcheck(lambda *v: at(0.2)[name](v), views)


# N7, N11: half precision, masks that overflow in it, autocast around everything.
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(name, dtype):
    views = [view.to(dtype) for view in random_views(2, 32, 16)]
    value, grads = run(at(0.1)[name], views)
    exact, exact_grads = run(at(0.1)[name], [view.double() for view in views])
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-4, abs=1e-6)
    found, expected = torch.cat(grads).double(), torch.cat(exact_grads)
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_autocast_around_the_loss_changes_nothing(name):
    views = random_views(2, 16, 8, dtype=torch.float32)
    outside, expected = run(at(0.05)[name], views)
    inner = [view.requires_grad_() for view in views]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = at(0.05)[name](inner)
    inside.backward()
    assert inside.dtype == torch.float32
    assert inside.item() == outside.item()
    assert all(torch.equal(one.grad, two) for one, two in zip(inner, expected, strict=True))


# N3, D4: axes and pairing. A row's gradient is orthogonal to it, and images may come in any order.
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_orthogonal_to_its_row(name):
    views = random_views(2, 9, 6)
    _, grads = run(at(0.1)[name], views)
    for view, grad in zip(views, grads, strict=True):
        assert (grad * view).sum(1).abs().max() < 1e-13
        assert grad.norm() > 1e-3


ORDERED = {name for name in NAMES if "sup_con" in name or "ids" in name or "queue" in name}


@pytest.mark.parametrize("name", sorted(set(NAMES) - ORDERED))
def test_order_of_images_does_not_matter(name):
    views = random_views(2, 9, 6)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    value, grads = run(at(0.1)[name], views)
    shuffled, moved = run(at(0.1)[name], [view[order] for view in views])
    assert shuffled.item() == pytest.approx(value.item(), rel=1e-12)
    for one, two in zip(grads, moved, strict=True):
        assert torch.allclose(one[order], two, atol=1e-13)


# InfoNCE has a direction, and a cap keeps the rows of the first view first.
SYMMETRIC = [name for name in NAMES if "info_nce" not in name and "capped" not in name]


# D10: one direction of a symmetric loss only.
@pytest.mark.parametrize("name", SYMMETRIC)
def test_swapping_the_views_changes_nothing(name):
    views = random_views(2, 9, 6)
    value, grads = run(at(0.1)[name], views)
    swapped, back = run(at(0.1)[name], views[::-1])
    assert swapped.item() == pytest.approx(value.item(), rel=1e-12)
    for one, two in zip(grads, back[::-1], strict=True):
        assert torch.allclose(one, two, atol=1e-13)


# N4, N5: one image, one class, no negatives.
@pytest.mark.parametrize("name", NAMES)
def test_one_image_is_finite(name):
    value, grads = run(at(0.1)[name], random_views(2, 1, 4))
    assert torch.isfinite(value)
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_one_row_reaches_the_loss(name):
    for temperature in (0.005, 0.5):
        for view in (0, 1):
            views = random_views(2, 6, 5)
            views[view][3, 2] = torch.nan
            assert torch.isnan(at(temperature)[name](views))


@pytest.mark.parametrize("name", NAMES)
def test_input_is_left_as_it_is(name):
    views = random_views(2, 6, 5)
    before = [view.clone() for view in views]
    run(at(0.1)[name], views)
    assert all(torch.equal(a, b) for a, b in zip(views, before, strict=True))
