from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue
from coview.data.held_out import relabel
from coview.evaluation import (
    ProbeSpec,
    Subject,
    evaluate_linear,
    evaluate_robustness,
    make_benchmark,
    pixel_subject,
)
from coview.evaluation.calibration import expected_calibration_error
from coview.evaluation.corrupted_images import CIFAR10_CLASSES, central_squares, corrupted_images
from coview.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from coview.evaluation.linear import probe_of
from coview.evaluation.robustness import ALEXNET, ALEXNET_CLEAN, own_labels
from coview.views import eval_view

SPEC = ProbeSpec(epochs=3, batch_size=32, learning_rates=(3.0,), weight_decays=(1e-4,))
SIDE = 16
WORDNET = tuple(f"n{number:08d}" for number in range(1000))


def data(count=30, seed=0, names=("red", "green", "blue"), source="toy"):
    """Colors with every fourth label wrong: no classifier is right about all of them."""
    store = colored(count, seed=seed, side=SIDE, source=source)
    labels = np.where(np.arange(count) % 4 == 1, (store.labels + 1) % 3, store.labels)
    return replace(store, labels=labels, class_names=names)


def subjects():
    trained = Subject(name="trained", encoder=Small(1), head=small_head(1), view=eval_view(SIDE))
    return [trained, pixel_subject(8)]


def benchmark(test=None, **more):
    test = data(12, 5, source="test") if test is None else test
    names = test.class_names
    return make_benchmark(subjects(), data(names=names), test, **more)


@pytest.fixture(scope="module")
def judged():
    made = benchmark()
    return made, evaluate_robustness(made, spec=SPEC)


def pick(results, metric, subject="trained", layer="h", **setting):
    (found,) = [
        r for r in results
        if (r.metric, r.subject, r.layer) == (metric, subject, layer) and setting == dict(r.setting)
    ]  # fmt: skip
    return found


def literal_answers(made, subject, layer):
    """Correct and confidence [N, corruptions, severities] by a loop, and of the clean images."""
    squares = central_squares(made.test, SIDE)
    probe = probe_of(made, subject, layer, SPEC)

    def answer(pixels):
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        if subject.name == "pixels":
            images = torch.nn.functional.avg_pool2d(images, 2)  # not the view's filter
        with torch.no_grad():
            rows = subject.encoder.eval()(images)
            rows = subject.head.eval()(rows) if layer == "z" else rows
        probabilities = probe.logits(rows).softmax(1)
        right = probe.labels[probabilities.argmax(1)] == torch.from_numpy(made.test.labels)
        return right.double().numpy(), probabilities.amax(1).double().numpy()

    cells = [
        answer(corrupt(squares, made.test.ids, name, severity, seed=made.seed))
        for name in CORRUPTIONS
        for severity in SEVERITIES
    ]
    shape = (len(made.test), len(CORRUPTIONS), len(SEVERITIES))
    correct, confidence = (np.stack(part, 1).reshape(shape) for part in zip(*cells, strict=True))
    return correct, confidence, *answer(squares)


@pytest.mark.parametrize("layer", ["h", "z"])
def test_every_figure_is_that_of_a_loop_over_corruptions(judged, layer):
    made, results = judged
    correct, confidence, clean, clean_confidence = literal_answers(made, subjects()[0], layer)
    value = pick(results, "mean_corruption_error", layer=layer).value
    assert value == pytest.approx(1 - correct.mean())
    value = pick(results, "accuracy", layer=layer, severity="1-5").value
    assert value == pytest.approx(correct.mean())
    assert pick(results, "accuracy", layer=layer, severity=0).value == pytest.approx(clean.mean())
    found = pick(results, "ece", layer=layer, severity=0).value
    expected = expected_calibration_error(clean_confidence, clean)
    assert found == pytest.approx(expected, abs=1e-5)
    for place, severity in enumerate(SEVERITIES):
        found = pick(results, "accuracy", layer=layer, severity=severity).value
        assert found == pytest.approx(correct[..., place].mean())
        found = pick(results, "ece", layer=layer, severity=severity).value
        parts = confidence[..., place].ravel(), correct[..., place].ravel()
        assert found == pytest.approx(expected_calibration_error(*parts), abs=1e-5)
    for column, name in enumerate(CORRUPTIONS):
        found = pick(results, "error", layer=layer, corruption=name).value
        assert found == pytest.approx(1 - correct[:, column].mean())
        if layer == "h":
            cell = pick(results, "error", corruption=name, severity=5)
            assert cell.value == pytest.approx(1 - correct[:, column, 4].mean())


def test_relative_figures_divide_by_those_of_the_first_subject(judged):
    _, results = judged
    setting = {"reference": "trained, h", "corruptions": 15}
    errors = {
        key: [pick(results, "error", *key, corruption=name).value for name in CORRUPTIONS]
        for key in (("trained", "h"), ("trained", "z"), ("pixels", "pixels"))
    }
    theirs = errors["trained", "h"]
    assert pick(results, "mce", **setting).value == pytest.approx(1)
    for key, own in errors.items():
        expected = sum(a / b for a, b in zip(own, theirs, strict=True)) / 15
        assert pick(results, "mce", *key, **setting).value == pytest.approx(expected)
    # This reference loses nothing under some corruption, so that there is nothing to divide by.
    clean = 1 - pick(results, "accuracy", severity=0).value
    relative = [r for r in results if r.metric == "relative_mce"]
    assert (len(relative) == 3) == (min(theirs) > clean)


def test_relative_mce_is_the_mean_ratio_of_the_rises():
    from coview.evaluation.robustness import Answers, _Reference, _relative_rows

    generator = np.random.default_rng(0)

    def answers(share):
        correct = (generator.random((50, 4, 5)) < share).astype(float)
        clean = (generator.random(50) < 0.95).astype(float)
        return Answers(clean=clean, clean_confidence=clean, correct=correct, confidence=correct)

    one, two = answers(0.5), answers(0.6)
    reference = _Reference(name="two", errors=two.errors, clean=1 - two.clean, columns=[0, 1, 3])
    rows = list(_relative_rows(one, reference, paired=True, seed=0))
    ratios = []
    for column in (0, 1, 3):
        own = sum((1 - one.correct[:, column, s]).mean() - (1 - one.clean).mean() for s in range(5))
        her = sum((1 - two.correct[:, column, s]).mean() - (1 - two.clean).mean() for s in range(5))
        ratios.append(own / her)
    assert [row["metric"] for row in rows] == ["mce", "relative_mce"]
    assert rows[1]["value"] == pytest.approx(np.mean(ratios))
    low, high = rows[1]["interval"]
    assert low < rows[1]["value"] < high


def test_every_subject_and_layer_has_the_same_figures_in_the_same_order(judged):
    _, results = judged

    def figures(subject, layer):
        return [
            (r.metric, str(r.setting)) for r in results if (r.subject, r.layer) == (subject, layer)
        ]

    of_h, of_z, of_pixels = (
        figures("trained", "h"),
        figures("trained", "z"),
        figures("pixels", "pixels"),
    )
    assert of_h == of_pixels
    assert of_z == of_h[: len(of_z)]
    assert len(of_h) == len(of_z) + 75
    assert of_h[0] == ("accuracy", "{'severity': '1-5'}")
    for result in results:
        low, high = result.interval
        assert 0 <= low <= result.value <= high
        assert result.test_images == 12
        assert "not comparable with published ones" in result.card["frost"]


def test_robustness_and_linear_share_the_probe(monkeypatch):
    made, calls = benchmark(), []
    from coview.evaluation import linear

    real = linear.linear_probe
    monkeypatch.setattr(linear, "linear_probe", lambda *a: calls.append(1) or real(*a))
    results = evaluate_linear(made, spec=SPEC)
    robust = evaluate_robustness(made, spec=SPEC, images=3)
    assert len(calls) == 3
    assert {r.test_images for r in robust} == {3}
    assert "3 of 12, chosen by seed and id" in robust[0].card["images"]
    assert results[0].metric == "accuracy"


def test_test_labels_choose_nothing(judged):
    made, _ = judged
    test = replace(made.test, labels=np.roll(made.test.labels, 5))
    other = replace(made, test=test, _made={}, _features={})
    evaluate_robustness(other, spec=SPEC, images=3)
    for subject in made.subjects:
        for layer in subject.layers:
            one, two = (probe_of(each, subject, layer, SPEC) for each in (made, other))
            assert torch.equal(one.weights, two.weights)
            assert torch.equal(one.bias, two.bias)


def test_a_classifier_answers_by_its_own_logits():
    made = benchmark()
    head = torch.nn.Linear(6, 4)
    names = ("blue", "gray", "red", "green")  # in another order than the data's, and one more
    classifier = replace(made.subjects[0], head=head, logits="z", class_names=names)
    made = replace(made, subjects=(classifier,))
    results = evaluate_robustness(made, spec=SPEC)
    images = torch.from_numpy(central_squares(made.test, SIDE)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = classifier.head(classifier.encoder.eval()(images))
    predicted = [names[number] for number in logits.argmax(1).tolist()]
    truth = [made.test.class_names[label] for label in made.test.labels]
    expected = np.mean([one == other for one, other in zip(predicted, truth, strict=True)])
    assert pick(results, "accuracy", layer="z", severity=0).value == pytest.approx(expected)
    assert not any(key[2] == "z" for key in made._made)


def test_a_classifier_that_does_not_know_a_class_is_judged_by_a_probe():
    made = benchmark()
    head = torch.nn.Linear(6, 3)
    classifier = replace(made.subjects[0], head=head, logits="z", class_names=("red", "green", "c"))
    made = replace(made, subjects=(classifier,))
    results = evaluate_robustness(made, spec=SPEC)
    probed = replace(made, subjects=(replace(classifier, logits="", class_names=()),), _made={})
    expected = evaluate_robustness(probed, spec=SPEC)
    assert [result.value for result in results] == [result.value for result in expected]


def test_numbers_are_the_names_of_classes_without_names():
    store = replace(data(), class_names=())
    classifier = replace(subjects()[0], logits="z", class_names=("2", "0", "1"))
    assert own_labels(classifier, store).tolist() == [2, 0, 1]
    assert own_labels(replace(classifier, class_names=("0", "1")), store) is None
    assert own_labels(replace(classifier, logits=""), store) is None


def test_imagenet_is_measured_by_alexnet_without_the_drawn_frost():
    results = evaluate_robustness(benchmark(data(12, 5, WORDNET, "test")), spec=SPEC)
    found = pick(results, "mce", reference="AlexNet", corruptions=14)
    names = [name for name in CORRUPTIONS if name != "frost"]
    errors = [pick(results, "error", corruption=name).value for name in names]
    ratios = [error / ALEXNET[name] for error, name in zip(errors, names, strict=True)]
    assert found.value == pytest.approx(np.mean(ratios))
    clean = 1 - pick(results, "accuracy", severity=0).value
    relative = pick(results, "relative_mce", reference="AlexNet", corruptions=14).value
    ratios = [
        (error - clean) / (ALEXNET[name] - ALEXNET_CLEAN)
        for error, name in zip(errors, names, strict=True)
    ]
    assert relative == pytest.approx(np.mean(ratios))
    assert "not checked" in found.card["reference"]
    assert "without frost" in found.card["reference"]


def write_arrays(folder, made, names=CORRUPTIONS):
    """CIFAR-10-C's layout of the drawn corruptions."""
    squares = central_squares(made.test, SIDE)
    files = {"elastic": "elastic_transform", "jpeg": "jpeg_compression"}
    for name in names:
        parts = [corrupt(squares, made.test.ids, name, s, seed=made.seed) for s in SEVERITIES]
        np.save(folder / f"{files.get(name, name)}.npy", np.concatenate(parts))
    np.save(folder / "labels.npy", np.tile(made.test.labels, 5).astype(np.uint8))


def write_folders(folder, made, names=CORRUPTIONS):
    """ImageNet-C's layout, two corruptions below a folder of their group; without loss."""
    squares = central_squares(made.test, SIDE)
    files = {"elastic": "elastic_transform", "jpeg": "jpeg_compression"}
    for name in names:
        group = folder / "noise" if name in ("gaussian_noise", "shot_noise") else folder
        for severity in SEVERITIES:
            images = corrupt(squares, made.test.ids, name, severity, seed=made.seed)
            for image, label, given in zip(images, made.test.labels, made.test.names, strict=True):
                path = group / files.get(name, name) / str(severity) / made.test.class_names[label]
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path / f"{given.replace('#', '_')}.png")


def figures(results):
    return {(r.metric, r.subject, r.layer, str(r.setting)): (r.value, r.interval) for r in results}


def test_arrays_in_the_published_layout_give_the_figures_of_the_same_images(judged, tmp_path):
    made, results = judged
    write_arrays(tmp_path, made)
    read = evaluate_robustness(replace(made, corrupted=tmp_path), spec=SPEC)
    assert figures(read) == figures(results)
    assert str(tmp_path) in read[0].card["corruptions"]
    assert "frost" not in read[0].card
    few = evaluate_robustness(replace(made, corrupted=tmp_path), spec=SPEC, images=4)
    drawn = evaluate_robustness(made, spec=SPEC, images=4)
    assert figures(few) == figures(drawn)


def test_folders_in_the_published_layout_give_the_figures_of_the_same_images(judged, tmp_path):
    made, _ = judged
    names = [f"{name.replace('#', '_')}.png" for name in made.test.names]
    order = np.argsort([f"{made.test.class_names[k]}/{n}" for k, n in zip(made.test.labels, names)])  # noqa: B905
    test = replace(made.test, names=names).subset(order)
    made = replace(made, test=test, _features={}, _made={})
    few = ("gaussian_noise", "contrast", "jpeg")
    write_folders(
        tmp_path, replace(made, test=replace(test, names=[n[:-4] for n in test.names])), few
    )
    read = evaluate_robustness(replace(made, corrupted=tmp_path), spec=SPEC)
    drawn = figures(evaluate_robustness(made, spec=SPEC))
    for key, value in figures(read).items():
        if key[0] == "error" or key[3] == "{'severity': 0}":
            assert drawn[key] == value
    assert "without shot_noise" in read[0].card["corruptions"]
    assert "clean images" not in read[0].card


def test_files_of_other_images_leave_the_clean_ones_unpaired(tmp_path):
    made = benchmark(data(12, 5, source="test", names=("0", "1", "2")))
    write_arrays(tmp_path, made, ["contrast"])
    order = np.argsort(made.test.labels, kind="stable")
    other = replace(made, test=made.test.subset(order), corrupted=tmp_path, _features={})
    results = evaluate_robustness(other, spec=SPEC)
    assert "not the images" in results[0].card["clean images"]
    assert pick(results, "mce", reference="trained, h", corruptions=1).value == pytest.approx(1)


def read_labels(test, folder):
    """The labels of corrupted images of ``folder``, as names, and whether they are those of test."""
    read = corrupted_images(test, folder=folder, limit=None, size=SIDE, seed=0)
    return [test.class_names[k] for k in read.load("contrast", 1).labels], read.paired


def test_labels_of_arrays_are_those_of_the_same_images_whatever_their_numbers(tmp_path):
    made = benchmark(data(12, 5, source="test", names=("plane", "car", "bird")))
    write_arrays(tmp_path, made, ["contrast"])
    names = [made.test.class_names[k] for k in made.test.labels]
    other = relabel(made.test, ("bird", "car", "plane"))
    assert read_labels(other, tmp_path) == (names, True)
    with pytest.raises(DataError, match=r"of test is not known.* such as cifar10 by"):
        read_labels(other.subset(np.arange(12)[::-1].copy()), tmp_path)
    with pytest.raises(DataError, match="which they are of test is not known"):
        read_labels(other.subset(np.arange(11)), tmp_path)


def test_labels_of_other_images_of_cifar10_are_matched_by_name(tmp_path):
    made = benchmark(data(12, 5, source="test", names=CIFAR10_CLASSES))
    write_arrays(tmp_path, made, ["contrast"])
    names = [CIFAR10_CLASSES[k] for k in made.test.labels]
    other = relabel(made.test, CIFAR10_CLASSES[::-1]).subset(np.arange(11))
    assert read_labels(other, tmp_path) == (names, False)


def broken_labels(folder):
    np.save(folder / "labels.npy", np.zeros(7, np.uint8))


def unknown_labels(folder):
    np.save(folder / "labels.npy", np.full(60, 9, np.uint8))


def other_count(folder):
    np.save(folder / "contrast.npy", np.zeros((10, 16, 16, 3), np.uint8))


def floats(folder):
    np.save(folder / "contrast.npy", np.zeros((60, 16, 16, 3), np.float32))


def no_array(folder):
    (folder / "contrast.npy").write_bytes(b"no array")


def objects(folder):
    np.save(folder / "contrast.npy", np.array([{}], dtype=object), allow_pickle=True)


def no_corruption(folder):
    (folder / "contrast.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (broken_labels, "five times"), (unknown_labels, "no test image has"),
        (other_count, "expected uint8"), (floats, "float32"), (no_array, "no array of numpy"),
        (objects, "no array of numpy"), (no_corruption, "holds no corrupted images"),
    ],
)  # fmt: skip
def test_arrays_of_another_layout_are_refused(damage, words, tmp_path):
    test = data(12, 5, source="test", names=("0", "1", "2", "9"))
    made = benchmark(test, corrupted=tmp_path)
    write_arrays(tmp_path, made, ["contrast"])
    damage(tmp_path)
    with pytest.raises(DataError, match=words):
        evaluate_robustness(made, spec=SPEC)


def test_folders_of_another_layout_are_refused(tmp_path):
    made = benchmark(corrupted=tmp_path)
    with pytest.raises(DataError, match="holds no corrupted images"):
        evaluate_robustness(replace(made, corrupted=Path(tmp_path / "absent")), spec=SPEC)
    write_folders(tmp_path, made, ["contrast"])
    one = next((tmp_path / "contrast" / "3").rglob("*.png"))
    one.rename(one.with_name("other.png"))
    with pytest.raises(DataError, match="holds other images"):
        evaluate_robustness(made, spec=SPEC)
    one.with_name("other.png").rename(one)
    (tmp_path / "contrast" / "2").rename(tmp_path / "two")
    with pytest.raises(DataError, match="five severities"):
        evaluate_robustness(made, spec=SPEC)


@pytest.mark.parametrize("images", [0, -1])
def test_a_number_of_images_below_one_is_refused(images):
    with pytest.raises(InvalidValue, match="`images`"):
        evaluate_robustness(benchmark(), spec=SPEC, images=images)
