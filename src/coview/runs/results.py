"""Where the figures of an evaluation go: the folders of runs, and a folder with a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview import evaluation
from coview.core.errors import CoviewError, StorageError
from coview.core.files import digest, entries
from coview.core.paths import local_path
from coview.core.progress import say
from coview.core.run_folder import read_object
from coview.core.text import plural
from coview.evaluation.transfer import TRAINED_ON
from coview.reports import write_comparison, write_report
from coview.reports.notebook import results_table
from coview.reports.records import part
from coview.reports.results import headline_sentences, short_source
from coview.runs.data import Images
from coview.runs.subjects import TRAINED, UNTRAINED, Judged

PIXELS = "pixels"


class Results(list[evaluation.Result]):
    """Figures, and where they lie: a list of :class:`coview.evaluation.Result`, a row each.

    ``print`` of it says what the command line says of the figures that represent each protocol.
    ``contents``: those of the JSON files, one for a protocol. ``path``: their folder.

    >>> import coview
    >>> results = coview.evaluate("runs/scenes", "scenes", limit=100, protocols="knn")
    >>> best = [row.setting["k"] for row in results if row.layer == "h" and row.value > 0.9]
    >>> str(results).startswith("kNN accuracy on h (k 20, temperature 0.07): ")
    True
    """

    path: Path
    contents: Sequence[dict[str, Any]] = ()

    @property
    def caveats(self) -> list[str]:
        """Sentences on why the figures say less than they seem to, as in the files."""
        return list(self.contents[0]["data"]["caveats"]) if self.contents else []

    def __str__(self) -> str:
        """Sentences on the figure that represents each protocol; of rows that are in no file, a
        line each."""
        return "\n".join(headline_sentences(self.contents) or map(_line, self))

    def _repr_html_(self) -> str:
        """A table in a notebook: the figure that represents each protocol, of each subject."""
        return results_table(self.contents)


def _line(result: evaluation.Result) -> str:
    low, high = result.interval
    setting = "".join(f", {name} {value}" for name, value in result.setting.items())
    return (
        f"{result.protocol}, {result.subject}, {result.layer}, {result.metric}: "
        f"{result.value:.4g} ({low:.4g} to {high:.4g}){setting}"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What was opened. ``untrained``: the name of the untrained subject by its architecture.
    ``about``: by the name of a subject, sentences on what it was trained on. ``images``: what the
    benchmark was made of. ``out``: the folder of the figures of all subjects; None for one run,
    which has them in its own."""

    judged: Sequence[Judged]
    benchmark: evaluation.Benchmark
    untrained: Mapping[str, str]
    about: Mapping[str, Sequence[str]]
    images: Images
    out: Path | None

    @property
    def data(self) -> dict[str, Any]:
        """What a file of results says of the images: of those judged on, and of all opened."""
        return {
            **self.benchmark.data, "unlabeled_fingerprint": self.images.unlabeled_fingerprint,
        }  # fmt: skip


def write(opened: Evaluation, results: Sequence[evaluation.Result]) -> bool:
    """Keep the figures of one protocol: in ``out``, and in the folders of the runs; whether these
    took them all."""
    are_kept = True
    benchmark, descriptions = opened.benchmark, descriptions_of()
    if opened.out is not None:
        evaluation.write_results(opened.out, results, data=opened.data, descriptions=descriptions)
    for judged in opened.judged:
        if judged.run is None:
            continue
        own = own_results(opened, judged, results)
        general = [text for text in benchmark.caveats if text not in benchmark.more]
        data = {**opened.data, "caveats": [*general, *opened.about[judged.subject.name]]}
        try:
            evaluation.write_results(folder_of(judged), own, data=data, descriptions=descriptions)
        except StorageError as error:  # the figures are there: say them
            say(f"The results are not kept in the run. {error}")
            are_kept = False
    return are_kept


def replaced_by(opened: Evaluation, protocol: str) -> Iterator[str]:
    """What of the figures of ``protocol`` in the folders of runs is of other test images, and goes:
    as "cifar-test (300 images)". A file that cannot be read is passed over."""
    for judged in opened.judged:
        if judged.run is None:
            continue
        with suppress(CoviewError):
            content = read_object(folder_of(judged) / f"{protocol}.json") or {}
            test = part(part(content, "data"), "test")
            if test.get("fingerprint") not in (None, opened.benchmark.test.fingerprint):
                name = f" of {judged.subject.name}" if len(opened.judged) > 1 else ""
                images = plural(int(test.get("images") or 0), "image")
                yield f"those{name} on {short_source(test.get('source'))} ({images})"


def own_results(
    opened: Evaluation, judged: Judged, results: Sequence[evaluation.Result]
) -> list[evaluation.Result]:
    """Those of a run among several, its untrained network and the pixels, as it were alone."""
    names = {judged.subject.name: TRAINED, PIXELS: PIXELS}
    if judged.architecture in opened.untrained:
        names[opened.untrained[judged.architecture]] = UNTRAINED
    own = []
    for result in results:
        subject, layer = reference_of(result)
        if result.subject not in names or (subject is not None and subject not in names):
            continue
        card, setting = _own_card(result.card, names), result.setting
        if subject is not None:
            setting = {**setting, "reference": f"{names[subject]}, {layer}"}
        own.append(replace(result, subject=names[result.subject], card=card, setting=setting))
    return own


def reference_of(result: evaluation.Result) -> tuple[str | None, str]:
    """The subject and the layer that a figure is relative to; (None, "") where it is to none."""
    subject, comma, layer = str(result.setting.get("reference", "")).rpartition(", ")
    return (subject, layer) if comma else (None, "")


def _own_card(card: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    own = dict(card)
    for key in ("subjects", TRAINED_ON):
        if isinstance(card.get(key), Mapping):
            own[key] = {names[name]: value for name, value in card[key].items() if name in names}
    return own


def folder_of(judged: Judged) -> Path:
    """Where the figures of a run lie; those of a kept checkpoint beside those of the end."""
    assert judged.run is not None
    if judged.step is None:
        return judged.run.evaluation_path
    return judged.run.evaluation_of(judged.step)


def finish(opened: Evaluation) -> Path:
    """Write the reports; returns the folder of the figures."""
    for judged in opened.judged:
        if judged.run is not None:
            try:
                write_report(judged.run.path)
            except StorageError as error:
                say(f"The report is not written. {error}")
    if opened.out is None:
        return folder_of(opened.judged[0])
    say(f"Comparison: {write_comparison(opened.out)}")
    return opened.out


def free_folder(path: Path, benchmark: evaluation.Benchmark) -> Path:
    """``path``, or beside it a folder with a hash in its name where ``path`` holds other figures:
    one page shows what was judged together."""
    path = local_path(path)
    if not holds_others(path, benchmark):
        return path
    key = digest(json.dumps(_judged(benchmark), sort_keys=True).encode())[:8]
    return path.with_name(f"{path.name}-{key}")


def holds_others(path: Path, benchmark: evaluation.Benchmark) -> bool:
    """Whether ``path`` holds figures of other subjects, training images, test images or seed."""
    path, judged = local_path(path), _judged(benchmark)
    for name in entries(path):
        if not name.endswith(".json"):
            continue
        content = read_object(path / name) or {}
        card, data = content.get("card") or {}, content.get("data") or {}
        parts = [(data.get(part) or {}).get("fingerprint") for part in ("train", "test")]
        if [card.get("subjects"), *parts, card.get("seed")] != judged:
            return True
    return False


def _judged(benchmark: evaluation.Benchmark) -> list[Any]:
    """The subjects, the training and test images and the seed."""
    parts = [benchmark.train.fingerprint, benchmark.test.fingerprint]
    return [benchmark.card["subjects"], *parts, benchmark.seed]


def descriptions_of() -> dict[str, dict[str, Any]]:
    """What the files of results say of each protocol, by its name."""
    return {name: protocol.description for name, protocol in evaluation.PROTOCOLS.items()}
