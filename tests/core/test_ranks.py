"""What processes tell each other, against one process that has everything in float64."""

import tempfile
from pathlib import Path

import pytest
import torch

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.testing.ranks import on_each_rank, thread_ranks
from processes import together

SIZES = {2: [(3, 3), (4, 1), (0, 2)], 4: [(2, 2, 2, 2), (5, 1, 3, 2), (0, 4, 0, 1)]}
KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.int64)


def everything(sizes, *shape):
    generator = torch.Generator().manual_seed(sum(sizes))
    return torch.randn(sum(sizes), *shape, dtype=torch.float64, generator=generator)


def own(ranks, whole, sizes):
    return whole.split(sizes)[ranks.rank].clone()


def check_gather_is_the_rows_in_the_order_of_ranks(ranks):
    for sizes in SIZES[ranks.world]:
        for shape in ((), (5,), (2, 3, 4)):
            whole = everything(sizes, *shape) * 100
            for kind in KINDS:
                rows = own(ranks, whole, sizes).to(kind)
                assert torch.equal(ranks.gather(rows), whole.to(kind))
                assert torch.equal(ranks.gather(rows, sizes), whole.to(kind))


def check_gather_takes_any_layout(ranks):
    sizes = SIZES[ranks.world][1]
    whole = everything(sizes, 3, 4, 5)
    rows = own(ranks, whole, sizes)
    laid = rows.to(memory_format=torch.channels_last)
    assert torch.equal(ranks.gather(laid, sizes), whole)
    turned = rows.transpose(1, 3).contiguous().transpose(1, 3)
    assert torch.equal(ranks.gather(turned, sizes), whole)


def check_gradient_of_a_gather_is_summed_over_the_ranks(ranks):
    """Each rank weighs all rows by itself; one process has the sum of what the ranks say."""
    for sizes in SIZES[ranks.world]:
        whole = everything(sizes, 3).requires_grad_()
        weights = torch.arange(1.0, ranks.world + 1, dtype=torch.float64)
        sum(w * (whole @ whole.T).exp().sum() for w in weights).backward()
        rows = own(ranks, whole.detach(), sizes).requires_grad_()
        gathered = ranks.gather(rows, sizes)
        (weights[ranks.rank] * (gathered @ gathered.T).exp().sum()).backward()
        torch.testing.assert_close(rows.grad, own(ranks, whole.grad, sizes), rtol=1e-12, atol=1e-12)


def check_gradient_of_own_anchors_against_all_rows(ranks):
    """The form of the losses: own anchors, everybody's candidates, mean over the ranks."""
    for sizes in SIZES[ranks.world]:
        whole = everything(sizes, 3).requires_grad_()
        (whole @ whole.T).logsumexp(1).sum().backward()
        rows = own(ranks, whole.detach(), sizes).requires_grad_()
        (rows @ ranks.gather(rows, sizes).T).logsumexp(1).sum().backward()
        torch.testing.assert_close(rows.grad, own(ranks, whole.grad, sizes), rtol=1e-12, atol=1e-12)


def check_gradient_through_an_expanded_upstream(ranks):
    rows = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    ranks.gather(rows).sum().backward()
    assert torch.equal(rows.grad, torch.full_like(rows, ranks.world))
    values = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    ranks.all_reduce_sum(values).sum().backward()
    assert torch.equal(values.grad, torch.full_like(values, ranks.world))


def check_total_and_mean_and_their_gradients(ranks):
    parts = everything((1,) * ranks.world, 2, 3)
    values = parts[ranks.rank].clone().requires_grad_()
    summed = ranks.all_reduce_sum(values)
    torch.testing.assert_close(summed, parts.sum(0), rtol=1e-14, atol=1e-14)
    ((ranks.rank + 1) * summed.exp().sum()).backward()
    factor = sum(range(1, ranks.world + 1))
    torch.testing.assert_close(values.grad, factor * parts.sum(0).exp(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ranks.mean(values.detach()), parts.mean(0), rtol=1e-14, atol=1e-14)


def check_total_has_the_same_bits_everywhere(ranks):
    generator = torch.Generator().manual_seed(ranks.rank)
    summed = ranks.all_reduce_sum(torch.randn(1001, generator=generator))
    assert all(torch.equal(row, summed) for row in ranks.gather(summed[None]))


def check_total_pairs_elements_of_different_layouts(ranks):
    values = torch.arange(24.0).view(1, 2, 3, 4)
    laid = values.to(memory_format=torch.channels_last) if ranks.is_main else values
    assert torch.equal(ranks.all_reduce_sum(laid), ranks.world * values)


def check_what_is_given_is_left_alone(ranks):
    values = torch.full((3,), float(ranks.rank))
    ranks.all_reduce_sum(values)
    ranks.gather(values)
    assert torch.equal(values, torch.full((3,), float(ranks.rank)))


def check_second_derivative_is_refused(ranks):
    values = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        ranks.all_reduce_sum(values).square().sum(), values, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def check_rank_0_has_ended_before_the_others_begin(ranks):
    with tempfile.TemporaryDirectory() as own:
        place = Path(ranks.gather_strings(own)[0]) / "left"
        found = ranks.main_first(lambda: place.exists() or not place.write_text("here"))
        assert found == (not ranks.is_main)
        ranks.barrier()


def check_sizes_flags_and_texts(ranks):
    everyone = range(ranks.world)
    assert ranks.sizes(ranks.rank * 10) == tuple(rank * 10 for rank in everyone)
    for who in everyone:
        assert ranks.any(ranks.rank == who) is True
        assert ranks.all(ranks.rank != who) is False
    flags = [rank == ranks.rank for rank in range(-1, ranks.world)]
    assert ranks.any_each(flags) == [False] + [True] * ranks.world
    assert ranks.any(False) is False
    assert ranks.all(True) is True
    said = ranks.gather_strings("Grüße " * ranks.rank)
    assert said == tuple("Grüße " * rank for rank in everyone)
    assert ranks.gather_strings("") == ("",) * ranks.world


def check_who_this_is(ranks):
    assert not ranks.is_single
    assert ranks.is_main == (ranks.rank == 0)
    ranks.barrier()


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


@pytest.fixture(scope="module", params=[2, 4])
def faults(request):
    return together(request.param, CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_processes(check, faults):
    assert "\n".join(faults[check.__name__]).strip() == ""


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_threads_in_the_place_of_processes(check, world):
    on_each_rank(thread_ranks(world), check)


def test_threads_that_make_different_calls_fail_and_do_not_wait():
    def different(ranks):
        return ranks.sizes(1) if ranks.is_main else ranks.gather(torch.ones(2))

    def fewer(ranks):
        return ranks.is_main or ranks.barrier()

    def broken(ranks):
        if ranks.is_main:
            raise ValueError("of rank 0")
        ranks.barrier()

    for work in (different, fewer):
        with pytest.raises(AssertionError, match="the same calls in the same order"):
            on_each_rank(thread_ranks(2), work)
    with pytest.raises(ValueError, match="of rank 0"):
        on_each_rank(thread_ranks(2), broken)


def test_alone_gives_back_what_it_was_given():
    rows = torch.randn(3, 2, requires_grad=True)
    assert SINGLE_PROCESS.gather(rows) is rows
    assert SINGLE_PROCESS.all_reduce_sum(rows) is rows
    assert SINGLE_PROCESS.mean(rows) is rows
    assert SINGLE_PROCESS.sizes(3) == (3,)
    assert SINGLE_PROCESS.gather_strings("why") == ("why",)
    assert SINGLE_PROCESS.any(True)
    assert not SINGLE_PROCESS.any(False)
    assert not SINGLE_PROCESS.all(False)
    assert SINGLE_PROCESS.is_single
    assert SINGLE_PROCESS.is_main
    SINGLE_PROCESS.barrier()


def test_ranks_without_a_process_group_are_refused():
    with pytest.raises(ValueError, match="process group"):
        Ranks.of()
