"""Judge encoders on images, most often labeled: one run in its folder, several side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coview import evaluation
from coview.core.errors import CoviewError, DataError, InvalidValue, StorageError
from coview.core.images import ImageStore, cache_folder
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.progress import say
from coview.core.text import duration, plural
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, name_of
from coview.data.store import NO_CACHE
from coview.evaluation import FeatureCache
from coview.options import EvaluateOptions
from coview.reports.comparison import PAGE
from coview.runs.data import RunData, say_source
from coview.runs.load import say_verdict
from coview.runs.more_data import open_outliers, open_transfer
from coview.runs.protocols import ALL, chosen_protocols, words
from coview.runs.results import (
    Evaluation,
    Results,
    descriptions_of,
    finish,
    free_folder,
    holds_others,
    replaced_by,
    write,
)
from coview.runs.subjects import Judged, on_device, open_subjects, untrained_subjects
from coview.runs.trained_on import about_others, about_training
from coview.training import choose_device

MANY = 4
"""Protocols, from how many on it is said how long each takes."""
MINUTES = {
    "linear": 5.4, "few-labels": 4.7, "logistic": 3.0, "sgd-linear": 2.5, "invariance": 1.9,
}  # fmt: skip
"""Of one core on CIFAR-10 (docs/benchmarks/results/protocols.md), of those that take longest."""


def about_length(names: Sequence[str]) -> str:
    """How many protocols there are, and which of them take longest. How long that is on these
    images is not known beforehand.

    >>> about_length(["knn", "linear", "retrieval", "logistic"])
    '4 protocols. Of these take longest, in minutes of a core on CIFAR-10: linear 5.4, logistic 3.'
    """
    long = ", ".join(f"{name} {minutes:g}" for name, minutes in MINUTES.items() if name in names)
    measured = f" Of these take longest, in minutes of a core on CIFAR-10: {long}." if long else ""
    return f"{plural(len(names), 'protocol')}.{measured}"


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> Results:
    """Judge encoders on images, most often labeled, beside untrained ones and raw pixels.

    ``subjects`` is one of these, a list of them, or a mapping from names to them: a run, an
    exported folder, "torchvision:NAME=FILE" or "timm:NAME=FILE", a torch module that takes images
    in [0, 1] (with ``size``), a :class:`coview.evaluation.Subject`. Neighbors and probe training
    come from ``data``; what is judged is ``test``, the test or val part of ``data``, or else a
    fifth of it, chosen by image id.
    ``protocols``: names, as a list or separated by commas, "default" or "all". The images need
    labels if one of these protocols does.

    The figures of a run lie in its folder evaluation/ (with a ``checkpoint`` in a folder step-*/
    there) and in its report, as the subject "trained". Those of anything else, and of several
    subjects together, lie in ``out`` with comparison.html. ``outliers`` and ``transfer`` may be
    lists of data or mappings from names to data; an item of ``transfer`` may be
    {"train": ..., "test": ...}.
    Raises DataError without labels, UnknownName for a protocol, InvalidValue for one whose data are
    not given.

    >>> import coview
    >>> results = coview.evaluate("runs/scenes", "scenes", limit=100, protocols="knn")
    >>> sorted({result.subject for result in results})
    ['pixels', 'trained', 'untrained']
    >>> results.path.name
    'evaluation'
    """
    import_files(options.import_)
    protocols = chosen_protocols(options)
    opened = open_evaluation(options, needs_labels=any(each.needs_labels for each in protocols))
    results, replaced = Results(), dict[str, list[str]]()
    if len(protocols) >= MANY:
        say(about_length([protocol.name for protocol in protocols]), detail=True)
    for protocol in protocols:
        began = time.monotonic()
        try:
            new = protocol.evaluate(opened.benchmark)
        except CoviewError as error:
            if ALL not in words(options.protocols) or isinstance(error, StorageError):
                raise
            say(f"The protocol {protocol.name!r} is left out: {error}")
            continue
        results += new
        before = list(replaced_by(opened, protocol.name))
        if write(opened, new):
            for words_ in before:
                replaced.setdefault(words_, []).append(protocol.name)
        if len(protocols) >= MANY:
            say(f"{protocol.name}: {duration(time.monotonic() - began, 1)}.", detail=True)
    for others, names in replaced.items():
        say(f"The new figures replace {others}: {', '.join(names)}.")
    if not results:
        raise DataError("No protocol could be used on these data.")
    for sentence in opened.benchmark.caveats:
        say(sentence)
    results.path = finish(opened)
    results.contents = evaluation.result_contents(
        results, data=opened.data, descriptions=descriptions_of()
    )
    return results


def open_evaluation(options: EvaluateOptions, *, needs_labels: bool = True) -> Evaluation:
    """Subjects, images and where the figures go; no feature is computed yet.

    ``needs_labels``: whether a protocol reads the labels of the images.
    """
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise InvalidValue(f"`seed` is {options.seed}; expected 0 or a positive whole number.")
    judged = open_subjects(options.subjects, step=options.checkpoint, size=options.size)
    for each in judged:
        if (run := each.run or each.origin) is not None:
            say_verdict(run.path)
    device = choose_device(options.device)
    alone = judged[0].run if len(judged) == 1 else None
    seed = options.seed if options.seed is not None else alone.recipe.seed if alone else 0
    spec = data_spec(options, judged, needs_labels=needs_labels)
    test = None if options.test is None else replace(spec.tests(), source=None)
    images = RunData(images=spec, test=test, own_test=True).open(options.data, options.test)
    for store in images.stores:
        say_source(store)
    subjects = [on_device(each.subject, device) for each in judged]
    untrained: dict[str, evaluation.Subject] = {}
    if not options.no_baselines:
        training = images.images
        if images.test is None:  # as the benchmark splits them
            training = evaluation.parts_of(training, None, seed=seed, needs_labels=needs_labels)[0]
        untrained = untrained_subjects(judged, training, seed=seed, device=device)
        subjects += [*untrained.values(), evaluation.pixel_subject()]
    about: dict[str, Sequence[str]] = {}

    def caveats(test: ImageStore) -> tuple[str, ...]:
        for each in judged:
            about[each.subject.name] = about_training(each, test, images.stores, spec)
        return tuple(sentence for sentences in about.values() for sentence in sentences)

    others = open_transfer(options.transfer, spec, seed=seed)
    tests = {name: test for name, (_, test) in others.items()}
    stores = (*images.stores, *(store for pair in others.values() for store in pair))
    benchmark = evaluation.make_benchmark(
        subjects, images.images, images.test, device=device, seed=seed, caveats=caveats,
        outliers=open_outliers(options.outliers, spec), corrupted=options.corrupted,
        others=others,
        trained_on_others={
            each.subject.name: about_others(each, tests, stores, spec) for each in judged
        },
        cache=None if spec.cache == NO_CACHE else FeatureCache(spec.cache or cache_folder()),
        needs_labels=needs_labels,
    )  # fmt: skip
    out = options.out
    if out is None and alone is None:
        out = free_folder(Path("evaluations") / name_of(options.data), benchmark)
    elif out is not None and holds_others(out, benchmark):
        say(
            f"{out} holds figures of other subjects, images or seeds; {PAGE} there shows those of "
            "other protocols beside the new ones."
        )
    return Evaluation(
        judged=judged, benchmark=benchmark, about=about, images=images,
        untrained={key: subject.name for key, subject in untrained.items()},
        out=None if out is None else local_path(out),
    )  # fmt: skip


def data_spec(
    options: EvaluateOptions, judged: Sequence[Judged], *, needs_labels: bool
) -> DataSpec:
    """How all images are opened: as the runs did, at the largest of their short sides.

    Where no protocol needs labels, those that a source clearly has are read all the same: the
    figures then lie beside others of the same images.
    """
    size = max(each.subject.view.size for each in judged)
    spec = DataSpec.of(options.data, options, size=size, needs_labels=needs_labels or None)
    sides = [each.run.data.images.short_side for each in judged if each.run is not None]
    if options.short_side is None and sides:
        if len(sides) < len(judged):
            sides.append(spec.short_side)
        known = [side for side in sides if side is not None]
        spec = replace(spec, short_side=max(known) if len(known) == len(sides) else None)
    return spec
