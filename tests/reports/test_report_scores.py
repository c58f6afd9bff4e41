"""Which numbers stand at the top of the page, and how evaluations are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_run import make_run

from coview.reports import Record, read_record
from coview.reports.scores import (
    comparison_rows,
    evaluation_tables,
    headline_row,
    headline_scores,
    setting_text,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path, images=20)


def evaluation(folder: Path, name: str, **values: object) -> Record:
    path = folder / "evaluation" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return read_record(folder)


def result(
    layer: str, k: int, value: float, subject: str = "trained", **fields: object
) -> dict[str, object]:
    return {"subject": subject, "layer": layer, "setting": {"k": k}, "value": value, **fields}


def test_headline_takes_the_standard_setting_and_never_the_best(folder: Path) -> None:
    rows = [result("z", 20, 0.99), result("h", 1, 0.95), result("h", 20, 0.6)]
    score = headline_scores(evaluation(folder, "knn.json", results=rows))[0]
    assert score.value == 0.6
    assert score.note == "on h, k 20"


def test_headline_holds_the_baselines(folder: Path) -> None:
    knn, linear = headline_scores(read_record(folder))
    assert knn.baselines == {"untrained": 0.418, "pixels": 0.333, "chance": 1 / 6}
    assert linear.value == 0.868
    assert linear.baselines == {"untrained": 0.521, "pixels": 0.387, "chance": 1 / 6}


def test_headline_falls_back_to_the_accuracy_while_training(folder: Path) -> None:
    (folder / "evaluation" / "knn.json").unlink()
    record = read_record(folder)
    knn, linear = headline_scores(record)
    assert knn.value == record.knn[-1]["accuracy"]
    assert knn.baselines == {"untrained": record.knn[0]["accuracy"], "chance": 1 / 6}
    assert linear.title == "Linear accuracy"


def test_headline_row_prefers_h_to_any_number_of_neighbors() -> None:
    rows = comparison_rows([result("z", 20, 0.9), result("h", 200, 0.1)])
    assert headline_row(rows)["trained"]["layer"] == "h"


def test_comparison_rows_pair_equal_layers_and_subjects_without_a_layer_with_all() -> None:
    results = [
        result("h", 1, 0.1), result("h", 20, 0.2), result("z", 1, 0.3), result("z", 20, 0.4),
        result("h", 1, 0.5, "export"), result("h", 20, 0.6, "export"),
        result("pixels", 1, 0.7, "pixels"), result("pixels", 20, 0.8, "pixels"),
        "no result", {"subject": "broken"},
    ]  # fmt: skip
    rows = comparison_rows(results)
    assert [{name: found["value"] for name, found in row.items()} for row in rows] == [
        {"trained": 0.1, "export": 0.5, "pixels": 0.7},
        {"trained": 0.2, "export": 0.6, "pixels": 0.8},
        {"trained": 0.3, "pixels": 0.7},
        {"trained": 0.4, "pixels": 0.8},
    ]
    assert comparison_rows(None) == comparison_rows([]) == []


def test_evaluation_table_shows_every_result_and_its_gain(folder: Path) -> None:
    rows = [result("h", 20, 0.8, interval=[0.777, 0.823]), result("z", 20, 0.4),
            result("h", 20, 0.5, "untrained"), result("z", 20, 0.45, "untrained")]  # fmt: skip
    (table, *_) = evaluation_tables(evaluation(folder, "knn.json", results=rows))
    cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", table)]
    assert [cell.replace("\u202f", " ") for cell in cells] == [
        "layer", "setting", "trained", "untrained", "gain", "95 % interval",
        "h", "k 20", "80.0 %", "50.0 %", "+30.0", "77.7\u201382.3",
        "z", "k 20", "40.0 %", "45.0 %", "\u22125.0", "\u2013",
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
        ({"learning_rate": 30.0, "weight_decay": 1e-4, "validation_accuracy": 0.571},
         "learning rate 30, weight decay 0.0001, validation 57.1\u202f%"),
        ({"fraction": None}, "fraction none"),
        ({}, "\u2013"),
    ],
)  # fmt: skip
def test_setting_text_of_every_protocol(setting: dict[str, object], text: str) -> None:
    assert setting_text(setting) == text


def test_chance_of_unbalanced_classes_is_the_largest_of_them(folder: Path) -> None:
    data = {"classes": 6, "largest_class_share": 0.4}
    assert headline_scores(evaluation(folder, "knn.json", data=data))[0].baselines["chance"] == 0.4


def test_headline_gives_the_number_of_test_images(folder: Path) -> None:
    record = evaluation(folder, "knn.json", results=[result("h", 20, 0.6, test_images=2000)])
    assert headline_scores(record)[0].note == "on h, k 20; 2,000 test images"
