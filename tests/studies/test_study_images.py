"""Images that were replaced under their name are found, in whatever file of the runs they show."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coview
from coview.core.errors import RunError
from coview.data.spec import DataSpec
from coview.options import StudyOptions
from coview.studies import STUDIES, Cell, Grid, Setting
from coview.studies.execution import run_study
from coview.studies.images import check_images

TRAIN, OTHER, TEST = "aa", "bb", "tt"
GIVEN = "train and test parts as given"
SPLIT = "0.2 of the labeled images are the test part, chosen by seed and id"
SETTINGS = (("data", "photos"), ("limit", 48))


def pretrained(seed=0, **changes):
    judged = (*SETTINGS, ("test", "held-out"))
    settings = (*SETTINGS, ("labels_from", "none"), ("seed", seed))
    return Cell(name="x", verb="pretrain", settings=settings, protocols=("linear",),
                judged=judged, **changes)  # fmt: skip


def tuned(start, draw=0):
    settings = (*SETTINGS, ("label_draw", draw), ("start", start), ("test", "held-out"))
    return Cell(name="x", verb="finetune", settings=settings)


def end(cell, root, run, judged=None):
    """The files of an ended run: ``run`` is "data" of run.json, ``judged`` that of a result."""
    folder = cell.folder(root)
    for name in ("evaluation", "encoder"):
        (folder / name).mkdir(parents=True)
    contents = {"run": {"data": run}, "verdict": {"label": "x"}}
    if judged:
        contents["evaluation/linear"] = judged
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def opened(fingerprint, labels_from="none", unlabeled=None):
    data = {"fingerprint": fingerprint, "opened": {"images": {"labels_from": labels_from}}}
    return data if unlabeled is None else {**data, "unlabeled_fingerprint": unlabeled}


def result(train="labeled", test=TEST, unlabeled=None, split=GIVEN, seed=0, **card):
    data = {"train": {"fingerprint": train}, "test": {"fingerprint": test}}
    if unlabeled is not None:
        data["unlabeled_fingerprint"] = unlabeled
    return {"data": data, "card": {"split": split, "seed": seed, **card}, "results": []}


def test_runs_that_were_made_from_other_images_are_refused(tmp_path):
    cells = [tuned(pretrained(), draw) for draw in (0, 1)]
    for cell, images in zip(cells, ("abc", "def"), strict=True):
        end(cell, tmp_path, opened(images, "auto"))
    check_images(cells[:1], tmp_path)
    with pytest.raises(RunError, match=r"The images of finetune-\w+/run.json and .* are different"):
        check_images(cells, tmp_path)


def test_test_images_that_were_replaced_between_two_runs_are_found(tmp_path):
    cells = [pretrained(seed) for seed in (0, 1)]
    for cell, test in zip(cells, (TEST, "replaced"), strict=True):
        end(cell, tmp_path, opened(TRAIN), result(test=test))
    with pytest.raises(RunError, match=r"images that are judged on of .*/evaluation/linear.json"):
        check_images(cells, tmp_path)


def test_a_source_that_got_test_images_between_two_runs_is_found(tmp_path):
    """As the data sets of torchvision did: half of the runs are judged on a part of the images."""
    cells = [pretrained(seed) for seed in (0, 1)]
    for seed, (cell, split) in enumerate(zip(cells, (SPLIT, GIVEN), strict=True)):
        end(cell, tmp_path, opened(TRAIN), result(split=split, seed=seed))
    with pytest.raises(RunError, match=r"images that are judged on of .*/evaluation/linear.json"):
        check_images(cells, tmp_path)


def test_a_result_on_other_images_in_the_folder_of_the_only_run_is_found(tmp_path):
    cell = pretrained()
    end(cell, tmp_path, opened(TRAIN), result(unlabeled=f"{OTHER}+{TEST}"))
    with pytest.raises(RunError, match=r"training images of .*/run.json and .*/linear.json"):
        check_images([cell], tmp_path)


@pytest.mark.parametrize("recorded", [TRAIN, None], ids=["recorded", "of before"])
def test_a_pretraining_of_before_its_images_were_replaced_is_found(tmp_path, recorded):
    start = pretrained()
    end(start, tmp_path, opened(TRAIN, unlabeled=recorded), result())
    after = tuned(start)
    end(after, tmp_path, opened("x+y", "auto", f"{OTHER}+{TEST}"))
    with pytest.raises(RunError, match="training images"):
        check_images([start, after], tmp_path)


def test_test_images_of_a_fine_tuning_are_those_that_pretrainings_are_judged_on(tmp_path):
    start = pretrained()
    end(start, tmp_path, opened(TRAIN), result(unlabeled=f"{TRAIN}+{TEST}"))
    after = tuned(start)
    end(after, tmp_path, opened("x+y", "auto", f"{TRAIN}+replaced"))
    with pytest.raises(RunError, match="The test images of"):
        check_images([start, after], tmp_path)


def test_equal_images_are_fine_with_and_without_labels_and_with_a_test_part_by_the_seed(tmp_path):
    start, other = pretrained(), pretrained(1)
    for seed, cell in enumerate((start, other)):
        fifth = result(train=f"t{seed}", test=f"u{seed}", unlabeled=TRAIN, split=SPLIT, seed=seed)
        end(cell, tmp_path, opened(TRAIN), fifth)
    after = tuned(start)
    end(after, tmp_path, opened("labeled", "auto", TRAIN))
    elsewhere = replace(after, settings=(("data", "boxes"), ("start", start)), verb="detect")
    end(elsewhere, tmp_path, opened("boxes", "none", OTHER))
    check_images([start, other, after, elsewhere], tmp_path)


def test_outliers_that_were_replaced_under_their_name_are_found(tmp_path):
    cells = [pretrained(seed, more=(("outliers", "birds"),)) for seed in (0, 1)]
    for cell, images in zip(cells, ("b0", "b1"), strict=True):
        outliers = {"birds": {"fingerprint": images}}
        end(cell, tmp_path, opened(TRAIN), result(outliers=outliers))
    with pytest.raises(RunError, match="The further images of"):
        check_images(cells, tmp_path)


def test_images_that_were_replaced_cost_no_further_run(tmp_path, monkeypatch):
    """They are compared before anything is trained."""
    cells = [pretrained(seed) for seed in (0, 1, 2)]
    for cell, images in zip(cells, ("aa", "bb"), strict=False):
        end(cell, tmp_path, opened(images), result())
    setting = Setting.of(StudyOptions(name="x", data="scenes", scale="tiny"))
    study = replace(Grid(arms=(), claims=()).study("mine", "?", setting), cells=tuple(cells))
    monkeypatch.setattr(Cell, "train", lambda *_: pytest.fail("a run was trained"))
    with pytest.raises(RunError, match="are different"):
        run_study(study, tmp_path, {"device": "cpu"})


def test_the_seed_chooses_the_test_part_of_a_transfer_set(tmp_path):
    """Of real runs: other parts for other seeds are no other images."""
    options = StudyOptions(name="simclr/transfer", data="scenes", scale="tiny", limit=48, seeds=2,
                           transfer=("scenes",), cache=Path("none"))  # fmt: skip
    study = STUDIES["simclr/transfer"].study(options)
    content = run_study(study, tmp_path, {"device": "cpu"})
    assert content["ended"]
    cards = [
        json.loads((cell.run(tmp_path).evaluation_path / "transfer.json").read_text())["card"]
        for cell in study.cells
    ]
    assert {card["seed"] for card in cards} == {0, 1}
    assert len({repr(card["data sets"]) for card in cards}) == 2


def pictures(folder, seed):
    random = np.random.default_rng(seed)
    for number in range(40):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(place)


def test_files_hold_the_fingerprints_without_labels(tmp_path):
    """Of real runs: the same from `pretrain` without labels and `evaluate` with them."""
    pictures(tmp_path / "photos", 0)
    pictures(tmp_path / "held-out", 1)
    options = StudyOptions(name="x", data=tmp_path / "photos", test=tmp_path / "held-out",
                           scale="tiny", cache=Path("none"))  # fmt: skip
    setting = Setting.of(options)
    cell = setting.pretrain("x", setting.recipe("simclr"), 0, protocols=("knn",))
    run = cell.train(tmp_path, {"device": "cpu"})
    store = DataSpec.of(tmp_path / "photos", needs_labels=True).open()
    recorded = run.description["data"]["unlabeled_fingerprint"]
    assert recorded == store.unlabeled_fingerprint != store.fingerprint
    (knn,) = run.evaluations
    assert knn["data"]["unlabeled_fingerprint"].partition("+")[0] == recorded
    check_images([cell], tmp_path)
    pictures(tmp_path / "other", 2)
    coview.evaluate(run.path, tmp_path / "other", test=tmp_path / "held-out", protocols="knn")
    with pytest.raises(RunError, match="delete it, and the same command judges again"):
        check_images([cell], tmp_path)
