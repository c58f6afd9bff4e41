"""What the folder of one run keeps of figures of several."""

from types import SimpleNamespace

import pytest

from coview.core.files import write_json
from coview.evaluation import Result
from coview.runs.results import free_folder, holds_others, own_results


def ratio(subject, reference):
    return Result(
        protocol="robustness", subject=subject, layer="h", metric="mce", value=0.9,
        interval=(0.8, 1.0), test_images=9, setting={"reference": reference, "corruptions": 15},
        card={"subjects": {"a": "one", "b": "two", "untrained": "none"}},
    )  # fmt: skip


def judged(name):
    return SimpleNamespace(subject=SimpleNamespace(name=name), architecture="resnet")


def own(name, reference):
    opened = SimpleNamespace(judged=[judged("a"), judged("b")], untrained={"resnet": "untrained"})
    results = [ratio(subject, reference) for subject in ("a", "b", "untrained")]
    return own_results(opened, judged(name), results)


def test_a_ratio_to_a_subject_that_the_file_lacks_is_left_out():
    assert own("b", "a, h") == []


def test_a_ratio_to_a_subject_of_the_file_has_its_name_there():
    results = own("a", "a, h")
    assert [each.subject for each in results] == ["trained", "untrained"]
    assert {each.setting["reference"] for each in results} == {"trained, h"}
    assert results[0].card["subjects"] == {"trained": "one", "untrained": "none"}


def test_a_ratio_to_published_figures_is_kept():
    assert [each.setting["reference"] for each in own("b", "AlexNet")] == ["AlexNet"] * 2


def benchmark(subjects=("a",), train="123", test="456", seed=0):
    train, test = SimpleNamespace(fingerprint=train), SimpleNamespace(fingerprint=test)
    return SimpleNamespace(card={"subjects": list(subjects)}, train=train, test=test, seed=seed)


@pytest.mark.parametrize("changes", [{"subjects": "b"}, {"train": "1"}, {"test": "4"}, {"seed": 1}])
def test_one_folder_has_what_was_judged_together(changes, tmp_path):
    write_json(tmp_path / "both" / "knn.json", {
        "card": {"subjects": ["a"], "seed": 0},
        "data": {"train": {"fingerprint": "123"}, "test": {"fingerprint": "456"}},
    })  # fmt: skip
    assert not holds_others(tmp_path / "both", benchmark())
    assert free_folder(tmp_path / "both", benchmark()) == tmp_path / "both"
    assert holds_others(tmp_path / "both", benchmark(**changes))
    assert free_folder(tmp_path / "both", benchmark(**changes)).name.startswith("both-")
