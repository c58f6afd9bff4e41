from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_images import colored

from coview.core.errors import DamagedFile, InvalidValue
from coview.evaluation import (
    PROTOCOLS,
    Outcomes,
    Protocol,
    Subject,
    evaluate_knn,
    extract,
    make_benchmark,
    pixel_subject,
    read_results,
    register_protocol,
    write_results,
)
from coview.heads import HeadSpec
from coview.views import eval_view

VIEW = eval_view(8)

MINE = Protocol(name="mine", title="Mine", question="?", evaluate=lambda benchmark: [])


def test_a_registered_protocol_is_known_by_its_name_and_taken_once():
    try:
        assert register_protocol(MINE) is PROTOCOLS["mine"]
        assert register_protocol(MINE) is MINE
        with pytest.raises(InvalidValue, match="choose another name"):
            register_protocol(replace(MINE, title="Other"))
    finally:
        del PROTOCOLS["mine"]


@pytest.mark.parametrize("name", ["", "Mine", "a b", "../x", "1st"])
def test_a_protocol_needs_a_name_that_is_a_word(name):
    with pytest.raises(InvalidValue, match="small letters"):
        replace(MINE, name=name)


def test_every_protocol_says_what_it_asks_and_what_represents_it():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.question.endswith("?")
        assert {"metric", "layer"} <= protocol.description["headline"].keys()


def test_the_middle_layers_of_a_head_can_be_judged():
    head = HeadSpec(layers=3, hidden=8, output=4).build(192, seed=1).eval()
    flat = torch.nn.Flatten()
    subject = Subject(name="a", encoder=flat, head=head, view=VIEW)
    store = colored(6)
    features = extract(subject, store, layers=subject.all_layers)
    oracle = head.layer_outputs(features.layers["h"])
    assert list(features.layers) == ["h", "z1", "z2", "z"]
    for values, expected in zip(features.layers.values(), oracle, strict=True):
        assert torch.equal(values, expected)
    alone = extract(subject, store, layers=["z1"]).layers
    assert torch.equal(alone["z1"], features.layers["z1"])


def test_features_are_computed_once_for_a_layer():
    calls = []

    class Counted(torch.nn.Flatten):
        def forward(self, images):
            calls.append(len(images))
            return super().forward(images)

    subject = Subject(name="a", encoder=Counted(), view=VIEW)
    made = make_benchmark([subject], colored(20))
    evaluate_knn(made)
    evaluate_knn(made)
    assert sum(calls) == 20


def test_outcomes_of_a_result_are_those_of_the_test_part():
    made = make_benchmark([pixel_subject(8)], colored(60))
    (result,) = evaluate_knn(made, settings=((1, None),))
    correct = result.outcomes.array()
    assert len(correct) == result.test_images
    assert correct.mean() == result.value
    labels = made.test.labels
    assert result.per_class == {
        str(label): correct[labels == label].mean() for label in np.unique(labels)
    }


def test_outcomes_survive_a_file(tmp_path):
    made = make_benchmark([pixel_subject(8)], colored(60))
    results = evaluate_knn(made, settings=((1, None),))
    write_results(tmp_path, results, data={}, descriptions={"knn": PROTOCOLS["knn"].description})
    assert read_results(tmp_path) == results
    for bits in ("?", "AA=="):
        with pytest.raises(DamagedFile, match="20 images"):
            Outcomes(count=20, bits=bits).array()
