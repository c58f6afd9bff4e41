"""Runs whose truth is known, recorded by benchmarks/verdicts.py: each gets a right diagnosis."""

import json
from pathlib import Path

import pytest

from coview.core.files import append_line, write_json
from coview.diagnosis.run_checks import RunReport, check_run

RECORDED = json.loads(Path(__file__).with_name("verdicts.json").read_text())
RUNS = {run["name"]: run for run in RECORDED["runs"]}
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "results" / "verdicts.md"


def report(name: str, folder: Path, *, labeled: bool = True) -> RunReport:
    run = RUNS[name]
    write_json(folder / "run.json", run["description"])
    lines = [
        {"kind": "health", "step": step, "parameter_change": change,
         "figures": dict(zip(RECORDED["figures"], values, strict=True))}
        for step, change, *values in run["health"]
    ]  # fmt: skip
    for line in [*lines, *(run["knn"] if labeled else ())]:
        append_line(folder / "metrics.jsonl", line)
    return check_run(folder)


@pytest.mark.parametrize("name", RUNS)
def test_diagnosis_of_a_run_is_its_truth(name: str, tmp_path: Path) -> None:
    found = report(name, tmp_path)
    truth = f"{name}: {RUNS[name]['truth']}"
    assert found.label in RUNS[name]["expected"], f"{truth}; called: {found.sentence}"
    assert "-0.00" not in found.details
    assert "nan" not in found.render_text()
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| {name} | "))
    assert row.endswith(f" | {found.label} | {found.sentence} |")


def test_no_run_whose_neighbors_are_worse_than_those_of_pixels_is_called_learning(
    tmp_path: Path,
) -> None:
    for index, (name, run) in enumerate(RUNS.items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        if report(name, folder).label == "learning":
            first, last = run["knn"]
            assert last["accuracy"] > first["pixels"], name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scenes: simsiam without stop-gradient", "no stop-gradient"),
        ("scenes: simsiam without both", "no stop-gradient and no predictor"),
        ("scenes: no color", "colors"),
        ("scenes: supervised, shuffled labels 1", "labels have nothing to do"),
        ("scenes: temperature 10", "temperature is so high"),
        ("scenes: temperature 0.01", "temperature is so low"),
        ("scenes: supcon, one class", "labels are those of one folder"),
        ("scenes: four images repeated", "many times"),
    ],
)
def test_causes_of_a_run_name_what_is_wrong(name: str, words: str, tmp_path: Path) -> None:
    assert any(words in cause for cause in report(name, tmp_path).causes)


@pytest.mark.parametrize("name", ["cifar: simclr", "cifar: simclr20"])
def test_first_sentence_of_a_good_run_takes_no_knowledge(name: str, tmp_path: Path) -> None:
    found = report(name, tmp_path)
    assert "right label in 41 of 100 cases; raw pixels do in 32" in found.sentence
    check_plain(found)


def test_first_sentence_without_labels_is_of_pieces_of_images(tmp_path: Path) -> None:
    found = report("cifar: simclr20", tmp_path, labeled=False)
    assert "finds another piece of the same image among 124 in" in found.sentence
    assert "raw pixels do in" in found.sentence
    check_plain(found)


def check_plain(found: RunReport) -> None:
    assert "untrained network in" in found.sentence
    assert not any(word in found.sentence for word in ("rank", "instance", "loss", "std"))
    assert "Instance accuracy" in found.details
