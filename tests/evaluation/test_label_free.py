import numpy as np
import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError
from coview.embeddings.geometry import (
    alignment,
    effective_rank,
    instance_accuracy,
    instance_hits,
    pair_distances,
    rank_me,
    uniformity,
)
from coview.evaluation import (
    Subject,
    evaluate_label_free,
    label_free,
    make_benchmark,
    pixel_subject,
)
from coview.evaluation.label_free import (
    _resampled_counts,
    label_free_figures,
    resampled_ranks,
    resampled_uniformity,
)
from coview.views import eval_view, simclr_views, views_of


def rows(count=40, width=6, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_figures_are_those_of_the_reports():
    images, first, second = rows(), rows(seed=1), rows(seed=1) + 0.3 * rows(seed=2)
    figures = label_free_figures(images, first, second)
    unit = torch.nn.functional.normalize(images, dim=1)
    expected = {
        "rankme": rank_me(unit), "alignment": alignment(first, second),
        "uniformity": uniformity(images), "instance_accuracy": instance_accuracy(first, second),
    }  # fmt: skip
    assert {name: value for name, (value, _) in figures.items()} == pytest.approx(expected)
    for value, (low, high) in figures.values():
        assert low <= value <= high


def test_hits_and_distances_have_the_figures_as_means():
    first, second = rows(), rows() + 0.5 * rows(seed=3)
    assert float(instance_hits(first, second, chunk=7).mean()) == instance_accuracy(first, second)
    assert float(pair_distances(first, second).mean()) == alignment(first, second)


def test_uniformity_of_a_resample_is_that_of_its_images_without_equal_pairs():
    points, counts = rows(15), _resampled_counts(15, 0)[:, :5]
    unit = torch.nn.functional.normalize(points.double(), dim=1)
    for column, value in zip(counts.T, resampled_uniformity(points, counts[:, :5]), strict=True):
        drawn = [i for i in range(15) for _ in range(int(column[i]))]
        kernel = [
            float((-2 * (unit[i] - unit[j]).square().sum()).exp())
            for i in drawn for j in drawn if i != j
        ]  # fmt: skip
        assert float(value) == pytest.approx(np.log(np.mean(kernel)), abs=1e-5)


@pytest.mark.parametrize("shape", [(60, 6), (20, 50)])
def test_the_rank_of_the_sample_itself_is_rank_me(shape):
    points = rows(*shape)
    once = torch.ones(len(points), 1)
    assert float(resampled_ranks(points, once)[0]) == pytest.approx(rank_me(points), rel=1e-6)


def test_the_interval_of_the_rank_is_that_of_a_bootstrap():
    points = rows(600, 8) * torch.logspace(0, -1, 8)
    counts = _resampled_counts(600, 0)
    quick = resampled_ranks(points, counts)
    slow = torch.tensor(
        [rank_me(points.repeat_interleave(column, dim=0)) for column in counts.T[:200]]
    )
    assert float(quick.mean()) == pytest.approx(float(slow.mean()), rel=0.01)
    assert float(quick.std()) == pytest.approx(float(slow.std()), rel=0.25)


def test_effective_rank_of_a_known_spectrum():
    assert float(effective_rank(torch.tensor([4.0, 4.0, 4.0, 0.0]))) == pytest.approx(3, rel=1e-4)


def test_views_are_those_of_simclr_keyed_by_image():
    store = colored(50)
    subject = Subject(name="a", encoder=Small(), head=small_head(), view=eval_view(12))
    made = make_benchmark([subject], store)
    results = {(r.layer, r.metric): r.value for r in evaluate_label_free(made)}
    plan = simclr_views(12)
    order = np.arange(len(made.test))
    with torch.no_grad():
        encoder, head = subject.encoder.eval(), subject.head.eval()
        views = views_of(made.test, order, plan, seed=0, epoch=0)
        one, two = (head(encoder(view)) for view in views)
    assert results["z", "alignment"] == pytest.approx(alignment(one, two), rel=1e-5)
    assert results["z", "instance_accuracy"] == pytest.approx(instance_accuracy(one, two))
    assert {layer for layer, _ in results} == {"h", "z"}


def test_the_sample_is_limited_and_needs_no_labels(monkeypatch):
    monkeypatch.setattr(label_free, "MAX_IMAGES", 10)
    store = colored(100)
    results = evaluate_label_free(make_benchmark([pixel_subject(4)], store))
    assert {r.setting["images"] for r in results} == {10}
    assert {r.test_images for r in results} == {10}


def test_a_single_test_image_is_refused():
    store = colored(40)
    made = make_benchmark([pixel_subject(4)], store, store.subset(np.arange(1)))
    with pytest.raises(DataError, match="test part has one"):
        evaluate_label_free(made)
