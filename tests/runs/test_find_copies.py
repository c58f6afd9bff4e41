"""The command and the function: table, page and sentences of a folder with known copies."""

import csv
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import coview
from coview.cli.main import main
from coview.core.errors import DataError, InvalidValue
from coview.embeddings import EmbeddingTable
from coview.options import DuplicatesOptions
from coview.runs.duplicates import default_table
from small_run import SMALL, pictures


def picture(seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((80, 60), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """24 images of two classes; three of them have copies."""
    for name, seed in [(f"{'ab'[i % 2]}/{i:02}.png", i) for i in range(24)]:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path)
    picture(4).save(tmp_path / "data/a/same.png")
    picture(5).save(tmp_path / "data/a/wrong.jpg", quality=80)
    picture(6).crop((8, 3, 80, 60)).save(tmp_path / "data/a/<crop>.png")
    return tmp_path


def test_table_page_and_sentences(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["duplicates", "data"]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "group" in line]
    assert lines[0].startswith("1 group of copies has contradicting labels: ")
    assert "a/wrong.jpg [a] = b/05.png [b] (re-encoded)" in printed
    assert "3 groups of copies among 27 images; 3 surplus copies (11.1%)" in printed
    with open("duplicates/data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [
        "a/wrong.jpg", "b/05.png", "a/04.png", "a/same.png", "a/06.png", "a/<crop>.png",
    ]  # fmt: skip
    assert [row["duplicate_group"] for row in rows] == ["1", "1", "2", "2", "3", "3"]
    assert [row["labels_contradict"] for row in rows] == ["true"] * 2 + ["false"] * 4
    kinds = {row["name"]: row["kind"] for row in rows}
    assert kinds["a/same.png"] == "identical pixels"
    assert kinds["a/<crop>.png"].startswith("cropped to 8")
    page = (folder / "duplicates/data.html").read_text()
    assert page.index('id="labels"') < page.index('id="copies"')
    assert "<crop>" not in page
    assert page.count("data:image/jpeg") == 6
    assert "1 group of copies has contradicting labels.</p>" in page


def test_the_doctor_names_the_copy_under_another_label_as_a_problem(folder):
    report = coview.doctor(folder / "data")
    (found,) = (each for each in report.findings if each.name == "near copies")
    assert found.level == "problem"
    assert "1 pair under different labels (a/wrong.jpg ~ b/05.png" in found.sentence
    assert "Correct the labels" in found.fix


def test_the_ending_decides_and_python_has_the_same_options(folder, capsys):
    result = coview.duplicates(str(folder / "data"), out=folder / "copies.parquet")
    table = pq.read_table(folder / "copies.parquet")
    assert table.num_rows == 6
    assert table.column("duplicate_group").to_pylist() == [1, 1, 2, 2, 3, 3]
    assert (folder / "copies.html").exists()
    assert len(result.column) == 27
    assert result.column.max() == 3
    coview.duplicates(str(folder / "data"), out=folder / "page.html", labels_from="none")
    assert not list(folder.glob("page.[cp]*"))
    assert "Contradicting" not in (folder / "page.html").read_text()
    with pytest.raises(InvalidValue, match=r"ends in \.csv or \.parquet or \.html"):
        coview.duplicates(str(folder / "data"), out=folder / "copies.npy")
    with pytest.raises(InvalidValue, match="`similarity` is 2"):
        coview.duplicates(str(folder / "data"), similarity=2)


def test_leaks_between_two_sources_and_between_parts(folder, capsys):
    test = folder / "other"
    for name in ("a/x.png", "b/y.png"):
        (test / name).parent.mkdir(parents=True, exist_ok=True)
    picture(100).save(test / "a/x.png")
    picture(7).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(test / "b/y.png")
    result = coview.duplicates(str(folder / "data"), test=str(test), out=folder / "leaks.html")
    assert [group.leaks for group in result.groups] == [False, True, False, False]
    (leak,) = (group for group in result.groups if group.leaks)
    assert [result.names[row] for row in leak.rows] == ["b/07.png", "b/y.png"]
    assert [result.parts[row] for row in leak.rows] == ["data", "other"]
    assert leak.pairs[0].kind == "flipped"
    assert not leak.contradicts
    (sentence,) = [each for each in result.sentences() if "memory" in each]
    assert sentence.startswith(
        "1 group of copies is in both data and other: b/07.png [b] = b/y.png"
    )
    page = (folder / "leaks.html").read_text()
    assert "<h1>Copies in data and other</h1>" in page
    assert "of copies among 29 images of data and other; " in page
    parts = folder / "parts"
    parts.mkdir()
    (folder / "data").rename(parts / "train")
    test.rename(parts / "val")
    both = coview.duplicates(str(parts))
    assert [group.leaks for group in both.groups] == [False, True, False, False]
    assert len(both.names) == 29


def test_parts_of_parquet_and_tar_files_are_those_of_their_names(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seeds = {"train-00000-of-00002": (0, 1), "train-00001-of-00002": (2, 3), "test-0": (4, 1)}
    for kind in ("parquet", "tar"):
        (tmp_path / kind / "data").mkdir(parents=True)
        for name, numbers in seeds.items():
            images = []
            for seed in numbers:
                content = io.BytesIO()
                picture(seed).save(content, "PNG")
                images.append(content.getvalue())
            path = tmp_path / kind / "data" / f"{name}.{kind}"
            if kind == "parquet":
                pq.write_table(pa.table({"image": images}), path)
                continue
            with tarfile.open(path, "w") as archive:
                for number, content in enumerate(images):
                    member = tarfile.TarInfo(f"{number}.png")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        result = coview.duplicates(kind)
        (group,) = result.groups
        assert group.leaks
        assert sorted(result.parts[row] for row in group.rows) == ["test", "train"]
        (sentence, _) = result.sentences()
        assert sentence.startswith("1 group of copies is in more than one part: ")


def test_a_fault_of_the_images_does_not_open_another_part_of_them(folder):
    (folder / "parts").mkdir()
    (folder / "data").rename(folder / "parts" / "train")
    (folder / "parts" / "test").mkdir()
    for number in range(9):
        (folder / "parts" / "test" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"9 of 36 images in .* cannot be used"):
        coview.duplicates(folder / "parts")


def test_with_an_encoder_the_groups_are_in_its_table_of_vectors_too(folder, monkeypatch):
    data = str(folder / "data")
    run = coview.pretrain(pictures(80), out=folder / "run", epochs=1, **SMALL)
    coview.embed(run.path, data)
    # The vectors are those of the table: nothing is embedded again.
    monkeypatch.setattr("coview.evaluation.extract", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("coview.runs.embed_rows.vectors_of_parts", lambda *_, **__: 1 / 0)
    result = coview.duplicates(data, with_=run.path)
    alone = coview.duplicates(data)
    assert [group.rows for group in result.groups] == [group.rows for group in alone.groups]
    table = coview.embed(run.path, data)
    assert dict(zip(table.names, table["duplicate_group"].tolist(), strict=True)) == dict(
        zip(result.names, result.column.tolist(), strict=True)
    )
    assert result.column.max() == 3


def test_of_data_with_parts_the_vectors_are_kept_and_every_table_has_its_groups(folder):
    (folder / "parts").mkdir()
    (folder / "data").rename(folder / "parts" / "train")
    picture(7).save(folder / "parts" / "train" / "b" / "other name.png")
    (folder / "parts" / "val" / "b").mkdir(parents=True)
    picture(7).save(folder / "parts" / "val" / "b" / "leak.png")
    run = coview.pretrain(pictures(80), out=folder / "run", epochs=1, **SMALL).path
    some = coview.embed(run, folder / "parts", limit=5).path
    train = coview.embed(run, folder / "parts").path
    result = coview.duplicates(folder / "parts", with_=run)
    assert sum(group.leaks for group in result.groups) == 1
    group = dict(zip(result.names, result.column.tolist(), strict=True))
    for path in (some, train, train.with_name("parts-all.parquet")):
        table = EmbeddingTable.open(path)
        assert table["duplicate_group"].tolist() == [group[name] for name in table.names]
    # Of images that were not compared nothing is known: their table keeps what it says.
    coview.duplicates(folder / "parts", with_=run, limit=4)
    assert EmbeddingTable.open(train)["duplicate_group"].max() == len(result.groups)


def test_nothing_found_and_json(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["duplicates", "scenes", "--limit", "30", "--json", "--quiet"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["groups"] == 0
    assert answer["images"] == 30
    assert answer["path"] == "duplicates/scenes-limit-30.csv"
    assert (folder / answer["path"]).read_text().startswith('"duplicate_group","name"')
    page = (folder / answer["path"]).with_suffix(".html")
    assert "No copies among 30 images." in page.read_text()
    assert "Similarity is" not in page.read_text()


def test_a_table_replaces_none_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = DuplicatesOptions(data="scenes")
    assert default_table(images) == Path("duplicates/scenes.csv")
    assert default_table(replace(images, test="scenes:test", split="val")) == Path(
        "duplicates/scenes-val-and-scenes-test.csv"
    )
    Path("duplicates").mkdir()
    Path("duplicates/scenes.html").touch()  # a page alone
    assert default_table(images) == Path("duplicates/scenes-2.csv")
