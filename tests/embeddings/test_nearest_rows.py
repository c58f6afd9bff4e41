"""Search against slow versions: every cosine by a loop in float64, and scikit-learn's neighbors."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from coview.core.errors import InvalidValue
from coview.embeddings.search import directions_of, example_direction, nearest_rows, unit_vectors

GENERATOR = np.random.default_rng(0)


def vectors(count, width=6):
    return GENERATOR.standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("numbers", [1, 100, 10**6])
@pytest.mark.parametrize("number", [1, 5, 80])
def test_nearest_are_those_of_scikit_learn(numbers, number, monkeypatch):
    monkeypatch.setattr("coview.embeddings.neighbors.CHUNK_NUMBERS", numbers)
    bank, queries = vectors(60), vectors(9)
    oracle = NearestNeighbors(n_neighbors=min(number, 60), algorithm="brute", metric="cosine")
    distances, places = oracle.fit(bank.astype(float)).kneighbors(queries.astype(float))
    cosines, rows = nearest_rows(unit_vectors(bank), unit_vectors(queries), number)
    assert rows.tolist() == places.tolist()
    assert np.allclose(cosines, 1 - distances, atol=1e-6)


def test_equal_cosines_are_in_order_of_row():
    bank = np.eye(4, dtype=np.float32)[[3, 1, 2, 1, 1, 0, 1, 2]]
    _, rows = nearest_rows(bank, np.eye(4, dtype=np.float32)[[1, 2, 3]], 3)
    assert rows.tolist() == [[1, 3, 4], [2, 7, 0], [0, 1, 2]]


@pytest.mark.parametrize("negatives", [0, 1, 4])
def test_the_query_of_several_examples_is_the_stated_formula(negatives):
    positive, negative, bank = vectors(3), vectors(negatives), vectors(40)
    direction = [0.0] * 6
    for sign, examples in ((1.0, positive), (-0.5, negative)):
        for example in examples.astype(float):
            length = sum(value * value for value in example) ** 0.5
            for axis, value in enumerate(example):
                direction[axis] += sign * value / length / len(examples)
    size = sum(value * value for value in direction) ** 0.5
    scores = []
    for row in bank.astype(float):
        dot = sum(a * b for a, b in zip(row, direction, strict=True))
        scores.append(dot / size / sum(value * value for value in row) ** 0.5)
    query = example_direction(positive, negative)
    cosines, rows = nearest_rows(unit_vectors(bank), query[None], 40)
    assert rows[0].tolist() == sorted(range(40), key=lambda row: -scores[row])
    assert np.allclose(cosines[0], sorted(scores, reverse=True), atol=1e-6)


def test_negative_examples_take_the_others_together():
    assert directions_of(vectors(3), None, together=False)[0].shape == (3, 6)
    assert directions_of(vectors(3), None, together=True)[1] == [[0, 1, 2]]
    assert directions_of(vectors(3), vectors(1), together=False)[0].shape == (1, 6)


def test_one_example_alone_and_one_of_a_set_are_the_same_query():
    example = vectors(1)
    alone, together = (directions_of(example, None, together=each)[0] for each in (False, True))
    assert np.allclose(alone, together, atol=1e-6)


def test_impossible_searches_are_refused():
    with pytest.raises(InvalidValue, match="`k` is 0"):
        nearest_rows(vectors(3), vectors(1), 0)
    with pytest.raises(InvalidValue, match="one width"):
        nearest_rows(vectors(3), vectors(1, 5), 1)
    with pytest.raises(InvalidValue, match="cancel"):
        example_direction(np.array([[1, 0], [-1, 0]], np.float32))
