"""Every verb of the command line: the same options as the Python function, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import coview
from coview import options as kinds
from coview.core.errors import DamagedFile
from coview.core.paths import local_path
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.core.text import plural, whole_numbers

if TYPE_CHECKING:
    from coview.runs.run import Run


Answer = tuple[int, Any]
SHOWN = 10
"""Rows of a table that are printed; its file has all."""
FAILED = 2
"""Exit code of a mistake in the command, and of `study all` where a study has failed."""
STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: start again and it goes on."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A word of the command line: one line of help, its options, and what it does with them.

    ``main`` returns the exit code and the result that ``--json`` prints. It imports what it needs,
    so that help needs no torch. ``prints``: the result is what is printed, and in no file.
    ``command``: the options that the command line alone has.
    """

    summary: str
    options: type
    main: Callable[[Any], Answer]
    prints: bool = False
    command: type = kinds.CommandOptions


def pretrain(options: kinds.PretrainOptions) -> Answer:
    return end_of(coview.pretrain(options))


def finetune(options: kinds.FinetuneOptions) -> Answer:
    return end_of(coview.finetune(options))


def detect(options: kinds.DetectOptions) -> Answer:
    return end_of(coview.detect(options))


def study(options: kinds.StudyOptions) -> Answer:
    from coview.cli.tables import studies_table

    result = coview.study(options)
    if result["study"] is None:
        say(result["basis"])
        studies_table(result["studies"])
    code = 0 if result["ended"] or options.dry_run else STOPPED
    return (FAILED if result.get("failed") else code), result


def sweep(options: kinds.SweepOptions) -> Answer:
    from coview.cli.tables import arms_table

    result = coview.sweep(options)
    arms_table(result.get("tables", ()))
    return (0 if result["ended"] or options.dry_run else STOPPED), result


def distill(options: kinds.DistillOptions) -> Answer:
    return end_of(coview.distill(options))


def resume(options: kinds.ResumeOptions) -> Answer:
    return end_of(coview.resume(options))


def demo(options: kinds.DemoOptions) -> Answer:
    from coview.cli.tables import evaluation_table

    run = coview.demo(options)
    if run.is_ended:
        evaluation_table(run.evaluations)
    return end_of(run)


def evaluate(options: kinds.EvaluateOptions) -> Answer:
    from coview.cli.tables import evaluation_table

    results = coview.evaluate(options)
    evaluation_table(results.contents)
    say(f"Results: {results.path}")
    return 0, {"path": results.path, "results": [asdict(result) for result in results]}


def compare(options: kinds.CompareOptions) -> Answer:
    from coview.cli.tables import comparison_table

    rows = coview.compare(options)
    comparison_table(rows.to_json(), rows.sentences())
    return 0, rows.to_json()


def embed(options: kinds.EmbedOptions) -> Answer:
    table = coview.embed(options)
    where = options.out or table.path
    say(f"{plural(len(table), 'image')} as vectors{'' if where is None else f': {where}'}")
    return 0, {"path": where, "images": len(table), "layers": table.layers}


def search(options: kinds.SearchOptions) -> Answer:
    from coview.cli.tables import search_table

    results = coview.search(options)
    search_table(results.to_rows())
    return 0, results.to_rows()


def map_images(options: kinds.MapOptions) -> Answer:
    from coview.cli.clusters import clusters_table, most_unlike
    from coview.runs.map import clusters_in

    table = coview.map(options)
    clusters = clusters_in(table, options.layer)
    wanted = min(whole_numbers("clusters", options.clusters) or clusters)
    say(f"{plural(wanted, 'cluster')}:")
    clusters_table(table, clusters[wanted])
    unlike = most_unlike(table)
    say(f"Most unlike all others: {', '.join(unlike)}.")
    where = options.out or table.path
    say(f"{len(table):,} images on the map{'' if where is None else f': {where}'}")
    described = {
        str(count): [asdict(cluster) for cluster in each] for count, each in clusters.items()
    }
    return 0, {"path": where, "images": len(table), "clusters": described, "unlike": unlike}


def select(options: kinds.SelectOptions) -> Answer:
    from coview.core.places import free_file
    from coview.runs.embed import table_file
    from coview.runs.own_images import images_of

    data, images = images_of(options, "data")
    folder = RunFolder(local_path(options.run)).selections_path
    place = table_file(folder, data, images, options.checkpoint)
    # A list by which somebody labels is not replaced: the next one has a number.
    out = options.out or free_file(place.with_suffix(".csv"))
    selection = coview.select(replace(options, out=out))
    for row in selection.slice(0, SHOWN).to_pylist():
        say(f"{row['order']:>4}  {row['name']}: {row['reason']}")
    left = selection.num_rows - SHOWN
    say(f"{f'And {left:,} more; the' if left > 0 else 'The'} whole list: {out}")
    return 0, {"path": out, "images": selection.to_pylist()}


def predict(options: kinds.PredictOptions) -> Answer:
    from coview.runs.embed import table_file

    folder = RunFolder(local_path(options.run)).predicted_path
    out = options.out or table_file(folder, options.data, options, options.checkpoint)
    table = coview.predict(replace(options, out=out))
    for row in table.slice(0, SHOWN).to_pylist():
        say(f"{row['name']}: {row['class']} ({100 * row['probability']:.0f} %)", detail=True)
    if table.num_rows > SHOWN:
        say(f"... and {table.num_rows - SHOWN:,} more", detail=True)
    say(f"{plural(table.num_rows, 'image')} classified: {out}")
    return 0, {"path": out, "images": table.num_rows}


def browse(options: kinds.BrowseOptions) -> Answer:
    from pathlib import Path

    page = coview.browse(options)
    if isinstance(page, Path):
        return 0, {"path": page}
    with page:
        page.wait()
    return 0, {"address": page.address, "tags": page.annotations.path}


def views(options: kinds.ViewsOptions) -> Answer:
    out = coview.draw_views(options)
    say(f"Contact sheet: {out}")
    return 0, {"path": out}


def doctor(options: kinds.DoctorOptions) -> Answer:
    report = coview.doctor(options)
    say(report.render_text())
    return int(report.exit_code), report.to_json()


def report(options: kinds.ReportOptions) -> Answer:
    from coview.reports import write_report

    out = write_report(options.run)
    say(f"Report: {out}")
    return 0, {"path": out}


def duplicates(options: kinds.DuplicatesOptions) -> Answer:
    from coview.runs.duplicates import default_table

    out = options.out or default_table(options)
    result = coview.duplicates(replace(options, out=out))
    for sentence in result.sentences():
        say(sentence)
    contradicting = sum(group.contradicts for group in result.groups)
    leaks = sum(group.leaks for group in result.groups)
    return 0, {
        "path": out, "images": len(result.names), "groups": len(result),
        "surplus": result.surplus, "contradicting": contradicting, "leaks": leaks,
    }  # fmt: skip


def export(options: kinds.ExportOptions) -> Answer:
    out = coview.export(options)
    say(f"Written and compared: {out}")
    return 0, {"path": out}


def push(options: kinds.PushOptions) -> Answer:
    address = coview.push(options)
    say(f"Address: {address}")
    return 0, {"address": address}


def import_checkpoint(options: kinds.ImportCheckpointOptions) -> Answer:
    out = coview.import_checkpoint(options)
    say(f"Written and compared: {out}")
    return 0, {"path": out}


def cache(options: kinds.CacheOptions) -> Answer:
    from datetime import UTC, datetime

    from coview.core.images import cache_folder
    from coview.core.text import byte_size
    from coview.data.cache import (
        LIMIT_VARIABLE,
        by_source,
        cache_entries,
        cache_limit,
        clear_cache,
    )

    folder = options.cache or cache_folder()
    entries = clear_cache(folder) if options.clear else cache_entries(folder)
    for source in by_source(entries):
        day = datetime.fromtimestamp(source.used, UTC)
        say(f"{byte_size(source.size):>10}  {day:%Y-%m-%d}  {source.words}")
    total = sum(entry.size for entry in entries)
    done = "deleted from" if options.clear else "in"
    say(
        f"{byte_size(total)} of decoded images and features {done} {folder}; at most "
        f"{byte_size(cache_limit())} (${LIMIT_VARIABLE})."
    )
    return 0, {"folder": folder, "bytes": total, "stores": [asdict(entry) for entry in entries]}


def recipes(options: kinds.RecipesOptions) -> Answer:
    from coview.core.user_code import import_files
    from coview.core.values import encode
    from coview.recipes import METHODS, RECIPES, find_recipe, list_recipes, recipe

    import_files(options.import_)
    name = options.name
    if name is not None and name not in METHODS:
        value = find_recipe(name)
        if isinstance(value, str):
            say(RECIPES[name].__doc__ or "")
            value = recipe(name)
        whole = encode(value, all_fields=True)
        say(json.dumps(whole, indent=2))
        return 0, whole
    lines = {each: (RECIPES[each].__doc__ or "\n").splitlines()[0] for each in RECIPES}
    width = max(map(len, lines)) + 2
    groups = list_recipes(name)
    for method, names in groups.items():
        say(method)
        for each in names:
            say(f"  {each:<{width}}{lines[each]}")
    return 0, {each: lines[each] for names in groups.values() for each in names}


def end_of(run: Run | None) -> Answer:
    """The exit code of a run; its path, its verdict and the last figures of each kind."""
    if run is None:
        return 0, {"path": None}
    figures = {row["kind"]: row for row in run.metrics()}
    return exit_code(run), {"path": run.path, "verdict": run.verdict, "figures": figures}


def exit_code(run: Run) -> int:
    """0 where a run ended well, 75 where it was stopped, else its verdict's."""
    from coview.core.figures import DIAGNOSES

    verdict = run.verdict
    if verdict is None:
        return STOPPED
    if verdict["label"] not in DIAGNOSES:
        raise DamagedFile(f"{run.verdict_path} has an unknown label, {verdict['label']!r}.")
    return DIAGNOSES[verdict["label"]].exit_code


TRAINS = kinds.TrainingCommandOptions
VERBS: Mapping[str, Verb] = {
    "demo": Verb("a complete first run without data, network or GPU", kinds.DemoOptions, demo),
    "pretrain": Verb("learn a representation from a folder of images, without labels",
                     kinds.PretrainOptions, pretrain, command=TRAINS),
    "finetune": Verb("train a classifier from a pretrained encoder and a few labels",
                     kinds.FinetuneOptions, finetune, command=TRAINS),
    "detect": Verb("train a detector or a segmenter on a pretrained encoder",
                   kinds.DetectOptions, detect, command=TRAINS),
    "distill": Verb("train a small or a like network to classify as a teacher does",
                    kinds.DistillOptions, distill, command=TRAINS),
    "study": Verb("a paper's experiment and whether its claim holds here; alone: the list",
                  kinds.StudyOptions, study),
    "sweep": Verb("every combination of settings of a recipe, with several seeds, as one table",
                  kinds.SweepOptions, sweep),
    "resume": Verb("go on with a run where it stopped, exactly", kinds.ResumeOptions, resume,
                   command=TRAINS),
    "evaluate": Verb("judge encoders on labeled images, beside untrained ones and raw pixels",
                     kinds.EvaluateOptions, evaluate),
    "compare": Verb("runs side by side: what differs, figures, curves over each other",
                    kinds.CompareOptions, compare, prints=True),
    "embed": Verb("turn images into vectors, written to a Parquet file",
                  kinds.EmbedOptions, embed),
    "search": Verb("find the images that are nearest to an image, or to examples",
                   kinds.SearchOptions, search, prints=True),
    "map": Verb("coordinates, clusters and outliers of images, as columns of their vectors' table",
                kinds.MapOptions, map_images),
    "select": Verb("which images to label next, each with the reason",
                   kinds.SelectOptions, select),
    "predict": Verb("classify images, written to a Parquet file", kinds.PredictOptions, predict),
    "browse": Verb("a page over all images: map, neighbors, search, tags and labels",
                   kinds.BrowseOptions, browse),
    "views": Verb("draw a contact sheet of what the model will see", kinds.ViewsOptions, views),
    "doctor": Verb("is this data usable, has this run learned anything, what to do",
                   kinds.DoctorOptions, doctor, prints=True),
    "duplicates": Verb("find copies: contradicting labels, train and test, near-identical images",
                       kinds.DuplicatesOptions, duplicates),
    "push": Verb("put an encoder on the Hugging Face Hub", kinds.PushOptions, push),
    "import": Verb("make an encoder folder of another program's checkpoint",
                   kinds.ImportCheckpointOptions, import_checkpoint),
    "report": Verb("write a run's report.html again", kinds.ReportOptions, report),
    "export": Verb("write an encoder for torchvision, timm, ONNX, detectron2 or safetensors",
                   kinds.ExportOptions, export),
    "cache": Verb("list the decoded images and features on disk, or delete them",
                  kinds.CacheOptions, cache, prints=True),
    "recipes": Verb("list the recipes, or print one with the source of its numbers",
                    kinds.RecipesOptions, recipes, prints=True),
}  # fmt: skip
