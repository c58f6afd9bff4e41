"""Judge the encoder of a run on labeled images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from coview import evaluation
from coview.core.errors import DataError, InvalidValue, StorageError, UnknownName
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.progress import say
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, source_of
from coview.methods.untrained import SETTLED, settled
from coview.options import EvaluateOptions
from coview.recipes import build
from coview.reports import write_report
from coview.runs.data import Images, RunData, say_source
from coview.runs.load import subject_of, trained_learner
from coview.runs.resume import JOBS
from coview.runs.run import Run
from coview.training import choose_device


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> list[evaluation.Result]:
    """Judge the run's encoder on labeled images; writes evaluation/*.json and the report anew,
    or says that the run may not be written.

    Neighbors and probe training come from ``data``; what is judged is ``test``, or a fifth of
    ``data``, chosen by image id. Each result stands beside the untrained encoder and raw pixels.
    With a ``checkpoint`` the files lie in evaluation/step-*/. ``protocols``: names, as a list or
    separated by commas. Raises DataError without labels, UnknownName for a protocol.

    >>> import coview
    >>> results = coview.evaluate("runs/scenes", "scenes", limit=100, protocols="knn")
    >>> sorted({result.subject for result in results})
    ['pixels', 'trained', 'untrained']
    """
    import_files(options.import_)
    names = words(options.protocols)
    for name in names:
        if name not in evaluation.PROTOCOLS:
            raise UnknownName("protocol", name, evaluation.PROTOCOLS)
    run = Run.open(options.run)
    device = choose_device(options.device)
    opened = run.data.images
    spec = DataSpec.of(options.data, options, needs_labels=True)
    if options.short_side is None:
        spec = replace(spec, short_side=opened.short_side)
    test = None if options.test is None else replace(spec.tests(), source=None)
    images = RunData(images=spec, test=test, own_test=True).open(options.data, options.test)
    for store in (images.images, images.test):
        if store is not None:
            say_source(store)
    training = images.images
    if images.test is None:  # as the benchmark splits them
        labeled = evaluation.labeled(training, "An evaluation")
        training = evaluation.split_test(labeled, seed=run.recipe.seed)[0]
    untrained = build(run.recipe).to(device)
    untrained = settled(untrained, training, run.recipe.eval_view, seed=run.recipe.seed)
    subjects = [
        subject_of("trained", trained_learner(run, options.checkpoint).to(device), run),
        replace(subject_of("untrained", untrained, run), note=SETTLED),
    ]
    sources = {source_of(options.data): images.images}
    if images.test is not None and options.test is not None:
        sources |= {source_of(options.test): images.test}
    benchmark = evaluation.make_benchmark(
        [*subjects, evaluation.pixel_subject()], images.images, images.test,
        device=device, seed=run.recipe.seed, caveats=partial(about_training, run, sources),
    )  # fmt: skip
    results = [
        result for name in names for result in evaluation.PROTOCOLS[name].evaluate(benchmark)
    ]
    folder = run.evaluation_path
    if options.checkpoint is not None:  # beside those of the end, which the report shows
        folder /= run.checkpoint_path(options.checkpoint).name
    for sentence in benchmark.caveats:
        say(sentence)
    try:
        evaluation.write_results(
            folder, results, data=benchmark.data,
            descriptions={name: evaluation.PROTOCOLS[name].description for name in names},
        )  # fmt: skip
        write_report(run.path)
    except StorageError as error:  # the figures are there: say them
        say(f"The results are not kept in the run. {error}")
    return results


def about_training(
    run: Run, sources: Mapping[Any, ImageStore], test: ImageStore
) -> tuple[str, ...]:
    """A sentence where images of ``test`` are those that the run was trained on.

    Known where they come from the source of the run, one of ``sources``: ids belong to a source.
    """
    opened, trained = run.data.images, set[int]()
    store = sources.get(opened.source) if opened.source is not None else None
    if store is not None:
        with suppress(DataError):  # other images than the run had
            parts = JOBS[run.kind].split(run.data, Images(store, None), run.recipe.seed)
            trained = set(parts.training.ids.tolist())
    count = len(trained & set(test.ids.tolist()))
    if count == 0:
        return ()
    labels = "with their labels" if run.recipe.method.needs_labels else "without their labels"
    return (
        f"The run was trained on {count:,} of the {len(test):,} test images, {labels}: new images "
        "may give a lower accuracy.",
    )


def words(text: object) -> tuple[str, ...]:
    """Names from a list, or from a text with commas. Raises InvalidValue for anything else.

    >>> words("knn, linear"), words(["h"])
    (('knn', 'linear'), ('h',))
    """
    if isinstance(text, str):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if isinstance(text, Iterable):
        return tuple(map(str, text))
    raise InvalidValue(f"{text!r} are no names; expected a list of texts, or one with commas.")
