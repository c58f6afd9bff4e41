"""Runs that go on for longer than they were to: after their end, after a stop, by a budget."""

import itertools
import json
import math
import shutil
from importlib import import_module
from types import SimpleNamespace

import pytest

import coview
from coview.cli import main
from coview.core.clock import Clock
from coview.core.errors import InvalidValue, RunError
from coview.core.files import append_line
from coview.core.values import encode
from coview.planning.defaults import MIN_STEPS
from coview.reports import read_record
from coview.reports.next_steps import longer_epochs
from coview.runs.duration import EXIT_SECONDS, Course, Duration
from coview.runs.extend import longer_command
from coview.runs.resume import resume
from coview.runs.run import Run
from coview.training import MetricsLog, Schedule, StopSignals, Timeline
from small_run import SMALL, pictures

IMAGES = pictures()
MORE = {"data": IMAGES, "device": "cpu", "workers": 0}
STEPS = 3  # of an epoch


def pretrain(folder, **options):
    return coview.pretrain(
        IMAGES, out=folder, **{**SMALL, "recipe": "byol", "epochs": 4, **options}
    )


def stop_after(monkeypatch, step):
    calls = itertools.count(1)
    monkeypatch.setattr(
        StopSignals, "__call__", lambda self: "stopped by the test" if next(calls) == step else ""
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return pretrain(tmp_path_factory.mktemp("ended") / "run")


@pytest.fixture
def copy(ended, tmp_path):
    shutil.copytree(ended.path, tmp_path / "run")
    return tmp_path / "run"


def rates(run):
    return {row["step"]: row["learning_rate"] for row in run.metrics("step")}


def test_an_ended_run_goes_on_by_a_warm_restart_and_keeps_its_history(ended, copy, capsys):
    longer = coview.resume(copy, epochs=8, **MORE)
    assert longer.is_ended
    assert longer.verdict["step"] == longer.total_steps == 8 * STEPS
    assert longer.description["hash"] == ended.description["hash"]
    assert longer.recipe == ended.recipe
    assert "digest" in json.loads(longer.description_path.read_text())
    assert [item["epochs"] for item in longer.description["durations"]] == [4, 8]
    assert [item["step"] for item in longer.description["durations"]] == [0, 4 * STEPS]
    before, after = rates(ended), rates(longer)
    assert {step: after[step] for step in before} == before
    assert after[4 * STEPS + 1] == before[1]  # the schedule begins again
    assert after[8 * STEPS] == pytest.approx(before[4 * STEPS], rel=0.2)
    said = capsys.readouterr().out
    assert "Extended after step 12 to 8 epochs, 24 steps. The learning rate begins its" in said
    assert longer.report_path.stat().st_mtime >= ended.report_path.stat().st_mtime
    assert f"{8 * STEPS}" in longer.report_path.read_text()


def test_a_stopped_run_stretches_the_rest_of_its_schedule(tmp_path, ended, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        stopped = pretrain(tmp_path / "run")
    longer = coview.resume(stopped.path, epochs=6, **MORE)
    assert longer.verdict["step"] == 6 * STEPS
    assert "The rest of the learning rate's schedule is spread over it" in capsys.readouterr().out
    straight, stretched = rates(ended), rates(longer)
    assert stretched[9] == straight[9]  # step 8 stands where it stood: no jump
    assert straight[11] < stretched[11] < straight[9]
    assert 0 < stretched[18] < straight[12]


def test_fewer_epochs_are_not_called_an_extension(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        stopped = pretrain(tmp_path / "run")
    coview.resume(stopped.path, epochs=3, **MORE)
    assert "Shortened after step 8 to 3 epochs, 9 steps." in capsys.readouterr().out


def test_an_extended_run_is_resumed_bit_for_bit(copy, tmp_path, monkeypatch):
    shutil.copytree(copy, tmp_path / "other")
    straight = coview.resume(copy, epochs=7, **MORE)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        coview.resume(tmp_path / "other", epochs=7, **MORE)
    again = coview.resume(tmp_path / "other", **MORE)
    assert again.is_ended
    for name in ("model.safetensors",):
        both = ((run.encoder_path / name).read_bytes() for run in (straight, again))
        assert len(set(both)) == 1
    assert rates(again) == rates(straight)


def test_an_extension_is_written_down_once():
    first = Duration(epochs=1, total_steps=10)
    longer = Duration(step=10, epochs=2, total_steps=20, budget=60.0, follows_clock=True)
    description = {"durations": [encode(first), encode(longer)]}
    # The clock has planned the total again at the step of this checkpoint.
    timeline = Timeline.of(10).restart(10, total=20).replan(14, total=18)
    schedule = Schedule(lambda line: line.positions(), timeline)
    begun = Course(description, 10, {"timeline": encode(Timeline.of(10))}, Clock(), trainings=1)
    meta = begun.meta(schedule)
    resumed = Course(description, 14, meta, Clock(), trainings=1)
    for course, step, lines in ((begun, 10, 1), (resumed, 14, 0)):
        metrics_log = MetricsLog(None, chance_level=0.0)
        course.note_extension(step, metrics_log)
        assert len(metrics_log.rows) == lines


def test_an_extension_that_was_killed_before_its_first_checkpoint_is_not_lost(copy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("coview.training.train", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            coview.resume(copy, epochs=5, **MORE)
    assert coview.resume(copy, **MORE).verdict["step"] == 5 * STEPS


def test_a_budget_extends_an_ended_run_by_the_clock(copy, monkeypatch, capsys):
    moments = itertools.count(0.0, 0.01)  # each look at the clock takes 10 ms
    monkeypatch.setattr("coview.core.clock.time", SimpleNamespace(monotonic=lambda: next(moments)))
    longer = coview.resume(copy, budget="5s", **MORE)
    assert longer.verdict["time"]["budget"] == 5.0
    assert longer.verdict["time"]["used"] == pytest.approx(5.0 - EXIT_SECONDS, rel=0.1)
    assert longer.verdict["step"] == longer.total_steps > 4 * STEPS
    assert "Budget:   5 s, used " in capsys.readouterr().out
    assert "budget" in longer.report_path.read_text()


def test_the_longer_run_that_is_named_is_twice_the_steps_that_were_made(copy):
    """A budget that allowed more than twice the first guess; the terminal and the report agree."""
    append_line(copy / "metrics.jsonl", {"kind": "plan", "step": 12, "total_steps": 301})
    run = Run.open(copy)
    assert f"epochs={math.ceil(2 * 301 / STEPS)}," in longer_command(run)
    record = read_record(copy)
    assert longer_epochs(record.description, record.total_steps) == math.ceil(2 * 301 / STEPS)


def test_a_short_run_is_to_make_the_steps_that_a_verdict_needs(ended):
    assert f"epochs={math.ceil(MIN_STEPS / STEPS)}," in longer_command(ended)


def test_the_first_budget_of_a_run_measures_how_long_its_end_takes(copy, monkeypatch):
    moments, calls = itertools.count(0.0, 0.01), []
    monkeypatch.setattr("coview.core.clock.time", SimpleNamespace(monotonic=lambda: next(moments)))
    module = import_module("coview.runs.pretraining")
    monkeypatch.setattr(module, "gallery_of", lambda *_: calls.append(1))
    coview.resume(copy, budget="2s", **MORE)
    assert len(calls) == 2  # a rehearsal, and the end


def test_extensions_that_make_no_sense_are_refused_and_change_nothing(copy):
    before = (copy / "run.json").read_bytes(), (copy / "verdict.json").read_bytes()
    for options, words in (
        ({"epochs": 4}, "has made 4; give more"),
        ({"epochs": float("nan")}, "expected a number above 0"),
        ({"epochs": 8, "budget": "1h"}, "give one"),
        ({"budget": "soon"}, "is not a duration"),
    ):
        with pytest.raises(InvalidValue, match=words):
            resume(copy, **options, **MORE)
    assert before == ((copy / "run.json").read_bytes(), (copy / "verdict.json").read_bytes())


def test_an_ended_run_says_how_it_goes_on(copy):
    verdict = json.loads((copy / "verdict.json").read_text())
    (copy / "verdict.json").write_text(json.dumps({**verdict, "label": "learning"}))
    with pytest.raises(RunError, match=r"longer: coview\.resume\('\S+', epochs=\d+, data=\.\.\.\)"):
        coview.resume(copy)
    assert main(["resume", str(copy)]) == 2
