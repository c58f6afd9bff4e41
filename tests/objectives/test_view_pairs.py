"""NT-Logistic and margin triplet: negatives from the other view only."""

import math

import pytest
import torch
from slow_losses import example, over_pairs, random_views, slow_logistic, slow_triplet, softplus

from coview.core.errors import InvalidValue, UnknownName
from coview.objectives import margin_triplet, nt_logistic

MINING = (None, "semi-hard")
REDUCTIONS = ("mean", "sum")
LOSSES = {
    "nt_logistic": lambda v, **how: nt_logistic(v, temperature=0.5, **how),
    "margin_triplet": lambda v, **how: margin_triplet(v, margin=0.4, **how),
}


def test_loop_oracles_known_values_in_each_direction():
    one, two = example()
    assert slow_triplet(one, two, 0.4) == pytest.approx(0.264899, abs=1e-6)
    assert slow_triplet(two, one, 0.4) == pytest.approx(0.224328, abs=1e-6)
    assert slow_triplet(one, two, 0.4, "semi-hard") == pytest.approx(0.137779, abs=1e-6)
    assert slow_triplet(two, one, 0.4, "semi-hard") == pytest.approx(0.147063, abs=1e-6)
    assert slow_logistic(one, two, 0.5) == pytest.approx(1.176432, abs=1e-6)
    assert slow_logistic(two, one, 0.5) == pytest.approx(1.176432, abs=1e-6)
    assert slow_logistic(one, two, 0.5, "semi-hard") == pytest.approx(1.077965, abs=1e-6)
    assert slow_logistic(two, one, 0.5, "semi-hard") == pytest.approx(1.156320, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "mining", "value"),
    [
        ("margin_triplet", None, 0.244613),
        ("margin_triplet", "semi-hard", 0.142421),
        ("nt_logistic", None, 1.176432),
        ("nt_logistic", "semi-hard", 1.117142),
    ],
)
def test_view_pairs_known_value(name, mining, value):
    assert LOSSES[name](example(), mining=mining).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_nt_logistic_equals_the_loop(views, mining, reduction, temperature):
    given = random_views(views, 7, 4)
    expected = over_pairs(given, lambda u, v: slow_logistic(u, v, temperature, mining, reduction))
    loss = nt_logistic(given, temperature=temperature, mining=mining, reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0, 0.4, 1.6])
def test_margin_triplet_equals_the_loop(views, mining, reduction, margin):
    given = random_views(views, 7, 4)
    expected = over_pairs(given, lambda u, v: slow_triplet(u, v, margin, mining, reduction))
    loss = margin_triplet(given, margin=margin, mining=mining, reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("tile", [1, 2, 5, 7])
def test_view_pairs_any_tile_gives_the_same_value_and_gradient(name, mining, tile, monkeypatch):
    def run():
        given = [view.requires_grad_() for view in random_views(2, 7, 4)]
        loss = LOSSES[name](given, mining=mining)
        return loss.detach(), *torch.autograd.grad(loss, given)

    whole = run()
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", tile)
    for one, two in zip(run(), whole, strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("views", [2, 3])
def test_view_pairs_gradcheck(name, mining, reduction, views):
    given = [view.requires_grad_() for view in random_views(views, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda *v: LOSSES[name](v, mining=mining, reduction=reduction), given
    )


def test_nt_logistic_gradient_is_the_closed_form():
    """dl/du_i = (sum_j sigma(s_ij) v_j / (B - 1) - sigma(-s_ii) v_i) / tau, s = u v / tau."""
    u, v = (x / x.norm(dim=1, keepdim=True) for x in random_views(2, 5, 4))
    u.requires_grad_(), v.requires_grad_()
    nt_logistic([u, v], temperature=0.5).backward()
    s = (u @ v.T / 0.5).detach()
    slopes = s.sigmoid() / 4
    slopes.diagonal().copy_(-(-s.diagonal()).sigmoid())
    # u is anchor of v and v of u: both directions are averaged, and s is symmetric in them.
    expected = slopes @ v.detach() / (0.5 * 5)
    back = s.T.sigmoid() / 4
    back.diagonal().copy_(-(-s.diagonal()).sigmoid())
    expected = (expected + back.T @ v.detach() / (0.5 * 5)) / 2
    tangent = expected - (expected * u).sum(1, keepdim=True).detach() * u.detach()
    assert torch.allclose(u.grad, tangent, atol=1e-14)


def four_samples():
    """Anchor 0 has positive 0.6 and negatives 0.8, 0.6 and 0; the others are far from it."""
    u = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, -1, 0, 0]]
    v = [[0.6, 0.8, 0, 0], [0.8, 0.6, 0, 0], [0.6, 0, 0, 0.8], [0, 1, 0, 0]]
    return torch.tensor(u, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)


# N20: the signs and ties of semi-hard mining, by hand.
def test_n20_semi_hard_takes_the_nearest_below_the_positive_and_no_tie():
    u, v = four_samples()
    rows = [[0.6, 0.8, 0.6, 0], [0, 0, 0, 0], [0, 0, 0.8, 0], [-0.8, -0.6, 0, -1]]
    # Cosines u x v. Row 0: the tie 0.6 is not below 0.6, so the negative is 0. Row 1: none. Row 2:
    # 0 (0.8 below the positive). Row 3: positive -1, none below. Columns likewise, backwards:
    # positive 0.6 -> 0; 0 -> -0.6; 0.8 -> 0.6; -1 -> none.
    chosen_forth = [(0.6, 0), (0, None), (0.8, 0), (-1, None)]
    chosen_back = [(0.6, 0), (0, -0.6), (0.8, 0.6), (-1, None)]
    assert torch.allclose(u @ v.T, torch.tensor(rows, dtype=torch.float64))
    triplet = [
        max(n - p + 0.7, 0) if n is not None and n > p - 0.7 else 0
        for p, n in chosen_forth + chosen_back
    ]
    logistic = [
        softplus(-p) + (softplus(n) if n is not None else 0) for p, n in chosen_forth + chosen_back
    ]
    found = margin_triplet([u, v], margin=0.7, mining="semi-hard").item()
    assert found == pytest.approx(sum(triplet) / 8, abs=1e-12)
    found = nt_logistic([u, v], temperature=1.0, mining="semi-hard").item()
    assert found == pytest.approx(sum(logistic) / 8, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("images", [3, 100, 1100])
def test_view_pairs_of_equal_embeddings(dtype, images):
    view = torch.linspace(-1, 2, 37, dtype=dtype).expand(images, 37)
    attraction, repulsion = softplus(-2), softplus(2)
    for mining, value in ((None, attraction + repulsion), ("semi-hard", attraction)):
        loss = nt_logistic([view, view], temperature=0.5, mining=mining).item()
        assert loss == pytest.approx(value, abs=1e-5)
    for mining, value in ((None, 0.4), ("semi-hard", 0)):
        loss = margin_triplet([view, view], margin=0.4, mining=mining).item()
        assert loss == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mining", MINING)
def test_view_pairs_of_one_image_have_the_positive_term_only(name, mining):
    given = [view.requires_grad_() for view in random_views(2, 1, 4)]
    loss = LOSSES[name](given, mining=mining)
    loss.backward()
    one, two = (view.detach() for view in given)
    cosine = torch.cosine_similarity(one, two).item()
    expected = softplus(-cosine / 0.5) if name == "nt_logistic" else 0
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert all(torch.isfinite(view.grad).all() for view in given)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mining", MINING)
def test_view_pairs_swap_and_permutation_leave_value_and_gradient(name, mining):
    first, second = (view.requires_grad_() for view in random_views(2, 9, 6))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    losses = [
        LOSSES[name](views, mining=mining)
        for views in ([first, second], [second, first], [first[order], second[order]])
    ]
    grads = [torch.autograd.grad(loss, [first, second]) for loss in losses]
    for loss, grad in zip(losses[1:], grads[1:], strict=True):
        assert loss.item() == pytest.approx(losses[0].item(), rel=1e-13)
        for one, two in zip(grad, grads[0], strict=True):
            assert torch.allclose(one, two, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mining", MINING)
def test_view_pairs_nan_in_one_row_reaches_the_loss(name, mining):
    given = random_views(2, 6, 5)
    given[1][3, 2] = torch.nan
    assert torch.isnan(LOSSES[name](given, mining=mining))


@pytest.mark.parametrize("temperature", [0, -1, math.nan, "0.1"])
def test_nt_logistic_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(InvalidValue, match="temperature"):
        nt_logistic(example(), temperature=temperature)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf, None])
def test_margin_triplet_refuses_a_margin_that_is_none(margin):
    with pytest.raises(InvalidValue, match="margin"):
        margin_triplet(example(), margin=margin)


@pytest.mark.parametrize("name", LOSSES)
def test_view_pairs_refuse_unknown_choices_and_single_views(name):
    with pytest.raises(UnknownName, match="semi-hard"):
        LOSSES[name](example(), mining="hard")
    with pytest.raises(UnknownName, match="mean"):
        LOSSES[name](example(), reduction="max")
    with pytest.raises(InvalidValue, match="at least two"):
        LOSSES[name](example()[:1])
