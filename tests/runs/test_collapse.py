"""A run that has collapsed for good ends, with its verdict; a user can let it go on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import coview
from coview.diagnosis import giving_up
from coview.methods import SameNetwork
from coview.recipes import change, recipe
from coview.runs import collapse
from coview.runs.collapse import CollapseWatch
from coview.runs.pretraining import Pretraining
from coview.training import MetricsLog
from small_run import pictures


def test_a_run_that_has_collapsed_for_good_is_given_up_and_goes_on_if_asked(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(giving_up, "MATCHED", 0.2)  # 34 held-out images give 0.05 by chance
    byol = change(
        recipe("byol-cpu"), size=8, encoder="resnet18/8-small", batch_size=16, epochs=33,
        precision="fp32", warmup_epochs=0.5,
    )  # fmt: skip
    alone = replace(byol, method=replace(byol.method, predictor=None, target=SameNetwork()))
    images, path = pictures()[0], tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Pretraining, "finish", killed)
        coview.pretrain(images, recipe=alone, out=path, device="cpu", workers=1)
    lines = (path / "metrics.jsonl").read_text()
    # The run was given up at step 210, and lacks its verdict.
    run = coview.resume(path, data=images)
    assert run.description["steps_per_epoch"] == 7
    assert run.verdict["label"] == "collapsed"
    assert run.verdict["sentence"].endswith("The run was stopped at step 210 of 231.")
    assert run.is_ended
    assert run.last_step == 210
    assert run.encoder_path.is_dir()
    assert run.metrics_path.read_text() == lines
    first, last = [event["text"] for event in run.metrics("event")]
    assert first.startswith("All images have nearly the same embedding at step 203 (two of them ")
    assert "since step 203 (two of them have a mean cosine of " in last
    assert capsys.readouterr().out.count(first) == 1
    # It takes two reports again.
    longer = coview.resume(run.path, epochs=33, data=images)
    assert longer.last_step == 224


def killed(*_, **__):
    raise SystemExit


def test_nothing_is_said_at_an_epoch_without_a_report(monkeypatch, capsys):
    schedule = SimpleNamespace(schedule=SimpleNamespace(warmup_epochs=0))
    description = {"steps_per_epoch": 7, "total_steps": 231}
    run = SimpleNamespace(recipe=schedule, description=description)
    log = MetricsLog(None, chance_level=1.0)
    watch = CollapseWatch(run, log, enabled=True)
    monkeypatch.setattr(collapse, "lost_since", lambda *_, **__: [203])
    measured = watch.following(lambda step, last: True)
    assert measured(210)
    assert log.rows == []
    assert capsys.readouterr().out == ""
