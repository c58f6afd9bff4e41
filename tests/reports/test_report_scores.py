"""Which numbers stand at the top of the page, and how evaluations are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_run import make_run

from coview.reports import Record, read_record
from coview.reports.scores import evaluation_tables, headline_scores, setting_text, standard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path, images=20)


def evaluation(folder: Path, name: str, **values: object) -> Record:
    path = folder / "evaluation" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return read_record(folder)


def result(tap: str, k: int, accuracy: float) -> dict[str, object]:
    return {"tap": tap, "setting": {"k": k}, "accuracy": accuracy}


def test_headline_takes_the_standard_setting_and_never_the_best(folder: Path) -> None:
    rows = [result("z", 20, 0.99), result("h", 1, 0.95), result("h", 20, 0.6)]
    score = headline_scores(evaluation(folder, "knn.json", results=rows))[0]
    assert score.trained == 0.6
    assert score.note == "on h, k 20"


def test_headline_holds_what_has_to_be_beaten(folder: Path) -> None:
    knn, linear = headline_scores(read_record(folder))
    assert (knn.untrained, knn.pixels, knn.chance_level) == (0.418, 0.333, 1 / 6)
    assert (linear.trained, linear.untrained, linear.pixels) == (0.868, 0.521, 0.387)


def test_headline_falls_back_to_the_accuracy_while_training(folder: Path) -> None:
    (folder / "evaluation" / "knn.json").unlink()
    record = read_record(folder)
    knn, linear = headline_scores(record)
    assert knn.trained == record.knn[-1]["accuracy"]
    assert knn.untrained == record.knn[0]["accuracy"]
    assert knn.pixels is None
    assert linear.title == "Linear accuracy"


def test_standard_prefers_h_to_any_number_of_neighbors() -> None:
    assert standard([result("z", 20, 0.9), result("h", 200, 0.1)])["tap"] == "h"


def test_evaluation_table_shows_every_result_and_its_gain(folder: Path) -> None:
    rows = [{**result("h", 20, 0.8), "untrained": 0.5, "pixels": None},
            {**result("z", 20, 0.4), "untrained": 0.45}]  # fmt: skip
    (table, *_) = evaluation_tables(evaluation(folder, "knn.json", results=rows))
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", table)]
    assert [cell.replace("\u202f", " ") for cell in cells] == [
        "tap", "setting", "trained", "untrained", "gain",
        "h", "k 20", "80.0 %", "50.0 %", "+30.0",
        "z", "k 20", "40.0 %", "45.0 %", "\u22125.0",
    ]  # fmt: skip
    assert "similarity" in table.split("<details>")[1]


def test_evaluation_without_results_says_so(folder: Path) -> None:
    (table, *_) = evaluation_tables(evaluation(folder, "knn.json", results=None))
    assert "No results in this file." in table


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"k": 20, "temperature": 0.07, "k_used": 20}, "k 20, temperature 0.07"),
        ({"k": 200, "temperature": None, "k_used": 80}, "k 200, plain vote, all 80 images"),
        ({"trained": {"learning_rate": 30.0, "weight_decay": 1e-4, "validation_accuracy": 0.571},
          "pixels": {"learning_rate": 1.0}},
         "learning rate 30, weight decay 0.0001, validation 57.1\u202f%"),
        ({"fraction": None}, "fraction none"),
        ({}, "\u2013"),
    ],
)  # fmt: skip
def test_settings_of_every_protocol_are_told_in_words(
    setting: dict[str, object], text: str
) -> None:
    assert setting_text({"tap": "h", "setting": setting}) == text


def test_chance_of_unbalanced_classes_is_the_largest_of_them(folder: Path) -> None:
    data = {"classes": 6, "largest_class_share": 0.4}
    assert headline_scores(evaluation(folder, "knn.json", data=data))[0].chance_level == 0.4


def test_headline_says_how_many_images_were_judged(folder: Path) -> None:
    record = evaluation(folder, "knn.json", results=[result("h", 20, 0.6)],
                        data={"test": {"images": 2000}})  # fmt: skip
    assert headline_scores(record)[0].note == "on h, k 20; 2,000 test images"
