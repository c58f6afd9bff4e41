"""The pictures of a report: the nearest of all images, file names, and the sheet of the map."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from coview.core.images import store_from_arrays
from coview.core.run_folder import RunFolder
from coview.diagnosis.gallery import (
    MAX_SEARCHED,
    NEIGHBORS,
    PICTURE,
    QUERIES,
    _sheet,
    write_gallery,
)
from coview.views import eval_view, simclr_views
from small_run import pictures


def embed(images):
    """Colors of the four quarters as features, and the same as embeddings."""
    h = torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
    return h, h


def gallery(folder, training, held_out, size=12):
    write_gallery(
        folder, embed, training, held_out, plan=simclr_views(size), plain=eval_view(size), seed=0
    )
    with np.load(RunFolder(folder).gallery_path) as archive:
        return dict(archive)


def stores(count=60):
    pixels, labels = pictures(count)
    store = store_from_arrays(pixels, labels=labels, class_names=("a", "b", "c"))
    return store.subset(np.arange(20, count)), store.subset(np.arange(20))


@pytest.mark.parametrize("number", [1, 2, 9, 10, 17])
def test_sheet_holds_every_picture_in_its_place(number):
    grays = np.random.default_rng(0).integers(0, 256, number).astype(np.uint8)
    content, columns = _sheet(np.tile(grays[:, None, None, None], (1, 16, 16, 3)))
    pixels = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert pixels.shape[1] == columns * 16
    for place in range(number):
        row, column = (16 * at for at in divmod(place, columns))
        cell = pixels[row : row + 16, column : column + 16]
        assert np.abs(cell - grays[place]).max() < 6


def test_neighbors_are_the_nearest_of_all_training_images(tmp_path):
    training, held_out = stores()
    arrays = gallery(tmp_path, training, held_out, size=training.heights[0])
    assert arrays["searched"].tolist() == [len(training), len(training)]
    features = {}
    for store in (training, held_out):
        images = torch.stack([torch.from_numpy(store.image(i).copy()) for i in range(len(store))])
        h, _ = embed(images.movedim(3, 1).float() / 255)
        rows = torch.nn.functional.normalize(h, dim=1).numpy()
        features |= dict(zip(store.names, rows, strict=True))
    of_class = dict(zip([*training.names, *held_out.names],
                        [*training.labels, *held_out.labels], strict=True))  # fmt: skip
    assert arrays["near_names"].shape == (QUERIES, 1 + NEIGHBORS)
    for names, labels, cosines in zip(
        arrays["near_names"], arrays["near_labels"], arrays["near_cosines"], strict=True
    ):
        assert names[0] in held_out.names
        scores = {name: features[name] @ features[names[0]] for name in training.names}
        best = sorted(scores.values(), reverse=True)[:NEIGHBORS]
        assert np.allclose([scores[name] for name in names[1:]], best, atol=1e-5)
        assert np.allclose(cosines, best, atol=1e-5)
        assert [of_class[name] for name in names] == labels.tolist()


def test_pictures_are_those_of_the_names(tmp_path):
    training, held_out = stores()
    arrays = gallery(tmp_path, training, held_out)
    rows = {name: store.image(i) for store in (training, held_out)
            for i, name in enumerate(store.names)}  # fmt: skip
    side = rows[held_out.names[0]].shape[0]
    assert arrays["near_pictures"].shape[2:] == (side, side, 3)
    for name, picture in zip(
        arrays["near_names"].ravel(), arrays["near_pictures"].reshape(-1, side, side, 3),
        strict=True,
    ):  # fmt: skip
        assert np.abs(picture.astype(int) - rows[name]).max() <= 1
    columns, size = arrays["sheet_layout"]
    sheet = np.asarray(Image.open(io.BytesIO(arrays["sheet"].tobytes())))
    for i, name in enumerate(arrays["names"]):
        y, x = i // columns * size, i % columns * size
        cell = sheet[y : y + size, x : x + size].astype(int)
        assert np.abs(cell - rows[name]).mean() < 20  # JPEG


def test_pictures_of_large_images_are_small(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 150, 200, 3), dtype=np.uint8)
    store = store_from_arrays(pixels)
    arrays = gallery(tmp_path, store.subset(np.arange(4, 24)), store.subset(np.arange(4)))
    assert arrays["near_pictures"].shape == (4, 1 + NEIGHBORS, PICTURE, PICTURE, 3)
    assert arrays["near_labels"].tolist() == [[-1] * (1 + NEIGHBORS)] * 4


def test_of_more_images_a_sample_is_searched(tmp_path, monkeypatch):
    assert MAX_SEARCHED >= 10_000
    monkeypatch.setattr("coview.diagnosis.gallery.MAX_SEARCHED", 16)
    training, held_out = stores()
    arrays = gallery(tmp_path, training, held_out)
    assert arrays["searched"].tolist() == [16, len(training)]
    assert set(arrays["near_names"][:, 1:].ravel()) <= set(arrays["names"])
    assert len(arrays["names"]) == 16
