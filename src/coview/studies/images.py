"""Whether the runs of a study were made from the same images, and judged on the same ones."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coview.core.errors import RunError
from coview.core.run_folder import RunFolder, read_object
from coview.studies.cell import Cell

LABELS = ("labels", "labels_from", "label_column")
"""The settings of a cell that decide which labels are read."""
OPENED = (
    "data", "split", "limit", "short_side", "image_column", "white", "max_pixels", "allow_broken",
    "root",
)  # fmt: skip
"""Those that decide which images are opened."""


class Record(NamedTuple):
    """What a file of a run says of images: ``named``, the settings that name them, ``images``,
    their fingerprints, and ``file``, where this stands. ``kind``: in words, which images."""

    named: Hashable
    images: str
    file: Path
    kind: str


def check_images(cells: Sequence[Cell], root: Path) -> None:
    """Raise RunError where ended cells that name the same images have opened different ones.

    Images may be replaced under their name while a study is stopped, and `coview evaluate` writes
    the figures of any images into the folder of a run. So the fingerprints in run.json and in the
    evaluation files of the cells are compared: those of whole data with labels between equal kinds
    of files, those without labels between all that open them at one size, as a pretraining and what
    starts from it.
    """
    firsts: dict[Hashable, Record] = {}
    for cell in cells:
        if not cell.is_ended(root):
            continue
        for other in (*_trained_on(cell, root), *_judged_on(cell, root)):
            first = firsts.setdefault((other.kind, other.named), other)
            if first.images != other.images:
                names = [each.file.relative_to(root).as_posix() for each in (first, other)]
                raise RunError(
                    f"The {other.kind} of {names[0]} and {names[1]} in {root} are different, "
                    "although the study names the same ones, so that their figures do not belong "
                    "together. Where a file of figures is the wrong one, delete it, and the same "
                    "command judges again; where a run is, give another `out`."
                )


def _trained_on(cell: Cell, root: Path) -> Iterator[Record]:
    """Of run.json."""
    run, settings = RunFolder(cell.folder(root)), dict(cell.settings)
    data = run.description["data"]
    named = (cell.verb, _named(settings, (*OPENED, *LABELS, "test")))
    yield Record(named, str(data["fingerprint"]), run.description_path, "images")
    unlabeled = data.get("unlabeled_fingerprint")
    if unlabeled is None and _opened(run).get("labels_from") == "none":
        unlabeled = data["fingerprint"]  # a run of before this was recorded
    yield from _without_labels(settings, unlabeled, run, run.description_path)


def _judged_on(cell: Cell, root: Path) -> Iterator[Record]:
    """Of the files of the cell's protocols, at the end and at kept checkpoints."""
    run, settings = RunFolder(cell.folder(root)), dict(cell.judged)
    files = [run.evaluation_path / f"{name}.json" for name in cell.protocols]
    if cell.follow:
        files += [
            run.evaluation_of(step) / f"{name}.json"
            for step in run.evaluated_steps
            for name in cell.follow
        ]
    for file in files:
        content = read_object(file) or {}
        data, card = content.get("data") or {}, content.get("card") or {}
        given = str(card.get("split", "")).endswith("as given")
        parts = [(data.get(part) or {}).get("fingerprint") for part in ("train", "test")]
        if any(parts):
            # Without test images a part of the data is tested on, which the seed chooses.
            seed = None if given else card.get("seed")
            named = (_named(settings, (*OPENED, *LABELS, "test")), cell.validates)
            yield Record((*named, given, seed), repr(parts), file, "images that are judged on")
            # A source may have got test images of its own since.
            yield Record((*named, file.name), repr(given), file, "images that are judged on")
        yield from _without_labels(settings, data.get("unlabeled_fingerprint"), run, file)
        # Of a set without test images a part is tested on, which the seed chooses.
        for name, seed in (("outliers", None), ("data sets", card.get("seed"))):
            further = {
                source: each.get("fingerprint", each.get("fingerprints"))
                for source, each in card.get(name, {}).items()
            }
            if further:
                chosen = (file.name, name, repr(cell.more), seed)
                yield Record(chosen, repr(further), file, "further images")


def _without_labels(
    settings: Mapping[str, Any], fingerprints: str | None, run: RunFolder, file: Path
) -> Iterator[Record]:
    """The images, and the test images where they are opened, whatever was read of their labels."""
    if fingerprints is None:
        return
    # Scenes are drawn at the size that they are opened at.
    side = _opened(run).get("short_side")
    images, _, test = fingerprints.partition("+")
    yield Record((_named(settings, OPENED), side), images, file, "training images")
    if test:
        named = _named(settings, (*(name for name in OPENED if name != "limit"), "test"))
        yield Record((named, side), test, file, "test images")


def _opened(run: RunFolder) -> Mapping[str, Any]:
    """How a run opened its images."""
    opened: Mapping[str, Any] = run.description["data"].get("opened", {}).get("images", {})
    return opened


def _named(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    """The settings of these names, as a value that can be compared."""
    return repr([(name, settings[name]) for name in names if name in settings])
