"""What goes wrong in a run names the run; classes of the user reach other processes."""

import json
import re
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import coview
from coview.cli import main
from coview.core import user_code
from coview.core.errors import InvalidValue, RunError, SeveralErrors, StorageError, UnknownName
from coview.core.machine import runs_here
from coview.core.values import encode
from coview.evaluation import PROTOCOLS
from coview.options import StudyOptions, SweepOptions
from coview.recipes import RECIPES, recipe
from coview.studies import Cell, Grid, Setting
from coview.studies.execution import place_of, run_study
from coview.studies.failures import Failure, Failures, about_error
from coview.studies.jobs import _pool, _result, about_end, in_process, train_side_by_side
from coview.studies.live import StudyLines
from coview.studies.run import named
from coview.studies.setting import folder_of
from coview.studies.speed import Speeds
from coview.studies.sweeps import base_of, judges_of, setting_of, sweep_grid

MINE = """
from dataclasses import dataclass, replace

from coview.methods import NTXent
from coview.studies import KNN, Experiment, Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(NTXent):
    factor: float = 2.0


def own(setting):
    base = setting.recipe("simclr")
    made = replace(base, method=replace(base.method, objective=Own(temperature=0.5)))
    arm = setting.arm("own", made, protocols=("knn",))
    return Grid(arms=(arm,), claims=(), measures=(KNN,))


OWN = Experiment(name="mine/own", question="Does it run?", grid=own)
"""


def tiny(**changes):
    return Setting.of(StudyOptions(name="mine", data="scenes", scale="tiny", **changes))


def test_classes_of_a_file_of_the_user_reach_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(user_code, "IMPORTED", {})
    file = tmp_path / "mine.py"
    file.write_text(f"# {tmp_path}\n{MINE}")  # a file of its own for each test
    result = coview.study(
        f"{file}:OWN", "scenes", scale="tiny", limit=48, seeds=1, jobs=2, device="cpu",
        out=tmp_path / "out",
    )  # fmt: skip
    assert result["ended"]
    assert 0 <= result.rows[0]["kNN"] <= 100


def test_changed_code_of_the_user_makes_other_runs(tmp_path):
    keys = []
    for factor in ("2.0", "3.0"):
        file = tmp_path / "mine.py"
        file.write_text(f"# {tmp_path}\n{MINE}# factor {factor}\n")
        options = StudyOptions(name=f"{file}:OWN", data="scenes", scale="tiny", seeds=1)
        (cell,) = named(options.name).study(options).cells
        keys.append(cell.key)
    assert keys[0] != keys[1]


class Lost(Exception):
    """No error of Coview."""


def lose(*_, **__):
    raise Lost("no memory left")


def test_any_error_of_a_run_is_a_sentence_with_its_name(tmp_path, monkeypatch):
    setting = tiny(seeds=1)
    cell = setting.pretrain("small", setting.recipe("simclr"), 0)
    monkeypatch.setattr(Cell, "train", lose)
    sentence = in_process(cell, tmp_path, {}).sentence
    assert re.fullmatch(r"Lost: no memory left \(test_study_jobs.py, line \d+\)", sentence)
    assert about_error(InvalidValue("`seeds` is 0.")) == "`seeds` is 0."
    study = Grid(arms=(setting.arm("small", setting.recipe("simclr")),), claims=()).study(
        "mine", "?", setting
    )
    with pytest.raises(RunError, match=rf"small, seed 0 \({tmp_path}.*\): Lost: no memory left"):
        run_study(study, tmp_path, {"device": "cpu"})


def three_cells():
    """Two pretrainings, and a fine-tuning of the first."""
    setting = tiny(seeds=2)
    first, other = (setting.pretrain("a", setting.recipe("simclr"), seed) for seed in (0, 1))
    return first, Cell(name="tuned", verb="finetune", settings=(("start", first),)), other


def study_of(cells):
    made = Grid(arms=(), claims=()).study("mine", "?", tiny(seeds=1))
    return replace(made, cells=cells)


def test_a_run_that_fails_leaves_out_those_that_need_it_alone(tmp_path, monkeypatch, capsys):
    tried = []

    def train(self, root, machine):
        tried.append(self.name)
        raise RunError("no luck")

    monkeypatch.setattr(Cell, "train", train)
    with pytest.raises(RunError) as caught:
        run_study(study_of(three_cells()), tmp_path, {"device": "cpu"})
    assert tried == ["a, seed 0", "a, seed 1"]
    first, *sentences = str(caught.value).splitlines()
    assert first == "2 runs have failed."
    assert [each.partition(" (")[0] for each in sentences] == tried
    assert all(each.endswith("): no luck") for each in sentences)
    assert capsys.readouterr().out.count("Failed: a, seed") == 2


@pytest.mark.parametrize("error", [StorageError("The disk is full."), MemoryError()])
def test_what_would_end_every_run_ends_the_study(tmp_path, monkeypatch, error):
    tried = []

    def train(self, root, machine):
        tried.append(self.name)
        raise error

    monkeypatch.setattr(Cell, "train", train)
    with pytest.raises(RunError, match="a, seed 0"):
        run_study(study_of(three_cells()), tmp_path, {"device": "cpu"})
    assert tried == ["a, seed 0"]


class Pool:
    """In place of processes: every run fails at once."""

    def __init__(self):
        self.tried = []

    def submit(self, _, cell, root, machine):
        self.tried.append(cell.name)
        future = Future()
        future.set_result(Failure("no luck"))
        return future


def test_side_by_side_too_the_others_go_on(tmp_path, monkeypatch):
    pool = Pool()

    @contextmanager
    def opened(jobs, files):
        yield pool, {}

    monkeypatch.setattr("coview.studies.jobs._pool", opened)
    with pytest.raises(RunError, match="2 runs have failed"):
        train_side_by_side(three_cells(), tmp_path, {}, 1, after=lambda: None)
    assert pool.tried == ["a, seed 0", "a, seed 1"]


def test_needs_of_needs_that_have_failed_are_left_out_too(tmp_path):
    first, tuned, other = three_cells()
    last = Cell(name="last", verb="distill", settings=(("teacher", tuned),))
    failures = Failures(tmp_path)
    failures.add(first, Failure("no luck"))
    assert [failures.leaves_out(cell) for cell in (tuned, other, last)] == [True, False, True]


def test_memory_is_blamed_for_a_kill_alone():
    assert "where memory is short" in about_end([None, -signal.SIGKILL, -signal.SIGTERM])
    for codes in ([1, None], [-signal.SIGSEGV], [None], [-signal.SIGTERM]):
        assert "memory" not in about_end(codes)
    assert "ended by signal 11" in about_end([-signal.SIGSEGV])


def test_a_process_that_cannot_begin_is_told_with_the_run(tmp_path, monkeypatch):
    """As where a file of the user has changed since the study began."""
    setting = tiny(seeds=1)
    cell = setting.pretrain("small", setting.recipe("simclr"), 0)
    gone = [{"file": str(tmp_path / "gone.py"), "hash": "0" * 32}]
    monkeypatch.setattr("coview.studies.jobs.files_of", lambda _: gone)
    with pytest.raises(RunError, match=r"small, seed 0 .*a process of the study has ended"):
        train_side_by_side([cell], tmp_path, {"device": "cpu"}, 2, after=lambda: None)


def test_a_protocol_without_its_images_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InvalidValue, match="'ood' needs further images, `outliers`"):
        coview.sweep("scenes", limit=48, protocols="knn,ood", out=tmp_path / "no")
    with pytest.raises(UnknownName, match="protocol"):
        Cell(name="x", verb="pretrain", settings=(), protocols=("linaer",))
    assert Cell(name="x", verb="pretrain", settings=(), protocols=("ood",),
                more=(("outliers", "scenes:test"),))  # fmt: skip
    assert not (tmp_path / "no").exists()


def test_sweeps_of_other_fields_have_files_of_their_own(tmp_path):
    def path(**settings):
        return coview.sweep("scenes", limit=200, dry_run=True, out=tmp_path, **settings)["path"]

    fields = ("method.objective.temperature", "optimizer.learning_rate")
    one, other = (path(set={field: [0.1, 0.2]}) for field in fields)
    assert one == str(tmp_path / f"sweep-{recipe('simclr-cpu').name}-{fields[0]}")
    assert one != other
    assert path() == str(place_of("sweep/simclr-cpu", tmp_path))
    assert one == path(set={fields[0]: [0.1, 0.2, 0.5]})  # a further value is the same sweep
    # Recipes of one name: that of the catalogue, and others.
    usual = recipe("simclr-cpu")
    others = [replace(usual, batch_size=size) for size in (24, 48)]
    paths = {path(recipe=each) for each in (usual, *others)}
    assert len(paths) == 3
    assert path() in paths


def test_what_does_not_fit_the_images_is_found_before_the_first_run(tmp_path, capsys):
    words = ["sweep", "scenes", "--limit", "100", "--out", str(tmp_path), "--seeds", "2"]
    assert main([*words, "--set", "epochs=2,4"]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "coview sweep: 4 of 4 runs cannot be trained, so none is begun."
    assert [line.partition(":")[0] for line in others] == [
        f"epochs 2, seed {seed}; epochs 4, seed {seed}" for seed in (0, 1)
    ]
    assert re.fullmatch(
        r".*: --set batch_size=128 does not fit: \d+ images are left for training after holding some "
        r"out; use --set batch_size=\d+ or fewer\.", others[0]
    )  # fmt: skip
    assert main([*words, "--set", "epochs=1,2", "--set", "batch_size=32", "--dry-run"]) == 2
    first, other = capsys.readouterr().err.splitlines()
    assert "2 of 4 runs" in first
    assert other.startswith(
        "epochs 1, batch_size 32, seed 0; epochs 1, batch_size 32, seed 1: --set "
    )
    assert "--set schedule.warmup_epochs is 1" in other
    assert not list(tmp_path.iterdir())
    with pytest.raises(SeveralErrors):
        coview.sweep("scenes", limit=100, out=tmp_path)


def test_runs_that_have_failed_are_a_line_each(tmp_path, monkeypatch, capsys):
    def fail(cell, *_):
        raise RunError(f"No luck with {cell.name}\nand a name.")

    monkeypatch.setattr(Cell, "train", fail)
    words = ["sweep", "scenes", "--limit", "100", "--out", str(tmp_path), "--set", "batch_size=16"]
    assert main([*words, "--seeds", "2", "--set", "epochs=2"]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "coview sweep: 2 runs have failed."
    assert [line.partition(": ")[2] for line in others] == [
        f"No luck with batch_size 16, epochs 2, seed {seed}\\nand a name." for seed in (0, 1)
    ]


def test_data_of_one_name_have_folders_of_their_own():
    assert folder_of("cifar10/train.parquet") == "cifar10-train"
    assert folder_of("cifar10/train/*.parquet") == "cifar10-train"
    assert folder_of("cifar100/train-00000-of-00001.parquet") == "cifar100-train-00000-of-00001"
    assert folder_of(["a/validation/x.parquet", "a/validation/y.parquet"]) == "x"
    assert folder_of("photos/val/") == "photos-val"
    assert [folder_of(name) for name in ("scenes:test", "photos/trains")] == [
        "scenes-test", "trains",
    ]  # fmt: skip


def test_a_sweep_of_images_without_labels_is_judged_by_figures_that_need_none(tmp_path):
    (tmp_path / "flat").mkdir()
    for row, image in enumerate(np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)):
        Image.fromarray(image).save(tmp_path / "flat" / f"{row}.png")
    result = coview.sweep(
        tmp_path / "flat", set={"epochs": [2], "encoder": ["resnet10/8-small"],
        "batch_size": [16]}, out=tmp_path / "sweep", device="cpu", workers=1,
    )  # fmt: skip
    (row,) = result.rows
    assert 1 <= row["label-free"] <= 64
    assert judges_of(SweepOptions(data=tmp_path / "flat"), recipe("supcon-cpu")) == ("linear",)
    assert judges_of(SweepOptions(data="scenes"), recipe("simclr-cpu")) == ("linear",)


@pytest.mark.parametrize(("name", "said"), [("simclr-cpu", True), ("simclr-cifar", False)])
def test_a_sweep_of_a_recipe_with_numbers_chosen_on_test_images_says_so(tmp_path, name, said):
    options = SweepOptions(data="scenes", recipe=name, protocols="knn")
    study = sweep_grid(options, base_of(options), {}).study("sweep", "?", setting_of(options))
    assert ("test images of CIFAR-10" in str(study.card(tmp_path))) is said


def test_a_sweep_begins_from_a_recipe_of_any_form(tmp_path):
    value = replace(recipe("simclr-cpu"), batch_size=24)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(encode(value)))
    rates = {"optimizer.learning_rate": [0.1]}
    for given in (value, str(file)):
        options = SweepOptions(data="scenes", recipe=given, set=rates)
        (arm,) = sweep_grid(options, base_of(options), rates).arms
        (made,) = (work.recipe for work in arm.cell(0).work)
        assert (made.batch_size, made.optimizer.learning_rate) == (24, 0.1)
        assert coview.sweep("scenes", recipe=given, set=rates, limit=48, dry_run=True, out=tmp_path)
    with pytest.raises(InvalidValue, match="there is no such file or run"):
        coview.sweep("scenes", recipe="runs/none", dry_run=True, out=tmp_path)


OWN_WORDS = """
from dataclasses import replace

from coview.evaluation import PROTOCOLS, register_protocol
from coview.recipes import recipe, register_recipe


@register_recipe
def mine_cpu():
    return replace(recipe("simclr-cpu"), name="mine-cpu", batch_size=24)


register_protocol(replace(PROTOCOLS["knn"], name="mine"))
"""


def test_a_sweep_takes_the_words_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(user_code, "IMPORTED", {})
    file = tmp_path / "words.py"
    file.write_text(f"# {tmp_path}\n{OWN_WORDS}")
    handed = []
    monkeypatch.setattr("coview.studies.jobs._pool", lambda _, files: handed.extend(files) or 1 / 0)
    settings = {"recipe": "mine-cpu", "protocols": "mine", "limit": 48, "out": tmp_path / "sweep"}
    try:
        with pytest.raises(ZeroDivisionError):
            coview.sweep("scenes", import_=[file], jobs=2, device="cpu", **settings)
    finally:
        RECIPES.pop("mine-cpu", None)
        PROTOCOLS.pop("mine", None)
    assert handed == [{"file": str(file), "hash": user_code.hash_file(file)}]
    assert "mine-cpu: ResNet-10 width 1/4, medium stem, views of 32 px." in capsys.readouterr().out


def content_of(folder):
    return {
        "rows": [
            {"arm": "a", "seed": 0, "folder": "other", "linear": 61.5},
            {"arm": "a", "seed": 1, "folder": folder, "linear": 60.5, "kNN": None},
            {"arm": "b", "seed": 1, "folder": "third", "linear": 10.0},
        ],
        "tables": [{"columns": ["arm", "linear"], "rows": [["a", "61.0"], ["b", "10.0"]]}],
    }


@pytest.mark.parametrize("terminal", [False, True])
def test_an_ended_run_is_said_with_its_figures_and_the_means_so_far(
    tmp_path, monkeypatch, capsys, terminal
):
    monkeypatch.setattr("coview.studies.live.shows_bars", lambda: terminal)
    setting = tiny(seeds=1)
    cell = setting.pretrain("a", setting.recipe("simclr"), 1)
    with StudyLines(tmp_path, 3) as lines:
        lines.progress([cell])
        lines.ended(cell, content_of(cell.folder(tmp_path).name))
        lines.progress([cell])
        figures = lines._figures
    out = capsys.readouterr().out
    assert "[1 of 3] a, seed 1: linear 60.5 (mean of 2 runs 61.0)\n" in out
    assert (figures is not None) == terminal


def test_a_kind_of_which_no_run_has_ended_is_not_in_the_estimate(tmp_path):
    setting = tiny(seeds=1)
    first = setting.pretrain("a", setting.recipe("simclr"), 0)
    box = Cell(name="box", verb="detect", settings=(("start", first),))
    estimate = Speeds("cpu", steps=1).estimate([first, box], tmp_path, lambda: 48)
    assert (estimate.unknown, estimate.seconds[box.key]) == (1, 0.0)
    assert estimate.basis.endswith(", and 1 run of a kind of which none has ended yet")


def test_a_process_that_is_stopped_before_it_has_begun_has_not_failed():
    broken = Future()
    broken.set_exception(BrokenProcessPool())
    assert _result(broken, {}, stopping=True) is None
    failure = _result(broken, {}, stopping=False)
    assert "a process of the study has ended" in failure.sentence
    assert failure.ends_all  # there is no process for the others


def test_the_processes_of_a_study_know_that_they_share_the_machine():
    with _pool(2, []) as (pool, _):
        assert pool.submit(runs_here).result() == 2
    assert runs_here() == 1
