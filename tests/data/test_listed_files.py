"""Images that are given one by one: lists, tables of paths."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encoded, picture

from coview.core.errors import DataError, UnknownName
from coview.data import open_images
from coview.data.spec import DataSpec


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images in two folders of classes."""
    folder = tmp_path / "photos"
    for i in range(12):
        path = folder / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=i)))
    return folder


def test_a_list_of_paths_is_named_below_their_folder(photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    store = open_images([*paths[:2], paths[-1]], labels_from="folders")
    assert store.names == ["a/00.png", "a/02.png", "b/11.png"]
    assert store.class_names == ("a", "b")
    assert store.labels.tolist() == [0, 0, 1]
    assert (store.image(2) == picture(seed=11)).all()


def test_a_list_keeps_all_parts(photos: Path) -> None:
    (photos / "a").rename(photos / "train")
    (photos / "b").rename(photos / "test")
    assert len(open_images(sorted(photos.rglob("*.png")))) == 12


def test_a_missing_file_of_a_list_is_in_the_ledger(photos: Path) -> None:
    paths = [*sorted(photos.rglob("*.png")), photos / "a" / "gone.png"]
    store = open_images(paths)
    assert store.quarantine == (("a/gone.png", "No such file or directory"),)
    with pytest.raises(DataError, match=r"There is no folder or file .*gone.png"):
        open_images(photos / "a" / "gone.png")


def test_a_list_of_several_kinds_is_one_sentence(photos: Path) -> None:
    (photos / "x.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"several kinds \(.png, .tar\)"):
        open_images([photos / "a" / "00.png", photos / "x.tar"])
    (photos / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt is a file; expected images"):
        open_images([photos / "a" / "00.png", photos / "notes.txt"])


def test_a_list_is_opened_again_from_its_description(photos: Path, monkeypatch) -> None:
    monkeypatch.chdir(photos)
    spec = DataSpec.of(["a/00.png", "b/01.png"])
    monkeypatch.chdir("/")
    again = DataSpec.from_json(spec.to_json())
    assert again.open().names == ["a/00.png", "b/01.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "path,label\na/00.png,cat\nb/01.png,dog\n\nb/03.png,\n"),
        ("m.csv", "\ufefflabel;file_name\r\ncat;a/00.png\r\ndog;b/01.png\r\n;b/03.png\r\n"),
        ("m.TSV", "Filename\tclass\na/00.png\tcat\nb/01.png\tdog\nb/03.png\t\n"),
    ],
)
def test_a_table_lists_paths_and_labels(photos: Path, name: str, text: str) -> None:
    (photos / name).write_text(text, encoding="utf-8")
    store = open_images(photos / name, labels_from="auto")
    assert store.names == ["a/00.png", "b/01.png", "b/03.png"]
    assert store.class_names == ("cat", "dog")
    assert store.labels.tolist() == [0, 1, -1]
    assert open_images(photos / name).labels is None


def test_columns_of_a_table_are_named_by_options(photos: Path) -> None:
    (photos / "m.csv").write_text("where,what,path\na/00.png,3,x\nb/01.png,0,y\n")
    store = open_images(photos / "m.csv", image_column="where", label_column="what")
    assert store.labels.tolist() == [3, 0]
    with pytest.raises(UnknownName, match="Did you mean 'where'"):
        open_images(photos / "m.csv", image_column="wher")


def test_a_table_of_parquet_lists_paths(photos: Path) -> None:
    table = pa.table({"image_path": ["a/00.png", "b/01.png"], "label": [1, 0], "size": [2.5, 1.0]})
    pq.write_table(table, photos / "m.parquet")
    store = open_images(photos / "m.parquet", labels_from="auto")
    assert store.names == ["a/00.png", "b/01.png"]
    assert store.labels.tolist() == [1, 0]


def test_a_table_of_other_things_is_no_table_of_paths(photos: Path) -> None:
    """Coview's own embeddings have names, which are no paths."""
    pq.write_table(pa.table({"id": [1], "name": ["a/00.png"], "h": [[1.0]]}), photos / "e.parquet")
    with pytest.raises(DataError, match="no column of encoded images"):
        open_images(photos / "e.parquet")


def test_rows_of_a_table_may_be_absolute_missing_or_twice(photos: Path) -> None:
    rows = [*(f"{letter}/{i:02d}.png" for i in range(12) for letter in "ab"[i % 2]), "gone.png"]
    rows += [str(photos / "a" / "00.png"), "a/00.png"]
    (photos / "m.csv").write_text("path\n" + "\n".join(rows))
    store = open_images(photos / "m.csv")
    assert len(store) == 13
    assert store.quarantine == (("gone.png", "No such file or directory"),)
    assert "1 row of" in " ".join(store.notes)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a/00.png\nb/01.png\n", "no column that is clearly of paths of images"),
        (b"path\n", "the column 'path' is empty"),
        (b"", "not a readable table"),
        (b"path\n\xff\xfe.png\n", "not a readable table"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(
    photos: Path, content: bytes, sentence: str
) -> None:
    (photos / "m.csv").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        open_images(photos / "m.csv")


def test_labels_of_a_table_that_are_needed_must_be_there(photos: Path) -> None:
    (photos / "m.csv").write_text("path,size\na/00.png,3\n")
    assert open_images(photos / "m.csv", labels_from="auto").labels is None
    with pytest.raises(DataError, match=r"no column that is clearly of labels.*`label_column`"):
        open_images(photos / "m.csv", labels_from="column")


def test_a_saved_folder_of_hugging_face_is_read_without_the_library(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"]}}
    metadata = {b"huggingface": str({"info": {"features": features}}).replace("'", '"').encode()}
    for part, count in {"train": 4, "test": 2}.items():
        cells = [{"bytes": encoded(picture(seed=i)), "path": None} for i in range(count)]
        table = pa.table({"image": cells, "label": [i % 2 for i in range(count)]})
        (folder / part).mkdir(parents=True)
        path = folder / part / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as sink:
            schema = table.schema.with_metadata(metadata)
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_table(table.cast(schema), max_chunksize=3)
        (folder / part / "state.json").write_text("{}")
    store = open_images(folder, labels_from="auto")
    assert len(store) == 4
    assert store.class_names == ("cat", "dog")
    assert store.labels.tolist() == [0, 1, 0, 1]
    assert (store.image(3) == picture(seed=3)).all()
    assert len(open_images(folder, split="test")) == 2
    assert np.array_equal(open_images(folder, limit=1).ids, open_images(folder, limit=1).ids)


@pytest.mark.parametrize("kind", ["list", "parquet", "tar"])
def test_another_file_of_the_same_size_and_date_is_noticed(tmp_path: Path, kind: str) -> None:
    """A copy that keeps dates (cp -p, rsync -t)."""

    def write(path: Path, value: int) -> None:
        image = encoded(np.full((8, 8, 3), value, np.uint8), "bmp")
        if kind == "parquet":
            pq.write_table(pa.table({"image": [image]}), path, compression="none")
        elif kind == "tar":
            with tarfile.open(path, "w") as archive:
                member = tarfile.TarInfo("x.bmp")
                member.size = len(image)
                archive.addfile(member, io.BytesIO(image))
        else:
            path.write_bytes(image)

    path = tmp_path / {"list": "x.bmp", "parquet": "x.parquet", "tar": "x.tar"}[kind]
    for value in (7, 9):
        write(path, value)
        os.utime(path, (1, 1))
        assert (
            open_images([path], memory_share=0, cache=tmp_path / "cache").image(0) == value
        ).all()
