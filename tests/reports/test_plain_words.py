"""The headline of a report says nothing that its run has not shown."""

import json

import pytest

from coview.reports.plain_words import words_of
from coview.reports.records import read_record
from coview.reports.summary import page_header

BETTER = "better than what it is compared with"


@pytest.mark.parametrize(
    ("kind", "baselines", "held_out", "says"),
    [
        ("finetune", True, 10, BETTER), ("finetune", False, 500, None),
        ("detect", True, 30, BETTER), ("detect", True, 29, None), ("detect", False, 500, None),
        ("distill", True, 500, "more often than the same network trained on the labels alone"),
        ("distill", False, 500, None),
    ],
)  # fmt: skip
def test_better_is_said_where_it_was_compared(kind, baselines, held_out, says, tmp_path):
    description = {"kind": kind, "baselines": baselines, "data": {"held_out": held_out}}
    (tmp_path / "run.json").write_text(json.dumps(description))
    (tmp_path / "verdict.json").write_text(json.dumps({"label": "learned", "sentence": "Learned."}))
    text = str(page_header(read_record(tmp_path)))
    assert "It has learned" in text
    assert (says or "than by chance" if kind == "distill" else says or "than chance") in text
    assert (says is not None) == ("compared with" in text or "labels alone" in text)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("kind", "baseline"), [("detect", "from scratch"), ("distill", "labels alone")]
)
def test_a_baseline_that_has_no_figures_is_not_compared_with(kind, baseline, there, tmp_path):
    description = {"kind": kind, "baselines": True, "data": {"held_out": 500}}
    rows = [{"subject": subject} for subject in ("its own", *[baseline] * there)]
    (tmp_path / "evaluation").mkdir()
    evaluation = tmp_path / "evaluation" / f"{kind}.json"
    evaluation.write_text(json.dumps({"protocol": kind, "results": rows}))
    (tmp_path / "run.json").write_text(json.dumps(description))
    (tmp_path / "verdict.json").write_text(json.dumps({"label": "learned", "sentence": "Learned."}))
    text = str(page_header(read_record(tmp_path)))
    assert ("compared with" in text or "labels alone" in text) == there


@pytest.mark.parametrize("undecided", [True, False])
def test_a_difference_that_is_open_is_not_called_a_failure(undecided, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"kind": "finetune", "baselines": True}))
    verdict = {"label": "no better than from scratch", "sentence": "Better, but."}
    verdict |= {"undecided": True} if undecided else {}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    text = str(page_header(read_record(tmp_path)))
    assert ("Too few test images to be sure" in text) == undecided
    assert ("has not helped" in text) != undecided
    for label in ("no better than from scratch", "no better than the linear probe"):
        for kind in ("finetune", "detect", "distill"):
            if (kind, label) != ("distill", "no better than the linear probe"):
                said = words_of(kind, label, running=False, undecided=True)
                assert said[0] == "Too few test images to be sure"
                assert ("teacher" in said[1]) == (kind == "distill")


def test_of_a_distilled_run_no_pretraining_is_doubted():
    headline, sentence = words_of("distill", "no better than from scratch", running=False)
    assert "teacher" in headline
    assert "without it" not in sentence
    assert "teacher" in words_of("distill", "at chance", running=False)[1]
