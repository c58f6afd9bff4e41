"""What every objective takes: numbers and labels of any library; a mistake is one sentence."""

import numpy as np
import pytest
import torch
from every_objective import AT_TEMPERATURE, at
from slow_losses import random_views

from coview.core.errors import CoviewError, InvalidValue
from coview.methods import NTXent
from coview.objectives import (
    cross_entropy,
    distillation,
    info_nce,
    margin_triplet,
    nt_xent,
    sup_con,
)

VIEWS = random_views(2, 6, 4)


# One of each implementation: a compilation takes seconds.
@pytest.mark.parametrize(
    "name", ["nt_xent", "sup_con in", "info_nce queue", "nt_logistic mined", "margin_triplet"]
)
def test_objective_compiles_to_the_same_value_and_gradient(name):
    torch._dynamo.reset()
    objective = at(0.3)[name]
    results = []
    for function in (objective, torch.compile(objective, backend="aot_eager")):
        views = [view.requires_grad_() for view in random_views(2, 7, 5)]
        loss = function(views)
        results.append([loss, *torch.autograd.grad(loss, views, allow_unused=True)])
    for expected, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, expected)


@pytest.mark.parametrize("name", sorted(AT_TEMPERATURE))
@pytest.mark.parametrize(
    "temperature", [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)]
)
def test_temperature_may_be_a_number_of_any_library(name, temperature):
    objective = AT_TEMPERATURE[name]
    assert torch.equal(objective(VIEWS, temperature), objective(VIEWS, 0.5))


@pytest.mark.parametrize(
    "temperature", [True, "0.5", None, np.array([0.5]), torch.tensor([0.5]), np.nan, 0]
)
def test_temperature_that_is_no_positive_number_is_refused(temperature):
    with pytest.raises(InvalidValue, match="`temperature` is"):
        nt_xent(VIEWS, temperature=temperature)


def test_temperature_of_a_value_becomes_a_plain_number():
    assert type(NTXent(temperature=np.float64(0.5)).temperature) is float


def test_margin_may_be_a_number_of_numpy():
    plain = margin_triplet(VIEWS, margin=0.5)
    assert torch.equal(margin_triplet(VIEWS, margin=np.float32(0.5)), plain)


LABELS = [0, 1, 1, 2, -1, 0]


@pytest.mark.parametrize(
    "kind", [list, np.array, torch.tensor, lambda v: torch.tensor(v, dtype=torch.int8)]
)
def test_labels_may_be_whole_numbers_of_any_kind(kind):
    logits, labels = VIEWS[0], torch.tensor(LABELS)
    assert torch.equal(cross_entropy(logits, kind(LABELS)), cross_entropy(logits, labels))
    losses = [sup_con(VIEWS, given, temperature=0.5) for given in (kind(LABELS), labels)]
    assert torch.equal(*losses)
    losses = [info_nce(*VIEWS, ids=given, temperature=0.5) for given in (kind(LABELS), labels)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("label", [4, 1000, -2, -100])
def test_cross_entropy_names_a_label_out_of_range(label):
    with pytest.raises(InvalidValue, match=f"A label is {label}; expected 0 to 3, or -1"):
        cross_entropy(VIEWS[0], torch.full((6,), label))


@pytest.mark.parametrize(
    "call",
    [
        lambda: nt_xent([view.numpy() for view in VIEWS], temperature=0.5),
        lambda: nt_xent([VIEWS[0], VIEWS[1].to("meta")], temperature=0.5),
        lambda: nt_xent([None, None], temperature=0.5),
        lambda: distillation(VIEWS[0].numpy(), VIEWS[0], temperature=1.0),
        lambda: cross_entropy(VIEWS[0], torch.zeros(6)),
        lambda: cross_entropy(VIEWS[0], ["a"] * 6),
        lambda: cross_entropy(VIEWS[0], torch.zeros(6, dtype=torch.long, device="meta")),
        lambda: sup_con(VIEWS, [0.5] * 6, temperature=0.5),
        lambda: info_nce(*VIEWS, ids=[0], temperature=0.5),
        lambda: margin_triplet(VIEWS, margin="wide"),
    ],
)
def test_mistake_is_one_sentence(call):
    with pytest.raises(CoviewError, match=r"expected|move them"):
        call()
