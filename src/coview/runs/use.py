"""A trained run in use: judge, embed, load, export, look at views, ask the doctor."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.core.files import write_bytes
from coview.core.progress import say
from coview.core.rng import Stream, permutation
from coview.core.run_folder import DESCRIPTION
from coview.data import relabel
from coview.data.spec import open_for, short_side_for
from coview.diagnosis.data_checks import doctor_data
from coview.diagnosis.run_checks import doctor_run
from coview.encoders import export_to, load_encoder
from coview.encoders.exchange.weights import export_folder, read_config
from coview.evaluation import (
    PROTOCOLS,
    Result,
    Subject,
    extract,
    make_benchmark,
    pixel_subject,
    write_results,
)
from coview.planning.defaults import default_recipe
from coview.recipes import METHODS, RECIPES, build, change
from coview.recipes import recipe as recipe_named
from coview.reports import write_report
from coview.runs.restore import trained
from coview.runs.run import Run
from coview.training import choose_device
from coview.views import contact_sheet, eval_view

if TYPE_CHECKING:
    import pyarrow as pa


def evaluate(
    run: str | Path,
    data: Any,
    *,
    test: Any = None,
    protocols: Sequence[str] = ("knn", "linear"),
    labels: str = "auto",
    device: str = "auto",
    limit: int | None = None,
    download: bool = False,
    allow_broken: bool = False,
) -> list[Result]:
    """Judge the run's encoder on labeled images; writes evaluation/*.json and the report anew.

    Neighbors and probe training come from ``data``; what is judged is ``test``, or a fifth of
    ``data``, chosen by image id. Returns the results of the trained and the untrained encoder and
    of raw pixels. Raises DataError without labels, UnknownName for a protocol.
    """
    for name in protocols:
        if name not in PROTOCOLS:
            raise UnknownName("protocol", name, PROTOCOLS)
    if isinstance(data, str) and not data:
        raise InvalidValue("--data is missing: give labeled images to judge the encoder on.")
    found = Run.open(run)
    on = choose_device(device)
    opened = found.description["data"]["opened"]
    options = {
        "labels": labels, "needs_labels": True, "limit": limit, "download": download,
        "allow_broken": allow_broken, "short_side": opened["short_side"],
        "memory_share": opened["memory_share"],
    }  # fmt: skip
    train = open_for(data, **options)
    judged = None if test is None else open_for(test, **{**options, "split": "test"})
    if judged is not None:
        judged = relabel(judged, train.class_names)
    now, before = trained(found).to(on), build(found.recipe).to(on)
    subjects = [
        Subject(name=name, encoder=net.encoder, head=net.head, view=found.recipe.eval_view)
        for name, net in (("trained", now), ("untrained", before))
    ]
    benchmark = make_benchmark(
        [*subjects, pixel_subject()], train, judged, device=on, seed=found.recipe.seed
    )
    results = [result for name in protocols for result in PROTOCOLS[name](benchmark)]
    write_results(found.path / "evaluation", results, data=benchmark.data)
    write_report(found.path)
    return results


def load(path: str | Path) -> torch.nn.Module:
    """The trained encoder of a run or of an exported folder: images [B, 3, H, W] in [0, 1] -> h.

    In evaluation mode; ``.features`` is the width of h. The weights' hash is verified.
    """
    return load_encoder(export_folder(Path(path)))


def embed(
    run: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    taps: Sequence[str] = ("h",),
    labels: str = "auto",
    device: str = "auto",
    limit: int | None = None,
    download: bool = False,
    allow_broken: bool = False,
) -> pa.Table:
    """A table of ``data`` with the columns id, name, label (-1 unknown) and one vector a tap.

    "h" is the encoder's output, "z" the head's; an exported encoder has no head and so only "h".
    Written as Parquet to ``out`` where given. Rows are in the order of the images' names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    on = choose_device(device)
    encoder, head, view = _network(Path(run))
    store = open_for(
        data, labels=labels, limit=limit, download=download, allow_broken=allow_broken,
        short_side=short_side_for(data, view.size, None),
    )  # fmt: skip
    subject = Subject(
        name=str(run), view=view, encoder=encoder.to(on), head=None if head is None else head.to(on)
    )
    found = extract(subject, store, layers=taps, device=on, label="Embedding")
    columns: dict[str, Any] = {
        "id": pa.array(store.ids),
        "name": pa.array(list(store.names)),
        "label": pa.array([-1] * len(store) if store.labels is None else store.labels),
    }
    for tap in taps:
        values = found.layers[tap].contiguous()
        flat = pa.array(values.numpy().reshape(-1))
        columns[tap] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    about = {"coview.run": str(run), "coview.class_names": json.dumps(list(store.class_names))}
    table = pa.table(columns).replace_schema_metadata(about)
    if out is not None:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        write_bytes(Path(out), sink.getvalue())
    return table


def embedding_file(run: str | Path, data: str | Path) -> Path:
    """Where ``coview embed`` writes unless told otherwise."""
    name = Path(str(data).replace(":", "-")).resolve().stem or "images"
    return Path(run) / "embeddings" / f"{name}.parquet"


def export(run: str | Path, *, to: str, out: str | Path | None = None) -> Path:
    """Write the encoder for torchvision, timm, ONNX or as safetensors; read back and compared."""
    ending = "onnx" if to == "onnx" else "safetensors"
    path = Path(out) if out is not None else Path(run) / "exports" / f"{to}.{ending}"
    return export_to(run, to, path)


def draw_views(
    data: Any,
    out: str | Path,
    *,
    recipe: str = "simclr",
    size: int | None = None,
    jitter_strength: float | None = None,
    local_crops: int | None = None,
    affinity: str | None = None,
    images: int = 8,
    seed: int = 0,
    download: bool = False,
) -> Path:
    """Write a PNG of ``images`` images of ``data`` and of the views that the recipe makes of them.

    Broken files among those drawn are left out. Raises InvalidValue and UnknownName.
    """
    if images < 1:
        raise InvalidValue(f"--images is {images}; expected at least 1.")
    if Path(out).suffix.lower() != ".png":
        raise InvalidValue(f"--out is {out}; expected a name that ends in .png.")
    if recipe not in (*RECIPES, *METHODS):
        raise UnknownName("recipe", recipe, [*RECIPES, *METHODS])
    store = open_for(
        data, labels="none", short_side=short_side_for(data, size, None), limit=images, seed=seed,
        allow_broken=True, download=download,
    )  # fmt: skip
    if recipe in METHODS:
        side = int(np.median(np.minimum(store.heights, store.widths)))
        device = choose_device("auto").type
        chosen = default_recipe(recipe, side=side, images=len(store), device=device)
    else:
        chosen = recipe_named(recipe)
    chosen = change(
        chosen,
        size=size,
        jitter_strength=jitter_strength,
        local_crops=local_crops,
        affinity=affinity,
    )
    rows = permutation(seed, Stream.HEALTH, store.ids, epoch=2)
    contact_sheet(store, rows, chosen.method.views, Path(out), seed=seed)
    return Path(out)


def doctor(
    subject: Any, *, labels: str = "auto", limit: int | None = None, download: bool = False
) -> int:
    """Print what is wrong with a run or with images and what to do; returns the exit code."""
    if isinstance(subject, (str, Path)) and (Path(subject) / DESCRIPTION).is_file():
        report: Any = doctor_run(subject)
    else:
        side = short_side_for(subject, None, None)
        store = open_for(
            subject, labels=labels, limit=limit, short_side=side, allow_broken=True,
            download=download,
        )  # fmt: skip
        found = len(store) + len(store.quarantine)
        report = doctor_data(store, sampled=limit is not None and found >= limit, kept_at=side)
    say(report.render_text())
    return int(report.exit_code)


def _network(path: Path) -> tuple[torch.nn.Module, torch.nn.Module | None, Any]:
    """(encoder, head or None, the view that it wants) of a run or of an exported encoder."""
    if (path / DESCRIPTION).is_file():
        run = Run.open(path)
        learner = trained(run)
        return learner.encoder, learner.head, run.recipe.eval_view
    if not path.exists():
        raise RunError(f"There is no run or exported encoder {path}.")
    config = read_config(export_folder(path))
    # The loaded encoder normalizes by itself, so the view stays in [0, 1].
    return load(path), None, replace(eval_view(int(config["image_size"])))
