"""SimCLRv2's pipeline as one study: cells are ordinary runs, which go on and are never made twice."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import coview
from coview.cli import main
from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.options import StudyOptions
from coview.recipes import recipe
from coview.runs.run import Run
from coview.studies import Cell, Existing
from coview.studies.simclrv2 import about_test, chain, sized
from coview.studies.simclrv2_table import ROWS
from coview.training import StopSignals

TINY = {
    "limit": 160, "encoder": "resnet10/8-medium", "student": "resnet10/8-medium",
    "labels": "20%,50%", "draws": 2, "layers": "1,last", "epochs": 1, "finetune_epochs": 1,
    "distill_epochs": 1, "device": "cpu", "workers": 0,
}  # fmt: skip

PLACE = "simclrv2-chain"


def run_chain(out, **changes):
    return coview.study("simclrv2/chain", "scenes", out=out, **{**TINY, **changes})


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "chain"
    return run_chain(out), out


def test_the_whole_pipeline_is_ordinary_runs_in_one_folder(ended):
    result, out = ended
    assert result["ended"]
    # A pretraining; for 2 shares x 2 draws three runs each; the other layer in 2 draws.
    assert len(result["cells"]) == 1 + 12 + 2
    for cell in result["cells"]:
        run = Run.open(out / cell["folder"])
        assert run.is_ended
        assert cell["verdict"] == run.verdict
    kinds = [cell["verb"] for cell in result["cells"]]
    assert kinds[0] == "pretrain"
    assert kinds.index("distill") < len(kinds) - 1 - kinds[::-1].index("finetune")
    assert json.loads((out / PLACE / "study.json").read_text())["cells"] == result["cells"]


def test_the_teacher_of_the_small_student_is_the_self_distilled_network(ended):
    result, out = ended
    runs = [Run(out / cell["folder"]) for cell in result["cells"]]
    distilled = [run for run in runs if run.kind == "distill"]
    small = [run for run in distilled if run.description["baselines"]]
    teachers = {run.description["teacher"]["path"] for run in small}
    assert len(small) == 4
    assert teachers == {
        str(run.path / "encoder") for run in distilled if not run.description["baselines"]
    }
    for run in small:
        assert run.recipe.method.objective.teacher_weight == 1.0
        assert not run.description["needs_labels"]


def test_the_table_holds_the_figures_of_the_runs(ended):
    """Mean and Student's interval by scipy, from the files of the runs."""
    result, out = ended
    found = {}
    for cell in result["cells"]:
        run = Run(out / cell["folder"])
        if cell["verb"] == "finetune" and (out / cell["folder"] / "scratch").exists():
            rows = json.loads((run.evaluation_path / "finetune.json").read_text())["results"]
            value = next(100 * r["value"] for r in rows if r["subject"] == "fine-tuned")
            found.setdefault(run.data.labels, []).append(value)
    table = result["tables"][0]
    row = next(row for row in table["rows"] if row[0] == "large, fine-tuned")
    for share, cell in zip(("20%", "50%"), row[2:4], strict=True):
        values = found[share]
        half = stats.t.ppf(0.975, 1) * stats.sem(values)
        mean = np.mean(values)
        low, high = mean - half, mean + half
        inside = 0 <= low <= high <= 100
        ends = f"({max(low, 0):.1f} to {min(high, 100):.1f})"
        assert cell == f"{mean:.1f} " + (f"\N{PLUS-MINUS SIGN} {half:.1f}" if inside else ends)
    assert [row[0] for row in table["rows"]] == [row.name for row in ROWS]
    own = [row["accuracy"] for row in result.rows
           if (row["arm"], row["labels"]) == ("large, fine-tuned", "20%")]  # fmt: skip
    assert own == found["20%"]
    assert len(result["claims"]) == 3
    assert all("over 2 draws" in claim["because"] for claim in result["claims"])


def test_the_card_says_which_images_were_tested_on(ended, tmp_path):
    """The scenes of one name have no test part of their own."""
    result, _ = ended
    assert result["card"]["test images"].startswith("a fifth of the labeled images")
    assert result["card"]["epochs"].startswith("pretraining 1, fine-tuning 1 (")
    assert result["card"]["epochs"].endswith(", distillation 1")
    cell = Cell(name="tuned", verb="finetune", settings=())
    assert "where they have one, else a fifth" in about_test(cell, tmp_path)
    cell.folder(tmp_path).mkdir()
    run_json = cell.folder(tmp_path) / "run.json"
    run_json.write_text(json.dumps({"data": {"fingerprint": "abc+def"}}))
    assert about_test(cell, tmp_path) == "the test part of the data"


def test_a_key_holds_the_numbers_of_a_recipe(monkeypatch):
    cell = Cell(name="tuned", verb="finetune", settings=(("recipe", "finetune-cpu"),))
    before = cell.key
    changed = replace(recipe("finetune-cpu"), epochs=3)
    monkeypatch.setattr("coview.studies.cell.recipe", lambda name: changed)
    assert replace(cell).key != before


def test_the_report_is_one_page_that_loads_nothing(ended):
    _, out = ended
    page = (out / PLACE / "report.html").read_text()
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "<script" not in page
    assert page.count("/report.html") == 15


def test_a_finished_study_trains_nothing(ended, monkeypatch):
    result, out = ended

    def refuse(*_, **__):
        raise AssertionError("a cell was trained, or images were opened")

    monkeypatch.setattr(Cell, "train", refuse)
    monkeypatch.setattr("coview.data.spec.open_images", refuse)
    again = run_chain(out)
    assert again == result


def test_a_stopped_study_goes_on_and_gives_the_same(ended, tmp_path, monkeypatch):
    """It is stopped within a cell; with fewer labels it shares the cells of the other study."""
    _, out = ended
    few = {"labels": "20%", "draws": 1, "layers": "1"}
    calls = []

    def stop(_):
        calls.append(1)
        return "stopped by the test" if len(calls) == 9 else ""

    monkeypatch.setattr(StopSignals, "__call__", stop)
    stopped = run_chain(tmp_path / "few", **few)
    assert not stopped["ended"]
    assert 0 < sum(cell["ended"] for cell in stopped["cells"]) < len(stopped["cells"])
    assert (tmp_path / "few" / PLACE / "report.html").exists()
    again = run_chain(tmp_path / "few", **few)
    assert again["ended"]
    assert len(again["cells"]) == 4
    for cell in again["cells"]:
        for name in ("encoder/model.safetensors", "run.json"):
            ours, theirs = (folder / cell["folder"] / name for folder in (tmp_path / "few", out))
            assert theirs.exists()
            if name.endswith("safetensors"):
                assert ours.read_bytes() == theirs.read_bytes()


def test_a_pretrained_run_takes_the_place_of_pretraining(ended, tmp_path):
    result, out = ended
    pretrained = out / result["cells"][0]["folder"]
    options = StudyOptions(
        name="simclrv2/chain", data="scenes", **{**TINY, "encoder": None, "epochs": None},
        pretrained=pretrained,
    )  # fmt: skip
    study = chain(options)
    assert [cell.verb for cell in study.cells].count("pretrain") == 0
    first = study.cells[0]
    start = dict(first.settings)["start"]
    assert start == Existing.at(pretrained)
    assert first.key != chain(replace(options, pretrained=None)).cells[1].key
    (pretrained / "verdict.json").rename(tmp_path / "verdict.json")
    try:
        with pytest.raises(RunError, match="has not ended; go on with coview resume"):
            chain(options)
    finally:
        (tmp_path / "verdict.json").rename(pretrained / "verdict.json")


def test_a_key_holds_what_a_run_computes_and_nothing_else():
    def cells(**changes):
        return chain(
            StudyOptions(name="simclrv2/chain", data="scenes", **{**TINY, **changes})
        ).cells

    keys = [cell.key for cell in cells()]
    assert len(set(keys)) == len(keys)
    for same in ({"workers": 3}, {"memory_share": 0.5}, {"labels": "50%,20%"}):
        assert {cell.key for cell in cells(**same)} == set(keys)
    for other in (
        {"seed": 1},
        {"limit": 170},
        {"epochs": 2},
        {"encoder": "resnet10/4-medium"},
    ):
        assert not set(keys) & {cell.key for cell in cells(**other)}
    tuned = {cell.key for cell in cells(distill_epochs=2) if cell.verb != "distill"}
    assert tuned <= set(keys)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"draws": 0}, InvalidValue, "expected 1 or more"),
        ({"labels": "1%,some"}, InvalidValue, "there is no such file"),
        ({"student": "resnet11"}, UnknownName, "resnet11"),
        ({"layers": "0,4"}, InvalidValue, "expected numbers from 0 to 3"),
        ({"pretrained": "runs/none"}, InvalidValue, "leave out `encoder`"),
        ({"pretrained": "runs/none", "encoder": None, "epochs": None}, RunError,
         "There is no run folder"),
        ({"recipe": "simclr-none"}, UnknownName, "simclr-none"),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_a_sentence_and_leaves_nothing(tmp_path, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        run_chain(tmp_path / "no", **changes)
    assert not (tmp_path / "no").exists()


def test_a_scale_leaves_the_network_and_length_of_a_pretrained_run_alone():
    given = StudyOptions(name="simclrv2/chain", scale="tiny")
    assert (sized(given).epochs, sized(given).encoder) == (1, "resnet10/8-medium")
    pretrained = sized(replace(given, pretrained="runs/photos"))
    assert (pretrained.epochs, pretrained.encoder, pretrained.draws) == (None, None, 2)


def test_images_in_memory_and_unknown_studies_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match="`data` is in memory"):
        coview.study("simclrv2/chain", np.zeros((40, 8, 8, 3), np.uint8), out=tmp_path / "no")
    with pytest.raises(UnknownName, match="simclrv2/chain"):
        coview.study("simclrv2/chan", "scenes")


def test_a_dry_run_says_what_it_would_train(tmp_path, capsys):
    words = ["study", "simclrv2/chain", "scenes", "--limit", "100", "--dry-run", "--device", "cpu",
             "--encoder", "resnet10/8-medium", "--student", "resnet10/8-medium", "--draws", "1",
             "--out", str(tmp_path / "no")]  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "To run: 9 runs, about" in out
    assert "pretrain without labels: about" in out
    assert not (tmp_path / "no").exists()


def test_the_time_of_each_stage_is_measured_at_the_size_of_pretraining(monkeypatch):
    """The recipes of a GPU are those of ImageNet; a run takes the size of what it begins from."""
    monkeypatch.setattr("coview.studies.simclrv2.choose_device", lambda _: torch.device("cuda"))
    cells = chain(StudyOptions(name="simclrv2/chain", data="scenes", **TINY)).cells
    works = [work for cell in cells for work in cell.work]
    assert {work.recipe.method.views.views[0].size for work in works} == {32}
    assert {work.recipe.name for work in works} >= {"finetune-v2-imagenet", "distill-imagenet"}
