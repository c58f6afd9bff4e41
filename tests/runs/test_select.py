"""coview select: tables of choices, what is labeled already, copies."""

import csv
import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError, UnknownName, UnreadableFile
from coview.embeddings.selection import select_rows
from small_run import small_export

COUNT = 24


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return small_export(tmp_path_factory.mktemp("encoders") / "small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    for number in range(COUNT):
        draw(folder / f"{number:02}.png", number)
    return folder


@pytest.fixture
def select(encoder, photos):
    def call(**settings):
        return coview.select(encoder, photos, device="cpu", **settings)

    return call


def names_of(selection):
    return selection["name"].to_pylist()


def test_choices_are_those_of_the_function_with_their_files(select, encoder, photos):
    selection = select(number=5, strategy="k-center")
    table = coview.embed(encoder, photos, device="cpu")
    choices = select_rows(torch.from_numpy(table.vectors("h")), 5, "k-center")
    assert names_of(selection) == [table.names[choice.row] for choice in choices]
    assert selection["reason"].to_pylist() == [choice.reason for choice in choices]
    assert selection["path"].to_pylist() == [str(photos / name) for name in names_of(selection)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["name", "path"])
def test_a_selection_is_what_is_labeled_in_the_next(select, tmp_path, ending, column):
    first = select(number=6, out=tmp_path / f"first.{ending}")
    kept = tmp_path / f"kept.{ending}"
    if ending == "csv":
        rows = list(csv.DictReader((tmp_path / "first.csv").read_text().splitlines()))
        assert [row["order"] for row in rows] == list("123456")
        kept.write_text("\n".join([column, *(row[column] for row in rows)]))
    else:
        pq.write_table(pq.read_table(tmp_path / "first.parquet").select([column]), kept)
    second = select(number=6, labeled=kept)
    # Greedy coverage goes on where it stopped.
    assert names_of(first) + names_of(second) == names_of(select(number=12))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_images_with_tags_alone_are_not_labeled(select, tmp_path, ending):
    rows = {
        "name": ["00.png", "01.png", "02.png", "03.png"],
        "label": ["cat", "", None, "-1"],
        "tags": ["", "x", "x", "x"],
    }
    tags = tmp_path / f"tags.{ending}"
    if ending == "csv":
        lines = zip(*([value or "" for value in column] for column in rows.values()), strict=True)
        tags.write_text("\n".join(map(",".join, [tuple(rows), *lines])))
    else:
        pq.write_table(pa.table(rows), tags)
    assert set(names_of(select(number=COUNT - 1, labeled=tags))) >= {"01.png", "02.png", "03.png"}
    with pytest.raises(InvalidValue, match="expected at most 23, of 24 images, 1 of them labeled"):
        select(number=COUNT, labeled=tags)


def test_labeled_images_are_found_by_their_pixels(select, photos, tmp_path):
    first = select(number=4, strategy="k-center")
    for number, path in enumerate(first["path"].to_pylist()):
        shutil.copy(path, tmp_path / f"labeled{number}.png")
    images = [tmp_path / f"labeled{number}.png" for number in range(4)]
    second = select(number=4, strategy="k-center", labeled=[images])
    whole = names_of(select(number=8, strategy="k-center"))
    assert names_of(second) == whole[4:]


def test_labeled_images_from_elsewhere_count_as_chosen(select, encoder, photos, tmp_path):
    draw(tmp_path / "elsewhere" / "a.png", 100)
    table = coview.embed(encoder, photos, device="cpu")
    other = coview.embed(encoder, tmp_path / "elsewhere", device="cpu")
    rows = torch.from_numpy(np.concatenate([table.vectors("h"), other.vectors("h")]))
    choices = select_rows(rows, 3, "k-center", labeled=np.array([COUNT]))
    selection = select(number=3, strategy="k-center", labeled=tmp_path / "elsewhere", limit=COUNT)
    assert names_of(selection) == [table.names[choice.row] for choice in choices]


def test_more_than_there_are_is_one_sentence(select, tmp_path):
    (tmp_path / "known.csv").write_text("name\n00.png\n01.png\n")
    draw(tmp_path / "elsewhere" / "a.png", 100)
    labeled = [tmp_path / "known.csv", tmp_path / "elsewhere"]
    with pytest.raises(
        InvalidValue, match="expected at most 22, of 24 images, 2 of them labeled already"
    ):
        select(number=23, labeled=labeled)
    assert len(select(number=22, labeled=labeled)) == 22


def test_too_many_are_refused_before_any_image_is_embedded(select, monkeypatch):
    monkeypatch.setattr("coview.runs.embed.update_table", lambda *_: 1 / 0)
    with pytest.raises(InvalidValue, match="`number` is 200; expected at most 24, of 24 images"):
        select(number=200, limit=24, seed=3)


def test_names_that_are_not_there_are_named(select, tmp_path):
    (tmp_path / "known.csv").write_text("name\n00.png\nother.png\n")
    with pytest.raises(
        DataError, match=r"names 1 image not .* such as other.png; .* like '00.png'"
    ):
        select(number=2, labeled=tmp_path / "known.csv")
    (tmp_path / "known.csv").write_text("weight\n3\n")
    with pytest.raises(DataError, match="no column of images"):
        select(number=2, labeled=tmp_path / "known.csv")


def test_copies_are_numbered_in_order_and_replace_nothing(select, tmp_path):
    selection = select(number=3, copy_to=tmp_path / "label me")
    copies = sorted(path.name for path in (tmp_path / "label me").iterdir())
    expected = [f"{order:04}-{name}" for order, name in enumerate(names_of(selection), start=1)]
    assert copies == expected
    with pytest.raises(RunError, match="new folder"):
        select(number=3, copy_to=tmp_path / "label me")


def test_a_file_that_is_gone_is_named(photos, tmp_path):
    module = sys.modules["coview.runs.select"]
    gone = photos / "gone.png"
    with pytest.raises(UnreadableFile, match=r"gone\.png cannot be read: No such file"):
        module.copy_files([photos / "00.png", gone], tmp_path / "copies")


def test_images_in_memory_have_no_files_to_copy(encoder, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), dtype=np.uint8)
    selection = coview.select(encoder, images, number=2, device="cpu")
    assert selection["path"].to_pylist() == [None, None]
    with pytest.raises(DataError, match="no files of their own"):
        coview.select(
            encoder, images, number=2, device="cpu", copy_to=tmp_path / "copies",
            out=tmp_path / "list.csv",
        )  # fmt: skip
    assert not (tmp_path / "list.csv").exists()  # the next list would not be the first


def test_mistakes_are_said_before_images_are_read(encoder, tmp_path):
    with pytest.raises(InvalidValue, match="how many images"):
        coview.select(encoder, "nowhere")
    with pytest.raises(UnknownName, match="Did you mean 'typical'"):
        coview.select(encoder, "nowhere", number=2, strategy="typicle")
    with pytest.raises(InvalidValue, match=r"\.csv or \.parquet"):
        coview.select(encoder, "nowhere", number=2, out=tmp_path / "chosen.txt")


def test_the_command_writes_a_list_and_prints_its_beginning(encoder, photos, capsys):
    words = ["select", str(encoder), str(photos), "--number", "12", "--device", "cpu"]
    assert main([*words, "--labeled", str(photos / "00.png"), "--json"]) == 0
    streams = capsys.readouterr()
    answer = json.loads(streams.out)
    assert len(answer["images"]) == 12
    assert "00.png" not in {row["name"] for row in answer["images"]}
    assert answer["path"].endswith("selections/photos.csv")
    assert "And 2 more; the whole list" in streams.err
    assert isinstance(pa.array([row["order"] for row in answer["images"]]), pa.Int64Array)


def test_a_relative_path_begins_at_the_folder_of_a_table_named_without_one(
    select, photos, monkeypatch, tmp_path
):
    monkeypatch.chdir(photos.parent)
    path = photos.parent / "done.csv"
    path.write_text("path,label\nphotos/03.png,x\n")
    chosen = select(number=COUNT - 1, labeled="done.csv", data="photos")
    assert "03.png" not in chosen["name"].to_pylist()
    path.unlink()


def test_the_default_list_replaces_none(encoder, photos, tmp_path, capsys):
    run = shutil.copytree(encoder, tmp_path / "copy", ignore=shutil.ignore_patterns("selections"))
    words = ["select", str(run), str(photos), "--number", "3", "--device", "cpu", "--json"]
    paths = []
    for _ in range(3):
        assert main(words) == 0
        paths.append(json.loads(capsys.readouterr().out)["path"])
    lists = [run / "selections" / f"photos{number}.csv" for number in ("", "-2", "-3")]
    assert paths == [str(path) for path in lists]
    assert all(path.exists() for path in lists)


def test_nothing_left_to_choose_is_one_sentence(select, photos):
    with pytest.raises(InvalidValue, match="All 24 images are labeled: none is left"):
        select(number=2, labeled=[photos])
