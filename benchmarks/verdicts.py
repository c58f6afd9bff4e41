"""Runs of known truth, and what Coview says of them.

    python benchmarks/verdicts.py [--cifar TRAIN] [--keep FOLDER] [--only NAME ...] [--record]

Most runs train ResNet-10 of an eighth of its width on 1,000 scenes of 24 px (or on what their row
says) for 216 steps, 10 to 20 s on one core: enough to fail in every way, too short to learn. Those
that learn are of 5,000 images of CIFAR-10 (TRAIN), with a quarter of the width, 304 to 1,824 steps,
one to five minutes. A run that --keep holds is not trained again. --record writes the figures of
all runs into tests/diagnosis/verdicts.json, by which a test repeats every diagnosis without
training. kNN (k = 10, held-out images, true labels) is the measure of the truth. Diagnoses see it
too, where labels are there, as here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402

import coview  # noqa: E402
from coview.core.run_folder import RunFolder  # noqa: E402
from coview.data.scenes.store import make_scenes  # noqa: E402
from coview.diagnosis.health import HealthFigures  # noqa: E402
from coview.diagnosis.run_checks import diagnose_run  # noqa: E402
from coview.methods import SameNetwork  # noqa: E402
from coview.recipes import Recipe, change, recipe  # noqa: E402
from coview.runs.run import Run  # noqa: E402
from coview.views import ViewPlan, ViewSpec  # noqa: E402
from setting import setting  # noqa: E402

FIXTURE = Path(__file__).parents[1] / "tests" / "diagnosis" / "verdicts.json"
IMAGES, SIZE, CIFAR_IMAGES = 1_000, 24, 5_000
HEALTH = [field.name for field in fields(HealthFigures)]
Data = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """``truth`` in words, the labels of the diagnosis that are right, and how to get there."""

    truth: str
    expected: tuple[str, ...]
    recipe: Recipe
    data: Callable[[], Data] | None = None


def scenes() -> Data:
    store = make_scenes(IMAGES, SIZE)
    pixels = np.stack([store.image(row) for row in range(IMAGES)])
    return pixels, np.asarray(store.labels)


def shuffled(seed: int) -> Callable[[], Data]:
    def data() -> Data:
        pixels, labels = scenes()
        return pixels, np.random.default_rng(seed).permutation(labels)

    return data


def copies(count: int) -> Callable[[], Data]:
    """As many images as ever, of which only ``count`` differ."""

    def data() -> Data:
        pixels, labels = scenes()
        rows = np.arange(IMAGES) % count
        return pixels[rows], labels[rows]

    return data


def one_class() -> Data:
    pixels, labels = scenes()
    return pixels, np.zeros_like(labels)


def noise() -> Data:
    _, labels = scenes()
    return np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8), labels


def base(name: str, epochs: float = 8, **settings: Any) -> Recipe:
    small = {"encoder": "resnet10/8-medium", "batch_size": 32, "size": SIZE, "epochs": epochs}
    return change(recipe(name), **{**small, **settings})


def with_views(chosen: Recipe, changed: Callable[[ViewSpec], ViewSpec]) -> Recipe:
    views = ViewPlan(views=tuple(changed(view) for view in chosen.method.views.views))
    return replace(chosen, method=replace(chosen.method, views=views))


def with_method(chosen: Recipe, **changes: Any) -> Recipe:
    return replace(chosen, method=replace(chosen.method, **changes))


def with_optimizer(chosen: Recipe, **changes: Any) -> Recipe:
    return replace(chosen, optimizer=replace(chosen.optimizer, **changes))


def without_color(view: ViewSpec) -> ViewSpec:
    return replace(view, jitter=None, grayscale=0.0)


def still(view: ViewSpec) -> ViewSpec:
    return replace(without_color(view), crop=None, flip=0.0)


def nearly_still(view: ViewSpec) -> ViewSpec:
    assert view.crop is not None
    return replace(without_color(view), crop=replace(view.crop, area=(0.9, 1.0)), flip=0.0)


def tiny_crops(view: ViewSpec) -> ViewSpec:
    assert view.crop is not None
    return replace(view, crop=replace(view.crop, area=(0.005, 0.01)))


def cifar_cases() -> dict[str, Case]:
    """Runs of 5,000 images of CIFAR-10 by their names."""
    good, weak = ("learning",), ("no better than pixels", "learning")

    def cifar(name: str, epochs: float = 8, **settings: Any) -> Recipe:
        settings = {"encoder": "resnet10/4-medium", "batch_size": 64, "epochs": epochs, **settings}
        return change(recipe(f"{name}-cpu"), **settings)

    simclr = cifar("simclr")
    return {
        "simclr": Case("learns", good, simclr),
        "simclr20": Case("learns, three times as long", good, replace(simclr, epochs=24)),
        "simclr2": Case("114 steps", ("too early",), replace(simclr, epochs=1.5)),
        "supervised": Case("learns", good, cifar("supervised")),
        "supcon": Case("learns", good, cifar("supcon")),
        "moco": Case("learns slowly: as good as pixels", weak, cifar("moco")),
        "byol": Case("learns slowly: as good as pixels", weak, cifar("byol")),
        "simsiam": Case("learns slowly: as good as pixels", weak, cifar("simsiam")),
        "huge": Case(
            "AdamW at 0.3 learns something, no more than pixels", weak,
            cifar("simclr", 3, learning_rate=0.3)),
        "nocolor": Case(
            "crop and flip alone: colors find 85 % of the pairs", ("shortcut",),
            with_views(simclr, without_color)),
        "nocrop": Case(
            "colors change alone: as good as pixels", weak,
            with_views(simclr, lambda view: replace(view, crop=None))),
        "collapsed": Case(
            "SimSiam without stop-gradient and predictor collapses", ("collapsed",),
            with_method(cifar("simsiam", 4), predictor=None, target=SameNetwork())),
    }  # fmt: skip


def cases() -> dict[str, Case]:
    """Runs of 1,000 scenes by their names."""
    unchanged, collapsed = ("unchanged",), ("collapsed",)
    little = ("unchanged", "no better than pixels")
    simclr = base("simclr-cpu", temperature=0.2, learning_rate=2e-3)
    simsiam = base("simsiam-cpu")
    short = {
        name: Case("too short to gain anything", little, base(f"{name}-cpu"))
        for name in ("simclr-v2", "multi-crop-simclr", "logo-simclr")
    }
    rates = {
        f"learning rate {rate:g}": Case(truth, labels, with_optimizer(simclr, learning_rate=rate))
        for rate, truth, labels in (
            (1e-7, "nothing moves", unchanged), (1e-4, "hardly moves", unchanged),
            (0.03, "gains little", little), (0.3, "learns, at a rate far too high", ("learning",)),
            (30.0, "no better than untrained", (*little, "collapsed")),
        )
    }  # fmt: skip
    shuffles = {
        f"{name}, shuffled labels {seed}": Case(
            "the labels have nothing to do with the images", unchanged, base(f"{name}-cpu"),
            shuffled(seed),
        )
        for name, seed in (("supervised", 1), ("supervised", 2), ("supcon", 1), ("supcon", 2))
    }  # fmt: skip
    return {
        "simclr": Case("too short to gain anything", little, simclr),
        **short, **rates, **shuffles,
        "too short": Case("54 steps", ("too early",), replace(simclr, epochs=2)),
        "SGD at 1000": Case(
            "diverges", collapsed, with_optimizer(simclr, name="sgd", learning_rate=1000.0)),
        "simsiam without stop-gradient": Case(
            "collapses", collapsed, with_method(simsiam, target=SameNetwork())),
        "simsiam without predictor": Case(
            "collapses", collapsed, with_method(simsiam, predictor=None)),
        "simsiam without both": Case(
            "collapses", collapsed, with_method(simsiam, predictor=None, target=SameNetwork())),
        "byol without momentum and predictor": Case(
            "collapses", collapsed,
            with_method(base("byol-cpu"), predictor=None, target=SameNetwork())),
        "no color": Case(
            "crop and flip alone: colors find the pairs", ("shortcut",),
            with_views(simclr, without_color)),
        "no augmentation": Case(
            "the two views are equal", ("shortcut",), with_views(simclr, still)),
        "crops of 90 %": Case(
            "colors and thumbnails find the pairs", ("shortcut",),
            with_views(simclr, nearly_still)),
        "crops of 1 %": Case(
            "two views share next to nothing", ("at chance", "unchanged"),
            with_views(simclr, tiny_crops)),
        "temperature 0.01": Case(
            "too short to gain anything", little, change(simclr, temperature=0.01)),
        "temperature 10": Case(
            "the loss hardly depends on the embeddings", little,
            change(simclr, temperature=10.0)),
        "one image repeated": Case(
            "there is nothing to tell apart", ("unusable data",), simclr, copies(1)),
        "four images repeated": Case(
            "held-out images are copies of trained ones", ("unusable data",), simclr, copies(4)),
        "supcon, one class": Case(
            "there is nothing to tell apart", ("unusable data",), base("supcon-cpu"), one_class),
        "noise": Case(
            "the images show nothing", ("at chance", "unchanged"), simclr, noise),
        "embeddings of one number": Case(
            "unit rows of one number have no gradient", unchanged,
            with_method(simclr, head=replace(simclr.method.head, output=1))),
        "weight decay 30": Case(
            "the weights shrink, nothing is gained", (*little, "collapsed"),
            with_optimizer(simclr, weight_decay=30.0)),
    }  # fmt: skip


def train(case: Case, folder: Path, cifar: str | None) -> Run:
    """The run in ``folder``, trained where it is not there yet."""
    if not RunFolder(folder).is_ended:
        source = {"data": (case.data or scenes)()} if cifar is None else {
            "data": cifar, "limit": CIFAR_IMAGES
        }  # fmt: skip
        with contextlib.redirect_stdout(sys.stderr):
            coview.pretrain(recipe=case.recipe, out=folder, device="cpu", **source)
    return Run.open(folder)


def record(name: str, case: Case, run: Run) -> dict[str, Any]:
    """What a diagnosis reads of ``run``: step 0, the widest reports and the last four."""
    rows = run.metrics("health")
    figures = [row["figures"] for row in rows]
    widest = {
        max(range(len(rows)), key=lambda i: figures[i][key] or 0.0) for key in ("rank_h", "rank_z")
    }
    shown = sorted({0, *widest, *range(max(0, len(rows) - 4), len(rows))})
    knn = run.metrics("knn")
    method = run.description["recipe"]["method"]
    return {
        "name": name, "truth": case.truth, "expected": case.expected,
        "description": {
            "total_steps": run.description["total_steps"],
            "needs_labels": run.description["needs_labels"],
            "data": {"class_names": run.description["data"]["class_names"]},
            "recipe": {"method": {k: method[k] for k in ("objective", "target", "predictor")}},
        },
        "health": [
            [rows[i]["step"], rounded(rows[i]["parameter_change"]),
             *(rounded(figures[i][key]) for key in HEALTH)] for i in shown
        ],
        "knn": [knn[0], knn[-1]] if len(knn) > 1 else knn,
    }  # fmt: skip


def rounded(value: float | None) -> float | None:
    """Five digits of a fraction, which keep the file small."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", metavar="TRAIN", help="the training file of CIFAR-10")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the runs")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    sets = {"scenes": (cases(), None)}
    if given.cifar:
        sets["cifar"] = (cifar_cases(), given.cifar)
    print(f"verdicts: {setting()}\n")
    print("| run | truth | kNN, untrained to now (pixels) | verdict | first sentence |")
    print("|---|---|---:|---|---|")
    records, wrong = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for source, (chosen, data) in sets.items():
            for name, case in chosen.items():
                if given.only and name not in given.only:
                    continue
                folder = (given.keep or Path(temporary)) / source / name.replace(" ", "-")
                run = train(case, folder, data)
                found = diagnose_run(run)
                wrong += [name] * (found.label not in case.expected)
                records.append(record(f"{source}: {name}", case, run))
                print(
                    f"| {source}: {name} | {case.truth} | {accuracies(run)} | {found.label} | "
                    f"{found.sentence} |", flush=True,
                )  # fmt: skip
    print(f"\n{len(records)} runs, {len(wrong)} of them called wrongly. {', '.join(wrong)}")
    if given.record:
        body = ",\n".join(json.dumps(each) for each in records)
        FIXTURE.write_text(f'{{"figures": {json.dumps(HEALTH)}, "runs": [\n{body}\n]}}\n')


def accuracies(run: Run) -> str:
    """ "20 to 41 % (30 %)", of labels that the images have in truth."""
    knn = run.metrics("knn")
    if len(knn) < 2:
        return "-"
    shares = [knn[0]["accuracy"], knn[-1]["accuracy"], knn[0]["pixels"]]
    first, last, pixels = (f"{100 * share:.0f}" for share in shares)
    return f"{first} to {last} % ({pixels} %)"


if __name__ == "__main__":
    main()
