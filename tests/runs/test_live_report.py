"""The report that a browser follows while a run goes."""

import json

import pytest

from coview.runs import live_report
from coview.runs.live_report import LiveReport
from coview.runs.run import Run


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"total_steps": 100}))
    return Run(tmp_path)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live_report.time, "monotonic", lambda: now[0])
    return now


def report(run, step):
    with run.metrics_path.open("a") as stream:
        stream.write(json.dumps({"kind": "step", "step": step, "loss": 1.0, "seconds": 1.0}) + "\n")


def page(run):
    return run.report_path.read_text() if run.report_path.exists() else ""


def test_it_is_written_at_once_and_then_at_most_every_15_seconds(run, clock):
    live = LiveReport(run)
    report(run, 10)
    live.write({"step": 10})
    assert "running: step 10 of 100" in page(run)
    assert "data-reload" in page(run)
    report(run, 20)
    clock[0] += 14
    live.write()
    assert "step 20 of 100" not in page(run)
    clock[0] += 2
    live.write()
    assert "running: step 20 of 100" in page(run)


def test_it_follows_the_monitor_and_leaves_the_end_to_the_end(run):
    calls = []

    def monitor(step, last=False):
        calls.append((step, last))
        return last

    followed = LiveReport(run).following(monitor)
    assert followed(100, True) is True
    assert page(run) == ""
    assert followed(50) is False
    assert "data-reload" in page(run)
    assert calls == [(100, True), (50, False)]


def test_other_processes_write_nothing(run):
    LiveReport(run, enabled=False).write()
    assert page(run) == ""


def test_a_report_that_cannot_be_written_is_said_once_and_stops_nothing(run, clock, capsys):
    run.report_path.mkdir()
    live = LiveReport(run)
    for _ in range(3):
        live.write()
        clock[0] += 60
    assert capsys.readouterr().out.count("The report is not written before the end") == 1
