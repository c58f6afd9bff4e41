from coview.reports.scores import comparison_rows, result_sentence


def result(subject, value, layer="h", k=20):
    return {"subject": subject, "layer": layer, "setting": {"k": k}, "value": value}


def test_result_sentence_is_the_headline_row_beside_its_baselines():
    rows = comparison_rows([
        result("trained", 0.9, k=1), result("trained", 0.6), result("trained", 0.95, layer="z"),
        result("untrained", 0.1, k=1), result("untrained", 0.25),
        result("pixels", 0.2, layer="pixels", k=1), result("pixels", 0.7, layer="pixels"),
    ])  # fmt: skip
    sentence = result_sentence("knn", rows)
    assert sentence.startswith("kNN accuracy on h (k 20): 60.0")
    assert sentence.endswith(
        "35.0 points above the untrained encoder and 10.0 points below raw pixels."
    )


def test_result_sentence_without_baselines():
    sentence = result_sentence("linear", comparison_rows([result("trained", 0.5)]))
    assert sentence.startswith("Linear accuracy on h")
    assert "points" not in sentence
