from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue
from coview.core.images import store_from_arrays
from coview.core.tensors import weights_fingerprint
from coview.data.held_out import relabel
from coview.evaluation import (
    PROTOCOLS,
    ProbeSpec,
    Subject,
    evaluate_knn,
    evaluate_linear,
    knn_monitor,
    make_benchmark,
    pixel_subject,
    wilson_interval,
)
from coview.evaluation.knn import sample
from coview.views import eval_view

VIEW = eval_view(8)
SPEC = ProbeSpec(epochs=5, batch_size=32)


def subject(name="trained", seed=1, head=False):
    top = small_head(seed) if head else None
    return Subject(name=name, encoder=Small(seed), head=top, view=VIEW)


def benchmark(train=None, test=None, head=True, seed=0):
    train = colored(60) if train is None else train
    subjects = [subject(head=head), subject("untrained", 2, head), pixel_subject(8)]
    return make_benchmark(subjects, train, test, seed=seed)


def values(results, subject="trained", layer="h"):
    return [r.value for r in results if (r.subject, r.layer) == (subject, layer)]


OWN_TESTS = {"invariance", "robustness"}
"""Their layers and numbers of images are others; they need more images too."""


@pytest.mark.parametrize(
    "name", [name for name, each in PROTOCOLS.items() if not each.needs and name not in OWN_TESTS]
)
def test_every_protocol_gives_results_of_every_subject_and_layer(name):
    made = benchmark()
    results = PROTOCOLS[name].evaluate(made)
    assert {r.protocol for r in results} == {name}
    assert list(dict.fromkeys((r.subject, r.layer) for r in results)) == [
        ("trained", "h"), ("trained", "z"), ("untrained", "h"), ("untrained", "z"),
        ("pixels", "pixels"),
    ]  # fmt: skip
    for result in results:
        assert result.test_images == 12
        assert result.interval[0] <= result.value <= result.interval[1]
        if result.outcomes is not None:
            assert result.interval == wilson_interval(result.value, 12)
        assert made.card.items() <= result.card.items()
    headline = PROTOCOLS[name].description["headline"]
    of_layer = [r for r in results if (r.subject, r.layer) == ("trained", headline["layer"])]
    words = {key: value for key, value in headline.items() if key not in ("metric", "layer")}
    chosen = [r for r in of_layer if words.items() <= r.setting.items()]
    assert headline["metric"] in {r.metric for r in chosen}


def test_evaluate_knn_reports_every_setting_and_the_neighbors_used():
    results = [r for r in evaluate_knn(benchmark(head=False)) if r.subject == "pixels"]
    settings = [(r.setting["k"], r.setting["temperature"]) for r in results]
    assert settings[:-1] == [*((k, t) for t in (0.07, None) for k in (1, 10, 20, 200)), (200, 0.1)]
    assert [r.setting["k_used"] for r in results[:-1]] == [*[1, 10, 20, 48] * 2, 48]


def test_evaluate_linear_gives_each_subject_a_setting_of_its_own():
    results = evaluate_linear(benchmark(), spec=SPEC)
    assert len(results) == 5
    for result in results:
        assert set(result.setting) == {"learning_rate", "weight_decay", "validation_accuracy"}
        assert result.card["probe"]["epochs"] == 5


def test_evaluate_linear_permuting_test_labels_changes_no_choice():
    train, test = colored(60, seed=1), colored(40, seed=2, source="other")
    shuffled = replace(test, labels=np.roll(test.labels, 7))
    one, two = (evaluate_linear(benchmark(train, part), spec=SPEC) for part in (test, shuffled))
    assert [r.setting for r in one] == [r.setting for r in two]
    assert [r.value for r in one] != [r.value for r in two]


def test_evaluate_pixels_alone_solve_images_that_differ_by_color():
    results = evaluate_linear(benchmark(colored(200), head=False), spec=SPEC)
    assert values(results, "pixels", "pixels")[0] > 0.95


def test_evaluate_equal_encoders_get_equal_figures():
    made = make_benchmark([subject("one"), subject("two")], colored(60))
    for results in (evaluate_knn(made), evaluate_linear(made, spec=SPEC)):
        assert values(results, "one") == values(results, "two")
    hashes = [entry["weights"] for entry in made.card["subjects"].values()]
    assert hashes[0] == hashes[1] != subject(seed=2).weights_hash


def test_weights_hash_of_a_subject_counts_its_head():
    assert subject(head=True).weights_hash == subject(head=True).weights_hash
    assert subject(head=True).weights_hash != subject().weights_hash


def test_evaluate_leaves_encoder_and_head_as_they_were():
    encoder, head = Small(1).train(), small_head(1).train()
    before = weights_fingerprint(encoder), weights_fingerprint(head)
    whole = Subject(name="trained", encoder=encoder, head=head, view=VIEW)
    made = make_benchmark([whole], colored(40))
    evaluate_knn(made), evaluate_linear(made, spec=SPEC)
    assert (weights_fingerprint(encoder), weights_fingerprint(head)) == before
    assert encoder.training
    assert head.training
    assert all(p.grad is None for p in encoder.parameters())


def test_benchmark_splits_by_id_if_no_test_part_is_given():
    store = colored(60)
    order = np.random.default_rng(0).permutation(60)
    one, two = benchmark(store, head=False), benchmark(store.subset(order), head=False)
    train, test = one.features["trained"]
    assert len(train) == 48
    assert len(test) == 12
    assert set(train.ids.tolist()).isdisjoint(test.ids.tolist())
    assert set(test.ids.tolist()) == set(two.features["trained"][1].ids.tolist())
    assert "20" in one.card["split"] or "0.2" in one.card["split"]


def test_benchmark_another_seed_is_another_split():
    one, two = (benchmark(head=False, seed=seed).features["trained"][1] for seed in (0, 1))
    assert set(one.ids.tolist()) != set(two.ids.tolist())


def test_benchmark_states_data_and_overlap():
    train = colored(60)
    test = train.subset(np.arange(30))
    data = benchmark(train, test, head=False).data
    assert data["train"]["images"] == 60
    assert data["test"]["fingerprint"] == test.fingerprint
    assert data["classes"] == 3
    assert data["images_in_both_parts"] == 30
    assert data["largest_class_share"] == np.bincount(test.labels).max() / 30


def test_images_are_in_both_parts_by_their_pixels_and_not_by_their_names():
    train = colored(60)
    copies = replace(train.subset(np.arange(10)), ids=train.ids[:10] + 1, names=list("abcdefghij"))
    assert benchmark(train, copies, head=False).shared_images == 10
    turned = store_from_arrays(
        [train.image(row)[:6] for row in range(60)], labels=train.labels, source="toy"
    )
    assert benchmark(train, turned, head=False).shared_images == 0


def caveats(train_labels, test_labels):
    """The caveats of noise with these labels."""
    draw, parts = np.random.default_rng(0), []
    for labels in (train_labels, test_labels):
        images = draw.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
        parts.append(
            store_from_arrays(images, labels=np.array(labels), class_names=("ant", "bee", "cat"))
        )
    return make_benchmark([pixel_subject(8)], *parts).caveats


def test_enough_images_of_every_class_need_no_caveat():
    assert caveats([0, 1, 2] * 10, [0, 1, 2] * 10) == ()


@pytest.mark.parametrize(
    ("train_labels", "test_labels", "sentence"),
    [
        ([0, 1] * 10, [0, 1] * 14, "28 test images are too few"),
        ([0, 1] * 10, [0, 1, 2] * 10, "has no image of 1 class (cat) of the test images"),
        ([0, 1, 2] * 10, [0, 1] * 15, "no test image of 1 class (cat)"),
        (
            [0, 1] * 10 + [2],
            [0, 1, 2] * 10,
            "Of 1 class (cat) there are fewer than 5 training images",
        ),
    ],
)
def test_figures_that_say_little_have_a_caveat(train_labels, test_labels, sentence):
    (found,) = caveats(train_labels, test_labels)
    assert sentence in found


def test_benchmark_leaves_unlabeled_images_out():
    store = colored(60)
    labels = store.labels.copy()
    labels[:20] = -1
    made = benchmark(replace(store, labels=labels), head=False)
    assert sum(len(part) for part in made.features["pixels"]) == 40
    assert all((part.labels >= 0).all() for part in made.features["trained"])


@pytest.mark.parametrize("labels", [None, np.full(20, -1)])
def test_benchmark_without_labels_is_an_error(labels):
    with pytest.raises(DataError, match="needs labels"):
        benchmark(replace(colored(20), labels=labels))


def test_benchmark_refuses_a_split_without_test_images():
    with pytest.raises(DataError, match=r"both parts .* or give `test`"):
        benchmark(colored(2))


@pytest.mark.parametrize("names", [(), ("one", "one")])
def test_benchmark_refuses_no_subjects_and_equal_names(names):
    with pytest.raises(InvalidValue, match="subjects"):
        make_benchmark([subject(name) for name in names], colored(20))


def test_benchmark_of_subjects_with_and_without_a_head():
    results = evaluate_knn(
        make_benchmark([subject("run", head=True), subject("export")], colored(40)),
        settings=((1, None),),
    )
    assert [(r.subject, r.layer) for r in results] == [("run", "h"), ("run", "z"), ("export", "h")]


def test_knn_monitor_is_the_plain_vote_of_ten_on_h():
    bank, queries, encoder = colored(60), colored(20, seed=5, source="q"), Small(1).train()
    one = Subject(name="one", encoder=encoder, view=VIEW)
    (result,) = evaluate_knn(make_benchmark([one], bank, queries), settings=((10, None),))
    assert knn_monitor(encoder, bank, queries, VIEW) == pytest.approx(result.value)
    assert encoder.training


def test_knn_monitor_sample_is_keyed_and_labeled_only():
    store = colored(60)
    labels = store.labels.copy()
    labels[::2] = -1
    store = replace(store, labels=labels)
    one, two, other = sample(store, 9, 0), sample(store, 9, 0), sample(store, 9, 1)
    assert len(one) == 9
    assert (one.labels >= 0).all()
    assert one.ids.tolist() == two.ids.tolist() != other.ids.tolist()
    assert len(sample(store, 5000, 0)) == 30


def test_knn_monitor_without_labels_is_an_error():
    with pytest.raises(DataError, match="kNN monitor needs labels"):
        knn_monitor(Small(), colored(20, labels=False), colored(20), VIEW)


def test_classes_of_two_parts_are_matched_by_name():
    train = replace(colored(60), class_names=("red", "green", "blue"))
    test = replace(colored(30, seed=1), class_names=train.class_names)
    other = relabel(test, ("blue", "green", "red", "violet"))
    expected, made = benchmark(train, test), benchmark(train, other)
    assert values(evaluate_knn(made)) == values(evaluate_knn(expected))
    assert made.test.class_names == train.class_names
    red = train.subset(np.flatnonzero(train.labels == 0))
    few = benchmark(red, other)
    assert "no image of 2 classes (green, blue)" in " ".join(few.caveats), "known by name"
    with pytest.raises(DataError, match="classes that the other part lacks: violet"):
        benchmark(train, replace(test, class_names=("red", "green", "violet")))


def test_features_of_a_benchmark_have_no_gradient():
    made = benchmark(head=False)
    assert not any(
        values.requires_grad
        for parts in made.features.values()
        for values in parts[0].layers.values()
    )
    assert torch.is_grad_enabled()
