"""Distillation is a run like any other: from a frozen teacher to a classifier, judged beside it."""

import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError, UnknownName
from coview.core.figures import DIAGNOSES
from coview.core.images import store_from_arrays
from coview.core.metrics import metric_of
from coview.core.ranks import Ranks
from coview.recipes import find_recipe, recipe
from coview.runs.compare import figures_of
from coview.runs.distilling import DISTILLING
from coview.runs.job import Parts
from coview.runs.labels_alone import LabelsAlone
from coview.runs.load import trained_learner
from coview.runs.run import Run
from coview.runs.teacher import ViewClassifier
from coview.training import Checkpoints, StopSignals
from small_run import SMALL, pictures

QUICK = {"device": "cpu", "workers": 0, "batch_size": 16}
STUDENT = "resnet10/8-small"


def labeled(count, seed):
    return pictures(count, seed=seed)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return coview.pretrain(labeled(160, 0), out=out, epochs=2, **{**SMALL, "encoder": STUDENT})


@pytest.fixture(scope="module")
def teacher(pretrained, tmp_path_factory):
    return coview.finetune(
        pretrained.path, labeled(160, 1), test=labeled(90, 2), epochs=6, from_layer=1,
        no_baselines=True, out=tmp_path_factory.mktemp("runs") / "teacher", **QUICK,
    )  # fmt: skip


def distill(teacher, out, **changes):
    settings = {
        "test": labeled(90, 2), "student": "resnet18/8-small", "labels": "20-per-class",
        "epochs": 4, **QUICK,
    }  # fmt: skip
    settings |= changes
    return coview.distill(teacher.path, labeled(160, 1), out=out, **settings)


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    return distill(teacher, tmp_path_factory.mktemp("runs") / "student")


def test_the_labels_alone_have_an_image_for_each_process():
    student = recipe("distill-cpu")

    def batch(images, world):
        rows, labels = labeled(images, 1)
        store = store_from_arrays(rows, labels=labels, class_names=("a", "b", "c"))
        parts = Parts(training=store, held_out=store, labeled_images=images)
        return LabelsAlone.beside(student, parts, "cpu", world).recipe.batch_size

    assert [batch(60, world) for world in (1, 8, 9, 60)] == [8, 8, 9, 60]
    with pytest.raises(InvalidValue, match="60 images a step, which are fewer than the 61 proc"):
        batch(60, 61)


def test_processes_for_which_the_labels_alone_are_too_few_are_refused_when_going_on(
    run, monkeypatch
):
    learner = SimpleNamespace(set_teacher=lambda teacher: None, ranks=Ranks(world=8))
    learner.ranks = Ranks(world=100)
    DISTILLING.equip(run, learner)  # nothing is trained on the labels alone any more
    monkeypatch.setattr(Run, "is_ended", False)
    learner.ranks = Ranks(world=8)
    DISTILLING.equip(run, learner)
    learner.ranks = Ranks(world=100)
    with pytest.raises(InvalidValue, match="fewer than the 100 processes"):
        DISTILLING.equip(run, learner)


def test_it_is_a_run_with_all_its_files(run, teacher):
    for name in ("run.json", "metrics.jsonl", "verdict.json", "report.html",
                 "evaluation/distill.json", "encoder/model.safetensors",
                 "encoder/classifier.safetensors", "predictions.json", "scratch/verdict.json"):  # fmt: skip
        assert (run.path / name).exists(), name
    assert run.kind == "distill"
    assert run.verdict["label"] in DIAGNOSES
    assert run.description["data"]["images"] == 160
    alone = Run(run.scratch_path)
    assert alone.kind == "finetune"
    assert alone.description["data"]["images"] == 60
    assert alone.recipe.encoder == run.recipe.encoder
    objective = run.recipe.method.objective
    assert (objective.temperature, objective.teacher_weight) == (1.0, 0.5)
    rows = run.metrics("validation")
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert all(0 <= row["agreement"] <= 1 and 0 <= row["accuracy"] <= 1 for row in rows)


def test_no_checkpoint_repeats_the_teacher(run, teacher):
    tensors = Checkpoints(run.checkpoints_path).load_latest().tensors
    assert {n for n in tensors if n.startswith("task/")} == {
        f"task/{name}" for name in trained_learner(run).state_dict()
    }
    description = run.description["teacher"]
    assert description["path"] == str(teacher.path / "encoder")
    assert description["parameters"] == sum(
        p.numel() for p in coview.load(teacher.path).parameters()
    )


def test_figures_are_those_of_the_loaded_networks(run, teacher):
    images, labels = labeled(90, 2)
    views = torch.from_numpy(images).permute(0, 3, 1, 2)
    views = torch.nn.functional.interpolate(views.float() / 255, 8)  # 12 px: any fixed input does
    student, guide = coview.load(run.path), coview.load(teacher.path)
    assert student.class_names == guide.class_names
    with torch.no_grad():
        mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
        normal = (views - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(ViewClassifier(guide, mean, std)(normal), guide(views))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = guide.encoder(views)
            logits = ViewClassifier(guide, None, None)(views)
        assert (h.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
        torch.testing.assert_close(logits, guide.layers(h.float()))
    saved = json.loads((run.path / "predictions.json").read_text())
    evaluation = json.loads((run.path / "evaluation" / "distill.json").read_text())
    assert evaluation["card"]["seed"] == run.recipe.seed
    values = {(row["subject"], row["metric"]): row["value"] for row in evaluation["results"]}
    predicted, theirs = np.array(saved["predicted"]), np.array(saved["teacher"])
    tuned = json.loads((teacher.path / "predictions.json").read_text())
    assert saved["teacher"] == tuned["predicted"]  # the same network, view and images
    alone = json.loads((run.scratch_path / "predictions.json").read_text())["predicted"]
    assert values == {
        ("student", "agreement"): pytest.approx((predicted == theirs).mean()),
        ("student", "accuracy"): pytest.approx((predicted == labels).mean()),
        ("teacher", "accuracy"): pytest.approx((theirs == labels).mean()),
        ("labels alone", "accuracy"): pytest.approx((np.array(alone) == labels).mean()),
    }
    (figure,) = [each for each in figures_of("run", run) if each.protocol == "distill"]
    assert (figure.title, figure.metric, figure.layer) == ("Distillation", "accuracy", "logits")
    assert figure.value == values["student", "accuracy"]
    assert metric_of("agreement").better == "higher"
    table = coview.predict(run.path, images)
    names = run.description["data"]["class_names"]
    assert table["class"].to_pylist() == [names[number] for number in predicted]


def test_a_stopped_run_goes_on_bit_for_bit(teacher, run, tmp_path, monkeypatch):
    calls = []

    def stop(_):
        calls.append(1)
        return "stopped by the test" if len(calls) in (13, 55) else ""

    monkeypatch.setattr(StopSignals, "__call__", stop)
    stopped = distill(teacher, tmp_path / "again")
    assert not stopped.is_ended
    images = {"data": labeled(160, 1), "test": labeled(90, 2), "device": "cpu", "workers": 0}
    again = coview.resume(stopped.path, **images)  # stops once more, on the labels alone
    assert not again.is_ended
    assert (again.scratch_path / "run.json").exists()
    ended = coview.resume(stopped.path, **images)
    assert ended.is_ended
    for name in ("encoder/model.safetensors", "encoder/classifier.safetensors", "predictions.json",
                 "scratch/predictions.json"):  # fmt: skip
        assert (ended.path / name).read_bytes() == (run.path / name).read_bytes(), name
    assert ended.verdict == run.verdict


def test_a_budget_extends_it_and_leaves_the_labels_alone(run, tmp_path, monkeypatch):
    shutil.copytree(run.path, tmp_path / "run")
    moments = itertools.count(0.0, 0.01)  # each look at the clock takes 10 ms
    monkeypatch.setattr("coview.core.clock.time", SimpleNamespace(monotonic=lambda: next(moments)))
    images = {"data": labeled(160, 1), "test": labeled(90, 2), "device": "cpu", "workers": 0}
    longer = coview.resume(tmp_path / "run", budget="5s", **images)
    assert longer.is_ended
    assert longer.verdict["step"] == longer.total_steps > run.total_steps
    assert longer.verdict["time"]["used"] > 3.5  # all for the student
    assert Run(longer.scratch_path).verdict == Run(run.scratch_path).verdict


def test_a_teacher_that_has_changed_is_refused_when_going_on(teacher, tmp_path):
    copy = replace(teacher, path=tmp_path / "teacher")
    shutil.copytree(teacher.path, copy.path)
    stopped = distill(copy, tmp_path / "run", epochs=1, no_baselines=True)
    (stopped.path / "verdict.json").unlink()
    other = distill(teacher, tmp_path / "other", student=None, epochs=1, no_baselines=True)
    shutil.rmtree(copy.path / "encoder")
    images = {"data": labeled(160, 1), "test": labeled(90, 2), "device": "cpu", "workers": 0}
    with pytest.raises(RunError, match="teacher is not there any more"):
        coview.resume(stopped.path, **images)
    shutil.copytree(other.path / "encoder", copy.path / "encoder")
    with pytest.raises(RunError, match="has other weights than when the run began"):
        coview.resume(stopped.path, **images)


def test_images_without_labels_are_enough(teacher, tmp_path):
    """The student then stands beside its teacher alone."""
    run = coview.distill(
        teacher.path, labeled(160, 1)[0], out=tmp_path / "run", student=STUDENT, epochs=2, **QUICK
    )
    assert not run.description["needs_labels"]
    evaluation = json.loads((run.path / "evaluation" / "distill.json").read_text())
    assert [row["metric"] for row in evaluation["results"]] == ["agreement"]
    assert run.description["data"]["class_names"] == list(coview.load(teacher.path).class_names)
    assert "the student gives the teacher&#x27;s class" in (
        run.path / "report.html"
    ).read_text() or ("student gives the teacher" in (run.path / "report.html").read_text())


def test_a_like_student_and_one_from_a_pretrained_head(teacher, pretrained, tmp_path):
    alike = distill(teacher, tmp_path / "self", student=None, labels=None, epochs=1)
    objective = alike.recipe.method.objective
    assert alike.recipe.encoder == teacher.recipe.encoder
    assert (objective.temperature, objective.teacher_weight) == (0.1, 1.0)
    assert not alike.scratch_path.exists()
    begun = distill(
        teacher, tmp_path / "begun", student=None, start=pretrained.path, from_layer=1, epochs=1,
        temperature=0.5, teacher_weight=0.9,
    )  # fmt: skip
    assert begun.recipe.kept_head.layers == 1
    assert begun.recipe.method.objective.temperature == 0.5
    assert begun.start.path == str(pretrained.path)
    assert Run(begun.scratch_path).start == begun.start
    assert [kind for kind, *_ in json.loads(
        (begun.path / "encoder" / "config.json").read_text()
    )["classifier"]["layers"]] == ["linear", "batch_norm", "relu", "linear"]  # fmt: skip


def test_an_exported_classifier_and_a_distilled_run_teach_too(run, tmp_path):
    exported = replace(run, path=run.path / "encoder")
    again = distill(exported, tmp_path / "again", labels=None, epochs=1, micro_batch=8)
    assert again.recipe.passes.micro_batch == 8
    assert again.description["teacher"]["hash"]


def test_a_recipe_value_is_trained_exactly(teacher, run, tmp_path):
    mine = replace(run.recipe, epochs=1, name="mine")
    found = distill(
        teacher, tmp_path / "mine", recipe=mine, epochs=None, batch_size=None, student=None,
        no_baselines=True,
    )  # fmt: skip
    assert found.recipe == mine


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"labels": None, "teacher_weight": 0.5}, InvalidValue, "give `labels` too"),
        ({"labels": "0.1%"}, DataError, "labels for 3 classes"),
        ({"labels": "no-such-file.txt"}, InvalidValue, "there is no such file"),
        ({"recipe": "finetune-cpu"}, UnknownName, "no recipe of distillation 'finetune-cpu'"),
        ({"from_layer": 1}, InvalidValue, "there is no projection head"),
        ({"checkpoint": 3}, InvalidValue, "give `start`"),
        ({"teacher_weight": 2.0}, InvalidValue, "above 0, up to 1"),
        ({"temperature": 0.0}, InvalidValue, "temperature"),
        ({"test": labeled(90, 2)[0]}, DataError, "needs labels|has no labels"),
    ],
    ids=str,
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(teacher, tmp_path, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        distill(teacher, tmp_path / "no", **changes)
    assert not (tmp_path / "no").exists()


def test_networks_that_do_not_fit_are_named(teacher, pretrained, tmp_path):
    with pytest.raises(InvalidValue, match="leave one of them out"):
        distill(teacher, tmp_path / "no", start=pretrained.path)
    with pytest.raises(RunError, match="so that it cannot teach; make one with: coview finetune"):
        distill(pretrained, tmp_path / "no")
    with pytest.raises(InvalidValue, match="Distillation learns from a teacher"):
        coview.pretrain(labeled(160, 0), recipe="distill-cpu", out=tmp_path / "no")
    with pytest.raises(InvalidValue, match="fine-tuning learns classes"):
        coview.finetune(pretrained.path, labeled(160, 0), recipe=recipe("distill-cpu"))


def test_classes_that_the_teacher_does_not_know_are_named(teacher, tmp_path):
    images, labels = labeled(160, 1)
    store = store_from_arrays(images, labels=labels, class_names=("bright-0", "bright-1", "cat"))
    with pytest.raises(DataError, match=r"cat.*classes that the teacher does not know"):
        coview.distill(teacher.path, store, out=tmp_path / "no", **QUICK)


def test_the_command_line_takes_it_whole(teacher, tmp_path, capsys):
    words = ["--size", "8", "--encoder", STUDENT, "--batch", "32", "--device", "cpu"]
    main(
        [
            "pretrain",
            "scenes",
            "--limit",
            "120",
            "--epochs",
            "1",
            *words,
            "--out",
            str(tmp_path / "p"),
        ]
    )
    quick = ["--limit", "200", "--epochs", "1", "--batch", "16", "--device", "cpu"]
    main(["finetune", str(tmp_path / "p"), "scenes", "--labels", "5-per-class", "--no-baselines",
          *quick, "--out", str(tmp_path / "f")])  # fmt: skip
    code = main(["distill", str(tmp_path / "f"), "scenes", "--student", STUDENT, "--labels",
                 "5-per-class", *quick, "--out", str(tmp_path / "d")])  # fmt: skip
    out = capsys.readouterr().out
    label = json.loads((tmp_path / "d" / "verdict.json").read_text())["label"]
    assert code == DIAGNOSES[label].exit_code
    assert "images are learned from, with" in out
    assert "The labels alone:" in out
    assert main(["resume", str(tmp_path / "d"), "--epochs", "2"]) in {0, *range(3, 13)}
    assert isinstance(find_recipe(str(tmp_path / "d")), type(recipe("distill-cpu")))


def test_a_file_of_labels_leaves_the_test_part_other_images(teacher, tmp_path):
    images, labels = labeled(160, 1)
    store = store_from_arrays(images, labels=labels)
    mine = tmp_path / "labels.txt"
    mine.write_text("\n".join(store.names[:60]))
    run = coview.distill(
        teacher.path, (images, labels), labels=str(mine), no_baselines=True, epochs=1,
        out=tmp_path / "run", **QUICK,
    )  # fmt: skip
    assert run.description["data"]["held_out"] == 20  # a fifth of the 100 that are not named
    assert run.description["data"]["images"] == 140
    tested = json.loads(run.predictions_path.read_text())["names"]
    assert not set(tested) & set(store.names[:60])


@pytest.mark.parametrize("test_names", ["012", None], ids=["classes", "flat"])
def test_the_val_part_of_unlabeled_images_is_the_test(teacher, test_names, tmp_path):
    for part, names, count in (("train", "012", 60), ("val", test_names, 30)):
        images, labels = labeled(count, len(part))
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "data" / part / (names[label] if names else "")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{row:02}.png")
    run = coview.distill(
        teacher.path, tmp_path / "data", epochs=1, out=tmp_path / "run", cache="none", **QUICK
    )
    assert run.description["data"]["images"] == 60
    assert len(run.predictions["names"]) == 30
    metrics = {
        row["metric"]
        for row in json.loads((run.evaluation_path / "distill.json").read_text())["results"]
    }
    assert metrics == ({"agreement", "accuracy"} if test_names else {"agreement"})


def test_a_val_part_of_classes_that_the_teacher_does_not_know_is_named(teacher, tmp_path):
    for part in ("train", "val"):
        for row, image in enumerate(labeled(40, len(part))[0]):
            folder = tmp_path / "data" / part / "abc"[row % 3]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{row:02}.png")
    with pytest.raises(DataError, match=r"`labels_from` none"):
        coview.distill(teacher.path, tmp_path / "data", out=tmp_path / "no", **QUICK)
    run = coview.distill(
        teacher.path, tmp_path / "data", labels_from="none", epochs=1, out=tmp_path / "run", **QUICK
    )
    assert run.is_ended


def caveats_of(run):
    data = json.loads((run.evaluation_path / "distill.json").read_text())["data"]
    return data.get("caveats", [])


def test_test_images_that_the_teacher_was_trained_on_are_counted(teacher, tmp_path, capsys):
    """Teacher and student have one seed; the teacher was trained on all images."""
    settings = {"epochs": 1, "no_baselines": True, "labels": None}
    split = coview.distill(teacher.path, labeled(160, 1), epochs=1, out=tmp_path / "a", **QUICK)
    (sentence,) = caveats_of(split)
    assert sentence.startswith("The teacher was trained on 32 of the 32 test images, with their")
    assert sentence in capsys.readouterr().out
    assert caveats_of(distill(teacher, tmp_path / "b", **settings)) == []
    shutil.copytree(teacher.encoder_path, tmp_path / "alone")
    alone = distill(replace(teacher, path=tmp_path / "alone"), tmp_path / "c", **settings)
    assert "is not known, because" in caveats_of(alone)[0]
    page = split.report_path.read_text()
    assert sentence in page
    assert "no training and no choice has used" not in page


def test_test_images_that_the_student_is_trained_on_are_counted(teacher, tmp_path, capsys):
    settings = {"epochs": 1, "no_baselines": True, "labels": None}
    distill(teacher, tmp_path / "run", test=labeled(160, 1), dry_run=True, **settings)
    assert "The training part has 160 test images too, with equal" in capsys.readouterr().out


def test_test_images_that_the_first_network_was_trained_on_are_counted(teacher, tmp_path):
    start = coview.pretrain(
        labeled(160, 3), epochs=1, out=tmp_path / "start", **{**SMALL, "encoder": STUDENT}
    )
    run = coview.distill(
        teacher.path, labeled(160, 3), start=start.path, epochs=1, out=tmp_path / "run", **QUICK
    )
    _, count, _ = caveats_of(run)  # what the teacher was trained on was in memory
    assert count.startswith("The run before was trained on")
    assert "of the 32 test images, without their labels" in count


def test_an_evaluation_says_what_the_teacher_was_trained_on(run, teacher):
    results = coview.evaluate(
        run.path, labeled(90, 2), test=labeled(160, 1), protocols="knn", device="cpu"
    )
    assert any(
        text.startswith("The teacher of the run was trained on 160 of the 160 test images, with")
        for text in results.caveats
    )
