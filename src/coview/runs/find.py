"""Many runs as one table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from coview.core.errors import CoviewError, MissingExtra, RunError
from coview.core.metrics import headline_misfit
from coview.core.paths import local_path
from coview.core.places import Kind, place_of, split_pattern
from coview.core.run_folder import RunFolder, is_run, read_object
from coview.reports.html import Markup, join, tag
from coview.reports.records import number, part

Row = dict[str, Any]
FOUND = "piece_accuracy_h"
FIRST_COLUMNS = ("path", "kind", "verdict", "step")


class Rows(list[Row]):
    """One flat dict per run; a key that a run lacks is absent from its dict."""

    @property
    def columns(self) -> list[str]:
        """All keys, in the order in which they first appear."""
        return list(dict.fromkeys(key for row in self for key in row))

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with one row per run. Raises MissingExtra without pandas."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingExtra("pandas", "pandas", "A data frame of runs") from error
        return pandas.DataFrame(list(self), columns=self.columns)

    def _repr_html_(self) -> str:
        """A table of the main columns, the scores and the recipe fields that differ."""
        columns = [name for name in self.columns if name in FIRST_COLUMNS or self._differs(name)]
        head = tag("tr", [tag("th", name, scope="col") for name in columns])
        body = [tag("tr", [tag("td", _cell(row.get(key))) for key in columns]) for row in self]
        return join(tag("table", tag("thead", head), tag("tbody", body)))

    def _differs(self, name: str) -> bool:
        values = [row.get(name) for row in self]
        return not name.startswith(("recipe.", "data.")) or any(v != values[0] for v in values)


def find(pattern: str | Path = "runs/**") -> Rows:
    """The runs whose folders match ``pattern``, as one flat dict each, sorted by path.

    ``*`` and ``?`` match within a folder name, ``**`` any number of folders; a folder without
    these means everything in it. A run within a run (the "from scratch" baseline of fine-tuning)
    is found only where the pattern names it.

    Keys: "path"; "kind" ("pretrain", "finetune", "distill", "detect"); "created";
    "recipe.batch_size", "recipe.method.name" and so on; "data.source", "data.images",
    "data.fingerprint", "data.labels", "data.label_draw", "data.test.source"; "start" (where the
    first weights lie) and "teacher" (the hash of its weights); "step" (the last reported) and
    "total_steps"; "verdict" (its label); "piece_accuracy_h" (the share of held-out images that are
    found by a piece, at the end); one "protocol.subject.layer.metric" per score, of its settings
    the one that represents the protocol. What could not be read is named in "damaged".
    Raises RunError where the folder to search is missing.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "first")
    >>> folder.mkdir()
    >>> _ = (folder / "run.json").write_text('{"recipe": {"batch_size": 256}}')
    >>> [(row["kind"], row["recipe.batch_size"]) for row in find(folder.parent)]
    [('pretrain', 256)]
    """
    root, parts = local_path(pattern), tuple[str, ...]()
    if place_of(pattern).kind is Kind.PATTERN:
        root, parts = split_pattern(root)
    place = place_of(root)
    if place.kind is Kind.UNREADABLE:
        raise RunError(f"{root} cannot be read: {place.reason}.")
    if not place.is_folder:
        raise RunError(f"There is no folder '{root}' to search for runs.")
    folders = dict(_search(root, parts or ("**",)))
    return Rows(
        {"path": str(path), "damaged": folders[path]} if folders[path] else row_of(RunFolder(path))
        for path in sorted(folders)
    )


def _search(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """(run, "") for each match below ``folder``, (folder, sentence) for what cannot be read."""
    try:
        inside = is_run(folder)
        if not parts:
            yield from [(folder, "")] if inside else []
            return
        name, rest = parts[0], parts[1:]
        if name == "**":
            yield from _search(folder, rest)
            if inside:
                return
        children = sorted(path for path in folder.iterdir() if path.is_dir())
    except (RunError, OSError) as error:
        yield folder, getattr(error, "strerror", "") or str(error)
        return
    for child in children:
        if name == "**":
            if not child.name.startswith(".") and not child.is_symlink():
                yield from _search(child, parts)
        elif fnmatchcase(child.name, name):
            yield from _search(child, rest)


def row_of(run: RunFolder) -> Row:
    """The flat dict of one run; what could not be read is named in "damaged"."""
    row: Row = {"path": str(run.path)}
    damaged: list[str] = []

    @contextmanager
    def note_damage() -> Iterator[None]:
        try:
            yield
        except CoviewError as error:
            damaged.append(str(error))

    with note_damage():
        row |= _description(run)
    with note_damage():
        row |= _state(run)
    with note_damage():
        for path in run.evaluation_paths:
            with note_damage():
                row |= _scores(read_object(path) or {})
    return {**row, "damaged": " ".join(damaged)} if damaged else row


def _description(run: RunFolder) -> Row:
    description = read_object(run.description_path) or {}
    data = description.get("data")
    row: Row = {
        "kind": str(description.get("kind", "pretrain")),
        "created": description.get("created"),
    }
    row |= dict(_flatten("recipe", description.get("recipe", {})))
    row.pop("recipe.type", None)
    if isinstance(data, dict):
        row |= {f"data.{key}": data.get(key) for key in ("source", "images", "fingerprint")}
        opened = data.get("opened")
        if isinstance(opened, dict):
            test = opened.get("test")
            row |= {f"data.{key}": opened.get(key) for key in ("labels", "label_draw")}
            if isinstance(test, dict):
                row |= {
                    f"data.test.{key}": tuple(value) if isinstance(value, list) else value
                    for key in ("source", "split", "limit")
                    if (value := test.get(key)) is not None
                }
    for key, names in (("start", ("path", "checkpoint")), ("teacher", ("hash",))):
        source = description.get(key)
        if isinstance(source, dict):
            words = [str(source[name]) for name in names if source.get(name) is not None]
            row[key] = " at step ".join(words)
    return {**row, "total_steps": run.total_steps if "total_steps" in description else None}


def _state(run: RunFolder) -> Row:
    rows = run.metrics()
    steps = [row["step"] for row in rows if isinstance(row.get("step"), int)]
    verdict = read_object(run.verdict_path) or {}
    state: Row = {"step": max(steps, default=0), "verdict": verdict.get("label", "not ended")}
    health = [part(row, "figures") for row in rows if row["kind"] == "health"]
    if health and (found := number(health[-1].get(FOUND))) is not None:
        state[FOUND] = found
    return state


def _scores(evaluation: Row) -> Row:
    row: Row = {}
    nearest: dict[str, tuple[bool, ...]] = {}
    results, headline = evaluation.get("results"), part(evaluation, "headline")
    for result in results if isinstance(results, list) else []:
        if not isinstance(result, dict) or "value" not in result:
            continue
        names = (evaluation.get("protocol"), *map(result.get, ("subject", "layer", "metric")))
        key = ".".join(str(name) for name in names if name)
        misfit = headline_misfit(headline, None, None, part(result, "setting"))
        if key not in row or misfit < nearest[key]:
            row[key], nearest[key] = result["value"], misfit
    return row


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}.{key}", item)
    else:
        yield name, tuple(value) if isinstance(value, list) else value


def _cell(value: Any) -> str | Markup:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
