"""What the model card of an export says of the run that it is of; every figure from its log."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from coview.core.figures import START_WORDS
from coview.core.run_folder import read_object
from coview.core.text import printable
from coview.data.spec import name_of
from coview.diagnosis.state import Diagnosis
from coview.evaluation import Result, read_results
from coview.evaluation.knn import MAX_BANK
from coview.runs.run import Run

Rows = list[dict[str, Any]]


def card_of(run: Run, diagnosis: Diagnosis | None, step: int | None = None) -> dict[str, Any]:
    """The metadata of an export of ``run``, without a path of this machine.

    ``diagnosis``: None for a run that goes on. ``step``: of a kept checkpoint; None is the last.
    """
    rows = [row for row in run.metrics() if step is None or row["step"] <= step]
    steps = max((row["step"] for row in rows), default=0) if step is None else step
    data, source = run.description["data"], run.data.images.source
    verdict = f"Not judged: the run was at step {steps:,} of {run.total_steps:,}."
    return {
        "method": run.recipe.method.name,
        "recipe": run.recipe.name,
        "recipe_hash": run.description["hash"],
        "start": None if run.start is None else printable(Path(run.start.path).name),
        "data": "images in memory" if source is None else printable(name_of(source)),
        "data_fingerprint": data["fingerprint"],
        "images": data["images"],
        "labels_used": run.recipe.method.needs_labels,
        "steps": steps,
        "epochs": round(steps / max(1, run.description["steps_per_epoch"]), 2),
        "verdict": verdict if diagnosis is None else diagnosis.sentence,
        "figures": list(_figures(rows, START_WORDS[run.start is not None])),
    }


def _figures(rows: Rows, before: str) -> Iterator[str]:
    """``before``: what figures of step 0 are called."""
    health = [row for row in rows if row["kind"] == "health"]
    if health:
        first, last = (row.get("figures", {}) for row in (health[0], health[-1]))
        start = first.get("piece_accuracy_h") if health[0]["step"] == 0 else None
        yield (
            f"Without labels: {_share(last.get('piece_accuracy_h'))} (raw pixels "
            f"{_share(last.get('piece_accuracy_pixels'))}, {before} {_share(start)}). Of two "
            f"gray crops, each of half of an image or more, of {last.get('images', 0):,} held-out "
            "images: how often the one is, by cosine similarity of h, nearest to the other."
        )
    else:
        yield "Without labels: not measured."
    knn = [row for row in rows if row["kind"] == "knn"]
    if knn:
        last = knn[-1]
        first = knn[0] if knn[0]["step"] == 0 else {}
        yield (
            f"kNN with labels: {_share(last.get('accuracy'))} (raw pixels "
            f"{_share(first.get('pixels'))}, {before} {_share(first.get('accuracy'))}). The plain "
            f"vote of the {last.get('k')} nearest of at most {MAX_BANK:,} training images by h, "
            f"for {last.get('images')} held-out images."
        )
    else:
        yield "kNN with labels: not measured."


BASELINES = ("pixels", "untrained")
ROWS = 40


def results_of(folder: Path, subject: str | None = None) -> list[Result]:
    """The results of one subject in ``folder``, without the baselines; none where there are none.

    ``subject``: whose, where there are several besides the baselines.
    """
    results = [each for each in read_results(folder) if not each.subject.startswith(BASELINES)]
    names = {each.subject for each in results}
    if subject is None and len(names) == 1:
        (subject,) = names
    return [each for each in results if each.subject == subject]


def is_of(result: Result, weights: Container[str]) -> bool:
    """Whether a result is of a network with one of the hashes ``weights``."""
    return result.card.get("subjects", {}).get(result.subject, {}).get("weights") in weights


def results_lines(folder: Path, own: Sequence[Result]) -> list[str]:
    """The results of one subject, read from ``folder``, as lines of Markdown; none of none.

    One table: protocol, layer, figure, its 95 % interval, test images, setting. Beside it the data
    by name and fingerprint, and what speaks against the figures.
    """
    if not own:
        return []
    lines = [
        "Measured by `coview evaluate`; [low, high] are 95 % intervals.", "",
        "| protocol | layer | figure | value | interval | test images | setting |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for each in own[:ROWS]:
        low, high = (f"{value:.4g}" for value in each.interval)
        setting = ", ".join(f"{name} {value}" for name, value in each.setting.items())
        lines.append(
            f"| {each.protocol} | {each.layer} | {each.metric} | {each.value:.4g} | [{low}, {high}]"
            f" | {each.test_images:,} | {printable(setting)} |"
        )
    if len(own) > ROWS:
        lines.append(f"\nAnd {len(own) - ROWS} more, which are left out here.")
    return [*lines, "", *_about_data(folder, {each.protocol for each in own})]


def _about_data(folder: Path, protocols: set[str]) -> Iterator[str]:
    """Once for each distinct data: names, fingerprints, caveats; no path of this machine."""
    said: set[str] = set()
    for protocol in sorted(protocols):
        content = read_object(folder / f"{protocol}.json", _WithData) or {"data": {}}
        data = content["data"]
        parts = []
        for part in ("train", "test"):
            if isinstance(about := data.get(part), dict):
                name = printable(Path(str(about.get("source"))).name)
                parts.append(f"{part} `{name}` (fingerprint `{about.get('fingerprint')}`)")
        lines = [f"- Data: {', '.join(parts)}."] if parts else []
        lines += [f"- {printable(str(caveat))}" for caveat in data.get("caveats", [])]
        yield from (line for line in lines if line not in said)
        said.update(lines)


class _WithData(TypedDict):
    data: dict[str, Any]


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"
