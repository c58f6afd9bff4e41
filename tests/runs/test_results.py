"""What the folder of one run keeps of figures of several."""

from types import SimpleNamespace

from coview.evaluation import Result
from coview.runs.results import own_results


def ratio(subject, reference):
    return Result(
        protocol="robustness", subject=subject, layer="h", metric="mce", value=0.9,
        interval=(0.8, 1.0), test_images=9, setting={"reference": reference, "corruptions": 15},
        card={"reference": f"the first subject ({reference}), because ..."},
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
    assert results[0].card["reference"].startswith("the first subject (trained, h)")


def test_a_ratio_to_published_figures_is_kept():
    assert [each.setting["reference"] for each in own("b", "AlexNet")] == ["AlexNet"] * 2
