"""What the monitor knows of its sample."""

import json

import numpy as np
import pytest

from coview.core.images import store_from_arrays
from coview.diagnosis.monitor import HealthMonitor, copied_share
from coview.embeddings.geometry import feature_std
from coview.encoders import parse_encoder
from coview.recipes import build, change, recipe
from coview.training import MetricsLog
from short_of_memory import room_for
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
    monitor = HealthMonitor(learner, build(chosen), chosen, training, held_out, log)
    monitor(0)
    health, knn = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    raw = feature_std(learner.embed(monitor.images)[0])
    assert health["figures"]["feature_std_h"] > 2 * raw
    assert all((value == before[name]).all() for name, value in learner.state_dict().items())
    assert (knn["images"], health["figures"]["copied_images"]) == (20, 0.0)
    assert 0 <= knn["pixels"] <= 1


def test_a_run_is_measured_where_memory_is_short(tmp_path):
    """Also at step 0, for which statistics are settled: then they are of smaller batches."""
    training, held_out = parts()
    chosen = change(recipe("simclr-cpu"), encoder="resnet10/8-small", size=12, batch_size=8)
    learner, figures = build(chosen), []
    for most in (1_000, 7):
        path = tmp_path / f"{most}.jsonl"
        monitor = HealthMonitor(
            learner, build(chosen), chosen, training, held_out, MetricsLog(path, chance_level=1.0)
        )
        with room_for(most, learner.encoder) as given:
            monitor(20, last=True)
            monitor(0)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        figures.append([row["figures"] for row in rows if row["kind"] == "health"])
        settling = given.index(40, given.index(40) + 1)  # the first 40 are kNN's
        assert given[settling:][:4] == ([40, 20, 20, 20] if most > 40 else [40, 20, 10, 5])
    whole, in_parts = figures
    assert whole[0] == pytest.approx(in_parts[0], rel=1e-4)
