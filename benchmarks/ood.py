"""Out-of-distribution scores of several encoders, from every layer, on the same images.

    python benchmarks/ood.py split TRAIN TEST FOLDER
    python benchmarks/ood.py measure TRAIN TEST --runs NAME=RUN[,RUN] ... --outliers NAME=DATA ...
             [--jpeg NAME ...] [--bank N] [--limit 2000] [--k 50]
             [--clusters 1] [--pixels 16] [--json FILE]

`split` writes the animals and the vehicles of CIFAR-10 (files TRAIN and TEST) into FOLDER, so that
encoders can be trained on the animals alone. `measure` takes TRAIN as the bank and TEST as the data
that outliers are told from. A set named by --jpeg is judged a second time, brought to the size of
the view and through JPEG at quality 75 first, as this copy of CIFAR-10 was: what remains is no
trace of the file. --limit: images of a set of outliers that are drawn. Several runs of one name are
trainings of one recipe with other seeds: a figure is their mean with Student's 95 % interval; that
of one run is the run's with the interval of the bootstrap. Raw pixels and the untrained network of
the first run stand beside. Nothing is trained.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from commands import interval  # noqa: E402
from coview import evaluation  # noqa: E402
from coview.core.images import ImageStore, store_from_arrays  # noqa: E402
from coview.data.spec import DataSpec  # noqa: E402
from coview.evaluation.ood import evaluate_ood  # noqa: E402
from coview.methods.untrained import settled  # noqa: E402
from coview.recipes import build  # noqa: E402
from coview.runs.load import subject_of, trained_learner  # noqa: E402
from coview.runs.run import Run  # noqa: E402
from coview.views import ViewPlan, ViewSpec, views_of  # noqa: E402
from setting import setting  # noqa: E402

GROUPS = {"animals": (2, 3, 4, 5, 6, 7), "vehicles": (0, 1, 8, 9)}
QUALITY, SHORT_SIDE = 75, 240
SEEDS = ", run "
"""Between the name of several runs and the number of one."""
# Metric, positive class of the setting, title of the table.
TABLES = (
    ("auroc", None, "AUROC in %, ± half of the 95 % interval"),
    ("fpr95", None, "FPR95 in % (lower is better)"),
    ("aupr", "outliers", "AUPR in %, outliers as the positive class"),
)


def split(train: str, test: str, folder: Path) -> None:
    """Write animals-train.parquet, vehicles-test.parquet and so on, labels counted anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, path in (("train", train), ("test", test)):
        table = pq.read_table(path)
        info = json.loads(table.schema.metadata[b"huggingface"])
        feature = info["info"]["features"]["label"]
        names = feature["names"]
        for group, classes in GROUPS.items():
            rows = table.filter(pc.is_in(table["label"], pa.array(classes)))
            labels = pa.array([classes.index(label) for label in rows["label"].to_pylist()])
            feature["names"] = [names[label] for label in classes]
            metadata = {b"huggingface": json.dumps(info).encode()}
            rows = rows.set_column(rows.column_names.index("label"), "label", labels)
            pq.write_table(
                rows.replace_schema_metadata(metadata), folder / f"{group}-{part}.parquet"
            )


def subjects_of(runs: dict[str, str], train: ImageStore, pixels: int) -> list[evaluation.Subject]:
    """The runs by their names, the untrained network of the first, and raw pixels."""
    opened = {}
    for name, paths in runs.items():
        words = paths.split(",")
        for number, path in enumerate(words):
            opened[f"{name}{SEEDS}{number}" if len(words) > 1 else name] = Run.open(path)
    subjects = [subject_of(name, trained_learner(run), run) for name, run in opened.items()]
    first = next(iter(opened.values()))
    untrained = settled(build(first.recipe), train, first.recipe.eval_view, seed=first.recipe.seed)
    return [*subjects, subject_of("untrained", untrained, first), evaluation.pixel_subject(pixels)]


def outliers_of(data: str, limit: int) -> ImageStore:
    spec = DataSpec.of(data, None, labels_from="none", short_side=SHORT_SIDE, for_test=True)
    store = spec.open(data)
    rows = np.random.default_rng(0).permutation(len(store))[:limit]
    return store.subset(np.sort(rows))


def through_jpeg(store: ImageStore, view: ViewSpec) -> ImageStore:
    """The images in the size of the view, written and read as JPEG."""
    plan, images = ViewPlan(views=(view,)), []
    for start in range(0, len(store), 256):
        rows = np.arange(start, min(start + 256, len(store)))
        (views,) = views_of(store, rows, plan, seed=0, epoch=0)
        for pixels in (views * 255).round().byte().permute(0, 2, 3, 1).numpy():
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
            images.append(np.asarray(Image.open(file)))
    return store_from_arrays(np.stack(images), source=f"{store.source}, JPEG")


def tables(results: list[evaluation.Result]) -> None:
    """One table for each set of outliers and metric: rows are layers, columns scores."""
    for name in dict.fromkeys(result.setting["outliers"] for result in results):
        print(f"\n### {name}")
        for metric, positive, title in TABLES:
            cells: dict[tuple[str, str], dict[str, list[evaluation.Result]]] = {}
            for result in results:
                own = (result.setting["outliers"], result.metric, result.setting.get("positive"))
                if own == (name, metric, positive):
                    row = cells.setdefault((recipe_of(result), result.layer), {})
                    row.setdefault(column(result), []).append(result)
            columns = list(next(iter(cells.values())))
            print(f"\n{title}\n\n| encoder | layer | {' | '.join(columns)} |")
            print(f"|---|---|{'---:|' * len(columns)}")
            for (subject, layer), row in cells.items():
                shown = [cell(row[c], with_interval=metric == "auroc") for c in columns]
                print(f"| {subject} | {layer} | {' | '.join(shown)} |")


def recipe_of(result: evaluation.Result) -> str:
    """The name that several runs of one recipe share."""
    return result.subject.split(SEEDS)[0]


def column(result: evaluation.Result) -> str:
    clusters = result.setting.get("clusters", 1)
    name: str = result.setting["score"].replace("mahalanobis", "Mahalanobis")
    return name if clusters == 1 else f"{name}, {clusters} clusters"


def cell(results: list[evaluation.Result], *, with_interval: bool) -> str:
    """Mean of the runs in per cent; its interval over them, or the bootstrap's of a single run."""
    values = [result.value for result in results]
    if with_interval and len(values) > 1:
        return interval(values).removesuffix(" %")
    low, high = results[0].interval
    half = f" ± {50 * (high - low):.1f}" if with_interval else ""
    return f"{100 * statistics.mean(values):.1f}{half}"


def measure(given: argparse.Namespace) -> None:
    labels = {"labels_from": "column", "needs_labels": True}
    train = DataSpec.of(given.train, None, **labels, limit=given.bank).open()
    test = DataSpec.of(given.test, None, **labels).open()
    subjects = subjects_of(pairs(given.runs), train, given.pixels)
    outliers: dict[str, ImageStore] = {}
    for name, data in pairs(given.outliers).items():
        outliers[name] = outliers_of(data, given.limit)
        if name in given.jpeg:
            outliers[f"{name}, JPEG"] = through_jpeg(outliers[name], subjects[0].view)
    benchmark = evaluation.make_benchmark(subjects, train, test, outliers=outliers)
    start = time.perf_counter()
    accuracies = evaluation.evaluate_knn(benchmark, settings=((20, 0.07),))
    middle = time.perf_counter()
    spec = evaluation.ProbeSpec(epochs=given.probe_epochs)
    results = evaluate_ood(benchmark, k=given.k, clusters=tuple(given.clusters), spec=spec)
    end = time.perf_counter()
    if given.json:
        rows = [{**asdict(result), "card": None} for result in (*accuracies, *results)]
        content = {"card": results[0].card, "setting": setting(), "results": rows}
        Path(given.json).write_text(json.dumps(content))
    print(f"ood: {setting()}\n")
    print(f"Data: {len(train):,} images as the bank, {len(test):,} test images. Outliers: ", end="")
    print("; ".join(f"{name} {len(store):,}" for name, store in outliers.items()), end=".\n\n")
    by_layer: dict[str, list[float]] = {}
    for result in accuracies:
        by_layer.setdefault(f"{recipe_of(result)} {result.layer}", []).append(result.value)
    shown = ", ".join(f"{name} {interval(values)}" for name, values in by_layer.items())
    print(f"kNN accuracy (k = 20): {shown}.\n")
    print(f"Features and kNN took {middle - start:.0f} s, the protocol {end - middle:.0f} s.")
    tables(results)


def pairs(words: list[str]) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary."""
    return dict(word.split("=", 1) for word in words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    splitting, measuring = (verbs.add_parser(name) for name in ("split", "measure"))
    for verb in (splitting, measuring):
        verb.add_argument("train")
        verb.add_argument("test")
    splitting.add_argument("folder", type=Path)
    measuring.add_argument("--runs", nargs="+", required=True, metavar="NAME=RUN[,RUN]")
    measuring.add_argument("--outliers", nargs="+", required=True, metavar="NAME=DATA")
    measuring.add_argument("--jpeg", nargs="*", default=[], metavar="NAME")
    measuring.add_argument("--bank", type=int, help="training images, as --limit of the runs")
    measuring.add_argument("--limit", type=int, default=2000)
    measuring.add_argument("--k", type=int, default=50, help="the rank of the neighbor")
    measuring.add_argument("--clusters", type=int, nargs="+", default=[1])
    measuring.add_argument("--probe-epochs", type=int, default=20, help="of the linear probes")
    measuring.add_argument("--pixels", type=int, default=16, help="side of the raw pixels")
    measuring.add_argument("--json", help="write every figure to this file")
    given = parser.parse_args()
    if given.verb == "split":
        split(given.train, given.test, given.folder)
    else:
        measure(given)


if __name__ == "__main__":
    main()
