"""Where data and runs are: the home folder, a run inside its data, other images in their place."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import DamagedFile, RunError
from coview.data import open_images
from coview.data.spec import DataSpec, name_of
from coview.runs.data import RunData
from coview.runs.find import find
from coview.runs.run import Run
from coview.runs.start import new_folder
from coview.training import StopSignals

WORDS = [
    "--size", "8", "--encoder", "resnet18/8-small", "--batch", "16", "--epochs", "1",
    "--device", "cpu",
]  # fmt: skip


def write_photos(folder, seed=0, count=40):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng((seed, number)).integers(0, 255, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, with photos; the working folder is another."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_photos(tmp_path / "home" / "photos")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def stop(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignals, "__call__", lambda self: "stopped by the test")
        assert main(words) == 75


def test_a_tilde_that_no_shell_has_seen_is_the_home_folder(home, tmp_path):
    stop(["pretrain", "~/photos", "--out=~/run", *WORDS])
    assert main(["resume", "~/run"]) == 0
    assert main(["embed", "~/run", "~/photos/*.png", "--out=~/vectors.parquet"]) == 0
    assert main(["report", "~/run"]) == 0
    assert coview.load("~/run").features
    assert coview.find("~/r*")[0]["path"] == str(home / "run")
    assert sorted(path.name for path in home.iterdir()) == ["photos", "run", "vectors.parquet"]
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_inside_its_data_goes_on_and_is_no_data(home, monkeypatch, capsys):
    photos = home / "photos"
    monkeypatch.chdir(photos)
    assert main(["views", ".", "--images", "2"]) == 0  # leaves views.png among the photos
    stop(["pretrain", ".", "--out", "runs/photos", *WORDS])
    began = Run.open("runs/photos").description["data"]
    assert main(["resume", "runs/photos"]) == 0
    assert main(["embed", "runs/photos", "."]) == 0
    assert main(["embed", "runs/photos", ".", "--out", "vectors.parquet"]) == 0
    capsys.readouterr()
    assert main(["pretrain", ".", "--dry-run", *WORDS]) == 0
    said = capsys.readouterr().out
    assert "Passed over 1 folder (runs/photos) of Coview's runs." in said
    assert (
        "Passed over 1 Parquet file (vectors.parquet) of vectors or without a column of images."
        in said
    )
    store = coview.data.open_images(".", short_side=256)
    assert store.fingerprint == began["fingerprint"]
    assert store.quarantine == (("views.png", "a contact sheet that Coview has drawn"),)


def test_other_pictures_under_the_same_names_are_refused(home, capsys):
    stop(["pretrain", "~/photos", "--out", "run", *WORDS])
    write_photos(home / "photos", seed=1)
    assert main(["resume", "run"]) == 2
    assert "have changed since the run began" in capsys.readouterr().err


def test_a_changed_description_is_refused(home):
    stop(["pretrain", "~/photos", "--out", "run", *WORDS])
    path = Run.open("run").description_path
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(DamagedFile, match="damaged or edited"):
        coview.resume("run")


def test_an_unreadable_run_is_not_a_missing_one(home):
    home.joinpath("loop").symlink_to("loop")
    for call in (coview.load, coview.resume, coview.export):
        with pytest.raises(RunError, match="Too many levels of symbolic links"):
            call("~/loop")


def test_the_test_part_of_the_data_is_tested_on(home, capsys):
    for part, seed in (("train", 0), ("Validation", 1)):
        for label in ("cat", "dog"):
            write_photos(home / "parts" / part / label, seed=seed, count=20)
    stop(["pretrain", "~/parts", "--labels-from", "folders", "--out", "run", *WORDS])
    assert "reading train, 40 of 80 images" in capsys.readouterr().out
    assert main(["evaluate", "run", "~/parts", "--protocols", "knn"]) == 0
    data = json.loads(Run.open("run").evaluation_path.joinpath("knn.json").read_text())["data"]
    assert (data["train"]["images"], data["test"]["images"]) == (40, 40)


def test_places_that_may_not_be_looked_at_are_one_sentence(home, monkeypatch, capsys):
    whole = Path.stat

    def stat(path, **options):
        if "locked" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    locked = str(home / "locked" / "x")
    for words in (
        ["pretrain", locked], ["pretrain", "scenes", "--out", locked],
        ["pretrain", "scenes", "--limit", "100", "--size", "8", "--weights", locked, "--dry-run"],
        ["pretrain", "scenes", "--recipe", locked], ["finetune", locked, "scenes"],
        ["resume", locked], ["evaluate", locked, "scenes"], ["embed", locked, "scenes"],
        ["report", locked], ["export", locked], ["doctor", locked], ["views", locked],
        ["views", "cifar10", "--root", locked],
    ):  # fmt: skip
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert "Permission denied" in error
        assert error.count("\n") == 1


def test_fine_tuning_keeps_the_test_part_of_moved_data(home):
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            write_photos(home / "parts" / part / label, count=4)
    spec = DataSpec.of(str(home / "parts"), needs_labels=True)
    data = RunData.from_json(RunData(images=spec, own_test=True).to_json())
    home.joinpath("parts").rename(home / "moved")
    images = data.open(str(home / "moved"))
    assert (len(images.images), len(images.test), images.test.labels.tolist()) == (
        8,
        8,
        [0] * 4 + [1] * 4,
    )
    assert RunData(images=spec).open(str(home / "moved")).test is None


def test_names_are_those_that_were_typed(tmp_path, monkeypatch, capsys):
    write_photos(tmp_path / "data" / "photos" / "train")
    (tmp_path / "photos").symlink_to(tmp_path / "data" / "photos" / "train")
    monkeypatch.chdir(tmp_path)
    assert name_of("photos/") == name_of("photos/*.png") == "photos"
    assert main(["pretrain", "photos/", "--dry-run", *WORDS]) == 0
    assert capsys.readouterr().out.startswith("Run: runs/photos\n")
    monkeypatch.chdir(tmp_path / "data" / "photos" / "train")
    assert (name_of("."), name_of(".."), name_of("../*.png")) == ("train", "photos", "photos")


@pytest.mark.parametrize("name", ["photos", "photos [2024]"])
def test_a_folder_and_a_run_may_have_brackets_in_their_names(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (8, 8)).save("x.png")
    assert open_images("*.png").names == ["x.png"]
    assert name_of("*.png") == name
    assert new_folder("runs/x[1]") == Path("runs/x[1]")
    assert new_folder("runs/x") == Path("runs/x")
    assert find("*") == []
