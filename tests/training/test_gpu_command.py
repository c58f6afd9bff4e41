"""`make gpu` without a GPU: every part runs at its smallest size, and none takes the others along."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
gpu = import_module("gpu")
Part = import_module("on_gpu.part").Part

FAKE = """
import sys, time, pathlib
number, out = int(sys.argv[2]), pathlib.Path(sys.argv[4])
line = '{"part": %d, "name": "a | b", "ok": true, "values": {"seconds": 1.5, "of": [2, 3]}, "note": ""}'
with (out / "results.jsonl").open("a") as file:
    file.write(line % number + chr(10))
    file.flush()
if number == 1: time.sleep(60)
if number == 2: sys.exit("out of memory")
if number == 3: (out / "results.jsonl").open("a").write('{"part": 3, "na')
"""


def results(folder):
    return (folder / "results.jsonl").read_text().splitlines()


@pytest.mark.parametrize("number", gpu.PARTS)
def test_a_part_runs_on_a_cpu_at_its_smallest_size(number, tmp_path):
    module = import_module(f"on_gpu.{gpu.PARTS[number][0]}")
    module.run(Part(number, torch.device("cpu"), True, 300.0, tmp_path))
    lines = [json.loads(text) for text in results(tmp_path)]
    assert lines
    assert [line for line in lines if line["ok"] is False] == []


LIMITS = {1: 5.0, 2: 60.0, 3: 60.0}
"""Seconds: the first part overruns, the others end at once, also on a busy machine."""


def options(folder, **more):
    given = {
        "out": folder,
        "parts": "1,2,3",
        "device": "cpu",
        "tiny": True,
        "seconds": sum(LIMITS.values()),
        "data": [],
    }
    return SimpleNamespace(**given | more)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "gpu.py").write_text(FAKE)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu, "FOLLOWS", 1.0)
    monkeypatch.setattr(gpu, "LEAST", 0.5)
    monkeypatch.setattr(gpu, "PARTS", {n: ("none", s, f"Title {n}") for n, s in LIMITS.items()})
    monkeypatch.setattr(gpu, "setting_of", lambda device: "a machine")
    return tmp_path / "out"


def test_a_part_that_overruns_or_crashes_leaves_the_others(fake, capsys):
    assert gpu.run_all(options(fake)) == 1
    content = json.loads((fake / "gpu.json").read_text())
    faults = {int(number): end["fault"] for number, end in content["parts"].items()}
    assert faults[1].startswith("overran its 5 s and was killed")
    assert faults[2] == "ended with code 1: out of memory"
    assert faults[3] == ""
    assert [line["part"] for line in content["results"]] == [1, 2, 3]  # kept, without the cut line
    assert "| a / b | yes | seconds 1.5; of 2, 3 |" in (fake / "gpu.md").read_text()
    assert "3 of 3 checks hold" in capsys.readouterr().out


def test_some_parts_leave_the_results_of_others(fake):
    gpu.run_all(options(fake, parts="3"))
    gpu.run_all(options(fake, parts="2"))
    text = (fake / "gpu.md").read_text()
    assert text.index("Title 2") < text.index("Title 3")
    assert "Title 1" not in text


def test_a_failed_case_is_a_result_and_one_without_time_is_left_out(tmp_path):
    part = Part(4, torch.device("cpu"), True, 5.0, tmp_path)
    with part.case("breaks") as go:
        assert go
        raise torch.OutOfMemoryError("too large\nmore")
    with part.case("long", needs=100) as go:
        assert not go
    failed, late = [json.loads(text) for text in results(tmp_path)]
    assert failed["ok"] is False
    assert failed["note"].startswith("OutOfMemoryError at test_gpu_command.py")
    assert failed["note"].endswith("too large")
    assert late["ok"] is None
    assert "needs 100 s" in late["note"]


@pytest.mark.parametrize(("words", "numbers"), [("", list(gpu.PARTS)), ("4,2", [2, 4])])
def test_parts_are_run_in_their_order(words, numbers):
    assert gpu.chosen_parts(words) == numbers


def test_an_unknown_part_is_named():
    with pytest.raises(SystemExit, match="no part 12"):
        gpu.chosen_parts("2,12")


def test_the_parts_fit_into_nine_minutes():
    assert sum(seconds for _, seconds, _ in gpu.PARTS.values()) <= gpu.TOTAL < 540
