from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, UnknownName
from coview.core.images import store_from_arrays
from coview.core.metrics import METRICS
from coview.data.held_out import relabel
from coview.data.spec import DataSpec
from coview.data.torchvision_sets import KNOWN_SETS
from coview.evaluation import (
    TRANSFER_SETS,
    LogisticSpec,
    Subject,
    evaluate_transfer,
    make_benchmark,
    open_transfer_set,
    pixel_subject,
)
from coview.evaluation.eleven_points import eleven_point_map, label_table
from coview.evaluation.features import Features
from coview.evaluation.regression import LogisticRegression
from coview.evaluation.statistics import wilson_interval
from coview.evaluation.transfer import TransferTask, _score, _several_labels, mean_per_class
from coview.evaluation.transfer_sets import drawn_parts, transfer_set_of
from coview.evaluation.validation import official_validation
from coview.runs.more_data import open_transfer
from coview.views import eval_view

QUICK = LogisticSpec(strengths=(1.0, 0.01))


def benchmark(subjects, **others):
    return make_benchmark(subjects, colored(60), others=others)


def test_every_set_has_its_own_metric_and_the_mean_is_of_all():
    pair = colored(80, classes=4), colored(60, classes=4, seed=1, source="other")
    made = benchmark([pixel_subject(6)], cifar10=pair, caltech101=pair, mine=pair)
    mean, *each = evaluate_transfer(made, spec=QUICK)
    assert [(r.setting["data"], r.metric) for r in each] == [
        ("cifar10", "accuracy"), ("caltech101", "mean_per_class"), ("mine", "accuracy"),
    ]  # fmt: skip
    assert mean.setting == {"data": "mean"}
    assert mean.value == pytest.approx(np.mean([r.value for r in each]))
    assert mean.test_images == 180
    for result in (mean, *each):
        assert result.interval[0] <= result.value <= result.interval[1]
    assert each[0].value == each[0].outcomes.array().mean()
    labels = pair[1].labels
    predicted = np.where(each[1].outcomes.array(), labels, (labels + 1) % 4)
    assert each[1].value == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_a_mean_per_class_of_images_that_are_all_right_is_not_certain():
    labels = np.array([0] * 6 + [1] * 4)
    _, interval = _score("mean_per_class", np.ones(10, bool), labels, 0)
    assert interval == wilson_interval(1.0, 8), "of so many images as the rarest class has, twice"


def test_the_card_says_which_test_images_are_known():
    train, clean = colored(60), colored(40, seed=1)
    mixed = store_from_arrays(
        [clean.image(row) for row in range(40)] + [train.image(row) for row in (3, 7)],
        labels=np.concatenate([clean.labels, train.labels[[3, 7]]]),
    )
    made = make_benchmark(
        [pixel_subject(6)], colored(60),
        others={"mine": (train, mixed), "clean": (train, clean)},
        trained_on_others={"pixels": ["a sentence"]},
    )  # fmt: skip
    card = evaluate_transfer(made, spec=QUICK)[0].card
    assert card["caveats"] == [
        "The training part of 'mine' has 2 test images too, with equal pixels: the figures there "
        "are those of images that are known."
    ]
    assert card["trained on"] == {"pixels": ["a sentence"]}
    card = evaluate_transfer(benchmark([pixel_subject(6)], clean=(train, clean)), spec=QUICK)[
        0
    ].card
    assert not {"caveats", "trained on"} & card.keys()


def test_the_layer_is_the_output_of_the_encoder():
    subject = Subject(name="a", encoder=Small(), head=small_head(), view=eval_view(12))
    pair = colored(60), colored(40, seed=1)
    results = evaluate_transfer(benchmark([subject, pixel_subject(6)], mine=pair), spec=QUICK)
    assert [(r.subject, r.layer) for r in results] == [
        ("a", "h"), ("a", "h"), ("pixels", "pixels"), ("pixels", "pixels"),
    ]  # fmt: skip


def test_mean_per_class_leaves_out_classes_that_are_not_there():
    correct, labels = np.array([True, False, True]), np.array([0, 0, 5])
    assert mean_per_class(correct, labels) == pytest.approx(0.75)


def test_the_own_validation_part_of_a_set_is_used():
    store = colored(90, classes=3)
    named = store_from_arrays(
        [store.image(row) for row in range(90)], labels=store.labels,
        names=[f"dtd:{'val' if row >= 60 else 'train'}#{row}" for row in range(90)], source="dtd",
    )  # fmt: skip
    train, validation = official_validation(named.names)
    assert validation.tolist() == list(range(60, 90))
    made = benchmark([pixel_subject(6)], dtd=(named, colored(30, seed=1)))
    _, result = evaluate_transfer(made, spec=QUICK)
    assert result.card["data sets"]["dtd"]["validation"] == 30
    assert len(train) == 60


# --- several labels of an image


def voc_by_hand(scores, relevant):
    """VOC's development kit, recall by recall."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    hits, points = 0, []
    for place, row in enumerate(order, 1):
        hits += relevant[row]
        points.append((hits / sum(relevant), hits / place))
    total = 0.0
    for step in range(11):
        total += max((p for r, p in points if r >= step / 10 - 1e-12), default=0.0) / 11
    return total


@pytest.mark.parametrize("seed", range(4))
def test_eleven_points_equal_those_by_hand(seed):
    generator = np.random.default_rng(seed)
    scores, relevant = generator.random((40, 3)), generator.random((40, 3)) < 0.25
    expected = np.mean([voc_by_hand(scores[:, c], relevant[:, c]) for c in range(3)])
    assert eleven_point_map(scores, relevant.astype(np.int8)) == pytest.approx(expected)


def test_images_that_do_not_count_and_classes_without_images_are_left_out():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    relevant = np.array([[-1, 0], [1, 0], [0, 0]], np.int8)
    assert eleven_point_map(scores, relevant) == 1.0
    assert np.isnan(eleven_point_map(scores, np.zeros((3, 2), np.int8)))


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_of_equal_scores_an_image_without_the_class_comes_first(order):
    relevant = np.array([[1], [0], [0], [0]], np.int8)[order]
    assert eleven_point_map(np.zeros((4, 1)), relevant) == 0.25


def test_a_class_that_validation_lacks_gets_its_strength_by_the_loss(monkeypatch):
    generator = np.random.default_rng(0)
    has_class = np.arange(60) % 3 == 0
    rows = torch.from_numpy(generator.normal(size=(60, 4)) + 2 * has_class[:, None]).float()
    store = store_from_arrays(
        np.zeros((60, 2, 2, 3), np.uint8), labels=has_class.astype(np.int64),
        class_names=("", "dog"),
    )  # fmt: skip
    held_out = torch.from_numpy(np.flatnonzero(~has_class)[:10])
    fit = torch.from_numpy(np.setdiff1d(np.arange(60), held_out.numpy()))
    task = TransferTask(name="a", train=store, test=store, metric="map11", parts=(fit, held_out))
    features = Features(layers={"h": rows}, ids=torch.arange(60), labels=None)
    strengths = (1e4, 1.0, 1e-3)
    spec = LogisticSpec(strengths=strengths)
    path = LogisticRegression(rows[fit], torch.from_numpy(store.labels)[fit])
    losses = {
        strength: -path.fit(strength).validate(rows[held_out], torch.zeros(10).long())[1]
        for strength in strengths
    }
    chosen = min(losses, key=losses.get)
    assert chosen != max(strengths)
    fitted, fit_one = [], LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, s: fitted.append(s) or fit_one(self, s)
    )
    _several_labels(task, features, features, "h", spec)
    assert fitted[3::4] == [chosen]


def test_a_class_that_lies_in_the_validation_part_alone_is_learned_from_both():
    generator = np.random.default_rng(0)
    has_dog, has_cat = np.arange(60) < 10, np.arange(60) % 2 == 1
    table = np.stack([has_dog, has_cat], 1)
    rows = torch.from_numpy(generator.normal(size=(60, 2)) * 0.1 + table).float()
    store = store_from_arrays(
        np.zeros((60, 2, 2, 3), np.uint8), labels=has_dog + 2 * has_cat,
        class_names=("", "dog", "cat", "cat+dog"),
    )  # fmt: skip
    held_out, fit = torch.arange(15), torch.arange(15, 60)
    task = TransferTask(name="a", train=store, test=store, metric="map11", parts=(fit, held_out))
    features = Features(layers={"h": rows}, ids=torch.arange(60), labels=None)
    value, (low, high) = _several_labels(task, features, features, "h", QUICK)
    assert value == 1.0
    assert (low, high) == wilson_interval(1.0, 60)


def several_labels(count, seed, source):
    """Images with a red left half, a green right half, both or neither."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 90, (count, 12, 12, 3)).astype(np.uint8)
    left, right = generator.random(count) < 0.5, generator.random(count) < 0.5
    images[left, :, :6, 0] += 120
    images[right, :, 6:, 1] += 120
    names = ("none", "left", "right", "left+right")
    return store_from_arrays(
        images, labels=(left + 2 * right).astype(np.int64), class_names=names, source=source
    )


def test_a_set_with_several_labels_of_an_image_is_judged_by_its_classes():
    pair = several_labels(150, 0, "voc"), several_labels(80, 1, "voc test")
    made = benchmark([pixel_subject(6)], voc2007=pair)
    _, result = evaluate_transfer(made, spec=QUICK)
    assert result.metric == "map11"
    assert result.value > 0.9
    assert result.interval[0] <= result.value <= result.interval[1]
    assert label_table(pair[0], ["left", "right"])[pair[0].labels == 3].tolist()[0] == [1, 1]


def test_classes_of_a_set_are_matched_by_name():
    train = replace(colored(80), class_names=("red", "green", "blue"))
    test = replace(colored(60, seed=1), class_names=train.class_names)
    other = relabel(test, ("blue", "cyan", "green", "red"))
    values = [
        evaluate_transfer(benchmark([pixel_subject(6)], mine=(train, part)), spec=QUICK)[1].value
        for part in (test, other)
    ]
    assert values[0] == values[1] > 0.8
    odd = replace(test, class_names=("red", "green", "cyan"))
    with pytest.raises(DataError, match="classes that the other part lacks: cyan"):
        evaluate_transfer(benchmark([pixel_subject(6)], mine=(train, odd)), spec=QUICK)


def test_features_of_a_set_are_not_kept():
    train = colored(60)
    made = make_benchmark([pixel_subject(6)], train, colored(30, seed=1),
                          others={"same": (train, colored(20, seed=2))})  # fmt: skip
    evaluate_transfer(made, spec=QUICK)
    assert not made._features
    assert made.features
    evaluate_transfer(made, spec=QUICK)
    assert len(made._features) == 2


def test_several_labels_without_names_are_refused():
    made = benchmark([pixel_subject(6)], voc2007=(colored(30), colored(30, seed=1)))
    with pytest.raises(DataError, match="no names"):
        evaluate_transfer(made, spec=QUICK)


# --- the twelve sets


def test_the_table_has_the_twelve_sets_with_known_metrics():
    assert len(TRANSFER_SETS) == 12
    for name, known in TRANSFER_SETS.items():
        assert known.metric in METRICS
        assert known.absent or name in KNOWN_SETS
    per_class = {n for n, known in TRANSFER_SETS.items() if known.metric == "mean_per_class"}
    assert per_class == {"fgvcaircraft", "oxfordiiitpet", "caltech101", "flowers102"}
    assert transfer_set_of("x", "flowers102:train+val") is TRANSFER_SETS["flowers102"]
    assert transfer_set_of("Caltech-101") is TRANSFER_SETS["caltech101"]


def test_a_set_that_is_not_opened_by_its_name_says_why():
    with pytest.raises(DataError, match="several labels"):
        open_transfer_set("voc2007")
    with pytest.raises(UnknownName, match="flowers102"):
        open_transfer_set("flowers10")


def test_a_set_that_is_missing_is_not_downloaded(tmp_path):
    with pytest.raises(DataError, match="missing or incomplete"):
        open_transfer_set("dtd", spec=DataSpec.of("dtd", root=tmp_path))


def write_dtd(root):
    base = root / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        lines = []
        for index, texture in enumerate(("dotted", "woven")):
            folder = base / "images" / texture
            folder.mkdir(parents=True, exist_ok=True)
            for row in range(3):
                path = folder / f"{texture}_{split}{row}.jpg"
                Image.new("RGB", (20, 20), (80 * index, 60 * number, 20 * row)).save(path)
                lines.append(f"{texture}/{path.name}")
        (base / "labels" / f"{split}1.txt").write_text("\n".join(lines) + "\n")


def test_a_set_is_opened_as_the_papers_divide_it(tmp_path):
    write_dtd(tmp_path)
    train, test = open_transfer_set("dtd", spec=DataSpec.of("dtd", root=tmp_path))
    assert (len(train), len(test)) == (12, 6)
    assert train.class_names == ("dotted", "woven")
    fit, validation = official_validation(train.names)
    assert (len(fit), len(validation)) == (6, 6)
    assert {tuple(train.image(int(row))[0, 0] // 60) for row in fit} <= {(0, 0, 0), (1, 0, 0)}
    assert np.bincount(train.labels).tolist() == [6, 6]
    assert set(train.ids.tolist()).isdisjoint(test.ids.tolist())


def test_a_set_is_opened_with_the_options_of_the_data(tmp_path):
    write_dtd(tmp_path / "cache" / "torchvision")
    spec = DataSpec.of(
        "photos", cache=tmp_path / "cache", short_side=10, memory_share=0.0, limit=5,
        split="val", labels_from="folders", image_column="image", label_column="label",
    )  # fmt: skip
    train, test = open_transfer(["dtd"], spec)["dtd"]
    assert (len(train), len(test)) == (5, 6)
    assert train.image(0).shape == (10, 10, 3)
    assert all("on disk" in store.storage for store in (train, test))
    assert train.class_names == test.class_names == ("dotted", "woven")


def test_parts_that_are_drawn_have_equally_many_of_each_class():
    store = store_from_arrays(np.zeros((100, 2, 2, 3), np.uint8), labels=np.arange(100) % 4)
    train, test = drawn_parts(store, 10, 5, seed=1)
    assert np.bincount(train.labels).tolist() == [10] * 4
    assert np.bincount(test.labels).tolist() == [5] * 4
    assert set(train.ids.tolist()).isdisjoint(test.ids.tolist())
    again, other = drawn_parts(store, 10, seed=1)[0], drawn_parts(store, 10, seed=2)[0]
    assert train.ids.tolist() == again.ids.tolist()
    assert train.ids.tolist() != other.ids.tolist()
