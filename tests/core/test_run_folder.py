"""Reading the folder of a run: whole, unfinished, damaged, and closed."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

import coview
from coview.core import files
from coview.core.errors import DamagedFile, RunError
from coview.core.paths import open_regular
from coview.core.run_folder import RunFolder, is_run

SOURCE = Path(coview.__file__).parent
FILES = {
    "run.json", "metrics.jsonl", "verdict.json", "quarantine.jsonl", "gallery.npz", "views.png",
    "report.html", "predictions.json",
}  # fmt: skip
FOLDERS = {"checkpoints", "encoder", "exports", "embeddings", "evaluation", "report", "scratch"}
# The command line's default name of a picture that belongs to no run.
# A default of `coview views`, which is no file of a run; and a setting of that name.
ELSEWHERE = {("options.py", "views.png"), ("options.py", "encoder")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "run.json").write_text('{"total_steps": 8}')
    return folder


def test_open_refuses_what_is_not_a_run_and_offers_a_near_name(folder: Path) -> None:
    assert RunFolder.open(str(folder)).path == folder
    with pytest.raises(RunError, match=r"There is no run folder .*photo\. Did you mean .*photos\?"):
        RunFolder.open(folder.parent / "photo")
    with pytest.raises(RunError, match=r"There is no run folder .*x/y\.$"):
        RunFolder.open(folder / "x" / "y")
    with pytest.raises(RunError, match=r"is not a run: it has no run\.json"):
        RunFolder.open(folder.parent)
    (folder.parent / "file").write_text("")
    with pytest.raises(RunError, match=r"is not a run: it has no run\.json"):
        RunFolder.open(folder.parent / "file")
    assert (is_run(folder), is_run(folder.parent)) == (True, False)


def test_a_run_that_has_just_begun_has_nothing_but_its_description(folder: Path) -> None:
    run = RunFolder(folder)
    assert (run.kind, run.description) == ("pretrain", {"total_steps": 8})
    assert (run.metrics(), run.quarantine, run.evaluations, run.checkpoint_steps) == (
        [],
        [],
        [],
        [],
    )
    assert (run.verdict, run.is_ended) == (None, False)


def test_kind_is_that_of_the_description(folder: Path) -> None:
    (folder / "run.json").write_text('{"kind": "finetune"}')
    assert RunFolder(folder).kind == "finetune"


def test_predictions_must_be_there(folder: Path) -> None:
    with pytest.raises(RunError, match=r"photos has no predictions\.json"):
        _ = RunFolder(folder).predictions
    (folder / "predictions.json").write_text('{"predicted": [1, 0]}')
    assert RunFolder(folder).predictions == {"predicted": [1, 0]}


def test_metrics_skip_half_lines_and_what_is_no_object(folder: Path) -> None:
    rows = [{"kind": "step", "step": 1}, {"kind": "knn", "step": 1}, {"kind": "step", "step": 2}]
    lines = [
        json.dumps(rows[0]),
        '{"kind": "st',
        "[1]",
        *map(json.dumps, rows[1:]),
        '{"kind": "knn"',
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    run = RunFolder(folder)
    assert run.metrics() == rows
    assert run.metrics("step") == [rows[0], rows[2]]
    assert run.metrics("health") == []


def test_evaluations_are_in_order_of_name_without_temporary_files(folder: Path) -> None:
    (folder / "evaluation").mkdir()
    for name in ("linear.json", "knn.json", ".knn.json.7.tmp", ".x.json", "notes.txt"):
        (folder / "evaluation" / name).write_text(json.dumps({"name": name}))
    assert RunFolder(folder).evaluations == [{"name": "knn.json"}, {"name": "linear.json"}]


def test_an_evaluation_that_vanishes_while_it_is_read_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "knn.json").write_text("{}")
    run = RunFolder(folder)

    def unlink_and_open(path: Path) -> BinaryIO:
        path.unlink()
        return open_regular(path)

    monkeypatch.setattr(files, "open_regular", unlink_and_open)
    assert run.evaluations == []


def test_a_description_with_one_changed_byte_is_refused(folder: Path) -> None:
    written = {"coview": "1", "recipe": {"batch_size": 256, "name": "é"}, "total_steps": 400}
    RunFolder(folder).write_description(written)
    assert RunFolder(folder).description == written
    content, rng = (folder / "run.json").read_bytes(), np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        (folder / "run.json").write_bytes(changed)
        try:
            read = RunFolder(folder).description
        except DamagedFile:
            continue
        # A blank became another, or the name of the digest is another: the rest is as it was.
        assert {name: read[name] for name in written} == written


def test_checkpoints_count_only_where_they_are_complete(folder: Path) -> None:
    for name, complete in (("step-00000040", True), ("step-00000008", True), ("step-00000050", False),
                           (".step-00000060.tmp", True), ("step-x", True)):  # fmt: skip
        (folder / "checkpoints" / name).mkdir(parents=True)
        if complete:
            (folder / "checkpoints" / name / "END").write_text("")
    run = RunFolder(folder)
    assert run.checkpoint_steps == [8, 40]
    assert run.checkpoint_path(8).is_dir()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("run.json", {"total_steps": "x"}, "`total_steps` is \"x\"; expected a whole number"),
        ("run.json", {"data": {"class_names": [3]}}, "`data.class_names.0` is 3; expected a text"),
        ("run.json", {"start": 3}, "`start` is 3; expected an object or null"),
        ("run.json", {"data": [5]}, "`data` is [5]; expected an object"),
        ("verdict.json", {"label": "learning"}, "`causes` is missing"),
    ],
)  # fmt: skip
def test_fields_of_another_type_are_named(
    folder: Path, name: str, content: dict[str, Any], fault: str
) -> None:
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=re.escape(fault)):
        READERS[name](RunFolder(folder))


@pytest.mark.parametrize("content", ['{"a": ', "[" * 100_000, "[1]", "\xff\xfe", ""])
@pytest.mark.parametrize("name", ["run.json", "verdict.json", "evaluation/knn.json"])
def test_damaged_files_are_named(folder: Path, name: str, content: str) -> None:
    (folder / "evaluation").mkdir()
    (folder / name).write_text(content, encoding="latin-1")
    run = RunFolder(folder)
    read: dict[str, Any] = {
        "run.json": lambda: run.description, "verdict.json": lambda: run.verdict,
        "evaluation/knn.json": lambda: run.evaluations,
    }  # fmt: skip
    with pytest.raises(DamagedFile, match=name):
        read[name]()


def test_one_damaged_byte_costs_one_line(folder: Path) -> None:
    (folder / "metrics.jsonl").write_bytes(
        b"".join(
            b'{"kind": "step", "step": %d, "loss": %s}\n' % row
            for row in [(1, b"3.5"), (2, b"\xff"), (3, b"null"), (4, b'"x"'), (5, b"NaN")]
        )
    )
    assert [row["step"] for row in RunFolder(folder).metrics()] == [1, 3]


READERS: dict[str, Any] = {
    "run.json": lambda run: run.description, "metrics.jsonl": lambda run: run.metrics(),
    "verdict.json": lambda run: (run.is_ended, run.verdict),
    "quarantine.jsonl": lambda run: run.quarantine, "evaluation": lambda run: run.evaluations,
    "checkpoints": lambda run: run.checkpoint_steps,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_what_cannot_be_looked_at_is_not_taken_for_absent(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name)  # a loop: an error that root gets too
    with pytest.raises(RunError, match=f"{name} cannot be read: "):
        READERS[name](RunFolder(folder))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["evaluation", "checkpoints"])
def test_a_closed_folder_is_an_error(folder: Path, name: str) -> None:
    (folder / name).mkdir(mode=0)
    with pytest.raises(RunError, match="Permission denied"):
        READERS[name](RunFolder(folder))


def texts(path: Path) -> list[tuple[str, bool]]:
    """Every string constant of a module but its docstrings, and whether it is joined by "/"."""
    tree = ast.parse(path.read_text())
    documented = {
        id(node.body[0].value) for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    joined = {id(node.right) for node in ast.walk(tree)
              if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)}  # fmt: skip
    return [
        (node.value, id(node) in joined) for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and id(node) not in documented
    ]  # fmt: skip


def test_no_other_module_knows_the_names_of_files() -> None:
    offenders = []
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name == "core/run_folder.py":
            continue
        for text, is_joined in texts(path):
            parts = {part.split(" ")[0] for part in text.split("/")} if " " not in text else set()
            known = parts & FILES or (is_joined and parts & FOLDERS)
            if known and (name, text) not in ELSEWHERE:
                offenders.append((name, text))
    assert offenders == []
