"""LoGo's studies: their recipes, curves over epochs, and gains on two kinds of scenes."""

import json

import numpy as np
import pytest

from coview.methods import FixedWeight, GradientRatio
from coview.methods.affinity import CosineAffinity, Critic
from coview.options import StudyOptions
from coview.studies import STUDIES, Setting
from coview.studies.logo import CLUTTER, affinity, bounds, four_ways, knn, scenes


def setting(scale="tiny", **changes):
    return Setting.of(StudyOptions(name="x", data="scenes", scale=scale, **changes))


def recipe_of(arm):
    return dict(arm.cell(0).settings)["recipe"]


def end(cell, root, values, history=()):
    """The files of a run that has ended; ``values``: accuracy by protocol."""
    folder = cell.folder(root)
    (folder / "evaluation").mkdir(parents=True)
    contents = {
        "run": {"data": {"fingerprint": str(dict(cell.settings)["data"])}},
        "verdict": {"label": "learned", "sentence": "It learned.", "causes": [], "remedy": "",
                    "step": 3},
    }  # fmt: skip
    for protocol, value in values.items():
        row = {"subject": "trained", "metric": "accuracy", "layer": "h", "value": value,
               "setting": {}}  # fmt: skip
        contents[f"evaluation/{protocol}"] = {"results": [row], "headline": {}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    lines = [
        {"kind": "knn", "step": 10 * epoch, "epoch": float(epoch), "accuracy": accuracy}
        for epoch, accuracy in enumerate(history)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


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
    assert four_ways(setting("gpu"), "MoCo")["MoCo"].method.memory.length == 4096


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


def test_curves_over_epochs_and_views_and_claims_about_quarters(tmp_path):
    own = setting(seeds=3)
    grid = knn(own)
    study = grid.study("mine", "?", own)
    random = np.random.default_rng(0)
    levels = {"": 0.40, "twice": 0.45, "multi-crop": 0.47, "LoGo": 0.50}
    for cell in {cell.key: cell for cell in study.cells}.values():
        assert dict(cell.settings).get("labels_from") != "none"
        level = next(v for k, v in reversed(levels.items()) if k in cell.name)
        if cell.name.startswith("SimSiam, LoGo"):
            level = 0.41  # above its base, below multi-crop
        noise = 0.001 * random.standard_normal()
        history = [0.1, *(level * n / 4 + noise for n in range(1, 5))]
        end(cell, tmp_path, {"knn": level + noise, "linear": 0.6}, history)
    result = study.summarize(tmp_path)
    holds = {claim["text"]: claim["holds"] for claim in result["claims"]}
    assert holds["MoCo-LoGo is above MoCo at equal epochs"] is True
    (quarters,) = (text for text in holds if text.startswith("MoCo") and "three quarters" in text)
    assert holds[quarters] is True
    assert holds["MoCo-LoGo is above MoCo at equal views"] is True
    assert holds["SimSiam-LoGo is above multi-crop"] is False
    by_epoch, by_views = result["drawings"]
    lines = {line["name"]: line["points"] for line in by_epoch["lines"]}
    assert [x for x, _ in lines["MoCo"]] == [0, 1, 2, 3, 4]
    assert lines["MoCo, LoGo"][4][1] == pytest.approx(50, abs=0.3)
    scaled = {line["name"]: line["points"] for line in by_views["lines"]}
    assert [x for x, _ in scaled["MoCo"]] == [0, 2, 4, 6, 8]
    assert [x for x, _ in scaled["MoCo, LoGo"]] == [0, 4, 8, 12, 16]
    assert result["rows"][0]["kNN at 50% of training"] == pytest.approx(20, abs=0.3)


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


def test_scenes_of_a_scale_with_test_images_are_tested_on_their_own():
    study = STUDIES["logo/scenes"].study(
        StudyOptions(name="logo/scenes", data="elsewhere", test="there", scale="cpu")
    )
    tests = {(dict(cell.settings)["data"], dict(cell.judged)["test"]) for cell in study.cells}
    assert tests == {("scenes", "scenes:test"), (CLUTTER, "scenes:clutter:test")}
    assert study.card(None)["data"] == "scenes and scenes:clutter"


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
