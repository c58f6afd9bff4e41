"""The choices of set objectives: lengths, negatives of other views, mining, a cap on positives."""

import json
import math
from dataclasses import replace

import pytest
import torch
from slow_losses import (
    example,
    mean,
    over_pairs,
    random_views,
    same_label,
    slow_capped_sup_con_rows,
    slow_logistic,
    slow_triplet,
    softplus,
)

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode, parse_setting
from coview.methods import MarginTriplet, NTLogistic, NTXent, SupCon, logo, simclr
from coview.methods.set_objectives import HEALTH_TEMPERATURE
from coview.objectives import nt_xent
from coview.planning.text import about_method
from coview.recipes import change, recipe
from coview.recipes.recipe import known_values


def slow_rows(views, temperature, *, unit, same_view=True):
    """NT-Xent row by row, of dot products of the rows or of their directions."""
    rows = [row.double() / (row.norm() if unit else 1) for view in views for row in view]
    images = len(views[0])
    losses = []
    for i, row in enumerate(rows):
        others = [
            k for k in range(len(rows)) if k != i and (same_view or k // images != i // images)
        ]
        logits = {k: float(row @ rows[k]) / temperature for k in others}
        top = max(logits.values())
        total = top + math.log(math.fsum(math.exp(s - top) for s in logits.values()))
        losses.append(total - mean(logits[k] for k in others if k % images == i % images))
    return mean(losses)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("scale", [0.1, 1, 30])
@pytest.mark.parametrize("negatives", ["all views", "other views"])
def test_nt_xent_of_dot_products_equals_the_loop(views, scale, negatives):
    given = [scale * view for view in random_views(views, 5, 4)]
    loss = nt_xent(given, temperature=2.0, normalize=False, negatives=negatives)
    expected = slow_rows(given, 2.0, unit=False, same_view=negatives == "all views")
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_negatives_of_the_other_view_alone_are_softmax_over_that_view():
    """Of the fixed input: 0.854440 and 0.829553 in the two directions."""
    loss = nt_xent(example(), temperature=0.5, negatives="other views")
    assert loss.item() == pytest.approx(0.841996, abs=1e-6)
    first, second = (view / view.norm(dim=1, keepdim=True) for view in example())
    logits = first @ second.T / 0.5
    own = torch.arange(3)
    both = [torch.nn.functional.cross_entropy(each, own) for each in (logits, logits.T)]
    assert loss.item() == pytest.approx(float(sum(both)) / 2, rel=1e-12)


@pytest.mark.parametrize("tile", [1, 3, 1024])
def test_dot_products_have_the_gradient_of_autograd(tile, monkeypatch):
    """Rows of length 40: exponentials without a row maximum would overflow."""
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", tile)
    given = [(40 * view).requires_grad_() for view in random_views(2, 5, 4)]
    rows = torch.cat(given)
    logits = (rows @ rows.T / 0.5).masked_fill(torch.eye(10, dtype=torch.bool), -torch.inf)
    own = torch.arange(10).roll(5)
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, own), given)
    found = torch.autograd.grad(nt_xent(given, temperature=0.5, normalize=False), given)
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_view_pair_objectives_are_the_loops(semi_hard, reduction):
    given, mining = random_views(3, 6, 4), "semi-hard" if semi_hard else None
    choices = {"semi_hard": semi_hard, "reduction": reduction}
    pairs = [
        (NTLogistic(temperature=0.2, **choices),
         lambda u, v: slow_logistic(u, v, 0.2, mining, reduction)),
        (MarginTriplet(margin=0.8, **choices),
         lambda u, v: slow_triplet(u, v, 0.8, mining, reduction)),
    ]  # fmt: skip
    for objective, slow in pairs:
        assert float(objective(given, None)) == pytest.approx(over_pairs(given, slow), rel=1e-11)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("images", [1, 2, 50])
def test_chance_level_of_view_pair_objectives_is_that_of_equal_rows(semi_hard, reduction, images):
    same = torch.ones(images, 5, dtype=torch.float64)
    for objective in (
        NTLogistic(temperature=0.5, semi_hard=semi_hard, reduction=reduction),
        MarginTriplet(margin=0.8, semi_hard=semi_hard, reduction=reduction),
    ):
        assert float(objective([same, same], None)) == pytest.approx(objective.chance_level(images))


@pytest.mark.parametrize(
    "objective",
    [
        NTLogistic(temperature=0.5), NTLogistic(temperature=0.2, reduction="sum"),
        MarginTriplet(margin=0.95), MarginTriplet(margin=1.6, reduction="sum"),
        MarginTriplet(margin=1.0),
        NTXent(temperature=0.3, negatives="other views"), SupCon(temperature=0.3, positives_cap=3),
    ],
)  # fmt: skip
def test_lower_bounds_are_what_aligned_random_rows_reach(objective):
    """Rows of one class are equal, those of others random; without labels every image is one."""
    rows = torch.randn(200, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, classes = (torch.arange(200), None)
    if objective.needs_labels:
        labels, classes = labels % 40, 40
        rows = rows[labels]
    loss = float(objective([rows, rows], labels))
    assert loss == pytest.approx(objective.lower_bound(200, 64, classes=classes), rel=0.03)


@pytest.mark.parametrize("cap", [1, 3, 50])
@pytest.mark.parametrize("form", ["out", "in"])
def test_supcon_with_a_cap_is_the_loop(cap, form):
    given, labels = random_views(2, 6, 4), [0, 0, 1, 0, 1, 2]
    objective = SupCon(temperature=0.5, form=form, positives_cap=cap)
    rows = slow_capped_sup_con_rows(given, same_label(labels), cap, 0.5, form)
    expected = mean(rows.values())
    assert float(objective(given, torch.tensor(labels))) == pytest.approx(expected, rel=1e-11)


def test_values_that_were_written_before_keep_their_json():
    assert encode(NTXent(temperature=0.2)) == {
        "type": "NTXent", "temperature": 0.2, "learn_temperature": False, "decoupled": False,
    }  # fmt: skip
    assert encode(SupCon(temperature=0.2)) == {
        "type": "SupCon", "temperature": 0.2, "learn_temperature": False, "form": "out",
    }  # fmt: skip
    for objective in (
        NTXent(temperature=2.0, normalize=False), NTXent(temperature=2.0, negatives="other views"),
        SupCon(temperature=0.2, positives_cap=3), MarginTriplet(margin=0.4, semi_hard=True),
    ):  # fmt: skip
        assert decode(encode(objective), known_values()) == objective
        assert decode(encode(objective, all_fields=True), known_values()) == objective


def test_a_recipe_takes_them_by_the_words_of_the_command_line():
    base = recipe("simclr-cpu")
    text = json.dumps({"type": "MarginTriplet", "margin": 0.8, "semi_hard": True})
    path, value = parse_setting(base, f"method.objective={text}", known_values())
    assert (path, value) == ("method.objective", MarginTriplet(margin=0.8, semi_hard=True))
    changed = change(base, set=[f"method.objective={text}"])
    assert "MarginTriplet with margin 0.8, semi-hard negatives" in about_method(changed)
    with pytest.raises(InvalidValue, match="`temperature` has no effect"):
        change(changed, temperature=0.2)
    plain = change(base, temperature=10, set=["method.objective.normalize=false"])
    assert plain.method.objective == NTXent(temperature=10.0, normalize=False)
    assert "at temperature 10, rows not normalized" in about_method(plain)
    capped = change(recipe("supcon-cpu"), set=["method.objective.positives_cap=1"])
    assert "at most 1 positive of a row" in about_method(capped)


@pytest.mark.parametrize(
    "objective",
    [
        NTLogistic(temperature=0.5, semi_hard=True), MarginTriplet(margin=0.4),
        NTXent(temperature=10.0, normalize=False),
    ],
)  # fmt: skip
def test_health_is_measured_by_a_loss_that_knows_a_collapse(objective):
    base = recipe("simclr-cpu")
    method = change(base, set=[f"method.objective={json.dumps(encode(objective))}"]).method
    assert method.health_objective == NTXent(temperature=HEALTH_TEMPERATURE)
    assert softplus(-2) == pytest.approx(
        NTLogistic(temperature=0.5, semi_hard=True).chance_level(8)
    )


def test_choices_that_do_not_exist_are_refused():
    with pytest.raises(UnknownName, match="other views"):
        nt_xent(example(), temperature=0.5, negatives="none")
    with pytest.raises(UnknownName, match="other views"):
        NTXent(temperature=0.5, negatives="none")
    with pytest.raises(InvalidValue, match="leave `normalize` and `negatives` out"):
        NTXent(temperature=0.5, decoupled=True, normalize=False)
    with pytest.raises(InvalidValue, match="positives_cap"):
        SupCon(temperature=0.5, positives_cap=0)
    with pytest.raises(InvalidValue, match="margin"):
        MarginTriplet(margin=-1.0)
    with pytest.raises(UnknownName, match="mean"):
        NTLogistic(temperature=0.5, reduction="max")
    for objective in (NTXent(temperature=0.5, normalize=False), MarginTriplet(margin=0.5)):
        with pytest.raises(InvalidValue, match="no form as a pair objective"):
            logo(replace(simclr(32), objective=objective))
