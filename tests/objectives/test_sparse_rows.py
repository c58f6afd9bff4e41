"""Values and gradients on one-hot, axis-aligned and sparse rows equal dense float64 formulas.

On such rows the norm equals the largest entry, cosines are exactly 0 or 1, and a derivative that a
library defines as 0 at equality (clamp, max) is wrong without any other sign.
"""

import pytest
import torch
from every_objective import NAMES, at, labels, marks, queue
from slow_losses import random_views
from torch.nn.functional import softplus

from coview.objectives import cross_entropy, distillation, negative_cosine

IMAGES, WIDTH, TAU, MARGIN, CAP = 6, 7, 0.3, 0.4, 3


def unit(rows):
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def own_image(views):
    image = torch.arange(len(views[0])).repeat(len(views))
    return image[:, None] == image


def contrast(views, positive, candidate, form="out"):
    """The softmax losses over all rows, for bool masks [M, M]."""
    z = unit(torch.cat(views))
    s = z @ z.T / TAU
    has_positive = positive.any(1)
    s, positive, candidate = s[has_positive], positive[has_positive], candidate[has_positive]
    count = positive.double().sum(1)
    if form == "out":
        attraction = s.where(positive, 0).sum(1) / count
    else:
        attraction = s.masked_fill(~positive, -torch.inf).logsumexp(1) - count.log()
    return (s.masked_fill(~candidate, -torch.inf).logsumexp(1) - attraction).mean()


def sup_con(views, shared, cap=None, form="out"):
    """``shared`` [B, B]: whether two images have a label in common."""
    own, others = own_image(views), ~torch.eye(2 * IMAGES, dtype=torch.bool)
    positive = (own | shared.repeat(2, 2)) & others
    if cap is None:
        return contrast(views, positive, others, form)
    beyond = (positive & ~own).cumsum(1) > cap - 1
    surplus = positive & ~own & beyond
    return contrast(views, positive & ~surplus, others & ~surplus, form)


def same_label():
    y = labels(IMAGES)
    return (y[:, None] == y) & (y >= 0)


def shared_mark():
    m = marks(IMAGES).double()
    return m @ m.T > 0


def info_nce(query, key, negatives=None, left_out=None):
    q, k = unit(query), unit(key)
    positives = (q * k).sum(1, keepdim=True)
    if negatives is None:
        own = torch.eye(len(q), dtype=torch.bool)
        left_out = own if left_out is None else left_out | own
    s = q @ (k if negatives is None else unit(negatives)).T
    logits = torch.cat([positives, s.masked_fill(left_out, -torch.inf)], 1) / TAU
    return (logits.logsumexp(1) - logits[:, 0]).mean()


def info_nce_queue(views):
    negatives = queue(views[0])
    left_out = torch.arange(IMAGES)[:, None] == torch.arange(len(negatives)) % 7 - 1
    return info_nce(*views, negatives, left_out)


def over_view_pairs(loss):
    def mean(views):
        u, v = (unit(view) for view in views)
        return (loss(u @ v.T) + loss(v @ u.T)) / 2

    return mean


def split(s):
    """Positives [B], negatives [B, B - 1]."""
    off = ~torch.eye(len(s), dtype=torch.bool)
    return s.diagonal(), s[off].view(len(s), -1)


def logistic(s):
    p, n = split(s)
    return (softplus(-p / TAU) + softplus(n / TAU).mean(1)).mean()


def logistic_mined(s):
    p, n = split(s)
    below = n.masked_fill(n >= p[:, None] - 1e-12, -torch.inf).amax(1)
    return (softplus(-p / TAU) + softplus(below / TAU).where(below > -torch.inf, 0)).mean()


def triplet(s):
    p, n = split(s)
    return (n - p[:, None] + MARGIN).clamp(min=0).mean()


def triplet_mined(s):
    p, n = split(s)
    inside = (n < p[:, None] - 1e-12) & (n > p[:, None] - MARGIN)
    nearest = n.masked_fill(~inside, -torch.inf).amax(1)
    return (nearest - p + MARGIN).where(inside.any(1), 0).mean()


def pairs_of_ids():
    ids = torch.arange(IMAGES) // 2
    return ids[:, None] == ids


def others():
    return ~torch.eye(2 * IMAGES, dtype=torch.bool)


FORMULAS = {
    "nt_xent": lambda v: contrast(v, own_image(v) & others(), others()),
    "decoupled": lambda v: contrast(v, own_image(v) & others(), ~own_image(v)),
    "sup_con out": lambda v: sup_con(v, same_label()),
    "sup_con in": lambda v: sup_con(v, same_label(), form="in"),
    "sup_con marks": lambda v: sup_con(v, shared_mark()),
    "sup_con capped": lambda v: sup_con(v, same_label(), CAP),
    "sup_con capped in": lambda v: sup_con(v, shared_mark(), CAP, "in"),
    "info_nce": lambda v: info_nce(*v),
    "info_nce ids": lambda v: info_nce(*v, left_out=pairs_of_ids()),
    "info_nce queue": info_nce_queue,
    "nt_logistic": over_view_pairs(logistic),
    "nt_logistic mined": over_view_pairs(logistic_mined),
    "margin_triplet": over_view_pairs(triplet),
    "margin_triplet mined": over_view_pairs(triplet_mined),
    "negative_cosine": lambda v: -(unit(v[0]) * unit(v[1])).sum(1).mean(),
}


def one_hot(shift):
    """A row for each image along one axis, of either sign and any size; two lie opposite on one axis."""
    rows = torch.zeros(IMAGES, WIDTH, dtype=torch.float64)
    sizes = torch.tensor([1.0, -3.0, 0.25, 1e-3, -700.0, 2.0])
    rows[torch.arange(IMAGES), torch.tensor([0, 1, 2, 3, 0, 5]).add(shift) % WIDTH] = sizes.double()
    return rows


def dominated(seed):
    """One large entry beside one whose square is lost in rounding; the rest are 0."""
    rows = one_hot(seed)
    rows[torch.arange(IMAGES), (torch.arange(IMAGES) * 2 + seed + 4) % WIDTH] += 1e-9
    return rows


def half_empty():
    rows = random_views(1, IMAGES, WIDTH, seed=4)[0]
    rows[:, 2::2] = 0
    return rows


DENSE = random_views(1, IMAGES, WIDTH, seed=2)[0]
ROWS = {
    "one-hot and dense": [one_hot(0), DENSE],
    "dense and one-hot": [DENSE, one_hot(0)],
    "axis-aligned": [one_hot(0), one_hot(2)],
    "equal axes": [one_hot(1), one_hot(1)],
    "dominated and dense": [dominated(0), DENSE],
    "dominated": [dominated(0), dominated(3)],
    "half empty and one-hot": [half_empty(), one_hot(0)],
    "half empty and dense": [half_empty(), DENSE],
}
CASES = [
    (name, rows)
    for name in NAMES
    for rows in ROWS
    # Where cosines are tied, the nearest negative is not unique and there is no derivative.
    if "mined" not in name or "dense" in rows
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "rows"), CASES)
def test_value_and_gradient_on_sparse_rows_equal_the_formula(name, rows, dtype):
    exact = [view.to(dtype).double().clone().requires_grad_() for view in ROWS[rows]]
    expected = FORMULAS[name](exact)
    expected.backward()
    views = [view.detach().to(dtype).clone().requires_grad_() for view in exact]
    loss = at(TAU)[name](views)
    loss.backward()
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    for view, formula in zip(views, exact, strict=True):
        # The gradient of a row is inversely proportional to its size.
        size = formula.detach().norm(dim=1, keepdim=True)
        difference = view.grad.double() - formula.grad
        assert (difference * size).abs().max() < tolerance


def test_gradient_of_a_row_along_an_axis_is_across_it():
    prediction = torch.tensor([[0.0, 3.0, 0.0]], requires_grad=True)
    negative_cosine(prediction, torch.ones(1, 3)).backward()
    expected = -(3**-0.5) / 3
    assert prediction.grad.tolist()[0] == pytest.approx([expected, 0, expected], abs=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_classifier_losses_on_one_hot_logits_have_the_closed_gradient(scale):
    logits = (scale * torch.eye(4, dtype=torch.float64)).requires_grad_()
    y = torch.tensor([0, 2, -1, 3])
    cross_entropy(logits, y).backward()
    p, known = logits.detach().softmax(1), (y >= 0).double()[:, None]
    expected = (p - torch.eye(4).double()[y]) * known / 3
    assert torch.allclose(logits.grad, expected, atol=1e-15)
    student = (scale * torch.eye(4, dtype=torch.float64)).roll(1, 0).requires_grad_()
    distillation(student, logits, temperature=0.5).backward()
    expected = ((student.detach() / 0.5).softmax(1) - (logits.detach() / 0.5).softmax(1)) / 2
    assert torch.allclose(student.grad, expected, atol=1e-15)
