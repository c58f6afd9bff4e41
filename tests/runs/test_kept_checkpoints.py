"""Checkpoints that are kept: which, what takes them, and that a run is the same with them."""

import json

import pytest
import torch

import coview
from coview.cli import main
from coview.core.errors import InvalidValue, RunError
from coview.runs.load import trained_learner
from coview.training import Checkpoints
from small_run import SMALL, pictures

STEPS = 3  # of an epoch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return coview.pretrain(
        pictures(), out=tmp_path_factory.mktemp("runs") / "kept", epochs=5, keep_every=2, **SMALL
    )


def test_every_second_epoch_and_the_last_two_are_kept(run):
    assert run.checkpoint_steps == [2 * STEPS, 4 * STEPS, 5 * STEPS]
    assert "up to 4 are kept (`keep_every` 2)" in run.description["plan"][-1]


def test_keeping_changes_nothing_of_the_run(run, tmp_path):
    other = coview.pretrain(pictures(), out=tmp_path / "other", epochs=5, **SMALL)
    first, second = (Checkpoints(each.checkpoints_path).load(5 * STEPS) for each in (run, other))
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_every_verb_takes_a_kept_checkpoint(run, tmp_path):
    images, labels = pictures()
    encoder = coview.load(run.path, checkpoint=2 * STEPS)
    batch = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        h = trained_learner(run, 2 * STEPS).eval().encoder(batch)
        assert torch.allclose(encoder(batch), h, atol=1e-5)
        assert not torch.allclose(encoder(batch), coview.load(run.path)(batch), atol=1e-3)
    table = coview.embed(run.path, images[:4], checkpoint=2 * STEPS)
    last = coview.embed(run.path, images[:4])
    assert table["h"].tolist() != last["h"].tolist()
    results = coview.evaluate(
        run.path, (images, labels), checkpoint=2 * STEPS, protocols="knn", device="cpu"
    )
    assert results
    assert (run.evaluation_path / f"step-{2 * STEPS:08d}" / "knn.json").is_file()
    assert not run.evaluations  # the report shows those of the end
    path = coview.export(run.path, checkpoint=2 * STEPS)
    assert path.name == f"safetensors-step-{2 * STEPS}.safetensors"


@pytest.mark.parametrize("layer", [0, 1])
def test_fine_tuning_starts_from_a_kept_checkpoint(run, layer, tmp_path):
    tuned = coview.finetune(
        run.path, pictures(), checkpoint=2 * STEPS, from_layer=layer, epochs=1, batch_size=16,
        no_baselines=True, device="cpu", workers=1, out=tmp_path / "tuned", keep_every=1,
    )  # fmt: skip
    assert tuned.start.checkpoint == 2 * STEPS
    step = tuned.checkpoint_steps[0]
    classifier = coview.load(tuned.path, checkpoint=step)
    batch = torch.rand(2, 3, 8, 8)
    assert torch.allclose(classifier(batch), coview.load(tuned.path)(batch), atol=1e-5)
    again = coview.pretrain(
        pictures(), weights=tuned.path, checkpoint=step, epochs=1, out=tmp_path / "again", **SMALL
    )
    assert again.is_ended


def test_a_missing_step_names_those_that_there_are(run, capsys):
    sentence = "has no checkpoint of step 7, only of 6, 12, 15."
    for call in (
        lambda: coview.load(run.path, checkpoint=7),
        lambda: coview.export(run.path, checkpoint=7),
        lambda: coview.embed(run.path, pictures()[0], checkpoint=7),
        lambda: coview.evaluate(run.path, pictures(), checkpoint=7),
        lambda: coview.finetune(run.path, pictures(), checkpoint=7),
        lambda: coview.pretrain(pictures(), weights=run.path, checkpoint=7),
    ):
        with pytest.raises(RunError, match=sentence):
            call()
    assert main(["export", str(run.path), "--checkpoint", "7"]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_that_is_resumed_keeps_what_it_kept(run, tmp_path):
    description = json.loads(run.description_path.read_text())
    assert description["keep_every"] == 2
    with pytest.raises(InvalidValue, match="`keep_every` is 0"):
        coview.pretrain(pictures(), keep_every=0)
