"""coview map: columns in the table of coview embed, and what the terminal shows of them."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, MissingExtra
from coview.embeddings import map as maps
from coview.embeddings.outliers import outlier_scores
from coview.embeddings.table import EmbeddingTable
from coview.runs.map import clusters_in
from small_run import small_export

COUNT = 36


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return small_export(tmp_path_factory.mktemp("encoders") / "small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Red, green and blue noise in folders of their names."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = generator.integers(0, 80, (20, 20, 3), dtype=np.uint8)
        pixels[..., number % 3] += 160
        path = folder / ("red", "green", "blue")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def mapped(encoder, photos):
    return coview.map(encoder, photos, clusters="3,6", device="cpu")


def test_the_columns_are_written_into_the_table_of_embed(mapped, encoder, photos):
    again = EmbeddingTable.open(encoder / "embeddings" / "photos.parquet")
    assert mapped.path == again.path
    for name in ("x", "y", "cluster_3", "cluster_6", "outlier"):
        assert (again[name] == mapped[name]).all()
    assert coview.embed(encoder, photos, device="cpu")["x"].tolist() == again["x"].tolist()


def test_columns_are_those_of_the_functions(mapped):
    rows = torch.from_numpy(mapped.vectors("h"))
    assert np.allclose(mapped["outlier"], outlier_scores(rows))
    points = maps.tsne(rows).numpy()
    assert np.allclose(np.stack([mapped["x"], mapped["y"]], 1), points)
    assert sorted(np.unique(mapped["cluster_6"])) == list(range(6))


def test_clusters_of_colors_are_named_by_their_class(mapped):
    by_size = clusters_in(mapped)
    assert list(by_size) == [3, 6]
    assert sum(cluster.size for cluster in by_size[3]) == COUNT
    words = {cluster.class_sentence(mapped.class_names) for cluster in by_size[3]}
    assert words == {
        "mostly red (100\u202f%)",
        "mostly green (100\u202f%)",
        "mostly blue (100\u202f%)",
    }


def test_a_table_of_its_own_leaves_that_of_embed(encoder, photos, tmp_path):
    plain = coview.embed(encoder, photos, out=tmp_path / "plain.parquet", device="cpu")
    table = coview.map(encoder, plain.path, out=tmp_path / "map.parquet", seed=1)
    assert table.path == tmp_path / "map.parquet"
    assert "x" not in EmbeddingTable.open(plain.path).column_names
    assert "cluster_4" in table.column_names  # the default: an eighth of 36 images


def test_the_command_prints_clusters_and_outliers(encoder, photos, capsys):
    words = ["map", str(encoder), str(photos), "--clusters", "3", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    streams = capsys.readouterr()
    answer = json.loads(streams.out)
    assert answer["images"] == COUNT
    assert [cluster["size"] for cluster in answer["clusters"]["3"]] == [12, 12, 12]
    assert len(answer["unlike"]) == 5
    assert "mostly red (100\u202f%)" in streams.err
    assert "Most unlike all others: " in streams.err


def test_a_mistake_is_said_before_images_are_read(encoder):
    for clusters in ("", "3,", "0", "two", "-1", "1.5"):
        with pytest.raises(InvalidValue, match="separated by commas"):
            coview.map(encoder, "nowhere", clusters=clusters)
    with pytest.raises(InvalidValue, match="at least 4"):
        coview.map(encoder, "nowhere", landmarks=3)
    with pytest.raises(InvalidValue, match=r"\.parquet"):
        coview.map(encoder, "nowhere", out="map.csv")


def test_too_few_images_and_too_many_clusters_are_one_sentence(encoder, photos):
    with pytest.raises(InvalidValue, match="from 1 to 36"):
        coview.map(encoder, photos, clusters="3,37", device="cpu")
    with pytest.raises(DataError, match="Only 3 images; a map needs at least 4"):
        coview.map(encoder, photos, limit=3, device="cpu")


def test_without_the_extra_many_landmarks_are_refused(encoder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"coview\[map\]"):
        coview.map(encoder, "nowhere", landmarks=20_000)


def test_it_is_said_which_images_are_placed_beside_others(encoder, photos, capsys, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "openTSNE" else known(name)
    )
    table = coview.map(encoder, photos, landmarks=20, device="cpu")
    text = capsys.readouterr().out
    assert "t-SNE of 20 images by scikit-learn; the other 16 are placed" in text
    assert "The extra map (openTSNE)" in text
    rows = torch.from_numpy(table.vectors("h"))
    assert np.allclose(table["x"], maps.landmark_tsne(rows, landmarks=20)[:, 0])


def test_star_import_leaves_the_map_of_python():
    assert "map" not in coview.__all__
    assert "map" in dir(coview)
