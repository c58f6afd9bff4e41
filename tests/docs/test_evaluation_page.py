"""The examples of docs/evaluation.md on protocols run."""

import re
from pathlib import Path

from coview.evaluation import PROTOCOLS, TRANSFER_SETS

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def block(word):
    """The Python block that holds ``word``."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if word in text]
    return found


def test_a_protocol_with_other_numbers_is_registered():
    try:
        exec(block("sgd-linear-90"), {})
        assert PROTOCOLS["sgd-linear-90"].description["headline"]["recipe"] == "simclr"
    finally:
        PROTOCOLS.pop("sgd-linear-90", None)


def test_the_table_of_voc_has_the_labels_of_an_image_in_one_cell(tmp_path):
    lists = tmp_path / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "dog_test.txt").write_text("000001  1\n000002 -1\n000003  0\n")
    (lists / "person_test.txt").write_text("000001  1\n000002  1\n000003 -1\n")
    (lists / "dog_trainval.txt").write_text("000009  1\n")
    names = {}
    exec(block("def table"), names)
    names["table"](tmp_path / "VOC2007", "test", tmp_path / "test.csv")
    lines = (tmp_path / "test.csv").read_text().splitlines()
    cells = [line.rpartition("/")[2] for line in lines[1:]]
    assert lines[0] == "path,label"
    assert cells == ["000001.jpg,dog+person", "000002.jpg,person", "000003.jpg,dog?"]


def test_the_page_names_every_set_of_the_papers_and_every_protocol_of_these():
    for name in TRANSFER_SETS:
        assert f"`{name}`" in PAGE
    for name in ("knn", "linear", "logistic", "sgd-linear", "few-labels", "transfer"):
        assert f"### {name}" in PAGE
