"""Contrastive accuracy: the task of the training, on test images."""

import numpy as np
import pytest
import torch
from toy_images import Small, colored, small_head

from coview.core.errors import DataError
from coview.embeddings.geometry import instance_accuracy
from coview.evaluation import (
    Subject,
    contrastive,
    evaluate_contrastive,
    make_benchmark,
    pixel_subject,
)
from coview.views import ViewPlan, composition, eval_view, simclr_views, views_of


def accuracies(views):
    subject = Subject(name="a", encoder=Small(), head=small_head(), view=eval_view(12), views=views)
    made = make_benchmark([subject], colored(60))
    results = evaluate_contrastive(made)
    return made, subject, {(each.layer, each.setting["similarity"]): each for each in results}


@pytest.mark.parametrize("views", [None, composition(12, "color")])
def test_it_is_the_share_of_other_views_that_are_found(views):
    made, subject, results = accuracies(views)
    plan = views or simclr_views(12)
    with torch.no_grad():
        encoder, head = subject.encoder.eval(), subject.head.eval()
        first, second = (
            encoder(view)
            for view in views_of(made.test, np.arange(len(made.test)), plan, seed=0, epoch=0)
        )
        one, two = head(first), head(second)
    assert results["h", "cosine"].value == pytest.approx(instance_accuracy(first, second))
    assert results["z", "cosine"].value == pytest.approx(instance_accuracy(one, two))
    products = (one.double() @ two.double().T).numpy()
    found = (products.argmax(axis=1) == np.arange(len(one))).mean()
    assert results["z", "dot product"].value == pytest.approx(found)
    assert found != results["z", "cosine"].value  # else the two could be one
    result = results["z", "cosine"]
    assert result.setting["views"] == ("its own" if views else "SimCLR's")
    low, high = result.interval
    assert low <= result.value <= high


def test_equal_views_of_different_images_are_all_found():
    views = ViewPlan(views=(eval_view(12), eval_view(12)))
    flat = Subject(name="a", encoder=torch.nn.Flatten(), view=eval_view(12), views=views)
    result, _ = evaluate_contrastive(make_benchmark([flat], colored(60)))
    assert result.value == 1.0


def test_the_sample_is_limited_and_one_image_is_refused(monkeypatch):
    monkeypatch.setattr(contrastive, "MAX_IMAGES", 10)
    store = colored(100)
    result, _ = evaluate_contrastive(make_benchmark([pixel_subject(4)], store))
    assert (result.setting["images"], result.test_images) == (10, 10)
    made = make_benchmark([pixel_subject(4)], store, store.subset(np.arange(1)))
    with pytest.raises(DataError, match="test part has one"):
        evaluate_contrastive(made)
