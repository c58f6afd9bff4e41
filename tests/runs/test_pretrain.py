"""The main job on a small scale, with every part real."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import coview
from coview import evaluation
from coview.cli import main
from coview.core.errors import DamagedFile, DataError, InvalidValue, RunError, UnknownName
from coview.data import open_images
from coview.data.held_out import hold_out
from coview.data.spec import DataSpec
from coview.encoders import export_encoder, resnet
from coview.options import PretrainOptions
from coview.recipes import change, recipe
from coview.recipes.changes import with_normalization
from coview.runs.pretrain import about_folders, with_network
from coview.runs.start import new_folder, new_run_lock
from coview.training import loop
from small_run import SMALL, pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return coview.pretrain(
        pictures(), out=tmp_path_factory.mktemp("runs") / "small", epochs=3, **SMALL
    )


def test_a_run_leaves_all_its_files(run):
    expected = {
        "run.json", "metrics.jsonl", "verdict.json", "report.html", "encoder/model.safetensors",
        "encoder/config.json", "report/views.png", "report/gallery.npz",
    }  # fmt: skip
    assert {name for name in expected if (run.path / name).is_file()} == expected
    kinds = [row["kind"] for row in run.metrics()]
    assert kinds.count("health") == 4  # untrained and three epochs
    assert kinds.count("knn") == 4


def test_a_run_on_images_decoded_on_demand_ends_in_the_same_weights(tmp_path):
    for row, image in enumerate(pictures(96)[0]):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"{row:02}.png")
    settings = {**SMALL, "epochs": 1, "batch_size": 16}
    weights = []
    for name, storage in (("a", {}), ("b", {"memory_share": 0, "cache": "none"})):
        run = coview.pretrain(tmp_path / "photos", out=tmp_path / name, **settings, **storage)
        weights.append((run.path / "encoder" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_batch_that_does_not_fit_changes_no_recipe_given_as_a_value(
    tmp_path, monkeypatch, by_name
):
    step = loop.train_step

    def full(task, *arguments, **options):
        if task.passes.micro_batch is None:
            raise loop.DoesNotFit("The batch does not fit.")
        return step(task, *arguments, **options)

    monkeypatch.setattr(loop, "train_step", full)
    settings = {**SMALL, "epochs": 1}
    if by_name:
        run = coview.pretrain(pictures(), out=tmp_path / "run", **settings)
        (event,) = run.metrics("event")
        assert event["text"].endswith("images at a time instead of the batch.")
        return
    chosen = ("size", "encoder", "batch_size", "epochs")
    mine = change(recipe("simclr-cpu"), **{name: settings.pop(name) for name in chosen})
    with pytest.raises(loop.DoesNotFit, match=r"value is not changed: .*`micro_batch`"):
        coview.pretrain(pictures(), recipe=mine, out=tmp_path / "run", **settings)
    with pytest.raises(loop.DoesNotFit, match="given as a value"):  # nor where it goes on
        coview.resume(tmp_path / "run", data=pictures())


def test_a_young_run_is_called_too_early(run):
    assert run.verdict["label"] == "too early"
    assert run.is_ended


def test_loaded_encoder_gives_the_embedded_features(run):
    images, _ = pictures()
    encoder = coview.load(run.path)
    table = coview.embed(run.path, images[:5], layers=("h", "z"))
    assert table.layers == ("h", "z")
    embedded = torch.from_numpy(table["h"])
    assert embedded.shape == (5, encoder.features)
    exported = coview.embed(run.path / "encoder", images[:5])
    assert torch.allclose(embedded, torch.from_numpy(exported["h"]), atol=1e-5)


def test_embeddings_are_written_as_parquet(run, tmp_path):
    coview.embed(run.path, pictures()[0][:5], out=tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 5


def test_evaluation_of_a_run_that_may_not_be_written_still_gives_its_results(run, tmp_path, capsys):
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "evaluation").write_text("")  # in the way, for root too
    results = coview.evaluate(copy, pictures(60), protocols="knn")
    assert results
    assert "The results are not kept in the run. Could not write" in capsys.readouterr().out


def test_a_missing_report_of_an_ended_run_is_written_by_the_main_process(
    run, tmp_path, monkeypatch, capsys
):
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "report.html").unlink()
    for rank, written in (("1", False), ("0", True)):
        for name, value in (
            ("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1"),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        assert coview.resume(copy).is_ended
        assert (copy / "report.html").exists() is written
        assert ("its report is written again" in capsys.readouterr().out) is written


def test_the_untrained_network_is_settled_on_training_images_alone(run, monkeypatch):
    seen = {}

    def spy(name, function):
        def call(first, store, *args, **settings):
            seen[name] = set(store.ids.tolist())
            return function(first, store, *args, **settings)

        return call

    module = importlib.import_module("coview.runs.subjects")
    monkeypatch.setattr(module, "settled", spy("settled", module.settled))
    monkeypatch.setattr(evaluation, "make_benchmark", spy("all", evaluation.make_benchmark))
    coview.evaluate(run.path, pictures(60), protocols="knn")
    assert len(seen["settled"]) == 0.8 * len(seen["all"])
    assert seen["settled"] < seen["all"]


def test_evaluation_stands_beside_untrained_and_pixels(run):
    results = coview.evaluate(run.path, pictures(), test=pictures(60, seed=1))
    for protocol in ("knn", "linear"):
        assert {r.subject for r in results if r.protocol == protocol} == {
            "trained", "untrained", "pixels"}  # fmt: skip
    assert len(run.evaluations) == 2
    assert "linear" in (run.path / "report.html").read_text()


def test_a_stopped_run_goes_on_to_the_bits_it_would_have_had(run, tmp_path, monkeypatch):
    from coview.training import StopSignals

    monkeypatch.setattr(StopSignals, "__call__", lambda self: "stopped by the test")
    stopped = coview.pretrain(pictures(), out=tmp_path / "again", epochs=3, **SMALL)
    assert not stopped.is_ended
    monkeypatch.undo()
    ended = coview.resume(stopped.path, data=pictures(), device="cpu", workers=0)
    assert ended.is_ended
    ours, theirs = ((r.path / "encoder/model.safetensors").read_bytes() for r in (ended, run))
    assert ours == theirs
    assert [row["loss"] for row in ended.metrics() if row["kind"] == "step"] == [
        row["loss"] for row in run.metrics() if row["kind"] == "step"
    ]


def test_an_ended_run_is_not_resumed(run):
    with pytest.raises(RunError, match="has ended"):
        coview.resume(run.path, data=pictures())


def test_other_images_are_no_continuation(tmp_path, monkeypatch):
    from coview.training import StopSignals

    monkeypatch.setattr(StopSignals, "__call__", lambda self: "stopped by the test")
    stopped = coview.pretrain(pictures(), out=tmp_path / "again", epochs=1, **SMALL)
    with pytest.raises(RunError, match="have changed"):
        coview.resume(stopped.path, data=pictures(150))


def test_an_existing_folder_is_never_written_into(run):
    with pytest.raises(RunError, match="exists already"):
        coview.pretrain(pictures(), out=run.path, **SMALL)


def test_a_folder_of_a_process_that_was_killed_before_the_run_began_is_free(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    code = "from coview.core.temporary import mark; print(mark())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left = [f".{name}.{ended.stdout.strip()}.tmp" for name in ("run.json", "lock.json")]
    for name in (*left, "lock.json"):
        (out / name).touch()
    assert new_folder(out) == out
    with new_run_lock(out):
        assert [path.name for path in out.iterdir()] == ["lock.json"]
    (out / f"{left[0]}.txt").touch()
    with pytest.raises(RunError, match="exists already"):
        new_folder(out)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"epochs": 0}, InvalidValue, "`epochs` is 0"),
        ({"batch_size": 100_000}, InvalidValue, "does not fit"),
        ({"batch_size": 1}, InvalidValue, "at least 2"),
        ({"recipe": "simclr-cp"}, UnknownName, "simclr-cpu"),
        ({"recipe": 5}, InvalidValue, "`recipe` is 5"),
        ({"encoder": "resnet19"}, UnknownName, "resnet18"),
        ({"precision": "fp8"}, UnknownName, "fp32"),
        ({"optimizer": "adamv", "learning_rate": 1e-3}, UnknownName, "adamw"),
        ({"optimizer": "lars"}, InvalidValue, "`learning_rate`"),
        ({"learning_rate": -1.0}, InvalidValue, "learning_rate"),
        ({"temperature": 0.0}, InvalidValue, "temperature"),
        ({"budget": "30"}, InvalidValue, "30m"),
        ({"seed": -1}, InvalidValue, "seed"),
        ({"warmup_epochs": 50.0}, InvalidValue, "warmup_epochs"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, changes, kind, words):
    setting = {**SMALL, "epochs": 1, **changes}
    with pytest.raises(kind, match=words) as caught:
        coview.pretrain(pictures(), out=tmp_path / "x", **setting)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_two_images_are_too_few(tmp_path):
    with pytest.raises(DataError, match="2 usable images"):
        coview.pretrain(pictures(2), out=tmp_path / "x", **SMALL)


def test_supcon_without_labels_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="labels"):
        coview.pretrain(pictures()[0], recipe="supcon", out=tmp_path / "x", epochs=1, **SMALL)
    for place in range(3):
        Image.new("RGB", (8, 8), (place, 0, 0)).save(tmp_path / f"{place}.png")
    for options, words in (
        ({"recipe": "supcon"}, "leave out `recipe` supcon."),
        ({"recipe": recipe("supcon-cpu")}, "leave out `recipe` supcon-cpu."),
        ({"labels_from": "folders"}, "leave out `labels_from`."),
    ):
        with pytest.raises(DataError, match=f"has none; .* To learn without labels {words}"):
            coview.pretrain(tmp_path, out=tmp_path / "x", **options)
    with pytest.raises(DataError, match="`coview pretrain` learns without labels"):
        open_images(tmp_path, labels_from="folders")


def test_supcon_learns_from_labels(tmp_path):
    run = coview.pretrain(pictures(), recipe="supcon", out=tmp_path / "x", epochs=1, **SMALL)
    assert run.recipe.method.name == "supcon"


def test_training_starts_from_weights(run, tmp_path):
    again = coview.pretrain(
        pictures(), out=tmp_path / "x", epochs=1, weights=run.path, **SMALL, learning_rate=1e-12
    )
    before, after = (
        coview.load(path)(torch.zeros(1, 3, 8, 8)).detach() for path in (run.path, again.path)
    )
    assert torch.allclose(before, after, atol=0.3 * float(before.abs().max()))
    assert again.description["caveats"] == []  # the same seed holds the same images out


BARE = {"device": "cpu", "workers": 1}


@pytest.mark.parametrize("settings", [
    {"epochs": 1, "size": 8}, {"recipe": "byol-cpu", "epochs": 1, "size": 8}, {"budget": "1m"},
])  # fmt: skip
def test_network_is_that_of_the_weights_where_none_is_given(run, capsys, settings):
    coview.pretrain(pictures(), weights=run.path, dry_run=True, **settings, **BARE)
    said = capsys.readouterr().out
    assert "ResNet-18 width 1/8, small stem at" in said
    assert "px: that of the weights" in said


@pytest.mark.parametrize("settings", [
    {"encoder": "resnet18"}, {"set": ["encoder.width=0.25"]}, {"recipe": recipe("simclr-cpu")},
])  # fmt: skip
def test_weights_of_another_network_are_refused_before_images_are_opened(
    run, monkeypatch, settings
):
    monkeypatch.setattr("coview.runs.pretrain.start_run", lambda *_: pytest.fail("was begun"))
    with pytest.raises(InvalidValue, match=r"holds ResNet-18 width 1/8, small stem, which does"):
        coview.pretrain(pictures(), weights=run.path, **settings, **BARE)


@pytest.mark.parametrize(
    ("name", "settings", "kind", "words"),
    [
        ("runx", {}, RunError, r"Did you mean .*run\?"),
        ("absent.safetensors", {}, InvalidValue, "There is no file"),
        ("net.pth", {}, InvalidValue, r"`coview import .*net\.pth` makes"),
        ("net.safetensors", {"encoder": "resnet18"}, InvalidValue, "differently shaped: conv1"),
        ("net.safetensors", {"recipe": "simclr-cpu"}, InvalidValue, "do not fit ResNet-10"),
        ("net.safetensors", {"recipe": recipe("simclr-cpu")}, InvalidValue, "do not fit ResNet-10"),
        ("cut.safetensors", {"encoder": "resnet18"}, DamagedFile, "not a readable safetensors"),
    ],
)
def test_wrong_weights_are_refused_before_images_are_opened(
    run, tmp_path, monkeypatch, name, settings, kind, words
):
    monkeypatch.setattr("coview.runs.pretrain.start_run", lambda *_: pytest.fail("was begun"))
    weights = (run.path / "encoder" / "model.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(weights)
    (tmp_path / "cut.safetensors").write_bytes(weights[:1000])
    (tmp_path / "net.pth").touch()
    (tmp_path / "run").symlink_to(run.path)
    with pytest.raises(kind, match=words):
        coview.pretrain(pictures(), weights=tmp_path / name, **settings, **BARE)


def test_weights_of_a_file_that_fit_are_taken(run, monkeypatch):
    begun = []
    monkeypatch.setattr("coview.runs.pretrain.start_run", lambda *_: begun.append(1))
    weights = run.path / "encoder" / "model.safetensors"
    for settings in ({"encoder": "resnet18/8-small"}, {}, {"budget": "1m"}):
        coview.pretrain(pictures(), weights=weights, **settings, **BARE)
    assert len(begun) == 3


def test_the_seed_leaves_the_recipe_alone(monkeypatch):
    chosen = []

    def stop(planner, fitted, *_, **__):
        chosen.append((planner.images, replace(fitted, seed=0)))
        raise KeyboardInterrupt

    monkeypatch.setattr("coview.planning.planner.Planner.plan", stop)
    for seed in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            coview.pretrain("scenes", recipe="moco", limit=7000, size=8, seed=seed, **BARE)
    (one, recipe_of_one), (other, recipe_of_other) = chosen
    assert one // 10 != other // 10
    assert recipe_of_one == recipe_of_other
    assert recipe_of_one.method.memory.length == 6860 // 10
    assert recipe_of_one.epochs == round(1_000_000 / 6860)


def test_size_is_that_of_weights_with_one_size(monkeypatch, tmp_path):
    network = coview.encoders.EncoderSpec(kind="torchvision", name="vit_b_32", image_size=64)
    options = PretrainOptions(data="scenes", weights=tmp_path)
    assert with_network(options, network).size == 64
    assert with_network(replace(options, size=32), network).size == 32


def test_held_out_images_that_the_weights_were_trained_on_are_counted(run, tmp_path, capsys):
    again = coview.pretrain(
        pictures(), out=tmp_path / "x", epochs=1, weights=run.path, **SMALL, seed=1
    )
    (sentence,) = again.description["caveats"]
    assert sentence == (
        "The run before was trained on 32 of the 40 held-out images, without their labels: new "
        "images may give lower figures."
    )
    assert sentence in capsys.readouterr().out
    assert sentence in again.report_path.read_text()


def test_held_out_images_with_copies_in_training_are_counted(tmp_path, capsys):
    images = pictures()[0]
    again = np.concatenate([images, images[:40]])
    run = coview.pretrain(again, out=tmp_path / "x", epochs=1, **SMALL)
    (sentence,) = run.description["caveats"]
    assert re.match(r"The training part has \d+ held-out images too, with equal pixels", sentence)
    assert sentence in capsys.readouterr().out
    assert sentence in run.report_path.read_text()


NORMALIZED = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_a_recipe_as_a_value_is_told_how_the_weights_want_images(tmp_path, capsys):
    export_encoder(resnet(18, width=0.125, stem="small"), tmp_path, image_size=8, **NORMALIZED)
    value = change(recipe("simclr-cpu"), encoder="resnet18/8-small", size=8, epochs=1)
    said = {}
    for name, given in (("value", value), ("fits", with_normalization(value, **NORMALIZED))):
        coview.pretrain(
            pictures(), recipe=given, weights=tmp_path, batch_size=32, dry_run=True, **BARE
        )
        said[name] = capsys.readouterr().out
    words = "images normalized with mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225"
    assert f"The first weights expect {words}, and the recipe has them in [0, 1]" in said["value"]
    assert "first weights expect" not in said["fits"]


def test_a_dry_run_plans_and_writes_nothing(tmp_path, capsys):
    assert coview.pretrain(pictures(), out=tmp_path / "x", dry_run=True, **SMALL) is None
    assert not (tmp_path / "x").exists()
    assert "views/s measured here" in capsys.readouterr().out


@pytest.mark.parametrize("labels", ["auto", "none", "folders"])
def test_sub_folders_that_look_like_classes_are_named(tmp_path, capsys, labels):
    for row, image in enumerate(pictures(96)[0]):
        place = tmp_path / "photos" / "ab"[row % 2] / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    words = ["pretrain", str(tmp_path / "photos"), "--labels-from", labels, "--dry-run"]
    main([*words, "--device", "cpu", "--size", "8", "--encoder", "resnet10/8-small"])
    said = "look like classes: --labels-from folders shows kNN accuracy" in capsys.readouterr().out
    assert said == (labels == "auto")


def test_shards_are_no_sub_folders():
    names = [f"{number:03}.tar#data/{row}.jpg" for number in range(3) for row in range(30)]
    store = SimpleNamespace(labels=None, names=names, parts=())
    assert about_folders(store, DataSpec.of(str(Path(__file__).parent), size=8)) == ()


def test_a_budget_chooses_epochs_that_fit(tmp_path, capsys):
    coview.pretrain(pictures(), out=tmp_path / "x", dry_run=True, budget="30s", **SMALL)
    assert "epochs" in capsys.readouterr().out


def test_the_command_line_does_the_same(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pictures(60)[0]):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    words = [
        "pretrain", str(folder), "--out", str(tmp_path / "run"), "--size", "8", "--epochs", "1",
        "--encoder", "resnet18/8-small", "--batch", "16", "--allow-broken",
    ]  # fmt: skip
    assert main(words) == 0
    assert "could not be used and is left out: broken.png" in capsys.readouterr().out
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["data"]["quarantined"] == 1
    assert "broken.png" in (tmp_path / "run" / "quarantine.jsonl").read_text()
    assert main(["doctor", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert main(["views", str(folder), "--out", str(tmp_path / "v.png"), "--images", "2"]) == 0
    assert main(["export", str(tmp_path / "run"), "--to", "safetensors"]) == 0
    assert main(["embed", str(tmp_path / "run"), str(folder), "--allow-broken"]) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pretrian", "x"], "pretrain"),
        (["pretrain", "x", "--learning-rate", "abc"], "expected a number"),
        (["pretrain", "no-such-folder"], "no"),
        (["evaluate", "no-such-run", "scenes"], "no run folder"),
        (["recipes", "simclr-cpo"], "simclr-cpu"),
    ],
)
def test_the_command_line_answers_a_mistake_with_one_line_and_2(words, expected, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert "\n" not in said


def test_the_seed_of_a_recipe_is_that_of_plan_and_training(tmp_path):
    own = replace(
        change(recipe("simclr-cpu"), **{k: SMALL[k] for k in ("size", "encoder")}), seed=5
    )
    images = pictures(400)[0]
    run = coview.pretrain(
        images, recipe=own, out=tmp_path / "run", epochs=1, batch_size=8, device="cpu", workers=0
    )
    store = open_images(images)
    trained = len(hold_out(store, 5)[0])
    assert trained != len(hold_out(store, 0)[0])
    assert run.description["total_steps"] == trained // 8
    assert max(row["step"] for row in run.metrics()) == trained // 8


def test_workers_are_the_threads_that_decode_as_well(monkeypatch, tmp_path):
    from coview.data import store

    used = []
    decode_all = store.decode_all
    monkeypatch.setattr(
        store, "decode_all", lambda *args: used.append(args[3]) or decode_all(*args)
    )
    coview.pretrain(pictures(), dry_run=True, **{**SMALL, "workers": 3})
    assert used == [3]
