"""`make gpu` without a GPU: every part runs at its smallest size, and none takes the others along."""

import json
import subprocess
import sys
import time
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


def part_of(number, folder, seconds=300.0):
    return Part(number, torch.device("cpu"), True, time.monotonic() + seconds, folder)


def results(folder):
    return (folder / "results.jsonl").read_text().splitlines()


def lines(folder):
    return [json.loads(text) for text in results(folder)]


@pytest.mark.parametrize("number", gpu.PARTS)
def test_a_part_runs_on_a_cpu_at_its_smallest_size(number, tmp_path):
    module = import_module(f"on_gpu.{gpu.PARTS[number][0]}")
    module.run(part_of(number, tmp_path))
    assert lines(tmp_path)
    assert [line for line in lines(tmp_path) if line["ok"] is False] == []


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
    monkeypatch.setattr(gpu, "machine_of", lambda device: {"setting": "a machine", "unusable": {}})
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
    assert "Parts 2, 3: a machine." in text
    log = (fake / "log.txt").read_text()
    assert log.index("Part 3") < log.index("Part 2")


def test_results_of_another_machine_keep_its_name(fake, monkeypatch):
    gpu.run_all(options(fake, parts="3"))
    other = {"setting": "another", "unusable": {"numba": "ImportError: needs an older NumPy"}}
    monkeypatch.setattr(gpu, "machine_of", lambda device: other)
    gpu.run_all(options(fake, parts="2"))
    text = (fake / "gpu.md").read_text()
    assert "Parts 2: another." in text
    assert "Parts 3: a machine." in text
    assert "numba cannot be imported: ImportError: needs an older NumPy." in text


def test_a_package_that_cannot_be_imported_is_named(monkeypatch):
    machine = import_module("on_gpu.machine")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert list(machine.unusable()) == ["numba"]


def test_a_case_without_its_package_is_left_out(tmp_path):
    part = part_of(6, tmp_path)
    with part.case("views"):
        raise ImportError("numba cannot be imported")
    (line,) = lines(tmp_path)
    assert line["ok"] is None
    assert line["note"] == "left out: numba cannot be imported"


def test_a_machine_without_git_has_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COVIEW_COMMIT", raising=False)
    assert import_module("setting").commit() == "unknown"
    monkeypatch.setenv("COVIEW_COMMIT", "0d5b3c5")
    assert import_module("setting").commit() == "0d5b3c5"


TESTS = """
import time, warnings
from pytest import mark

pytestmark = mark.gpu

def test_good():
    warnings.warn("of another version")

def test_bad(): assert 1 == 2, "no"

@mark.skipif(True, reason="no device")
def test_absent(): pass

def test_long(): time.sleep(100)
"""
RUN = """
import sys, time, torch
from pathlib import Path
from on_gpu.part import Part
from on_gpu.suite import run_tests
part = Part(1, torch.device("cpu"), False, time.monotonic() + 60, Path(sys.argv[1]))
run_tests(part, [sys.argv[2]])
"""


def test_results_of_tests_are_there_when_one_never_ends(tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\nmarkers = gpu\n")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path, tmp_path / "test_some.py"],
        env=gpu.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            if (tmp_path / "results.jsonl").exists() and len(results(tmp_path)) == 3:
                break
            time.sleep(0.1)
    finally:
        process.kill()
        printed = process.communicate()[0]
    found = {line["name"]: (line["ok"], line["note"]) for line in lines(tmp_path)}
    assert found["test test_good"][0], printed
    assert found["test test_bad"] == (False, "AssertionError: no assert 1 == 2")
    assert found["test test_absent"] == (None, "skipped")


def test_a_batch_that_does_not_fit_is_no_failure(tmp_path, monkeypatch):
    large = import_module("on_gpu.large")

    def refuse(*_):
        raise large.DoesNotFit("too large") from torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(large, "train_step", refuse)
    assert not large.large_batch(part_of(9, tmp_path), "a batch", 4)
    (line,) = lines(tmp_path)
    assert (line["ok"], line["note"]) == (None, "does not fit: CUDA out of memory")


def test_a_batch_without_a_kernel_is_not_called_too_large(tmp_path, monkeypatch):
    large = import_module("on_gpu.large")

    def refuse(*_):
        raise large.DoesNotFit("too large") from RuntimeError("unable to find an engine")

    monkeypatch.setattr(large, "train_step", refuse)
    large.large_batch(part_of(9, tmp_path), "a batch", 4)
    (line,) = lines(tmp_path)
    assert line["note"].startswith("no memory, or no kernel")


def test_an_error_of_each_process_is_written(tmp_path, monkeypatch):
    processes = import_module("on_gpu.processes")

    def fail(device, tiny, ranks):
        raise ArithmeticError(f"of {ranks.rank}")

    monkeypatch.setattr(processes, "one_step", fail)
    processes.two_processes(part_of(3, tmp_path), "two")
    (line,) = lines(tmp_path)
    assert "rank 0: ArithmeticError: of 0; rank 1: ArithmeticError: of 1" in line["note"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_NNT", "product"),
        ("sm90_xmma_fprop_implicit_gemm_bf16", "convolution"),
        ("cutlass_80_simt_sgemm_128x64_8x5_nn_align1", "product"),
    ],
)
def test_kernels_have_kinds(kernel, kind):
    assert import_module("on_gpu.steps").kind_of(kernel) == kind


def test_a_failed_case_is_a_result_and_one_without_time_is_left_out(tmp_path):
    part = part_of(5, tmp_path, seconds=5.0)
    with part.case("breaks") as go:
        assert go
        raise torch.OutOfMemoryError("too large\nmore")
    with part.case("long", needs=100) as go:
        assert not go
    failed, late = lines(tmp_path)
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
