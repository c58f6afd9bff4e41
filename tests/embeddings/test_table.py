"""The table of vectors: what is written is read again, part by part, from any folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coview.core.errors import DamagedFile, InvalidValue, StorageError, UnknownName
from coview.embeddings import EmbeddingTable, TableWriter, table_of
from coview.embeddings import table_writer as writing
from coview.embeddings.table_formats import choose_format, write_as

GENERATOR = np.random.default_rng(0)


def rows(count, first=0, folder=None, width=6):
    numbers = np.arange(first, first + count)
    return {
        "id": numbers * 7 - 50, "name": [f"{n:04}.jpg" for n in numbers],
        "path": [None if folder is None else folder / f"{n:04}.jpg" for n in numbers],
        "label": numbers % 3 - 1, "width": numbers + 1, "height": numbers + 2,
        "pixel_hash": numbers * 11, "file_hash": numbers * 13,
        "h": GENERATOR.standard_normal((count, width)).astype(np.float32),
    }  # fmt: skip


@pytest.fixture
def written(tmp_path, monkeypatch):
    """(a table of 50 rows in several row groups, its columns)."""
    monkeypatch.setattr(writing, "GROUP_ROWS", 16)
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    parts = [rows(20, 0, folder), rows(30, 20, folder)]
    with TableWriter(tmp_path / "data" / "out" / "x.parquet", ["h"], ["cat", "dog"]) as writer:
        for part in parts:
            writer.append(part)
    both = {name: [*parts[0][name], *parts[1][name]] for name in parts[0]}
    return writer.table(), both


def test_what_is_written_is_read(written):
    table, columns = written
    assert (len(table), table.layers, table.class_names) == (50, ("h",), ("cat", "dog"))
    assert table.num_groups > 1
    assert np.array_equal(table.vectors("h"), np.stack(columns["h"]))
    assert np.array_equal(table["h"], table.to_arrow()["h"].to_pylist())
    for name in ("id", "label", "width", "height", "pixel_hash", "file_hash"):
        assert table.column(name).tolist() == list(columns[name])
    assert table.names == columns["name"]
    assert table.paths == columns["path"]
    assert table.column("class")[:3] == [None, "cat", "dog"]
    assert table.column("nothing") is None
    assert table.fingerprint == table.metadata["coview.fingerprint"]
    with pytest.raises(UnknownName, match="'h'"):
        table.vectors("hh")


def test_the_file_is_ordinary_parquet_with_its_metadata(written):
    table, _ = written
    plain = pq.read_table(table.path)
    assert plain["path"][0].as_py() == "../photos/0000.jpg"
    assert plain["h"].type.list_size == 6
    assert plain.schema.metadata[b"coview.folder"].decode() == str(table.path.parent)
    assert pa.table(table).equals(plain)  # by Arrow's C interface


def test_paths_hold_where_table_and_images_move_together_and_where_the_table_moves(
    written, tmp_path
):
    table, columns = written
    for path in columns["path"]:
        path.write_bytes(b"x")
    alone = tmp_path / "elsewhere.parquet"
    shutil.copy(table.path, alone)
    assert EmbeddingTable.open(alone).paths == columns["path"]
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = EmbeddingTable.open(tmp_path / "moved" / "out" / "x.parquet")
    assert moved.paths[0] == tmp_path / "moved" / "photos" / "0000.jpg"


def test_paths_hold_where_the_folder_of_a_moved_table_is_gone(written, tmp_path):
    table, columns = written
    for path in columns["path"]:
        path.write_bytes(b"x")
    place = tmp_path / "archive" / "deep" / "out" / "x.parquet"
    place.parent.mkdir(parents=True)
    table.path.rename(place)
    table.path.parent.rmdir()
    assert EmbeddingTable.open(place).paths == columns["path"]


def test_paths_hold_where_the_folder_of_a_table_is_a_link(written, tmp_path):
    table, columns = written
    for path in columns["path"]:
        path.write_bytes(b"x")
    real = tmp_path / "disk" / "some" / "out"
    real.parent.mkdir(parents=True)
    table.path.parent.rename(real)
    table.path.parent.symlink_to(real)
    assert EmbeddingTable.open(table.path).paths == columns["path"]
    assert EmbeddingTable.open(real / "x.parquet").paths == columns["path"]


def test_a_copied_table_that_is_written_in_place_keeps_its_images(written, tmp_path):
    table, columns = written
    for path in columns["path"]:
        path.write_bytes(b"x")
    alone = tmp_path / "elsewhere" / "x.parquet"
    alone.parent.mkdir()
    shutil.copy(table.path, alone)
    copied = EmbeddingTable.open(alone)
    assert copied.with_columns({"x": np.zeros(50)}).write(alone).paths == columns["path"]
    assert EmbeddingTable.open(alone).paths == columns["path"]


def test_take_reads_some_rows_in_any_order(written):
    table, columns = written
    chosen = np.array([49, 3, 3, 20, 0])
    taken = table.take(chosen, ["id", "h"])
    assert taken["id"].to_pylist() == [columns["id"][n] for n in chosen]
    assert np.array_equal(taken["h"].to_pylist(), np.stack([columns["h"][n] for n in chosen]))
    assert len(table.take(np.zeros(0, np.int64), ["id"])) == 0


def test_columns_are_added_and_written(written, tmp_path):
    table, columns = written
    more = table.with_columns({"x": np.linspace(0, 1, 50), "word": ["a"] * 50})
    again = more.write(tmp_path / "other" / "y.parquet")
    for each in (more, again):
        assert each.column_names[-2:] == ["x", "word"]
        assert np.allclose(each.column("x"), np.linspace(0, 1, 50))
        assert each["word"] == ["a"] * 50
    assert again.paths == columns["path"]
    assert again.fingerprint == table.fingerprint
    assert np.array_equal(again.with_columns({"x": np.zeros(50)})["x"], np.zeros(50))
    for wrong in ({"id": np.zeros(50)}, {"h": np.zeros(50)}, {"x": np.zeros(49)}):
        with pytest.raises(InvalidValue, match="cannot be added"):
            table.with_columns(wrong)


def test_a_layer_says_whether_its_vectors_have_unit_length():
    vectors = GENERATOR.standard_normal((9, 4)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table = table_of({"h": vectors, "z": unit}, names=[str(n) for n in range(9)])
    assert (table.is_unit("h"), table.is_unit("z")) == (False, True)


def test_a_failed_writer_leaves_the_file_as_it_was(written):
    table, _ = written
    before = table.path.read_bytes()
    with pytest.raises(KeyboardInterrupt), TableWriter(table.path, ["h"]) as writer:
        writer.append(rows(5))
        raise KeyboardInterrupt
    assert table.path.read_bytes() == before
    assert [path.name for path in table.path.parent.iterdir()] == ["x.parquet"]


def test_other_files_are_refused_in_words(tmp_path):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "empty.parquet").write_bytes(b"")
    for name, error in (
        ("foreign", InvalidValue), ("text", DamagedFile), ("empty", DamagedFile),
        ("missing", InvalidValue),
    ):  # fmt: skip
        with pytest.raises(error) as raised:
            EmbeddingTable.open(tmp_path / f"{name}.parquet")
        assert f"{name}.parquet" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_changed_byte_of_the_vectors_is_found(written):
    table, columns = written
    content = bytearray(table.path.read_bytes())
    place = content.index(columns["h"][30].tobytes())
    content[place] ^= 1
    table.path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        EmbeddingTable.open(table.path).vectors("h")


def test_other_formats_hold_the_same(written, tmp_path):
    table, columns = written
    write_as(table, tmp_path / "v.npy", "npy", ["h"])
    assert np.array_equal(np.load(tmp_path / "v.npy"), table.vectors("h"))
    names = (tmp_path / "v.names.csv").read_text().splitlines()
    assert names[0].replace('"', "") == "id,name,path,label,class"
    assert len(names) == 51
    write_as(table, tmp_path / "v.csv", "csv", ["h"])
    lines = np.genfromtxt(
        tmp_path / "v.csv", delimiter=",", names=True, dtype=None, encoding="utf8"
    )
    assert np.array_equal(np.float32(lines["h3"]), table.vectors("h")[:, 3])
    assert Path(str(lines["path"][4]).strip('"')) == columns["path"][4]


def test_an_ending_that_means_another_format_is_an_error():
    assert choose_format(Path("x.npy"), "npy", ["h"]) == "npy"
    with pytest.raises(InvalidValue, match=r"ends in \.csv"):
        choose_format(Path("x.npy"), "csv", ["h"])
    with pytest.raises(InvalidValue, match="holds one layer"):
        choose_format(Path("x.npy"), None, ["h", "z"])
    with pytest.raises(UnknownName, match="'csv'"):
        choose_format(None, "cvs", ["h"])


def test_reading_a_table_needs_no_torch(written):
    code = (
        "import sys; from coview.embeddings.table import EmbeddingTable;"
        f"t = EmbeddingTable.open({str(written[0].path)!r}); t.vectors('h');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_that_was_changed_meanwhile_keeps_what_was_added(written):
    path = written[0].path
    first, second = EmbeddingTable.open(path), EmbeddingTable.open(path)
    first.with_columns({"x": np.zeros(len(first))}).write(first.path)
    both = second.with_columns({"y": np.ones(len(first))}).write(second.path)
    assert {"x", "y"} <= set(both.column_names)


def test_a_table_of_other_images_is_not_replaced_by_an_older_one(written):
    path = written[0].path
    old = EmbeddingTable.open(path)
    with TableWriter(path, ["h"], ["cat", "dog"]) as writer:
        writer.append(rows(3))
    with pytest.raises(StorageError, match="was changed by another command meanwhile"):
        old.with_columns({"x": np.zeros(len(old))}).write(old.path)
    assert len(EmbeddingTable.open(path)) == 3
