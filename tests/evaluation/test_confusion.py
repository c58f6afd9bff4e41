"""Which class is taken for which, beside scikit-learn's matrix, and what of it is kept."""

import numpy as np
from sklearn.metrics import confusion_matrix

from coview.core.images import store_from_arrays
from coview.evaluation import Result, make_benchmark, pixel_subject, read_results, write_results
from coview.evaluation.benchmark import confusion_of
from coview.evaluation.knn import evaluate_knn
from small_run import pictures


def blank(labels, names=()):
    pixels = np.zeros((len(labels), 2, 2, 3), np.uint8)
    return store_from_arrays(pixels, labels=labels, class_names=names)


def test_the_counts_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.choice([0, 2, 3], 200), rng.choice([0, 1, 3], 200)
    confusion = confusion_of(blank(labels, ("a", "b", "c", "d")), predicted)
    assert confusion["classes"] == ["a", "b", "c", "d"]
    assert confusion["counts"] == confusion_matrix(labels, predicted).tolist()


def test_many_classes_have_none():
    labels = np.arange(41)
    assert confusion_of(blank(labels), labels) == {}
    assert len(confusion_of(blank(labels[:40]), labels[:40])["counts"]) == 40


def test_files_keep_that_of_the_result_that_represents_a_subject(tmp_path):
    pixels, labels = pictures(60)
    store = store_from_arrays(pixels, labels=labels, class_names=("a", "b", "c"))
    benchmark = make_benchmark([pixel_subject(8)], store)
    results = evaluate_knn(benchmark, settings=((1, None), (5, None)))
    assert all(np.sum(result.confusion["counts"]) == 12 for result in results)
    write_results(tmp_path, results, data={}, descriptions={"knn": {"headline": {"k": 5}}})
    kept = {result.setting["k"]: result.confusion for result in read_results(tmp_path)}
    assert kept[1] == {}
    assert kept[5] == results[1].confusion
    accuracy = np.trace(kept[5]["counts"]) / np.sum(kept[5]["counts"])
    assert accuracy == results[1].value


def test_results_without_one_are_as_before(tmp_path):
    result = Result(protocol="ood", subject="a", layer="h", metric="auroc", value=0.5,
                    interval=(0.4, 0.6), test_images=9, setting={}, card={})  # fmt: skip
    write_results(tmp_path, [result], data={})
    assert "confusion" not in (tmp_path / "ood.json").read_text()
