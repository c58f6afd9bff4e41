"""Commands that use the network of a run say so where it was not judged to have learned."""

import json

import numpy as np
import pytest
from PIL import Image

from coview.cli import main
from coview.core.figures import DIAGNOSES
from coview.core.progress import output
from coview.runs.load import say_verdict
from small_run import small_export


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """runs/photos, of which there are the verdict and encoder/, and photos/."""
    folder = tmp_path_factory.mktemp("notes")
    run = folder / "runs" / "photos"
    small_export(run / "encoder")
    (run / "run.json").write_text("{}")
    (folder / "photos").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02}.png")
    return folder


def judge(place, label, step=3, **description):
    run = place / "runs" / "photos"
    (run / "run.json").write_text(json.dumps(description))
    verdict = {"label": label, "sentence": "", "causes": [], "remedy": "", "step": step}
    (run / "verdict.json").write_text(json.dumps(verdict))


ENCODER = "runs/photos/encoder"
NOTE = (
    f'Note: {ENCODER} was judged "too early" after 3 steps; raw pixels may find better neighbors.'
)


@pytest.mark.parametrize(
    "words",
    [
        ["embed", ENCODER, "photos"],
        ["search", ENCODER, "photos/01.png", "--in", "photos"],
        ["browse", ENCODER, "photos", "--out", "page.html"],  # it makes the map
        ["map", ENCODER, "photos", "--clusters", "2"],
        ["select", ENCODER, "photos", "--number", "2"],
        ["duplicates", "photos", "--with", ENCODER],
    ],
    ids=lambda words: words[0],
)
def test_each_command_says_it_once(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    judge(place, "too early")
    assert main([*words, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Note")] == lines[:1] == [NOTE]
    assert main([*words, "--json"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "photos", "--weights", ENCODER],
        ["finetune", ENCODER, "photos"],
        ["detect", ENCODER, "photos"],
        ["distill", ENCODER, "photos"],
        ["evaluate", ENCODER, "scenes", "--limit", "60"],
        ["export", ENCODER],
    ],
    ids=lambda words: words[0],
)
def test_what_trains_judges_or_exports_says_it_first(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    judge(place, "too early")
    main([*words, "--quiet"])  # most end with a mistake: the place holds no labels and no whole run
    notes = [line for line in capsys.readouterr().out.splitlines() if 'judged "too early"' in line]
    assert len(notes) == 1
    assert "runs/photos" in notes[0]


def test_of_the_runs_inside_a_study_it_is_not_said(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    judge(place, "too early")
    with output(inner=True):
        say_verdict("runs/photos")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("label", sorted(DIAGNOSES))
def test_a_good_verdict_is_not_said(label, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    judge(place, label, step=1)
    say_verdict("runs/photos")
    printed = capsys.readouterr().out
    assert (printed == "") == (label in ("learning", "learned"))
    assert not printed or f'runs/photos was judged "{label}" after 1 step; raw' in printed


def test_of_a_classifier_nothing_is_said_of_neighbors(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    judge(place, "unchanged", kind="finetune")
    say_verdict("runs/photos")
    assert capsys.readouterr().out == 'Note: runs/photos was judged "unchanged" after 3 steps.\n'


def test_without_a_verdict_nothing_is_said(place, capsys):
    run = place / "runs" / "photos"
    (run / "verdict.json").unlink(missing_ok=True)
    say_verdict(run)
    (run / "verdict.json").write_text("{")  # what is damaged is said by others
    say_verdict(run)
    say_verdict(place / "photos")
    assert capsys.readouterr().out == ""
