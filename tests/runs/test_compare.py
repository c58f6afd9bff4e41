"""Runs side by side: what differs, and what their figures prove."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import coview
from coview.cli import main
from coview.core.errors import InvalidValue, RunError
from coview.evaluation import Outcomes
from coview.evaluation.statistics import holm
from coview.reports.records import read_record
from coview.reports.run_comparison import run_charts
from coview.runs.compare import (
    RunFigure,
    figure_notes,
    paired_tests,
    recipe_sentence,
    recipe_tests,
    seed_means,
)
from small_run import SMALL, pictures

TEST = pictures(45, seed=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of one recipe, the last two with other seeds, and a fourth of another recipe."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for name, seed, batch in (("a", 0, 32), ("b", 1, 32), ("c", 2, 32), ("d", 0, 16)):
        options = {**SMALL, "batch_size": batch, "seed": seed}
        run = coview.pretrain(pictures(), epochs=1, out=folder / name, **options)
        coview.evaluate(run, pictures(), test=TEST, protocols="knn", device="cpu")
        made.append(run)
    return made


def headline(run):
    content = json.loads((run.evaluation_path / "knn.json").read_text())
    (row,) = [
        row for row in content["results"]
        if row["subject"] == "trained" and row["layer"] == "h"
        and row["setting"]["k"] == 20 and row["setting"]["temperature"] == 0.07
    ]  # fmt: skip
    return row


def test_runs_of_equal_budgets_do_not_differ_in_the_first_guess_of_their_epochs(runs, tmp_path):
    def with_budget(run, name, seconds, epochs):
        path = shutil.copytree(run.path, tmp_path / name)
        content = json.loads((path / "run.json").read_text())
        del content["digest"]  # an edit on purpose
        content["durations"][-1] |= {"epochs": epochs, "budget": seconds}
        content["recipe"]["epochs"] = epochs
        content["recipe"]["schedule"]["warmup_epochs"] = epochs / 10
        (path / "run.json").write_text(json.dumps(content))
        return path

    one, other, longer = (
        with_budget(runs[0], name, seconds, epochs)
        for name, seconds, epochs in (("one", 180.0, 0.5), ("other", 180.0, 0.2), ("longer", 60, 1.0))
    )  # fmt: skip
    same = coview.compare([one, other]).differences
    assert not {"recipe.epochs", "recipe.schedule.warmup_epochs"} & same.keys()
    assert coview.compare([one, longer]).differences["recipe.epochs"] == {
        "one": "those of 3 min", "longer": "those of 60 s",
    }  # fmt: skip


def test_rows_say_what_differs_and_figures_are_those_that_represent_the_protocol(runs):
    rows = coview.compare(runs)
    assert [row["name"] for row in rows] == ["a", "b", "c", "d"]
    assert rows.differences["recipe.seed"] == {"a": 0, "b": 1, "c": 2, "d": 0}
    assert rows.differences["recipe.batch_size"] == {"a": 32, "b": 32, "c": 32, "d": 16}
    assert "recipe.encoder.depth" not in rows.differences
    assert [(figure.run, figure.value) for figure in rows.figures] == [
        (run.path.name, headline(run)["value"]) for run in runs
    ]
    assert rows.path is None


def test_a_pattern_stands_for_the_runs_that_it_matches(runs):
    pattern = str(runs[0].path.with_name("[ab]"))
    assert [row["name"] for row in coview.compare([pattern])] == ["a", "b"]
    with pytest.raises(RunError, match=r"No run matches .*nothing\*"):
        coview.compare([str(runs[0].path.with_name("nothing*"))])


def test_the_first_run_is_tested_against_others_on_the_same_images(runs):
    rows = coview.compare(runs)
    assert [(test["first"], test["second"]) for test in rows.tests] == [
        ("a", "b"), ("a", "c"), ("a", "d"),
    ]  # fmt: skip

    def right(run):
        packed = headline(run)["outcomes"]
        bits = np.unpackbits(
            np.frombuffer(__import__("base64").b64decode(packed["bits"]), np.uint8)
        )
        return bits[: packed["count"]].astype(bool)

    one, other = right(runs[0]), right(runs[1])
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    expected = sum(
        math.comb(won + lost, k)
        for k in range(won + lost + 1)
        if abs(2 * k - won - lost) >= abs(won - lost)
    ) / 2 ** (won + lost)
    assert rows.tests[0]["p"] == pytest.approx(expected)
    assert rows.tests[0]["images"] == 45
    assert [test["p_holm"] for test in rows.tests] == holm([test["p"] for test in rows.tests])
    sentence = "(paired permutation test on 45 images, Holm over 3 tests)."
    assert [text.endswith(sentence) for text in rows.sentences()[:3]] == [True] * 3
    (alone,) = coview.compare(runs[:2]).tests
    assert "p_holm" not in alone


def test_other_training_images_of_an_evaluation_are_not_compared(runs, tmp_path):
    copy = shutil.copytree(runs[1].path, tmp_path / "copy")
    some = tuple(part[:90] for part in pictures())
    coview.evaluate(copy, some, test=TEST, protocols="knn", device="cpu")
    rows = coview.compare([runs[0], copy])
    assert (rows.tests, rows.seeds) == ([], [])


def test_other_test_images_are_not_compared_and_the_figures_are_marked(runs, tmp_path, capsys):
    copy = shutil.copytree(runs[1].path, tmp_path / "copy")
    coview.evaluate(copy, pictures(), test=pictures(36, seed=2), protocols="knn", device="cpu")
    rows = coview.compare([runs[0], copy], out=tmp_path / "page.html")
    assert rows.tests == []
    (note,) = rows.notes
    assert (note.runs, note.titles) == (("a", "copy"), ("kNN accuracy",))
    assert note.sentence() == (
        "* kNN accuracy: not on the same test images (a: 45 images of arrays; copy: 36 images of "
        "arrays): no comparison of the runs."
    )
    page = (tmp_path / "page.html").read_text()
    assert page.count("<sup>*</sup>") == 2
    assert note.sentence() in page
    capsys.readouterr()
    assert main(["compare", str(runs[0].path), str(copy)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("%*") == 2
    assert note.sentence() in printed
    assert main(["compare", str(runs[0].path), str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0]["titles"] == ["kNN accuracy"]
    assert coview.compare(runs).notes == []


def test_notes_on_figures_say_which_images_differ():
    assert figure_notes([figure("a"), figure("b")]) == []
    assert [note.text for note in figure_notes([figure("a"), figure("b", train="other")])] == [
        "not with the same training images: 90 images of photos each, but others: no comparison of the runs."
    ]
    (note,) = figure_notes([figure("a"), replace(figure("b"), caveats=("Known images.",))])
    assert (note.runs, note.sentence()) == (("b",), "* kNN accuracy of b: Known images.")


def test_runs_that_differ_by_their_seed_alone_have_a_mean_and_its_interval(runs):
    (mean,) = coview.compare(runs).seeds
    assert mean["runs"] == ["a", "b", "c"]
    values = [headline(run)["value"] for run in runs[:3]]
    assert mean["mean"] == pytest.approx(np.mean(values))
    assert list(mean["values"].values()) == values
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert mean["interval"] == pytest.approx([low, high])
    assert coview.compare([runs[0], runs[3]]).seeds == []
    assert (
        coview.compare([runs[0], shutil.copytree(runs[0].path, runs[0].path.parent / "e")]).seeds
        == []
    )


def test_a_run_that_is_going_or_was_never_judged_is_in_the_table(runs, tmp_path):
    going = tmp_path / "going"
    shutil.copytree(runs[1].path, going)
    shutil.rmtree(going / "evaluation")
    (going / "verdict.json").unlink()
    lines = (going / "metrics.jsonl").read_text().splitlines()
    (going / "metrics.jsonl").write_text("\n".join(lines[:3]) + '\n{"kind": "st')
    rows = coview.compare([runs[0], going], out=tmp_path / "page.html")
    assert rows[1]["verdict"] == "not ended"
    assert {figure.run for figure in rows.figures} == {"a"}
    assert "not ended" in (tmp_path / "page.html").read_text()


def test_curves_of_all_runs_are_in_one_chart(runs):
    charts = {c.title: c for c in run_charts({run.path.name: read_record(run) for run in runs})}
    assert {"Loss", "kNN while training"} <= charts.keys()
    assert [line.name for line in charts["Loss"].lines] == ["a", "b", "c", "d"]
    # The chance level depends on the batch, the number of classes does not.
    assert charts["Loss"].levels == ()
    assert [level.name for level in charts["kNN while training"].levels] == ["chance level"]


def test_the_command_prints_a_table_or_json(runs, tmp_path, capsys):
    words = [str(run.path) for run in runs[:2]]
    assert main(["compare", *words, "--out", str(tmp_path / "two.html")]) == 0
    printed = capsys.readouterr().out
    assert "seed" in printed
    assert "paired permutation test" in printed
    assert "<svg" in (tmp_path / "two.html").read_text()
    assert main(["compare", *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in printed["runs"]] == ["a", "b"]
    assert printed["tests"][0]["first"] == "a"


def test_mistakes_are_sentences(runs, tmp_path):
    with pytest.raises(InvalidValue, match="two or more"):
        coview.compare([runs[0], runs[0]])
    with pytest.raises(InvalidValue, match="two or more"):
        coview.compare(runs[0])
    with pytest.raises(RunError, match="Did you mean"):
        coview.compare([runs[0], runs[0].path.parent / "aa"])
    with pytest.raises(InvalidValue, match=r"\.html"):
        coview.compare(runs[:2], out=tmp_path / "page.txt")


def figure(
    run, *, layer="h", k=20, source="photos", test="abc", train="def", count=90,
    right=(True, False, True),
):  # fmt: skip
    setting = {"k": k, "neighbors_used": 7 if run == "a" else 9}
    return RunFigure(
        run=run, protocol="knn", title="kNN accuracy", metric="accuracy", layer=layer,
        setting=setting, asked={"k": k}, value=0.5, interval=None, test=test, source=source,
        train=train, train_part=("photos", count),
        outcomes=Outcomes.of(np.array(right)),
    )  # fmt: skip


def test_outcomes_that_the_seed_of_the_evaluation_draws_are_tested_for_equal_seeds_alone(
    runs, tmp_path
):
    def copy(run, name, seed):
        path = shutil.copytree(run.path, tmp_path / name)
        content = json.loads((path / "evaluation" / "knn.json").read_text())
        content |= {"protocol": "invariance", "card": {**content["card"], "seed": seed}}
        (path / "evaluation" / "invariance.json").write_text(json.dumps(content))
        return path

    one, other, third = (
        copy(run, str(place), seed)
        for place, (run, seed) in enumerate(zip(runs, (0, 1, 0), strict=False))
    )
    tests = coview.compare([one, other, third]).tests
    assert [(test["protocol"], test["second"]) for test in tests] == [
        ("knn", "1"), ("knn", "2"), ("invariance", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("changes", [{"layer": "z"}, {"k": 200}, {"train": "other"}], ids=str)
def test_figures_of_another_layer_setting_or_training_part_are_not_tested_against_each_other(
    changes,
):
    assert len(paired_tests([figure("a"), figure("b")])) == 1
    assert paired_tests([figure("a"), figure("b", **changes)]) == []


@pytest.mark.parametrize(
    "changes", [{"layer": "z"}, {"k": 200}, {"source": "other"}, {"count": 30}], ids=str
)
def test_a_mean_over_seeds_is_of_one_layer_setting_and_data(changes):
    rows = [{"name": name, "recipe.seed": seed} for seed, name in enumerate("ab")]
    assert len(seed_means(rows, [figure("a"), figure("b", test="other seed", train="too")])) == 1
    assert seed_means(rows, [figure("a"), figure("b", **changes)]) == []


def seed_mean(name, values, **changes):
    return {
        "protocol": "knn", "title": "kNN accuracy", "metric": "accuracy", "tested_on": "test",
        "runs": [f"{name}{seed}" for seed in values], "values": values, **changes,
    }  # fmt: skip


def test_two_recipes_are_tested_seed_by_seed():
    one, other = {"0": 0.61, "1": 0.55, "2": 0.70}, {"2": 0.66, "0": 0.58, "1": 0.53}
    third = {"0": 0.5, "1": 0.4, "2": 0.9}
    (test,) = recipe_tests([seed_mean("a", one), seed_mean("b", other)])
    pairs = stats.ttest_rel([one[seed] for seed in "012"], [other[seed] for seed in "012"])
    assert (test["p"], test["difference"]) == pytest.approx((pairs.pvalue, 0.03))
    assert recipe_sentence(test) == (
        "kNN accuracy, seed by seed: a0, a1, a2 are 3.0 points above b2, b0, b1, p = 0.035 (t-test "
        "over 3 seeds)."
    )
    several = recipe_tests([seed_mean("a", one), seed_mean("b", other), seed_mean("c", third)])
    assert [each["tests"] for each in several] == [2, 2]
    assert several[0]["p_holm"] == pytest.approx(2 * pairs.pvalue)


@pytest.mark.parametrize(
    "other",
    [{"protocol": "linear"}, {"tested_on": "other"}, {"values": {"0": 0.5, "2": 0.6}}],
    ids=str,
)
def test_means_of_other_seeds_protocols_or_images_are_not_tested(other):
    one = seed_mean("a", {"0": 0.61, "1": 0.55})
    assert recipe_tests([one, {**one, **other}]) == []


def write_run(folder, seed, **changes):
    folder.mkdir()
    opened = {"labels": "1%", "label_draw": 0, "test": {"source": "test"}, **changes}
    start, teacher = opened.pop("start", "runs/simclr"), opened.pop("teacher", "abc")
    (folder / "run.json").write_text(json.dumps({
        "kind": "distill", "recipe": {"seed": seed}, "data": {"opened": opened},
        "start": {"path": start, "checkpoint": None}, "teacher": {"hash": teacher},
    }))  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"start": "runs/byol"}, "start"),
        ({"teacher": "def"}, "teacher"),
        ({"labels": "10%"}, "data.labels"),
        ({"label_draw": 1}, "data.label_draw"),
        ({"test": {"source": "other"}}, "data.test.source"),
    ],
    ids=str,
)
def test_what_a_run_was_made_from_is_a_difference_and_no_seed(changes, key, tmp_path):
    folders = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, **changes)]
    rows = coview.compare(folders)
    assert rows.differences.keys() == {"recipe.seed", key}
    assert seed_means(rows, [figure("a"), figure("b")]) == []
    alike = coview.compare([folders[0], write_run(tmp_path / "c", 1)])
    assert len(seed_means(alike, [figure("a"), figure("c")])) == 1
