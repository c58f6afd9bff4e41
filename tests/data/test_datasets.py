"""Data sets of torch and of Hugging Face as sources."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_files import encoded, picture
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

import coview
from coview.core.errors import DataError, InvalidValue, RunError, UnknownName
from coview.data import open_images
from coview.data.spec import DataSpec
from small_run import SMALL, pictures

FORMS = {
    "pillow": lambda image: Image.fromarray(image),
    "array": lambda image: image,
    "tensor": lambda image: torch.from_numpy(image).permute(2, 0, 1),
    "float tensor": lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
}


class Pictures(Dataset):
    """Eight pictures; ``item`` makes an item of (image, label)."""

    def __init__(self, item, count=8):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        if row >= self.count:
            raise IndexError(row)
        return self.item(picture(seed=row), row % 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["image", "pair", "mapping"])
def test_items_of_every_form_give_the_same_pixels(form, around):
    make = FORMS[form]
    item = {
        "image": lambda image, label: make(image),
        "pair": lambda image, label: (make(image), label),
        "mapping": lambda image, label: {"image": make(image), "label": torch.tensor(label)},
    }[around]
    store = open_images(Pictures(item))
    assert len(store) == 8
    assert all((store.image(row) == picture(seed=row)).all() for row in range(8))
    if around != "image":
        store = open_images(Pictures(item), labels_from="column")
        assert store.labels.tolist() == [row % 3 for row in range(8)]


def test_a_data_loader_gives_its_data_set_with_a_sentence():
    loader = DataLoader(Pictures(lambda image, label: (image, label)), batch_size=4, shuffle=True)
    store = open_images(loader)
    assert store.names[:2] == ["dataset#0", "dataset#1"]
    assert "Coview augments, shuffles and batches by itself" in store.notes[0]


def test_labels_that_a_data_set_states_are_taken_without_its_items():
    data = Pictures(lambda image, label: image)
    data.targets, data.classes = [0, 1, 1, 0, 0, 1, 0, 0], ["cat", "dog"]
    store = open_images(data, labels_from="auto")
    assert store.class_names == ("cat", "dog")
    assert store.labels.tolist() == data.targets
    part = open_images(Subset(data, [2, 3]), labels_from="auto")
    assert (part.labels.tolist(), part.class_names) == ([1, 0], ("cat", "dog"))


def test_labels_that_are_texts_have_the_stated_order_of_classes():
    """The order of the classes is that of the data set, also where it is not the alphabet's."""
    data = Pictures(lambda image, label: image)
    data.targets, data.classes = ["dog", "cat"] * 4, ["dog", "cat"]
    store = open_images(data, labels_from="auto")
    assert [store.class_names[label] for label in store.labels] == data.targets


def test_labels_of_items_cost_a_pass_only_where_they_are_needed():
    read = []
    data = Pictures(lambda image, label: read.append(label) or (image, "abc"[label]))
    assert open_images(data, labels_from="auto").labels is None
    assert len(read) == 1 + 8
    store = open_images(data, labels_from="auto", needs_labels=True)
    assert store.class_names == ("a", "b", "c")


def test_an_item_that_fails_is_in_the_ledger():
    def item(image, label):
        if label == 2:
            raise OSError("disk gone")
        return image

    store = open_images(Pictures(item), allow_broken=True)
    assert len(store) == 6
    assert store.quarantine[0] == ("dataset#2", "OSError('disk gone')")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (Pictures(lambda image, label: torch.randn(3, 4, 4)), "floats in"),
        (Pictures(lambda image, label: {"a": 1}), "a mapping with the keys a"),
        (Pictures(lambda image, label: image, count=0), "is empty"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(), "no length"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_one_sentence(data, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        open_images(data)


def test_a_key_that_is_not_there_names_the_nearest():
    data = Pictures(lambda image, label: {"photo_rgb": image, "kind": label})
    assert len(open_images(data, image_column="photo_rgb", label_column="kind")) == 8
    with pytest.raises(UnknownName, match="'photo_rgb'"):
        open_images(data, image_column="foto_rgb")
    with pytest.raises(InvalidValue, match="name them by `label_column`"):
        open_images(data, image_column="photo_rgb", labels_from="column")


class Feature:
    """As datasets.Image: a column of images, decoded or not."""

    def __init__(self, decode=True):
        self.decode = decode


class HubSet:
    """What is used of datasets.Dataset, with an image column and class names."""

    def __init__(self, count=6, feature=None, labels=None):
        names = ["cat", "dog"] if labels is None else None
        self.labels = labels
        self.features = {
            "img": feature or Feature(), "label": SimpleNamespace(names=names),
        }  # fmt: skip
        self.column_names, self.count, self._fingerprint = list(self.features), count, "f1"

    def __len__(self):
        return self.count

    def with_format(self, kind):
        return self

    def cast_column(self, name, feature):
        return HubSet(self.count, feature, self.labels)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.labels or [row % 2 for row in range(self.count)]
        assert not self.features["img"].decode
        return {"img": {"bytes": encoded(picture(seed=key)), "path": None}, "label": key % 2}


def test_a_hugging_face_set_is_read_undecoded_with_its_class_names():
    store = open_images(HubSet(), labels_from="auto")
    assert store.class_names == ("cat", "dog")
    assert store.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert (store.image(5) == picture(seed=5)).all()
    parts = {"train": HubSet(6), "test": HubSet(2)}
    assert len(open_images(parts)) == 6
    assert len(open_images(parts, split="test")) == 2


def test_labels_of_a_hugging_face_set_are_plain_or_refused():
    store = open_images(HubSet(3, labels=[True, 0.0, float("nan")]), labels_from="auto")
    assert (store.class_names, store.labels.tolist()) == (("0", "1"), [1, 0, -1])
    with pytest.raises(DataError, match=r"'label' of the data set has \[1, 2\]; labels are whole"):
        open_images(HubSet(1, labels=[[1, 2]]), labels_from="auto")


def test_the_real_library_gives_the_same():
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(picture(seed=row)) for row in range(6)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    data = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 3}, features=features)
    store = open_images(data, labels_from="auto")
    assert store.class_names == ("cat", "dog")
    assert (store.image(5) == picture(seed=5)).all()


def test_a_run_on_a_data_set_goes_on_with_the_same_one(tmp_path):
    images, labels = pictures(120)

    class Rows(Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, row):
            return images[row], int(labels[row])

    run = coview.pretrain(Rows(), out=tmp_path / "run", epochs=1, **SMALL)
    assert run.is_ended
    assert DataSpec.of(Rows()).source is None
    with pytest.raises(RunError, match="were in memory; give the same ones again as `data`"):
        run.data.images.open()
    assert len(coview.embed(run.path, Rows())) == len(images)
    assert np.array_equal(run.data.open(Rows()).images.ids, open_images(Rows()).ids)


def test_one_thread_at_a_time_reads_items_that_are_decoded_on_demand():
    inside = []

    def item(image, label):
        inside.append(1)
        time.sleep(0.001)
        assert len(inside) == 1
        inside.pop()
        return Image.fromarray(image)

    store = open_images(Pictures(item), memory_share=0, cache="none")
    assert store.decoder is not None
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(store.image, range(8)))
    assert all((image == picture(seed=row)).all() for row, image in enumerate(images))


def test_parts_of_a_mapping_have_any_of_their_names_and_are_read_one_by_one():
    parts = {
        name: Pictures(lambda image, _: image, count)
        for name, count in (("train", 8), ("validation", 2))
    }
    assert len(open_images(parts, for_test=True)) == len(open_images(parts, split="val")) == 2
    with pytest.raises(InvalidValue, match="expected one of train, validation"):
        open_images(parts, split="all")
