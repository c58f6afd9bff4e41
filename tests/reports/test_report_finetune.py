"""The report of a fine-tuning run: its accuracies, its confusions, and no sections without content."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from finetune_run import ACCURACIES, make_finetune_run
from report_run import NASTY
from test_report_page import Outline, change, report_of

from coview.reports import read_record, write_report
from coview.reports.confusion import largest_confusions
from coview.reports.figures import accuracy_chart, loss_chart


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_finetune_run(tmp_path_factory.mktemp("runs") / "pets")


@pytest.fixture(scope="module")
def outline(folder: Path) -> Outline:
    return report_of(folder)


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def cells(page: str, table: str) -> list[list[str]]:
    """The texts of the cells of the first table after ``table``, row by row."""
    body = page[page.index(table) :].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    rows = re.findall("<tr.*?</tr>", body)
    return [
        [plain(re.sub("<[^>]*>", "", c)) for c in re.findall("<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]


def test_finetune_report_has_the_sections_that_it_can_fill(outline: Outline) -> None:
    assert [a["id"] for a in outline.named("section")] == [
        "accuracy", "curves", "numbers", "making"]  # fmt: skip
    assert "resnet18" in outline.text
    assert "kNN" not in outline.text


def test_finetune_report_begins_with_sentence_and_accuracies(outline: Outline) -> None:
    start = plain(outline.text[: outline.text.index("Largest confusions")])
    for words in ("It has learned", "of 1,200 test images are classified correctly", "Raise --epochs for",
                  "Fine-tuning run of finetune-cpu", "87.4 %", "79.1 %", "63.8 %",
                  "finished after 600 steps"):  # fmt: skip
        assert words in start, words


def test_accuracies_stand_beside_their_intervals(folder: Path) -> None:
    page = write_report(folder).read_text("utf-8")
    assert cells(page, 'id="accuracy"') == [
        ["fine-tuned", "87.4 %", "85.3 % to 89.3 %", "1,200"],
        ["linear probe", "79.1 %", "77.0 % to 81.0 %", "1,200"],
        ["from scratch", "63.8 %", "61.7 % to 65.7 %", "1,200"],
    ]
    assert list(ACCURACIES) == ["fine-tuned", "linear probe", "from scratch"]


def test_what_is_not_known_of_the_test_images_is_not_said(tmp_path: Path) -> None:
    folder = make_finetune_run(tmp_path)
    new = "Accuracy on test images that no training and no choice has used."
    for caveats, lead in ((None, "Accuracy on test images."), ([], new)):
        change(folder / "evaluation" / "finetune.json", data={"caveats": caveats})
        assert lead in report_of(folder).text
    sentence = "The run before was trained on 9 of the 1,200 test images. Give `test` others."
    change(folder / "evaluation" / "finetune.json", data={"caveats": [sentence]})
    text = report_of(folder).text
    assert new not in text
    # Of a run of the command line a field is an option, of another one the field.
    assert sentence.replace("`test`", "--test") in text
    change(folder / "run.json", command="python my.py")
    assert sentence.replace("`", "") in report_of(folder).text
    assert "1,200 test images; not all need be new to the network, see below" in plain(text)


def test_confusion_matrix_holds_every_count_under_its_heads(folder: Path) -> None:
    page = write_report(folder).read_text("utf-8")
    evaluation = json.loads((folder / "evaluation" / "finetune.json").read_text())
    rows = cells(page, 'class="confusion"')
    assert [row[0] for row in rows] == evaluation["classes"]
    assert [[int(cell) for cell in row[1:]] for row in rows] == evaluation["confusion"]
    head = page.split('class="confusion"')[1].split("<thead>")[1].split("</thead>")[0]
    names = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<th.*?</th>", head)][1:]
    assert names == evaluation["classes"]
    assert head.count('scope="col"') == len(names) + 1


def test_shades_grow_with_the_share_of_the_row(tmp_path: Path) -> None:
    folder = make_finetune_run(tmp_path, classes=2)
    change(folder / "evaluation" / "finetune.json", confusion=[[75, 25], [0, 40]])
    page = write_report(folder).read_text("utf-8")
    body = page.split('class="confusion"')[1].split("</table>")[0]
    shades = [float(shade) for shade in re.findall(r"--shade:([\d.]+)", body)]
    assert shades == pytest.approx([0.7 * 0.75**0.5, 0.7 * 0.25**0.5, 0.7], abs=0.005)
    assert re.findall('class="(right|wrong|zero)"', body) == ["right", "wrong", "zero", "right"]


def test_classes_without_test_images_have_no_accuracy(tmp_path: Path) -> None:
    folder = make_finetune_run(tmp_path, classes=2)
    classes = [
        {"name": "a", "images": 40, "accuracy": 0.75},
        {"name": "b", "images": 0, "accuracy": None},
    ]
    change(folder / "evaluation" / "finetune.json", per_class=classes)
    page = write_report(folder).read_text("utf-8")
    assert cells(page, "Accuracy of each class") == [["a", "40", "75.0 %"], ["b", "0", "\u2013"]]


def test_largest_confusions_are_sorted_and_in_words(tmp_path: Path) -> None:
    folder = make_finetune_run(tmp_path, classes=3)
    confusion = [[40, 10, 0], [0, 99, 1], [20, 5, 25]]
    change(folder / "evaluation" / "finetune.json", confusion=confusion)
    assert largest_confusions(confusion) == [(2, 0, 20), (0, 1, 10), (2, 1, 5), (1, 2, 1)]
    text = plain(report_of(folder).text)
    assert "20 of 50 images of bird are predicted as airplane (40.0 %)" in text
    assert text.index("20 of 50 images") < text.index("10 of 50 images of airplane")


def test_many_classes_have_no_matrix_but_a_table_and_confusions(tmp_path: Path) -> None:
    outline = report_of(make_finetune_run(tmp_path, classes=60))
    assert "60 classes are too many to show" in outline.text
    assert "Largest confusions" in outline.text
    assert not any(a.get("class") == "confusion" for a in outline.named("table"))


def test_curves_hold_validation_and_training(folder: Path) -> None:
    record = read_record(folder)
    chart = accuracy_chart(record)
    assert [line.name for line in chart.lines] == ["test", "training"]
    assert chart.lines[0].points[1] == [row["accuracy"] for row in record.validation]
    assert [(level.name, level.height) for level in chart.levels] == [("chance level", 1 / 12)]
    assert [line.name for line in loss_chart(record).lines] == ["loss", "test"]


def test_running_finetune_has_curves_and_no_accuracy_yet(tmp_path: Path) -> None:
    outline = report_of(make_finetune_run(tmp_path, finished=False))
    assert [a["id"] for a in outline.named("section")] == ["curves", "numbers", "making"]
    assert "step 300 of 600" in outline.text


@pytest.mark.parametrize(
    "values",
    [
        {"results": None, "confusion": None, "per_class": None, "classes": None},
        {"results": [3, {}, {"metric": "accuracy", "value": "high"}], "per_class": [None, {}]},
        {"confusion": [[1, 2]], "per_class": [{"name": "x", "images": "?", "accuracy": 1}]},
        {"confusion": [[1.5] * 12] * 12}, {"confusion": [[-1] * 12] * 12},
        {"confusion": [[0] * 12] * 12}, {"classes": "names"}, {"results": {}, "confusion": {}},
    ],
)  # fmt: skip
def test_damaged_parts_of_the_evaluation_are_left_out(
    tmp_path: Path, values: dict[str, object]
) -> None:
    folder = make_finetune_run(tmp_path)
    change(folder / "evaluation" / "finetune.json", **values)
    assert "How it was made" in report_of(folder).text


def test_names_of_classes_are_escaped(tmp_path: Path) -> None:
    folder = make_finetune_run(tmp_path, classes=2)
    change(folder / "evaluation" / "finetune.json", classes=[NASTY, "b"], confusion=[[5, 5], [5, 5]],
           per_class=[{"name": NASTY, "images": 10, "accuracy": 0.5}],
           results=[{"subject": NASTY, "metric": "accuracy", "value": 0.5, "interval": [NASTY, 1]}])  # fmt: skip
    outline = report_of(folder)
    assert [a.get("type") for a in outline.named("script")] == [None]
    assert outline.text.count("<script>alert") >= 5


def test_finetune_report_is_accessible(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(a.get("scope") in ("row", "col") for a in outline.named("th"))
    regions = [a for _, a in outline.elements if a.get("role") == "region"]
    assert [(a["aria-label"], a["tabindex"]) for a in regions] == [("Confusion matrix", "0")]


def test_report_of_a_distilled_run_has_agreement_and_the_sizes_of_the_networks(folder, tmp_path):
    run = tmp_path / "student"
    run.mkdir()
    for name in ("run.json", "metrics.jsonl", "verdict.json"):
        (run / name).write_text((folder / name).read_text())
    change(run / "run.json", kind="distill")
    tuned = json.loads((folder / "evaluation" / "finetune.json").read_text())
    result = {"layer": "logits", "interval": [0.7, 0.8], "test_images": 1200}
    rows = [
        ("student", "agreement", 0.91, 1_240_000), ("student", "accuracy", 0.72, 1_240_000),
        ("teacher", "accuracy", 0.75, 4_900_000), ("labels alone", "accuracy", 0.41, 1_240_000),
    ]  # fmt: skip
    results = [
        {**result, "subject": subject, "metric": metric, "value": value,
         "setting": {"parameters": size}}
        for subject, metric, value, size in rows
    ]  # fmt: skip
    (run / "evaluation").mkdir()
    (run / "evaluation" / "distill.json").write_text(
        json.dumps({**tuned, "protocol": "distill", "results": results})
    )
    page = write_report(run).read_text("utf-8")
    text = plain(re.sub("<[^>]*>", "", page))
    assert "Distillation run of" in text
    assert "The student gives the teacher's class for 91.0 % of 1,200 test images" in (
        text.replace("&#x27;", "'")
    )
    assert cells(page, "gives the teacher")[:3] == [
        ["student", "1.24 M", "72.0 %", "70.0 % to 80.0 %", "1,200"],
        ["teacher", "4.9 M", "75.0 %", "70.0 % to 80.0 %", "1,200"],
        ["labels alone", "1.24 M", "41.0 %", "70.0 % to 80.0 %", "1,200"],
    ]
    assert "Not evaluated yet" not in page
