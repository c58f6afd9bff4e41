"""Claims are decided by Student's t over paired seeds, by Holm, and by intersection and union."""

import numpy as np
import pytest
from scipy import stats

from coview.core.errors import InvalidValue
from coview.evaluation.statistics import one_sided
from coview.studies import (
    Claim,
    alike,
    best,
    between,
    decide,
    greater,
    rising,
    shrinking_gap,
    smaller_gap,
)
from coview.studies.claims import (
    LEVEL,
    comparison_rows,
    p_text,
    p_values,
)

FIGURES = {
    "a": [50.0, 51.0, 52.5], "b": [55.0, 57.0, 57.5], "c": [61.0, 62.5, 63.0],
    "like c": [61.2, 62.4, 63.1],
}  # fmt: skip


def figures(arm, measure=""):
    return FIGURES[arm]


def verdict(*comparisons):
    return decide([Claim(text="it", comparisons=comparisons)], figures)[0]


def test_one_comparison_is_scipys_paired_t_test():
    row = verdict(greater("b", "a"))
    expected = stats.ttest_rel(FIGURES["b"], FIGURES["a"], alternative="greater").pvalue
    assert row["p"]["for"] == pytest.approx(expected)
    interval = stats.ttest_rel(FIGURES["b"], FIGURES["a"]).confidence_interval(0.95)
    assert row["comparisons"][0]["interval"] == pytest.approx(tuple(interval))
    assert row["holds"] is True


def test_a_seed_without_a_figure_is_missing_in_words():
    """As of a run that has diverged."""
    kept = {"a": [50.0, 51.0, None], "b": [55.0, 57.0, 57.5]}
    (row,) = decide(
        [Claim(text="it", comparisons=(greater("b", "a"),))], lambda arm, measure: kept[arm]
    )
    assert row["because"].endswith("over 2 of 3 seeds.")
    assert verdict(greater("b", "a"))["because"].endswith("over 3 seeds.")


def test_a_claim_holds_where_the_weakest_of_its_comparisons_is_shown():
    both = verdict(*best("c", ["a", "b"]))
    each = [verdict(greater("c", other))["p"]["for"] for other in ("a", "b")]
    assert both["p"]["for"] == pytest.approx(max(each))
    assert both["holds"] is True
    assert verdict(greater("c", "a"), greater("c", "like c"))["holds"] is None


def test_a_claim_does_not_hold_where_the_opposite_of_one_comparison_is_shown():
    row = verdict(greater("c", "a"), greater("a", "b"))
    below = stats.ttest_rel(FIGURES["a"], FIGURES["b"], alternative="less").pvalue
    assert row["p"]["against"] == pytest.approx(2 * below)
    assert row["holds"] is False
    assert "a - b is \N{MINUS SIGN}5.3" in row["because"]


def test_several_claims_are_corrected():
    claims = [Claim(text=str(k), comparisons=(greater("b", "a"),)) for k in range(3)]
    alone, together = verdict(greater("b", "a")), decide(claims, figures)
    assert together[0]["p"]["for"] == pytest.approx(3 * alone["p"]["for"])


def test_a_slope_is_that_of_least_squares():
    comparison = rising(["a", "b", "c"])
    values = comparison.values(figures)
    for seed, value in enumerate(values):
        ys = [FIGURES[arm][seed] for arm in ("a", "b", "c")]
        assert value == pytest.approx(np.polyfit([0, 1, 2], ys, 1)[0])
    assert verdict(comparison)["holds"] is True
    assert verdict(rising(["a", "b", "c"], sign=-1))["holds"] is False


def test_alike_is_two_one_sided_tests():
    near, far = alike(["c", "like c"], within=1.0), alike(["a", "c"], within=1.0)
    assert verdict(*near)["holds"] is True
    assert verdict(*far)["holds"] is False
    p = [
        stats.ttest_1samp(np.subtract(FIGURES["c"], FIGURES["like c"]), -1, alternative="greater"),
        stats.ttest_1samp(np.subtract(FIGURES["c"], FIGURES["like c"]), 1, alternative="less"),
    ]  # fmt: skip
    assert verdict(*near)["p"]["for"] == pytest.approx(max(each.pvalue for each in p))


def test_the_inner_arms_are_compared_by_their_mean():
    values = between(["b", "c"], ["a"])[0].values(figures)
    expected = (np.add(FIGURES["b"], FIGURES["c"]) / 2) - FIGURES["a"]
    assert values == pytest.approx(expected)


def test_a_gap_is_a_difference_of_differences():
    values = smaller_gap(("c", "b"), ("b", "a")).values(figures)
    columns = {name: np.array(values) for name, values in FIGURES.items()}
    first, second = columns["c"] - columns["b"], columns["b"] - columns["a"]
    assert values == pytest.approx(second - first)


def test_seeds_without_all_figures_are_left_out_and_one_decides_nothing():
    known = {"a": [1.0, None, 3.0], "b": [2.0, 3.0, None]}
    (row,) = decide([Claim(text="it", comparisons=(greater("b", "a"),))], lambda arm, _: known[arm])
    assert row["comparisons"][0]["seeds"] == 1
    assert row["holds"] is None
    none = {"a": [None], "b": [None]}
    (row,) = decide([Claim(text="it", comparisons=(greater("b", "a"),))], lambda arm, _: none[arm])
    assert "no seed has all its figures" in row["because"]


def test_equal_values_are_a_sign_test():
    """Two accuracies of 500 images may well be equal: no certainty that the mean is there."""
    assert one_sided([1.0, 1.0], 0.0) == (0.25, 1.0)
    assert one_sided([0.3 - 0.1, 0.4 - 0.2, 0.2], 1.0) == (1.0, 0.125)
    assert one_sided([0.0, 0.0], 0.0) == (1.0, 1.0)


def test_the_rate_of_false_verdicts_is_kept():
    """Claims about arms that do not differ: at most LEVEL of them hold, and as many do not."""
    draws, wrong = np.random.default_rng(1), {True: 0, False: 0, None: 0}
    for _ in range(400):
        drawn = {name: list(draws.normal(size=3)) for name in "abc"}
        claim = Claim(text="it", comparisons=best("a", ["b", "c"]))
        (row,) = decide([claim], lambda arm, _, drawn=drawn: drawn[arm])
        wrong[row["holds"]] += 1
    assert wrong[True] / 400 < 2 * LEVEL
    assert wrong[False] / 400 < 2 * LEVEL


def test_a_claim_needs_a_comparison():
    with pytest.raises(InvalidValue, match="has no comparison"):
        Claim(text="it", comparisons=())
    with pytest.raises(InvalidValue, match="two arms or more"):
        rising(["a"])


def test_a_disadvantage_that_grows_is_no_advantage_that_shrinks():
    # c is above b, and b above a: b - c is a disadvantage.
    assert verdict(*shrinking_gap(("a", "c"), ("b", "c")))["holds"] is False
    assert verdict(smaller_gap(("a", "c"), ("b", "c")))["holds"] is True
    assert verdict(*shrinking_gap(("like c", "c"), ("c", "a")))["holds"] is True


def test_what_a_comparison_needs_is_printed():
    row = verdict(greater("b", "a", by=10.0))
    assert "b - a is +5.3 (needed: above 10), 95 % interval" in row["because"]
    assert (
        "(needed: above \N{MINUS SIGN}1)" in verdict(*alike(["c", "like c"], within=1.0))["because"]
    )
    assert [line[1] for line in comparison_rows(row)] == ["above 10"]


def test_a_page_says_why_an_interval_beside_0_decides_nothing():
    values = {"a": [0.0, 0.0, 0.0], "b": [1.0, 1.6, 1.3]}
    p = stats.ttest_1samp(values["b"], 0, alternative="greater").pvalue
    claims = [Claim(text=str(k), comparisons=(greater("b", "a"),)) for k in range(7)]
    assert p < LEVEL < 7 * p
    row = decide(claims, lambda arm, _: values[arm])[0]
    assert row["holds"] is None
    assert row["because"].endswith(
        f"Undecided although the interval is on one side of 0: p is {p_text(p)} alone, "
        f"{p_text(7 * p)} corrected for 7 claims; needed: below 0.025."
    )
    opposite = decide(
        [Claim(text="it", comparisons=(greater("a", "b"),) * 7)], lambda arm, _: values[arm]
    )[0]
    assert opposite["holds"] is None
    assert f"{p_text(7 * p)} corrected for 7 comparisons; needed" in opposite["because"]
    assert "Undecided" not in verdict(greater("c", "like c"))["because"]


def test_p_values_are_words_with_their_corrections():
    rows = decide([Claim(text=str(k), comparisons=best("c", ["a", "b"])) for k in (1, 2)], figures)
    p = rows[0]["p"]
    assert p_values(rows[0]) == (
        f"p {p_text(p['for'])} in favor, {p_text(p['against'])} against "
        "(against: Bonferroni over 2 comparisons; both: Holm over 2 claims)"
    )


def test_a_claim_that_does_not_hold_is_decided_by_what_is_most_against_it():
    """And not by an arm without figures, as its runs have diverged."""
    figures = {"a": [50.0, 51.0, 50.5, 50.2], "b": [60.0, 61.5, 60.4, 60.1], "c": [None] * 4}
    claim = Claim(text="a is best", comparisons=best("a", ["b", "c"]))
    (decided,) = decide([claim], lambda arm, _: figures[arm])
    assert decided["holds"] is False
    assert decided["because"].startswith("Of 2 comparisons the most against it: a - b is −")
    (open_,) = decide([Claim(text="x", comparisons=best("a", ["c"]))], lambda arm, _: figures[arm])
    assert open_["because"] == "a - c: no seed has all its figures."
