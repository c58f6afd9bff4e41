import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from toy_images import blobs, colored

from coview.core.errors import DataError
from coview.core.images import store_from_arrays
from coview.evaluation import evaluate_retrieval, make_benchmark, pixel_subject, retrieval
from coview.evaluation.retrieval import KS, rank_gallery
from coview.evaluation.statistics import wilson_interval


def by_hand(queries, query_labels, gallery, labels, exclude):
    """Average precision by scikit-learn and hits by a sort, for each query."""
    precisions, hits = [], []
    for place, query in enumerate(queries.double()):
        cosines = torch.nn.functional.cosine_similarity(query[None], gallery.double()).numpy()
        keep = np.ones(len(gallery), bool)
        if exclude is not None:
            keep[exclude[place]] = False
        relevant = (labels.numpy() == int(query_labels[place]))[keep]
        order = np.argsort(-cosines[keep])
        hits.append([bool(relevant[order[:k]].any()) for k in KS])
        precisions.append(average_precision_score(relevant, cosines[keep]) if relevant.any() else 0)
    return np.array(precisions), np.array(hits)


@pytest.mark.parametrize("chunk", [None, 700])
def test_a_ranking_equals_one_by_hand(chunk, monkeypatch):
    if chunk:
        monkeypatch.setattr(retrieval, "CHUNK_NUMBERS", chunk)
    rows, labels, _ = blobs(80, 6, 5, spread=2.0)
    ranking = rank_gallery(rows, labels, rows, labels, exclude=torch.arange(80))
    precisions, hits = by_hand(rows, labels, rows, labels, torch.arange(80))
    assert ranking.known.all()
    assert np.allclose(ranking.precision.numpy(), precisions, atol=1e-5)
    assert np.array_equal(ranking.hits.numpy(), hits)


def test_a_ranking_of_another_gallery_equals_one_by_hand():
    gallery, labels, _ = blobs(120, 4, 7, spread=2.0)
    queries, truth, _ = blobs(30, 4, 7, seed=1, spread=2.0)
    ranking = rank_gallery(queries, truth, gallery, labels)
    precisions, hits = by_hand(queries, truth, gallery, labels, None)
    assert np.allclose(ranking.precision.numpy(), precisions, atol=1e-5)
    assert np.array_equal(ranking.hits.numpy(), hits)


def test_equal_cosines_count_against_the_query():
    rows, labels = torch.ones(4, 2), torch.tensor([0, 0, 1, 1])
    ranking = rank_gallery(rows, labels, rows, labels, exclude=torch.arange(4))
    assert ranking.precision.tolist() == pytest.approx([1 / 3] * 4)
    assert not ranking.hits[:, 0].any()


def test_a_query_without_another_image_of_its_class_is_not_known():
    rows, labels = torch.eye(3), torch.tensor([0, 0, 1])
    ranking = rank_gallery(rows, labels, rows, labels, exclude=torch.arange(3))
    assert ranking.known.tolist() == [True, True, False]


def test_results_of_both_galleries():
    made = make_benchmark([pixel_subject(4)], colored(120))
    results = evaluate_retrieval(made)
    assert [(r.metric, r.setting) for r in results] == [
        (metric, setting)
        for gallery in ("test", "train")
        for metric, setting in [
            ("mean_average_precision", {"gallery": gallery}),
            *(("recall_at_k", {"gallery": gallery, "k": k}) for k in KS),
        ]
    ]
    for result in results:
        assert result.interval[0] <= result.value <= result.interval[1]
    recall = results[1]
    assert recall.outcomes.array().mean() == recall.value


def test_a_precision_of_one_for_every_query_is_not_certain():
    labels = np.arange(8) % 2
    pixels = np.full((8, 4, 4, 3), 255, np.uint8) * np.eye(3, dtype=np.uint8)[labels][:, None, None]
    store = store_from_arrays(pixels, labels=labels)
    first, *_ = evaluate_retrieval(make_benchmark([pixel_subject(4)], store, store))
    assert (first.metric, first.value) == ("mean_average_precision", 1.0)
    assert first.interval == wilson_interval(1.0, 8)


def test_queries_among_the_training_images_are_limited(monkeypatch):
    monkeypatch.setattr(retrieval, "MAX_TRAIN_QUERIES", 10)
    made = make_benchmark([pixel_subject(4)], colored(120))
    results = evaluate_retrieval(made)
    assert {r.test_images for r in results if r.setting["gallery"] == "train"} == {10}
    assert {r.test_images for r in results if r.setting["gallery"] == "test"} == {24}
    assert all(r.outcomes is None for r in results if r.setting["gallery"] == "train")


def test_nothing_to_retrieve_is_refused():
    images = np.random.default_rng(0).integers(0, 255, (10, 4, 4, 3), np.uint8)
    made = make_benchmark([pixel_subject(4)], store_from_arrays(images, labels=np.arange(10)))
    with pytest.raises(DataError, match="nothing to retrieve"):
        evaluate_retrieval(made)
