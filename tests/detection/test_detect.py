"""Detection is a run like any other: planned, resumed bit for bit, distributed, judged, reported."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_boxes import write_coco, write_voc
from PIL import Image
from small_detector import SETTINGS, encoder
from test_average_precision import random_case

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, MissingExtra, RunError, UnknownName
from coview.core.figures import DIAGNOSES
from coview.core.files import read_lines
from coview.core.metrics import metric_of
from coview.dense.learner import DetectionLearner, SegmentationLearner
from coview.diagnosis.detecting import _detected
from coview.encoders import export_encoder, load_encoder
from coview.evaluation import detections
from coview.recipes import DenseRecipe, change, recipe
from coview.runs import judge_detection
from coview.runs.compare import figures_of
from coview.runs.run import Run
from coview.runs.scratch import train_from_scratch
from coview.training import Checkpoints, StopSignals

pytest.importorskip("faster_coco_eval")
WORDS = {
    "size": 48,
    "batch_size": 4,
    "epochs": 3,
    "set": SETTINGS,
    "workers": 0,
    "device": "cpu",
    "seed": 1,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection")
    write_coco(folder / "coco")
    write_voc(folder / "voc")
    (folder / "voc" / "classes.txt").write_text("ground\nrectangle\nellipse\n")
    export_encoder(
        encoder(seed=3), folder / "encoder", image_size=32, mean=(0.4,) * 3, std=(0.3,) * 3
    )
    return folder


def detect(places, out, **changes):
    return coview.detect(places / "encoder", places / "coco", out=out, **{**WORDS, **changes})


@pytest.fixture(scope="module")
def run(places):
    return detect(places, places / "run")


def losses(folder):
    return {
        r["step"]: r["loss"] for r in read_lines(folder / "metrics.jsonl") if r["kind"] == "step"
    }


def test_it_is_a_run_with_all_its_files(run):
    for name in ("run.json", "metrics.jsonl", "verdict.json", "report.html", "evaluation/detect.json",
                 "encoder/model.safetensors", "objects/detected.json", "objects/true.json",
                 "report/views.png", "report/found.png", "scratch/verdict.json"):  # fmt: skip
        assert (run.path / name).exists(), name
    assert (run.kind, run.is_ended) == ("detect", True)
    assert run.verdict["label"] in DIAGNOSES
    assert run.recipe.method.classes == 2
    assert run.recipe.method.view.mean == (0.4,) * 3
    rows = run.metrics("validation")
    assert [row["step"] for row in rows] == [3, 6, 9]
    assert all(0 <= row["value"] <= 1 and 0 <= row["train_value"] <= 1 for row in rows)
    scratch = Run(run.scratch_path)
    assert scratch.recipe == run.recipe
    assert scratch.start is None
    assert losses(scratch.path) != losses(run.path)


def test_its_results_are_those_of_its_detections(run):
    content = json.loads((run.path / "evaluation/detect.json").read_text())
    assert content["card"]["seed"] == run.recipe.seed
    values = {(r["subject"], r["layer"], r["metric"]): r["value"] for r in content["results"]}
    assert {subject for subject, *_ in values} == {"fine-tuned", "from scratch"}
    entries = json.loads((run.path / "objects/detected.json").read_text())
    truth = json.loads((run.path / "objects/true.json").read_text())
    figures, _ = detections.coco_figures(entries, truth, "bbox")
    for name in ("AP", "AP50", "AP75"):
        assert values["fine-tuned", "boxes", name] == pytest.approx(np.nan_to_num(figures[name]))
    for result in content["results"]:
        assert result["interval"][0] <= result["value"] <= result["interval"][1]
        assert result["test_images"] == 6
        assert metric_of(result["metric"]).better == "higher"
        assert metric_of(result["metric"]).format == "share"
    (figure,) = [each for each in figures_of("run", run) if each.protocol == "detect"]
    assert (figure.title, figure.layer, figure.metric) == ("Detection", "boxes", "AP50")
    assert figure.value == values["fine-tuned", "boxes", "AP50"]


def test_test_images_without_an_object_that_counts_are_refused(places, tmp_path):
    write_coco(tmp_path / "crowds")
    file = tmp_path / "crowds" / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    for each in content["annotations"]:
        each["iscrowd"] = 1
    file.write_text(json.dumps(content))
    for plain in (False, True):
        if plain:
            file.write_text(json.dumps({**content, "annotations": []}))
        with pytest.raises(
            DataError, match="Nothing that counts is annotated in the 6 test images"
        ):
            coview.detect(places / "encoder", tmp_path / "crowds", dry_run=True, **WORDS)


def test_label_maps_without_a_class_are_refused_as_test_images(places, tmp_path):
    write_voc(tmp_path / "voc")
    (tmp_path / "voc" / "classes.txt").write_text("ground\nrectangle\nellipse\n")
    for path in (tmp_path / "voc" / "SegmentationClass").glob("0001*.png"):
        Image.new("L", (64, 48), 255).save(path)
    words = {**WORDS, "task": "semantic", "set": ()}
    with pytest.raises(DataError, match="every pixel is of no class"):
        coview.detect(places / "encoder", tmp_path / "voc", dry_run=True, **words)


@pytest.mark.parametrize("interval", [(0.9, 0.95), (0.0, 0.01)])
def test_an_interval_holds_its_value(interval, monkeypatch):
    store, found = random_case(3)
    for name in ("bootstrap_interval", "iou_interval"):
        monkeypatch.setattr(judge_detection, name, lambda *_, **__: interval)
    results = judge_detection.box_results(
        judge_detection.Contender.of("a", found, store), store,
        detections.coco_ground_truth(store), {}, {},
    )  # fmt: skip
    assert len(results) == 5
    for result in results:
        ends = [*interval, result.value]
        assert result.interval == (min(ends), max(ends))


def test_the_encoder_is_the_start_trained_on(run, places):
    before, after = load_encoder(places / "encoder"), load_encoder(run.encoder_path)
    assert not torch.equal(before.encoder.conv1.weight, after.encoder.conv1.weight)
    checkpoint = Checkpoints(run.checkpoints_path).load_latest()
    assert torch.equal(after.encoder.conv1.weight, checkpoint.tensors["task/encoder.conv1.weight"])
    assert coview.load(run.path)(torch.rand(1, 3, 32, 32)).shape == (1, 64)


def test_it_goes_on_bit_for_bit(run, places, tmp_path, monkeypatch):
    class Stop(StopSignals):
        def __call__(self):
            self.calls = getattr(self, "calls", 0) + 1
            return "interrupted" if self.calls == 4 else ""

    monkeypatch.setattr("coview.training.StopSignals", Stop)
    stopped = detect(places, tmp_path / "run")
    assert not stopped.is_ended
    monkeypatch.undo()
    resumed = coview.resume(stopped.path, device="cpu", workers=2)
    assert resumed.is_ended
    tensors = [Checkpoints(each.checkpoints_path).load_latest().tensors for each in (run, resumed)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert losses(run.path) == losses(resumed.path)
    for name in ("objects/detected.json", "scratch/objects/detected.json"):
        assert (run.path / name).read_text() == (resumed.path / name).read_text()


def segmented(places, out, **changes):
    settings = {"task": "semantic", "set": ("method.channels=16", "schedule.warmup_epochs=0")}
    return coview.detect(
        places / "encoder", places / "voc", out=out, **{**WORDS, **settings, **changes}
    )


@pytest.mark.parametrize("whose", ["run", "baseline"])
@pytest.mark.parametrize(
    ("train", "kind", "epochs"),
    [(detect, DetectionLearner, 4), (segmented, SegmentationLearner, 12)],
    ids=["boxes", "pixels"],
)
def test_what_has_diverged_has_no_figure_from_scratch(
    train, kind, epochs, whose, places, tmp_path, monkeypatch, capsys
):
    """Its loss is no number, and its weights are finite."""
    is_broken, loss = [whose == "run"], kind.loss

    def broken(self, batch, step):
        terms = loss(self, batch, step)
        return {name: term * (math.nan if is_broken[0] else 1) for name, term in terms.items()}

    def from_scratch(*arguments):
        is_broken[0] = True
        return train_from_scratch(*arguments)

    monkeypatch.setattr(kind, "loss", broken)
    monkeypatch.setattr("coview.runs.detecting.train_from_scratch", from_scratch)
    run = train(places, tmp_path / "run", epochs=epochs)
    assert run.is_ended
    said = capsys.readouterr().out
    content = json.loads((run.path / "evaluation/detect.json").read_text())
    assert {result["subject"] for result in content["results"]} == {"fine-tuned"}
    assert run.scratch_path.exists() == (whose == "baseline")
    assert ("The baseline has diverged" in said) == (whose == "baseline")
    assert (run.verdict["label"] == "collapsed") == (whose == "run")


def test_detections_go_to_the_cpu_before_they_are_float64():
    """A Mac's GPU has no float64."""

    class OnMac:
        def __init__(self, *values):
            self.values = torch.tensor(values)

        def cpu(self):
            return self.values

    target = {"boxes": OnMac([1.0, 2.0, 3.0, 4.0]), "scores": OnMac(0.5), "labels": OnMac(2)}
    found = _detected(target, (10, 10), (20, 30))
    assert found.boxes.tolist() == [[3.0, 4.0, 9.0, 8.0]]
    assert (found.boxes.dtype, found.scores.dtype) == (np.float64, np.float64)


def test_it_learns_the_images_that_it_is_trained_on(places):
    run = detect(places, places / "learned", epochs=60, no_baselines=True,
                 learning_rate=5e-3)  # fmt: skip
    content = json.loads((run.path / "evaluation/detect.json").read_text())
    assert content["training"]["AP50"] > 0.5
    assert run.verdict["label"] in {"learned", "overfitted"}


@pytest.mark.parametrize(
    ("task", "changes", "layers"),
    [
        ("masks", {}, {"boxes", "outlines"}),
        ("masks", ("method.form=c4", "method.extra_norm=true"), {"boxes", "outlines"}),
        ("semantic", {}, {"pixels"}),
    ],
)
def test_outlines_and_pixels(places, tmp_path, task, changes, layers):
    settings = (*SETTINGS, *changes)
    if task == "semantic":
        settings = ("method.channels=16", "schedule.warmup_epochs=0")
    data = places / ("voc" if task == "semantic" else "coco")
    run = coview.detect(
        places / "encoder",
        data,
        out=tmp_path / "run",
        task=task,
        **{**WORDS, "set": settings, "epochs": 2},
    )
    content = json.loads((run.path / "evaluation/detect.json").read_text())
    assert {result["layer"] for result in content["results"]} == layers
    headline = ("pixels", "mIoU") if task == "semantic" else ("boxes", "AP50")
    (figure,) = [each for each in figures_of("run", run) if each.protocol == "detect"]
    assert (figure.layer, figure.metric) == headline
    assert run.is_ended
    if task == "masks":
        entries = json.loads(run.detected_path.read_text())
        assert all(entry["segmentation"]["size"] == [48, 64] for entry in entries)


def test_voc_data_and_frozen_statistics(places, tmp_path):
    run = coview.detect(
        places / "encoder", places / "voc", out=tmp_path / "run", frozen_batch_norm=True,
        no_baselines=True, **{**WORDS, "epochs": 1},
    )  # fmt: skip
    assert run.recipe.method.batch_norm == "frozen"
    content = json.loads((run.path / "evaluation/detect.json").read_text())
    assert "VOC AP50, 11 points" in {result["metric"] for result in content["results"]}
    before, after = load_encoder(places / "encoder"), load_encoder(run.encoder_path)
    assert torch.equal(before.encoder.bn1.running_mean, after.encoder.bn1.running_mean)
    assert not torch.equal(before.encoder.bn1.weight, after.encoder.bn1.weight)


def test_a_budget_is_kept(places, tmp_path):
    run = detect(places, tmp_path / "run", budget="20s", epochs=None, no_baselines=True)
    assert run.is_ended
    assert run.verdict["time"]["used"] < 60
    assert run.total_steps > 4


def test_from_scratch_and_a_dry_run(places, tmp_path):
    run = detect(places, tmp_path / "run", from_scratch=True, epochs=1)
    assert run.start is None
    assert not run.scratch_path.exists()
    assert detect(places, tmp_path / "none", dry_run=True) is None
    assert not (tmp_path / "none").exists()


def test_a_recipe_as_a_value_is_trained_as_it_is(places, tmp_path):
    value = change(
        recipe("detect-cpu"), size=48, batch_size=4, epochs=1, set=(*SETTINGS, "method.classes=2")
    )
    assert isinstance(value, DenseRecipe)
    value = replace(value, encoder=load_encoder(places / "encoder").encoder.spec)
    words = {"no_baselines": True, "workers": 0, "device": "cpu"}
    run = coview.detect(
        places / "encoder", places / "coco", recipe=value, out=tmp_path / "run", **words
    )
    assert run.recipe == value
    again = coview.detect(
        places / "encoder", places / "coco", recipe=run.path, out=tmp_path / "again", **words
    )
    assert losses(again.path) == losses(run.path)
    with pytest.raises(InvalidValue, match="80 classes"):
        coview.detect(places / "encoder", places / "coco", out=tmp_path / "no", **words,
                      recipe=change(value, set=("method.classes=80",)))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"task": "keypoints"}, UnknownName, "keypoints"),
        ({"recipe": "simclr-cpu"}, UnknownName, "recipe of detection"),
        ({"recipe": "voc-fcn-30k", "task": "boxes"}, InvalidValue, "does not learn"),
        ({"frozen_batch_norm": True, "from_scratch": True}, InvalidValue, "there are none"),
        ({"micro_batch": 2}, InvalidValue, "has no effect on whole images"),
        ({"classes_per_batch": 2}, InvalidValue, "several objects"),
        ({"batch_size": 100}, InvalidValue, "does not fit"),
        ({"task": "semantic"}, DataError, "no label maps"),
    ],
)
def test_mistakes_are_sentences(places, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        detect(places, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_boxes_alone_have_no_outlines(places, tmp_path):
    with pytest.raises(DataError, match="have no outline"):
        coview.detect(
            places / "encoder", places / "voc", task="masks", out=tmp_path / "run", **WORDS
        )


@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_an_object_without_an_outline_is_refused_before_the_training(part, places, tmp_path):
    write_coco(tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / f"instances_{part}.json"
    content = json.loads(file.read_text())
    del content["annotations"][3]["segmentation"]
    file.write_text(json.dumps(content))
    what = {"train2017": "trained", "val2017": "tested"}[part]
    with pytest.raises(DataError, match=rf"1 of \d+ objects .* {what} on have no outline"):
        coview.detect(places / "encoder", tmp_path / "coco", task="masks", dry_run=True, **WORDS)


def test_test_images_that_are_trained_on_are_counted(places, tmp_path, capsys):
    annotations = places / "coco" / "annotations" / "instances_train2017.json"
    run = detect(
        places, tmp_path / "run", test=annotations, epochs=1, no_baselines=True, from_scratch=True
    )
    caveats = json.loads((run.path / "evaluation/detect.json").read_text())["data"]["caveats"]
    assert caveats == [
        "The training part has 12 test images too, with equal pixels: the figures there are those "
        "of images that are known."
    ]
    assert caveats[0] in capsys.readouterr().out


def test_without_the_package_it_says_so_before_the_training(places, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingExtra, match=r"coview\[detection\]"):
        detect(places, tmp_path / "run")


def test_other_verbs_say_what_they_take(run, capsys):
    for wrong in ("coco-1x", run.path):
        with pytest.raises(InvalidValue, match="coview detect RUN DATA"):
            coview.pretrain("scenes", recipe=wrong, limit=100)
        with pytest.raises(InvalidValue, match="coview detect RUN DATA"):
            coview.finetune(run.path, "scenes", recipe=wrong)
    with pytest.raises(InvalidValue, match="coview detect RUN DATA"):
        coview.draw_views("scenes", recipe="detect-cpu")
    with pytest.raises((InvalidValue, RunError), match="encoder"):
        coview.load(run.path, checkpoint=9)


def test_the_command_line(places, tmp_path, capsys):
    words = ["detect", str(places / "encoder"), str(places / "coco"), "--size=48", "--batch-size=4",
             "--epochs=1", "--workers=0", "--no-baselines", f"--out={tmp_path / 'run'}",
             *(f"--set={setting}" for setting in SETTINGS)]  # fmt: skip
    assert main(words) in {kind.exit_code for kind in DIAGNOSES.values()}
    assert "Detections:" in capsys.readouterr().out


def test_two_processes_learn_what_one_learns(places, tmp_path):
    words = ["detect", str(places / "encoder"), str(places / "coco"), "--size=48", "--batch-size=4",
             "--epochs=3", "--workers=0", "--seed=1", "--device=cpu", "--precision=fp32", "--no-baselines",
             f"--out={tmp_path / 'two'}", *(f"--set={setting}" for setting in SETTINGS)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
         "coview", *words],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (tmp_path / "two" / "verdict.json").exists(), done.stdout + done.stderr
    one = losses(detect(places, tmp_path / "one", precision="fp32", no_baselines=True).path)
    two = losses(tmp_path / "two")
    assert one.keys() == two.keys()
    # The first steps; later ones amplify the last bits by which proposals are kept.
    assert [two[step] for step in (1, 2, 3)] == pytest.approx(
        [one[step] for step in (1, 2, 3)], rel=1e-3
    )


def test_the_encoder_of_a_run_is_judged_and_embeds(run, tmp_path):
    results = coview.evaluate(
        run.path, "scenes", limit=120, protocols="knn", out=tmp_path / "judged"
    )
    assert {result.subject for result in results} > {"pixels"}
    table = coview.embed(run.path, "scenes", limit=20, out=tmp_path / "table.parquet")
    assert table.num_rows == 20


@pytest.mark.parametrize("side", [256, 32])
def test_test_images_that_the_run_before_was_trained_on_are_counted(
    side, run, places, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys.modules["coview.runs.detect"], "SHORT_SIDE", side)
    annotations = places / "coco" / "annotations" / "instances_train2017.json"
    again = coview.detect(
        run.path, places / "coco", test=annotations, out=tmp_path / "run",
        **{**WORDS, "epochs": 1, "no_baselines": True},
    )  # fmt: skip
    caveats = json.loads((again.path / "evaluation/detect.json").read_text())["data"]["caveats"]
    assert caveats[0].startswith("The training part has 12 test images too")
    assert caveats[1].startswith("The run before was trained on 12 of the 12 test images, with")
    page = again.report_path.read_text()
    assert caveats[1] in page
    assert "no training and no choice has used" not in page
