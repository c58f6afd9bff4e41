"""Stopped anywhere and started again, a run gives bit for bit the run that would have been."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch

from coview.core.files import read_lines
from coview.training import Checkpoints

TIMES = {"images_per_second", "wait_share", "seconds"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that never stopped: its folder and final state, once for each optimizer."""

    @functools.cache
    def train(optimizer, method="simclr"):
        folder = tmp_path_factory.mktemp(optimizer)
        outcome, state = tiny_run.run(folder, optimizer=optimizer, method=method)
        assert (outcome.step, outcome.stopped) == (40, False)
        return folder, state

    return train


def assert_same(first, second):
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def reports(folder):
    """The record without what depends on the clock."""
    rows = [row for row in read_lines(folder / "metrics.jsonl") if row["kind"] == "step"]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("optimizer", sorted(tiny_run.OPTIMIZERS))
def test_resume_of_twenty_steps_gives_the_forty_straight_ones(
    straight, tmp_path, optimizer, workers
):
    folder, expected = straight(optimizer)
    outcome, _ = tiny_run.run(tmp_path, optimizer=optimizer, workers=workers, stop_after=20)
    assert (outcome.step, outcome.stopped) == (20, True)
    outcome, state = tiny_run.run(tmp_path, optimizer=optimizer, workers=workers)
    assert (outcome.step, outcome.stopped) == (40, False)
    assert_same(state, expected)
    assert reports(tmp_path) == reports(folder)


@pytest.mark.parametrize("method", ["byol", "logo-moco"])
def test_resume_of_methods_with_a_memory(straight, tmp_path, method):
    folder, expected = straight("sgd", method)
    for stop in (13, None):
        _, state = tiny_run.run(tmp_path, method=method, stop_after=stop)
    assert_same(state, expected)
    assert reports(tmp_path) == reports(folder)


def test_resume_the_run_it_is_compared_with_learns(straight):
    """Equal bits would be no news of a run in which nothing moves."""
    _, state = straight("sgd")
    learner, _, _ = tiny_run.build("nowhere-at-all")
    moved = [
        name
        for name, tensor in learner.state_dict().items()
        if not torch.equal(tensor, state[f"task/{name}"])
    ]
    assert len(moved) == len(learner.state_dict())


@pytest.mark.parametrize("stops", [(1,), (4,), (7, 8, 23), (39,)])
def test_resume_after_any_steps_with_changing_workers(straight, tmp_path, stops):
    folder, expected = straight("sgd")
    for workers, step in enumerate(stops):
        tiny_run.run(tmp_path, workers=workers, stop_after=step)
    assert_same(tiny_run.run(tmp_path, workers=2)[1], expected)
    assert reports(tmp_path) == reports(folder)


def test_resume_with_labels(straight, tmp_path):
    _, expected = straight("sgd", "supcon")
    tiny_run.run(tmp_path, method="supcon", stop_after=13, workers=1)
    assert_same(tiny_run.run(tmp_path, method="supcon")[1], expected)


def test_resume_of_a_finished_run_does_nothing(straight, tmp_path):
    tiny_run.run(tmp_path, stop_after=None)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    outcome, state = tiny_run.run(tmp_path)
    assert (outcome.step, outcome.stopped) == (40, False)
    assert_same(state, straight("sgd")[1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_resume_from_the_checkpoint_before_a_damaged_one(straight, tmp_path):
    folder, expected = straight("sgd")
    tiny_run.run(tmp_path, stop_after=10)
    tiny_run.run(tmp_path, stop_after=25)
    state = tmp_path / "checkpoints" / "step-00000025" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    assert_same(tiny_run.run(tmp_path)[1], expected)
    assert reports(tmp_path) == reports(folder)


def test_resume_without_workers_gives_the_same_as_with(straight, tmp_path):
    _, expected = straight("lars")
    assert_same(tiny_run.run(tmp_path, optimizer="lars", workers=2)[1], expected)


def start(folder):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, str(Path(tiny_run.__file__)), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def test_resume_after_sigterm_to_a_process_of_its_own(tmp_path):
    process = start(tmp_path / "stopped")
    for line in process.stdout:
        if line.strip() == "10":
            break
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert "after this step and saving" in complaint
    step = Checkpoints(tmp_path / "stopped" / "checkpoints").load_latest().step
    assert said.split()[-2:] == ["stopped", str(step)]
    assert 10 <= step < 400
    until = step + 10
    straight = tiny_run.run(tmp_path / "straight", total_steps=400, stop_after=until)[1]
    assert_same(tiny_run.run(tmp_path / "stopped", total_steps=400, stop_after=until)[1], straight)
