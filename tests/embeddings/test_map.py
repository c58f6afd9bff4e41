import torch

from coview.embeddings.map import _gradient, joint_shares, tsne


def three_groups():
    generator = torch.Generator().manual_seed(0)
    centers = torch.eye(3, 16) * 3
    labels = torch.arange(90) % 3
    return centers[labels] + 0.3 * torch.randn(90, 16, generator=generator), labels


def test_groups_stay_together_on_the_map():
    rows, labels = three_groups()
    places = tsne(rows, perplexity=10)
    distances = torch.cdist(places, places).fill_diagonal_(torch.inf)
    assert (labels[distances.argmin(1)] == labels).all()


def test_map_lies_in_the_unit_square_and_is_repeatable():
    rows, _ = three_groups()
    first, second = tsne(rows), tsne(rows)
    assert (first == second).all()
    assert first.min() == 0
    assert first.max() == 1


def test_every_row_has_the_asked_perplexity():
    rows, _ = three_groups()
    distances = torch.cdist(rows, rows).double().square()
    shares = joint_shares(distances, 10.0)
    assert torch.allclose(shares, shares.T)
    assert abs(float(shares.sum()) - 1) < 1e-9


def test_gradient_is_that_of_the_divergence():
    rows, _ = three_groups()
    shares = joint_shares(torch.cdist(rows, rows).double().square(), 10.0)
    places = torch.randn(90, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    places.requires_grad_()
    near = 1 / (1 + (places[:, None] - places[None]).square().sum(-1))
    near = near * (1 - torch.eye(90))
    q = near / near.sum()
    divergence = torch.xlogy(shares, shares).sum() - (shares * q.clamp_min(1e-300).log()).sum()
    divergence.backward()
    assert torch.allclose(places.grad, _gradient(places.detach(), shares), atol=1e-10)


def test_few_and_identical_rows_are_no_problem():
    assert tsne(torch.ones(4, 3)).isfinite().all()
