"""Image data sets in Parquet: layouts, many files, labels and what is wrong with them."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encoded, picture, write_images

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.images import image_id
from coview.data import open_images

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(count: int, first: int = 0) -> list[bytes]:
    return [encoded(picture(seed=first + number)) for number in range(count)]


def structs(count: int, first: int = 0) -> pa.Array:
    return pa.array([{"bytes": b, "path": "x.png"} for b in images(count, first)], STRUCT)


def write(path: Path, names: object = None, rows: int | None = None, **columns: object) -> Path:
    """A Parquet file of the given columns; ``names``: class names in the metadata of "label"."""
    table = pa.table(columns)
    if names is not None:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()], ids=str)
def test_parquet_layouts_are_found_by_type(tmp_path: Path, kind: pa.DataType) -> None:
    column = structs(5) if kind == STRUCT else pa.array(images(5), kind)
    write(tmp_path / "a.parquet", number=pa.array(range(5)), whatever=column)
    store = open_images(tmp_path / "a.parquet")
    assert store.names == [f"a.parquet#{row}" for row in range(5)]
    assert store.ids[3] == image_id("a.parquet#3")
    assert store.labels is None
    for row in range(5):
        np.testing.assert_array_equal(store.image(row), picture(seed=row))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_parquet_row_groups_do_not_matter(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "a.parquet", rows=rows, image=structs(10))
    store = open_images(tmp_path / "a.parquet", limit=6)
    assert len(store) == 6
    for row, name in enumerate(store.names):
        np.testing.assert_array_equal(store.image(row), picture(seed=int(name.split("#")[1])))


def test_parquet_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coview.data import parquet

    monkeypatch.setattr(parquet, "_BATCH_ROWS", 4)
    write(tmp_path / "a.parquet", image=structs(10))
    taken, original = [], parquet._column
    monkeypatch.setattr(
        parquet, "_column", lambda batch, name: taken.append(len(batch)) or original(batch, name)
    )
    assert len(open_images(tmp_path / "a.parquet")) == 10
    assert taken == [4, 4, 2]


def test_parquet_unchosen_row_groups_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", rows=1, image=structs(20))
    groups = []
    original = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *args: object, **options: object) -> object:
        groups.extend(options["row_groups"])
        return original(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    store = open_images(tmp_path / "a.parquet", limit=3)
    assert groups == [int(name.split("#")[1]) for name in store.names]


# --- many files ---


@pytest.mark.parametrize("form", ["folder", "glob", "list", "deep glob"])
def test_parquet_many_files_in_the_order_of_names(tmp_path: Path, form: str) -> None:
    write(tmp_path / "d" / "b.parquet", image=structs(2, 10))
    write(tmp_path / "d" / "a.parquet", image=structs(3, 0))
    source = {
        "folder": tmp_path / "d",
        "glob": str(tmp_path / "d" / "*.parquet"),
        "deep glob": str(tmp_path / "**" / "?.parquet"),
        "list": [tmp_path / "d" / "b.parquet", str(tmp_path / "d" / "a.parquet")],
    }[form]
    store = open_images(source)
    assert store.names == [*(f"a.parquet#{r}" for r in range(3)), "b.parquet#0", "b.parquet#1"]
    np.testing.assert_array_equal(store.image(4), picture(seed=11))


def test_parquet_files_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a.parquet", image=structs(1, 0))
    write(tmp_path / "y" / "a.parquet", image=structs(1, 1))
    assert open_images(tmp_path).names == ["x/a.parquet#0", "y/a.parquet#0"]


def test_parquet_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=structs(2))
    assert len(open_images([path, path, str(path)])) == 2


def test_parquet_folder_of_splits_gives_the_one_asked_for(
    tmp_path: Path,
) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.parquet", image=structs(2))
    write(tmp_path / "data" / "train-00001-of-00002.parquet", image=structs(3))
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", image=structs(4))
    write(tmp_path / "test" / "0000.parquet", image=structs(5))
    store = open_images(tmp_path)
    assert len(store) == 5
    assert "has the parts test, train, val: reading train" in store.notes[0]
    assert len(open_images(tmp_path, split="val")) == 4
    assert len(open_images(tmp_path, split="test")) == 5
    with pytest.raises(DataError, match="has no split 'extra', only: test, train, val"):
        open_images(tmp_path, split="extra")


def test_parquet_beside_images_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2))
    write_images(tmp_path, ["readme.png"])
    with pytest.raises(DataError, match="has both 1 image and Parquet files of images;"):
        open_images(tmp_path)


def test_a_table_of_vectors_with_small_images_is_passed_over_beside_what_it_is_of(
    tmp_path: Path,
) -> None:
    schema = pa.schema([("image", structs(2).type)], metadata={"coview.format": "1"})
    pq.write_table(pa.table({"image": structs(2)}, schema), tmp_path / "v.parquet")
    passed = "of vectors or without a column of images"
    assert len(open_images(tmp_path / "v.parquet")) == 2  # where it is asked for
    assert len(open_images(tmp_path)) == 2
    write(tmp_path / "a.parquet", image=structs(3))
    store = open_images(tmp_path)
    assert store.names == ["a.parquet#0", "a.parquet#1", "a.parquet#2"]
    assert store.notes == (f"Passed over 1 Parquet file {passed}: v.parquet.",)
    (tmp_path / "a.parquet").unlink()
    write_images(tmp_path, ["readme.png"])
    store = open_images(tmp_path)
    assert store.names == ["readme.png"]
    assert store.notes == (f"Passed over 1 Parquet file (v.parquet) {passed}.",)


# --- labels ---


@pytest.mark.parametrize("names", [["cat", "dog", "eel"], {"2": "eel", "0": "cat", "1": "dog"}])
@pytest.mark.parametrize("labels", ["column", "auto"])
def test_parquet_class_names_come_from_the_metadata(
    tmp_path: Path, names: object, labels: str
) -> None:
    label = pa.array([0, 2, 0], pa.int64())
    write(tmp_path / "a.parquet", names=names, image=structs(3), label=label)
    store = open_images(tmp_path / "a.parquet", labels_from=labels)
    assert store.labels.tolist() == [0, 2, 0]
    assert store.class_names == ("cat", "dog", "eel")
    assert open_images(tmp_path / "a.parquet").labels is None


def test_parquet_string_labels_are_numbered_over_all_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), label=["eel", "cat"])
    write(tmp_path / "b.parquet", image=structs(2), label=pa.array(["dog", None]))
    store = open_images(tmp_path, labels_from="column")
    assert store.class_names == ("cat", "dog", "eel")
    assert store.labels.tolist() == [2, 0, 1, -1]
    assert store.labels.dtype == np.int64


def test_parquet_dictionary_labels_are_strings(tmp_path: Path) -> None:
    label = pa.array(["b", "a"]).dictionary_encode()
    write(tmp_path / "a.parquet", image=structs(2), label=label)
    assert open_images(tmp_path, labels_from="column").class_names == ("a", "b")


def test_parquet_integers_without_names_are_named_by_number(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(3), label=[2, 0, None])
    store = open_images(tmp_path, labels_from="auto")
    assert store.labels.tolist() == [2, 0, -1]
    assert store.class_names == ("0", "1", "2")


def test_parquet_withheld_labels_are_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), label=[-1, -1])
    assert open_images(tmp_path, labels_from="auto").labels is None


def test_parquet_auto_does_not_guess(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), photographer=["Ann", "Bob"])
    assert open_images(tmp_path, labels_from="auto").labels is None
    assert open_images(tmp_path, labels_from="column").class_names == ("Ann", "Bob")


def test_parquet_several_possible_labels_want_a_choice(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), kind=["x", "y"], year=[1999, 2000])
    with pytest.raises(DataError, match=r"kind, year.*give `label_column`"):
        open_images(tmp_path, labels_from="column")
    assert open_images(tmp_path, label_column="kind").class_names == ("x", "y")


def test_parquet_without_any_label_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2))
    with pytest.raises(DataError, match="no column that is clearly the label"):
        open_images(tmp_path, labels_from="column")


def test_parquet_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", names=["a", "b"], image=structs(2), label=[0, 2])
    with pytest.raises(DataError, match="has 0 to 2; expected 0 to 1"):
        open_images(tmp_path, labels_from="column")


def test_parquet_columns_are_overridable(tmp_path: Path) -> None:
    write(
        tmp_path / "a.parquet",
        image=structs(2, 0), mask=structs(2, 5), label=[0, 1], coarse=["p", "q"],
    )  # fmt: skip
    store = open_images(tmp_path, image_column="mask", label_column="coarse", labels_from="column")
    np.testing.assert_array_equal(store.image(0), picture(seed=5))
    assert store.class_names == ("p", "q")
    np.testing.assert_array_equal(open_images(tmp_path).image(0), picture(seed=0))


# --- types of columns ---

PNGS = [encoded(picture(seed=number)) for number in range(4)]
IMAGE_COLUMNS = {
    "large": pa.array(PNGS, pa.large_binary()),
    "view": pa.array(PNGS, pa.binary_view()),
    "dictionary": pa.array(PNGS).dictionary_encode(),
    "list of bytes": pa.array([list(content) for content in PNGS], pa.list_(pa.uint8())),
    "large list": pa.array([list(content) for content in PNGS], pa.large_list(pa.uint8())),
    "struct of bytes": pa.array([{"bytes": content} for content in PNGS]),
    "struct with more": pa.array([{"path": None, "bytes": content, "w": 1} for content in PNGS]),
}


@pytest.mark.parametrize("kind", IMAGE_COLUMNS)
def test_parquet_images_of_any_binary_type_are_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a.parquet", image=IMAGE_COLUMNS[kind])
    np.testing.assert_array_equal(open_images(tmp_path).image(3), picture(seed=3))


LABEL_COLUMNS = {
    "boolean": ([True, False, None, True], pa.bool_(), [1, 0, -1, 1]),
    "whole floats": ([0.0, 2.0, float("nan"), 1.0], pa.float32(), [0, 2, -1, 1]),
    "decimal": ([0, 2, None, 1], pa.decimal128(20, 0), [0, 2, -1, 1]),
    "int8": ([0, 2, -1, 1], pa.int8(), [0, 2, -1, 1]),
    "beyond int64": ([7, 1 << 63, None, 7], pa.uint64(), [0, 1, -1, 0]),
    "negative": ([-5, 3, -1, 3], pa.int64(), [0, 1, -1, 1]),
    "large text": (["b", "a", None, "b"], pa.large_string(), [1, 0, -1, 1]),
    "text view": (["b", "a", None, "b"], pa.string_view(), [1, 0, -1, 1]),
}


@pytest.mark.parametrize("kind", LABEL_COLUMNS)
def test_parquet_labels_of_any_plain_type_are_read(tmp_path: Path, kind: str) -> None:
    values, type_, expected = LABEL_COLUMNS[kind]
    values = [Decimal(v) if kind == "decimal" and v is not None else v for v in values]
    write(tmp_path / "a.parquet", image=pa.array(PNGS), label=pa.array(values, type_))
    assert open_images(tmp_path, labels_from="auto").labels.tolist() == expected


@pytest.mark.parametrize(
    "column", [pa.array([0] * 4, pa.timestamp("s")), pa.array([[1]] * 4), pa.array([b"x"] * 4)]
)
def test_parquet_column_that_is_no_label_is_a_sentence(tmp_path: Path, column: pa.Array) -> None:
    write(tmp_path / "a.parquet", image=structs(4), label=column)
    assert open_images(tmp_path, labels_from="auto").labels is None
    with pytest.raises(DataError, match="labels are whole numbers, strings, or true and false"):
        open_images(tmp_path, label_column="label")


@pytest.mark.parametrize("name", ["a.b", "", "\n", "\x1b[31m", "image.bytes"])
def test_parquet_columns_have_any_name(tmp_path: Path, name: str) -> None:
    columns = {name: structs(2), "image": pa.array([1, 2]), "label": pa.array([1, 0])}
    write(tmp_path / "a.parquet", **columns)
    store = open_images(tmp_path, labels_from="auto")
    assert (len(store), store.labels.tolist()) == (2, [1, 0])


def test_parquet_file_has_any_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.parquet")
    try:
        write(tmp_path / "a.parquet", image=structs(2)).rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert open_images(tmp_path).names[1].encode() == rb"caf\udce9.parquet#1"


@pytest.mark.parametrize(
    "names", [b"no JSON", b"[]", b"\xff", {"info": None}, {"label": 5}, {"label": {"a": "x"}},
              {"label": "ab"}]
)  # fmt: skip
def test_parquet_odd_metadata_name_no_classes(tmp_path: Path, names: object) -> None:
    about = names
    if isinstance(names, dict) and "label" in names:
        about = {"info": {"features": {"label": {"names": names["label"]}}}}
    table = pa.table({"image": structs(2), "label": [1, 0]}).replace_schema_metadata(
        {"huggingface": about if isinstance(about, bytes) else json.dumps(about)}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert open_images(tmp_path, labels_from="auto").class_names == ("0", "1")


def test_parquet_classes_of_several_files_are_joined_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", names=["cat", "dog"], image=structs(2), label=[0, 1])
    write(tmp_path / "b.parquet", names=["dog", "eel"], image=structs(2), label=[0, 1])
    write(tmp_path / "c.parquet", image=structs(2), label=["dog", "fox"])
    store = open_images(tmp_path, labels_from="auto")
    assert store.class_names == ("cat", "dog", "eel", "fox")
    assert store.labels.tolist() == [0, 1, 1, 2, 1, 3]


def test_parquet_with_shuffled_rows_is_other_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=structs(4))
    before = open_images(path)
    pq.write_table(pq.read_table(path).take([1, 0, 2, 3]), path)
    after = open_images(path)
    assert after.ids.tolist() == before.ids.tolist()
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("part", ["val", "test"])
def test_parquet_folder_of_one_part_is_read_without_a_word(tmp_path: Path, part: str) -> None:
    write(tmp_path / f"{part}-00000-of-00001.parquet", image=structs(2))
    for for_test in (False, True):
        store = open_images(tmp_path, for_test=for_test)
        assert (len(store), store.notes) == (2, ())


def test_parquet_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match="is a pipe"):
        open_images(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match=r"pipe.parquet \(not a regular file\)"):
        open_images(tmp_path)


# --- what is wrong ---


def test_parquet_unknown_column_offers_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), label=[0, 1])
    with pytest.raises(UnknownName, match="Did you mean 'image'"):
        open_images(tmp_path, image_column="imge")
    with pytest.raises(UnknownName, match="Did you mean 'label'"):
        open_images(tmp_path, label_column="lable")


def test_parquet_column_of_another_type_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), number=[0.5, 1.0])
    with pytest.raises(DataError, match="has no encoded images"):
        open_images(tmp_path, image_column="number")
    with pytest.raises(DataError, match=r"has 0\.5; labels are whole numbers"):
        open_images(tmp_path, label_column="number")


def test_parquet_several_possible_images_want_a_choice(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", left=structs(2), right=structs(2))
    with pytest.raises(DataError, match=r"left, right.*`image_column`"):
        open_images(tmp_path)


def test_parquet_without_images_names_its_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=[1], y=[2])
    with pytest.raises(DataError, match=r"no column of encoded images.*its columns: x, y"):
        open_images(tmp_path)


def test_parquet_each_file_is_judged_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2), label=["cat", "dog"])
    write(tmp_path / "b.parquet", picture=pa.array(images(2, first=2)))
    write(tmp_path / "vectors.parquet", id=[1], h=[0.5])
    store = open_images(tmp_path, labels_from="column")
    assert store.names == ["a.parquet#0", "a.parquet#1", "b.parquet#0", "b.parquet#1"]
    np.testing.assert_array_equal(store.image(3), picture(seed=3))
    assert store.labels.tolist() == [0, 1, -1, -1]
    assert store.notes == (
        "Passed over 1 Parquet file of vectors or without a column of images: vectors.parquet.",
        "2 images without a label: the column 'label' is missing in b.parquet.",
    )


def test_parquet_that_is_not_parquet_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 this is no such thing")
    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file"):
        open_images(tmp_path / "a.parquet")


def test_parquet_damaged_inside_is_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=structs(50))
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file"):
        open_images(path)


def test_parquet_rows_without_an_image_go_to_quarantine(tmp_path: Path) -> None:
    cells = [{"bytes": encoded(picture()), "path": None}, {"bytes": None, "path": None}, None]
    write(tmp_path / "a.parquet", image=pa.array(cells, STRUCT))
    store = open_images(tmp_path, allow_broken=True)
    assert store.quarantine == (
        ("a.parquet#1", "no image in this row"),
        ("a.parquet#2", "no image in this row"),
    )


def test_parquet_path_beside_the_file_is_followed(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", ["one.png"])
    cells = pa.array([{"bytes": None, "path": "pictures/one.png"}], STRUCT)
    write(tmp_path / "a.parquet", image=cells)
    store = open_images(tmp_path / "a.parquet")
    np.testing.assert_array_equal(store.image(0), picture(seed=0))


def test_parquet_empty_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=pa.array([], STRUCT))
    with pytest.raises(DataError, match="has no images"):
        open_images(tmp_path / "a.parquet")


def test_parquet_missing_file_offers_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", image=structs(2))
    with pytest.raises(DataError, match=r"Did you mean .*train\.parquet\?"):
        open_images(tmp_path / "trian.parquet")
    with pytest.raises(DataError, match=r"Did you mean .*train\.parquet\?"):
        open_images([tmp_path / "trian.parquet"])


def test_parquet_pattern_without_a_match_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No image, no Parquet file and no tar matches"):
        open_images(str(tmp_path / "*.parquet"))


def test_parquet_list_with_another_file_is_a_sentence(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png"])
    path = write(tmp_path / "b.parquet", image=structs(2))
    with pytest.raises(DataError, match="files of several kinds"):
        open_images([tmp_path / "a.png", path])


def test_parquet_has_no_label_folders(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=structs(2))
    with pytest.raises(InvalidValue, match="use 'column' or 'auto'"):
        open_images(tmp_path, labels_from="folders")


@pytest.mark.data
def test_parquet_real_data_set(shared_data: Path) -> None:
    store = open_images(shared_data / "cifar10" / "test.parquet", labels_from="auto", limit=1000)
    assert store.pixels.shape == (1000 * 32 * 32, 4)
    assert store.class_names[:2] == ("airplane", "automobile")
    assert np.bincount(store.labels).min() > 50


@pytest.mark.data
def test_parquet_folder_of_real_splits_gives_the_training_part(shared_data: Path) -> None:
    store = open_images(shared_data / "cifar10", limit=10)
    assert all(name.startswith("train.parquet#") for name in store.names)
