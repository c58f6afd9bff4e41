"""Fine-tuning is a run like any other, and leaves a classifier that stands beside its baselines."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError, UnknownName
from coview.core.figures import DIAGNOSES
from coview.data import store
from coview.data.spec import DataSpec
from coview.recipes import build, recipe
from coview.runs.load import load_subject, trained_learner
from coview.runs.run import Run
from coview.training import Checkpoints, ScheduleSpec, StopSignals
from small_run import SMALL, pictures, small_export

NAMES = ("bright-0", "bright-1", "bright-2")


def labeled(count, seed):
    return pictures(count, seed=seed)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return coview.pretrain(
        labeled(160, 0), out=out, epochs=3, **{**SMALL, "encoder": "resnet18/8-small"}
    )


def finetune(pretrained, out, **changes):
    settings = {
        "test": labeled(90, 2), "labels": "50%", "epochs": 4, "batch_size": 16, "device": "cpu",
        "workers": 0, "from_layer": 1,
    }  # fmt: skip
    return coview.finetune(pretrained.path, labeled(160, 1), out=out, **{**settings, **changes})


@pytest.fixture(scope="module")
def run(pretrained, tmp_path_factory):
    return finetune(pretrained, tmp_path_factory.mktemp("runs") / "finetuned")


def test_it_is_a_run_with_all_its_files(run):
    for name in ("run.json", "metrics.jsonl", "verdict.json", "report.html", "evaluation/finetune.json",
                 "encoder/model.safetensors", "encoder/classifier.safetensors", "predictions.json",
                 "probe.json", "scratch/run.json", "scratch/verdict.json"):  # fmt: skip
        assert (run.path / name).exists(), name
    assert run.kind == "finetune"
    assert run.is_ended
    assert run.verdict["label"] in DIAGNOSES
    assert run.description["data"]["images"] == 80  # half of the labels
    assert run.recipe.kept_head.layers == 1
    rows = run.metrics("validation")
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20]
    assert all(0 <= row["train_accuracy"] <= 1 for row in rows)


def test_it_starts_from_the_pretrained_network_and_its_head(pretrained, run):
    """The network before the first step is the pretrained one up to the first layer of its head."""
    learner = build(run.recipe, run.start)
    tensors = Checkpoints(pretrained.checkpoints_path).load_latest().tensors
    state = learner.encoder.state_dict()
    ours = {n: t for n, t in state.items() if n.startswith("encoder.")}
    for name, tensor in ours.items():
        assert torch.equal(tensor, tensors[f"task/{name}"]), name
    kept = {n.removeprefix("kept."): t for n, t in state.items() if n.startswith("kept.")}
    assert any("norm" in name for name in kept)
    for name, tensor in kept.items():
        assert torch.equal(tensor, tensors[f"task/head.{name}"]), name
    assert learner.head.layers[0].dense.weight.abs().max() == 0  # SimCLRv2: logits start at zero


def test_scratch_is_the_same_network_recipe_and_labels_from_random_weights(run):
    scratch = Run.open(run.scratch_path)
    assert scratch.recipe == run.recipe
    assert scratch.start is None
    assert scratch.description["data"] == run.description["data"]
    ours, theirs = (Checkpoints(r.checkpoints_path).load_latest().tensors for r in (run, scratch))
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_figures_are_those_of_the_loaded_classifier(run):
    """The classifier that loads back gives the predictions, the accuracy and the confusion."""
    images, labels = labeled(90, 2)
    network = coview.load(run.path)
    assert network.class_names == tuple(run.description["data"]["class_names"])
    from coview.core.images import store_from_arrays
    from coview.views import ViewPlan, views_of

    plan = ViewPlan(views=(run.recipe.eval_view,))
    views = views_of(store_from_arrays(images), np.arange(90), plan, seed=0, epoch=0)[0]
    with torch.no_grad():
        predicted = network(views).argmax(1).numpy()
    saved = json.loads((run.path / "predictions.json").read_text())
    assert saved["predicted"] == predicted.tolist()
    evaluation = json.loads((run.path / "evaluation" / "finetune.json").read_text())
    assert evaluation["card"]["seed"] == run.recipe.seed
    assert evaluation["title"] == "Fine-tuning"
    by_subject = {row["subject"]: row for row in evaluation["results"]}
    assert set(by_subject) == {"fine-tuned", "linear probe", "from scratch"}
    assert by_subject["fine-tuned"]["value"] == pytest.approx((predicted == labels).mean())
    confusion = np.zeros((3, 3), int)
    for true, guess in zip(labels, predicted, strict=True):
        confusion[true, guess] += 1
    assert evaluation["confusion"] == confusion.tolist()
    shares = [row["accuracy"] for row in evaluation["per_class"]]
    assert shares == pytest.approx((confusion.diagonal() / confusion.sum(1)).tolist())


def test_classifier_loads_in_plain_torch(run):
    """As the README of the export says."""
    folder = run.path / "encoder"
    config = json.loads((folder / "config.json").read_text())["classifier"]
    kinds = {"linear": torch.nn.Linear, "batch_norm": torch.nn.BatchNorm1d, "relu": torch.nn.ReLU}
    layers = torch.nn.Sequential(*(kinds[kind](*sizes) for kind, *sizes in config["layers"]))
    layers.load_state_dict(load_file(folder / "classifier.safetensors"), strict=True)
    network = coview.load(run.path)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(layers.eval()(network.encoder(images)), expected)
    assert [kind for kind, *_ in config["layers"]] == ["linear", "batch_norm", "relu", "linear"]


def test_a_stopped_run_goes_on_bit_for_bit(pretrained, run, tmp_path, monkeypatch):
    calls = []

    def stop(_):
        calls.append(1)
        return "stopped by the test" if len(calls) in (7, 31) else ""

    monkeypatch.setattr(StopSignals, "__call__", stop)
    stopped = finetune(pretrained, tmp_path / "again")
    assert not stopped.is_ended
    images = {"data": labeled(160, 1), "test": labeled(90, 2), "device": "cpu", "workers": 0}
    again = coview.resume(stopped.path, **images)  # stops once more, in the training from scratch
    assert not again.is_ended
    assert (again.scratch_path / "run.json").exists()
    ended = coview.resume(stopped.path, **images)
    assert ended.is_ended
    for name in ("encoder/model.safetensors", "encoder/classifier.safetensors", "predictions.json",
                 "scratch/predictions.json"):  # fmt: skip
        assert (ended.path / name).read_bytes() == (run.path / name).read_bytes(), name
    assert ended.verdict == run.verdict
    with pytest.raises(InvalidValue, match="extended by `epochs`, so that the network from scratc"):
        coview.resume(stopped.path, budget="5s", **images)
    assert ended.is_ended


def test_a_baseline_that_has_diverged_is_not_compared_with(run, tmp_path):
    copy = Run(shutil.copytree(run.path, tmp_path / "run"))
    verdict = Run(copy.scratch_path).verdict_path
    verdict.write_text(json.dumps({**json.loads(verdict.read_text()), "label": "collapsed"}))
    copy.verdict_path.unlink()  # as if it had been killed at the very end
    words = {"data": labeled(160, 1), "test": labeled(90, 2), "device": "cpu", "workers": 0}
    ended = coview.resume(copy.path, **words)
    content = json.loads((copy.path / "evaluation/finetune.json").read_text())
    assert [each["subject"] for each in content["results"]] == ["fine-tuned", "linear probe"]
    assert "from scratch" not in ended.verdict["sentence"]


def test_micro_batches_and_budgets_and_dry_runs_are_those_of_every_run(pretrained, tmp_path):
    split = finetune(pretrained, tmp_path / "parts", micro_batch=8, no_baselines=True, epochs=1)
    assert split.recipe.passes.micro_batch == 8
    assert finetune(pretrained, tmp_path / "dry", dry_run=True) is None
    assert not (tmp_path / "dry").exists()
    short = finetune(
        pretrained, tmp_path / "short", epochs=None, budget="20s", no_baselines=True, dry_run=True
    )
    assert short is None


def test_from_an_exported_encoder_only_h_can_be_taken(pretrained, tmp_path):
    exported = replace(pretrained, path=pretrained.path / "encoder")
    with pytest.raises(InvalidValue, match="has no projection head to keep layers of; give 0"):
        finetune(exported, tmp_path / "no", from_layer=1)
    run = finetune(exported, tmp_path / "yes", from_layer=0, epochs=1, no_baselines=True)
    assert run.recipe.kept_head is None
    assert len(run.evaluations[0]["results"]) == 1


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"from_layer": 9}, InvalidValue, "the projection head has 2 layers; give 0"),
        ({"labels": "0.1%"}, DataError, "labels for 3 classes"),
        ({"labels": "no-such-file.txt"}, InvalidValue, "there is no such file"),
        ({"recipe": "simclr-cpu"}, UnknownName, "no fine-tuning recipe 'simclr-cpu'"),
        ({"test": labeled(90, 2)[0]}, DataError, "needs labels|has no labels"),
    ],
    ids=str,
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(pretrained, tmp_path, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        finetune(pretrained, tmp_path / "no", **changes)
    assert not (tmp_path / "no").exists()


def test_a_recipe_value_is_trained_exactly(pretrained, tmp_path):
    from coview.recipes.finetune import classifier_method

    mine = replace(
        recipe("finetune-cpu"), method=classifier_method(8, classes=3), epochs=1, batch_size=20,
        encoder=pretrained.recipe.encoder, schedule=ScheduleSpec(warmup_epochs=0),
    )  # fmt: skip
    run = finetune(
        pretrained, tmp_path / "mine", recipe=mine, epochs=None, batch_size=None, from_layer=None,
        no_baselines=True,
    )  # fmt: skip
    assert run.recipe == mine


def test_predict_writes_a_class_and_a_probability_for_every_image(run, tmp_path):
    images, _ = labeled(90, 2)
    table = coview.predict(run.path, images, out=tmp_path / "classes.parquet")
    assert table.equals(pq.read_table(tmp_path / "classes.parquet"))
    assert table.column_names == ["name", "class", "probability"]
    saved = json.loads((run.path / "predictions.json").read_text())
    names = run.description["data"]["class_names"]
    assert table["class"].to_pylist() == [names[number] for number in saved["predicted"]]
    np.testing.assert_allclose(table["probability"].to_numpy(), saved["probability"], atol=1e-5)


def test_predict_decodes_each_image_once_and_keeps_nothing_in_the_cache(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIEW_CACHE", str(tmp_path / "cache"))
    pixels = labeled(20, 2)[0]
    (tmp_path / "new").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "new" / f"{number:02}.png")
    (tmp_path / "new" / "05.png").write_bytes(b"")
    decoded, decode = [], store.decode_image
    monkeypatch.setattr(
        store, "decode_image", lambda *image: decoded.append(image[0]) or decode(*image)
    )
    table = coview.predict(run.path, tmp_path / "new", memory_share=0.0)
    assert len(decoded) == len(set(decoded)) == 20
    assert not list(tmp_path.glob("cache/stores/*"))
    images = DataSpec.of(tmp_path / "new", short_side=256).open()
    assert table["name"].to_pylist() == list(images.names)
    metadata = table.schema.metadata
    assert metadata[b"coview.fingerprint"].decode() == images.fingerprint
    assert json.loads(metadata[b"coview.left_out"]) == [["05.png", "empty file"]]
    for number in range(4):
        (tmp_path / "new" / f"{number:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"5 of 20 images in .* cannot be used"):
        coview.predict(run.path, tmp_path / "new")


def test_predict_prints_the_first_images(run, tmp_path, capsys):
    words = ["predict", str(run.path), "scenes", "--limit", "12", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "p.parquet")]) == 0
    note, *printed = capsys.readouterr().out.splitlines()
    assert note.startswith(f"Note: {run.path} was judged ")
    for row, line in zip(
        pq.read_table(tmp_path / "p.parquet").to_pylist()[:10], printed, strict=False
    ):
        assert line == f"{row['name']}: {row['class']} ({100 * row['probability']:.0f} %)"
    assert printed[10:] == ["... and 2 more", f"12 images classified: {tmp_path / 'p.parquet'}"]
    assert main([*words, "--out", str(tmp_path / "p.csv")]) == 0
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == "name,class,probability"
    assert len(lines) == 13


def test_predict_without_a_classifier_says_how_to_make_one(pretrained):
    with pytest.raises(RunError, match="coview finetune"):
        coview.predict(pretrained.path, labeled(10, 0)[0])


def test_evaluate_and_embed_take_a_fine_tuned_run(run):
    table = coview.embed(run.path, labeled(12, 3)[0])
    assert table.num_rows == 12


def test_h_of_a_fine_tuned_run_is_the_encoders_output(run):
    subject = load_subject(run.path)
    learner = trained_learner(run)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        h = subject.encoder.eval()(images)
        assert h.shape == run.recipe.encoder.build()(images).shape
        logits = learner.eval().head(learner.encoder(images))
        torch.testing.assert_close(subject.head.eval()(h), logits)


def test_a_changed_file_of_labels_is_refused_when_going_on(pretrained, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"arrays#{number}" for number in range(60)))
    stopped = finetune(
        pretrained, tmp_path / "run", labels=str(names), test=None, epochs=1, no_baselines=True
    )
    assert stopped.description["data"]["images"] == 60
    (stopped.path / "verdict.json").unlink()
    names.write_text("\n".join(f"arrays#{number}" for number in range(30)))
    with pytest.raises(RunError, match="began on other training images"):
        coview.resume(stopped.path, data=labeled(160, 1), device="cpu", workers=0)


def test_the_command_line_takes_it_whole(tmp_path, capsys):
    words = ["--size", "8", "--encoder", "resnet18/8-small", "--batch", "32", "--device", "cpu"]
    first = ["pretrain", "scenes", "--limit", "120", "--epochs", "1", *words]
    assert main([*first, "--out", str(tmp_path / "pre")]) == 0
    code = main([
        "finetune", str(tmp_path / "pre"), "scenes", "--labels-from", "column", "--limit", "200",
        "--labels", "5-per-class", "--epochs", "2", "--batch", "16", "--device", "cpu",
        "--out", str(tmp_path / "fine"),
    ])  # fmt: skip
    out = capsys.readouterr().out
    label = json.loads((tmp_path / "fine" / "verdict.json").read_text())["label"]
    assert code == DIAGNOSES[label].exit_code
    assert "labels are used (5-per-class)" in out
    assert "coview predict" in out
    assert main(["predict", str(tmp_path / "fine"), "scenes:test", "--limit", "20"]) == 0
    assert "20 images classified" in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "fine")]) == 2
    assert "has ended" in capsys.readouterr().err


QUICK = {"limit": 60, "epochs": 1, "batch_size": 16, "device": "cpu", "workers": 0}


def figures_of(run):
    data = json.loads((run.evaluation_path / "finetune.json").read_text())["data"]
    return data["caveats"], run.report_path.read_text()


@pytest.mark.parametrize(("method", "labels"), [("simclr", "without"), ("supervised", "with")])
def test_test_images_that_the_runs_before_were_trained_on_are_counted(
    method, labels, tmp_path, capsys
):
    options = {**QUICK, "no_baselines": True}
    before = coview.pretrain(
        "scenes", recipe=method, size=8, encoder="resnet18/8-small", out=tmp_path / "a", **QUICK
    )
    run = coview.finetune(before.path, "scenes", out=tmp_path / "b", **options)
    count, what_to_do = figures_of(run)[0]
    assert re.fullmatch(
        rf"The run before was trained on \d+ of the 12 test images, {labels} their labels: .*",
        count,
    )
    assert what_to_do == "Give `test` with images that none of these runs was trained on."
    assert count in capsys.readouterr().out
    page = figures_of(run)[1]
    assert count in page
    assert "no training and no choice has used" not in page
    # Another seed, other test images: the first fine-tuning was trained on them.
    again = coview.finetune(run.path, "scenes", seed=1, out=tmp_path / "c", **options)
    first, second, _ = figures_of(again)[0]
    assert first.startswith("The run before was trained on")
    assert "with their labels" in first
    assert second.startswith("The run before the run before was trained on")
    clean = coview.finetune(run.path, "scenes", test="scenes:test", out=tmp_path / "d", **options)
    caveats, page = figures_of(clean)
    assert caveats == []
    assert "no training and no choice has used" in page


def test_test_images_that_are_trained_on_are_counted(tmp_path, capsys):
    images, labels = pictures(60)
    new, new_labels = pictures(6, seed=1)
    test = np.concatenate([images[:10], new]), np.concatenate([labels[:10], new_labels])
    run = coview.finetune(
        small_export(tmp_path / "encoder"), (images, labels), test=test, epochs=1, batch_size=16,
        device="cpu", workers=0, no_baselines=True, out=tmp_path / "run",
    )  # fmt: skip
    sentence = figures_of(run)[0][0]
    assert sentence.startswith("The training part has 10 test images too, with equal pixels")
    assert sentence in capsys.readouterr().out
    assert sentence in figures_of(run)[1]


def test_what_an_export_of_no_run_was_trained_on_is_not_known(tmp_path):
    start = small_export(tmp_path / "encoder")
    run = coview.finetune(start, "scenes", out=tmp_path / "run", **QUICK)
    (sentence,) = figures_of(run)[0]
    assert sentence == (
        "Whether the first network was trained on test images is not known, because "
        f"{start} lies in no run."
    )
    assert figures_of(Run(run.scratch_path))[0] == []
