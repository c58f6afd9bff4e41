"""What the monitor knows of its sample."""

import json

import numpy as np

from coview.core.images import store_from_arrays
from coview.diagnosis.monitor import Monitor, copied_share
from coview.embeddings.geometry import feature_std
from coview.encoders import parse_encoder
from coview.recipes import build, change, recipe
from coview.training import MetricsLog
from small_run import pictures


def parts(count=60):
    pixels, labels = pictures(count)
    store = store_from_arrays(pixels, labels=labels, class_names=("a", "b", "c"))
    return store.subset(np.arange(20, count)), store.subset(np.arange(20))


def test_copied_share_counts_copies_in_the_sample_and_in_training():
    training, held_out = parts()
    assert copied_share(held_out, training) == 0
    pixels, _ = pictures(60)
    twice = store_from_arrays(np.concatenate([pixels[:15], pixels[:5]]))
    assert copied_share(twice, training) == 10 / 20
    trained = store_from_arrays(np.concatenate([pixels[:15], pixels[40:45]]))
    assert copied_share(trained, training) == 5 / 20


def test_step_zero_is_measured_with_settled_statistics_and_leaves_the_learner_alone(tmp_path):
    training, held_out = parts()
    chosen = change(recipe("simclr-cpu"), encoder="resnet10/8-small", size=12, batch_size=8)
    assert chosen.encoder == parse_encoder("resnet10/8-small")
    learner = build(chosen)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    log = MetricsLog(tmp_path / "metrics.jsonl", chance_level=1.0)
    monitor = Monitor(learner, build(chosen), chosen, training, held_out, log)
    monitor(0)
    health, knn = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    raw = feature_std(learner.embed(monitor.images)[0])
    assert health["figures"]["feature_std_h"] > 2 * raw
    assert all((value == before[name]).all() for name, value in learner.state_dict().items())
    assert (knn["images"], health["figures"]["copied_images"]) == (20, 0.0)
    assert 0 <= knn["pixels"] <= 1
