"""Distillation: the loss of SimCLRv2's equations, from a teacher that nothing changes."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, plan
from torch import nn

from coview.core.errors import InvalidValue
from coview.methods import (
    EMA,
    CrossEntropy,
    Distillation,
    Learner,
    Passes,
    Teacher,
    simclr,
    supervised,
)
from coview.methods.target import FrozenTeacher
from coview.recipes.distill import distillation_method
from coview.training import OptimizerSpec, Precision
from coview.training.loader import shares
from coview.training.state import collect, restore
from coview.training.step import average_gradients, train_step
from processes import together

CLASSES = 3
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def method(views=1, **changes):
    base = replace(distillation_method(SIZE, classes=CLASSES), views=plan(views))
    return replace(base, objective=replace(base.objective, **changes))


def teacher(seed=5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(Pixels(seed=seed), nn.Linear(10, CLASSES))
        nn.init.normal_(network[1].weight)
        network.train()
        for _ in range(3):  # running statistics that are not those of any batch
            network(torch.rand(16, 3, SIZE, SIZE))
    return network.double()


def learner(value, *, norm=True, seed=5, **options):
    found = Learner(value, Pixels(norm=norm), **options).double()
    nn.init.normal_(found.head.layers[0].dense.weight, generator=torch.Generator().manual_seed(1))
    found.set_teacher(teacher(seed))
    return found


def images(count=7, *, labels=(0, -1, 2, -1, -1, 1, -1), views=1, step=0):
    made = batch(count, [SIZE] * views, seed=step, dtype=torch.float64, step=step)
    return replace(made, labels=torch.tensor(labels))


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(
    ("temperature", "weight", "scaled"), [(1.0, 1.0, False), (0.1, 0.6, False), (2.0, 0.3, True)]
)
@pytest.mark.parametrize("views", [1, 2])
def test_the_loss_is_that_of_the_papers_equations(temperature, weight, scaled, views):
    """Equation 2 (weight 1) and 3, literally, over the images of a batch and their views."""
    found = learner(method(
        views, temperature=temperature, teacher_weight=weight, scale_by_temperature_squared=scaled
    ))  # fmt: skip
    given = images(views=views)
    terms = found.loss(given, 0)
    assert set(terms) == ({"teacher", "labels"} if weight < 1 else {"teacher"})
    reference = teacher().eval()
    expected = 0.0
    # In training mode all views of a batch share the statistics of BatchNorm.
    logits = found.head(found.encoder(torch.cat(given.views))).chunk(views)
    for view, student in zip(given.views, logits, strict=True):
        guide = reference(view).tolist()
        for ours, theirs, label in zip(student.tolist(), guide, given.labels.tolist(), strict=True):
            soft = zip(softmax(theirs, temperature), softmax(ours, temperature), strict=True)
            one = -sum(p * math.log(q) for p, q in soft)
            expected += weight * one * (temperature**2 if scaled else 1)
            if label >= 0:
                expected -= (1 - weight) * math.log(softmax(ours)[label])
    assert sum(terms.values()).item() == pytest.approx(expected / (7 * views), rel=1e-10)


def test_gradients_are_those_of_finite_differences():
    objective = Distillation(classes=CLASSES, temperature=0.7, teacher_weight=0.4)
    generator = torch.Generator().manual_seed(0)
    student, guide = (
        torch.randn(5, CLASSES, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    labels = torch.tensor([0, -1, 2, 1, -1])
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective([x], labels, teacher=[guide]), student)
    # In closed form, for each row.
    objective([student], labels, teacher=[guide]).backward()
    soft = ((student / 0.7).softmax(1) - (guide / 0.7).softmax(1)) / 0.7
    hard = student.softmax(1) - torch.eye(CLASSES, dtype=torch.float64)[labels]
    expected = (0.4 * soft + 0.6 * hard * (labels >= 0)[:, None]) / 5
    torch.testing.assert_close(student.grad, expected.detach())


def test_the_teacher_classifies_the_same_views_in_evaluation_mode_and_never_changes():
    network = teacher()
    before = copy.deepcopy(network.state_dict())
    found = learner(method())
    found.set_teacher(network)
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    optimizer = OptimizerSpec(name="sgd", learning_rate=0.1, scaling="none").build(found)
    found.train()
    given = images()
    train_step(found, given, optimizer, 0.1, Precision(torch.device("cpu"), "fp32"))
    assert torch.equal(seen[0], given.views[0])
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_the_students_logits_are_not_rounded_to_bf16():
    found = Learner(method(), Pixels())
    nn.init.normal_(found.head.layers[0].dense.weight, generator=torch.Generator().manual_seed(1))
    views = images().views[0].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = found.encoder(views)
        (logits,) = found._embed_query(views)
    assert (h.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(logits, found.head(h.float()))


def test_no_checkpoint_holds_the_teacher_and_one_without_it_is_restored():
    found = learner(method())
    optimizer = OptimizerSpec(name="adamw", learning_rate=0.1, scaling="none").build(found)
    state = collect(found, optimizer)
    assert not any("teacher" in name for name in state)
    plain = Learner(replace(supervised(SIZE, classes=CLASSES), views=plan(1)), Pixels()).double()
    assert {n for n in state if n.startswith("task/")} == {f"task/{n}" for n in plain.state_dict()}
    restore(learner(method(), seed=6), optimizer, state)


def test_the_teacher_moves_with_the_learner_and_is_copied_with_it():
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten())
    frozen = FrozenTeacher(network)
    holder = nn.Sequential(frozen)
    holder.to(torch.float64).to(memory_format=torch.channels_last)
    assert network[0].weight.dtype == torch.float64
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    other = copy.deepcopy(holder)
    network[0].weight.data.zero_()
    assert other[0](torch.rand(1, 3, 4, 4, dtype=torch.float64)).abs().max() > 0


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    value = method(teacher_weight=0.5, temperature=0.5)
    whole = learner(value, norm=False)
    parts = learner(value, norm=False, passes=Passes(micro_batch=3))
    for found in (whole, parts):
        sum(found.loss(images(), 0).values()).backward()
    for (name, one), (_, other) in zip(
        whole.named_parameters(), parts.named_parameters(), strict=True
    ):
        torch.testing.assert_close(other.grad, one.grad, msg=name, **CLOSE)


def trained(ranks=None):
    """Terms and learner after three steps, of this rank's part of each batch."""
    found = learner(
        method(teacher_weight=0.5, temperature=0.5), **({} if ranks is None else {"ranks": ranks})
    )
    terms = []
    for step in range(3):
        given = images(step=step)
        if ranks is not None:
            sizes = shares(len(given), ranks.world)
            mine = slice(sum(sizes[: ranks.rank]), sum(sizes[: ranks.rank + 1]))
            given = replace(
                given, views=tuple(v[mine] for v in given.views), ids=given.ids[mine],
                labels=given.labels[mine], sizes=sizes,
            )  # fmt: skip
        loss = found.loss(given, step)
        sum(loss.values()).backward()
        if ranks is not None:
            average_gradients(list(found.parameters()), ranks)
            loss = {name: ranks.mean(term.detach()) for name, term in loss.items()}
        with torch.no_grad():
            for parameter in found.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        found.after_step(step)
        terms.append({name: term.detach() for name, term in loss.items()})
    return terms, found.state_dict()


def check_ranks(ranks):
    (ours, state), (theirs, single) = trained(ranks), trained()
    for mine, whole in zip(ours, theirs, strict=True):
        for name, term in whole.items():
            torch.testing.assert_close(mine[name], term, msg=name, **CLOSE)
    for name, value in single.items():
        torch.testing.assert_close(state[name], value, msg=name, **CLOSE)


def test_two_processes_compute_what_one_does():
    assert together(2, [check_ranks])["check_ranks"] == ["", ""]


def test_a_distillation_without_a_teacher_is_refused_in_words():
    with pytest.raises(InvalidValue, match="there is none; use"):
        Learner(method(), Pixels()).double().loss(images(), 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: replace(method(), target=EMA(start=0.9, end=1)), "go together only"),
        (lambda: replace(supervised(SIZE), target=Teacher()), "go together only"),
        (lambda: replace(simclr(SIZE), target=Teacher()), "go together only"),
        (lambda: replace(method(), objective=CrossEntropy(classes=3)), "go together only"),
        (lambda: method(teacher_weight=0.0), "expected a number above 0, up to 1"),
        (lambda: method(temperature=0.0), "temperature"),
    ],
)
def test_values_that_do_not_go_together_are_refused(change, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        change()


def test_labels_are_needed_where_they_have_a_part_alone():
    assert not method().needs_labels
    assert method(teacher_weight=0.9).needs_labels
    assert method(temperature=2.0, scale_by_temperature_squared=True).chance_level(
        8
    ) == pytest.approx(4 * math.log(3))


def test_a_teacher_sees_few_images_at_a_time_before_the_student(monkeypatch):
    """However large the batch is, of which a plan counts what the student keeps."""
    monkeypatch.setattr("coview.methods.learner.TEACHER_IMAGES", 3)
    whole, found = learner(method()), learner(method())
    seen = []
    teacher_network = found.teacher._network[0]
    teacher_network.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    found.encoder.register_forward_hook(lambda *_: seen.append("student"))
    terms = found.loss(images(), 0)
    assert seen == [3, 3, 1, "student"]
    monkeypatch.undo()
    torch.testing.assert_close(terms, whole.loss(images(), 0), **CLOSE)


def test_a_batch_of_usual_size_goes_through_the_teacher_whole():
    """So that the bits of such runs stay."""
    found, seen = learner(method()), []
    found.teacher._network[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    given = replace(images(256, labels=[0] * 256))
    found._teacher_logits(given)
    assert seen == [256]
