"""Which test images a subject was trained on, by their pixels: from any source, under any name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError
from coview.core.images import ImageStore
from coview.core.places import Kind, place_of
from coview.data.annotated import AnnotatedSpec
from coview.data.spec import DataSpec
from coview.encoders.exchange.weights import find_export, read_config
from coview.evaluation.benchmark import about_overlap, count_shared
from coview.recipes import Start
from coview.runs.data import Images
from coview.runs.job import Parts
from coview.runs.kinds import JOBS
from coview.runs.run import Run
from coview.runs.subjects import TRAINED, Judged

Contents = npt.NDArray[np.int64]
WHAT_TO_DO = "Give `test` with images that none of these runs was trained on."


class Words(NamedTuple):
    """What the images that judge are called, and what new ones may give."""

    images: str
    worse: str


class _Sentence(NamedTuple):
    """``is_known``: it says what a network was trained on, else that nobody knows."""

    text: str
    is_known: bool


TESTED = Words("test images", "a lower accuracy")
HELD_OUT = Words("held-out images", "lower figures")


def about_training(
    judged: Judged, test: ImageStore, opened: Sequence[ImageStore], spec: DataSpec
) -> list[str]:
    """Sentences where ``test`` has images that the subject was trained on, or that may have.

    ``opened`` are the stores that are open, ``spec`` opened the first one. A run is asked for its
    images, and so are the runs that it starts from and its teachers. The images are decoded as
    ``spec`` says and compared by the hash of their pixels. An export without its run says what its
    config.json holds.
    """
    name = "The run" if judged.subject.name == TRAINED else judged.subject.name
    if judged.origin is None:
        return _texts(_by_fingerprint(name, judged.metadata, test, opened))
    sentences = []
    for what, run in _with_sources(name, judged.origin):
        sentences += _about_run(what, run, test, opened, spec)
    return _texts(sentences)


def about_others(
    judged: Judged, tests: Mapping[str, ImageStore], opened: Sequence[ImageStore], spec: DataSpec
) -> list[str]:
    """As :func:`about_training`, of the test images of further data by name; only what is known."""
    name = "The run" if judged.subject.name == TRAINED else judged.subject.name
    called = {key: Words(f"test images of {key!r}", "lower figures") for key in tests}
    sentences = []
    if judged.origin is None:
        for key, test in tests.items():
            sentences += _by_fingerprint(name, judged.metadata, test, opened, called[key])
        return _texts(sentences)
    for what, run in _with_sources(name, judged.origin) if tests else ():
        with suppress(CoviewError, OSError):
            trained = training_contents(run, opened, spec)
            for key, test in tests.items():
                sentences += _counted(what, run, test, trained, called[key])
    return _texts(sentences)


def about_copies(parts: Parts, words: Words = TESTED) -> list[str]:
    """A sentence where test images of a run are among the images that it is trained on."""
    image = words.images.removesuffix("s")
    return about_overlap(count_shared(parts.training, parts.held_out), image=image)


def about_teacher(
    path: str, test: ImageStore, opened: Sequence[ImageStore], spec: DataSpec
) -> list[str]:
    """Sentences where ``test`` has images that a teacher was trained on, or that may have.

    ``path``: of the teacher's export. Its run is asked, and those before it that had labels.
    """
    folder = _run_at(path)
    if folder is None:
        return _texts([_unknown("the teacher", f"{path} lies in no run")])
    sentences = []
    teacher = Run.open(folder)
    for what, run in _with_sources("The teacher", teacher):
        if run is teacher or run.description.get("needs_labels", True):
            sentences += _about_run(what, run, test, opened, spec)
    return _texts(sentences)


def about_held_out(
    start: Start, held_out: ImageStore, opened: Sequence[ImageStore], spec: DataSpec
) -> list[str]:
    """As :func:`about_start`, of images that a pretraining has held out to judge itself.

    Only what is known: most first weights come from elsewhere and from other images.
    """
    sentences = _about_first_weights(start, held_out, opened, spec, HELD_OUT)
    return _texts(sentence for sentence in sentences if sentence.is_known)


def about_start(
    start: Start, test: ImageStore, opened: Sequence[ImageStore], spec: DataSpec
) -> list[str]:
    """Sentences where ``test`` has images that the first weights were trained on, or that may have.

    The run of ``start`` is asked, those before it, and their teachers; of an export that lies in no
    run its config.json. The last sentence says what to do.
    """
    sentences = _about_first_weights(start, test, opened, spec, TESTED)
    is_known = any(sentence.is_known for sentence in sentences)
    return [*_texts(sentences), *([WHAT_TO_DO] if is_known else [])]


def _texts(sentences: Iterable[_Sentence]) -> list[str]:
    return [sentence.text for sentence in sentences]


def _about_first_weights(
    start: Start, judged: ImageStore, opened: Sequence[ImageStore], spec: DataSpec, words: Words
) -> list[_Sentence]:
    folder = _run_at(start.path)
    if folder is None:
        # A file of weights alone does not say what they were trained on.
        is_export = place_of(start.path).is_folder
        metadata = read_config(find_export(start.path)).get("metadata") if is_export else None
        sentences = _by_fingerprint("The first network", metadata or {}, judged, opened, words)
        why = f"{start.path} lies in no run"
        return sentences or [_unknown("the first network", why, words)]
    sentences = []
    for what, run in _with_sources("The run before", Run.open(folder)):
        sentences += _about_run(what, run, judged, opened, spec, words)
    return sentences


def _about_run(
    what: str, run: Run, test: ImageStore, opened: Sequence[ImageStore], spec: DataSpec,
    words: Words = TESTED,
) -> list[_Sentence]:  # fmt: skip
    try:
        trained = training_contents(run, opened, spec)
    except (CoviewError, OSError) as error:
        reason = str(error).rstrip(".")
        return [_unknown(within(what), f"its images cannot be opened: {reason}", words)]
    return _counted(what, run, test, trained, words)


def _counted(
    what: str, run: Run, test: ImageStore, trained: Contents, words: Words
) -> list[_Sentence]:
    count = int(np.isin(test.content, trained).sum())
    if not count:
        return []
    labels = "with" if run.recipe.method.needs_labels else "without"
    text = (
        f"{what} was trained on {count:,} of the {len(test):,} {words.images}, {labels} their "
        f"labels: new images may give {words.worse}."
    )
    return [_Sentence(text, is_known=True)]


def _unknown(what: str, why: str, words: Words = TESTED) -> _Sentence:
    text = f"Whether {what} was trained on {words.images} is not known, because {why}."
    return _Sentence(text, is_known=False)


def training_contents(run: Run, opened: Sequence[ImageStore], spec: DataSpec) -> Contents:
    """The pixel hashes of the images that ``run`` was trained on, int64 [N].

    Raises the errors of opening them.
    """
    data = run.data
    whole, *test = run.description["data"]["fingerprint"].split("+")
    store = next((store for store in opened if whole in _fingerprints(store)), None)
    if store is None or isinstance(data.images, AnnotatedSpec):  # which also opens annotations
        images = replace(data.images, short_side=spec.short_side, download=False)
        store = images.open()
    # Any test part will do where the run had one: no training image is then held back for it.
    parts = JOBS[run.kind].split(data, Images(store, store if test else None), run.recipe.seed)
    return parts.training.content


def _fingerprints(store: ImageStore) -> tuple[str, str]:
    """That of the images with their labels, and without: a run may have read none."""
    return store.fingerprint, store.unlabeled_fingerprint


def within(name: str) -> str:
    """``name`` within a sentence.

    >>> within("The run"), within("The teacher of the run"), within("runs/b")
    ('the run', 'the teacher of the run', 'runs/b')
    """
    return f"t{name[1:]}" if name.startswith(("The run", "The teacher")) else name


def _with_sources(name: str, run: Run) -> Iterator[tuple[str, Run]]:
    """The run, those that its first weights come from, and its teachers, as far as they are there.

    Each with what it is to the run called ``name``.
    """
    seen: set[Path] = set()
    waiting = [(name, run)]
    while waiting:
        what, run = waiting.pop(0)
        if run.path.resolve() in seen:
            continue
        seen.add(run.path.resolve())
        yield what, run
        teacher = run.description.get("teacher")
        for relation, path in (
            ("The run before", None if run.start is None else run.start.path),
            ("The teacher of", teacher["path"] if teacher else None),
        ):
            folder = None if path is None else _run_at(path)
            if folder is not None:
                waiting.append((f"{relation} {within(what)}", Run.open(folder)))


def _run_at(path: str) -> Path | None:
    """The run in ``path``, or around the export that lies there."""
    place = place_of(path).path
    return next((each for each in (place, place.parent) if place_of(each).kind is Kind.RUN), None)


def _by_fingerprint(
    name: str, metadata: Mapping[str, Any], test: ImageStore, opened: Sequence[ImageStore],
    words: Words = TESTED,
) -> list[_Sentence]:  # fmt: skip
    """What an export says: the fingerprint of all images that its run has opened."""
    recorded = str(metadata.get("data_fingerprint") or "").split("+")[0]
    source = next((store for store in opened if recorded in _fingerprints(store)), None)
    if source is None or not np.isin(test.content, source.content).any():
        return []
    labels = "with" if metadata.get("labels_used") else "without"
    text = (
        f"{name} was trained on images of {source.source}, {labels} their labels, and "
        f"{words.images} are from there: new images may give {words.worse}."
    )
    return [_Sentence(text, is_known=True)]
