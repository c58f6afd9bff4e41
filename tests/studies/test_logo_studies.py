"""LoGo's studies: their recipes, curves over epochs, and gains on two kinds of scenes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from coview.methods import FixedWeight, GradientRatio
from coview.methods.affinity import CosineAffinity, Critic
from coview.options import StudyOptions
from coview.studies import STUDIES, Setting
from coview.studies.logo import CLUTTER, affinity, bounds, four_ways, knn, scenes
from coview.studies.measure import KNN


def setting(scale="tiny", **changes):
    return Setting.of(StudyOptions(name="x", data="scenes", scale=scale, **changes))


def recipe_of(arm):
    return dict(arm.cell(0).settings)["recipe"]


def end(cell, root, values, history=()):
    """The files of a run that has ended; ``values``: accuracy by protocol; ``history``: kNN at the
    kept checkpoints."""
    folder = cell.folder(root)
    for name in ("evaluation", "encoder"):
        (folder / name).mkdir(parents=True)
    recipe = dict(cell.settings)["recipe"]
    data = {
        "source": "", "images": 48, "held_out": 0, "parts": "", "class_names": [], "opened": {"images": {}, "test": None, "labels": "", "label_draw": 0},
        "fingerprint": str(dict(cell.settings)["data"]),
    }  # fmt: skip
    contents = {
        "run": {
            "data": data, "steps_per_epoch": 10, "total_steps": int(10 * getattr(recipe, "epochs", 1)),
            "recipe": {}, "hash": "", "start": None, "environment": {"precision": "bf16"},
            "chance_level": 0.0, "created": "",
        },
        "verdict": {"label": "learned", "sentence": "It learned.", "causes": [], "remedy": "",
                    "step": int(10 * getattr(recipe, "epochs", 1))},
    }  # fmt: skip
    for protocol, value in values.items():
        row = {"subject": "trained", "metric": "accuracy", "layer": "h", "value": value,
               "setting": {}}  # fmt: skip
        contents[f"evaluation/{protocol}"] = {"results": [row], "headline": {}}
    for place, value in enumerate(history, start=1):
        step = f"step-{10 * place * dict(cell.settings)['keep_every']:08d}"
        (folder / "checkpoints" / step).mkdir(parents=True)
        (folder / "checkpoints" / step / "END").touch()
        (folder / "evaluation" / step).mkdir()
        contents[f"evaluation/{step}/knn"] = {"results": [{**row, "value": value}], "headline": {}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_the_base_of_twice_the_epochs_sees_as_many_views():
    ways = four_ways(setting("cpu"), "MoCo")
    views = {name: len(made.method.views.views) * made.epochs for name, made in ways.items()}
    base, long, several, full = views.values()
    assert 2 * base == long == several == full
    plain, _, crops, logo = ways.values()
    assert crops.method.repulsion is None
    assert isinstance(logo.method.repulsion.affinity, Critic)
    assert crops.method.pairing == logo.method.pairing
    # A queue of 4,096 keys would hold nearly all of 5,000 images.
    assert plain.method.memory.length == 500
    assert logo.method.memory.length == 500
    # At other scales all images are trained on: the queue holds a tenth of them at most.
    on_gpu = four_ways(setting("gpu"), "MoCo")["MoCo"]
    images = setting("gpu").count_images()
    assert on_gpu.method.memory.length == max(2 * on_gpu.batch_size, images // 10) < 4096


def test_arms_of_affinity_and_bounds():
    made = {arm.name: recipe_of(arm).method.repulsion for arm in affinity(setting()).arms}
    assert made["none"] is None
    assert isinstance(made["cosine, 0.0005"].affinity, CosineAffinity)
    assert made["learned, 0.002"].balance == FixedWeight(value=2e-3)
    assert made["learned, ratio"].balance == GradientRatio(limit=0.015)
    areas = {
        arm.name: [view.crop.area for view in recipe_of(arm).method.views.views]
        for arm in bounds(setting()).arms
    }
    assert areas["0.3 and 0.3"] == [(0.3, 1.0)] * 2 + [(0.05, 0.3)] * 2
    assert areas["0.65 and 0.4, a gap"] == [(0.65, 1.0)] * 2 + [(0.05, 0.4)] * 2
    assert areas["0.05 and 1, all alike"] == [(0.05, 1.0)] * 4


def test_studies_of_the_same_images_share_their_runs():
    keys = {}
    for name in ("knn", "affinity", "bounds", "dense"):
        needed = {"annotated": "scenes"} if name == "dense" else {}
        options = StudyOptions(name="x", data="scenes", seeds=1, **needed)
        keys[name] = {cell.key for cell in STUDIES[f"logo/{name}"].study(options).cells}
    moco = {cell.key for arm in knn(setting("cpu")).arms[:4] for cell in (arm.cell(0),)}
    assert moco <= keys["knn"]
    assert moco <= keys["dense"]  # beside them the runs of `detect`
    assert len(keys["knn"] & keys["affinity"]) == 2  # multi-crop, and LoGo at its lambda
    assert len(keys["knn"] & keys["bounds"]) == 1


def test_curves_over_epochs_and_views_and_claims_about_quarters(tmp_path):
    own = setting("cpu", seeds=3)
    grid = knn(own)
    study = grid.study("mine", "?", own)
    random = np.random.default_rng(0)
    levels = {"": 0.40, "twice": 0.45, "multi-crop": 0.47, "LoGo": 0.50}
    for cell in {cell.key: cell for cell in study.cells}.values():
        settings = dict(cell.settings)
        assert settings["recipe"].epochs == 4 * settings["keep_every"]
        level = next(v for k, v in reversed(levels.items()) if k in cell.name)
        if cell.name.startswith("SimSiam, LoGo"):
            level = 0.41  # above its base, below multi-crop
        noise = 0.001 * random.standard_normal()
        history = [level * n / 4 + noise for n in range(1, 4)]
        end(cell, tmp_path, {"knn": level + noise, "linear": 0.6}, history[:-1])
        assert cell.unfollowed(tmp_path) == (30 * settings["keep_every"],)
        assert not cell.is_ended(tmp_path)
        shutil.rmtree(cell.folder(tmp_path))
        end(cell, tmp_path, {"knn": level + noise, "linear": 0.6}, history)
        assert cell.is_ended(tmp_path)
    result = study.summarize(tmp_path)
    holds = {claim["text"]: claim["holds"] for claim in result["claims"]}
    assert holds["MoCo-LoGo is above MoCo at equal epochs"] is True
    (quarters,) = (text for text in holds if text.startswith("MoCo") and "three quarters" in text)
    assert holds[quarters] is True
    assert holds["MoCo-LoGo is above MoCo at equal views"] is True
    assert holds["SimSiam-LoGo is above multi-crop"] is False
    by_epoch, by_views = result["drawings"]
    lines = {line["name"]: line["points"] for line in by_epoch["lines"]}
    assert [x for x, _ in lines["MoCo"]] == [10, 20, 30, 40]
    assert [x for x, _ in lines["MoCo, twice the epochs"]] == [20, 40, 60, 80]
    assert lines["MoCo, LoGo"][3][1] == pytest.approx(50, abs=0.3)
    scaled = {line["name"]: line["points"] for line in by_views["lines"]}
    assert [x for x, _ in scaled["MoCo"]] == [20, 40, 60, 80]
    assert [x for x, _ in scaled["MoCo, LoGo"]] == [40, 80, 120, 160]
    assert result["rows"][0]["kNN at 50% of training"] == pytest.approx(20, abs=0.3)


def test_a_run_is_judged_after_each_quarter_of_its_epochs(tmp_path):
    own = setting(seeds=1, epochs=4, limit=48)
    cell = knn(own).arms[0].cell(0)
    cell.train(tmp_path, {})
    run = cell.run(tmp_path)
    epoch = run.description["steps_per_epoch"]
    judged = [run.evaluation_of(epoch * number) for number in (1, 2, 3)]
    assert all((place / "knn.json").exists() for place in judged)
    assert not (judged[0] / "linear.json").exists()
    assert cell.is_ended(tmp_path)
    points = KNN.series(run)
    assert [x for x, _ in points] == [1, 2, 3, 4]
    assert points[-1][1] == KNN.read(run)
    half = replace(KNN, at=0.5).read(run)
    table = json.loads((judged[1] / "knn.json").read_text())["results"]
    assert half in [100 * row["value"] for row in table]
    (judged[1] / "knn.json").unlink()
    assert cell.unfollowed(tmp_path) == (2 * epoch,)
    cell.train(tmp_path, {})
    assert replace(KNN, at=0.5).read(run) == half


def test_deleted_checkpoints_change_no_figure_and_none_stands_for_one_that_is_far(tmp_path):
    cell = knn(setting("cpu", seeds=1)).arms[0].cell(0)
    end(cell, tmp_path, {"knn": 0.4, "linear": 0.5}, [0.1, 0.2, 0.3])
    run = cell.run(tmp_path)
    quarters = [replace(KNN, at=share) for share in (0.25, 0.5, 0.75)]
    shutil.rmtree(run.checkpoints_path)
    assert [each.read(run) for each in quarters] == pytest.approx([10, 20, 30])
    assert cell.is_ended(tmp_path)
    shutil.rmtree(run.evaluation_of(100))
    assert [each.read(run) for each in quarters] == [None, *map(pytest.approx, (20, 30))]
    # A run that was given up after half of its epochs has its last figure from then on.
    verdict = json.loads(run.verdict_path.read_text())
    run.verdict_path.write_text(json.dumps({**verdict, "step": 210}))
    assert quarters[2].read(run) == pytest.approx(40)


def test_the_gain_on_cluttered_scenes_is_a_difference_of_differences(tmp_path):
    own = setting(seeds=3, scale="tiny")
    grid = scenes(own)
    study = grid.study("mine", "?", own)
    assert {dict(cell.settings)["data"] for cell in study.cells} == {"scenes", CLUTTER}
    random = np.random.default_rng(1)
    for cell in study.cells:
        value = 0.7 - 0.2 * ("clutter" in cell.name)
        if "LoGo" in cell.name:
            value += 0.08 if "clutter" in cell.name else 0.02
        value += 0.002 * random.standard_normal()
        end(cell, tmp_path, {"knn": value, "linear": value})
    result = study.summarize(tmp_path)
    assert [claim["holds"] for claim in result["claims"]] == [True, True, True]
    positive, gain = result["claims"][0]["comparisons"]
    assert positive["mean"] == pytest.approx(8, abs=0.5)
    assert gain["mean"] == pytest.approx(6, abs=0.5)
    assert result["drawings"][0]["rows"] == ["single object", "clutter"]
    assert len(result["drawings"][0]["columns"]) == 4


def test_scenes_of_a_scale_with_test_images_are_tested_on_their_own(tmp_path):
    study = STUDIES["logo/scenes"].study(StudyOptions(name="logo/scenes", scale="cpu"))
    tests = {(dict(cell.settings)["data"], dict(cell.judged)["test"]) for cell in study.cells}
    assert tests == {("scenes", "scenes:test"), (CLUTTER, "scenes:clutter:test")}
    card = study.card(tmp_path)
    assert card["data"] == "scenes and scenes:clutter"
    assert card["test images"] == "scenes:test and scenes:clutter:test"


def test_detection_is_a_run_on_each_pretrained_one(tmp_path):
    (tmp_path / "pixels" / "masks").mkdir(parents=True)

    def study(place):
        return STUDIES["logo/dense"].study(
            StudyOptions(name="logo/dense", data="scenes", scale="tiny", annotated=str(place))
        )

    cells = {cell.key: cell for cell in study(tmp_path / "boxes").cells}.values()
    detecting = [cell for cell in cells if cell.verb == "detect"]
    assert (len(detecting), len(cells)) == (10, 18)
    settings = [dict(cell.settings) for cell in detecting]
    assert {each["recipe"] for each in settings} == {"detect-cpu"}
    assert sum(each.get("from_scratch", False) for each in settings) == 2
    assert all(each["start"].verb == "pretrain" for each in settings)
    for cell in cells:
        if cell.verb == "pretrain":
            end(cell, tmp_path, {})
    for place, cell in enumerate(detecting):
        end(cell, tmp_path, {})
        row = {"subject": "fine-tuned", "metric": "AP50", "layer": "boxes", "value": 0.1 * place,
               "setting": {}}  # fmt: skip
        (cell.folder(tmp_path) / "evaluation" / "detect.json").write_text(
            json.dumps({"results": [row, {**row, "metric": "AP", "value": 0.01}], "headline": {}})
        )
    result = study(tmp_path / "boxes").summarize(tmp_path)
    assert [row["AP50"] for row in result["rows"][:2]] == pytest.approx([0.0, 10.0])
    assert result["rows"][0]["AP"] == pytest.approx(1.0)
    pixels = [dict(cell.settings) for cell in study(tmp_path / "pixels").cells]
    assert {each["recipe"] for each in pixels if "start" in each} == {"segment-cpu"}
