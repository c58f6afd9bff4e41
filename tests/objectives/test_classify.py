import math

import pytest
import torch
from slow_losses import mean, random_views, softmax

from coview.core.errors import InvalidValue
from coview.objectives import cross_entropy, distillation

LABELS = [2, 0, -1, 1, -1]


def test_cross_entropy_leaves_unlabeled_rows_out_of_the_mean():
    logits = 3 * random_views(1, 5, 3)[0]
    rows = [(row, y) for row, y in zip(logits.tolist(), LABELS, strict=True) if y >= 0]
    expected = mean(-math.log(softmax(row)[y]) for row, y in rows)
    assert cross_entropy(logits, torch.tensor(LABELS)).item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_gradcheck():
    logits = random_views(1, 5, 3)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, torch.tensor(LABELS)), logits)


def test_cross_entropy_without_any_label_is_zero_with_zero_gradient():
    logits = random_views(1, 4, 3)[0].requires_grad_()
    loss = cross_entropy(logits, torch.full((4,), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cross_entropy_works_in_float32_inside_autocast_too(dtype):
    logits = random_views(1, 6, 5, dtype=dtype)[0]
    labels = torch.arange(6) % 5
    exact = cross_entropy(logits.double(), labels).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(4)])
def test_cross_entropy_refuses_labels_that_do_not_fit(labels):
    with pytest.raises(InvalidValue, match="labels"):
        cross_entropy(torch.ones(4, 3), labels)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_distillation_equals_the_loop(temperature, scaled):
    student, teacher = random_views(2, 6, 4)
    expected = mean(
        -math.fsum(
            t * math.log(s)
            for s, t in zip(
                softmax([x / temperature for x in one]),
                softmax([x / temperature for x in other]),
                strict=True,
            )
        )
        for one, other in zip(student.tolist(), teacher.tolist(), strict=True)
    )
    loss = distillation(
        student, teacher, temperature=temperature, scale_by_temperature_squared=scaled
    )
    factor = temperature**2 if scaled else 1
    assert loss.item() == pytest.approx(factor * expected, rel=1e-11)


@pytest.mark.parametrize("scaled", [False, True])
def test_distillation_gradient_is_the_closed_form_and_the_teacher_gets_none(scaled):
    student, teacher = (logits.requires_grad_() for logits in random_views(2, 6, 4))
    distillation(student, teacher, temperature=0.5, scale_by_temperature_squared=scaled).backward()
    difference = (student / 0.5).softmax(1) - (teacher / 0.5).softmax(1)
    factor = 0.5 if scaled else 2
    assert torch.allclose(student.grad, factor * difference / 6, atol=1e-14)
    assert teacher.grad is None


def test_distillation_of_the_teacher_itself_is_its_entropy_with_zero_gradient():
    logits = random_views(1, 5, 4)[0].requires_grad_()
    loss = distillation(logits, logits, temperature=1.0)
    p = logits.softmax(1)
    assert loss.item() == pytest.approx(-(p * p.log()).sum(1).mean().item())
    loss.backward()
    assert logits.grad.abs().max() < 1e-15


def test_distillation_of_extreme_logits_is_finite():
    student = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float16).requires_grad_()
    loss = distillation(student, torch.tensor([[-1e4, 1e4, 0.0]]), temperature=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(2e5, rel=1e-3)
    assert torch.isfinite(student.grad).all()


def test_distillation_refuses_other_shapes():
    with pytest.raises(InvalidValue, match="teacher"):
        distillation(torch.ones(3, 4), torch.ones(3, 5), temperature=1.0)
    with pytest.raises(InvalidValue, match="no rows"):
        distillation(torch.ones(0, 4), torch.ones(0, 4), temperature=1.0)
