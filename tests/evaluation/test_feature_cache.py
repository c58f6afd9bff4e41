"""Features on disk are those that would be computed, or they are computed again."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from coview.core.images import store_from_arrays
from coview.data.cache import cache_entries, clear_cache, make_room
from coview.encoders import resnet
from coview.evaluation import FeatureCache, Subject, extract, make_benchmark, pixel_subject
from coview.evaluation import benchmark as benchmark_module
from coview.heads import HeadSpec
from coview.views import RENDER_ON, Crop, eval_view


def images(count=12, seed=0, **fields):
    pixels = np.random.default_rng(seed).integers(0, 255, (count, 10, 10, 3), dtype=np.uint8)
    return store_from_arrays(pixels, labels=np.arange(count) % 2, **fields)


def small(seed=0, **fields):
    return Subject(
        name="small", encoder=resnet(10, width=0.125, stem="small", seed=seed), view=eval_view(8),
        **fields,
    )  # fmt: skip


@pytest.fixture
def computed(monkeypatch):
    """The (subject, layers, images) that were computed, not read."""
    calls = []

    def count(subject, store, **options):
        calls.append((subject.name, tuple(options["layers"]), len(store)))
        return extract(subject, store, **options)

    monkeypatch.setattr(benchmark_module, "extract", count)
    return calls


def test_a_second_benchmark_computes_nothing_and_has_the_same_features(tmp_path, computed):
    cache = FeatureCache(tmp_path)
    head = HeadSpec(layers=3, hidden=8, output=4).build(64)
    features = []
    for _ in range(2):
        subject = small(head=head)
        benchmark = make_benchmark([subject], images(), images(8, seed=1), cache=cache)
        features.append(benchmark.features["small"])
    assert computed == [("small", ("h", "z"), 12), ("small", ("h", "z"), 8)]
    for first, second in zip(*features, strict=True):
        assert torch.equal(first.ids, second.ids)
        assert torch.equal(first.labels, second.labels)
        assert all(torch.equal(first.layers[name], second.layers[name]) for name in ("h", "z"))
    benchmark.features_of(subject, benchmark.test, ["z1", "h"])
    assert computed[2:] == [("small", ("z1",), 8)], "a layer that is missing alone"


def test_equal_images_of_another_source_are_the_same_and_others_are_not(tmp_path):
    cache, subject = FeatureCache(tmp_path), small()
    cache.save(subject, images(), {"h": torch.ones(12, 64)})
    assert cache.load(subject, images(source="elsewhere"), ["h"])
    order = images().subset(np.arange(12)[::-1])
    for others in (order, images(seed=1), images().subset(np.arange(11))):
        assert not cache.load(subject, others, ["h"])


def test_weights_view_layer_and_structure_count(tmp_path):
    cache, subject, store = FeatureCache(tmp_path), small(), images()
    cache.save(subject, store, {"h": torch.ones(12, 64)})
    assert cache.load(replace(subject, name="another name"), store, ["h"])
    padded = resnet(10, width=0.125, same_padding=True)
    plain = resnet(10, width=0.125)
    padded.load_state_dict(plain.state_dict())
    cache.save(replace(subject, encoder=plain), store, {"h": torch.ones(12, 64)})
    for other in (
        small(seed=1), replace(subject, view=eval_view(10)),
        replace(subject, view=eval_view(8, mean=(0.5,) * 3, std=(0.5,) * 3)),
        replace(subject, encoder=padded),
    ):  # fmt: skip
        assert not cache.load(other, store, ["h"])
    assert not cache.load(subject, store, ["z"])


def test_views_by_id_are_of_these_ids(tmp_path):
    cache, subject = FeatureCache(tmp_path), small()
    drawn = replace(subject, view=replace(subject.view, crop=Crop()))
    cache.save(drawn, images(), {"h": torch.ones(12, 64)})
    assert cache.load(drawn, images(), ["h"])
    assert not cache.load(drawn, images(source="elsewhere"), ["h"])


class Mine(nn.Conv2d):
    """Code of a caller."""


@pytest.mark.parametrize(
    "subject",
    [
        small(is_code=True), pixel_subject(8),
        Subject(name="mine", encoder=nn.Sequential(Mine(3, 4, 8), nn.Flatten()), view=eval_view(8)),
    ],
)  # fmt: skip
def test_code_of_the_caller_and_pixels_are_never_kept(subject, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.save(subject, images(), {"h": torch.ones(12, 64)})
    assert cache_entries(tmp_path) == []
    assert not cache.load(subject, images(), ["h"])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "other length"])
def test_a_damaged_file_is_computed_again(damage, tmp_path, computed):
    cache = FeatureCache(tmp_path)
    expected = make_benchmark([small()], images(), images(8, seed=1), cache=cache).features
    for entry in cache_entries(tmp_path):
        content = entry.folder.read_bytes()
        entry.folder.write_bytes({
            "flip": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "cut": content[:-40], "empty": b"", "text": b"not a file of tensors",
            "other length": b"\xff" * 8 + content[8:],
        }[damage])  # fmt: skip
    again = make_benchmark([small()], images(), images(8, seed=1), cache=cache).features
    assert len(computed) == 4
    for first, second in zip(expected["small"], again["small"], strict=True):
        assert torch.equal(first.layers["h"], second.layers["h"])
    assert make_benchmark([small()], images(), images(8, seed=1), cache=cache).features
    assert len(computed) == 4, "the damaged files were replaced"


def test_features_count_to_the_cache_and_the_oldest_go_first(tmp_path, monkeypatch):
    cache, store = FeatureCache(tmp_path), images()
    for seed in range(3):
        cache.save(small(seed), store, {"h": torch.ones(12, 64)})
        for entry in cache_entries(tmp_path):
            os.utime(entry.folder, (entry.used - 10, entry.used - 10))
    entries = cache_entries(tmp_path)
    assert [entry.description for entry in entries] == ["h of small, 12 images of arrays"] * 3
    assert all(12 * 64 * 4 < entry.size < 12 * 64 * 4 + 400 for entry in entries)
    cache.load(small(0), store, ["h"])
    assert cache_entries(tmp_path)[0].folder == entries[-1].folder, "used last"
    monkeypatch.setenv("COVIEW_CACHE_LIMIT", f"{(2 * entries[0].size + 10) / 1e6}MB")
    make_room(tmp_path, 0)
    assert not cache.load(small(1), store, ["h"])
    assert cache.load(small(0), store, ["h"])
    monkeypatch.setenv("COVIEW_CACHE_LIMIT", "0.0001MB")
    cache.save(small(5), store, {"h": torch.ones(12, 64)})
    assert not cache.load(small(5), store, ["h"]), "no room"
    assert len(clear_cache(tmp_path)) == 2
    assert cache_entries(tmp_path) == []
    assert not list((tmp_path / "features").iterdir())


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "features").write_text("in the way")
    cache = FeatureCache(tmp_path)
    benchmark = make_benchmark([small()], images(), images(8, seed=1), cache=cache)
    assert benchmark.features["small"][0].layers["h"].shape == (12, 64)


def test_what_is_not_of_coview_in_the_folder_stays(tmp_path, monkeypatch):
    """The cache may be a folder that has other things: `--cache .` beside own features."""
    foreign = [tmp_path / "features" / "vectors.npy", tmp_path / "stores" / "shop" / "list.txt"]
    for path in foreign:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    FeatureCache(tmp_path).save(small(), images(), {"h": torch.ones(12, 64)})
    left = tmp_path / "features" / f".{'0' * 32}.safetensors.17.tmp"
    left.write_bytes(b"of a process that was killed")
    os.utime(left, (0, 0))
    assert len(cache_entries(tmp_path)) == 2
    monkeypatch.setenv("COVIEW_CACHE_LIMIT", "0.0001MB")
    make_room(tmp_path, 0)
    clear_cache(tmp_path)
    assert cache_entries(tmp_path) == []
    assert all(path.read_text() == "mine" for path in foreign)


def test_views_that_another_device_renders_have_files_of_their_own(tmp_path, monkeypatch):
    cache, subject, store = FeatureCache(tmp_path), small(), images()
    cache.save(subject, store, {"h": torch.ones(12, 64)}, "cuda")
    monkeypatch.setenv(RENDER_ON, "device")
    assert not cache.load(subject, store, ["h"], "cuda")
    cache.save(subject, store, {"h": torch.zeros(12, 64)}, "cpu")
    monkeypatch.delenv(RENDER_ON)
    assert cache.load(subject, store, ["h"], "cpu"), "the CPU's kernel in both"
    assert cache.load(subject, store, ["h"], "cuda")["h"].all()
