"""The time of a study: of ended runs of the same kind, else measured on steps of the runs' size."""

import json
from dataclasses import replace

import pytest
import torch

from coview.core.machine import cores
from coview.core.memory import DoesNotFit
from coview.methods import Passes
from coview.options import StudyOptions
from coview.planning.trial import Trial
from coview.recipes import recipe
from coview.studies import Cell, Grid, Setting
from coview.studies.cell import Work
from coview.studies.execution import run_study
from coview.studies.speed import BESIDES, MOST_IMAGES, Speeds, kind_of, shape_of

SECONDS_OF_IMAGE, IMAGES = 0.01, 1_000


@pytest.fixture
def probed(monkeypatch):
    """Every step takes SECONDS_OF_IMAGE for an image; what was probed, with its threads."""
    calls = []

    def probe(trial, *, most_images, enough, steps):
        calls.append((trial.recipe, torch.get_num_threads()))
        images = min(trial.recipe.batch_size, most_images)
        return images, SECONDS_OF_IMAGE * images

    monkeypatch.setattr(Trial, "probe", probe)
    return calls


def cells(count=4, **changes):
    setting = Setting.of(StudyOptions(name="mine/time", scale="tiny", **changes))
    base = setting.recipe("simclr")
    return [setting.pretrain("simclr", base, seed) for seed in range(count)]


def end(cell, root, *, judged=True, **took):
    """The files of an ended run that tell that it has ended, and how long it took."""
    folder = cell.folder(root)
    for name in ("evaluation", "encoder"):
        (folder / name).mkdir(parents=True)
    names = ("run", "verdict", *(["evaluation/linear"] if judged else []))
    for name in names:
        (folder / f"{name}.json").write_text("{}")
    if took:
        (folder / "cell.json").write_text(json.dumps(took))


def test_the_step_of_the_runs_own_recipe_is_measured_once(probed, tmp_path):
    asked = cells()
    estimate = Speeds("cpu").estimate(asked, tmp_path, lambda: IMAGES)
    assert [made for made, _ in probed] == [asked[0].work[0].recipe]
    epochs = asked[0].work[0].passes
    # Of four short runs, what they take beside their steps is most of the time.
    each = epochs * IMAGES * SECONDS_OF_IMAGE + BESIDES
    assert estimate.seconds[asked[0].key] == pytest.approx(each)
    assert estimate.whole == pytest.approx(len(asked) * each)
    assert estimate.basis.startswith("at the speed measured here and 1.5 s a run besides; opening")


def test_a_list_takes_the_speeds_that_were_measured_here_before(probed, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIEW_CACHE", str(tmp_path / "cache"))
    measured = Speeds("cpu").estimate(cells(), tmp_path, lambda: IMAGES)
    again = Speeds("cpu", kept=True).estimate(cells(), tmp_path, lambda: IMAGES)
    assert len(probed) == 1
    assert again.whole == measured.whole
    Speeds("cpu").estimate(cells(), tmp_path, lambda: IMAGES)
    assert len(probed) == 2
    (tmp_path / "cache" / "speeds.json").write_text("{damaged")
    Speeds("cpu", kept=True).estimate(cells(), tmp_path, lambda: IMAGES)
    assert len(probed) == 3


def test_jobs_have_their_own_threads_and_run_side_by_side(probed, tmp_path):
    alone = Speeds("cpu").estimate(cells(), tmp_path, lambda: IMAGES)
    before = torch.get_num_threads()
    beside = Speeds("cpu", jobs=2).estimate(cells(), tmp_path, lambda: IMAGES)
    assert beside.whole == pytest.approx(alone.whole / min(2, cores()))
    assert probed[-1][1] == max(1, cores() // 2)
    assert torch.get_num_threads() == before


def test_runs_take_as_long_as_ended_ones_of_their_kind_on_this_machine(probed, tmp_path):
    first, second, third, *others = cells(6)
    machine = {"device": "cpu", "threads": torch.get_num_threads()}
    for cell, seconds in ((first, 50.0), (second, 70.0)):
        end(cell, tmp_path, seconds=seconds, **machine)
    end(third, tmp_path, seconds=1e9, **{**machine, "threads": 1_000})
    estimate = Speeds("cpu").estimate([first, second, third, *others], tmp_path, lambda: IMAGES)
    assert estimate.seconds == {cell.key: 60.0 for cell in others}
    assert not probed
    assert estimate.basis == "as long as ended runs of their kind took"


def test_of_a_run_that_is_only_to_be_judged_no_training_is_counted(probed, tmp_path):
    (cell,) = cells(1)
    end(cell, tmp_path, judged=False)
    assert Speeds("cpu").estimate([cell], tmp_path, lambda: IMAGES).whole == 0


def test_longer_runs_and_other_protocols_are_another_kind():
    (cell,), (longer,) = cells(1), cells(1, epochs=2)
    assert kind_of(cell) != kind_of(longer)
    assert shape_of(cell.work[0]) == shape_of(longer.work[0])
    assert kind_of(cell) != kind_of(
        Cell(name="x", verb="pretrain", settings=(), work=cell.work, protocols=("knn",))
    )


def test_a_student_is_measured_with_its_teacher():
    made = recipe("distill-cpu")
    small = Work(recipe=made, passes=1, teacher=made.encoder)
    speeds = Speeds("cpu")
    speeds._measure(small)
    ((_, *_, teacher),) = speeds._measured
    assert teacher == made.encoder
    assert made.batch_size <= MOST_IMAGES


@pytest.fixture
def small_memory(probed, monkeypatch):
    """Steps of more than so many images do not fit into memory: call it with the number."""

    def limit(most):
        fits = Trial.probe

        def probe(trial, *, most_images, enough, steps):
            if most_images > most:
                raise DoesNotFit("A batch does not fit into memory.")
            return fits(trial, most_images=most_images, enough=enough, steps=steps)

        monkeypatch.setattr(Trial, "probe", probe)

    return limit


def test_the_largest_step_that_fits_is_measured(probed, small_memory, tmp_path):
    small_memory(6)
    (cell,) = cells(1)  # of batches of 24: 24 do not fit, 6 do
    estimate = Speeds("cpu").estimate([cell], tmp_path, lambda: IMAGES)
    assert estimate.seconds[cell.key] == pytest.approx(IMAGES * SECONDS_OF_IMAGE + BESIDES)
    assert not estimate.unmeasured


def test_a_study_goes_on_where_no_step_fits(small_memory, tmp_path, monkeypatch, capsys):
    """Each run plans for itself, in passes that fit."""
    small_memory(0)
    trained = []
    monkeypatch.setattr(
        Cell, "train", lambda cell, root, machine: trained.append(cell.name) or cell.run(root)
    )
    setting = Setting.of(StudyOptions(name="mine/time", scale="tiny", seeds=1))
    study = Grid(arms=(setting.arm("a", setting.recipe("simclr")),), claims=()).study(
        "mine", "?", setting
    )
    run_study(study, tmp_path, {"device": "cpu"})
    assert trained == ["a, seed 0"]
    out = capsys.readouterr().out
    assert "To run: 1 run, not measured: not even a small step fits into the memory" in out
    assert "a, seed 0: not measured" in out


def test_runs_that_are_not_measured_are_told_beside_the_others(probed, monkeypatch, tmp_path):
    small, (other,) = cells(1), cells(1, encoder="resnet18-small")
    fits = Trial.probe

    def probe(trial, **settings):
        if trial.recipe.encoder.depth == 18:
            raise torch.OutOfMemoryError("too large")
        return fits(trial, **settings)

    monkeypatch.setattr(Trial, "probe", probe)
    estimate = Speeds("cpu").estimate([*small, other], tmp_path, lambda: IMAGES)
    assert estimate.unmeasured == [other.key]
    assert estimate.words.startswith("about 12 s at the speed measured here")
    assert "and 1 run not measured (not even" in estimate.lacking


def test_a_recipe_with_passes_is_measured_in_them(probed, tmp_path, monkeypatch):
    (cell,) = cells(1)
    (work,) = cell.work
    passes = Passes(micro_batch=4)
    own = replace(cell, work=(replace(work, recipe=replace(work.recipe, passes=passes)),))
    used = []
    monkeypatch.setattr(Trial, "use", lambda trial, given: used.append(given))
    Speeds("cpu").estimate([own], tmp_path, lambda: IMAGES)
    assert used == [passes]
    assert shape_of(own.work[0]) != shape_of(work)


def test_a_gpu_is_free_again_after_the_estimate(probed, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr("coview.studies.speed.release", released.append)
    Speeds("cpu").estimate(cells(1), tmp_path, lambda: IMAGES)
    assert released == [torch.device("cpu")]
