"""simclr/losses: candidates that are judged on training images, and the best with other seeds."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from test_grid import end

from coview.core.errors import InvalidValue
from coview.methods import MarginTriplet, NTXent
from coview.options import StudyOptions
from coview.studies import STUDIES, Setting
from coview.studies import cell as cells
from coview.studies.simclr_losses import _at_end
from coview.studies.tuning import best_of, on_training_part, pretrain_best


def losses(**changes):
    options = {"name": "simclr/losses", "data": "scenes", "scale": "tiny", "seeds": 2, **changes}
    return STUDIES["simclr/losses"].study(StudyOptions(**options))


def of_kind(study, verb):
    return list({cell.key: cell for cell in study.cells if cell.verb == verb}.values())


def test_every_loss_is_tuned_once_and_trained_with_every_seed():
    tried, final = (of_kind(losses(), verb) for verb in ("pretrain", "pretrain_best"))
    assert (len(tried), len(final)) == (5 * 2, 5 * 2)
    assert all(cell.validates and dict(cell.settings)["recipe"].seed == 1000 for cell in tried)
    assert all("test" not in dict(cell.judged) for cell in tried)
    assert [dict(cell.settings)["seed"] for cell in final] == [0] * 5 + [1] * 5
    for cell in final:
        objectives = {type(dict(need.settings)["recipe"].method.objective) for need in cell.needs}
        assert len(cell.needs) == 2
        assert len(objectives) == 1
    # At the scale cpu: four temperatures or margins at three rates, judged without test images;
    # a semi-hard negative needs a margin.
    tried, final = (
        of_kind(losses(scale="cpu", seeds=None), verb) for verb in ("pretrain", "pretrain_best")
    )
    assert (len(tried), len(final)) == (57, 25)
    assert all("test" not in dict(cell.judged) for cell in tried)
    assert all(dict(cell.judged)["test"] == "scenes:test" for cell in final)
    rates = {dict(cell.settings)["recipe"].optimizer.learning_rate for cell in tried}
    assert rates == {1e-3, 4e-3, 1.6e-2}


def test_the_rates_are_those_of_the_optimizer_of_the_scale():
    base = Setting.of(StudyOptions(name="x", data="scenes", scale="gpu")).recipe("simclr")
    tried = of_kind(losses(scale="gpu", seeds=1), "pretrain")
    made = [dict(cell.settings)["recipe"] for cell in tried]
    assert {each.optimizer.name for each in made} == {base.optimizer.name} == {"lars"}
    own = base.optimizer.peak(base.batch_size)
    assert {each.optimizer.peak(each.batch_size) for each in made} == {own / 4, own, 4 * own}


def test_a_choice_at_the_end_of_the_rates_is_said():
    tried = (0.004, 0.016, 0.001)
    said = [_at_end(rate, tried) for rate in tried]
    assert said == ["", "; the highest rate that was tried", "; the lowest rate that was tried"]


def test_what_is_judged_on_training_images_is_another_run():
    tried = of_kind(losses(), "pretrain")[0]
    assert replace(tried, validates=False).key != tried.key


def test_the_table_says_what_was_chosen(tmp_path):
    study = losses()
    for place, cell in enumerate(of_kind(study, "pretrain")):
        end(cell, tmp_path, 0.30 + 0.01 * (place % 2))
    # All losses gain alike with their second number; NT-Xent (the first arm) is the best by far.
    for place, cell in enumerate(of_kind(study, "pretrain_best")):
        seed, arm = divmod(place, 5)
        end(cell, tmp_path, 0.6 - 0.05 * arm + 0.001 * seed * (arm + 1))
    content = study.summarize(tmp_path)
    figures, tuning = content["tables"]
    assert [row[0] for row in figures["rows"]] == [
        "NT-Xent", "NT-Logistic", "NT-Logistic, semi-hard", "margin triplet",
        "margin triplet, semi-hard",
    ]  # fmt: skip
    assert [row[3] for row in tuning["rows"]] == ["", "chosen"] * 5
    assert tuning["rows"][1][1:3] == ["temperature 0.2, rate 0.001", "31.0"]
    best, mined = content["claims"]
    assert best["holds"] is True
    assert mined["holds"] is False  # the mined arms were made worse than the plain ones


def test_a_choice_waits_for_every_candidate(tmp_path):
    study = losses()
    end(of_kind(study, "pretrain")[0], tmp_path, 0.5)
    _, tuning = study.summarize(tmp_path)["tables"]
    assert [row[2:] for row in tuning["rows"][:2]] == [["50.0", ""], ["–", ""]]


def test_the_best_candidate_is_trained_with_the_seed_that_counts(tmp_path, monkeypatch):
    study = losses()
    tried, final = of_kind(study, "pretrain"), of_kind(study, "pretrain_best")
    triplet = next(cell for cell in final if cell.name.startswith("margin triplet, seed 1"))
    made = {}
    for cell, value in zip(triplet.needs, (0.4, 0.5), strict=True):
        end(cell, tmp_path, value)
        made[cell.folder(tmp_path)] = SimpleNamespace(recipe=dict(cell.settings)["recipe"])
    called = {}

    def pretrain(**settings):
        called.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("coview.studies.tuning.Run", SimpleNamespace(open=made.__getitem__))
    monkeypatch.setattr("coview.studies.tuning.pretrain", pretrain)
    settings = {
        name: value.folder(tmp_path) if isinstance(value, cells.Cell) else value
        for name, value in triplet.settings
    }
    with pytest.raises(KeyboardInterrupt):
        pretrain_best(**settings, device="cpu", out=tmp_path / "out")
    assert called["recipe"].seed == 1
    assert called["recipe"].method.objective == MarginTriplet(margin=0.4)
    assert not any(name.startswith("candidate") for name in called)
    assert "seed" not in called
    assert len(tried) == 10
    with pytest.raises(InvalidValue, match="no candidates"):
        pretrain_best(seed=0, data="scenes")


def test_equal_candidates_and_ones_without_a_figure(tmp_path):
    tried = of_kind(losses(), "pretrain")[:2]
    for cell in tried:
        end(cell, tmp_path, 0.5)
    folders = [cell.folder(tmp_path) for cell in tried]
    assert best_of(folders) == 0
    (folders[1] / "evaluation" / "linear.json").write_text('{"results": []}')
    with pytest.raises(InvalidValue, match="has no figure 'linear'"):
        best_of(folders)


def test_a_candidate_without_finite_features_is_not_chosen(tmp_path):
    """It has ended and left no encoder; its study goes on with the others."""
    study = losses()
    first, second = of_kind(study, "pretrain")[:2]
    for cell in (first, second):
        end(cell, tmp_path, 0.5)
        (cell.folder(tmp_path) / "encoder").rmdir()
        (cell.folder(tmp_path) / "evaluation" / "linear.json").unlink()
        assert cell.is_ended(tmp_path)
    folders = [cell.folder(tmp_path) for cell in (first, second)]
    with pytest.raises(InvalidValue, match="None of 2 candidates has finite features"):
        best_of(folders)
    (folders[1] / "encoder").mkdir()
    (folders[1] / "evaluation" / "linear.json").write_text(
        '{"results": [{"subject": "trained", "metric": "accuracy", "layer": "h", "value": 0.3, '
        '"setting": {}}]}'
    )
    assert best_of(folders) == 1
    _, tuning = study.summarize(tmp_path)["tables"]
    assert [row[2:] for row in tuning["rows"][:2]] == [["–", ""], ["30.0", "chosen"]]


def test_test_images_are_left_alone(tmp_path):
    for part in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number * 40, part == "test", label == "a")).save(
                    folder / f"{number}.png"
                )
    settings = {"data": str(tmp_path), "test": str(tmp_path / "test")}
    assert on_training_part(settings) == {"data": str(tmp_path), "split": "train"}
    whole = {"data": str(tmp_path / "train")}
    assert on_training_part(whole) == whole
    assert on_training_part({**settings, "split": "test"})["split"] == "test"


def test_nt_xent_has_the_negatives_of_the_other_losses():
    objectives = {
        dict(cell.settings)["recipe"].method.objective for cell in of_kind(losses(), "pretrain")
    }
    contrastive = {each for each in objectives if isinstance(each, NTXent)}
    assert {each.negatives for each in contrastive} == {"other views"}
