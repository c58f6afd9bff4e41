"""The table of `coview embed` and `coview map` in embedding-atlas and FiftyOne."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import coview
from small_run import small_export


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Of 12 images of two classes, with pictures, coordinates and clusters."""
    folder = tmp_path_factory.mktemp("other")
    for number in range(12):
        path = folder / "photos" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    encoder = small_export(folder / "encoder")
    coview.embed(encoder, folder / "photos", images=True)
    return coview.map(encoder, folder / "photos", clusters="2")


def test_embedding_atlas_takes_map_and_pictures(table, tmp_path):
    atlas = pytest.importorskip("embedding_atlas.cli")
    from click.testing import CliRunner

    words = [str(table.path), "--image", "image", "--x", "x", "--y", "y"]
    result = CliRunner().invoke(
        atlas.main, [*words, "--export-application", str(tmp_path / "page")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "page" / "data" / "metadata.json").read_text())["props"]["data"]
    assert (data["projection"], data["image"]) == ({"x": "x", "y": "y"}, "image")
    taken = pq.read_table(tmp_path / "page" / "data" / "dataset.parquet")
    assert taken["name"].to_pylist() == table.names
    assert taken["class"].to_pylist() == table["class"]
    assert np.allclose(taken["x"].to_numpy(), table["x"])


def test_fiftyone_takes_paths_vectors_and_classes(table):
    fiftyone = pytest.importorskip("fiftyone")
    samples = [
        fiftyone.Sample(filepath=str(path), h=vector, label=fiftyone.Classification(label=name))
        for path, vector, name in zip(table.paths, table["h"], table["class"], strict=True)
    ]
    assert [sample.filepath for sample in samples] == [str(path) for path in table.paths]
    assert np.array_equal(samples[3].h, table["h"][3])
    assert samples[3].label.label == table["class"][3]
