"""Tags and labels in a file: whole, kept, readable by every command that takes labeled images."""

import csv
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_table import annotations_of, drawn

from coview.browsing import Annotation, Annotations, Change
from coview.core.errors import DataError, InvalidValue, StorageError
from coview.data import open_images
from coview.data.labels import label_subset

CHANGES = {
    0: Change("cat", ("nice, very", 'a "quoted" one')),
    5: Change("dog"),
    7: Change("", ("blurred",)),
}
WRITTEN = {row: change.of(Annotation()) for row, change in CHANGES.items()}


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_what_is_written_is_there_at_the_next_start(tmp_path: Path, ending: str) -> None:
    collection, path = drawn(), tmp_path / f"tags{ending}"
    annotations_of(collection, path).update(CHANGES)
    again = annotations_of(collection, path)
    assert again.by_row == WRITTEN
    again.update({5: Change(""), 6: Change("cat")})
    expected = {row: value for row, value in WRITTEN.items() if row != 5}
    assert annotations_of(collection, path).by_row == {**expected, 6: Annotation("cat")}


def test_csv_and_parquet_hold_the_same_table(tmp_path: Path) -> None:
    collection = drawn(folder=tmp_path)
    for ending in ("csv", "parquet"):
        annotations_of(collection, tmp_path / f"tags.{ending}").update(CHANGES)
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    rows = pq.read_table(tmp_path / "tags.parquet").to_pylist()
    assert lines == [{**row, "id": str(row["id"])} for row in rows]
    assert [line["path"] for line in lines] == ["ci/000.png", "b/005.png", "cr/007.png"]
    assert lines[0]["tags"] == 'a "quoted" one;nice, very'
    assert int(lines[0]["id"]) == collection.store.ids[0]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_file_is_labeled_data_for_every_command(tmp_path: Path, ending: str) -> None:
    """It lies elsewhere than the images here, so that its paths are absolute."""
    collection, path = drawn(folder=tmp_path / "images"), tmp_path / "notes" / f"tags{ending}"
    changes = {row: Change("cat" if row % 2 else "dog", ("x",)) for row in range(20)}
    annotations_of(collection, path).update({**changes, 20: Change("", ("x",))})
    store = open_images(path, labels_from="auto", needs_labels=True)
    assert store.class_names == ("cat", "dog")
    assert store.labels is not None
    assert store.labels.tolist() == [0 if row % 2 else 1 for row in range(20)] + [-1]
    for row in (0, 7, 20):
        assert np.array_equal(store.image(row), collection.store.image(row))
    assert len(label_subset(store, "5-per-class")) == 10


def test_relative_paths_move_with_the_folder(tmp_path: Path) -> None:
    collection = drawn(folder=tmp_path / "a" / "images")
    annotations_of(collection, tmp_path / "a" / "tags.csv").update({0: Change("cat")})
    (tmp_path / "a").rename(tmp_path / "b")
    assert len(open_images(tmp_path / "b" / "tags.csv", labels_from="auto")) == 1


def test_lines_of_other_images_stay(tmp_path: Path) -> None:
    many, few, path = drawn(90), drawn(10), tmp_path / "tags.csv"
    annotations_of(many, path).update({80: Change("cat"), 3: Change("dog")})
    annotations_of(few, path).update({3: Change("")})
    assert annotations_of(many, path).by_row == {80: Annotation("cat")}


def test_images_of_the_same_names_in_two_folders_have_annotations_each(tmp_path: Path) -> None:
    first, second = (drawn(folder=tmp_path / name) for name in ("2024", "2025"))
    path = tmp_path / "tags" / "images.csv"
    annotations_of(first, path).update(CHANGES)
    other = annotations_of(second, path)
    assert other.by_row == {}
    other.update({0: Change("dog")})
    assert annotations_of(first, path).by_row == WRITTEN
    assert annotations_of(second, path).by_row == {0: Annotation("dog")}
    (tmp_path / "2024").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    for name in ("moved", "link"):  # the paths of the file lead nowhere, or to the same files
        annotations_of(drawn(folder=tmp_path / name), tmp_path / "own.csv").update(CHANGES)
        assert annotations_of(drawn(folder=tmp_path / name), tmp_path / "own.csv").by_row == WRITTEN


def test_a_line_that_no_page_wrote_is_named(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text(f"name,label\n{drawn().store.names[0]},{'x' * 300}\n")
    with pytest.raises(DataError, match=r"tags\.csv, ci/000\.png: .* at most 200 characters"):
        annotations_of(drawn(), tmp_path / "tags.csv")


def test_changes_of_another_program_are_not_lost(tmp_path: Path) -> None:
    collection, path = drawn(), tmp_path / "tags.csv"
    first, second = annotations_of(collection, path), annotations_of(collection, path)
    first.update({0: Change("cat")})
    second.update({1: Change("dog")})
    assert annotations_of(collection, path).by_row == {0: Annotation("cat"), 1: Annotation("dog")}


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_that_became_unreadable_is_never_replaced(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"tags{ending}"
    annotations = annotations_of(drawn(), path)
    annotations.update({1: Change("cat")})
    path.write_bytes(b"name,label\n\xff\xfe,cut o")
    for _ in range(2):
        with pytest.raises(DataError, match="readable"):
            annotations.update({2: Change("dog")})
        assert path.read_bytes() == b"name,label\n\xff\xfe,cut o"
    assert annotations.by_row == {1: Annotation("cat")}


def test_a_change_keeps_what_another_page_has_written(tmp_path: Path) -> None:
    collection, path = drawn(), tmp_path / "tags.csv"
    annotations = annotations_of(collection, path)
    annotations.update({0: Change("cat", ("night",))})
    assert annotations.update({0: Change(add=(" nice ",))}) == {0: Annotation("cat", ("night",))}
    annotations.update({0: Change("dog", remove=("night",))})
    assert annotations_of(collection, path).by_row == {0: Annotation("dog", ("nice",))}


def test_threads_lose_nothing(tmp_path: Path) -> None:
    collection, path = drawn(), tmp_path / "tags.csv"
    annotations = annotations_of(collection, path)
    threads = [
        threading.Thread(target=annotations.update, args=({row: Change(f"label {row}")},))
        for row in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(annotations_of(collection, path).by_row) == 24


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_another_table_is_never_replaced(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"prices{ending}"
    if ending == ".csv":
        path.write_text("name,price\na.png,3\n")
    else:
        import pyarrow as pa

        pq.write_table(pa.table({"name": ["a.png"], "price": [3]}), path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="expected a table of tags"):
        annotations_of(drawn(), path)
    assert path.read_bytes() == before
    path.write_bytes(b"\xff\xfe not a table")
    with pytest.raises(DataError):
        annotations_of(drawn(), path)


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection, path = drawn(), tmp_path / "tags.csv"
    annotations = annotations_of(collection, path)
    annotations.update({0: Change("cat")})

    def refuse(*_: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr("coview.browsing.annotations.write_bytes", refuse)
    with pytest.raises(StorageError):
        annotations.update({1: Change("dog")})
    assert annotations.by_row == annotations_of(collection, path).by_row == {0: Annotation("cat")}


@pytest.mark.parametrize("word", ["a;b", "a\nb", "x" * 201, "\x1b[1m"])
def test_words_that_a_cell_cannot_hold_are_refused(word: str) -> None:
    for values in ((word, ()), ("", (word,))):
        with pytest.raises(InvalidValue, match="cannot be written"):
            Annotation(*values)


def test_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    annotations = annotations_of(drawn(9), tmp_path / "tags.csv")
    for row in (-1, 9):
        with pytest.raises(InvalidValue, match=f"no image {row}"):
            annotations.update({row: Change("cat")})
    assert not (tmp_path / "tags.csv").exists()


def test_names_that_are_no_utf8_are_written_escaped_and_found_again(tmp_path: Path) -> None:
    name = b"\xff.png".decode("utf-8", "backslashreplace")
    images = {"ids": np.array([1]), "names": [name], "paths": [Path("/data/\udcff.png")]}
    Annotations(tmp_path / "tags.csv", **images).update({0: Change("cat")})
    assert Annotations(tmp_path / "tags.csv", **images).by_row == {0: Annotation("cat")}
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as stream:
        assert [line["path"] for line in csv.DictReader(stream)] == [""]
