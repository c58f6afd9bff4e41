"""Runs that are stopped, refused by the disk, or diverge: nothing is lost and nothing is hidden."""

import errno
import json
import shutil
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch import nn

import coview
from coview.cli import main
from coview.core.errors import RunError, StorageError
from coview.core.run_folder import RunFolder
from coview.core.run_lock import run_lock
from coview.data.spec import DataSpec
from coview.options import ResumeOptions
from coview.recipes import recipe
from coview.runs.data import RunData
from coview.runs.resume import _open_again, other_processes
from coview.training import Checkpoints, StopSignals

WORDS = [
    "--size", "8", "--encoder", "resnet18/8-small", "--batch", "32", "--epochs", "2",
    "--device", "cpu",
]  # fmt: skip
SCENES = ["pretrain", "scenes", "--limit", "120", *WORDS]
CLOCK = {"images_per_second", "wait_share", "seconds"}


def record(run):
    """metrics.jsonl without what depends on the clock or on having stopped."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows
            if row["kind"] != "event"]  # fmt: skip


def weights(run):
    return (run / "encoder" / "model.safetensors").read_bytes()


@pytest.fixture
def stopped(monkeypatch):
    """Runs a command that is stopped after its first step."""

    def run(words):
        with monkeypatch.context() as patch:
            patch.setattr(StopSignals, "__call__", lambda self: "stopped by the test")
            assert main(words) == 75

    return run


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert main([*SCENES, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "all"
    folder.mkdir(parents=True)
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 255, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_scenes_go_on_by_the_command_alone(straight, stopped, tmp_path, capsys):
    stopped([*SCENES, "--out", str(tmp_path / "run")])
    assert f"coview resume {tmp_path / 'run'}" in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "run"), "--workers", "0"]) == 0
    assert "to the bit" not in capsys.readouterr().out
    assert weights(tmp_path / "run") == weights(straight)
    assert record(tmp_path / "run") == record(straight)


def test_a_run_without_a_checkpoint_begins_anew(straight, stopped, tmp_path, capsys):
    stopped([*SCENES, "--out", str(tmp_path / "run")])
    for path in (tmp_path / "run" / "checkpoints" / "step-00000001").iterdir():
        path.unlink()
    (tmp_path / "run" / "checkpoints" / "step-00000001").rmdir()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "begins anew" in capsys.readouterr().out
    assert record(tmp_path / "run") == record(straight)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("job", "write_contact_sheet"),
        ("pretraining", "write_gallery"),
        ("finish", "write_report"),
        ("finish", "write_json"),
    ],
)
def test_ctrl_c_outside_the_steps_leaves_a_run_that_goes_on(
    straight, tmp_path, monkeypatch, capsys, module, function
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module(f"coview.runs.{module}"), function, interrupt)
        assert main([*SCENES, "--out", str(tmp_path / "run")]) == 130
    assert f"coview resume {tmp_path / 'run'}" in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert weights(tmp_path / "run") == weights(straight)
    assert record(tmp_path / "run") == record(straight)
    assert "Too early" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("content", [None, b"", b'\xff{"kind"', b'{"kind": "health", "step": 0}\n'])
def test_a_run_whose_record_is_damaged_has_the_same_end(straight, stopped, tmp_path, content):
    run = tmp_path / "run"
    stopped([*SCENES, "--out", str(run)])
    path = run / "metrics.jsonl"
    path.unlink() if content is None else path.write_bytes(content)
    assert main(["resume", str(run)]) == 0
    assert record(run) == record(straight)
    assert (run / "verdict.json").read_bytes() == (straight / "verdict.json").read_bytes()


def test_a_recipe_that_was_changed_is_refused(stopped, tmp_path, capsys):
    run = tmp_path / "run"
    stopped([*SCENES, "--out", str(run)])
    description = json.loads((run / "run.json").read_text())
    description["recipe"]["schedule"]["warmup_epochs"] += 1
    (run / "run.json").write_text(json.dumps(description))
    assert main(["resume", str(run)]) == 2
    assert "damaged or edited" in capsys.readouterr().err


def test_a_missing_report_of_an_ended_run_is_written_again(straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    (run / "report.html").unlink()
    assert main(["resume", str(run)]) == 0
    assert (run / "report.html").exists()
    assert main(["resume", str(run)]) == 2  # nothing is missing


def test_a_run_that_another_process_writes_is_left_alone(stopped, tmp_path, capsys):
    run = tmp_path / "run"
    stopped([*SCENES, "--out", str(run)])
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    with run_lock(run), run_lock(tmp_path / "new"):
        capsys.readouterr()
        assert main(["resume", str(run)]) == 2
        assert main([*SCENES, "--out", str(tmp_path / "new")]) == 2
        said = capsys.readouterr().err
        assert said.count("is being written by process") == said.count("\n") == 2
        assert main(["report", str(run)]) == 0
        assert main(["evaluate", str(run), "scenes", "--limit", "60"]) == 0
        assert not (tmp_path / "new" / "run.json").exists()
    kept = [(path, date) for path, date in before if path.is_file() and path.suffix != ".html"]
    assert all(path.stat().st_mtime_ns == date for path, date in kept)
    assert main(["resume", str(run)]) == 0


def test_a_relative_folder_is_found_from_another_place(photos, stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    stopped(["pretrain", "photos", *WORDS, "--out", str(tmp_path / "run")])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_moved_images_are_asked_for_and_found(photos, stopped, tmp_path, capsys):
    run = tmp_path / "run"
    stopped(["pretrain", str(photos), *WORDS, "--out", str(run)])
    photos.rename(tmp_path / "moved")
    assert main(["resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "--data" in said
    assert said.count("\n") == 1
    assert main(["resume", str(run), "--data", str(tmp_path / "moved")]) == 0


def test_arrays_are_asked_for_again(monkeypatch, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)
    monkeypatch.setattr(StopSignals, "__call__", lambda self: "stopped by the test")
    run = coview.pretrain(
        images, out=tmp_path / "run", size=8, encoder="resnet18/8-small", batch_size=16, epochs=1,
        device="cpu",
    )  # fmt: skip
    with pytest.raises(RunError, match="were in memory"):
        coview.resume(run.path)


def test_a_full_disk_at_the_end_leaves_a_run_that_goes_on(straight, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("coview.training.checkpoints.write_durably", full)
        assert main([*SCENES, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert "No space left" in said.err
    assert f"coview resume {tmp_path / 'run'}" in said.err
    assert "saved" not in said.out
    assert not (tmp_path / "run" / "verdict.json").exists()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert weights(tmp_path / "run") == weights(straight)


def test_a_full_disk_at_the_export_leaves_a_run_that_goes_on(straight, tmp_path, monkeypatch):
    def full(*_, **__):
        raise StorageError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr("coview.encoders.exchange.export.write_json", full)
        assert main([*SCENES, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run" / "verdict.json").exists()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert weights(tmp_path / "run") == weights(straight)
    assert record(tmp_path / "run") == record(straight)


def test_a_run_goes_on_in_the_precision_it_began_with(stopped, tmp_path, monkeypatch):
    run = tmp_path / "run"
    stopped([*SCENES, "--out", str(run), "--precision", "fp32"])
    description = RunFolder(run).description
    description["recipe"]["precision"] = "auto"
    RunFolder(run).write_description(description)
    monkeypatch.setattr("coview.training.precision.computes_in_bf16", lambda device: True)
    asked = []
    choose = coview.training.precision.choose_precision
    monkeypatch.setattr(
        import_module("coview.recipes.build"),
        "choose_precision",
        lambda *words, **more: asked.append(choose(*words, **more)) or asked[-1],
    )
    assert main(["resume", str(run)]) == 0
    assert [precision.format for precision in asked] == ["fp32"]


def test_a_run_that_goes_on_with_other_libraries_says_so(stopped, straight, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    stopped([*SCENES, "--out", str(run.path)])
    description = dict(run.description)
    now = description["environment"]
    assert {"torch", "torchvision", "numpy", "numba", "coview", "device"} <= now.keys()
    before = {**now, "torch": "1.0", "numba": "0.1", "fused_loss": True}
    del before["numpy"]  # as in a run of before it was recorded
    run.write_description({**description, "environment": before})
    capsys.readouterr()
    assert main(["resume", str(run.path)]) == 0
    assert (
        f"The run goes on with torch {now['torch']} in place of 1.0, numba {now['numba']} in place "
        "of 0.1, the fused loss off in place of on: the rest may not be the same to the bit."
    ) in capsys.readouterr().out.replace("\n", " ")
    assert weights(run.path) == weights(straight)


@pytest.mark.parametrize(
    ("name", "dropout", "words"),
    [
        ("simclr-cpu", 0.0, ""),
        ("simclr-cpu", 0.1, "dropout and stochastic depth draw other masks from here on"),
        ("moco-cpu", 0.0, "BatchNorm takes its statistics of other groups of images from here on"),
        ("detect-cpu", 0.0, "each process pads its images to the largest of another part"),
        ("segment-cpu", 0.0, ""),
    ],
)
def test_what_another_number_of_processes_changes_is_said(name, dropout, words, monkeypatch):
    monkeypatch.setattr(
        sys.modules["coview.runs.resume"], "build_task", lambda _: nn.Dropout(dropout)
    )
    run = SimpleNamespace(description={"processes": 1}, recipe=recipe(name))
    assert other_processes(run, 1) == ""
    said = other_processes(run, 2)
    assert words in said
    assert bool(said) == bool(words)


def test_a_diverged_run_is_given_up_and_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    wild = ["--optimizer", "sgd", "--learning-rate", "1e25", "--epochs", "8"]
    assert main([*SCENES, *wild, "--out", str(run)]) == 4
    said = capsys.readouterr().out
    assert "Diverged" in said
    assert "--learning-rate" in said
    assert "none is written" in said
    assert not (run / "encoder").exists()
    assert (run / "report.html").exists()
    assert Checkpoints(run / "checkpoints").load_latest() is not None
    assert main(["doctor", str(run)]) == 4
    assert main(["resume", str(run)]) == 2
    assert "--weights" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rate", "epochs", "code", "words"),
    [
        ("1000", "4", 4, "Diverged: the parameters have moved"),
        ("1e-12", "17", 6, "Nothing has changed"),
    ],
)
def test_a_learning_rate_out_of_range_gets_its_verdict(tmp_path, capsys, rate, epochs, code, words):
    run = tmp_path / "run"
    options = ["--learning-rate", rate, "--batch", "8", "--epochs", epochs]
    assert main([*SCENES, *options, "--out", str(run)]) == code
    assert words in capsys.readouterr().out
    (run / "verdict.json").unlink()  # as if it had been killed at the very end
    assert main(["doctor", str(run)]) == code
    assert words in capsys.readouterr().out


def test_a_run_goes_on_though_the_weights_that_it_began_with_are_gone(
    stopped, straight, tmp_path, capsys
):
    begun, run = tmp_path / "first.safetensors", tmp_path / "run"
    begun.write_bytes(weights(straight))
    stopped([*SCENES, "--weights", str(begun), "--out", str(run)])
    begun.unlink()
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    assert "goes on without them" in capsys.readouterr().out
    assert (run / "verdict.json").exists()
    assert (run / "report.html").exists()


@pytest.mark.parametrize(("fingerprint", "tested"), [("a", 0), ("a+b", 1)])
def test_a_source_that_has_got_parts_is_opened_as_it_was(tmp_path, fingerprint, tested):
    """Fine-tuning on a known set began with a fifth as test images before such sets had parts."""
    for part, first in (("train", 0), ("test", 12)):
        for row in range(first, first + 12):
            place = tmp_path / "set" / part / "ab"[row % 2] / f"{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 5 * row, np.uint8)).save(place)
    spec = DataSpec.of(str(tmp_path / "set"), size=8)
    run = SimpleNamespace(
        path=tmp_path, data=RunData(images=spec, own_test=True),
        description={"data": {"fingerprint": fingerprint}},
    )  # fmt: skip
    assert (_open_again(run, ResumeOptions(run="r")).test is not None) == tested
