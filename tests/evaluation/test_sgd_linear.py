import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue
from coview.core.rng import SGD_LINEAR_BATCHES, Stream, permutation
from coview.evaluation import Subject, evaluate_sgd_linear, make_benchmark, pixel_subject
from coview.evaluation.sgd_linear import SETTINGS, SGDSetting, crop_view
from coview.views import Crop, ViewPlan, eval_view, views_of

VIEW = eval_view(12)


def by_hand(made, subject, setting, epochs, classes):
    """The protocol in plain steps of an optimizer that is written out."""
    encoder = subject.encoder.eval()
    weight, bias = torch.zeros(classes, encoder.features), torch.zeros(classes)
    velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]
    count, labels = len(made.train), torch.from_numpy(made.train.labels.copy())
    plan = ViewPlan(views=(crop_view(subject.view),))
    batch, done = min(setting.batch_size, count), 0
    steps = epochs * -(-count // batch)
    for epoch in range(epochs):
        order = permutation(
            made.seed, Stream.PROBE, made.train.ids, draw_index=SGD_LINEAR_BATCHES + epoch
        )
        for start in range(0, count, batch):
            rows = order[start : start + batch]
            with torch.no_grad():
                (images,) = views_of(made.train, rows, plan, seed=made.seed, epoch=epoch)
                h = encoder(images)
            error = (h @ weight.T + bias).softmax(1) - torch.eye(classes)[labels[rows]]
            gradients = [error.T @ h / len(rows), error.mean(0)]
            rate = setting.rate(batch, done / steps)
            for value, velocity, gradient in zip(
                (weight, bias), velocities, gradients, strict=True
            ):
                velocity.mul_(setting.momentum).add_(gradient)
                step = gradient + setting.momentum * velocity if setting.nesterov else velocity
                value.sub_(rate * step)
            done += 1
    (plain,) = views_of(
        made.test,
        torch.arange(len(made.test)).numpy(),
        ViewPlan(views=(subject.view,)),
        seed=0,
        epoch=0,
    )
    with torch.no_grad():
        return (encoder(plain) @ weight.T + bias).argmax(1)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("steps", [(), (0.5,)])
def test_the_protocol_equals_steps_by_hand(nesterov, steps):
    subject = Subject(name="a", encoder=Small(), view=VIEW)
    made = make_benchmark([subject], colored(130))
    setting = SGDSetting(
        learning_rate=8.0, batch_size=32, source="", nesterov=nesterov, steps=steps
    )
    (result,) = evaluate_sgd_linear(made, epochs=3, settings={"mine": setting})
    predicted = by_hand(made, subject, setting, 3, 3)
    correct = predicted.numpy() == made.test.labels
    assert result.value == pytest.approx(correct.mean(), abs=1 / len(correct) + 1e-9)
    assert (result.outcomes.array() != correct).sum() <= 1  # rounding in another order


def test_the_encoder_stays_as_it_is():
    encoder, head = Small().train(), small_head().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    subject = Subject(name="a", encoder=encoder, head=head, view=VIEW)
    results = evaluate_sgd_linear(make_benchmark([subject], colored(60)), epochs=2)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    assert head.training
    assert [(r.layer, r.setting["recipe"]) for r in results] == [
        (layer, recipe) for layer in ("h", "z") for recipe in ("simclr", "moco", "lightly")
    ]


def test_the_rates_are_those_of_the_papers():
    simclr, moco = SETTINGS["simclr"], SETTINGS["moco"]
    assert simclr.rate(4096, 0.0) == pytest.approx(1.6)
    assert simclr.rate(4096, 0.5) == pytest.approx(0.8)
    assert [moco.rate(256, p) for p in (0.0, 0.59, 0.6, 0.8)] == pytest.approx([30, 30, 3, 0.3])
    assert SETTINGS["lightly"].rate(256, 0.0) == pytest.approx(0.1)


def test_every_crop_of_an_epoch_is_new_and_keyed():
    spec = crop_view(eval_view(12, mean=(0.5,) * 3, std=(0.2,) * 3))
    assert spec.crop == Crop(area=(0.08, 1.0))
    assert (spec.flip, spec.mean) == (0.5, (0.5,) * 3)
    made = make_benchmark([pixel_subject(6)], colored(60))
    one, two = (evaluate_sgd_linear(made, epochs=2) for _ in "ab")
    assert [r.value for r in one] == [r.value for r in two]


def test_a_small_training_part_is_one_batch_and_says_so():
    made = make_benchmark([pixel_subject(6)], colored(100))
    simclr, moco, _ = evaluate_sgd_linear(made, epochs=1)
    assert simclr.setting["batch_size"] == 80
    assert simclr.setting["learning_rate"] == pytest.approx(0.1 * 80 / 256)
    assert moco.setting["epochs"] == 1
    assert "90" in simclr.card["epochs"]


def test_no_epoch_and_one_class_are_refused():
    made = make_benchmark([pixel_subject(6)], colored(60))
    with pytest.raises(InvalidValue, match="epochs"):
        evaluate_sgd_linear(made, epochs=0)
    with pytest.raises(DataError, match="2 classes"):
        evaluate_sgd_linear(make_benchmark([pixel_subject(6)], colored(60, classes=1)), epochs=1)
