"""Runs under torchrun: what one process learns, two learn; and either goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from coview.cli import main
from coview.core.files import read_lines

WORDS = [
    "pretrain", "scenes", "--recipe=simclr-cpu", "--encoder=resnet10/8-medium", "--batch-size=32",
    "--limit=200", "--epochs=2", "--warmup-epochs=0", "--precision=fp32", "--workers=0",
]  # fmt: skip


TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
    "coview",
]  # fmt: skip


def coview(*words):
    """The command in this process, which has loaded torch already."""
    assert main(list(words)) == 0


def by_two(*words):
    """What the command says that two processes carry out."""
    done = subprocess.run(
        [*TORCHRUN, *words], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def losses(folder):
    return {
        r["step"]: r["loss"] for r in read_lines(folder / "metrics.jsonl") if r["kind"] == "step"
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    coview(*WORDS, "--out", str(folder / "one"))
    said = by_two(*WORDS, "--out", str(folder / "two"))
    return folder, said


@pytest.fixture(scope="module")
def tuned(runs):
    """The words of a fine-tuning, and what one process made of them."""
    folder, _ = runs
    words = [
        "finetune", str(folder / "one"), "scenes", "--limit=200", "--labels=50%", "--epochs=2",
        "--batch-size=16", "--precision=fp32", "--workers=0",
    ]  # fmt: skip
    coview(*words, "--out", str(folder / "tuned-by-one"))
    return words, folder / "tuned-by-one"


def test_two_processes_learn_what_one_learns(runs):
    folder, _ = runs
    one, two = losses(folder / "one"), losses(folder / "two")
    assert one.keys() == two.keys()
    assert len(one) == 10
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-4)


def test_one_process_speaks_and_writes(runs):
    folder, said = runs
    assert said.count("images are held out") == 1
    for name in ("verdict.json", "report.html", "encoder/model.safetensors"):
        assert (folder / "two" / name).exists()


def test_two_processes_fine_tune_as_one_does(tuned, tmp_path):
    words, by_one = tuned
    said = by_two(*words, "--out", str(tmp_path / "tuned"))
    assert said.count("From scratch:") == 1
    for part in (".", "scratch"):
        one, two = losses(by_one / part), losses(tmp_path / "tuned" / part)
        assert len(one) == 10
        assert two == pytest.approx(one, rel=1e-4)
    for name in ("probe.json", "predictions.json"):
        one, two = (
            json.loads((folder / name).read_text())["predicted"]
            for folder in (by_one, tmp_path / "tuned")
        )
        assert one == two


def test_two_processes_distill_as_one_does(tuned, tmp_path):
    words = [
        "distill", str(tuned[1]), "scenes", "--limit=200", "--labels=50%", "--epochs=1",
        "--batch-size=16", "--precision=fp32", "--workers=0", "--student=resnet10/8-medium",
        "--temperature=0.5",
    ]  # fmt: skip
    coview(*words, "--out", str(tmp_path / "student-of-one"))
    said = by_two(*words, "--out", str(tmp_path / "student-of-two"))
    assert said.count("The labels alone:") == 1
    for part in (".", "scratch"):
        one, two = (
            losses(tmp_path / "student-of-one" / part),
            losses(tmp_path / "student-of-two" / part),
        )
        assert len(one) >= 10
        # Beyond, rounding has grown along the steps of AdamW.
        first = {step: one[step] for step in sorted(one)[:20]}
        assert {step: two[step] for step in first} == pytest.approx(first, rel=1e-4)


def test_a_mistake_of_the_user_is_one_sentence(tmp_path):
    done = subprocess.run(
        [*TORCHRUN, "pretrain", "scenes", "--limit", "200", "--batch", "100000", "--out",
         str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--batch-size 100,000 does not fit" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_of_two_goes_on_with_one(tmp_path):
    run = tmp_path / "run"
    words = [word for word in WORDS if not word.startswith("--epochs")]
    started = subprocess.Popen(
        [*TORCHRUN, *words, "--epochs=200", "--out", str(run)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    record = run / "metrics.jsonl"
    for _ in range(600):
        if record.exists() and record.read_text().count('"kind": "step"') >= 2:
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    started.wait(60)
    before = losses(run)
    assert (run / "checkpoints").is_dir()
    assert not (run / "verdict.json").exists()
    resumed = subprocess.Popen(
        [sys.executable, "-m", "coview", "resume", str(run), "--workers=0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for _ in range(600):
        if len(losses(run)) > len(before):
            break
        time.sleep(0.1)
    resumed.send_signal(signal.SIGTERM)
    said, _ = resumed.communicate(timeout=60)
    assert "Going on after step" in said
    after = losses(run)
    assert len(after) > len(before)
    assert {step: after[step] for step in before} == before
