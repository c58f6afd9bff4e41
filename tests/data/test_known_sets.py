"""Data sets by name: torchvision's, read from files laid out as it expects, and the scenes."""

from __future__ import annotations

import inspect
import json
import socket
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import picture, write_images
from torchvision import datasets

import coview
from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.data import KNOWN_SETS, open_images
from coview.data.spec import DataSpec
from coview.data.torchvision_sets import _labels_of_all
from coview.runs.data import RunData


def write_mnist(root: Path, kind: str = "FashionMNIST") -> dict[str, np.ndarray]:
    """Ten digits each of training and test, in MNIST's file format."""
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    images = {}
    for seed, prefix in enumerate(("train", "t10k")):
        images[prefix] = np.stack([picture(28, 28, 10 * seed + i)[..., 0] for i in range(10)])
        header = struct.pack(">IIII", 0x0803, 10, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images[prefix].tobytes())
        labels = struct.pack(">II", 0x0801, 10) + bytes(range(10))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return images


def write_food(root: Path) -> None:
    """Three photographs of two dishes, laid out as Food-101."""
    names = ["apple_pie/1", "apple_pie/2", "waffles/3"]
    write_images(root / "food-101" / "images", [f"{name}.jpg" for name in names], 20, 30)
    meta = root / "food-101" / "meta"
    meta.mkdir()
    for split in ("train", "test"):
        content = {"apple_pie": names[:2], "waffles": names[2:]}
        (meta / f"{split}.json").write_text(json.dumps(content))


def test_known_set_in_memory_is_read(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    store = open_images("fashionmnist", root=tmp_path, labels_from="auto")
    assert store.source == "fashionmnist:train"
    assert store.names[3] == "fashionmnist:train#3"
    np.testing.assert_array_equal(store.image(7)[..., 1], images["train"][7])
    assert store.labels.tolist() == list(range(10))
    assert store.class_names[9] == "Ankle boot"


def test_known_set_other_split_has_other_ids(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    train = open_images("fashionmnist", root=tmp_path)
    test = open_images("fashionmnist", root=tmp_path, split="test")
    np.testing.assert_array_equal(test.image(0)[..., 0], images["t10k"][0])
    assert not set(train.ids) & set(test.ids)
    assert train.labels is None


def test_known_set_is_judged_on_its_published_test_images(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    spec = DataSpec.of("fashionmnist", needs_labels=True, root=tmp_path, limit=6)
    opened = RunData(images=spec, own_test=True).open()
    assert (opened.images.source, len(opened.images)) == ("fashionmnist:train", 6)
    assert opened.images.parts == ("test", "train")
    assert opened.test is not None
    assert (opened.test.source, len(opened.test)) == ("fashionmnist:test", 10)
    assert RunData(images=spec).open().test is None  # pretraining reads none of them
    training = replace(spec, split="train")
    assert RunData(images=training, own_test=True).open().test is None


def test_known_set_is_read_whole(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    store = open_images("fashionmnist", root=tmp_path, split="all", labels_from="auto")
    assert (len(store), store.labels.tolist()) == (20, [*range(10), *range(10)])
    assert (store.names[0], store.names[10]) == ("fashionmnist:train#0", "fashionmnist:test#0")
    copies = coview.duplicates("fashionmnist", root=tmp_path, out=tmp_path / "copies.csv")
    assert set(copies.parts) == {"train", "test"}


def test_known_set_says_which_part_is_missing(tmp_path: Path) -> None:
    write_food(tmp_path)
    (tmp_path / "food-101" / "meta" / "test.json").unlink()
    assert len(open_images("food101", root=tmp_path)) == 3
    with pytest.raises(DataError, match=r"The test part of 'food101' .* another part by `split`"):
        open_images("food101", root=tmp_path, split="all")


def test_images_of_a_part_without_labels_have_none() -> None:
    class Set(list):
        classes = ("plane", "bird")
        labels = property(np.array)

    parts = [Set([0, 1]), Set([-1, -1, -1])]
    numbers, classes = _labels_of_all(parts, KNOWN_SETS["stl10"])
    assert (numbers.tolist(), classes) == ([0, 1, -1, -1, -1], Set.classes)
    assert _labels_of_all(parts[1:], KNOWN_SETS["stl10"]) == (None, ())


def test_known_set_of_files_is_read(tmp_path: Path) -> None:
    write_food(tmp_path)
    store = open_images("food101", root=tmp_path, labels_from="column", short_side=10)
    assert store.class_names == ("apple_pie", "waffles")
    assert store.labels.tolist() == [0, 0, 1]
    assert (store.heights[0], store.widths[0]) == (10, 15)


def test_known_set_broken_file_goes_to_quarantine(tmp_path: Path) -> None:
    write_food(tmp_path)
    (tmp_path / "food-101" / "images" / "waffles" / "3.jpg").write_bytes(b"no")
    store = open_images("food101", root=tmp_path, allow_broken=True)
    assert [name for name, _ in store.quarantine] == ["food101:train#2"]


def test_known_set_lies_in_the_cache_by_default(tmp_path: Path) -> None:
    write_mnist(tmp_path / "torchvision")
    assert len(open_images("fashionmnist", cache=tmp_path)) == 10


@pytest.mark.parametrize("name", sorted(KNOWN_SETS))
def test_known_set_absent_says_how_to_get_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network must not be used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DataError, match=r"with `download`|needs another package"):
        open_images(name, root=tmp_path / "nothing")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_known_set_is_downloaded_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(datasets.FashionMNIST, "download", lambda self: asked.append(self.root))
    write_mnist(tmp_path)
    open_images("fashionmnist", root=tmp_path)
    assert asked == []
    open_images("fashionmnist", root=tmp_path, download=True)
    assert len(asked) == 1


def test_known_set_failed_download_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.FashionMNIST, "download", fail)
    with pytest.raises(DataError, match=r"could not be downloaded.*no route to host"):
        open_images("fashionmnist", root=tmp_path, download=True)


@pytest.mark.parametrize("name", sorted(KNOWN_SETS))
def test_known_set_table_agrees_with_torchvision(name: str) -> None:
    known = KNOWN_SETS[name]
    kind = getattr(datasets, known.kind)
    sources = "".join(
        inspect.getsource(c) for c in kind.__mro__[:-1] if "torchvision" in c.__module__
    )
    assert f"self.{known.labels}" in sources
    parameters = inspect.signature(kind).parameters
    for options in known.splits.values():
        assert set(options) <= set(parameters)
        if "split" in options:
            assert f'"{options["split"]}"' in sources


def test_known_sets_are_named_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in KNOWN_SETS if f"`{name}`" not in page] == []


def test_known_set_wrong_split_offers_the_others(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"split of cifar10 'tset'. Did you mean 'test'"):
        open_images("cifar10", split="tset", root=tmp_path)


def test_known_set_wrong_name_offers_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match=r"'cifr10'. Did you mean 'cifar10'"):
        open_images("cifr10")
    with pytest.raises(UnknownName, match="Did you mean 'scenes'"):
        open_images("scene")


def test_known_set_wrong_name_prefers_a_nearer_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_cifar").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Did you mean my_cifar\?"):
        open_images("my_cifr")


def test_known_set_name_wins_over_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "fashionmnist", ["a.png"])
    write_mnist(tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    store = open_images("fashionmnist", root="root")
    assert len(store) == 10
    assert "for the folder write ./fashionmnist" in store.notes[0]
    assert len(open_images("./fashionmnist")) == 1


def test_known_set_refuses_what_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="use 'column' or 'auto'"):
        open_images("cifar10", labels_from="folders", root=tmp_path)
    with pytest.raises(InvalidValue, match="do not apply to the data set 'cifar10'"):
        open_images("cifar10", image_column="x", root=tmp_path)


def test_open_unknown_place_of_labels_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'folders'"):
        open_images(tmp_path, labels_from="folder")


# --- the scenes ---


def test_scenes_by_name_have_size_count_and_seed() -> None:
    store = open_images("scenes", limit=12, short_side=24, seed=3)
    assert len(store) == 12
    assert store.heights.tolist() == [24] * 12
    again, other = (open_images("scenes", limit=12, short_side=24, seed=s) for s in (3, 4))
    np.testing.assert_array_equal(store.pixels, again.pixels)
    assert (store.pixels != other.pixels).any()


def test_scenes_labels_are_given_when_asked() -> None:
    assert open_images("scenes", limit=12).labels is None
    labeled = open_images("scenes", limit=12, labels_from="auto")
    assert len(labeled.class_names) == 10
    assert labeled.labels.min() >= 0


def test_scenes_test_part_is_another() -> None:
    train, test = open_images("scenes", limit=12), open_images("scenes:test", limit=12)
    same = open_images("scenes", split="test", limit=12)
    assert not set(train.ids) & set(test.ids)
    np.testing.assert_array_equal(test.pixels, same.pixels)


def test_scenes_wrong_split_or_labels_are_refused() -> None:
    with pytest.raises(UnknownName, match="split of the scenes"):
        open_images("scenes", split="val")
    with pytest.raises(InvalidValue, match="use 'column' or 'auto'"):
        open_images("scenes", labels_from="folders")
