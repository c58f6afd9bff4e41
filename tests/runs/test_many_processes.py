"""Runs under torchrun: what one process learns, two learn; and either goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from coview.core.files import read_lines

WORDS = [
    "pretrain", "scenes", "--recipe=simclr-cpu", "--encoder=resnet10/8-medium", "--batch-size=32",
    "--limit=200", "--epochs=2", "--warmup-epochs=0", "--precision=fp32", "--workers=0",
]  # fmt: skip


def coview(*words, processes=1):
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    done = subprocess.run(
        [*start, "coview", *words], capture_output=True, text=True, check=False, timeout=300,
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
    said = coview(*WORDS, "--out", str(folder / "two"), processes=2)
    return folder, said


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


def test_two_processes_fine_tune_as_one_does(runs):
    folder, _ = runs
    words = [
        "finetune", str(folder / "one"), "scenes", "--limit=200", "--labels=50%", "--epochs=2",
        "--batch-size=16", "--precision=fp32", "--workers=0",
    ]  # fmt: skip
    coview(*words, "--out", str(folder / "tuned-by-one"))
    said = coview(*words, "--out", str(folder / "tuned-by-two"), processes=2)
    assert said.count("From scratch:") == 1
    for part in (".", "scratch"):
        one, two = losses(folder / "tuned-by-one" / part), losses(folder / "tuned-by-two" / part)
        assert len(one) == 10
        assert two == pytest.approx(one, rel=1e-4)
    for name in ("probe.json", "predictions.json"):
        one, two = (
            json.loads((folder / tuned / name).read_text())["predicted"]
            for tuned in ("tuned-by-one", "tuned-by-two")
        )
        assert one == two


def test_two_processes_distill_as_one_does(runs):
    folder, _ = runs
    tuned = [
        "finetune", str(folder / "one"), "scenes", "--limit=200", "--epochs=1", "--batch-size=16",
        "--precision=fp32", "--workers=0", "--no-baselines", "--out", str(folder / "teacher"),
    ]  # fmt: skip
    coview(*tuned)
    words = [
        "distill", str(folder / "teacher"), "scenes", "--limit=200", "--labels=50%", "--epochs=1",
        "--batch-size=16", "--precision=fp32", "--workers=0", "--student=resnet10/8-medium",
        "--temperature=0.5",
    ]  # fmt: skip
    coview(*words, "--out", str(folder / "student-of-one"))
    said = coview(*words, "--out", str(folder / "student-of-two"), processes=2)
    assert said.count("The labels alone:") == 1
    for part in (".", "scratch"):
        one, two = (
            losses(folder / "student-of-one" / part),
            losses(folder / "student-of-two" / part),
        )
        assert len(one) >= 10
        # Beyond, rounding has grown along the steps of AdamW.
        first = {step: one[step] for step in sorted(one)[:20]}
        assert {step: two[step] for step in first} == pytest.approx(first, rel=1e-4)


def test_a_mistake_of_the_user_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
         "coview", "pretrain", "scenes", "--limit", "200", "--batch", "100000", "--out",
         str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--batch-size 100,000 does not fit" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_of_two_goes_on_with_one(tmp_path):
    run = tmp_path / "run"
    words = [word for word in WORDS if not word.startswith("--epochs")]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    started = subprocess.Popen(
        [*start, "-m", "coview", *words, "--epochs=200", "--out", str(run)],
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
