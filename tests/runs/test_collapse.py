"""A run that has collapsed for good ends, with its verdict; a user can let it go on."""

from dataclasses import replace

import coview
from coview.diagnosis import giving_up
from coview.methods import SameNetwork
from coview.recipes import change, recipe
from small_run import pictures


def test_a_run_that_has_collapsed_for_good_is_given_up_and_goes_on_if_asked(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(giving_up, "MATCHED", 0.2)  # 34 held-out images give 0.05 by chance
    byol = change(
        recipe("byol-cpu"), size=8, encoder="resnet18/8-small", batch_size=16, epochs=33,
        precision="fp32",
    )  # fmt: skip
    alone = replace(byol, method=replace(byol.method, predictor=None, target=SameNetwork()))
    images = pictures()[0]
    run = coview.pretrain(images, recipe=alone, out=tmp_path / "run", device="cpu", workers=1)
    assert run.description["steps_per_epoch"] == 7
    assert run.verdict["label"] == "collapsed"
    assert run.verdict["sentence"].endswith("The run was stopped at step 210 of 231.")
    assert run.is_ended
    assert run.last_step == 210
    assert run.encoder_path.is_dir()
    first, last = [event["text"] for event in run.metrics("event")]
    assert first.startswith("Every image has the same embedding at step 203.")
    assert "since step 203" in last
    assert first in capsys.readouterr().out
    # It takes two reports again.
    longer = coview.resume(run.path, epochs=31, data=images)
    assert longer.last_step == 217
