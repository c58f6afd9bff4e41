"""The commands of a report's first screen: right for the run, and such as the command line takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image
from report_run import make_run

from coview.cli.options import parse
from coview.cli.verbs import VERBS
from coview.reports import read_record
from coview.reports.html import join
from coview.reports.next_steps import next_steps
from coview.reports.summary import words_apart

SPEC = {"type": "DataSpec", "split": None, "image_column": None, "label_column": None, "root": None}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for label in ("disc", "square", "cross", "ring", "stripes", "dots"):
        (folder / label).mkdir(parents=True)
    return folder


def made(tmp_path: Path, source: object, **changes: object) -> Path:
    """A run on ``source`` with these fields of run.json."""
    labels, verdict = bool(changes.pop("labels", False)), str(changes.pop("verdict", "learning"))
    folder = make_run(tmp_path / "run", images=20, labels=labels, verdict=verdict)
    path = folder / "run.json"
    description = json.loads(path.read_text())
    opened = {"images": {**SPEC, "source": source, **dict(changes.pop("spec", {}))}}  # type: ignore[call-overload]
    description["data"]["opened"] = opened
    path.write_text(json.dumps({**description, "steps_per_epoch": 25, **changes}))
    return folder


def commands(folder: Path) -> list[list[str]]:
    return [shlex.split(step.command) for step in next_steps(read_record(folder))]


def check(words: list[str]) -> None:
    """The command line takes these words."""
    assert words[0] == "coview"
    if words[1] == "duplicates" and words[1] not in VERBS:
        pytest.skip("coview duplicates is not here yet")
    parse(VERBS[words[1]].options, words[1], words[2:])


def test_an_encoder_without_labels_is_looked_at_searched_and_cleaned_with(
    tmp_path: Path, data: Path
) -> None:
    folder = made(tmp_path, str(data))
    names = read_record(folder).gallery["near_names"]
    image = data / str(names[0, 0])
    Image.new("RGB", (8, 8)).save(image)
    run, steps = str(folder), commands(folder)
    assert steps == [
        ["coview", "browse", run],
        ["coview", "search", run, str(image)],
        ["coview", "duplicates", str(data), "--with", run],
    ]
    for words in steps:
        check(words)


def test_of_labeled_images_in_a_table_none_is_named_and_options_are_kept(tmp_path: Path) -> None:
    folder = made(tmp_path, "/data/a.parquet", labels=True, spec={"image_column": "photo"})
    for path in (folder / "evaluation").glob("*.json"):
        path.unlink()
    table = ["/data/a.parquet", "--image-column", "photo"]
    assert commands(folder) == [
        ["coview", "browse", str(folder)],
        ["coview", "evaluate", str(folder), *table],
        ["coview", "finetune", str(folder), *table, "--labels", "10%"],
    ]
    for words in commands(folder):
        check(words)


def test_all_options_that_change_the_images_are_repeated(tmp_path: Path, data: Path) -> None:
    spec = {
        "white": 4095.0, "max_pixels": 1 << 28, "limit": 500, "allow_broken": True,
        "labels_from": "folders", "short_side": 640, "memory_share": 0.5, "download": False,
    }  # fmt: skip
    folder = made(tmp_path, str(data), spec=spec, labels=True)
    names = read_record(folder).gallery["near_names"]
    Image.new("RGB", (8, 8)).save(data / str(names[0, 0]))
    for path in (folder / "evaluation").glob("*.json"):
        path.unlink()
    browse, search, evaluate = commands(folder)
    assert browse == ["coview", "browse", str(folder)]
    assert search[4:] == ["--white", "4095.0", "--max-pixels", str(1 << 28)]
    assert evaluate[3:] == [
        str(data), "--labels-from", "folders", "--limit", "500", "--short-side", "640",
        "--white", "4095.0", "--max-pixels", str(1 << 28), "--allow-broken",
    ]  # fmt: skip
    for words in (browse, search, evaluate):
        check(words)


def test_images_in_memory_leave_commands_that_need_none(tmp_path: Path) -> None:
    assert [words[1] for words in commands(made(tmp_path, None))] == ["export"]


@pytest.mark.parametrize("verdict", ["at chance", "collapsed", "dimensional collapse", "unchanged",
                                     "shortcut", "too early"])  # fmt: skip
def test_after_a_failure_commands_say_why_or_train_on(
    tmp_path: Path, data: Path, verdict: str
) -> None:
    folder = made(tmp_path, str(data), verdict=verdict)
    steps = commands(folder)
    assert len(steps) == 3
    for words in steps:
        check(words)
    longer = ["coview", "resume", str(folder), "--epochs", "80"]
    assert (longer in steps) == (verdict == "too early")


def test_a_run_that_is_not_at_its_end_goes_on(tmp_path: Path, data: Path) -> None:
    folder = made(tmp_path, str(data), total_steps=2000)
    (folder / "verdict.json").unlink()
    steps = commands(folder)
    assert steps == [["coview", "resume", str(folder)], ["coview", "doctor", str(folder)]]
    for words in steps:
        check(words)


@pytest.mark.parametrize(("kind", "verbs"), [
    ("finetune", ["predict", "export", "resume"]), ("distill", ["predict", "export", "resume"]),
    ("detect", ["export", "resume"]),
])  # fmt: skip
def test_a_classifier_is_used(tmp_path: Path, data: Path, kind: str, verbs: list[str]) -> None:
    steps = commands(made(tmp_path, str(data), kind=kind))
    assert [words[1] for words in steps] == verbs
    for words in steps:
        check(words)


@pytest.mark.parametrize(
    ("steps", "purpose"),
    [(8, "Train on, long enough for a verdict"), (500, "Train on, twice as long")],
)
def test_a_longer_training_says_how_much_longer(
    tmp_path: Path, data: Path, steps: int, purpose: str
) -> None:
    folder = made(tmp_path, str(data), verdict="too early", total_steps=steps)
    assert next_steps(read_record(folder))[0].purpose == purpose


def test_a_command_is_broken_between_its_words() -> None:
    words = str(join(words_apart("coview resume run --epochs 20")))
    assert words.replace("<span>", "").replace("</span>", "") == "coview resume run --epochs 20"
    assert "<span>--epochs</span>" in words
