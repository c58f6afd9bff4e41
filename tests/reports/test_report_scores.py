"""Which numbers stand at the top of the page, and how evaluations are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_run import make_run

from coview.reports import Record, read_record
from coview.reports.evaluation import (
    CHOICES,
    axis_chart,
    class_table,
    confusion_block,
    evaluation_section,
    own_settings,
    results_table,
)
from coview.reports.results import comparison_rows, headline_row, setting_text
from coview.reports.scores import headline_scores


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
    assert score.note == "kNN accuracy on h, k 20"


def test_headline_holds_the_baselines(folder: Path) -> None:
    knn, linear, found = headline_scores(read_record(folder))
    assert knn.baselines == {"before training": 0.418, "raw pixels": 0.333, "by chance": 1 / 6}
    assert linear.value == 0.868
    assert linear.baselines == {"before training": 0.521, "raw pixels": 0.387, "by chance": 1 / 6}
    assert found.baselines == {
        "before training": 0.03, "raw pixels": 0.18, "brightness": 0.02, "by chance": 1 / 1280,
    }  # fmt: skip


def test_without_labels_images_are_found_again_beside_pixels_and_colors(tmp_path: Path) -> None:
    record = read_record(make_run(tmp_path, images=20, labels=False))
    piece, view = headline_scores(record)
    now, start = (record.health[i]["figures"] for i in (-1, 0))
    assert piece.value == now["piece_accuracy_h"]
    assert view.value == now["instance_accuracy_h"]
    assert view.baselines == {
        "before training": start["instance_accuracy_h"], "raw pixels": 0.161,
        "color histogram": 0.102, "by chance": 1 / 1280,
    }  # fmt: skip


def test_headline_falls_back_to_the_accuracy_while_training(folder: Path) -> None:
    (folder / "evaluation" / "knn.json").unlink()
    record = read_record(folder)
    knn, linear, _ = headline_scores(record)
    assert knn.value == record.knn[-1]["accuracy"]
    assert knn.baselines == {"before training": record.knn[0]["accuracy"], "by chance": 1 / 6}
    assert linear.note.startswith("Linear accuracy on h")


def test_headline_row_prefers_h_to_any_number_of_neighbors() -> None:
    rows = comparison_rows([result("z", 20, 0.9), result("h", 200, 0.1)])
    assert headline_row(rows, {"layer": "h", "k": 20})["trained"]["layer"] == "h"


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


def cells(table: object) -> list[str]:
    found = re.findall("<t[hd][ >].*?</t[hd]>", str(table))
    return [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in found]


def test_evaluation_table_shows_every_result_with_its_interval_and_gain(folder: Path) -> None:
    rows = [result("h", 20, 0.8, interval=[0.777, 0.823]), result("z", 20, 0.4),
            result("h", 20, 0.5, "untrained"), result("z", 20, 0.45, "untrained")]  # fmt: skip
    record = evaluation(folder, "knn.json", results=rows)
    section = evaluation_section(record.evaluation("knn"))
    assert cells(section)[:10] == [
        "layer", "setting", "trained", "untrained", "gain",
        "h", "k 20", "80.0 % 77.7\u201382.3", "50.0 %", "+30.0",
    ]  # fmt: skip
    assert cells(section)[10:] == ["z", "k 20", "40.0 %", "45.0 %", "\u22125.0"]
    assert "similarity" in section.split("<details>")[1]


def test_gain_of_an_error_is_its_fall_and_metrics_have_a_column() -> None:
    rows = comparison_rows([
        {"subject": "trained", "layer": "h", "metric": "error", "value": 0.2},
        {"subject": "trained", "layer": "h", "metric": "rankme", "value": 12.0},
        {"subject": "untrained", "layer": "h", "metric": "error", "value": 0.5},
        {"subject": "untrained", "layer": "h", "metric": "rankme", "value": 20.5},
    ])  # fmt: skip
    table = cells(results_table(rows, {"metric": "error"}))
    assert table[6:] == [
        "h", "\u2013", "Error", "20.0 %", "50.0 %", "+30.0",
        "h", "\u2013", "RankMe", "12.0", "20.5", "\u22128.50",
    ]  # fmt: skip


def test_rows_pair_by_setting_or_where_each_subject_chose_its_own_by_place() -> None:
    grown = [result("h", 1, 0.1), result("h", 20, 0.2), result("h", 20, 0.3, "b"),
             result("h", 50, 0.4, "b")]  # fmt: skip
    values = [{n: r["value"] for n, r in row.items()} for row in comparison_rows(grown)]
    assert values == [{"trained": 0.1}, {"trained": 0.2, "b": 0.3}]
    chosen = [result("h", 3, 0.1), result("h", 7, 0.2, "b")]
    assert [list(row) for row in comparison_rows(chosen)] == [["trained", "b"]]


def test_chosen_settings_stand_beside_each_other_below_the_fixed_ones() -> None:
    def results(subject: str, chosen: int) -> list[dict[str, object]]:
        last = result("h", chosen, 0.5, subject)
        last["setting"]["validation_accuracy"] = chosen / 100  # type: ignore[index]
        return [result("h", 1, 0.1, subject), result("h", 20, 0.2, subject), last]

    rows = comparison_rows(results("a", 5) + results("b", 50))
    assert [list(row) for row in rows] == [["a", "b"]] * 3
    assert cells(results_table(rows, {}))[-3:] == ["each its own", "50.0 %", "50.0 %"]
    section = evaluation_section({"results": results("a", 5) + results("b", 50)})
    table, _, protocol = section.partition("<summary>Protocol</summary>")
    assert CHOICES in table
    assert "validation" not in table.replace(CHOICES, "")
    assert "a: k 5, validation 5.0\u202f%; b: k 50, validation 50.0\u202f%" in protocol
    assert CHOICES not in evaluation_section({"results": results("a", 5)[:2]})


def test_a_row_of_several_subjects_has_the_setting_of_each() -> None:
    chosen = [result("h", 3, 0.1), result("h", 7, 0.2, "b")]
    for each in chosen:
        each["setting"]["temperature"] = None  # type: ignore[index]
    assert cells(results_table(comparison_rows(chosen), {})) == [
        "layer", "setting", "trained", "b", "h", "plain vote", "10.0 %", "20.0 %",
    ]  # fmt: skip
    (chose,) = own_settings(comparison_rows(chosen))
    assert chose == ("chosen on h, plain vote", "trained: k 3; b: k 7")
    one_setting = [result("h", 3, 0.1), result("h", 3, 0.2, "b")]
    assert cells(results_table(comparison_rows(one_setting), {}))[4:6] == ["h", "k 3"]
    nothing_shared = [result("h", 3, 0.1), result("h", 7, 0.2, "b")]
    assert cells(results_table(comparison_rows(nothing_shared), {}))[5] == "each its own"


def test_a_layer_that_the_first_subject_lacks_has_its_row() -> None:
    rows = comparison_rows([
        result("h", 1, 0.1, "export"), result("h", 1, 0.2, "run"), result("z", 1, 0.3, "run"),
        result("pixels", 1, 0.4, "pixels"),
    ])  # fmt: skip
    assert [list(row) for row in rows] == [["export", "run", "pixels"], ["run", "pixels"]]


def test_a_long_table_keeps_the_headline_and_folds_the_rest() -> None:
    results = [result("z", k, 0.1) for k in range(40)] + [result("h", 20, 0.9)]
    section = evaluation_section({"results": results, "headline": {"k": 20}})
    shown, folded = section.split("<details>")[:2]
    assert shown.count("<tr") == 2
    assert 'class="standard"' in shown
    assert "All 41 rows" in folded
    assert folded.count("<tr") == 42


def few(subject: str, labels: int, value: float, subset: str, **more: object) -> dict[str, object]:
    setting = {"labels": labels, "subset": subset, "k": 1, **more}
    return {"subject": subject, "layer": "h", "metric": "accuracy", "value": value,
            "setting": setting}  # fmt: skip


def test_axis_makes_a_curve_for_each_subject_along_it_alone() -> None:
    results = [
        few(subject, labels, value + labels / 1024, f"{labels}-each", kind=kind)
        for subject, value in (("a", 0.5), ("b", 0.2))
        for kind in ("frozen", "tuned")
        for labels in (1, 10, 100)
    ] + [few("a", 1, 0.9, "1-each", k=7, kind="frozen")]
    description = {"axis": "labels", "headline": {"subset": "10-each", "kind": "frozen", "k": 1}}
    chart = axis_chart({**description, "results": results})
    assert chart is not None
    assert chart.log_x
    assert [(line.name, line.points) for line in chart.lines] == [
        ("a", ([1, 10, 100], [0.5 + n / 1024 for n in (1, 10, 100)])), ("b", ([1, 10, 100], [0.2 + n / 1024 for n in (1, 10, 100)])),
    ]  # fmt: skip
    assert axis_chart({"results": results}) is None
    assert axis_chart({**description, "results": results[:1]}) is None


def test_classes_are_folded_worst_first() -> None:
    first = {"cat": 0.9, "ant": 0.25, "<dog>": 0.5}
    results = [
        {**result("h", 20, 0.5), "per_class": first},
        {**result("h", 20, 0.5, "pixels"), "per_class": {"cat": 0.1, "ant": 0.2}},
    ]
    table = class_table(comparison_rows(results), {"k": 20})
    assert cells(table)[3:] == [
        "ant", "25.0 %", "20.0 %", "&lt;dog&gt;", "50.0 %", "\u2013", "cat", "90.0 %", "10.0 %",
    ]  # fmt: skip
    assert class_table(comparison_rows([result("h", 1, 0.5)]), {}) is None


def test_evaluation_without_results_says_so(folder: Path) -> None:
    record = evaluation(folder, "knn.json", results=None)
    assert "No results in this file." in evaluation_section(record.evaluation("knn"))


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"k": 20, "temperature": 0.07, "k_used": 20}, "k 20, temperature 0.07"),
        ({"k": 200, "temperature": None, "k_used": 80}, "k 200, plain vote, all 80 images"),
        ({"learning_rate": 30.0, "weight_decay": 1e-4, "validation_accuracy": 0.571},
         "learning rate 30, weight decay 0.0001, validation 57.1\u202f%"),
        ({"learning_rate": 333.33333, "weight_decay": 1.23456e-5}, "learning rate 333, weight decay 1.23e-5"),
        ({"task": "rotation", "chance": 0.273333}, "task rotation, chance 27.3\u202f%"),
        ({"steps": 12345, "strength": 4096.5}, "steps 12,345, strength 4096.5"),
        ({"fraction": None}, "fraction none"),
        ({}, "\u2013"),
    ],
)  # fmt: skip
def test_setting_text_of_every_protocol(setting: dict[str, object], text: str) -> None:
    assert setting_text(setting) == text


def test_chance_of_unbalanced_classes_is_the_largest_of_them(folder: Path) -> None:
    data = {"classes": 6, "largest_class_share": 0.4}
    assert (
        headline_scores(evaluation(folder, "knn.json", data=data))[0].baselines["by chance"] == 0.4
    )


def test_headline_gives_the_number_of_test_images(folder: Path) -> None:
    results = [result("h", 20, 0.6, test_images=2000)]
    record = evaluation(folder, "knn.json", results=results)
    assert headline_scores(record)[0].note == "kNN accuracy on h, k 20; 2,000 test images"
    for source, name in (("/data/cifar-test", "cifar-test"), ("/data/pets/val", "pets/val")):
        data = {"test": {"source": source, "images": 2000}}
        note = headline_scores(evaluation(folder, "knn.json", results=results, data=data))[0].note
        assert note == f"kNN accuracy on h, k 20; 2,000 test images of {name}"


def test_after_an_evaluation_the_page_has_the_confusions_of_the_trained_network(
    folder: Path,
) -> None:
    counts = {"classes": ["cat", "<dog>"], "counts": [[8, 2], [5, 5]]}
    record = evaluation(folder, "linear.json", results=[
        result("h", 1, 0.65, confusion=counts), result("h", 1, 0.5, "untrained"),
    ])  # fmt: skip
    block = str(confusion_block(record.evaluations))
    assert "Which classes it confuses (Linear)" in block
    assert "&lt;dog&gt;" in block
    assert "5 of 10 images of" in block
    assert block.index("50.0\u202f%</td>") < block.index("80.0\u202f%</td>")  # worst class first
    assert confusion_block([{"protocol": "linear", "results": [result("h", 1, 0.5)]}]) is None
    broken = {**counts, "counts": [[1, 2]]}
    assert (
        confusion_block([{"protocol": "knn", "results": [result("h", 1, 0.5, confusion=broken)]}])
        is None
    )


def test_figures_of_other_images_name_them(folder: Path) -> None:
    def judged_on(source: str, images: int, protocol: str) -> Record:
        data = {"test": {"images": images, "source": source}}
        rows = [result("h", 20, 0.6, test_images=images)]
        return evaluation(folder, f"{protocol}.json", data=data, results=rows)

    judged_on("b/", 2000, "knn")
    knn, linear = headline_scores(judged_on("a/", 900, "linear"))[:2]
    assert knn.note.endswith("2,000 test images of b")
    assert linear.note.endswith("900 test images of a")
    record = judged_on("b/", 2000, "linear")
    assert headline_scores(record)[0].note.endswith("2,000 test images of b")
    assert "Judged on 2,000 images of b/." in evaluation_section(record.evaluation("knn"))
