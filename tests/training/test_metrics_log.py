import json
import os

import pytest

from coview.core.errors import InvalidValue
from coview.core.files import read_lines
from coview.training import MetricsLog


def record(path, **changes):
    return MetricsLog(path / "metrics.jsonl", **{"chance_level": 6.931, **changes})


def step_row(metrics_log, step, loss=5.0):
    return metrics_log.write("step", step, loss=loss, seconds=step / 2)


def test_metrics_log_line_is_what_was_written(tmp_path):
    metrics_log = record(tmp_path)
    row = metrics_log.write("knn", 98, epoch=1, k=10, accuracy=0.41, layer="h")
    assert read_lines(tmp_path / "metrics.jsonl") == [row]
    expected = {"kind": "knn", "step": 98, "epoch": 1, "k": 10, "accuracy": 0.41, "layer": "h"}
    assert row == expected


def test_metrics_log_numbers_that_are_not_finite_become_null(tmp_path):
    figures = {"rank": float("inf"), "parts": [1.0, float("nan")]}
    record(tmp_path).write("health", 0, figures=figures)
    (row,) = read_lines(tmp_path / "metrics.jsonl")
    assert row["figures"] == {"rank": None, "parts": [1.0, None]}


def test_metrics_log_opened_at_a_step_drops_later_lines(tmp_path):
    metrics_log = record(tmp_path)
    metrics_log.write("health", 0, epoch=0)
    for step in (10, 20, 30):
        step_row(metrics_log, step)
        metrics_log.write("event", step, text="x")
    again = record(tmp_path, step=20)
    kept = [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")]
    assert kept == [0, 10, 10, 20, 20]
    assert again.seconds == 10.0


def test_metrics_log_of_a_run_that_begins_anew_is_empty(tmp_path):
    """A run killed before its first checkpoint writes its untrained figures again."""
    record(tmp_path).write("health", 0, epoch=0)
    record(tmp_path)
    assert read_lines(tmp_path / "metrics.jsonl") == []


def test_metrics_log_line_cut_off_by_a_crash_is_dropped(tmp_path):
    metrics_log = record(tmp_path)
    step_row(metrics_log, 10)
    step_row(metrics_log, 20)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    step_row(record(tmp_path, step=10), 20)
    assert [row["step"] for row in read_lines(path)] == [10, 20]


DAMAGE = {
    "one byte": lambda whole: whole.replace(b'"step"', b'"st\xffep"', 1),
    "first line": lambda whole: whole.split(b"\n", 1)[1],
    "other values": lambda whole: whole.replace(b"10", b'"x"'),
    "half": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "zeros": lambda whole: bytes(len(whole)),
    "no objects": lambda whole: b"[1]\n3\nnull\n",
}


@pytest.mark.parametrize("damage", [*DAMAGE, "absent"])
def test_metrics_log_is_mended_from_the_checkpoint(tmp_path, capsys, damage):
    metrics_log, path = record(tmp_path), tmp_path / "metrics.jsonl"
    metrics_log.write("health", 0, epoch=0)
    for step in (10, 20):
        step_row(metrics_log, step, loss=5.0 - step)
    kept, whole = metrics_log.content, path.read_bytes()
    assert kept.encode() == whole
    path.unlink() if damage == "absent" else path.write_bytes(DAMAGE[damage](whole))
    again = record(tmp_path, step=20, record=kept)
    assert path.read_bytes() == whole
    assert (again.seconds, again.note(2)) == (10.0, metrics_log.note(2))
    assert "metrics.jsonl was damaged" in capsys.readouterr().out


@pytest.mark.parametrize("damage", DAMAGE)
def test_metrics_log_of_an_old_checkpoint_goes_on_with_what_can_be_read(tmp_path, damage):
    metrics_log, path = record(tmp_path), tmp_path / "metrics.jsonl"
    for step in (10, 20):
        step_row(metrics_log, step)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    step_row(record(tmp_path, step=20), 30)
    rows = read_lines(path)
    assert rows[-1]["step"] == 30
    assert len(rows) <= 3


def test_metrics_log_whose_file_is_damaged_while_it_is_written_is_mended_at_the_end(tmp_path):
    metrics_log, path = record(tmp_path), tmp_path / "metrics.jsonl"
    step_row(metrics_log, 10)
    whole = path.read_bytes()
    path.write_bytes(b"{")
    metrics_log.mend()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(("step", "due"), [(1, False), (9, False), (10, True), (11, False)])
def test_metrics_log_is_due_every_so_many_steps_of_the_run(tmp_path, step, due):
    assert record(tmp_path, step=7).due(step) is due


def test_metrics_log_interval_of_zero_is_refused(tmp_path):
    with pytest.raises(InvalidValue):
        record(tmp_path, every=0)


def test_metrics_log_note_grows_with_what_is_known(tmp_path):
    metrics_log = record(tmp_path)
    assert metrics_log.note(2) == "epoch 2.0"
    step_row(metrics_log, 10, loss=5.1034)
    assert metrics_log.note(2) == "epoch 2.0, loss 5.103 (chance 6.931)"
    metrics_log.write("knn", 10, accuracy=0.41)
    assert metrics_log.note(2) == "epoch 2.0, loss 5.103 (chance 6.931), kNN 41.0 %"
    assert record(tmp_path, step=10).note(2) == metrics_log.note(2)


def test_metrics_log_on_a_full_disk_catches_up_when_there_is_room(tmp_path, monkeypatch, capsys):
    metrics_log = record(tmp_path)
    step_row(metrics_log, 10)

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("coview.core.files.Path.open", refuse)
        step_row(metrics_log, 20)
        step_row(metrics_log, 30)
    assert capsys.readouterr().out.count("No space left") == 1
    step_row(metrics_log, 40)
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [10, 20, 30, 40]


def test_metrics_log_truncation_is_atomic(tmp_path, monkeypatch):
    metrics_log = record(tmp_path)
    for step in (10, 20):
        step_row(metrics_log, step)
    path = tmp_path / "metrics.jsonl"
    before = path.read_text()

    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, step=10)
    assert path.read_text() == before
    assert [json.loads(line)["step"] for line in before.splitlines()] == [10, 20]
