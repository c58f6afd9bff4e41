"""A table of runs: which folders it holds, and what stands in a row."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from coview.core.errors import MissingExtra, RunError
from coview.runs.find import find

RECIPE = {
    "type": "Recipe", "batch_size": 256,
    "method": {"type": "Method", "name": "simclr", "betas": [0.9, 0.99],
               "views": [{"type": "ViewSpec", "size": 64}, {"type": "ViewSpec", "size": 32}]},
}  # fmt: skip


def make_run(folder: Path, **description: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"recipe": RECIPE, **description}))
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def result(value: float, **changes: Any) -> dict[str, Any]:
    return {"subject": "trained", "layer": "h", "metric": "accuracy", "value": value, **changes}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("b", "a", "old/c", "old/deep/d", "a/scratch", "a/checkpoints/step-00000001"):
        make_run(tmp_path / name) if "step" not in name else (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", ["a", "b", "old/c", "old/deep/d"]),
        ("", ["a", "b", "old/c", "old/deep/d"]),
        ("*", ["a", "b"]),
        ("old/**", ["old/c", "old/deep/d"]),
        ("**/d", ["old/deep/d"]),
        ("[ab]", ["a", "b"]),
        ("a", ["a"]),
        ("*/scratch", ["a/scratch"]),
        ("**/**", ["a", "b", "old/c", "old/deep/d"]),
        ("notes/*", []),
    ],
)
def test_find_matches_folders_and_leaves_out_nested_runs(
    runs: Path, pattern: str, names: list[str]
) -> None:
    assert [row["path"] for row in find(runs / pattern)] == [str(runs / name) for name in names]


def test_find_flattens_the_recipe_and_reads_state_and_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", kind="finetune", total_steps=400, data={"source": "photos"})
    lines = [{"kind": "step", "step": 8}, {"kind": "health", "step": 16}, {"kind": "event"}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "st')
    write(run / "verdict.json", {"label": "learning", "sentence": "Learning."})
    knn = [result(0.5, setting={"k": 1}), result(0.625, setting={"k": 20}),
           result(0.75, setting={"k": 200}), result(0.25, subject="raw pixels", layer="")]  # fmt: skip
    write(
        run / "evaluation" / "knn.json", {"protocol": "knn", "headline": {"k": 20}, "results": knn}
    )
    (row,) = find(run)
    assert row == {
        "path": str(run), "kind": "finetune", "created": None,
        "recipe.batch_size": 256, "recipe.method.type": "Method", "recipe.method.name": "simclr",
        "recipe.method.betas": (0.9, 0.99),
        "recipe.method.views.0.type": "ViewSpec", "recipe.method.views.0.size": 64,
        "recipe.method.views.1.type": "ViewSpec", "recipe.method.views.1.size": 32,
        "data.source": "photos", "data.images": None, "data.fingerprint": None,
        "total_steps": 400, "step": 16, "verdict": "learning",
        "knn.trained.h.accuracy": 0.625, "knn.raw pixels.accuracy": 0.25,
    }  # fmt: skip


def test_find_keeps_damaged_runs_and_says_what_is_damaged(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    broken = make_run(tmp_path / "b")
    (broken / "run.json").write_text('{"recipe": ')
    write(broken / "evaluation" / "knn.json", [])
    write(broken / "evaluation" / "linear.json", {"protocol": "linear", "results": [result(0.5)]})
    whole, damaged = find(tmp_path)
    assert "damaged" not in whole
    assert "run.json is not readable JSON" in damaged["damaged"]
    assert "knn.json should hold one JSON object" in damaged["damaged"]
    assert damaged["verdict"] == "not ended"
    assert damaged["linear.trained.h.accuracy"] == 0.5


def test_find_names_a_folder_that_cannot_be_read(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.iterdir

    def iterdir(path: Path) -> Any:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    rows = find(runs)
    assert [Path(row["path"]).name for row in rows] == ["a", "b", "c", "deep"]
    assert "Permission denied" in rows[-1]["damaged"]


def test_find_refuses_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no folder .*absent"):
        find(tmp_path / "absent" / "**")


def test_rows_are_shown_with_the_fields_that_differ(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "<b>", recipe={**RECIPE, "batch_size": 512})
    shown = find(tmp_path)._repr_html_()
    assert "<td>256</td>" in shown
    assert "<td>512</td>" in shown
    assert "recipe.method.name" not in shown
    assert "&lt;b&gt;" in shown


def test_rows_become_a_data_frame_where_pandas_is_there(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = find(runs)
    frame = types.SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", frame)
    assert rows.to_pandas() == (list(rows), rows.columns)
    assert rows.columns[:3] == ["path", "kind", "created"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"coview\[pandas\]"):
        rows.to_pandas()
