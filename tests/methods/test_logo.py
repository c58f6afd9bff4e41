"""What LoGo promises beyond its equations."""

import copy
from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, methods

from coview.core.errors import InvalidValue, UnknownName
from coview.methods import Critic, GradientRatio, Learner, NTXent, logo, multi_crop, simclr
from coview.methods.critic import critic_rows
from coview.methods.crops import to_pair_objective
from coview.methods.pair_loss import PairLoss
from coview.views import Crop, ViewPlan, ViewSpec, multi_crop_preset, preset

CROPPED = ViewPlan(views=(ViewSpec(size=SIZE, crop=Crop()),) * 2)
BASES = ("simclr", "moco", "byol", "simsiam")


def base(name):
    return replace(methods()[name], views=CROPPED)


def learner(method):
    return Learner(method, Pixels(), total_steps=8).double()


def views(images=6, seed=1):
    return batch(images, (SIZE,) * 4, seed=seed, dtype=torch.float64)


def pair_loss(method, outputs, keys, **modules):
    return PairLoss(method, method.objective, outputs, keys, torch.arange(5), 0, **modules)


def embeddings(indices, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        index: (torch.randn(5, 8, generator=generator, dtype=torch.float64, requires_grad=True),)
        for index in indices
    }


@pytest.mark.parametrize("name", BASES)
def test_targets_get_no_gradient_and_locals_get_it_from_both_terms(name):
    method = logo(base(name), weight=1.0)
    found = learner(method)
    outputs = embeddings(range(4))
    keys = {index: outputs[index][0] for index in (0, 1)}
    if name != "simclr":  # there the two global views learn from each other as keys, too
        keys = {index: rows[0].detach() for index, rows in embeddings((0, 1), seed=1).items()}
    terms = pair_loss(method, outputs, keys, queue=found.queue, critic=found.critic).terms([])
    for term in terms.values():
        grads = torch.autograd.grad(
            term, [outputs[index][0] for index in (2, 3)], retain_graph=True
        )
        assert all(bool(grad.any()) for grad in grads)
    local_pairs = tuple(pair for pair in method.pairing if pair.query >= 2)
    only = replace(method, pairing=local_pairs, repulsion=None)
    alone = pair_loss(only, outputs, keys, queue=found.queue).similarity()
    for index in (0, 1):
        (grad,) = torch.autograd.grad(
            alone, outputs[index][0], retain_graph=True, allow_unused=True
        )
        assert grad is None or not grad.any()


def test_every_local_to_global_pair_contributes_its_term():
    method = logo(base("simsiam"), affinity="none")
    outputs = embeddings(range(4))
    keys = {index: rows[0].detach() for index, rows in embeddings((0, 1), seed=1).items()}
    whole = pair_loss(method, outputs, keys).similarity()
    assert [(p.query, p.key) for p in method.pairing[2:]] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    for pair in method.pairing:
        rest = replace(method, pairing=tuple(p for p in method.pairing if p != pair))
        term = pair.weight * method.objective(
            outputs[pair.query][0], keys[pair.key], torch.arange(5), None
        )
        torch.testing.assert_close(whole - pair_loss(rest, outputs, keys).similarity(), term)


@pytest.mark.parametrize("kind", ["logistic", "literal", "cosine"])
def test_repulsion_moves_locals_apart(kind):
    affinity = {"affinity": "cosine"} if kind == "cosine" else {"critic": Critic(loss=kind)}
    method = logo(base("simsiam"), weight=1.0, **affinity)
    found = learner(method)
    outputs = embeddings(range(4))
    keys = {index: outputs[index][0].detach() for index in (0, 1)}
    step = pair_loss(method, outputs, keys, critic=found.critic)
    before = step.affinity(method.repulsion)
    first, second = outputs[2][0], outputs[3][0]
    grads = torch.autograd.grad(before, (first, second))
    moved = {
        2: (first.detach() - 1e-3 * grads[0],), 3: (second.detach() - 1e-3 * grads[1],)
    }  # fmt: skip
    if found.critic is None:
        after = (critic_rows(moved[2][0]) * critic_rows(moved[3][0])).sum(1).mean()
    else:
        weights = step.critic_update[0]
        after = found.critic.affinity(
            weights, critic_rows(moved[2][0]), critic_rows(moved[3][0])
        ).mean()
    assert after < before


def test_critic_step_leaves_the_encoder_and_the_encoder_step_the_critic():
    found = learner(logo(base("moco"), weight=1.0))
    before = copy.deepcopy(found.state_dict())
    terms = found.loss(views(), 0)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in found.critic.parameters())
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    critic = {n: v for n, v in found.state_dict().items() if n.startswith("critic")}
    assert all(torch.equal(before[name], value) for name, value in critic.items())
    encoder = copy.deepcopy(found.encoder.state_dict())
    found.after_step(0)
    own = dict(found.encoder.named_parameters())
    assert all(torch.equal(encoder[name], value) for name, value in own.items())
    changed = [n for n, v in found.state_dict().items() if not torch.equal(before[n], v)]
    assert any(name.startswith("critic.network") for name in changed)


@pytest.mark.parametrize("name", BASES)
def test_weight_zero_is_multi_crop_bit_for_bit(name):
    plain = logo(base(name), affinity="none")
    zero = logo(base(name), weight=0.0)
    losses = []
    for method in (plain, zero):
        found = Learner(method, Pixels(), total_steps=8)
        terms = found.loss(batch(6, (SIZE,) * 4), 0)
        torch.stack(list(terms.values())).sum().backward()
        losses.append((terms, [p.grad for p in found.encoder.parameters()]))
    (first, ours), (second, theirs) = losses
    name = type(plain.objective).__name__
    assert torch.equal(first[name], second[name])
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["moco", "byol", "simsiam"])
def test_affinity_none_is_multi_crop(name):
    assert logo(base(name), affinity="none") == multi_crop(base(name))


def test_gradient_ratio_holds_the_affinity_to_its_share():
    method = logo(base("moco"), gradient_ratio=0.01)
    found = learner(method)
    terms = found.loss(views(), 0)
    parameters = [*found.encoder.parameters(), *found.head.parameters()]
    norms = []
    for term in terms.values():
        grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        norms.append(torch.cat([g.reshape(-1) for g in grads if g is not None]).norm())
    assert isinstance(method.repulsion.balance, GradientRatio)
    assert float(norms[1] / norms[0]) == pytest.approx(0.01, rel=1e-6)
    free = learner(replace(method, repulsion=replace(
        method.repulsion, balance=GradientRatio(limit=1e9))))  # fmt: skip
    whole = learner(logo(base("moco"), weight=1.0))
    torch.testing.assert_close(
        free.loss(views(), 0)["affinity"], whole.loss(views(), 0)["affinity"]
    )


def test_the_order_of_locals_does_not_matter():
    method = logo(base("simsiam"), weight=1.0)
    first = views()
    swapped = replace(first, views=(*first.views[:2], first.views[3], first.views[2]))
    ours, theirs = learner(method).loss(first, 0), learner(method).loss(swapped, 0)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def test_the_order_of_globals_does_not_matter():
    method = logo(base("byol"), weight=1.0)
    first = views()
    swapped = replace(first, views=(first.views[1], first.views[0], *first.views[2:]))
    ours, theirs = learner(method).loss(first, 0), learner(method).loss(swapped, 0)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def test_nt_xent_in_pairs_keeps_its_learned_temperature():
    plain = simclr(SIZE, views=CROPPED)
    learned = replace(plain, objective=replace(plain.objective, learn_temperature=True))
    assert logo(learned).objective.learn_temperature
    assert Learner(logo(learned), Pixels()).temperature is not None
    assert not logo(plain).objective.learn_temperature


def test_nt_xent_in_pairs_is_nt_xent():
    plain, paired = base("simclr"), to_pair_objective(base("simclr"))
    first = batch(6, (SIZE, SIZE), dtype=torch.float64)
    ours, theirs = learner(paired).loss(first, 0), learner(plain).loss(first, 0)
    torch.testing.assert_close(ours["InfoNCE"], theirs["NTXent"])


def test_mean_of_terms_divides_by_their_weights():
    summed, mean = logo(base("byol")), logo(base("byol"), terms="mean")
    assert [pair.weight for pair in summed.pairing] == [1.0] * 6
    assert [pair.weight for pair in mean.pairing] == pytest.approx([1 / 6] * 6)
    assert mean.repulsion == summed.repulsion


def test_default_weights_are_the_papers():
    weights = {name: logo(base(name)).repulsion.balance.value for name in BASES}
    assert weights == {"simclr": 5e-4, "moco": 5e-4, "byol": 1e-4, "simsiam": 1e-4}


def test_crops_are_those_asked_for():
    method = logo(base("moco"), locals=3, local_size=4, r_g=0.6, r_l=0.3)
    areas = [view.crop.area for view in method.views.views]
    assert areas == [(0.6, 1.0)] * 2 + [(0.05, 0.3)] * 3
    assert [view.size for view in method.views.views] == [6, 6, 4, 4, 4]
    assert method.repulsion.pairs == ((2, 3), (2, 4), (3, 4))


def test_supervised_methods_have_no_form_in_pairs():
    with pytest.raises(InvalidValue, match="no form as a pair"):
        logo(base("supcon"))
    decoupled = replace(base("simclr"), objective=NTXent(temperature=0.5, decoupled=True))
    with pytest.raises(InvalidValue, match="no form as a pair"):
        logo(decoupled)


def test_unknown_affinity_offers_the_nearest():
    with pytest.raises(UnknownName, match="learned"):
        logo(base("moco"), affinity="learnt")
    with pytest.raises(UnknownName, match="mean"):
        logo(base("moco"), terms="means")


def test_one_local_view_cannot_repel():
    with pytest.raises(InvalidValue, match="at least two"):
        logo(base("moco"), locals=1)


def test_options_that_would_do_nothing_are_refused():
    with pytest.raises(InvalidValue, match="one of them"):
        logo(base("moco"), weight=1.0, gradient_ratio=0.1)
    with pytest.raises(InvalidValue, match="no critic"):
        logo(base("moco"), affinity="cosine", critic=Critic())


def test_a_row_of_zeros_before_the_critic_has_a_finite_gradient():
    rows = torch.zeros(2, 3, requires_grad=True)
    critic_rows(rows).sum().backward()
    assert torch.equal(rows.grad, torch.ones(2, 3))


def test_critic_is_trained_and_judges_in_float32_under_autocast():
    method = logo(base("simsiam"), weight=1.0)
    plain, cast = (Learner(method, Pixels(), total_steps=8) for _ in range(2))
    outputs = {index: (rows[0].float(),) for index, rows in embeddings(range(4)).items()}
    keys = {index: outputs[index][0].detach() for index in (0, 1)}
    expected = pair_loss(method, outputs, keys, critic=plain.critic)
    expected.affinity(method.repulsion)
    found = pair_loss(method, outputs, keys, critic=cast.critic)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found.affinity(method.repulsion)
    for name, value in expected.critic_update[0].items():
        assert torch.equal(found.critic_update[0][name], value)


@pytest.mark.parametrize(("size", "name"), [(224, "logo"), (32, "logo_small")])
def test_default_crops_are_those_of_the_released_code(size, name):
    policy = preset("moco_v2" if size > 32 else "moco_small", size)
    assert logo(replace(base("moco"), views=policy)).views.views == multi_crop_preset(name).views


def test_multi_crop_takes_a_published_plan():
    swav = multi_crop_preset("swav")
    method = multi_crop(base("moco"), views=swav)
    assert method.views == swav
    assert len(method.pairing) == 1 + 6 * 2
    with pytest.raises(InvalidValue, match="needs local views"):
        multi_crop(base("moco"), views=CROPPED)
