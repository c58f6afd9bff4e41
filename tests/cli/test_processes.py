"""`--processes N`: several processes by one command."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import coview
from coview.cli import main, processes
from coview.core.errors import InvalidValue
from coview.training.distribution import check_devices

WORDS = ("--size", "8", "--encoder", "resnet10/8-small", "--batch", "32", "--device", "cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(100):
        pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_two_processes_do_what_one_does(photos, tmp_path, capfd):
    common = ["pretrain", str(photos), "--epochs", "2", *WORDS, "--precision", "fp32"]
    assert main([*common, "--out", str(tmp_path / "one"), "--workers", "1"]) == 0
    capfd.readouterr()
    assert main([*common, "--out", str(tmp_path / "two"), "--processes", "2"]) == 0
    text = capfd.readouterr()
    assert text.out.count("On 2 processes") == 1
    one, two = (coview.Run.open(tmp_path / name) for name in ("one", "two"))
    assert two.description["processes"] == 2
    assert "--processes 2" in two.description["command"]
    losses = [[row["loss"] for row in run.metrics("step")] for run in (one, two)]
    assert np.allclose(losses[0], losses[1], rtol=1e-3)


def test_a_mistake_is_said_once_and_gives_its_exit_code(tmp_path, capfd):
    missing = str(tmp_path / "photos-that-are-not-there")
    assert main(["pretrain", missing, "--processes", "2", "--device", "cpu"]) == 2
    assert capfd.readouterr().err.count("There is no folder or file") == 1


@pytest.fixture
def training(photos, tmp_path):
    """A command that trains in two processes, and its run, after some steps."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "coview", "pretrain", str(photos), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--epochs", "20000", *WORDS, "--processes", "2"], stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    try:
        while not (metrics.is_file() and '"step", "step"' in metrics.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process, out
    finally:  # its own processes end when it is gone
        process.kill()
        process.communicate()


def test_ctrl_c_saves_and_the_run_goes_on(training):
    process, out = training
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error.decode()
    run = coview.Run.open(out)
    assert run.checkpoint_steps
    assert not run.is_ended


def test_processes_whose_parent_is_killed_save_and_end(training):
    process, out = training
    process.kill()
    deadline = time.monotonic() + 120
    run = coview.Run.open(out)
    while not run.checkpoint_steps or run.lock_path.exists():
        assert time.monotonic() < deadline, "the processes are still training"
        time.sleep(0.1)
    assert not run.is_ended


@pytest.mark.parametrize(("count", "world"), [(0, 1), (2, 4)])
def test_a_wrong_number_is_one_sentence(count, world, monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    with pytest.raises(InvalidValue, match="`processes` is"):
        processes.starts_processes(count)


@pytest.mark.parametrize("verb", ["embed", "duplicates", "study", "recipes"])
def test_a_verb_that_works_in_one_process_is_refused_under_torchrun(verb, monkeypatch, capsys):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    words = {"embed": ["nowhere", "nothing"], "duplicates": ["nowhere"]}.get(verb, [])
    assert main([verb, *words]) == 2
    assert f"{verb} works in one process, and torchrun has started 4." in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "distill", "detect", "resume"])
def test_a_verb_that_trains_may_run_under_torchrun(verb, tmp_path, monkeypatch, capsys):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    places = [str(tmp_path / name) for name in ("nowhere", "nothing")]
    assert main([verb, *places[: 1 if verb in ("pretrain", "resume") else 2]]) == 2
    printed = capsys.readouterr().err
    assert "nowhere" in printed
    assert "one process" not in printed


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    with pytest.raises(InvalidValue, match="this machine has 2 GPUs"):
        check_devices(3, "auto")
    check_devices(2, "auto")
    check_devices(3, "cpu")
