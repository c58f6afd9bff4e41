"""What moves between steps: the average, the queue, the critic; and what never does."""

import math
from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, methods
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue
from coview.methods import EMA, Critic, Learner, logo
from coview.methods.critic import AdversarialCritic
from coview.methods.memory import KeyQueue
from coview.views import Crop, ViewPlan, ViewSpec

CROPPED = ViewPlan(views=(ViewSpec(size=SIZE, crop=Crop()),) * 2)


def bits(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before, module):
    return all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def everything():
    return methods() | {"logo": logo(replace(methods()["moco"], views=CROPPED))}


@pytest.mark.parametrize("name", sorted(everything()))
def test_loss_and_backward_move_nothing(name):
    method = everything()[name]
    found = Learner(method, Pixels(), total_steps=4)
    before = bits(found)
    sum(found.loss(batch(sizes=[v.size for v in method.views.views]), 0).values()).backward()
    assert same(before, found)


@pytest.mark.parametrize("name", sorted(everything()))
def test_evaluation_moves_nothing(name):
    found = Learner(everything()[name], Pixels(), total_steps=4).eval()
    before = bits(found)
    found.embed(batch().views[0])
    assert same(before, found)


def test_average_follows_by_exactly_one_factor_a_step():
    method = replace(methods()["byol"], target=EMA(start=0.9, end=0.9))
    found = Learner(method, Pixels())
    old = [p.clone() for p in found.momentum_encoder.parameters()]
    found.loss(batch(), 0)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.requires_grad:
                parameter += 1
    found.after_step(0)
    theirs = [*found.encoder.parameters(), *found.head.parameters()]
    for now, before, source in zip(found.momentum_encoder.parameters(), old, theirs, strict=True):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * source.detach())
        assert not now.requires_grad


def test_average_starts_as_a_copy():
    found = Learner(methods()["moco"], Pixels())
    theirs = [*found.encoder.parameters(), *found.head.parameters()]
    assert all(
        torch.equal(a, b) for a, b in zip(found.momentum_encoder.parameters(), theirs, strict=True)
    )


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.996), (50, 0.998), (100, 1.0)])
def test_momentum_grows_along_half_a_cosine(step, momentum):
    assert EMA(start=0.996, end=1.0).momentum(step, 100) == pytest.approx(momentum)


def test_momentum_that_grows_needs_the_length_of_the_run():
    with pytest.raises(InvalidValue, match="total_steps"):
        EMA(start=0.9, end=1.0).momentum(0, None)


@pytest.mark.parametrize(("start", "end"), [(1, 1), (0.9, 0.5), (-0.1, 1), (0.9, 1.1)])
def test_momentum_that_copies_nothing_or_grows_downwards_is_refused(start, end):
    with pytest.raises(InvalidValue, match="start < 1"):
        EMA(start=start, end=end)


def test_queue_keeps_the_last_keys_and_wraps_around():
    queue = KeyQueue(5, 4, seed=0)
    keys = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    queue.push(keys[:3], torch.arange(3))
    queue.push(keys[3:6], torch.arange(3, 6))
    assert queue.ids.tolist() == [5, 1, 2, 3, 4]
    torch.testing.assert_close(queue.rows, normalize(keys[[5, 1, 2, 3, 4]], dim=1))
    assert queue.pointer == 1
    queue.push(keys.repeat(2, 1), torch.arange(16))  # more than it holds: the last of them
    assert sorted(queue.ids.tolist()) == [11, 12, 13, 14, 15]


def test_queue_rows_are_of_unit_length_at_all_times():
    queue = KeyQueue(5, 4, seed=0)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))
    queue.push(100 * torch.randn(3, 4), torch.arange(3))
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))


def test_queue_of_a_step_is_that_of_before_and_gets_only_its_keys():
    found = Learner(methods()["moco"], Pixels())
    queue = found.queue.rows.clone()
    views = batch()
    first = found.loss(views, 0)["InfoNCE"]
    assert torch.equal(first, found.loss(views, 0)["InfoNCE"])
    assert torch.equal(queue, found.queue.rows)
    found.after_step(0)
    assert found.queue.ids[:6].tolist() == views.ids.tolist()
    assert torch.equal(queue[6:], found.queue.rows[6:])


def test_own_keys_in_the_queue_are_no_negatives():
    found = Learner(methods()["moco"], Pixels())
    for step in range(3):  # fills all 16 places with keys of these very images
        found.loss(batch(), step)
        found.after_step(step)
    alone = batch(images=6)
    only = replace(
        alone, ids=alone.ids[:1].repeat(6)
    )  # every image is the same one: no negatives are left of the first image
    found.queue.ids.fill_(int(alone.ids[0]))
    assert float(found.loss(only, 3)["InfoNCE"].detach()) == pytest.approx(0.0, abs=1e-6)


def test_logo_enqueues_global_keys_only():
    method = logo(replace(methods()["moco-symmetric"], views=CROPPED))
    found = Learner(method, Pixels(), total_steps=4)
    found.loss(batch(3, (SIZE,) * 4), 0)
    found.after_step(0)
    assert found.queue.pointer == 6
    assert found.queue.ids[:6].tolist() == [100, 101, 102] * 2
    assert method.keys == (0, 1)


def critic_and_rows(**changes):
    critic = AdversarialCritic(Critic(**changes), 8, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    a, b = normalize(torch.randn(2, 5, 8, generator=generator, dtype=torch.float64), dim=2)
    return critic, a, b


def test_critic_of_the_code_has_its_number_of_parameters():
    network = AdversarialCritic(Critic(), 128, seed=0).network
    assert sum(p.numel() for p in network.parameters()) == 132_865


def test_critic_that_says_zero_has_its_chance_values():
    critic, a, b = critic_and_rows()
    torch.nn.init.zeros_(critic.network.last.weight)
    torch.nn.init.zeros_(critic.network.last.bias)
    weights = dict(critic.network.named_parameters())
    assert float(critic.loss(weights, [(a, b)])) == pytest.approx(2 * math.log(2))
    torch.testing.assert_close(
        critic.affinity(weights, a, b), torch.full((5,), math.log(2), dtype=torch.float64)
    )


@pytest.mark.parametrize("loss", ["logistic", "literal"])
def test_critic_loss_is_its_equation(loss):
    critic, a, b = critic_and_rows(loss=loss)
    weights = dict(critic.network.named_parameters())

    def judge(x, y):
        return float(critic.network(x[None], y[None]))

    def softplus(x):
        return math.log1p(math.exp(x))

    total = 0.0
    for i in range(5):
        other = (i - 1) % 5
        same = [judge(a[i], b[i]), judge(b[i], a[i])]
        apart = [judge(a[i], b[other]), judge(b[i], a[other])]
        if loss == "logistic":
            total += sum(softplus(-d) for d in same) / 2 + sum(softplus(d) for d in apart) / 2
        else:
            total += sum(math.tanh(d) for d in apart) / 2 - sum(math.tanh(d) for d in same) / 2
    assert float(critic.loss(weights, [(a, b)])) == pytest.approx(total / 5)


def test_critic_steps_of_sgd_are_those_of_torch():
    critic, a, b = critic_and_rows(learning_rate=0.1, weight_decay=0.01)
    twin, _, _ = critic_and_rows()
    twin.network.requires_grad_(True)
    sgd = torch.optim.SGD(twin.network.parameters(), lr=0.1 * 128 / 256, momentum=0.9,
                          weight_decay=0.01)  # fmt: skip
    for step in range(3):
        critic.commit(*critic.propose_update([(a, b)], step, 128))
        sgd.zero_grad()
        twin.loss(dict(twin.network.named_parameters()), [(a, b)]).backward()
        sgd.step()
    for ours, theirs in zip(critic.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach())


@pytest.mark.parametrize("images", [2, 3, 8])
def test_critic_never_takes_an_image_for_its_own_negative(images):
    """Rows whose number is that of their image show which pairs are judged."""
    critic, _, _ = critic_and_rows()
    a, b = (torch.arange(float(images))[:, None].expand(-1, 4) for _ in range(2))
    judged = []

    def judge(weights, one, other):
        judged.append((one[:, 0].tolist(), other[:, 0].tolist()))
        return one[:, 0] * 0

    critic._score = judge
    critic.loss({}, [(a, b)])
    same = [one == other for one, other in judged]
    apart = [all(x != y for x, y in zip(*pair, strict=True)) for pair in judged]
    assert same == [True, True, False, False]
    assert apart == [False, False, True, True]
    assert all(sorted(rows) == list(range(images)) for pair in judged for rows in pair)


def test_critic_noise_is_keyed_by_the_step():
    critic, a, b = critic_and_rows(noise=0.3)
    first, _ = critic.propose_update([(a, b)], 0, 256)
    again, _ = critic.propose_update([(a, b)], 0, 256)
    later, _ = critic.propose_update([(a, b)], 1, 256)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], later[n]) for n in first)
