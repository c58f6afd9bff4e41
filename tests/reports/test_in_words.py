from coview.reports.results import paired_sentences, result_sentence


def result(subject, value, layer="h", k=20):
    return {"subject": subject, "layer": layer, "setting": {"k": k}, "value": value}


def test_result_sentence_is_the_headline_row_beside_its_baselines():
    rows = [
        result("trained", 0.9, k=1), result("trained", 0.6), result("trained", 0.95, layer="z"),
        result("untrained", 0.1, k=1), result("untrained", 0.25),
        result("pixels", 0.2, layer="pixels", k=1), result("pixels", 0.7, layer="pixels"),
    ]  # fmt: skip
    knn = {"title": "kNN accuracy", "headline": {"k": 20}, "results": rows}
    sentence = result_sentence(knn)
    assert sentence.startswith("kNN accuracy on h (k 20): 60.0")
    assert sentence.endswith(
        "35.0 points above the untrained encoder and 10.0 points below raw pixels."
    )


def test_result_sentence_without_baselines():
    sentence = result_sentence({"title": "Linear accuracy", "results": [result("trained", 0.5)]})
    assert sentence.startswith("Linear accuracy on h")
    assert "points" not in sentence


def test_differences_of_other_metrics_are_in_their_unit_and_tests_have_their_p():
    rows = [
        {"subject": "a", "layer": "h", "metric": "rankme", "value": 30.0, "interval": [29.0, 31.5]},
        {"subject": "untrained", "layer": "h", "metric": "rankme", "value": 5.5},
    ]
    sentence = result_sentence({
        "title": "Label-free", "headline": {"metric": "rankme"}, "results": rows,
        "paired": [{"first": "a", "second": "untrained", "p": 1e-5}],
    })  # fmt: skip
    assert sentence == (
        "Label-free on h (\u2013): RankMe 30.0 (95 % interval 29.0\u201331.5), 24.5 above the untrained "
        "encoder (p < 0.001)."
    )


def test_a_paired_test_is_said_once():
    tests = [
        {"first": "trained", "second": "pixels", "metric": "accuracy", "difference": 0.1, "p": 0.5,
         "images": 10},
        {"first": "a", "second": "b", "metric": "auroc", "difference": -0.1},
        {"first": "broken"},
    ]  # fmt: skip
    assert paired_sentences({"paired": tests}) == ["a is 10.0 points below b."]


def test_p_values_of_several_tests_are_those_of_holm():
    tests = [
        {"first": "a", "second": second, "metric": "accuracy", "difference": 0.1, "p": 0.01,
         "p_holm": 0.03, "tests": 3, "images": 1000} for second in ("b", "pixels", "untrained")
    ]  # fmt: skip
    assert paired_sentences({"paired": tests})[0] == (
        "a is 10.0 points above b, p = 0.03 (paired permutation test on 1,000 images, Holm over 3 "
        "tests)."
    )
    rows = [result("a", 0.6), result("untrained", 0.5), result("pixels", 0.5, layer="pixels")]
    assert result_sentence({"results": rows, "paired": tests}).endswith(
        "10.0 points above the untrained encoder (p = 0.03) and 10.0 points above raw pixels "
        "(p = 0.03); p values by Holm over 3 tests."
    )
