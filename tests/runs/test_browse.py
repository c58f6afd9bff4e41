"""`coview browse` from a run to a page: its images, vectors, file of tags, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import coview
from coview.browsing import Annotation, BrowseServer, Change, Facet
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError, StorageError
from coview.core.images import store_from_arrays
from coview.embeddings.clusters import nested_clusters
from coview.embeddings.table import EmbeddingTable
from coview.runs.browse_facets import known_facets, verdicts
from small_run import SMALL, pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 PNG files in three class folders."""
    root = tmp_path_factory.mktemp("data") / "photos"
    images, labels = pictures(60)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "abc"[label] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "photos"
    return coview.pretrain(folder, out=out, epochs=1, labels_from="folders", **SMALL).path


def marked(facet: Facet, value: str) -> np.ndarray:
    """Which images have this mark."""
    return facet.codes >> facet.values.index(value) & 1


def collection_of(server: BrowseServer):
    return server._server.requests.collection


def test_the_images_of_the_run_are_shown_with_their_vectors(run: Path, folder: Path) -> None:
    with coview.browse(run, device="cpu") as server:
        shown = collection_of(server)
        table = EmbeddingTable.open(run / "embeddings" / "photos.parquet")
        assert len(shown) == 60
        assert np.array_equal(shown.vectors, table.vectors("h"))
        assert np.array_equal(shown.points[:, 0], table["x"].astype(np.float32))
        assert shown.points.min() >= 0
        assert shown.points.max() <= 1
        assert shown.paths == [folder / name for name in shown.store.names]
        assert shown.facets[0].values == ("a", "b", "c")
        clusters = next(facet for facet in shown.facets if facet.name.startswith("cluster_"))
        assert np.array_equal(clusters.codes, table[clusters.name])
        assert np.array_equal(shown.scores["outlier"], table["outlier"])
        verdict = next(f for f in shown.facets if f.name == "verdict")
        assert "predicted right" not in verdict.values  # nothing was predicted
        assert marked(verdict, "outlier").argmax() == table["outlier"].argmax()
        for row in (0, 59):
            with Image.open(shown.paths[row]) as picture:
                assert np.array_equal(shown.store.image(row), np.asarray(picture))


def test_a_mapped_table_is_not_mapped_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object, **__: object) -> None:
        raise AssertionError("mapped again")

    monkeypatch.setattr("coview.runs.browse_columns.mapped", again)
    with coview.browse(run, device="cpu") as server:
        assert len(collection_of(server)) == 60


def test_a_map_of_other_vectors_is_made_again(run: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(run, tmp_path / "own"))
    first = coview.map(own, clusters="4", device="cpu")
    other = coview.map(own, clusters="5", layer="z", device="cpu")
    assert not np.array_equal(other["x"], first["x"])
    counts = [int(n.removeprefix("cluster_")) for n in other.column_names if n[:8] == "cluster_"]
    assert {4, 5} <= set(counts)
    clusters = nested_clusters(torch.from_numpy(other["z"]), counts)
    for count in counts:  # none is left of the map before
        assert np.array_equal(other[f"cluster_{count}"], clusters[count])
    with coview.browse(own, device="cpu", tags=tmp_path / "tags.csv") as server:
        points = collection_of(server).points
    assert np.allclose(points[:, 0], first["x"])
    pictured = coview.embed(own, json.loads(first.metadata["coview.source"]), images=True)
    assert pictured.metadata["coview.map_layer"] == "h"
    assert np.array_equal(pictured["x"], first["x"])


def test_map_and_select_take_the_images_of_the_run_too(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = coview.map(run, device="cpu")
    assert table.path == run / "embeddings" / "photos.parquet"
    assert len(table) == 60
    assert table.class_names == ("a", "b", "c")
    assert main(["select", str(run), "--number", "2", "--device", "cpu", "--quiet"]) == 0
    assert "selections/photos.csv" in capsys.readouterr().out
    chosen = coview.select(run, folder, number=2, device="cpu")
    assert (run / "selections" / "photos.csv").read_text().count(str(chosen["path"][0])) == 1
    with pytest.raises(RunError, match=r"does not say which images are its own; .* `data`"):
        coview.map(run / "encoder", device="cpu")


def test_three_images_need_no_map(run: Path, folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        shutil.copy(folder / "a" / f"{3 * number:02d}.png", tmp_path)
    with coview.browse(run, tmp_path, device="cpu") as server:
        assert len(set(collection_of(server).points[:, 0].tolist())) == 3


def test_an_image_file_of_the_data_finds_itself(run: Path) -> None:
    with coview.browse(run, device="cpu") as server:
        shown = collection_of(server)
        for row in (3, 40):
            vector = shown.encode(shown.paths[row].read_bytes(), "dropped.png")
            assert np.allclose(vector, shown.vectors[row], atol=1e-4)
        with pytest.raises(DataError, match=r"dropped\.png cannot be used"):
            shown.encode(b"no image", "dropped.png")


def test_images_in_parquet_are_shown_in_the_order_of_the_table(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    files = sorted(folder.rglob("*.png"))[::3]
    images = [{"bytes": file.read_bytes(), "path": None} for file in files]
    pq.write_table(pa.table({"image": images, "label": [0] * 20}), tmp_path / "more.parquet")
    with coview.browse(run, tmp_path / "more.parquet", device="cpu") as server:
        shown = collection_of(server)
        assert shown.paths == [None] * 20
        for row in range(20):
            vector = shown.encode(files[row].read_bytes(), "x")
            assert np.allclose(vector, shown.vectors[row], atol=1e-4)
            assert np.array_equal(shown.store.image(row), np.asarray(Image.open(files[row])))


def test_the_table_of_embed_is_images_as_well(run: Path, folder: Path) -> None:
    table = coview.embed(run, folder, device="cpu")
    with coview.browse(run, table.path, device="cpu") as server:
        assert collection_of(server).store.names == table.names


def test_labels_lie_in_the_run_and_train_a_classifier(run: Path) -> None:
    with coview.browse(run, device="cpu") as server:
        changes = {row: Change("even" if row % 2 == 0 else "odd", ("x",)) for row in range(40)}
        server.annotations.update(changes)
    path = run / "tags" / "photos.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 40
    with coview.browse(run, device="cpu") as server:
        expected = {row: change.of(Annotation()) for row, change in changes.items()}
        assert server.annotations.by_row == expected
    finetuned = coview.finetune(
        run, path, out=run.parent / "finetuned", epochs=1, batch_size=8, no_baselines=True,
        device="cpu", workers=1,
    )  # fmt: skip
    assert finetuned.description["data"]["class_names"] == ["even", "odd"]
    path.unlink()


def test_one_file_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="`tags` has no effect with `out`"):
        coview.browse(run, out=tmp_path / "page.html", tags=tmp_path / "t.csv", device="cpu")
    out = coview.browse(run, out=tmp_path / "page.html", device="cpu")
    assert out == tmp_path / "page.html"
    text = out.read_text("utf-8")
    assert "Search by image" not in text.split('id="about">')[0]  # a file has no encoder
    about = json.loads(text.split('id="about">')[1].split("</script>")[0])
    assert about["count"] == 60
    assert len(about["static"]["sheets"]) == 1
    assert not (run / "tags").exists() or not list((run / "tags").iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"port": 70_000}, "`port` is 70000"),
        ({"out": "page.pdf"}, "`out` is page.pdf"),
        ({"tags": "tags.txt"}, "`tags` is tags.txt"),
    ],
)
def test_wrong_options_are_refused_before_the_work(
    options: dict, sentence: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("images are embedded")

    monkeypatch.setattr(sys.modules["coview.runs.browse"], "embeddings_of", opened)
    with pytest.raises(InvalidValue, match=sentence):
        coview.browse(run, **options)


def test_a_table_knows_how_its_images_are_opened(run: Path, folder: Path, tmp_path: Path) -> None:
    """Its part of the data and its column of images need not be named again."""
    content = [path.read_bytes() for path in sorted(folder.rglob("*.png"))[:8]]
    other = [b"no image"] * len(content)
    table = pa.table({"picture": other, "photo": content, "label": [0] * len(content)})
    for part in ("train", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for number, each in enumerate(content[:4] if part == "train" else content):
            (tmp_path / "data" / part / f"{number}.png").write_bytes(each)
    pq.write_table(table, tmp_path / "more.parquet")
    for data, options in (
        (tmp_path / "more.parquet", {"image_column": "photo"}), (tmp_path / "data", {"split": "test"}),
    ):  # fmt: skip
        made = coview.embed(run, data, device="cpu", out=tmp_path / "vectors.parquet", **options)
        with coview.browse(run, made.path, device="cpu", tags=tmp_path / "tags.csv") as server:
            assert len(collection_of(server)) == 8


def test_an_image_that_was_moved_is_refused_at_once(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    with coview.browse(run, copy, device="cpu", tags=tmp_path / "tags.csv") as server:
        store = collection_of(server).store
        (copy / store.names[3]).unlink()
        monkeypatch.setattr("coview.data.on_demand.time.sleep", lambda seconds: 1 / 0)
        with pytest.raises(StorageError, match="cannot be read any more"):
            store.image(3)


def test_changed_images_are_refused(run: Path, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    table = coview.embed(run, copy, device="cpu")
    (copy / "a" / "00.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 image of the table, such as a/00\.png"):
        coview.browse(run, table.path, device="cpu")


def test_predictions_of_the_run_are_verdicts(run: Path, folder: Path, tmp_path: Path) -> None:
    with coview.browse(run, device="cpu") as server:
        shown = collection_of(server)
    names, labels = list(shown.store.names), shown.store.labels
    predicted = ["abc"[label] if row % 4 else "b" for row, label in enumerate(labels)]
    metadata = {"coview.fingerprint": shown.store.fingerprint, "coview.source": json.dumps("x")}
    table = pa.table({"name": names, "class": predicted, "probability": [0.9] * 60})
    (tmp_path / "predictions").mkdir()
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "predictions" / "p.parquet")
    own = EmbeddingTable.open(run / "embeddings" / "photos.parquet")
    facets = {each.name: each for each in known_facets(tmp_path, shown.store, own)}
    wrong = np.array([p != "abc"[label] for p, label in zip(predicted, labels, strict=True)])
    codes = facets["verdict"].codes
    assert np.array_equal(codes & 2 > 0, wrong)
    assert np.array_equal(codes & 1 > 0, ~wrong)
    assert [facets["predicted"].values[k] for k in facets["predicted"].codes] == predicted
    foreign = table.replace_schema_metadata({"coview.source": json.dumps("elsewhere")})
    pq.write_table(foreign, tmp_path / "predictions" / "p.parquet")
    assert "predicted" not in {each.name for each in known_facets(tmp_path, shown.store, own)}


@pytest.mark.parametrize(
    ("source", "test", "known"),
    [
        ("own", None, True), ("other", {"source": "other"}, False), (None, None, True),
        ("own", {"source": "own"}, True), (None, {"source": "other"}, False),
        ("own", {"source": None}, False),
    ],
)  # fmt: skip
def test_test_images_of_another_folder_lend_their_predictions_to_none(
    run: Path, folder: Path, tmp_path: Path, source: str | None, test: object, known: bool
) -> None:
    with coview.browse(run, device="cpu") as server:
        shown = collection_of(server)
    saved = {"names": list(shown.store.names), "predicted": [1] * 60}
    places = {"own": shown.store.source, "other": "/data/test"}
    if source is not None:
        saved["source"] = places[source]
    data = {"class_names": ["a", "b", "c"], "source": places["own"], "opened": {"test": test}}
    (tmp_path / "predictions.json").write_text(json.dumps(saved))
    (tmp_path / "run.json").write_text(json.dumps({"data": data}))
    own = EmbeddingTable.open(run / "embeddings" / "photos.parquet")
    facets = known_facets(tmp_path, shown.store, own)
    assert ("predicted" in {each.name for each in facets}) == known


def test_verdicts_of_every_kind() -> None:
    labels, predicted = np.array([0, 0, 1, -1, 1, 1]), np.array([0, 1, 1, 0, -1, 1])
    groups, scores = np.array([7, 0, 7, 3, 3, 0]), np.array([0.1, 0.2, 0.1, 0.9, 0.2, np.nan])
    facet = verdicts(labels, predicted, groups, scores)
    marks = [facet.codes >> bit & 1 for bit in range(5)]
    assert marks[0].tolist() == [1, 0, 1, 0, 0, 1]  # right
    assert marks[1].tolist() == [0, 1, 0, 0, 0, 0]  # wrong
    assert marks[2].tolist() == [0, 0, 0, 1, 0, 0]  # the least like others
    assert marks[3].tolist() == [1, 0, 1, 1, 1, 0]  # has copies
    assert marks[4].tolist() == [1, 0, 1, 0, 0, 0]  # one of both labels is wrong


def test_equal_images_are_copies_of_each_other(run: Path, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for name in ("a/00.png", "a/03.png"):
        shutil.copy(copy / name, copy / "b" / f"copy-of-{Path(name).name}")
    with coview.browse(run, copy, labels_from="folders", device="cpu") as server:
        shown = collection_of(server)
    facets = {each.name: each for each in shown.facets}
    names = np.array(shown.store.names)
    groups = [sorted(names[facets["copies"].codes == code]) for code in range(2)]
    assert sorted(groups) == [
        ["a/00.png", "b/copy-of-00.png"], ["a/03.png", "b/copy-of-03.png"],
    ]  # fmt: skip
    assert facets["copies"].title == "Copies (equal pixels)"
    # Each has a copy in another class.
    assert marked(facets["verdict"], "copies of another class").sum() == 4


def test_near_copies_are_found_when_asked_for_and_kept(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "near"))
    rough = np.random.default_rng(7).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(rough).resize((64, 64), Image.Resampling.BICUBIC)
    picture.save(copy / "a" / "new.png")
    picture.save(copy / "b" / "again.jpg", quality=80)
    with coview.browse(run, copy, near_copies=True, labels_from="folders", device="cpu") as server:
        shown = collection_of(server)
    facets = {each.name: each for each in shown.facets}
    names = np.array(shown.store.names)
    rows = facets["copies"].codes >= 0
    assert {"a/new.png", "b/again.jpg"} <= set(names[rows])
    assert facets["copies"].title == "Copies"
    assert marked(facets["verdict"], "copies of another class")[names == "a/new.png"] == 1
    kept = EmbeddingTable.open(run / "embeddings" / "near.parquet")
    assert (np.asarray(kept["duplicate_group"]) > 0).tolist() == rows.tolist()
    monkeypatch.setattr("coview.runs.browse_columns.duplicates_in", lambda *_, **__: 1 / 0)
    with coview.browse(run, copy, near_copies=True, labels_from="folders", device="cpu"):
        pass  # they are not looked for again


def test_a_cluster_has_the_name_of_a_class_that_is_most_of_it(run: Path) -> None:
    table = EmbeddingTable.open(run / "embeddings" / "photos.parquet")
    clusters = np.arange(60) // 20
    labels = np.full(60, -1)
    labels[:9] = [0] * 5 + [1] * 4  # 5 of 9
    labels[20:24] = [0, 0, 1, 2]  # half is no majority
    store = store_from_arrays(
        np.zeros((60, 4, 4, 3), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None],
        labels=labels, class_names=("a", "b", "c"),
    )  # fmt: skip
    facets = known_facets(run, store, table.with_columns({"cluster": clusters}))
    (facet,) = [each for each in facets if each.name == "cluster"]
    assert facet.values == ("0 a", "1 mixed: a (50\u202f%), b (25\u202f%)", "2")


def test_ctrl_c_ends_the_command_quietly(run: Path) -> None:
    command = [sys.executable, "-m", "coview", "browse", str(run), "--device", "cpu"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def take_interrupts() -> None:  # a shell's job in the background ignores them, and its children
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=take_interrupts,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C ends" in line:
                break
        process.send_signal(signal.SIGINT)
        try:
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert any("http://127.0.0.1:" in line for line in lines)
    assert process.returncode == 0
    assert errors == ""
    assert rest.strip() == ""
