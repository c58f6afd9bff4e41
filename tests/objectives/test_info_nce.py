import math

import pytest
import torch
from slow_losses import example, random_views, slow_info_nce

from coview.core.errors import InvalidValue
from coview.objectives import info_nce


def queue():
    """The rows i = 10 .. 13 of the formula of ``example``."""
    rows = [[math.cos(1 + i + 2 * k + i * k) for k in range(4)] for i in range(10, 14)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("temperature", "swapped", "value"),
    [(0.2, False, 1.179749), (0.2, True, 3.167106), (0.07, False, 1.880781)],
)
def test_info_nce_with_a_queue_known_value(temperature, swapped, value):
    query, key = reversed(example()) if swapped else example()
    loss = info_nce(query, key, negatives=queue(), temperature=temperature)
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_info_nce_n_way_known_values():
    one, two = example()
    assert info_nce(one, two, temperature=0.5).item() == pytest.approx(0.854440, abs=1e-6)
    assert info_nce(two, one, temperature=0.5).item() == pytest.approx(0.829553, abs=1e-6)


IDS = [7, 3, 7, -1, -1, 5]
NEGATIVE_IDS = [3, -1, 7, 7, 9, -1, 5, 3, 8]


@pytest.mark.parametrize("ids", [None, IDS])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_info_nce_equals_the_loop(ids, temperature):
    query, key = random_views(2, 6, 5)
    negatives = random_views(1, 9, 5, seed=8)[0]
    named = {} if ids is None else {"ids": torch.tensor(ids)}
    expected = slow_info_nce(query, key, None, temperature, ids)
    loss = info_nce(query, key, temperature=temperature, **named)
    assert loss.item() == pytest.approx(expected, rel=1e-11)
    if ids is not None:
        named["negative_ids"] = torch.tensor(NEGATIVE_IDS)
    expected = slow_info_nce(query, key, negatives, temperature, ids, NEGATIVE_IDS if ids else None)
    loss = info_nce(query, key, negatives=negatives, temperature=temperature, **named)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


def test_info_nce_unknown_ids_mask_nothing():
    query, key = random_views(2, 5, 4)
    unknown = torch.full((5,), -1)
    one = info_nce(query, key, temperature=0.1)
    assert info_nce(query, key, temperature=0.1, ids=unknown).item() == pytest.approx(one.item())


@pytest.mark.parametrize("temperature", [0.02, 0.3])
@pytest.mark.parametrize("in_batch", [True, False])
def test_info_nce_gradcheck_in_query_key_and_negatives(temperature, in_batch):
    ids, negative_ids = torch.tensor([1, 2, 1]), torch.tensor([2, 9, -1, 1])
    query, key = (rows.requires_grad_() for rows in random_views(2, 3, 4))
    negatives = random_views(1, 4, 4, seed=8)[0].requires_grad_()
    if in_batch:
        assert torch.autograd.gradcheck(
            lambda q, k: info_nce(q, k, temperature=temperature, ids=ids), (query, key)
        )
    else:
        assert torch.autograd.gradcheck(
            lambda q, k, n: info_nce(
                q, k, negatives=n, temperature=temperature, ids=ids, negative_ids=negative_ids
            ),
            (query, key, negatives),
        )


def test_info_nce_gradient_of_the_query_is_the_closed_form():
    """(P - T) K / tau over the candidates own key + queue, on the sphere."""
    query, key = (x / x.norm(dim=1, keepdim=True) for x in random_views(2, 5, 4))
    negatives = random_views(1, 9, 4, seed=8)[0]
    negatives = negatives / negatives.norm(dim=1, keepdim=True)
    query.requires_grad_()
    info_nce(query, key, negatives=negatives, temperature=0.2).backward()
    q = query.detach()
    logits = torch.cat([(q * key).sum(1, keepdim=True), q @ negatives.T], 1) / 0.2
    p = logits.softmax(1)
    expected = ((p[:, :1] - 1) * key + p[:, 1:] @ negatives) / (0.2 * 5)
    tangent = expected - (expected * q).sum(1, keepdim=True) * q
    assert torch.allclose(query.grad, tangent, atol=1e-14)


def test_info_nce_detached_keys_get_no_gradient():
    query, key = (rows.requires_grad_() for rows in random_views(2, 5, 4))
    info_nce(query, key.detach(), temperature=0.2).backward()
    assert key.grad is None
    assert query.grad.norm() > 0.01


@pytest.mark.parametrize("temperature", [0.005, 0.2])
def test_info_nce_chance_level_is_the_log_of_the_candidates(temperature):
    rows = torch.ones(8, 4)
    loss = info_nce(rows, rows, negatives=torch.ones(4096, 4), temperature=temperature)
    assert loss.item() == pytest.approx(math.log(4097), abs=1e-4)
    loss = info_nce(rows, rows, temperature=temperature)
    assert loss.item() == pytest.approx(math.log(8), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.005, 0.2])
@pytest.mark.parametrize("ids", [torch.zeros(4, dtype=torch.int64), None])
def test_info_nce_without_negatives_is_zero_with_zero_gradient(temperature, ids):
    query, key = (rows.requires_grad_() for rows in random_views(2, 4, 3))
    negatives = None if ids is not None else torch.zeros(0, 3, dtype=torch.float64)
    loss = info_nce(query, key, negatives=negatives, temperature=temperature, ids=ids)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(query.grad, torch.zeros_like(query))
    assert torch.equal(key.grad, torch.zeros_like(key))


# N18: own keys among the negatives.
def test_n18_own_key_in_the_queue_is_masked_by_its_id():
    rows = torch.eye(6)
    ids = torch.arange(6)
    spoilt = info_nce(rows, rows, negatives=rows, temperature=0.01)
    assert spoilt.item() == pytest.approx(math.log(2), abs=1e-5)
    clean = info_nce(rows, rows, negatives=rows, temperature=0.01, ids=ids, negative_ids=ids)
    assert clean.item() == pytest.approx(0, abs=1e-6)
    assert info_nce(rows, rows, temperature=0.01).item() == pytest.approx(0, abs=1e-6)


def test_n14_image_twice_in_the_batch_is_no_negative_of_itself():
    one, two = random_views(2, 4, 5)
    two = one + 0.1 * two
    twice = [view[[0, 1, 2, 3, 1]] for view in (one, two)]
    ids = torch.tensor([10, 11, 12, 13, 11])
    expected = slow_info_nce(*twice, None, 0.1, ids.tolist())
    assert info_nce(*twice, temperature=0.1, ids=ids).item() == pytest.approx(expected, rel=1e-11)
    assert info_nce(*twice, temperature=0.1).item() > expected + 0.2


def test_info_nce_small_losses_keep_their_relative_precision():
    rows = torch.eye(4)
    query = rows.clone().requires_grad_()
    loss = info_nce(query, rows, temperature=0.05)
    loss.backward()
    assert loss.item() == pytest.approx(3 * math.exp(-20), rel=1e-5)
    assert query.grad.abs().max() > 0


def test_info_nce_refuses_what_does_not_fit():
    query, key = random_views(2, 4, 3)
    ids = torch.arange(4)
    wrong = [
        {"key": key[:3]},
        {"key": torch.ones(4, 5)},
        {"query": torch.ones(4, dtype=torch.float64)},
        {"query": torch.ones(4, 3, dtype=torch.int64)},
        {"query": query[:0], "key": key[:0]},
        {"negatives": torch.ones(5, 4)},
        {"negatives": key, "ids": ids},
        {"negatives": key, "negative_ids": ids},
        {"negative_ids": ids, "ids": ids},
        {"ids": ids[:3]},
        {"ids": ids.double()},
        {"negatives": key, "ids": ids, "negative_ids": ids[:2]},
        {"temperature": 0},
    ]
    for changed in wrong:
        with pytest.raises(InvalidValue):
            info_nce(**{"query": query, "key": key, "temperature": 0.1, **changed})
