import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from coview.core.errors import DamagedFile, InvalidValue
from coview.evaluation import Outcomes, Result, read_results, wilson_interval, write_results
from coview.evaluation.result import paired_tests

RESULT = Result(
    protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
    interval=(0.4, 0.6), test_images=100, setting={"k": 1, "temperature": None},
    card={"vote": "plain"},
)  # fmt: skip
OTHERS = [replace(RESULT, protocol="linear", subject=name, setting={}) for name in ("a", "b")]


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (0, 30), (7, 30), (999, 1000)])
def test_wilson_interval_equals_that_of_scipy(correct, count):
    oracle = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct / count, count) == pytest.approx((oracle.low, oracle.high))


def test_wilson_interval_holds_the_share_and_stays_in_range():
    for correct in range(21):
        low, high = wilson_interval(correct / 20, 20)
        assert 0 <= low <= correct / 20 <= high <= 1


@pytest.mark.parametrize(("share", "count"), [(1.1, 3), (-0.1, 3), (float("nan"), 3), (0.5, 0)])
def test_wilson_interval_refuses_values_out_of_range(share, count):
    with pytest.raises(InvalidValue, match="share"):
        wilson_interval(share, count)


def test_results_are_one_file_a_protocol_and_read_back_equal(tmp_path):
    data = {"test": {"images": 100}}
    write_results(tmp_path / "evaluation", [RESULT, *OTHERS], data=data)
    assert read_results(tmp_path / "evaluation") == [RESULT, *OTHERS]
    assert [p.name for p in sorted((tmp_path / "evaluation").iterdir())] == [
        "knn.json",
        "linear.json",
    ]
    content = json.loads((tmp_path / "evaluation" / "knn.json").read_text())
    assert set(content) == {"protocol", "card", "data", "created", "results"}
    assert (content["protocol"], content["card"], content["data"]) == ("knn", RESULT.card, data)
    assert content["results"] == [{
        "protocol": "knn", "subject": "trained", "layer": "h", "metric": "accuracy", "value": 0.5,
        "interval": [0.4, 0.6], "test_images": 100, "setting": {"k": 1, "temperature": None},
    }]  # fmt: skip


def test_a_result_that_was_measured_otherwise_keeps_its_card(tmp_path):
    other = replace(RESULT, subject="untrained", card={"k": "chosen on validation"})
    write_results(tmp_path, [RESULT, other], data={})
    assert [each.card for each in read_results(tmp_path)] == [RESULT.card, other.card]
    content = json.loads((tmp_path / "knn.json").read_text())
    assert ["card" in row for row in content["results"]] == [False, True]


def test_results_of_no_folder_are_none_and_of_another_file_an_error(tmp_path):
    assert read_results(tmp_path / "evaluation") == []
    for content in ("{}", "[]", '{"results": [{"value": 1}], "card": {}}'):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(DamagedFile, match="holds no results"):
            read_results(tmp_path)


def test_several_paired_tests_are_corrected_and_one_is_not():
    def right(name, count):
        outcomes = Outcomes.of(np.arange(20) < count)
        return replace(RESULT, subject=name, value=count / 20, outcomes=outcomes)

    first, *others = (right(name, count) for name, count in (("a", 18), ("b", 10), ("c", 14)))
    (alone,) = paired_tests([first, others[0]], {})
    assert "p_holm" not in alone
    tests = paired_tests([first, *others, replace(RESULT, subject="without outcomes")], {})
    assert tests[0]["p"] == alone["p"]
    assert [test["p_holm"] for test in tests[:2]] == [2 * tests[0]["p"], tests[1]["p"]]
    assert [test.get("tests") for test in tests] == [2, 2, None]
