import copy
import weakref
from dataclasses import dataclass, field, replace

import pytest
import small
import torch
from torch import nn

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS
from coview.encoders import resnet
from coview.heads import HeadSpec
from coview.methods import InfoNCE, Learner, NTXent, Passes, simclr, supcon, supervised
from coview.objectives import nt_xent
from coview.views import ViewPlan, eval_view


class Mean(nn.Module):
    """The mean color through BatchNorm: an encoder that takes any size."""

    features = 3

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images):
        return self.norm(images.mean(dim=(2, 3)))


def batch(*sizes, images=4, labels=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    views = tuple(torch.rand(images, 3, size, size, generator=generator) for size in sizes)
    return Batch(step=0, epoch=0, views=views, ids=torch.arange(images), labels=labels)


def tiny(method=None, **changes):
    method = replace(method or simclr(8, head=HeadSpec(output=16)), **changes)
    return Learner(method, resnet(18, width=0.0625, stem="small"))


def bits(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_learner_loss_changes_no_bit_of_state():
    learner = tiny()
    before = bits(learner)
    learner.loss(batch(8, 8), 0)["NTXent"].backward()
    assert same(before, bits(learner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeing(NTXent):
    """NT-Xent, which keeps what it was given: its dtypes, and that of a matrix product of them."""

    seen: list = field(default_factory=list)

    def __call__(self, views, labels, ranks=SINGLE_PROCESS):
        self.seen.extend([view.dtype for view in views] + [(views[0] @ views[1].T).dtype])
        return NTXent.__call__(self, views, labels, ranks) + torch.pdist(views[0]).mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeingPairs(InfoNCE):
    """The same of pairs; its keys and negatives come from the momentum encoder and the queue."""

    seen: list = field(default_factory=list)

    def __call__(self, query, key, ids, negatives, ranks=SINGLE_PROCESS):
        rows = (query, key, negatives.rows, query @ key.T)
        self.seen.extend(each.dtype for each in rows)
        return InfoNCE.__call__(self, query, key, ids, negatives, ranks)


@pytest.mark.parametrize("kind", ["views", "pairs"])
def test_an_objective_computes_in_float32_where_the_network_does_in_bf16(kind):
    method = small.methods()["simclr" if kind == "views" else "moco"]
    objective = (Seeing if kind == "views" else SeeingPairs)(temperature=0.5)
    learner = Learner(replace(method, objective=objective), small.Pixels())
    given = batch(small.SIZE, small.SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert learner.encoder(given.views[0]).dtype == torch.bfloat16
        (loss,) = learner.loss(given, 0).values()
    loss.backward()
    assert objective.seen == [torch.float32] * len(objective.seen)
    assert len(objective.seen) >= 3


def test_learner_keeps_no_activations_of_a_step_before():
    """A step that did not fit into memory is tried again: its activations must be gone by then."""
    outputs, gone = [], []

    class Watching(small.Pixels):
        def forward(self, images):
            gone.extend(output() is None for output in outputs)
            found = super().forward(images)
            if torch.is_grad_enabled():
                outputs.append(weakref.ref(found))
            return found

    learner = Learner(small.methods()["moco"], Watching())
    learner.loss(small.batch(), 0)
    assert len(outputs) == 1
    assert gone == [False]  # the momentum encoder sees its images while the step needs the output
    learner.loss(small.batch(), 0)
    assert gone[1]


def test_learner_loss_that_raises_changes_no_bit_of_state():
    learner = tiny(supcon(8, head=HeadSpec(output=16)))
    before = bits(learner)
    with pytest.raises(InvalidValue, match="labels"):
        learner.loss(batch(8, 8), 0)
    learner.head = nn.Linear(1, 1)  # fails in the middle of the forward pass
    with pytest.raises(RuntimeError):
        learner.loss(batch(8, 8), 0)
    assert same({n: t for n, t in before.items() if n.startswith("encoder")}, bits(learner))


@pytest.mark.parametrize("batch_norm", ["joint", "per view"])
def test_learner_after_step_takes_over_what_batch_norm_saw(batch_norm):
    learner = tiny(batch_norm=batch_norm)
    reference = copy.deepcopy(learner)
    views = batch(8, 8)
    for _ in range(3):
        learner.loss(views, 0)
        learner.after_step(0)
        if batch_norm == "joint":
            reference.head(reference.encoder(torch.cat(views.views)))
        else:
            for view in views.views:
                reference.head(reference.encoder(view))
    assert same(bits(reference), bits(learner))


def test_learner_after_step_moves_the_statistics_once_for_each_loss():
    learner = tiny()
    learner.loss(batch(8, 8), 0)
    learner.after_step(0)
    moved = bits(learner)
    learner.after_step(1)
    assert same(moved, bits(learner))
    assert learner.encoder.state_dict()["bn1.num_batches_tracked"] == 1


@pytest.mark.parametrize("batch_norm", ["joint", "per view"])
def test_learner_loss_is_that_of_a_plain_forward_pass(batch_norm):
    learner = tiny(batch_norm=batch_norm)
    views = batch(8, 8)
    loss = learner.loss(views, 0)["NTXent"]
    gradient = torch.autograd.grad(loss, list(learner.parameters()))
    project = nn.Sequential(learner.encoder, learner.head)
    if batch_norm == "joint":
        z = project(torch.cat(views.views)).chunk(2)
    else:
        z = [project(view) for view in views.views]
    plain = nt_xent(z, temperature=0.5)
    assert torch.equal(loss, plain)
    for ours, theirs in zip(
        gradient, torch.autograd.grad(plain, list(learner.parameters())), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_learner_batch_norm_grouping_changes_the_loss():
    views = batch(8, 8)
    views = replace(views, views=(views.views[0], views.views[1] * 3 + 1))
    joint = tiny(batch_norm="joint").loss(views, 0)["NTXent"]
    assert not torch.equal(joint, tiny(batch_norm="per view").loss(views, 0)["NTXent"])


def test_learner_views_of_different_sizes_are_grouped_by_size():
    plan = ViewPlan(views=(eval_view(8), eval_view(4), eval_view(8)))
    method = replace(simclr(8, head=HeadSpec(layers=0)), views=plan)
    learner, views = Learner(method, Mean()), batch(8, 4, 8)
    means = [view.mean(dim=(2, 3)) for view in views.views]
    large = nn.functional.batch_norm(torch.cat([means[0], means[2]]), None, None, training=True)
    small = nn.functional.batch_norm(means[1], None, None, training=True)
    expected = nt_xent([large[:4], small, large[4:]], temperature=0.5)
    torch.testing.assert_close(learner.loss(views, 0)["NTXent"], expected)


def test_learner_batch_with_other_views_is_refused():
    with pytest.raises(InvalidValue, match="3 views"):
        tiny().loss(batch(8, 8, 8), 5)


def test_learner_embed_leaves_modes_and_state_as_they_were():
    learner = tiny().train()
    learner.encoder.bn1.eval()
    before, modes = bits(learner), [module.training for module in learner.modules()]
    h, z = learner.embed(torch.rand(5, 3, 8, 8))
    assert (h.shape, z.shape) == ((5, learner.encoder.features), (5, 16))
    assert not h.requires_grad
    assert [module.training for module in learner.modules()] == modes
    assert same(before, bits(learner))


def test_learner_embed_does_not_depend_on_the_rest_of_the_batch():
    learner = tiny()
    images = torch.rand(4, 3, 8, 8)
    alone = torch.cat([learner.embed(image[None])[1] for image in images])
    torch.testing.assert_close(learner.embed(images)[1], alone)


def test_learner_head_seed_decides_the_first_values():
    encoder = resnet(18, width=0.0625)
    one, two, other = (Learner(simclr(8), encoder, head_seed=seed) for seed in (1, 1, 2))
    assert same(bits(one.head), bits(two.head))
    assert not same(bits(one.head), bits(other.head))


def test_learner_chance_counts_every_row():
    assert tiny().chance_level(8) == pytest.approx(float(torch.tensor(15.0).log()))


def test_learner_labels_reach_the_objective():
    learner = tiny(supcon(8, head=HeadSpec(output=16)))
    losses = [
        float(learner.loss(batch(8, 8, labels=torch.tensor(labels)), 0)["SupCon"].detach())
        for labels in ([0, 1, 2, 3], [0, 0, 1, 1])
    ]
    assert losses[0] != losses[1]


def one_view(labels, passes=None, seed=0, **options):
    """Cross-entropy on one view, a batch for it, and torch's own layers with the same weights."""
    method = supervised(8, classes=3, views=ViewPlan(views=(eval_view(8),)))
    encoder = resnet(18, width=0.0625, stem="small", zero_init_residual=False)
    learner = Learner(method, encoder, passes=passes or Passes(), **options).double()
    reference = nn.Sequential(copy.deepcopy(learner.encoder), copy.deepcopy(learner.head))
    data = batch(8, images=len(labels), labels=torch.tensor(labels), seed=seed)
    return learner, replace(data, views=(data.views[0].double(),)), reference


def assert_equals_reference(learner, reference):
    """Gradients and the whole state, BatchNorm statistics included."""
    plain = dict(reference.named_parameters())
    ours = dict(nn.Sequential(learner.encoder, learner.head).named_parameters())
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, plain[name].grad, msg=name)
    state = nn.Sequential(learner.encoder, learner.head).state_dict()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(state[name], value, msg=name)


@pytest.mark.parametrize("labels", [[0, 1, 2, 2, 1, 0], [0, -1, 2, 2, -1, 0]])
@pytest.mark.parametrize("batch_norm", ["joint", "per view"])
def test_learner_cross_entropy_on_one_view_is_torchs(labels, batch_norm):
    learner, data, reference = one_view(labels)
    learner.method = replace(learner.method, batch_norm=batch_norm)
    for step in range(2):
        learner.zero_grad()
        reference.zero_grad()
        loss = learner.loss(data, step)["CrossEntropy"]
        loss.backward()
        learner.after_step(step)
        expected = nn.functional.cross_entropy(
            reference(data.views[0]), torch.tensor(labels), ignore_index=-1
        )
        expected.backward()
        torch.testing.assert_close(loss, expected)
        assert_equals_reference(learner, reference)


def test_learner_cross_entropy_on_one_view_in_micro_batches_is_torchs_over_the_parts():
    labels = [0, 1, 2, 2, 1, 0, 1]
    learner, data, reference = one_view(labels, Passes(micro_batch=3))
    loss = learner.loss(data, 0)["CrossEntropy"]
    loss.backward()
    learner.after_step(0)
    # Statistics of each part from the same start; afterwards their mean.
    before, seen = bits(reference), []
    logits = []
    for part in data.views[0].tensor_split(3):
        for name, tensor in reference.named_buffers():
            tensor.data.copy_(before[name])
        logits.append(reference(part))
        seen.append(dict(bits(reference)))
    expected = nn.functional.cross_entropy(torch.cat(logits), torch.tensor(labels))
    expected.backward()
    for name, tensor in reference.named_buffers():
        tensor.data.copy_(torch.stack([each[name].double() for each in seen]).mean(0))
    torch.testing.assert_close(loss, expected)
    assert_equals_reference(learner, reference)


def test_learner_sup_con_on_one_view_is_that_of_its_function():
    method = supcon(8, views=ViewPlan(views=(eval_view(8),)), head=HeadSpec(output=16))
    learner = tiny(method)
    labels = torch.tensor([0, 1, 0, 1])
    loss = learner.loss(batch(8, labels=labels), 0)["SupCon"]
    z = nn.Sequential(learner.encoder, learner.head)(batch(8).views[0])
    z = nn.functional.normalize(z, dim=1)
    similarity = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    rows = [-similarity[i].log_softmax(0)[(i + 2) % 4] for i in range(4)]
    torch.testing.assert_close(loss, torch.stack(rows).mean())
