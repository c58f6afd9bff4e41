"""A part that is asked for, of a source that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encoded, picture, write_images
from torch.utils.data import Dataset

from coview.core.errors import DataError, UnknownName
from coview.data import open_images
from coview.data.stream import open_stream

PIXELS = np.zeros((2, 4, 4, 3), np.uint8)


class Pictures(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> np.ndarray:
        if row >= 2:
            raise IndexError
        return PIXELS[row]


def without_parts(folder: Path) -> dict[str, Any]:
    """A source of each kind."""
    photos, tables, table = folder / "photos", folder / "tables", folder / "table.csv"
    write_images(photos, ["a/1.png", "b/2.png"])
    table.write_text("path,split\nphotos/a/1.png,train\nphotos/b/2.png,test\n")
    tables.mkdir()
    images = pa.array([{"bytes": encoded(picture()), "path": "x"}])
    pq.write_table(pa.table({"image": images}), tables / "a.parquet")
    return {
        "folder": photos,
        "image": photos / "a" / "1.png",
        "list": sorted(photos.rglob("*.png")),
        "pattern": photos / "*" / "*.png",
        "table": table,
        "Parquet": tables / "a.parquet",
        "folder of Parquet": tables,
        "arrays": PIXELS,
        "data set": Pictures(),
        "store": open_images(PIXELS),
    }


def test_a_part_of_a_source_without_parts_is_refused(tmp_path: Path) -> None:
    for source in without_parts(tmp_path).values():
        assert len(open_images(source)) == len(open_images(source, split="all"))
        with pytest.raises(DataError, match="has no split 'train': only folders, patterns"):
            open_images(source, split="train")
        with pytest.raises(DataError, match="has no split 'train'"):
            open_stream(source, split="train")


def test_scenes_of_a_part_have_no_other(tmp_path: Path) -> None:
    assert len(open_images("scenes:test", split="test", limit=3)) == 3
    with pytest.raises(UnknownName, match="split of scenes:test"):
        open_images("scenes:test", split="train", limit=3)


def test_a_list_that_is_read_whole_leaves_no_part_to_test_on(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"])
    paths = sorted(tmp_path.rglob("*.png"))
    whole = open_images(paths)
    assert (len(whole), whole.parts) == (4, ())
    part = open_images(paths, split="train")
    assert (len(part), part.parts) == (2, ("test", "train"))
