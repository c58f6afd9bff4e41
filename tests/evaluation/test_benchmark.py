import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError, InvalidValue
from coview.evaluation import (
    ProbeSpec,
    compare,
    evaluate_knn,
    evaluate_linear,
    knn_monitor,
    weights_fingerprint,
)
from coview.evaluation.knn_monitor import sample
from coview.views import eval_view

VIEW = eval_view(8)
SPEC = ProbeSpec(epochs=5, batch=32)


def benchmark(train=None, test=None, head=True, seed=0):
    train = colored(60) if train is None else train
    heads = (small_head(1), small_head(2)) if head else (None, None)
    return compare(
        Small(1), heads[0], train, test, untrained=(Small(2), heads[1]), view=VIEW, pixel_size=8,
        seed=seed,
    )  # fmt: skip


def test_evaluate_knn_result_has_the_file_format(tmp_path):
    result = evaluate_knn(benchmark(), folder=tmp_path)
    assert json.loads((tmp_path / "knn.json").read_text()) == result
    assert set(result) == {"protocol", "card", "data", "results", "created"}
    assert {row["tap"] for row in result["results"]} == {"h", "z"}
    for row in result["results"]:
        assert set(row) == {"tap", "setting", "accuracy", "untrained", "pixels"}
        assert all(0 <= row[name] <= 1 for name in ("accuracy", "untrained", "pixels"))


def test_evaluate_knn_reports_every_setting_and_the_neighbors_used():
    rows = [r for r in evaluate_knn(benchmark(head=False))["results"] if r["tap"] == "h"]
    found = [(r["setting"]["k"], r["setting"]["temperature"]) for r in rows]
    assert found == [(k, t) for t in (0.07, None) for k in (1, 10, 20, 200)]
    assert [r["setting"]["k_used"] for r in rows] == [1, 10, 20, 48] * 2


def test_evaluate_linear_result_has_the_file_format(tmp_path):
    result = evaluate_linear(benchmark(), spec=SPEC, folder=tmp_path)
    assert json.loads((tmp_path / "linear.json").read_text()) == json.loads(json.dumps(result))
    assert [row["tap"] for row in result["results"]] == ["h", "z"]
    assert result["card"]["probe"]["epochs"] == 5
    assert set(result["results"][0]["setting"]) == {"trained", "untrained", "pixels"}


def test_evaluate_linear_permuting_test_labels_changes_no_choice():
    train, test = colored(60, seed=1), colored(40, seed=2, source="other")
    shuffled = replace(test, labels=np.roll(test.labels, 7))
    one, two = (
        evaluate_linear(benchmark(train, part), spec=SPEC)["results"] for part in (test, shuffled)
    )
    assert [row["setting"] for row in one] == [row["setting"] for row in two]
    assert [row["accuracy"] for row in one] != [row["accuracy"] for row in two]


def test_evaluate_pixels_alone_solve_images_that_differ_by_color():
    rows = evaluate_linear(benchmark(colored(200), head=False), spec=SPEC)["results"]
    assert rows[0]["pixels"] > 0.95


def test_evaluate_equal_encoders_get_equal_figures():
    train = colored(60)
    same = compare(Small(1), None, train, untrained=(Small(1), None), view=VIEW, pixel_size=8)
    for result in (evaluate_knn(same), evaluate_linear(same, spec=SPEC)):
        assert all(row["accuracy"] == row["untrained"] for row in result["results"])
    assert same.card["encoder_hash"] == same.card["untrained_encoder_hash"]


def test_evaluate_leaves_encoder_and_head_as_they_were():
    encoder, head = Small(1).train(), small_head(1).train()
    before = weights_fingerprint(encoder), weights_fingerprint(head)
    made = compare(encoder, head, colored(40), untrained=(Small(2), small_head(2)), view=VIEW)
    evaluate_knn(made), evaluate_linear(made, spec=SPEC)
    assert (weights_fingerprint(encoder), weights_fingerprint(head)) == before
    assert encoder.training
    assert head.training
    assert all(p.grad is None for p in encoder.parameters())


def test_compare_splits_by_id_where_no_test_part_is_given():
    store = colored(60)
    order = np.random.default_rng(0).permutation(60)
    one, two = benchmark(store, head=False), benchmark(store.subset(order), head=False)
    train, test = one.features["trained"]
    assert len(train) == 48
    assert len(test) == 12
    assert set(train.ids.tolist()).isdisjoint(test.ids.tolist())
    assert set(test.ids.tolist()) == set(two.features["trained"][1].ids.tolist())
    assert "20" in one.card["split"] or "0.2" in one.card["split"]


def test_compare_another_seed_is_another_split():
    one, two = (benchmark(head=False, seed=seed).features["trained"][1] for seed in (0, 1))
    assert set(one.ids.tolist()) != set(two.ids.tolist())


def test_compare_states_data_and_overlap():
    train, test = colored(60), colored(30)
    data = benchmark(train, test, head=False).data
    assert data["train"]["images"] == 60
    assert data["test"]["fingerprint"] == test.fingerprint
    assert data["classes"] == 3
    assert data["images_in_both_parts"] == 30
    assert data["largest_class_share"] == np.bincount(test.labels).max() / 30


def test_compare_leaves_unlabeled_images_out():
    store = colored(60)
    labels = store.labels.copy()
    labels[:20] = -1
    made = benchmark(replace(store, labels=labels), head=False)
    assert sum(len(part) for part in made.features["pixels"]) == 40
    assert all((part.labels >= 0).all() for part in made.features["trained"])


@pytest.mark.parametrize("labels", [None, np.full(20, -1)])
def test_compare_without_labels_says_so(labels):
    with pytest.raises(DataError, match="needs labels"):
        benchmark(replace(colored(20), labels=labels))


def test_compare_refuses_a_split_without_test_images():
    with pytest.raises(DataError, match="both parts"):
        benchmark(colored(2))


def test_compare_refuses_a_head_for_one_encoder_only():
    with pytest.raises(InvalidValue, match="both"):
        compare(Small(), small_head(), colored(20), untrained=(Small(), None), view=VIEW)


def test_online_knn_is_the_plain_vote_of_ten_on_h():
    bank, queries, encoder = colored(60), colored(20, seed=5, source="q"), Small(1).train()
    made = compare(encoder, None, bank, queries, untrained=(Small(1), None), view=VIEW)
    full = evaluate_knn(made, settings=((10, None),))["results"][0]["accuracy"]
    assert knn_monitor(encoder, bank, queries, VIEW) == pytest.approx(full)
    assert encoder.training


def test_online_knn_sample_is_keyed_and_labeled_only():
    store = colored(60)
    labels = store.labels.copy()
    labels[::2] = -1
    store = replace(store, labels=labels)
    one, two, other = sample(store, 9, 0), sample(store, 9, 0), sample(store, 9, 1)
    assert len(one) == 9
    assert (one.labels >= 0).all()
    assert one.ids.tolist() == two.ids.tolist() != other.ids.tolist()
    assert len(sample(store, 5000, 0)) == 30


def test_online_knn_without_labels_says_so():
    with pytest.raises(DataError, match="online kNN needs labels"):
        knn_monitor(Small(), colored(20, labels=False), colored(20), VIEW)


def test_evaluation_of_bare_tensors_has_no_gradient():
    made = benchmark(head=False)
    assert not any(
        values.requires_grad
        for parts in made.features.values()
        for values in parts[0].taps.values()
    )
    assert torch.is_grad_enabled()
