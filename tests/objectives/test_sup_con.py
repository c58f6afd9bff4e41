import math

import pytest
import torch
from slow_losses import (
    example,
    mean,
    random_views,
    same_label,
    sharing,
    slow_capped_sup_con_rows,
    slow_sup_con_rows,
)

from coview.core.errors import InvalidValue, UnknownName
from coview.objectives import nt_xent, positive_counts, sup_con

Y = torch.tensor([0, 0, 1])
FORMS = ("out", "in")


def by_loop(views, weights, temperature, form):
    return mean(slow_sup_con_rows(views, weights, temperature, form).values())


@pytest.mark.parametrize(
    ("temperature", "form", "value"),
    [
        (0.1, "out", 7.694886),
        (0.1, "in", 5.002007),
        (0.5, "out", 2.074168),
        (0.5, "in", 1.826007),
    ],
)
def test_sup_con_known_value(temperature, form, value):
    loss = sup_con(example(), Y, temperature=temperature, form=form)
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_sup_con_loop_oracle_known_rows():
    out = slow_sup_con_rows(example(), same_label([0, 0, 1]), 0.5, "out")
    inside = slow_sup_con_rows(example(), same_label([0, 0, 1]), 0.5, "in")
    known_out = [1.937320, 2.669813, 2.119896, 1.785051, 2.426014, 1.506912]
    known_in = [1.262863, 2.499280, 2.119896, 1.232393, 2.334699, 1.506912]
    assert list(out.values()) == pytest.approx(known_out, abs=1e-6)
    assert list(inside.values()) == pytest.approx(known_in, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "gradient", "norm"),
    [
        ("out", (-1.146576, -0.042294, 0.309908, 0.649578), 9.273472),
        ("in", (-0.139287, 0.064409, 0.086790, 0.151748), 7.972578),
    ],
)
def test_sup_con_known_gradient(form, gradient, norm):
    rows = torch.cat(example()).requires_grad_()
    sup_con([rows[:3], rows[3:]], Y, temperature=0.1, form=form).backward()
    assert rows.grad[0].tolist() == pytest.approx(gradient, abs=1e-6)
    assert rows.grad.norm().item() == pytest.approx(norm, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.02, 0.5])
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 2, 0], [7, -1, 7, -1, 3, 3], [5] * 6])
def test_sup_con_equals_the_loop(views, labels, temperature, form):
    given = random_views(views, 6, 5)
    expected = by_loop(given, same_label(labels), temperature, form)
    loss = sup_con(given, torch.tensor(labels), temperature=temperature, form=form)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("views", [1, 2, 3])
def test_sup_con_weights_equal_the_loop(views, form):
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights[weights < 0.3] = 0
    weights[4] = 0
    given = random_views(views, 5, 4)
    expected = by_loop(given, weights.tolist(), 0.2, form)
    loss = sup_con(given, weights=weights, temperature=0.2, form=form)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_weights_of_equal_labels_are_the_labels(form):
    labels = torch.tensor([0, 1, 0, 2, 2, 0])
    given = random_views(2, 6, 5)
    weights = 3.0 * (labels[:, None] == labels).float()
    one = sup_con(given, labels, temperature=0.1, form=form)
    two = sup_con(given, weights=weights, temperature=0.1, form=form)
    assert one.item() == pytest.approx(two.item(), rel=1e-6)


def test_sup_con_diagonal_weights_alone_are_nt_xent():
    given = random_views(2, 6, 5)
    one = sup_con(given, weights=torch.eye(6), temperature=0.1)
    assert one.item() == pytest.approx(nt_xent(given, temperature=0.1).item(), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [torch.arange(6), torch.full((6,), -1)])
def test_sup_con_with_image_ids_or_without_any_label_is_nt_xent(labels, form):
    one, two = random_views(2, 6, 5), random_views(2, 6, 5)
    one = [view.requires_grad_() for view in one]
    two = [view.requires_grad_() for view in two]
    first = nt_xent(one, temperature=0.1)
    second = sup_con(two, labels, temperature=0.1, form=form)
    first.backward(), second.backward()
    assert first.item() == pytest.approx(second.item(), rel=1e-12)
    assert torch.allclose(one[0].grad, two[0].grad, rtol=1e-9, atol=1e-13)


def test_sup_con_one_image_twice_with_its_id_as_label_becomes_a_positive():
    given = random_views(2, 4, 5)
    twice = [view[[0, 1, 2, 3, 1]] for view in given]
    ids = torch.tensor([10, 11, 12, 13, 11])
    expected = by_loop(twice, same_label(ids.tolist()), 0.1, "out")
    assert sup_con(twice, ids, temperature=0.1).item() == pytest.approx(expected, rel=1e-11)
    assert nt_xent(twice, temperature=0.1).item() != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.02, 0.2])
def test_sup_con_gradcheck_with_labels(form, temperature):
    labels = torch.tensor([0, 1, 0, -1])
    given = [view.requires_grad_() for view in random_views(2, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda *v: sup_con(v, labels, temperature=temperature, form=form), given
    )


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_gradcheck_with_weights(form):
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = [view.requires_grad_() for view in random_views(2, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda *v: sup_con(v, weights=weights, temperature=0.2, form=form), given
    )


@pytest.mark.parametrize("seed", range(5))
def test_sup_con_in_never_exceeds_out(seed):
    given = random_views(2, 12, 4, seed=seed)
    labels = torch.arange(12) % 3
    out, inside = (sup_con(given, labels, temperature=0.1, form=form) for form in FORMS)
    assert inside < out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
def test_sup_con_of_equal_embeddings_is_the_log_of_the_candidates(temperature, form):
    view = torch.ones(100, 8)
    labels = torch.arange(100) % 7
    loss = sup_con([view, view], labels, temperature=temperature, form=form)
    assert loss.item() == pytest.approx(math.log(199), abs=5e-5)


def test_sup_con_collapsed_classes_reach_the_known_lower_bound():
    classes, images = 10, 1024
    simplex = torch.eye(classes) - 1 / classes
    labels = torch.arange(images) % classes
    counts = torch.bincount(labels) * 2 - 1
    bound = [
        math.log(p + (2 * images - 1 - p) * math.exp(-classes / ((classes - 1) * 0.1)))
        for p in counts.tolist()
    ]
    expected = sum(b * (p + 1) for b, p in zip(bound, counts.tolist(), strict=True)) / 2048
    view = simplex[labels]
    loss = sup_con([view, view], labels, temperature=0.1).item()
    assert loss == pytest.approx(expected, abs=1e-4)
    assert loss == pytest.approx(5.3173, abs=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_rows_without_positives_leave_the_mean_but_stay_candidates(form):
    given = random_views(1, 6, 5)
    labels = torch.tensor([0, 0, 1, 2, 3, -1])
    rows = slow_sup_con_rows(given, same_label(labels.tolist()), 0.1, form)
    assert sorted(rows) == [0, 1]
    loss = sup_con(given, labels, temperature=0.1, form=form)
    assert loss.item() == pytest.approx(mean(rows.values()), rel=1e-11)
    assert positive_counts(labels, 1).tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("images", [1, 5])
def test_sup_con_without_any_positive_is_zero_with_zero_gradient(images, form):
    view = random_views(1, images, 4)[0].requires_grad_()
    loss = sup_con([view], torch.arange(images), temperature=0.1, form=form)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(view.grad, torch.zeros_like(view))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.005, 0.1])
def test_sup_con_batch_of_one_class_is_finite(form, temperature):
    given = [view.requires_grad_() for view in random_views(2, 8, 4, dtype=torch.float32)]
    loss = sup_con(given, torch.zeros(8, dtype=torch.int64), temperature=temperature, form=form)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(given[0].grad).all()
    if form == "in":  # all candidates are positives: nothing left but the constant
        assert loss.item() == pytest.approx(math.log(15), abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_sup_con_extreme_rows_are_finite(form, scale):
    given = random_views(2, 6, 4, dtype=torch.float32)
    given[0][2] *= scale
    given = [view.requires_grad_() for view in given]
    loss = sup_con(given, torch.tensor([0, 0, 1, 1, -1, 2]), temperature=0.01, form=form)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(view.grad).all() for view in given)


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_gradient_is_orthogonal_to_its_row(form):
    given = [view.requires_grad_() for view in random_views(2, 9, 6)]
    sup_con(given, torch.arange(9) % 4, temperature=0.1, form=form).backward()
    for view in given:
        assert (view.grad * view).sum(1).abs().max() < 1e-13
        assert view.grad.norm() > 1e-3


def test_sup_con_two_batches_of_one_size_use_their_own_labels():
    given = random_views(2, 6, 5)
    for labels in ([0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2]):
        expected = by_loop(given, same_label(labels), 0.1, "out")
        loss = sup_con(given, torch.tensor(labels), temperature=0.1)
        assert loss.item() == pytest.approx(expected, rel=1e-11)


def test_sup_con_labels_may_be_any_integers_in_any_order():
    given = random_views(2, 6, 5)
    small = sup_con(given, torch.tensor([2, 0, 1, 0, 2, 2]), temperature=0.1)
    large = sup_con(given, torch.tensor([-9, 2**62, 5, 2**62, -9, -9]), temperature=0.1)
    assert small.item() == large.item()


def test_sup_con_weights_receive_no_gradient():
    weights = torch.ones(4, 4, requires_grad=True)
    given = [view.requires_grad_() for view in random_views(2, 4, 3)]
    sup_con(given, weights=weights, temperature=0.5).backward()
    assert weights.grad is None
    assert torch.equal(weights.detach(), torch.ones(4, 4))


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_nan_in_one_row_reaches_the_loss(form):
    given = random_views(2, 6, 5)
    given[1][3, 2] = torch.nan
    assert torch.isnan(sup_con(given, torch.arange(6) % 3, temperature=0.1, form=form))


def test_sup_con_refuses_labels_and_weights_together_and_neither():
    with pytest.raises(InvalidValue, match="either"):
        sup_con(example(), temperature=0.1)
    with pytest.raises(InvalidValue, match="either"):
        sup_con(example(), Y, weights=torch.ones(3, 3), temperature=0.1)


@pytest.mark.parametrize("labels", [torch.zeros(4, dtype=torch.int64), torch.zeros(3), Y[:, None]])
def test_sup_con_refuses_labels_of_other_shapes_or_types(labels):
    with pytest.raises(InvalidValue, match="labels"):
        sup_con(example(), labels, temperature=0.1)


@pytest.mark.parametrize(
    "weights", [torch.ones(6, 6), -torch.ones(3, 3), torch.full((3, 3), torch.nan)]
)
def test_sup_con_refuses_weights_that_are_no_weights(weights):
    with pytest.raises(InvalidValue, match="weights"):
        sup_con(example(), weights=weights, temperature=0.1)


def test_sup_con_unknown_form_offers_the_known():
    with pytest.raises(UnknownName, match="out"):
        sup_con(example(), Y, temperature=0.1, form="outside")


MARKS = torch.tensor(
    [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_sup_con_marks_equal_the_loop(views, form, dtype):
    given = random_views(views, 6, 5)
    expected = by_loop(given, sharing(MARKS.tolist()), 0.2, form)
    loss = sup_con(given, MARKS.to(dtype), temperature=0.2, form=form)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_sup_con_marks_of_one_label_each_are_the_labels(form):
    labels = torch.tensor([0, 1, 0, 2, 2, -1])
    one_hot = labels[:, None] == torch.arange(3)
    given = [view.requires_grad_() for view in random_views(2, 6, 5)]
    one = sup_con(given, labels, temperature=0.1, form=form)
    two = sup_con(given, one_hot, temperature=0.1, form=form)
    assert one.item() == pytest.approx(two.item(), rel=1e-12)
    for a, b in zip(torch.autograd.grad(one, given), torch.autograd.grad(two, given), strict=True):
        assert torch.allclose(a, b, atol=1e-13)


def test_sup_con_without_any_mark_is_nt_xent():
    given = random_views(2, 6, 5)
    loss = sup_con(given, torch.zeros(6, 4, dtype=torch.bool), temperature=0.1)
    assert loss.item() == pytest.approx(nt_xent(given, temperature=0.1).item(), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("cap", [1, 2, 3, 4, 5, 7, 100])
@pytest.mark.parametrize("labels", [[0, 1, 0, 0, 1, 0], [4, -1, 4, -1, 4, 4], [5] * 6, "marks"])
@pytest.mark.parametrize("tile", [4, 1024])
def test_sup_con_capped_equals_the_loop(views, cap, labels, form, tile, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", tile)
    given = random_views(views, 6, 5)
    if labels == "marks":
        shares, given_labels = sharing(MARKS.tolist()), MARKS
    else:
        shares, given_labels = same_label(labels), torch.tensor(labels)
    expected = slow_capped_sup_con_rows(given, shares, cap, 0.2, form)
    loss = sup_con(given, given_labels, temperature=0.2, form=form, positives_cap=cap)
    assert loss.item() == pytest.approx(mean(expected.values()), rel=1e-11)


def test_sup_con_capped_at_the_own_view_is_decoupled_from_the_class():
    """Of 4 rows of one class in 2 views, a cap of 1 leaves the other view and other classes."""
    given = random_views(2, 4, 5)
    labels = torch.tensor([0, 0, 1, 1])
    rows = torch.cat(given)
    z = rows / rows.norm(dim=1, keepdim=True)
    s = (z @ z.T / 0.5).exp()
    losses = []
    for i in range(8):
        others = [k for k in range(8) if labels[k % 4] != labels[i % 4]]
        other_view = (i + 4) % 8
        losses.append(-math.log(s[i, other_view] / (s[i, other_view] + s[i, others].sum())))
    loss = sup_con(given, labels, temperature=0.5, positives_cap=1)
    assert loss.item() == pytest.approx(mean(losses), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [Y, torch.tensor([[1, 0], [1, 1], [0, 1]])])
def test_sup_con_beyond_every_positive_a_cap_changes_nothing(form, labels):
    one = sup_con(example(), labels, temperature=0.1, form=form)
    two = sup_con(example(), labels, temperature=0.1, form=form, positives_cap=5)
    assert one.item() == pytest.approx(two.item(), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [torch.tensor([0, 0, 1, 0]), MARKS[:4]])
@pytest.mark.parametrize("cap", [None, 1, 2, 3])
def test_sup_con_gradcheck_with_marks_and_caps(form, labels, cap):
    given = [view.requires_grad_() for view in random_views(2, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda *v: sup_con(v, labels, temperature=0.2, form=form, positives_cap=cap), given
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cap", [None, 2])
def test_sup_con_marks_without_any_positive_are_zero_with_zero_gradient(form, cap):
    view = random_views(1, 3, 4)[0].requires_grad_()
    loss = sup_con([view], torch.eye(3), temperature=0.1, form=form, positives_cap=cap)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(view.grad, torch.zeros_like(view))


@pytest.mark.parametrize("cap", [0, -1, 1.5, True])
def test_sup_con_refuses_a_cap_that_is_none(cap):
    with pytest.raises(InvalidValue, match="positives_cap"):
        sup_con(example(), Y, temperature=0.1, positives_cap=cap)


def test_sup_con_refuses_a_cap_on_weights():
    with pytest.raises(InvalidValue, match="positives_cap"):
        sup_con(example(), weights=torch.eye(3), temperature=0.1, positives_cap=2)
