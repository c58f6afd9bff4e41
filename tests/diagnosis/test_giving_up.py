"""A run is given up only where nothing will move its embeddings apart."""

import json
from pathlib import Path

import pytest

from coview.diagnosis.giving_up import lost_since

RECORDED = json.loads(Path(__file__).with_name("verdicts.json").read_text())
RUNS = {run["name"]: run for run in RECORDED["runs"]}
# At the last two reports of the recorded ones two views of one image are as unlike as of two images.
LOST = {"cifar: collapsed": [228, 304]}


def rows_of(run):
    reports = [
        {"kind": "health", "step": step, "parameter_change": change,
         "figures": dict(zip(RECORDED["figures"], values, strict=True))}
        for step, change, *values in run["health"]
    ]  # fmt: skip
    return sorted([*reports, *run["knn"]], key=lambda row: row["step"])


def lost(run, rows, after=0):
    description = run["description"]
    return lost_since(description, rows, total_steps=description["total_steps"], after=after)


@pytest.mark.parametrize("name", RUNS)
def test_no_recorded_run_that_learns_is_lost_at_any_report(name):
    run, rows = RUNS[name], rows_of(RUNS[name])
    ends = [place for place, row in enumerate(rows, 1) if row["kind"] == "health" and row["step"]]
    found = [lost(run, rows[:end]) for end in ends]
    if name not in LOST:
        assert all(len(steps) < 2 for steps in found)
    else:
        assert found[-1] == LOST[name]


def siamese(objective="NegativeCosine", **figures):
    """A run of six reports whose embeddings are alike from step 300 on."""
    name = "cifar: collapsed"
    run = {**RUNS[name], "description": json.loads(json.dumps(RUNS[name]["description"]))}
    run["description"]["recipe"]["method"]["objective"]["type"] = objective
    run["description"]["total_steps"] = 1000
    untrained, *_, collapsed = (row for row in rows_of(run) if row["kind"] == "health")
    late = {**collapsed, "figures": {**collapsed["figures"], **figures}}
    return run, [untrained, *({**late, "step": step} for step in (100, 300, 400, 500, 600))]


def test_two_reports_in_a_row_count_and_none_before_step_200_or_after():
    run, rows = siamese()
    assert lost(run, rows[:2]) == []  # step 100
    assert lost(run, rows[:3]) == [300]
    assert lost(run, rows) == [500, 600]
    assert lost(run, rows, after=500) == [600]
    assert lost(run, rows, after=600) == []


def test_a_run_that_leaves_the_state_is_not_lost():
    run, rows = siamese()
    apart = {**rows[-1]["figures"], "mean_negative_similarity": 0.1}
    assert lost(run, [*rows, {**rows[-1], "step": 700, "figures": apart}]) == []


def test_negatives_drive_embeddings_apart_unless_the_output_is_constant():
    run, rows = siamese("NTXent")
    assert lost(run, rows) == []
    same = {"feature_std_z": 1e-5, "mean_positive_similarity": 1.0, "mean_negative_similarity": 1.0}
    run, rows = siamese("NTXent", **same)
    assert lost(run, rows) == [500, 600]


def test_local_views_that_repel_each_other_drive_embeddings_apart():
    run, rows = siamese()
    run["description"]["recipe"]["method"]["repulsion"] = {"affinity": {"type": "Cosine"}}
    assert lost(run, rows) == []


@pytest.mark.parametrize(
    "figures",
    [
        # SimSiam whose heads have no BatchNorm after 352 steps: narrow, and its views match
        {"feature_std_z": 0.04, "mean_positive_similarity": 0.999,
         "mean_negative_similarity": 0.9982},
        # SimSiam without predictor at step 352, which matched again at 396
        {"mean_positive_similarity": 0.89, "mean_negative_similarity": 0.86},
        {"mean_positive_similarity": float("nan"), "mean_negative_similarity": float("nan")},
    ],
)  # fmt: skip
def test_views_that_match_a_little_are_not_lost(figures):
    assert lost(*siamese(**figures)) == []
