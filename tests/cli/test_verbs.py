"""The command line as a user types it: one tiny run of a folder, then every verb on it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

import coview
from coview.cli import main
from coview.cli.main import VERBS
from coview.core.files import append_line
from coview.core.run_folder import RunFolder
from coview.encoders.exchange.weights import write_tensors

SMALL = ("--size", "8", "--encoder", "resnet18/8-small", "--batch", "32", "--device", "cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 PNG files in three class folders that differ by the brightest corner; two are broken."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for i in range(150):
        pixels = generator.integers(0, 200, (3, 3, 3), dtype=np.uint8)
        pixels[i % 3, i % 3] = 255
        path = folder / "abc"[i % 3] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.repeat(4, axis=0).repeat(4, axis=1)).save(path)
    (folder / "a" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "photos"
    assert main(["pretrain", str(photos), "--out", str(out), "--epochs", "2", *SMALL]) == 0
    return out


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "photos"))


def test_pretrain_ends_in_a_report_that_names_the_broken_file(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "empty.png" in page
    assert "Too early" in page


def test_evaluate_prints_every_setting_and_writes_one_file_a_protocol(
    copy: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(copy), str(photos)]) == 0
    text = capsys.readouterr().out
    assert "Figures on 30 test images" in text
    assert "knn on h" in text
    assert "plain vote" in text
    assert "linear on z" in text
    assert "learning rate" in text
    assert text.splitlines()[-1] == f"Results: {copy / 'evaluation'}"
    for protocol in ("knn", "linear"):
        found = json.loads((copy / "evaluation" / f"{protocol}.json").read_text())
        assert found["card"]
        assert found["data"]["train"]["fingerprint"] != found["data"]["test"]["fingerprint"]
        assert found["data"]["images_in_both_parts"] == 0
        assert {row["subject"] for row in found["results"]} == {"trained", "untrained", "pixels"}
        for row in found["results"]:
            assert 0 <= row["interval"][0] <= row["value"] <= row["interval"][1] <= 1
    assert "plain vote" in (copy / "report.html").read_text()


def test_evaluate_takes_a_test_part_and_one_protocol(copy: Path, photos: Path) -> None:
    words = [str(photos), "--test", str(photos), "--protocols", "knn"]
    assert main(["evaluate", str(copy), *words]) == 0
    found = json.loads((copy / "evaluation" / "knn.json").read_text())
    pixels = [row for row in found["results"] if row["subject"] == "pixels"]
    by_k = {row["setting"]["k"]: row["value"] for row in pixels}
    assert by_k[1] == 1.0  # each image is its own neighbor
    assert found["data"]["images_in_both_parts"] == 150
    assert not (copy / "evaluation" / "linear.json").exists()


def test_embed_writes_parquet_with_names_and_vectors(copy: Path, photos: Path) -> None:
    assert main(["embed", str(copy), str(photos), "--layers", "h,z"]) == 0
    table = pq.read_table(copy / "embeddings" / "photos.parquet")
    assert table.column_names == [
        "id", "name", "path", "label", "class", "width", "height", "pixel_hash", "file_hash", "h",
        "z",
    ]  # fmt: skip
    assert table.num_rows == 150
    assert len(set(table["name"].to_pylist())) == 150


def test_embeddings_of_two_folders_of_one_name_are_two_files(copy: Path, photos: Path) -> None:
    other = copy.parent / "photos"
    shutil.copytree(photos / "a", copy.parent / "others" / "photos")
    for data in (photos, copy.parent / "others" / "photos", photos):
        assert main(["embed", str(copy), str(data)]) == 0
    tables = {pq.read_metadata(path).num_rows for path in (copy / "embeddings").iterdir()}
    assert other == copy
    assert tables == {150, 50}


def test_embed_and_evaluate_name_the_files_that_they_left_out(
    copy: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["embed"], ["evaluate", "--protocols", "knn"]):
        assert main([words[0], str(copy), str(photos), *words[1:]]) == 0
        assert (
            "could not be used and is left out: a/empty.png (empty file)" in capsys.readouterr().out
        )
    result = json.loads((copy / "evaluation" / "knn.json").read_text())
    assert result["data"]["train"]["left_out"] == [["a/empty.png", "empty file"]]
    metadata = pq.read_schema(copy / "embeddings" / "photos.parquet").metadata
    assert json.loads(metadata[b"coview.left_out"]) == [["a/empty.png", "empty file"]]


def test_evaluation_on_the_images_of_the_run_says_so(copy: Path, photos: Path) -> None:
    for words, trained in (([], "of the 30 test images"), (["--test", str(photos)], "of the 150")):
        assert main(["evaluate", str(copy), str(photos), "--protocols", "knn", *words]) == 0
        caveats = json.loads((copy / "evaluation" / "knn.json").read_text())["data"]["caveats"]
        assert any("The run was trained on" in text and trained in text for text in caveats)
        assert any("equal pixels" in text for text in caveats) == bool(words)
    assert "equal pixels" in (copy / "report.html").read_text()


def test_export_gives_the_tensors_of_the_encoder(copy: Path) -> None:
    assert main(["export", str(copy)]) == 0
    exported = safetensors.torch.load_file(copy / "exports" / "safetensors.safetensors")
    kept = safetensors.torch.load_file(copy / "encoder" / "model.safetensors")
    assert exported.keys() == kept.keys()
    assert all(torch.equal(exported[name], kept[name]) for name in kept)


def test_export_refuses_a_library_without_this_network(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "encoder.safetensors"
    assert main(["export", str(run), "--to", "torchvision", "--out", str(target)]) == 2
    assert "torchvision has no ResNet-18 width 1/8" in capsys.readouterr().err
    assert not target.parent.exists()


def test_report_is_written_again(run: Path, copy: Path) -> None:
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    again = (copy / "report.html").read_text()
    # Its commands name the folder, which is another one now.
    assert again.replace(str(copy.resolve()), "RUN") == before.replace(str(run.resolve()), "RUN")
    assert "RUN" in again.replace(str(copy.resolve()), "RUN")


def test_doctor_judges_the_run_and_the_images(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(run)]) == 0
    assert "untrained" in capsys.readouterr().out
    assert main(["doctor", str(photos)]) in (0, 1)
    assert "empty.png" in capsys.readouterr().out


def test_what_doctor_prints_for_a_program_is_json_also_where_a_network_diverged(
    copy: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    health = RunFolder(copy).metrics("health")[-1]
    figures = {**health["figures"], "loss": None, "feature_std_z": None}
    append_line(copy / "metrics.jsonl", {**health, "figures": figures})
    main(["doctor", str(copy), "--json"])
    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["figures"]["feature_std_z"]["now"] is None
    assert report["figures"]["feature_std_z"]["before"] > 0
    main(["doctor", str(photos), "--json"])
    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["broken"][0]["name"].endswith("empty.png")


def test_a_result_for_a_program_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"rows": [(0.5, float("nan"))], "path": Path("runs")}
    verb = dataclasses.replace(VERBS["cache"], main=lambda options: (0, result))
    monkeypatch.setitem(VERBS, "cache", verb)
    assert main(["cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": [[0.5, None]], "path": "runs"}


def test_views_writes_a_picture(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheets" / "views.png"
    assert main(["views", str(photos), "--out", str(out), "--images", "3"]) == 0
    with Image.open(out) as picture:
        assert picture.width > 100


def test_views_leaves_out_the_broken_however_many_they_are(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    shutil.copytree(photos / "a", folder, ignore=lambda _, names: sorted(names)[3:-1])
    assert sorted(path.name for path in folder.iterdir())[-1] == "empty.png"
    assert main(["views", str(folder), "--out", str(tmp_path / "views.png")]) == 0


def test_cache_lists_and_deletes_decoded_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from coview.data import open_images

    open_images(photos, memory_share=0, cache=tmp_path, allow_broken=True)
    for words in (
        ["cache", "--cache", str(tmp_path)],
        ["cache", "--clear", "--cache", str(tmp_path)],
    ):
        assert main(words) == 0
        assert f"{photos}: decoded images" in capsys.readouterr().out
    assert main(["cache", "--cache", str(tmp_path)]) == 0
    assert "0 MiB of decoded images and features in" in capsys.readouterr().out


def test_cache_has_a_line_for_each_source_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def features(place: int, description: str) -> None:
        path = tmp_path / "features" / f"{place:032x}.safetensors"
        write_tensors(path, {"features": torch.zeros(3)}, {"description": description})

    for place, layer in enumerate(("h", "z", "z1")):
        features(place, f"{layer} of trained, 60 images of /photos")
        features(10 + place, f"{layer} of a run of images, 1 image of /other")
    assert main(["cache", "--cache", str(tmp_path)]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert sorted(line.split("  ")[-1] for line in lines) == [
        "/other: 3 files of features", "/photos: 3 files of features",
    ]  # fmt: skip
    assert "MiB of decoded images and features in" in total
    assert main(["cache", "--cache", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["stores"]) == 6


def test_views_of_a_run_are_those_that_it_has_seen(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["pretrain", str(photos), "--out", str(run), "--epochs", "1", *SMALL]
    assert main([*words, "--jitter-strength", "0.1"]) == 0
    sheets = []
    for recipe in ([], ["--recipe", str(run)], ["--recipe", str(run)]):
        out = tmp_path / f"{len(sheets)}.png"
        assert main(["views", str(photos), "--out", str(out), "--images", "2", *recipe]) == 0
        sheets.append(out.read_bytes())
    assert sheets[1] == sheets[2] != sheets[0]


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    assert "simclr-cpu" in capsys.readouterr().out
    assert main(["recipes", "simclr-cpu"]) == 0
    assert '"temperature"' in capsys.readouterr().out


def test_recipes_of_a_method_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "simclr"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert title == "simclr"
    assert {"simclr-cpu", "logo-simclr-cpu", "multi-crop-simclr-cpu"} < set(names)
    assert not any("v2" in name or "moco" in name for name in names)
    assert main(["recipes", "simcrl"]) == 2
    assert "'simclr'" in capsys.readouterr().err


def test_a_run_is_trained_again_by_its_recipe(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", str(photos), "--recipe", str(run), "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "again")]) == 0
    again, before = (coview.Run.open(path) for path in (tmp_path / "again", run))
    assert again.description["hash"] == before.description["hash"]
    assert [row["loss"] for row in again.metrics("step")] == [
        row["loss"] for row in before.metrics("step")
    ]
    assert main([*words, str(tmp_path / "set"), "--set", "seed=5", "--epochs", "1"]) == 0
    changed = coview.Run.open(tmp_path / "set").recipe
    assert (changed.seed, changed.epochs, changed.batch_size) == (5, 1, before.recipe.batch_size)
    assert main([*words, str(tmp_path / "budget"), "--budget", "30m"]) == 2
    assert "--budget does not go with it" in capsys.readouterr().err


def test_json_on_the_standard_output_and_everything_else_on_the_other(
    copy: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(copy), str(photos), "--protocols", "knn", "--json"]) == 0
    text = capsys.readouterr()
    assert {row["protocol"] for row in json.loads(text.out)["results"]} == {"knn"}
    assert "knn on h" in text.err
    for words in (["report", str(copy)], ["doctor", str(copy)], ["recipes"], ["export", str(copy)]):
        assert main([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


def test_a_verb_that_prints_its_result_prints_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "simclr-cpu", "--json"]) == 0
    text = capsys.readouterr()
    assert json.loads(text.out)["name"] == "simclr-cpu"
    assert text.err == ""


def test_settings_that_fit_no_images_are_refused_before_images_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("images are opened")

    monkeypatch.setattr("coview.runs.data.RunData.open", opened)
    for words in (
        ["--encoder", "resnet1818"],
        ["--size", "0"],
        ["--recipe", "byol-cpu", "--temperature", "1"],
    ):
        assert main(["pretrain", str(tmp_path), *words]) == 2
        assert "images are opened" not in capsys.readouterr().err


def test_quiet_pretraining_prints_the_end_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quiet"
    words = ["pretrain", str(photos), "--out", str(out), "--epochs", "1", *SMALL, "--quiet"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "could not be used" in text  # a warning
    assert "Report:" in text
    assert "held out to judge" not in text
    log = (out / "log.txt").read_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", log)  # the command, with its time
    assert "held out to judge" in log
    assert "Report:" in log


def test_python_does_what_the_command_does(copy: Path, photos: Path) -> None:
    results = coview.evaluate(copy, photos, protocols=["knn"])
    assert {result.protocol for result in results} == {"knn"}
    encoder = coview.load(copy)
    assert encoder(torch.rand(2, 3, 8, 8)).shape == (2, encoder.features)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    assert f"coview {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pretrian", "x"], "Did you mean 'pretrain'?"),
        (["pretrain", "PHOTOS", "--recipe", "simcrl"], "Did you mean 'simclr'?"),
        (["pretrain", "scnes"], "Did you mean 'scenes'?"),
        (["pretrain", "PHOTOS", "--bacth", "9"], "Did you mean '--batch'?"),
        (["pretrain", "PHOTOS", "--optimizer", "adamv"], "Did you mean 'adamw'?"),
        (["pretrain", "PHOTOS", "--learning-rate", "abc"], "--learning-rate was given 'abc'"),
        (["pretrain", "PHOTOS", "--epochs", "0"], "--epochs is 0"),
        (["pretrain", "PHOTOS", "--batch", "4096"], "--batch-size 4,096 does not fit"),
        (["pretrain", "PHOTOS", "--workers", "-1"], "--workers is -1"),
        (["pretrain", "PHOTOS", "--out", "RUN"], "exists already"),
        (["evaluate", "RUN", "PHOTOS", "--protocols", "kmn"], "Did you mean 'knn'?"),
        (["evaluate", "RUN"], "DATA"),
        (["evaluate", "RUNN", "PHOTOS"], "Did you mean"),
        (["embed", "RUN", "PHOTOS", "--layers", "q"], "There is no layer 'q'"),
        (["export", "RUN", "--to", "torchvison"], "Did you mean 'torchvision'?"),
        (["report", "RUNN"], "Did you mean"),
        (["doctor", "RUNN"], "RUNN"),
        (["recipes", "simclr-cpx"], "Did you mean 'simclr-cpu'?"),
        (["views", "PHOTOS", "--images", "0"], "--images is 0"),
        (["views", "PHOTOS", "--out", "views.gif"], "--out is views.gif"),
        (["views", "PHOTOS", "--out", ""], "''"),
        (["embed", "RUN", "PHOTOS", "--out", "."], "--out is ., which is a folder"),
        (["embed", "RUN", "PHOTOS", "--out", "vectors.json"], "ends in .parquet or .npy"),
        (["embed", "RUN", "PHOTOS", "--out", "x.npy", "--format", "csv"], "whose ending means npy"),
        (["embed", "RUN", "PHOTOS", "--format", "cvs"], "Did you mean 'csv'?"),
        (["export", "RUN", "--out", "encoder"], "--out is encoder, which is no file"),
        (["export", "RUN", "--out", "encoder.onnx"], "ends in .safetensors"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    words: list[str], sentence: str, run: Path, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = {"PHOTOS": str(photos), "RUN": str(run), "RUNN": f"{run}x"}
    words = [names.get(word, word) for word in words]
    sentence = names.get(sentence, sentence)
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"coview {words[0]}: ")
    assert sentence in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []
