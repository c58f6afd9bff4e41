from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as oracle
from toy_images import Small, colored

from coview.core.errors import DataError, InvalidValue
from coview.core.images import store_from_arrays
from coview.core.tensors import weights_fingerprint
from coview.evaluation import Subject, evaluate_invariance, make_benchmark, pixel_subject
from coview.evaluation.invariance import TASKS, mlp_predictions, transformed_features
from coview.heads import HeadSpec
from coview.views import eval_view

SIDE = 8
NAMES = [task.name for task in TASKS]


def pictures(count, seed=0):
    """Smooth images that are brighter at the top and differ in color."""
    generator = np.random.default_rng(seed)
    base = generator.integers(60, 120, (count, 1, 1, 3)) + np.array([60, 0, -30])
    slope = np.linspace(60, -60, SIDE)[None, :, None, None]
    images = np.clip(base + slope + generator.normal(0, 2, (count, SIDE, SIDE, 3)), 0, 255)
    return store_from_arrays(
        images.astype(np.uint8), labels=np.arange(count) % 2, source=f"pictures-{seed}"
    )


class MeanColor(nn.Module):
    """Features that no rotation changes."""

    def forward(self, images):
        return images.mean((2, 3))


def benchmark(*subjects, count=300):
    return make_benchmark(subjects, pictures(count), pictures(count, 1), seed=3)


def by_task(results, layer):
    return {r.setting["task"]: r for r in results if r.layer == layer}


@pytest.mark.parametrize("task", range(4), ids=NAMES)
def test_the_labels_say_what_was_done_to_each_image(task):
    subject = pixel_subject(SIDE)
    made = benchmark(subject, count=60)
    features, labels = transformed_features(made, subject, made.test, task)
    shown = torch.from_numpy(features["pixels"]).reshape(-1, 3, SIDE, SIDE)
    images = torch.from_numpy(np.stack([made.test.image(i) for i in range(60)]))
    images = images.permute(0, 3, 1, 2).float() / 255
    assert sorted(np.unique(labels)) == list(range(len(TASKS[task].outcomes)))
    for image, view, label in zip(images, shown, labels, strict=True):
        if label == 0:
            assert torch.allclose(view, image, atol=1e-6)
        elif NAMES[task] == "color":
            assert torch.allclose(view, oracle.rgb_to_grayscale(image, 3), atol=1e-3)
        elif NAMES[task] == "rotation":
            assert torch.allclose(view, oracle.rotate(image, 90 * int(label)), atol=1e-6)
        elif NAMES[task] == "noise":
            assert 0.02 < (view - image).std() < 0.25
        else:
            kernel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
            gray = oracle.rgb_to_grayscale(image[None], 1)
            gray = nn.functional.pad(gray, (1, 1, 1, 1), mode="replicate")
            slopes = [nn.functional.conv2d(gray, k[None, None]) for k in (kernel, kernel.T)]
            expected = torch.hypot(*slopes)[0] / 20**0.5
            assert torch.allclose(view, expected.expand(3, -1, -1), atol=1e-3)


def test_pixels_tell_every_transformation_and_mean_colors_no_rotation():
    subjects = pixel_subject(SIDE), Subject(name="mean", encoder=MeanColor(), view=eval_view(SIDE))
    results = evaluate_invariance(benchmark(*subjects, count=1500), test_images=400)
    pixels, mean = by_task(results, "pixels"), by_task(results, "h")
    assert list(pixels) == list(mean) == NAMES
    assert min(pixels[name].value for name in NAMES) > 0.9
    low, high = mean["rotation"].interval
    assert low < 0.32
    assert mean["color"].value > 0.95
    assert pixels["rotation"].interval[0] > high


def test_every_layer_of_the_head_is_asked_the_same_images():
    head = HeadSpec(layers=3, hidden=8, output=4).build(6, seed=1)
    trained = Subject(name="trained", encoder=Small(1), head=head, view=eval_view(SIDE))
    before = weights_fingerprint(nn.ModuleList([trained.encoder, head]))
    results = evaluate_invariance(benchmark(trained, pixel_subject(SIDE), count=80))
    assert [(r.subject, r.layer) for r in results] == [
        (name, layer)
        for name, layers in (("trained", ("h", "z1", "z2", "z")), ("pixels", ("pixels",)))
        for layer in layers
        for _ in TASKS
    ]
    assert weights_fingerprint(nn.ModuleList([trained.encoder, head])) == before
    for result in results:
        truth = by_task(results, "pixels")[result.setting["task"]]
        assert result.setting == truth.setting
        correct = result.outcomes.array()
        assert correct.mean() == pytest.approx(result.value)
        assert result.interval[0] <= result.value <= result.interval[1]
        assert result.test_images == 80


def test_chance_is_the_share_of_the_most_frequent_outcome_and_classes_make_the_accuracy():
    subject = pixel_subject(SIDE)
    made = benchmark(subject, count=120)
    for place, result in enumerate(evaluate_invariance(made)):
        _, labels = transformed_features(made, subject, made.test, place)
        counts = {name: (labels == k).sum() for k, name in enumerate(TASKS[place].outcomes)}
        assert result.setting["chance"] == max(counts.values()) / 120
        total = sum(result.per_class[name] * counts[name] for name in result.per_class)
        assert total / 120 == pytest.approx(result.value)


def test_the_shares_of_the_outcomes_are_the_papers():
    made = benchmark(pixel_subject(SIDE), count=2000)
    shares = [
        np.bincount(transformed_features(made, made.subjects[0], made.test, k)[1]) / 2000
        for k in range(4)
    ]
    for share, expected in zip(shares, ([0.8, 0.2], [0.25] * 4, [0.5] * 2, [0.5] * 2), strict=True):
        assert share == pytest.approx(expected, abs=0.04)


def test_class_labels_and_the_order_of_images_change_nothing():
    made = benchmark(pixel_subject(SIDE), count=60)
    shuffled = replace(made, test=replace(made.test, labels=np.roll(made.test.labels, 1)))
    turned = replace(made, test=made.test.subset(np.arange(60)[::-1]))
    one, two, three = ([r.value for r in evaluate_invariance(m)] for m in (made, shuffled, turned))
    assert one == two == three


def test_fewer_images_are_chosen_by_id():
    results = evaluate_invariance(
        benchmark(pixel_subject(SIDE), count=60), train_images=40, test_images=30
    )
    assert {r.test_images for r in results} == {30}
    assert "40 training and 30 test images" in results[0].card["images"]


def test_the_probe_learns_what_is_not_linear():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(4000, 8)).astype(np.float32)
    labels = ((rows[:, 0] > 0) ^ (rows[:, 1] > 0)).astype(np.int64)
    predicted = mlp_predictions(rows[:3500], labels[:3500], rows[3500:], seed=0)
    assert (predicted == labels[3500:]).mean() > 0.85
    again = mlp_predictions(rows[:3500], labels[:3500], rows[3500:], seed=0)
    assert np.array_equal(predicted, again)
    scaled = 1000 * rows + 5  # features are standardized
    same = mlp_predictions(scaled[:3500], labels[:3500], scaled[3500:], seed=0)
    assert (same == predicted).mean() > 0.98


@pytest.mark.parametrize("change", [{"train_images": 0}, {"test_images": -1}])
def test_numbers_below_one_are_refused(change):
    with pytest.raises(InvalidValue, match=next(iter(change))):
        evaluate_invariance(benchmark(pixel_subject(SIDE), count=20), **change)


def test_a_part_with_one_outcome_is_refused():
    with pytest.raises(DataError, match="give more images"):
        evaluate_invariance(benchmark(pixel_subject(SIDE), count=60), test_images=1)


def test_features_that_are_not_finite_are_refused():
    class Broken(MeanColor):
        def forward(self, images):
            return super().forward(images) * float("nan")

    broken = Subject(name="broken", encoder=Broken(), view=eval_view(SIDE))
    made = make_benchmark([broken], colored(40, side=SIDE))
    with pytest.raises(InvalidValue, match="NaN or infinity"):
        evaluate_invariance(made)
