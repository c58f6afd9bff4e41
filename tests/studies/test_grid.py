"""Grids of arms: from a value to runs, figures, claims, pages and the ledger."""

import json
import signal
from dataclasses import replace

import pytest
from PIL import Image
from scipy import stats
from torch import OutOfMemoryError

import coview
from coview.cli import main
from coview.core.errors import DataError, InvalidValue, RunError, UnknownName
from coview.core.machine import cores
from coview.options import StudyOptions, SweepOptions
from coview.recipes import change, recipe
from coview.studies import (
    LINEAR,
    STUDIES,
    Arm,
    Cell,
    Claim,
    Experiment,
    Grid,
    Setting,
    greater,
)
from coview.studies.drawings import chart_of, drawing, matrix_table
from coview.studies.execution import place_of, run_study, write_study
from coview.studies.experiment import NEEDED, without_others
from coview.studies.jobs import _Stop, in_process, ready
from coview.studies.ledger import ledger_rows, summary, write_ledger
from coview.studies.page import MEANINGLESS
from coview.studies.run import _row, run_one
from coview.studies.speed import Speeds
from coview.studies.sweeps import axes_of, changed, long_warmups, setting_of, with_classes
from coview.studies.training_card import training_card


def rates(setting):
    base = setting.recipe("simclr")
    arms = tuple(
        setting.arm(
            f"rate {rate}", change(base, learning_rate=rate), row="simclr", x=rate,
            published=60 + rate,
        )
        for rate in (0.001, 0.004)
    )  # fmt: skip
    return Grid(
        source="nowhere", arms=arms,
        claims=(Claim(text="4e-3 is better", comparisons=(greater("rate 0.004", "rate 0.001"),)),),
        drawn="curve", axis="learning rate", published="invented",
    )  # fmt: skip


VERDICT = {
    "label": "learned", "sentence": "It learned.", "causes": [], "remedy": "", "step": 3,
}  # fmt: skip
WITHOUT_TRAINING = ("simclr/histograms", "supcon/gradients")
RATES = Experiment(name="mine/rates", question="Which rate is better?", grid=rates)


def tiny(**changes):
    return StudyOptions(**{"name": "mine/rates", "data": "scenes", "scale": "tiny", **changes})


def end(cell, root, value, protocols=None):
    """The files of a run that has ended and was judged, without one; by its protocols or these."""
    folder = cell.folder(root)
    for name in ("evaluation", "encoder"):
        (folder / name).mkdir(parents=True)
    row = {
        "subject": "trained", "metric": "accuracy", "layer": "h", "value": value, "setting": {},
    }  # fmt: skip
    for name, content in (
        ("run", {"data": {"fingerprint": "abc"}}),
        ("verdict", VERDICT),
        *(
            (f"evaluation/{protocol}", {"results": [row], "headline": {}})
            for protocol in protocols or cell.protocols
        ),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_an_ended_study_is_figures_tables_claims_and_a_page(tmp_path):
    study = RATES.study(tiny())
    assert [cell.name for cell in study.cells] == [
        "rate 0.001, seed 0", "rate 0.004, seed 0", "rate 0.001, seed 1", "rate 0.004, seed 1",
    ]  # fmt: skip
    for cell, value in zip(study.cells, (0.50, 0.60, 0.52, 0.622), strict=True):
        end(cell, tmp_path, value)
    result = run_study(study, tmp_path, {})
    assert result["ended"]
    assert [(row["arm"], row["seed"], row["linear"]) for row in result["rows"]] == [
        ("rate 0.001", 0, 50.0), ("rate 0.004", 0, 60.0),
        ("rate 0.001", 1, 52.0), ("rate 0.004", 1, 62.2),
    ]  # fmt: skip
    assert result["claims"][0]["holds"] is True
    (line,) = result["drawings"][0]["lines"]
    assert (line["name"], line["points"]) == (
        "simclr", [[0.001, 51.0], [0.004, pytest.approx(61.1)]],
    )  # fmt: skip
    low, high = stats.t.interval(0.95, 1, 51.0, stats.sem([50.0, 52.0]))
    assert line["intervals"][0] == pytest.approx((low, high))
    assert result["tables"][0]["rows"][1][2] == "60.004"
    page = (place_of("mine/rates", tmp_path, "tiny") / "report.html").read_text()
    assert ">Holds.<" in page
    assert "p 0.00" in page
    assert page.count('class="whisker first"') == 2  # for a wide page and a narrow one
    assert f"../{study.cells[0].folder(tmp_path).name}/report.html" in page
    (row,) = ledger_rows(tmp_path)
    assert (row["study"], row["holds"], row["scale"]) == ("mine/rates", True, "tiny")
    assert "mine-rates-tiny/report.html" in write_ledger(tmp_path).read_text()
    assert "scale tiny, seeds 0, 1" in write_ledger(tmp_path).read_text()
    assert ledger_rows(tmp_path) == [row]  # the ledger itself is a file beside the folders
    assert summary([row]).endswith(
        "0 are undecided. Of the scale tiny, whose figures mean nothing: 1 claim."
    )
    assert summary([{**row, "scale": "cpu"}]) == (
        "1 claim about the papers' methods was tested here: 1 holds, 0 do not hold, 0 are undecided."
    )


def test_an_arm_without_a_place_is_a_level_and_another_axis_another_drawing(tmp_path):
    setting = Setting.of(tiny())
    base = setting.recipe("simclr")
    arms = tuple(
        setting.arm(name, change(base, learning_rate=rate), **place)
        for rate, (name, place) in enumerate(
            (("1", {"x": 1.0}), ("2", {"x": 2.0}), ("none", {}),
             ("hot", {"x": 0.5, "axis": "temperature"})),
            start=1,
        )
    )  # fmt: skip
    grid = Grid(arms=arms, claims=(), drawn="curve", axis="width")
    study = grid.study("mine", "?", setting)
    for place, cell in enumerate(study.cells):
        end(cell, tmp_path, 0.1 * (place % 4) + 0.01 * (place // 4))
    width, temperature = study.summarize(tmp_path)["drawings"]
    assert [line["points"] for line in width["lines"]] == [[[1.0, 0.5], [2.0, 10.5]]]
    (level,) = width["levels"]
    assert (level["name"], level["height"]) == ("none", 20.5)
    assert level["interval"][0] < 20.5 < level["interval"][1]
    assert (temperature["title"], temperature["axis"]) == ("linear, by temperature", "temperature")
    assert temperature["levels"] == []
    assert 'dashed second"></i>none 20.5' in drawing(width)
    assert "their intervals at the right border" in drawing(width)
    assert chart_of(width).x_ticks == (1.0, 2.0)


def test_a_matrix_has_the_mean_of_its_rows_where_it_names_one():
    content = {"rows": ["a", "b"], "columns": ["1", "2"], "mean": "row mean"}
    values = [[10.0, 20.0], [30.0, None]]
    page = matrix_table("here", content, values)
    assert ">row mean<" in page
    assert page.count(">15.0<") == 1
    assert page.count(">30.0<") == 1  # a row that is not there yet has no mean
    assert "mean" not in matrix_table("here", {**content, "mean": ""}, values)


def test_a_study_that_has_begun_has_figures_and_no_verdict(tmp_path):
    """Not even where the seeds that are there would decide it."""
    study = RATES.study(tiny(seeds=3))
    for cell, value in zip(study.cells[:4], (0.50, 0.60, 0.52, 0.622), strict=True):
        end(cell, tmp_path, value)
    assert study.summarize(tmp_path)["claims"][0]["holds"] is True
    content = write_study(study, study.cells, tmp_path)
    (claim,) = content["claims"]
    assert (claim["holds"], content["ended"]) == (None, False)
    assert claim["because"] == "It is decided when all runs have ended; 4 of 6 have."
    assert "p" not in claim
    assert "comparisons" not in claim
    assert [row["linear"] for row in content["rows"]] == [50.0, 60.0, 52.0, 62.2, None, None]
    page = (study.folder(tmp_path) / "report.html").read_text()
    assert ">Not decided yet.<" in page
    assert ">Holds.<" not in page
    (row,) = ledger_rows(tmp_path)
    assert row["holds"] is None
    assert "not decided yet" in write_ledger(tmp_path).read_text()
    assert summary([{**row, "scale": "cpu"}]).endswith(" 1 more not decided yet.")


def test_more_seeds_leave_the_verdict_of_fewer_on_the_page(tmp_path):
    few, more = (RATES.study(tiny(seeds=count)) for count in (2, 3))
    for cell, value in zip(few.cells, (0.50, 0.50, 0.52, 0.52), strict=True):
        end(cell, tmp_path, value)
    assert write_study(few, few.cells, tmp_path)["earlier"] == []
    assert write_study(few, few.cells, tmp_path)["earlier"] == []
    earlier = write_study(more, more.cells, tmp_path)["earlier"]
    ((with_, *rest),) = (each.values() for each in earlier)
    assert with_["seeds"] == "0, 1"
    assert rest == [4, [{"text": "4e-3 is better", "holds": None}]]
    for cell in more.cells[4:]:
        end(cell, tmp_path, 0.5)
    content = write_study(more, more.cells, tmp_path)
    assert (content["ended"], content["earlier"]) == (True, earlier)
    page = (more.folder(tmp_path) / "report.html").read_text()
    assert "Earlier verdicts" in page
    assert "seeds: 0, 1" in page
    assert "decided 1 time before" in write_ledger(tmp_path).read_text()


def test_another_scale_overwrites_nothing_of_a_study(tmp_path):
    usual, small = RATES.study(tiny(scale="cpu", seeds=1)), RATES.study(tiny(seeds=1))
    for study in (usual, small):
        for cell in study.cells:
            end(cell, tmp_path, 0.5)
        write_study(study, study.cells, tmp_path)
    scales = {row["folder"]: row["scale"].partition(",")[0] for row in ledger_rows(tmp_path)}
    assert scales == {"mine-rates": "cpu", "mine-rates-tiny": "tiny"}


def test_the_card_has_the_time_of_the_runs(tmp_path):
    study = RATES.study(tiny(seeds=1))
    for cell, seconds in zip(study.cells, (100.0, 140.0), strict=True):
        end(cell, tmp_path, 0.5)
        took = {"seconds": seconds, "device": "cpu", "threads": 1}
        (cell.folder(tmp_path) / "cell.json").write_text(json.dumps(took))
    content = write_study(study, study.cells, tmp_path)
    assert content["card"]["time of the runs"] == "4 min with evaluation on 1 thread (2 runs)"
    assert study.is_in(content, tmp_path)


def test_runs_that_have_not_been_judged_have_not_ended(tmp_path):
    cell = RATES.study(tiny()).cells[0]
    end(cell, tmp_path, 0.5)
    (cell.folder(tmp_path) / "evaluation" / "linear.json").unlink()
    assert cell.is_trained(tmp_path)
    assert not cell.is_ended(tmp_path)
    assert cell.missing(tmp_path) == ("linear",)
    (cell.folder(tmp_path) / "encoder").rmdir()  # its numbers were not finite
    assert cell.is_ended(tmp_path)
    assert LINEAR.read(cell.run(tmp_path)) is None


def test_equal_cells_are_one_whatever_judges_them():
    setting = Setting.of(tiny())
    base = setting.recipe("simclr")
    one, same = (setting.pretrain(name, base, 0, protocols=(name,)) for name in ("knn", "linear"))
    assert one.key == same.key
    other = setting.pretrain("ood", base, 0, more={"outliers": "scenes:test"})
    assert other.key == one.key
    assert setting.pretrain("seed", base, 1).key != one.key


def test_seeds_epochs_images_and_encoder_can_be_given():
    setting = Setting.of(tiny(seeds=5, seed=3, epochs=2, limit=40, encoder="resnet18/4"))
    assert setting.seeds == (3, 4, 5, 6, 7)
    assert setting.data()["limit"] == 40
    made = setting.recipe("simclr", epochs=1.5)
    assert (made.epochs, made.encoder.label()) == (3.0, "ResNet-18 width 1/4")
    with pytest.raises(UnknownName, match="scale"):
        Setting.of(tiny(scale="huge"))
    with pytest.raises(InvalidValue, match="`seeds` is 0"):
        Setting.of(tiny(seeds=0))


def test_options_of_other_studies_are_refused():
    with pytest.raises(InvalidValue, match="does not take `draws`"):
        RATES.study(tiny(draws=2))
    with pytest.raises(InvalidValue, match="in memory"):
        RATES.study(tiny(data=[[1]]))


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("simclr/size", {"encoder": "resnet18"}, "encoder"),
        ("simclrv2/size-labels", {"encoder": "resnet18"}, "encoder"),
        ("simclr/histograms", {"epochs": 3}, "epochs"),
        ("simclr/histograms", {"test": "scenes:test"}, "test"),
        ("supcon/gradients", {"encoder": "resnet18"}, "encoder"),
        ("supcon/gradients", {"data": "photos/"}, "data"),
        ("supcon/gradients", {"limit": 40}, "limit"),
        ("logo/scenes", {"data": "photos/"}, "data"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(name, changes, field):
    with pytest.raises(InvalidValue, match=f"{name} does not take `{field}`; leave it out"):
        STUDIES[name].study(tiny(name=name, **changes))
    # Of all studies it is for the others.
    STUDIES[name].study(without_others(tiny(name=name, **changes), STUDIES[name].takes))


@pytest.mark.parametrize("name", [name for name in STUDIES if hasattr(STUDIES[name], "grid")])
def test_an_encoder_and_epochs_that_are_taken_change_what_is_trained(name):
    def keys(**changes):
        given = {need: ("scenes:test",) for need in STUDIES[name].needs}
        made = STUDIES[name].study(tiny(name=name, scale="cpu", seeds=1, **given, **changes))
        return {cell.key for cell in made.cells}

    for option, value in (("encoder", "resnet18/8"), ("epochs", 7.0)):
        if option in STUDIES[name].takes:
            assert not keys() & keys(**{option: value}), option


def card_of(name, root, **changes):
    return STUDIES[name].study(tiny(name=name, scale="cpu", **changes)).card(root)


def test_a_card_says_what_the_runs_train(tmp_path):
    size = card_of("simclrv2/size-labels", tmp_path)
    assert size["encoder"].count("ResNet") == 3
    assert size["fine-tuning"] == (
        "60 epochs on 1% of the labels; 30 epochs on 10% of the labels; "
        "30 epochs on 100% of the labels"
    )
    batches = card_of("simclr/batch-epochs", tmp_path, epochs=10, seeds=2)
    assert batches["epochs"] == "5, 10, 20"
    assert batches["encoder"] == "ResNet-10 width 1/4, medium stem"
    assert batches["scale"] == "cpu, 10 epochs, 2 seeds"
    assert "runs begun" not in batches
    distilled = card_of("simclrv2/distill", tmp_path)
    assert distilled["scale"] == "cpu"
    assert distilled["distillation"] == (
        "20 epochs into a network like the teacher; 20 epochs into ResNet-10 width 1/8, medium stem"
    )


def test_of_all_studies_each_gets_the_special_options_that_it_takes():
    needed = {name: ("scenes:test",) for name in NEEDED}
    options = tiny(name="all", draws=1, seeds=1, **needed)
    own = {name: without_others(options, each.takes) for name, each in STUDIES.items()}
    for name, each in STUDIES.items():
        each.study(own[name])
    chain, outliers = own["simclrv2/chain"], own["supcon/ood"]
    assert (chain.draws, chain.seeds, chain.outliers) == (1, None, ())
    assert (outliers.draws, outliers.seeds, outliers.outliers) == (3, 1, ("scenes:test",))


def test_a_claim_about_an_arm_that_is_not_there_is_refused():
    with pytest.raises(InvalidValue, match="is about 'b'"):
        Grid(
            arms=(Arm(name="a", cell=lambda seed: None),),
            claims=(Claim(text="it", comparisons=(greater("a", "b"),)),),
        )  # fmt: skip


@pytest.mark.parametrize("name", list(STUDIES))
@pytest.mark.parametrize("scale", ["tiny", "cpu", "gpu"])
def test_every_study_can_be_made(name, scale):
    """Recipes are valid, arms have names, claims are about them."""
    given = {need: ("scenes:test",) for need in STUDIES[name].needs}
    study = STUDIES[name].study(StudyOptions(name=name, data="scenes", scale=scale, **given))
    assert study.cells or name in WITHOUT_TRAINING
    assert study.claim.endswith(("?", "."))


@pytest.mark.parametrize("name", [name for name in STUDIES if hasattr(STUDIES[name], "grid")])
def test_runs_are_judged_by_what_is_shown_of_them(name):
    """A figure of a protocol that judges no run of an arm would be a column of dashes."""
    given = {need: ("scenes:test",) for need in STUDIES[name].needs}
    options = StudyOptions(name=name, data="scenes", scale="tiny", **given)
    grid = STUDIES[name].grid(Setting.of(options, STUDIES[name].amounts))
    shown = {measure.protocol for measure in grid.measures if measure.protocol}
    for cell in (arm.cell(0) for arm in grid.arms):
        assert cell.verb != "pretrain" or shown <= set(cell.protocols), cell.name


def test_two_jobs_train_and_judge_the_runs(tmp_path):
    study = RATES.study(tiny(seeds=1, limit=48))
    result = run_study(study, tmp_path, {"device": "cpu"}, jobs=2)
    assert result["ended"]
    assert all(0 <= row["linear"] <= 100 for row in result["rows"])
    for cell in study.cells:
        assert cell.run(tmp_path).recipe == dict(cell.settings)["recipe"]
        took = cell.took(tmp_path)
        assert took["seconds"] > 0
        assert (took["device"], took["threads"]) == ("cpu", max(1, cores() // 2))


def test_a_cell_waits_for_those_that_it_needs(tmp_path):
    setting = Setting.of(tiny())
    first, other = (setting.pretrain("x", setting.recipe("simclr"), seed) for seed in (0, 1))
    tuned = Cell(name="tuned", verb="finetune", settings=(("start", first),))
    assert ready([first, other, tuned], [], tmp_path) == [first, other]
    assert ready([first, tuned], [first], tmp_path) == []
    end(first, tmp_path, 0.5)
    assert ready([tuned], [other], tmp_path) == [tuned]


def test_a_failure_in_a_process_is_a_sentence_for_the_study(tmp_path):
    bad = Cell(
        name="bad", verb="pretrain", settings=(("data", "nowhere"), ("recipe", "simclr-cpu"))
    )
    assert "nowhere" in in_process(bad, tmp_path, {"device": "cpu"}).sentence


def test_an_error_beside_the_runs_stops_them(monkeypatch):
    sent = []
    monkeypatch.setattr("coview.studies.jobs.os.kill", lambda *signal: sent.append(signal))
    with pytest.raises(RunError, match="other images"), _Stop(lambda: [17]):
        raise RunError("other images")
    assert sent == [(17, signal.SIGTERM)]


def test_axes_of_a_sweep():
    base = recipe("simclr-cpu")
    axes = axes_of(["optimizer.learning_rate=1e-3,2e-3", "epochs=1"])
    assert axes == {"optimizer.learning_rate": ["1e-3", "2e-3"], "epochs": ["1"]}
    made = changed(base, {"optimizer.learning_rate": "2e-3", "epochs": 2.0, "encoder": "resnet18"})
    assert (made.optimizer.learning_rate, made.epochs, made.encoder.depth) == (2e-3, 2.0, 18)
    assert list(axes_of({"epochs": [1, 2]})) == ["epochs"]
    for wrong in ("epochs", "epochs=", "=1", "epochs=1,,2"):
        with pytest.raises(InvalidValue, match="expected FIELD=VALUE"):
            axes_of([wrong])
    with pytest.raises(UnknownName):
        changed(base, {"optimizer.rate": "1"})


def test_values_of_a_field_with_commas_and_values_alone():
    assert axes_of(["crop.area=0.2,1;"]) == {"crop.area": ["0.2,1"]}
    assert axes_of("epochs=10,20") == {"epochs": ["10", "20"]}
    assert axes_of({"epochs": 10, "encoder": "resnet18,resnet34"}) == {
        "epochs": [10], "encoder": ["resnet18", "resnet34"],
    }  # fmt: skip
    with pytest.raises(InvalidValue, match="semicolons separate them"):
        axes_of(["crop.area=0.2,1;;"])


@pytest.mark.parametrize("given", [["seed=0,1"], {"seed": [0, 1]}])
def test_seeds_are_no_field_of_a_sweep(given):
    with pytest.raises(
        InvalidValue, match="`seeds` is how many there are, and `seed` is the first"
    ):
        axes_of(given)


def test_a_warm_up_that_stays_is_said():
    base = recipe("simclr-cifar")
    (said,) = long_warmups(base, {"epochs": ["10", "1000"]})
    assert said.startswith(f"Of 10 epochs {base.schedule.warmup_epochs:g} are a warm-up")
    assert not long_warmups(base, {"epochs": ["10"], "schedule.warmup_epochs": ["1"]})


def test_a_sweep_of_logits_has_those_of_the_images(tmp_path):
    for label in ("ant", "bee", "cat"):
        folder = tmp_path / label
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "1.png")
    made = with_classes(recipe("supervised-cpu"), setting_of(SweepOptions(data=tmp_path)))
    assert made.method.objective.classes == made.method.head.output == 3


def test_runs_that_collapsed_are_named_beside_the_verdict(tmp_path, capsys):
    study = RATES.study(tiny(seeds=2))
    for cell in study.cells:
        end(cell, tmp_path, 0.5)
    verdict = tmp_path / study.cells[1].folder(tmp_path) / "verdict.json"
    verdict.write_text(json.dumps({**VERDICT, "label": "collapsed"}))
    content = write_study(study, study.cells, tmp_path)
    said = "1 of 4 runs: rate 0.004, seed 0"
    assert content["card"]["collapsed or diverged"] == said
    page = (study.folder(tmp_path) / "report.html").read_text()
    assert page.count(said) == 2  # beside the verdict and on the card
    run_one(RATES, tiny(seeds=2), tmp_path)
    out = capsys.readouterr().out
    assert f"Collapsed or diverged: {said}.\n" in out
    assert f"{MEANINGLESS}\n" in out


def test_results_show_themselves_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr("coview.studies.run.STUDIES", {"mine/rates": RATES})
    settings = {"data": "scenes", "scale": "tiny", "out": tmp_path}
    planned = coview.study(RATES, **settings, dry_run=True)
    assert "mine/rates: To run: 4 runs, about" in planned._repr_html_()
    shown = coview.study(**settings)._repr_html_()
    assert "mine/rates" in shown
    assert "0 of 4 runs, about" in shown
    assert "4e-3 is better: not decided yet" in shown
    for cell in RATES.study(tiny()).cells:
        end(cell, tmp_path, 0.5)
    for name in ("all", None):
        assert "4e-3 is better: undecided" in coview.study(name, **settings)._repr_html_()


def test_images_in_place_of_a_name_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("coview.studies.run.STUDIES", {"mine/rates": RATES})
    (tmp_path / "labeled" / "ant").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "labeled" / "ant" / "1.png")
    place, out = str(tmp_path / "labeled"), str(tmp_path / "out")
    assert main(["study", place, "--scale", "tiny", "--out", out]) == 0
    said = capsys.readouterr().out
    assert f"Studies of {place} at the scale tiny" in said
    assert "mine/rates: 0 of 4 runs" in said
    with pytest.raises(UnknownName, match="study"):
        coview.study("simclr/temprature", out=out)


def test_the_scale_paper_needs_images(tmp_path):
    for name in ("simclr/temperature", "all", RATES):
        with pytest.raises(InvalidValue, match="ImageNet's recipes"):
            coview.study(name, scale="paper", dry_run=True, out=tmp_path)


def test_a_network_that_does_not_fit_does_not_end_the_list(tmp_path, monkeypatch):
    def fail(*_):
        raise OutOfMemoryError("too large")

    monkeypatch.setattr(Speeds, "estimate", fail)
    row = _row(RATES, tiny(), tmp_path, Speeds("cpu", 1))
    assert "too large" in row["error"]


def test_a_sweep_is_a_table_of_runs(tmp_path, capsys):
    words = [
        "sweep", "scenes", "--limit", "60", "--set", "method.objective.temperature=0.1,0.5",
        "--set", "encoder=resnet10/8-small", "--set", "epochs=1", "--set", "batch_size=16",
        "--set", "schedule.warmup_epochs=0", "--protocols", "knn", "--out", str(tmp_path),
    ]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert "To run: 2 runs" in capsys.readouterr().out
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "temperature 0.1" in out
    assert "Too early to judge" in out
    assert "What to do" not in out  # a run of several is not trained longer by itself
    assert "seed 0: knn " in out or "seed 0: kNN " in out
    assert "method.objective.temperature 0.1" not in out.split("To run")[1]
    again = coview.sweep(
        "scenes", limit=60, protocols="knn", out=tmp_path,
        set={
            "method.objective.temperature": [0.1, 0.5], "encoder": ["resnet10/8-small"],
            "epochs": [1.0], "batch_size": [16], "schedule.warmup_epochs": [0.0],
        },
    )  # fmt: skip
    assert again["ended"]
    assert len(again.rows) == 2
    temperatures = [row["method.objective.temperature"] for row in again.rows]
    assert (temperatures, again.rows[0]["encoder"]) == ([0.1, 0.5], "resnet10/8-small")
    assert "<table" in again._repr_html_()


def test_the_list_names_every_study(tmp_path, capsys):
    assert main(["study", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES)
    assert "- Crop has the best mean over its row: not tested yet\n" in out


def test_the_list_has_the_verdicts_of_runs_that_are_those_asked_for(tmp_path):
    """Those of a study of other data in the same folder are not shown."""
    options = StudyOptions(name=None, data="scenes", scale="tiny")
    made = RATES.study(options)
    for cell in made.cells:
        end(cell, tmp_path, 0.5)
    run_study(made, tmp_path, {})
    speeds = Speeds("cpu", 1)
    (claim,) = _row(RATES, options, tmp_path, speeds)["claims"]
    assert (claim["holds"], claim["tested"]) == (None, True)
    for others in ({"limit": 48}, {"encoder": "resnet18/8"}, {"seed": 1}):  # as many runs
        (claim,) = _row(RATES, replace(options, **others), tmp_path, speeds)["claims"]
        assert (claim["holds"], claim["tested"]) == (None, False)


@pytest.mark.parametrize("need", NEEDED)
def test_the_list_has_claims_and_cost_of_studies_that_need_further_images(tmp_path, need):
    (name,) = (name for name, each in STUDIES.items() if each.needs == (need,))
    options = StudyOptions(name=None, data="scenes", scale="tiny")
    row = _row(STUDIES[name], options, tmp_path, Speeds("cpu", 1, steps=1))
    assert row["needs"] == (need,)
    assert row["runs"] > 0
    assert row["seconds"] > 0
    assert row["claims"]


def test_of_all_studies_one_fails_in_a_sentence_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken(setting):
        raise DataError("No labels.")

    studies = {
        "mine/broken": Experiment(name="mine/broken", question="?", grid=broken),
        "mine/rates": RATES,
    }
    monkeypatch.setattr("coview.studies.run.STUDIES", studies)
    study = RATES.study(tiny(name="all"))
    words = ["study", "all", "scenes", "--scale", "tiny", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 2
    assert not (tmp_path / "out").exists()
    for cell in study.cells:
        end(cell, tmp_path / "out", 0.5)
    assert main(words) == 2
    out = capsys.readouterr().out
    assert "mine/broken has failed: No labels." in out
    assert "Studies that have ended: 1 of 2." in out
    assert "4e-3 is better: undecided" in out
    assert (tmp_path / "out" / "claims.html").exists()


def test_the_figure_of_an_arm_is_the_one_that_represents_the_protocol():
    assert (LINEAR.protocol, LINEAR.metric, LINEAR.layer) == ("linear", "accuracy", "h")


def test_recipes_with_logits_have_the_classes_of_the_images(tmp_path):
    for label in ("ant", "bee", "cat"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (32, 32), (number * 8, 9 * len(label), 90)).save(
                folder / f"{number}.png"
            )
    setting = Setting.of(tiny(data=str(tmp_path / "images")))
    made = setting.recipe("supervised")
    assert made.method.objective.classes == 3
    assert made.method.head.output == 3
    assert setting.recipe("simclr") == Setting.of(tiny()).recipe("simclr")
    study = STUDIES["supcon/methods"].study(tiny(data=str(tmp_path / "images"), seeds=1))
    cell = next(cell for cell in study.cells if cell.name.startswith("cross-entropy"))
    assert cell.train(tmp_path / "runs", {}).is_ended


def test_supervised_features_are_expected_to_transfer_better(tmp_path):
    study = STUDIES["simclr/transfer"].study(tiny(seeds=3, transfer=("scenes",)))
    for place, cell in enumerate(study.cells):
        end(cell, tmp_path, 0.5, protocols=("linear",))
        value = (0.7 if cell.name.startswith("supervised") else 0.6) + 0.001 * place**2
        (cell.folder(tmp_path) / "evaluation" / "transfer.json").write_text(json.dumps({
            "headline": {}, "results": [{"subject": "trained", "metric": "transfer_mean",
            "layer": "h", "value": value, "setting": {}}],
        }))  # fmt: skip
        cell._keep(tmp_path, more={"transfer": [["transfer", ["scenes"]]]})
    content = study.summarize(tmp_path)
    assert [claim["holds"] for claim in content["claims"]] == [True]


def test_another_claim_about_the_same_runs_leaves_the_verdict_of_the_first(tmp_path):
    made = RATES.study(tiny(seeds=3))
    for place, cell in enumerate(made.cells):
        end(cell, tmp_path, 0.5 + 0.1 * ("0.004" in cell.name) + 0.001 * place)
    first = run_study(made, tmp_path, {})
    assert run_study(made, tmp_path, {})["earlier"] == []
    other = Claim(text="1e-3 is better", comparisons=(greater("rate 0.001", "rate 0.004"),))
    turned = replace(RATES, grid=lambda setting: replace(rates(setting), claims=(other,)))
    again = run_study(turned.study(tiny(seeds=3)), tmp_path, {})
    ((before,),) = (each["claims"] for each in again["earlier"])
    assert before == {"text": first["claims"][0]["text"], "holds": first["claims"][0]["holds"]}


def test_a_card_of_cells_that_plan_for_themselves():
    """Without a recipe, and with an encoder by its name."""
    planned = Cell(name="a", verb="pretrain", settings=(("data", "scenes"),))
    named = Cell(name="b", verb="pretrain", settings=(("encoder", "resnet18"), ("epochs", 3)))
    tuned = Cell(name="c", verb="finetune", settings=(("data", "scenes"), ("start", planned)))
    assert training_card([planned]) == {}
    assert training_card([planned, named, tuned]) == {
        "epochs": "3", "encoder": "ResNet-18",
        "fine-tuning": "the epochs of the plan on 100% of the labels",
    }  # fmt: skip


def test_labels_of_all_images_leave_nothing_to_test_on(tmp_path):
    for part in ("", "train", "test"):
        for label in ("ant", "bee"):
            folder = tmp_path / (part or "whole") / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (32, 32), (number * 8, 9, 90)).save(folder / f"{number}.png")
    parted = tmp_path / "parted"
    parted.mkdir()
    for part in ("train", "test"):
        (tmp_path / part).rename(parted / part)
    methods = STUDIES["supcon/methods"]
    whole = StudyOptions(name="supcon/methods", data=str(tmp_path / "whole"))
    with pytest.raises(
        InvalidValue, match=r"-cpu learns the labels of all images of .*; give `test`"
    ):
        methods.study(whole)
    assert methods.study(replace(whole, test=str(tmp_path / "whole"))).cells
    assert methods.study(replace(whole, data=str(parted))).cells
    assert methods.study(replace(whole, scale="tiny")).cells
    assert STUDIES["simclr/temperature"].study(replace(whole, name="simclr/temperature")).cells


def test_an_error_in_a_file_of_the_user_is_said_with_its_line(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from coview.studies import Experiment, greater\n\n\n"
        "def grid(setting):\n    return greater('a', 'b', metric='knn')\n\n\n"
        "def other(setting):\n    return setting.recipe('simcrl')\n\n\n"
        "RATES = Experiment(name='mine/a', question='?', grid=grid)\n"
        "OTHER = Experiment(name='mine/b', question='?', grid=other)\n"
    )
    said = {}
    for name in ("RATES", "OTHER", "RATEZ"):
        words = ["study", f"{file}:{name}", "--scale", "tiny", "--out", str(tmp_path / "out")]
        assert main(words) == 2
        said[name] = capsys.readouterr().err
    assert "mine.py, line 5: TypeError: greater() got an unexpected" in said["RATES"]
    assert "mine.py, line 9: There is no recipe 'simcrl-cpu'" in said["OTHER"]
    assert "has no study 'RATEZ'; expected an Experiment such as RATES, OTHER." in said["RATEZ"]


def test_a_page_of_the_scale_tiny_says_what_it_is_worth_and_has_every_figure(tmp_path):
    made = RATES.study(tiny(seeds=2))
    for place, cell in enumerate(made.cells):
        end(cell, tmp_path, 0.5 + 0.01 * place)
    run_study(made, tmp_path, {})
    page = (made.folder(tmp_path) / "report.html").read_text()
    assert "whose figures mean nothing" in page
    assert "The figures of all 4 runs" in page
    assert "51.00" in page
