"""What the studies of SupCon train, compare and compute."""

import json
import math

import pytest
import torch
from test_grid import end

from coview.core.errors import InvalidValue, RunError
from coview.objectives import sup_con
from coview.options import StudyOptions
from coview.studies import STUDIES, run_study
from coview.studies.ledger import ledger_rows, write_ledger
from coview.studies.measurement import measured
from coview.studies.pair_gradients import by_autograd, by_formula, closed_form, draw
from coview.studies.supcon_gradients import COSINES, CURVES, measure


def study(name, **changes):
    given = {"outliers": ("scenes:test",)} if STUDIES[name].needs else {}
    options = {"name": name, "data": "scenes", "scale": "tiny", "seeds": 3, **given, **changes}
    return STUDIES[name].study(StudyOptions(**options))


def objective(cell):
    return dict(cell.settings)["recipe"].method.objective


def noise(place):
    """Not the same difference of two arms in each seed."""
    return 0.0001 * (place**2 % 7)


def held(made, root, by_arm):
    """The claims where arm -> accuracy; every seed adds a little to each arm."""
    for place, cell in enumerate(made.cells):
        arm = cell.name.rpartition(", seed")[0]
        end(cell, root, by_arm[arm] + noise(place))
    return [claim["holds"] for claim in made.summarize(root)["claims"]]


def test_forms_differ_in_the_form_alone(tmp_path):
    made = study("supcon/forms")
    assert {objective(cell).form for cell in made.cells} == {"out", "in"}
    assert held(made, tmp_path, {"L_out": 0.5, "L_in": 0.4}) == [True]


def test_methods_see_the_same_images_for_as_many_epochs(tmp_path):
    made = study("supcon/methods")
    recipes = [dict(cell.settings)["recipe"] for cell in made.cells]
    assert {type(each.method.objective).__name__ for each in recipes} == {
        "SupCon", "CrossEntropy", "NTXent",
    }  # fmt: skip
    assert len({(each.epochs, each.encoder, each.batch_size) for each in recipes}) == 1
    assert {dict(cell.settings)["limit"] for cell in made.cells} == {96}
    accuracy = {"SupCon": 0.6, "cross-entropy": 0.5, "SimCLR": 0.55}
    assert held(made, tmp_path, accuracy) == [True, False]


@pytest.mark.parametrize(
    ("accuracy", "holds"),
    [({"1": 0.3, "3": 0.4, "5": 0.41, "no cap": 0.42}, True),
     ({"1": 0.5, "3": 0.4, "5": 0.41, "no cap": 0.42}, False)],
)  # fmt: skip
def test_positives_are_capped(tmp_path, accuracy, holds):
    made = study("supcon/positives")
    caps = [objective(cell).positives_cap for cell in made.cells[:4]]
    assert caps == [1, 3, 5, None]
    assert held(made, tmp_path, accuracy) == [holds]


def test_batches_have_a_rate_of_their_own_and_temperatures_the_same():
    made = study("supcon/batch", scale="cpu")
    recipes = {
        cell.name.rpartition(", seed")[0]: dict(cell.settings)["recipe"] for cell in made.cells
    }
    base = recipes["batch 128"]
    for size in (32, 64, 256):
        rate = recipes[f"batch {size}"].optimizer.peak(size)
        assert rate == pytest.approx(base.optimizer.peak(128) * math.sqrt(size / 128))
    assert [objective_of.temperature for name, each in recipes.items() if name.startswith("temp")
            for objective_of in (each.method.objective,)] == [0.05, 0.1, 0.2, 0.5, 1.0]  # fmt: skip


def write(root, cell, protocol, results):
    rows = [{"subject": "trained", "layer": "h", **row} for row in results]
    place = cell.folder(root) / "evaluation" / f"{protocol}.json"
    place.write_text(json.dumps({"results": rows, "headline": {}}))


def test_robustness_shares_its_runs_and_compares_errors(tmp_path):
    made = study("supcon/robustness")
    assert {cell.key for cell in made.cells} == {cell.key for cell in study("supcon/methods").cells}
    for place, cell in enumerate(made.cells):
        end(cell, tmp_path, 0.5, protocols=("linear",))
        assert not cell.is_ended(tmp_path)
        error = {"S": 0.30, "c": 0.40}[cell.name[0]] + noise(place)
        gap = 0.05 if cell.name.startswith("SupCon") else 0.02
        write(tmp_path, cell, "robustness", [
            {"metric": "mean_corruption_error", "setting": {}, "value": error},
            {"metric": "ece", "setting": {"severity": 5}, "value": 0.9},
            {"metric": "ece", "setting": {"severity": 0}, "value": gap + noise(place)},
        ])  # fmt: skip
    content = made.summarize(tmp_path)
    assert [claim["holds"] for claim in content["claims"]] == [True, False]
    assert content["rows"][0]["corruption error"] == pytest.approx(30.0)
    assert content["rows"][0]["calibration error"] == pytest.approx(5.0)


def test_ood_needs_outliers_and_compares_distances(tmp_path):
    with pytest.raises(InvalidValue, match="needs `outliers`"):
        study("supcon/ood", outliers=())
    made = study("supcon/ood")
    assert {cell.key for cell in made.cells} == {cell.key for cell in study("supcon/methods").cells}
    for place, cell in enumerate(made.cells):
        end(cell, tmp_path, 0.5)
        assert cell.missing(tmp_path) == ("ood",)  # judged with outliers that are not known
        cell._keep(tmp_path, more={"ood": [["outliers", ["scenes:test"]]]})
        auroc = {"SupCon": 0.9, "cross-entropy": 0.8, "SimCLR": 0.95}[cell.name.split(",")[0]]
        write(tmp_path, cell, "ood", [
            {"metric": "auroc", "setting": {"score": "softmax"}, "value": 0.1},
            {"metric": "auroc", "setting": {"score": "knn"}, "value": auroc + noise(place)},
            {"metric": "fpr95", "setting": {"score": "knn"}, "value": 0.4},
        ])  # fmt: skip
    content = made.summarize(tmp_path)
    assert [claim["holds"] for claim in content["claims"]] == [True, False]
    assert content["rows"][0]["AUROC"] == pytest.approx(90.0)
    others = study("supcon/ood", outliers=("scenes",)).cells[0]
    assert others.missing(tmp_path) == ("ood",)


def test_ood_judges_again_with_other_outliers_and_trains_once(tmp_path, monkeypatch):
    """The files of a real run: what is trained, judged and kept."""
    first = study("supcon/ood", seeds=1).cells[0]
    first.train(tmp_path, {})
    trained = (first.run(tmp_path).path / "metrics.jsonl").read_bytes()
    assert first.is_ended(tmp_path)
    kept = first.took(tmp_path)
    assert kept["more"]["ood"] == [["outliers", ["scenes:test"]]]
    assert kept["more"]["linear"] is None
    other = study("supcon/ood", seeds=1, outliers=("scenes", "scenes:test")).cells[0]
    assert other.missing(tmp_path) == ("ood",)
    asked = []
    monkeypatch.setattr(
        "coview.studies.cell.evaluate",
        lambda path, **given: asked.append((given["protocols"], given["outliers"])),
    )
    other.train(tmp_path, {})
    assert asked == [(("ood",), ("scenes", "scenes:test"))]
    assert other.is_ended(tmp_path)
    assert first.missing(tmp_path) == ("ood",)
    assert (first.run(tmp_path).path / "metrics.jsonl").read_bytes() == trained


@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("places", [(0,), (0, 1), (3,)])
@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.99])
def test_the_part_of_a_pair_is_its_formula(form, normalize, places, cosine):
    """By autograd, and by finite differences of the loss along the pair's own copy."""
    around = draw(positives=2, negatives=4, width=6, seed=3, places=places, cosine=cosine)
    assert around.cosines[list(places)].tolist() == pytest.approx([cosine] * len(places), abs=1e-12)
    how = {"temperature": 0.5, "form": form, "normalize": normalize}
    found = by_autograd(around, **how)
    assert torch.allclose(found, by_formula(around, **how), rtol=1e-9, atol=1e-12)
    unit = around.anchor / around.anchor.norm()
    anchor = around.anchor if normalize else unit

    def loss(moved):
        rows = [moved if k == places[0] else anchor for k in range(6)]
        lengths = [float(row.norm()) if normalize else 1.0 for row in rows]
        logits = [
            float(row @ z) / length / 0.5
            for row, length, z in zip(rows, lengths, around.candidates, strict=True)
        ]
        total = math.log(math.fsum(map(math.exp, logits)))
        own = logits[:2]
        return total - (sum(own) / 2 if form == "out" else math.log(sum(map(math.exp, own))))

    step = 1e-6
    slopes = torch.tensor([
        (loss(anchor + step * axis) - loss(anchor - step * axis)) / (2 * step)
        for axis in torch.eye(6, dtype=torch.float64)
    ], dtype=torch.float64)  # fmt: skip
    toward = float(-(slopes @ around.candidates[places[0]]))
    expected = math.copysign(float(slopes.norm()), toward)
    assert float(found[places[0]]) == pytest.approx(expected, abs=1e-7)


def test_positives_pull_and_a_negative_pushes():
    """Of a positive that has more of the softmax than its weight, the other way round."""
    hard = draw(positives=2, negatives=4, width=6, seed=3, places=(0, 1), cosine=0.1)
    parts = by_formula(hard, temperature=0.5)
    assert (parts[:2] > 0).all()
    assert (parts[2:] < 0).all()
    easy = draw(positives=2, negatives=4, width=6, seed=3, places=(0,), cosine=0.99)
    assert by_formula(easy, temperature=0.1)[0] < 0 < by_formula(easy, temperature=0.1)[1]


def test_the_parts_of_all_pairs_are_the_gradient_of_the_loss():
    """Of sup_con, where one anchor is the only row with a positive that takes a gradient."""
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = [0, 0, 1, 1, 1, 2, -1]
    alone = [0, 0, 1, 1, 1, 2, 3]
    given = rows.clone().requires_grad_()
    (found,) = torch.autograd.grad(sup_con([given], torch.tensor(labels), temperature=0.3), given)
    assert torch.allclose(found, closed_form(rows, alone, 0.3), rtol=1e-9, atol=1e-12)


def test_gradients_hold_what_the_paper_says(tmp_path):
    made = study("supcon/gradients", seeds=12)
    content = run_study(made, tmp_path, {})
    again = run_study(made, tmp_path, {})
    write_ledger(tmp_path)
    assert {**again, "path": ""} == {**content, "path": ""}
    assert len(ledger_rows(tmp_path)) == 3  # the ledger itself lies in the folder, too
    assert content["ended"]
    assert [claim["holds"] for claim in content["claims"]] == [True] * 3
    assert len(content["rows"]) == len(CURVES) * len(COSINES) * 12
    page = (made.folder(tmp_path) / "report.html").read_text()
    assert "runs have ended" not in page
    assert all(f"<h2>{title}" in page for title in ("Positives", "One positive", "Figures"))
    kept = measured(made.folder(tmp_path))
    assert kept["apart"] < 1e-6
    assert kept["whole"] < 1e-9


def test_figures_of_gradients_are_kept_and_measured_anew_for_other_seeds(tmp_path, monkeypatch):
    made = study("supcon/gradients", seeds=2)
    with pytest.raises(RunError, match="run the study first"):
        made.summarize(tmp_path)
    first = run_study(made, tmp_path, {})
    monkeypatch.setattr("coview.studies.supcon_gradients.measure", None)
    assert run_study(made, tmp_path, {}) == first
    other = study("supcon/gradients", seeds=3)
    assert (made.is_in(first, tmp_path), other.is_in(first, tmp_path)) == (True, False)
    assert not run_study(other, tmp_path, {}, dry_run=True)["ended"]
    with pytest.raises(TypeError):
        run_study(other, tmp_path, {})
    assert measure([0])["measured"]["all positives at 0.6"][0] == first["rows"][2 * 8]["measured"]
