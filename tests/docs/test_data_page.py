"""The examples of docs/data.md run."""

import re
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from coview.data import open_images

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    exec(blocks("python")[0].replace("batch_size=16", "batch_size=16, device='cpu'"), names)
    assert names["table"].num_rows == 100


def test_the_table_of_the_page_is_read(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "photos" / name)
    first = blocks("sh")[0].splitlines()[0]
    subprocess.run(first, shell=True, check=True, cwd=tmp_path)
    store = open_images(tmp_path / "photos" / "train.csv", labels_from="auto")
    assert store.class_names == ("cat", "dog")
