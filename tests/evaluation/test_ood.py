import numpy as np
import pytest
from toy_images import Small, colored

from coview.core.errors import DataError, InvalidValue
from coview.core.images import store_from_arrays
from coview.evaluation import ProbeSpec, Subject, make_benchmark, pixel_subject
from coview.evaluation import benchmark as benchmark_module
from coview.evaluation.features import extract
from coview.evaluation.ood import OOD, evaluate_ood
from coview.heads import HeadSpec
from coview.views import eval_view

QUICK = ProbeSpec(epochs=2)
SCORES = [
    "knn", "cosine-norm", "mahalanobis", "mahalanobis-classes", "mahalanobis-relative", "softmax",
    "energy",
]  # fmt: skip


def noise(count=50, seed=9, source="noise"):
    images = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3)).astype(np.uint8)
    return store_from_arrays(images, source=source)


def small_subject(**more):
    head = HeadSpec(layers=3, hidden=8, output=3).build(6).eval()
    return Subject(name="small", encoder=Small(), head=head, view=eval_view(12), **more)


def benchmark_of(*subjects, outliers=None, **more):
    return make_benchmark(
        subjects or (small_subject(),), colored(120), colored(40, seed=1, source="test"),
        outliers={"noise": noise()} if outliers is None else outliers, **more,
    )  # fmt: skip


def evaluate(benchmark, **more):
    return evaluate_ood(benchmark, spec=QUICK, resamples=50, **more)


def test_features_of_outliers_are_computed_once_and_not_kept(monkeypatch):
    made, sizes = benchmark_of(), []
    monkeypatch.setattr(benchmark_module, "extract", lambda subject, store, **more: (
        sizes.append(len(store)), extract(subject, store, **more))[1])  # fmt: skip
    evaluate(made)
    assert sorted(sizes) == sorted([120, 40, len(noise())])
    kept = {fingerprint for _, fingerprint in made._features}
    assert kept == {made.train.fingerprint, made.test.fingerprint}


def test_every_score_of_every_layer_and_set_is_there_in_order():
    benchmark = benchmark_of(outliers={"noise": noise(), "more": noise(30, seed=3)})
    results = evaluate(benchmark)
    aurocs = [
        (result.layer, result.setting["outliers"], result.setting["score"])
        for result in results if result.metric == "auroc"
    ]  # fmt: skip
    assert aurocs == [
        (layer, name, score)
        for layer in ("h", "z1", "z2", "z") for name in ("noise", "more") for score in SCORES
    ]  # fmt: skip
    per_score = [(result.metric, result.setting.get("positive")) for result in results[:4]]
    assert per_score == [
        ("auroc", None), ("fpr95", None), ("aupr", "data"), ("aupr", "outliers")
    ]  # fmt: skip
    for result in results:
        assert 0 <= result.interval[0] <= result.value <= result.interval[1] <= 1


def test_images_of_another_color_are_told_from_the_data():
    store = colored(120, classes=4, seed=7, source="yellow")
    yellow = store.subset((np.asarray(store.labels) == 3).nonzero()[0])
    results = evaluate(benchmark_of(pixel_subject(12), outliers={"yellow": yellow}), k=5)
    assert results[0].setting == {"outliers": "yellow", "score": "knn", "k": 5, "k_used": 5}
    assert results[0].value > 0.95


def test_images_of_the_data_are_not_told_from_it():
    outliers = {"same": colored(200, seed=5, source="same")}
    results = evaluate(benchmark_of(pixel_subject(12), outliers=outliers))
    for result in results:
        if result.metric == "auroc":
            assert result.value == pytest.approx(0.5, abs=0.15)


def test_no_figure_depends_on_the_other_outliers_or_on_the_order_of_a_set():
    alone = evaluate(benchmark_of())
    others = {"more": noise(30, seed=3), "noise": noise()}
    beside = [
        r for r in evaluate(benchmark_of(outliers=others)) if r.setting["outliers"] == "noise"
    ]
    assert [r.value for r in alone] == [r.value for r in beside]
    store = noise()
    turned = evaluate(benchmark_of(outliers={"noise": store.subset(np.arange(50)[::-1].copy())}))
    assert [r.value for r in alone] == pytest.approx([r.value for r in turned])


def test_figures_of_classes_average_to_that_of_all():
    benchmark = benchmark_of()
    sizes = np.bincount(np.asarray(benchmark.test.labels))
    for result in evaluate(benchmark):
        if result.metric == "auroc":
            mean = np.average(list(result.per_class.values()), weights=sizes)
            assert mean == pytest.approx(result.value)
        else:
            assert not result.per_class


def test_logits_of_a_classifier_are_its_own_and_of_other_layers_a_probe():
    own, plain = (evaluate(benchmark_of(small_subject(logits=layer))) for layer in ("z", ""))
    assert (own[0].card["own_logits"], plain[0].card["own_logits"]) == ({"small": "z"}, {})
    differ = {
        (one.layer, one.setting["score"])
        for one, other in zip(own, plain, strict=True) if one.value != other.value
    }  # fmt: skip
    assert differ == {("z", "softmax"), ("z", "energy")}


def test_same_seed_gives_the_same_figures():
    first, again, other = (evaluate(benchmark_of(seed=seed)) for seed in (0, 0, 1))
    assert [r.interval for r in first] == [r.interval for r in again]
    assert [r.interval for r in first] != [r.interval for r in other]


def test_card_names_the_outliers_and_images_in_both_parts():
    train, store = colored(120), noise()
    mixed = store_from_arrays(
        np.concatenate(
            [[train.image(row) for row in (3, 7)], [store.image(row) for row in range(5)]]
        ),
        source="mixed",
    )
    card = evaluate(benchmark_of(outliers={"mixed": mixed}))[0].card
    assert card["outliers"]["mixed"]["images"] == 7
    assert card["outliers"]["mixed"]["fingerprint"] == mixed.fingerprint
    assert card["caveats"] == [
        "2 images of the outliers 'mixed' are in the training part too, with equal pixels."
    ]
    assert "caveats" not in evaluate(benchmark_of())[0].card


def test_without_outliers_the_sentence_says_what_to_name():
    with pytest.raises(DataError, match="images from elsewhere"):
        evaluate(benchmark_of(outliers={}))
    assert OOD.needs == ("outliers",)


def test_no_neighbor_is_refused():
    with pytest.raises(InvalidValue, match="`k` is 0"):
        evaluate(benchmark_of(), k=0)
