"""Every verb of the command line: the same options as the Python function, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coview import options as kinds
from coview.core.errors import UnknownName
from coview.core.progress import say

if TYPE_CHECKING:
    from coview.runs import Run


@dataclass(frozen=True, slots=True)
class Verb:
    """A word of the command line: one line of help, its options, and what it does with them.

    ``main`` returns the exit code. It imports what it needs, so that help needs no torch.
    """

    summary: str
    options: type
    main: Callable[[Any], int]


def pretrain(options: kinds.PretrainOptions) -> int:
    from coview import runs

    return exit_code(runs.pretrain(options))


def finetune(options: kinds.FinetuneOptions) -> int:
    from coview import runs

    return exit_code(runs.finetune(options))


def resume(options: kinds.ResumeOptions) -> int:
    from coview import runs

    return exit_code(runs.resume(options))


def demo(options: kinds.DemoOptions) -> int:
    from coview import runs
    from coview.cli.tables import evaluation_table
    from coview.evaluation import read_results

    run = runs.demo(options)
    if run.is_ended:
        evaluation_table(read_results(run.evaluation_path))
    return exit_code(run)


def evaluate(options: kinds.EvaluateOptions) -> int:
    from coview import runs
    from coview.cli.tables import evaluation_table

    evaluation_table(runs.evaluate(options))
    return 0


def embed(options: kinds.EmbedOptions) -> int:
    from coview import runs

    out = options.out or runs.table_file(options.run, "embeddings", options.data)
    table = runs.embed(replace(options, out=out))
    say(f"{table.num_rows:,} images as vectors: {out}")
    return 0


def predict(options: kinds.PredictOptions) -> int:
    from coview import runs

    out = options.out or runs.table_file(options.run, "predictions", options.data)
    table = runs.predict(replace(options, out=out))
    say(f"{table.num_rows:,} images classified: {out}")
    return 0


def views(options: kinds.ViewsOptions) -> int:
    from coview import runs

    say(f"Contact sheet: {runs.draw_views(options)}")
    return 0


def doctor(options: kinds.DoctorOptions) -> int:
    from coview import runs

    report = runs.doctor(options)
    say(report.render_text())
    return int(report.exit_code)


def report(options: kinds.ReportOptions) -> int:
    from pathlib import Path

    from coview.reports import write_report

    say(f"Report: {write_report(Path(options.run))}")
    return 0


def export(options: kinds.ExportOptions) -> int:
    from coview import runs

    say(f"Written and compared: {runs.export(options)}")
    return 0


def recipes(options: kinds.RecipesOptions) -> int:
    from coview.core.values import encode
    from coview.recipes import METHODS, RECIPES, recipe

    name = options.name
    if name is not None and name not in METHODS:
        if name not in RECIPES:
            raise UnknownName("recipe or method", name, [*METHODS, *RECIPES])
        say(RECIPES[name].__doc__ or "")
        say(json.dumps(encode(recipe(name)), indent=2))
        return 0
    names = [known for known in RECIPES if name is None or _method_of(known) == name]
    width = max(map(len, names), default=0) + 2
    for each in names:
        say(f"{each:<{width}}{(RECIPES[each].__doc__ or '').splitlines()[0]}")
    return 0


def _method_of(recipe: str) -> str:
    """The method of a recipe, as moco of logo-moco-cpu or moco-v1-imagenet."""
    from coview.recipes import METHODS

    word = recipe.removeprefix("logo-").removeprefix("multi-crop-")
    return max((method for method in METHODS if word.startswith(method)), key=len, default="")


def exit_code(run: Run | None) -> int:
    """0 where a run ended well or was only planned, 75 where it was stopped, else its verdict's."""
    from coview.core.figures import DIAGNOSES

    if run is None:
        return 0
    verdict = run.verdict
    # EX_TEMPFAIL of sysexits.h: start again and it goes on
    return 75 if verdict is None else DIAGNOSES[str(verdict["label"])].exit_code


VERBS: Mapping[str, Verb] = {
    "demo": Verb("a complete first run without data, network or GPU", kinds.DemoOptions, demo),
    "pretrain": Verb("learn a representation from a folder of images, without labels",
                     kinds.PretrainOptions, pretrain),
    "finetune": Verb("train a classifier from a pretrained encoder and a few labels",
                     kinds.FinetuneOptions, finetune),
    "resume": Verb("go on with a run where it stopped, exactly", kinds.ResumeOptions, resume),
    "evaluate": Verb("judge an encoder on labeled images: kNN and linear probe",
                     kinds.EvaluateOptions, evaluate),
    "embed": Verb("turn images into vectors, written to a Parquet file",
                  kinds.EmbedOptions, embed),
    "predict": Verb("classify images, written to a Parquet file", kinds.PredictOptions, predict),
    "views": Verb("draw a contact sheet of what the model will see", kinds.ViewsOptions, views),
    "doctor": Verb("is this data usable, has this run learned anything, what to do",
                   kinds.DoctorOptions, doctor),
    "report": Verb("write a run's report.html again", kinds.ReportOptions, report),
    "export": Verb("write an encoder for torchvision, timm, ONNX or plain safetensors",
                   kinds.ExportOptions, export),
    "recipes": Verb("list the recipes, or print one with the source of its numbers",
                    kinds.RecipesOptions, recipes),
}  # fmt: skip
