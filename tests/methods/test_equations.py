"""Every method's loss against its paper's equation as a slow loop, on embeddings that are taken
from the modules directly."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, methods, plan

from coview.methods import (
    CosineAffinity,
    InfoNCE,
    Learner,
    Pair,
    Queue,
    SameNetwork,
    logo,
    multi_crop,
    simclr,
)
from coview.objectives import nt_xent
from coview.views import Crop, ViewPlan, ViewSpec


def learner(method, seed=0, **options):
    return Learner(method, Pixels(seed=seed), total_steps=10, **options).double()


def moved(method, **options):
    """A learner whose average, queue and critic are not at their start any more."""
    found = learner(method, **options)
    sizes = [view.size for view in method.views.views]
    for step in range(2):
        views = batch(sizes=sizes, seed=10 + step, dtype=torch.float64, step=step)
        sum(found.loss(views, step).values()).backward()
        with torch.no_grad():
            for parameter in found.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
                    parameter.grad = None
        found.after_step(step)
    return found


def cosine(a, b):
    a, b = a.detach(), b.detach()
    return float((a @ b) / (a.norm() * b.norm()))


def number(found, views, term):
    """One term of the loss of a step that is not taken."""
    return float(found.loss(views, 5)[term].detach())


def in_nce(query, key, negatives, temperature):
    """-log softmax of the key: one query, by hand."""
    positive = math.exp(cosine(query, key) / temperature)
    others = sum(math.exp(cosine(query, row) / temperature) for row in negatives)
    return -math.log(positive / (positive + others))


def per_view(module, views):
    """What the module makes of each view, in training mode, leaving its buffers as they were."""
    return [copy.deepcopy(module)(view) for view in views]


def keys_of(found, views, *, joint=False):
    momentum_encoder = copy.deepcopy(found.momentum_encoder)
    if joint:
        return list(momentum_encoder(torch.cat(views))[0].chunk(len(views)))
    return [copy.deepcopy(found.momentum_encoder)(view)[0] for view in views]


@pytest.mark.parametrize("name", ["moco", "moco-symmetric"])
def test_moco_is_its_equation(name):
    found = moved(methods()[name])
    views = batch(seed=1, dtype=torch.float64)
    q = per_view(torch.nn.Sequential(found.encoder, found.head), views.views)
    k = keys_of(found, views.views)
    directions = [(0, 1)] if name == "moco" else [(0, 1), (1, 0)]
    losses = []
    for a, b in directions:
        for i, own in enumerate(views.ids):
            queue = [r for r, owner in zip(found.queue.rows, found.queue.ids, strict=True)
                     if owner != own]  # fmt: skip
            losses.append(in_nce(q[a][i], k[b][i], queue, 0.2))
    assert number(found, views, "InfoNCE") == pytest.approx(sum(losses) / len(losses))


def test_simclr_v2_is_its_equation():
    found = moved(methods()["simclr_v2"])
    views = batch(seed=1, dtype=torch.float64)
    views = replace(views, ids=views.ids + 1000)  # none of them is in the queue
    project = copy.deepcopy(torch.nn.Sequential(found.encoder, found.head))
    z = project(torch.cat(views.views)).chunk(2)
    k = keys_of(found, views.views, joint=True)
    losses = []
    for i in range(6):
        for v in (0, 1):
            others = [k[u][j] for u in (0, 1) for j in range(6) if j != i]
            negatives = others + list(found.queue.rows)
            losses.append(in_nce(z[v][i], k[1 - v][i], negatives, 0.1))
    assert number(found, views, "InfoNCE") == pytest.approx(sum(losses) / len(losses))


def test_simclr_v2_with_online_keys_and_no_memory_is_nt_xent():
    method = replace(
        methods()["simclr_v2"], target=SameNetwork(), memory=None,
        objective=InfoNCE(temperature=0.1, batch_negatives=True),
    )  # fmt: skip
    found, plain = learner(method), learner(simclr(SIZE, views=plan(), head=method.head))
    plain.load_state_dict(found.state_dict())
    views = batch(seed=1, dtype=torch.float64)
    ours = found.loss(views, 0)["InfoNCE"]
    z = torch.nn.Sequential(plain.encoder, plain.head)(torch.cat(views.views)).chunk(2)
    theirs = nt_xent(z, temperature=0.1)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for a, b in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_byol_is_its_equation():
    found = moved(methods()["byol"])
    views = batch(seed=1, dtype=torch.float64)
    p = per_view(torch.nn.Sequential(found.encoder, found.head, found.predictor), views.views)
    k = keys_of(found, views.views)
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        total += sum(2 - 2 * cosine(p[a][i], k[b][i]) for i in range(6)) / 6
    assert number(found, views, "SquaredDistance") == pytest.approx(total)


def test_simsiam_is_its_equation_and_its_targets_get_no_gradient():
    found = learner(methods()["simsiam"])
    views = batch(seed=1, dtype=torch.float64)
    z = per_view(torch.nn.Sequential(found.encoder, found.head), views.views)
    p = per_view(torch.nn.Sequential(found.encoder, found.head, found.predictor), views.views)
    total = sum(-cosine(p[a][i], z[1 - a][i]) for a in (0, 1) for i in range(6)) / 12
    loss = found.loss(views, 0)["NegativeCosine"]
    assert float(loss.detach()) == pytest.approx(total)
    loss.backward()
    reference = learner(found.method)
    z = [reference.head(reference.encoder(view)) for view in views.views]
    p = [reference.predictor(rows) for rows in z]
    by_hand = -sum(
        torch.nn.functional.cosine_similarity(p[a], z[1 - a].detach()).mean() / 2 for a in (0, 1)
    )
    by_hand.backward()
    for ours, theirs in zip(found.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_supervised_is_cross_entropy_of_both_views():
    found = learner(methods()["supervised"])
    views = batch(seed=1, dtype=torch.float64)
    project = copy.deepcopy(torch.nn.Sequential(found.encoder, found.head))
    logits = project(torch.cat(views.views)).log_softmax(1).detach()
    labels = torch.cat([views.labels, views.labels])
    expected = -sum(float(row[label]) for row, label in zip(logits, labels, strict=True)) / 12
    assert number(found, views, "CrossEntropy") == pytest.approx(expected)


CROPPED = ViewPlan(views=(ViewSpec(size=SIZE, crop=Crop()),) * 2)


def cropped(name, **changes):
    return replace(methods()[name], views=CROPPED, **changes)


def test_multi_crop_moco_adds_every_local_to_global_term():
    method = multi_crop(cropped("moco"), locals=2, local_size=5)
    found = moved(method)
    views = batch(sizes=(6, 6, 5, 5), seed=1, dtype=torch.float64)
    views = replace(views, ids=views.ids + 1000)
    q = per_view(torch.nn.Sequential(found.encoder, found.head), views.views)
    k = dict(enumerate(keys_of(found, views.views[:2])))
    # The momentum encoder sees its views one after another; each starts from the same statistics here.
    pairs = [(0, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    total = sum(in_nce(q[a][i], k[b][i], found.queue.rows, 0.2) for a, b in pairs for i in range(6))
    assert number(found, views, "InfoNCE") == pytest.approx(total / 6)


def test_logo_cosine_affinity_is_the_mean_cosine_of_the_locals():
    method = logo(cropped("simsiam"), affinity="cosine", weight=0.25, locals=3, local_size=5)
    found = learner(method)
    views = batch(sizes=(6, 6, 5, 5, 5), seed=1, dtype=torch.float64)
    z = per_view(torch.nn.Sequential(found.encoder, found.head), views.views)
    pairs = [(2, 3), (2, 4), (3, 4)]
    expected = sum(cosine(z[a][i], z[b][i]) for a, b in pairs for i in range(6)) / 18
    assert isinstance(method.repulsion.affinity, CosineAffinity)
    assert number(found, views, "affinity") == pytest.approx(0.25 * expected)


def test_method_with_a_pair_beyond_its_views_is_refused():
    with pytest.raises(Exception, match="counted from 0"):
        replace(methods()["moco"], pairing=(Pair(0, 2),))


def test_set_objective_with_a_memory_is_refused():
    with pytest.raises(Exception, match="not use `memory`"):
        replace(methods()["simclr"], memory=Queue(length=4))
