from coview.reports.scores import in_words


def row(accuracy, tap="h", k=20, **more):
    return {"tap": tap, "setting": {"k": k}, "accuracy": accuracy, **more}


def test_evaluation_in_words_is_the_standard_row_beside_what_it_has_to_beat():
    rows = [row(0.9, k=1), row(0.6, untrained=0.25, pixels=0.7), row(0.95, tap="z")]
    (said,) = in_words([{"protocol": "knn", "results": rows}])
    assert said.startswith("kNN accuracy on h (k 20): 60.0")
    assert said.endswith(
        "35.0 points above the untrained encoder and 10.0 points below raw pixels."
    )


def test_evaluation_in_words_without_comparison_and_without_results():
    (said,) = in_words(
        [{"protocol": "linear", "results": [row(0.5)]}, {"protocol": "knn", "results": []}]
    )
    assert said.startswith("Linear accuracy on h")
    assert "points" not in said
