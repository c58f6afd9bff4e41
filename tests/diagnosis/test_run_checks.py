"""Run folders in every state that a training can leave: ended, killed, resumed, empty."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coview.core.errors import InvalidValue, RunError
from coview.core.files import append_line, write_json
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.run_checks import (
    check_run,
    health_history,
    neighbor_accuracy,
    supervised_classes,
)

LEARNED = HealthFigures(
    images=256, width_h=64, width_z=32, loss=3.8, chance_level=5.54, random_loss=5.94, lower_bound=1.27,
    feature_std_z=0.9, feature_std_h=0.5, rank_h=20.0, rank_z=17.0, alignment=0.6, uniformity=-2.8,
    instance_accuracy_z=0.412, instance_accuracy_h=0.4, mean_positive_similarity=0.7, mean_negative_similarity=0.1,
    identical_views=0.0, color_instance_accuracy=0.07, thumbnail_instance_accuracy=0.3,
    piece_accuracy_h=0.45, piece_accuracy_pixels=0.24, piece_accuracy_levels=0.21, copied_images=0.0,
)  # fmt: skip
UNTRAINED = replace(
    LEARNED,
    loss=5.5,
    feature_std_z=0.1,
    rank_h=8.0,
    rank_z=2.0,
    instance_accuracy_z=0.05,
    instance_accuracy_h=0.06, mean_positive_similarity=0.2, piece_accuracy_h=0.1,
)  # fmt: skip
DEAD = replace(
    UNTRAINED, loss=5.54, feature_std_z=0.0, rank_z=1.0, instance_accuracy_z=1 / 256,
    mean_positive_similarity=1.0, mean_negative_similarity=1.0,
)  # fmt: skip
ENDED = {
    "label": "learning", "sentence": "Learning: as recorded.", "causes": [], "remedy": "",
    "step": 400,
}  # fmt: skip


def make_run(folder: Path, *reports: HealthFigures, **description: Any) -> Path:
    """A run of 400 planned steps with a health report every 200 and a step line beside each."""
    folder.mkdir()
    write_json(folder / "run.json", {"total_steps": 400, "recipe": {}, "data": {}, **description})
    for i, report in enumerate(reports):
        health = {"kind": "health", "step": 200 * i, "epoch": i, "figures": report.to_json()}
        append_line(folder / "metrics.jsonl", health)
        if i:
            add_step(folder, 200 * i)
    return folder


def add_step(folder: Path, step: int, wait_share: float = 0.02) -> None:
    append_line(
        folder / "metrics.jsonl",
        {"kind": "step", "step": step, "loss": 4.0, "wait_share": wait_share},
    )


def test_check_run_takes_the_recorded_verdict_of_a_run_that_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED)
    write_json(run / "verdict.json", ENDED)
    report = check_run(run)
    assert report.ended
    assert report.sentence == "Learning: as recorded."
    assert (report.step, report.total_steps, report.exit_code) == (400, 400, 0)


def test_check_run_judges_a_killed_run_from_its_metrics(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, DEAD, DEAD)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "st')
    report = check_run(run)
    assert not report.ended
    assert (report.label, report.exit_code) == ("collapsed", 4)
    assert "every image gets the same embedding" in report.sentence
    assert report.causes
    assert "`warmup_epochs`" in report.remedy


def test_check_run_judges_anew_a_run_that_went_on_after_its_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, DEAD)
    write_json(run / "verdict.json", {**ENDED, "step": 200})
    report = check_run(run)
    assert (report.label, report.ended) == ("collapsed", False)


def test_check_run_lets_the_later_line_of_a_step_stand(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, DEAD)
    line = {"kind": "health", "step": 400, "epoch": 2, "figures": LEARNED.to_json()}
    append_line(run / "metrics.jsonl", line)
    assert check_run(run).label == "learning"


def test_check_run_uses_the_recorded_change_of_the_parameters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED)
    line = {"kind": "health", "step": 400, "figures": LEARNED.to_json(), "parameter_change": 0.0}
    append_line(run / "metrics.jsonl", line)
    assert (check_run(run).label, check_run(run).exit_code) == ("unchanged", 6)


def test_check_run_prints_verdict_causes_remedy_then_figures(tmp_path: Path) -> None:
    text = check_run(make_run(tmp_path / "run", UNTRAINED, DEAD, DEAD)).render_text()
    lines = text.splitlines()
    assert lines[0].startswith("Collapsed: ")
    assert lines[1].startswith("Instance accuracy ")
    assert lines[2].startswith("  Likely cause: ")
    assert lines[4].startswith("  What to do: ")
    assert lines.index("") == 5
    assert lines[6].split()[-3:] == ["step", "400", "untrained"]


def test_check_run_shows_each_figure_beside_the_untrained_one(tmp_path: Path) -> None:
    report = check_run(make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED))
    row = next(
        line
        for line in report.render_text().splitlines()
        if line.startswith("  Instance accuracy of z")
    )
    assert row.split()[-2:] == ["41.2%", "5.0%"]
    assert report.figures["rank_h"] == (20.0, 8.0)
    names = {
        line[2:58].rstrip() for line in report.render_text().splitlines() if line.startswith("  ")
    }
    # A share of the way, and a number that a healthy training may lower.
    assert {"Way from chance to the lower bound (higher is better)", "Effective rank of h"} <= names
    assert (report.health_step, report.images) == (400, 256)


def test_step_0_of_a_run_from_weights_is_not_called_untrained(tmp_path: Path) -> None:
    for name, start in (("weights", {"path": "encoder"}), ("random", None)):
        run = make_run(tmp_path / name, LEARNED, LEARNED, LEARNED, start=start)
        report = check_run(run)
        text = report.render_text()
        assert (report.label, report.from_weights) == ("unchanged", start is not None)
        assert ("untrained" in text) == (start is None)
        assert ("no better than the weights it began with" in text) == (start is not None)
        assert ("(at the start " in report.details) == (start is not None)


def test_check_run_lists_complete_checkpoints_in_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED)
    assert "There is no complete checkpoint." in check_run(run).render_text()
    for step, complete in ((400, True), (200, True), (300, False)):
        folder = run / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "END").write_text("0")
    report = check_run(run)
    assert report.checkpoints == ("step-00000200", "step-00000400")
    assert "Checkpoints: step-00000200, step-00000400." in report.render_text()


def test_check_run_lists_skipped_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED)
    assert check_run(run).notes == ()
    for step in (31, 390):
        line = {"kind": "skipped", "step": step, "ids": [5, 6], "reason": "loss is inf"}
        append_line(run / "metrics.jsonl", line)
    (note,) = check_run(run).notes
    assert note.startswith("Skipped steps: 2, the last at step 390 (loss is inf; images 5, 6)")


def test_check_run_says_when_the_device_waits_for_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED, LEARNED, LEARNED)
    for step in range(401, 421):
        add_step(run, step, wait_share=0.38)
    (note,) = check_run(run).notes
    assert note.startswith("Data-bound: a step waits 38% of its time")
    assert "`workers`" in note


def test_check_run_of_a_young_run_is_too_early(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED)
    add_step(run, 40)
    report = check_run(run)
    assert (report.label, report.exit_code) == ("too early", 0)
    assert "40 of 400 steps" in report.sentence


def test_check_run_of_a_run_without_metrics_is_too_early(tmp_path: Path) -> None:
    report = check_run(make_run(tmp_path / "run"))
    assert (report.label, report.figures) == ("too early", {})
    assert "no figures of the network before training" in report.render_text()


def test_check_run_reads_a_fine_tuning_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", kind="finetune")
    add_step(run, 400)
    report = check_run(run)
    assert (report.label, report.ended) == ("too early", False)
    assert "no verdict yet" in report.render_text()
    write_json(run / "verdict.json", {**ENDED, "label": "fine-tuned", "sentence": "Fine-tuned."})
    report = check_run(run)
    assert (report.label, report.ended, report.exit_code) == ("fine-tuned", True, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"accuracy": 0.75}, "75.0% of the test images are classified correctly"),
        ({"figure": "AP50", "value": 0.25, "train_value": 0.5}, "AP50 25.0% on test images"),
        ({"agreement": 0.5, "train_agreement": 0.75}, "the teacher's class of 50.0% of the test"),
        ({"accuracy": None}, "no verdict yet"),
    ],
)
def test_check_run_says_the_figure_that_a_run_with_labels_has_measured(
    tmp_path: Path, line: dict[str, Any], words: str
) -> None:
    run = make_run(tmp_path / "run", kind="detect")
    append_line(run / "metrics.jsonl", {"kind": "validation", "step": 200, "images": 20, **line})
    assert words in check_run(run).sentence


def test_check_run_report_is_json(tmp_path: Path) -> None:
    broken = replace(LEARNED, feature_std_z=math.nan, loss=math.nan)
    report = check_run(make_run(tmp_path / "run", UNTRAINED, LEARNED, broken))
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert read["label"] == report.label == "collapsed"
    assert read["figures"]["feature_std_z"] == {"now": None, "before": 0.1}


def test_check_run_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run: it has no run\.json"):
        check_run(tmp_path)


def test_check_run_names_figures_that_an_older_version_lacks(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", UNTRAINED)
    line = {"kind": "health", "step": 200, "figures": {"loss": 4.0}}
    append_line(run / "metrics.jsonl", line)
    with pytest.raises(InvalidValue, match="lack images"):
        check_run(run)


def test_supervised_classes_counts_them_for_methods_that_need_labels() -> None:
    data = {"class_names": ["cat", "dog", "owl"]}
    for needed, count in ((True, 3), (False, 0)):
        assert supervised_classes({"needs_labels": needed, "data": data}) == count
    assert supervised_classes({"data": data}) == 0


def test_lines_that_lack_a_figure_are_no_reports():
    whole = [{"kind": "knn", "accuracy": a, "images": 128} for a in (0.25, 0.5)]
    cut = [{"kind": "knn", "accuracy": None, "images": 128}, {"kind": "knn", "accuracy": 0.75}]
    assert neighbor_accuracy([*whole, *cut]) == neighbor_accuracy(whole)
    with pytest.raises(InvalidValue, match="health figures lack images"):
        health_history([{"kind": "health", "step": 0}])
