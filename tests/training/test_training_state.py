import pytest
import tiny_run
import torch

from coview.core.errors import RunError
from coview.training import collect, restore, train_step


def trained(optimizer, steps=3):
    learner, loader, settings = tiny_run.build("nowhere-at-all", optimizer=optimizer)
    rule = settings["optimizer"]
    for batch, _ in zip(loader, range(steps), strict=False):
        train_step(learner, batch, rule, 0.1, settings["precision"])
    return learner, rule


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [("sgd", ["momentum_buffer"]), ("lars", ["velocity"]), ("adamw", ["exp_avg", "exp_avg_sq"])],
)
def test_state_holds_every_parameter_buffer_and_moment(optimizer, moments):
    learner, rule = trained(optimizer)
    state = collect(learner, rule)
    assert {f"task/{name}" for name in learner.state_dict()} < state.keys()
    for name, _ in learner.named_parameters():
        assert all(state[f"optimizer/{name}/{moment}"].any() for moment in moments)


@pytest.mark.parametrize("optimizer", sorted(tiny_run.OPTIMIZERS))
def test_state_put_into_a_fresh_task_is_collected_again_bit_for_bit(optimizer):
    state = collect(*trained(optimizer))
    fresh = trained(optimizer, steps=0)
    restore(*fresh, state)
    again = collect(*fresh)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_state_moments_are_laid_out_as_their_parameters():
    state = collect(*trained("sgd"))
    learner, rule = trained("sgd", steps=0)
    learner.to(memory_format=torch.channels_last)
    restore(learner, rule, {name: tensor.contiguous() for name, tensor in state.items()})
    for parameter in learner.parameters():
        assert rule.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_state_is_a_copy():
    learner, rule = trained("sgd")
    state = collect(learner, rule)
    before = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for tensor in learner.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(before[name], state[name]) for name in state)


def without(state, name):
    return {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: without(s, "task/head.layers.0.dense.weight"), "lacks head.layers.0"),
        (lambda s: {**s, "task/extra": torch.ones(1)}, "more than this network: extra"),
        (lambda s: {**s, "task/encoder.bn1.weight": torch.ones(99)}, "other shapes for"),
        (lambda s: {**s, "optimizer/extra/velocity": torch.ones(1)}, "moments of extra/velocity"),
    ],
)
def test_state_of_another_network_is_refused_before_anything_changes(change, words):
    state = collect(*trained("sgd"))
    fresh = trained("sgd", steps=0)
    before = collect(*fresh)
    with pytest.raises(RunError, match=words):
        restore(*fresh, change(state))
    after = collect(*fresh)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_restored_count_of_steps_lies_beside_its_parameter():
    """A fused AdamW on a CUDA device wants its counts there; "meta" is another device anywhere."""
    network = torch.nn.Linear(2, 2, device="meta")
    optimizer = torch.optim.SGD(network.parameters())
    moments = {f"optimizer/{name}/step": torch.ones(()) for name in ("weight", "bias")}
    tensors = {f"task/{name}": tensor for name, tensor in network.state_dict().items()}
    restore(network, optimizer, {**tensors, **moments})
    counts = [state["step"] for state in optimizer.state.values()]
    assert [count.device for count in counts] == [network.weight.device] * 2
