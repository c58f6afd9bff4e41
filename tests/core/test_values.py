from dataclasses import dataclass

import numpy as np
import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode, fingerprint


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None
    rate: float = 0.5


KNOWN = (Inner, Outer)


@pytest.mark.parametrize("value", [Outer("a"), Outer("b", Inner((3,)), 1e-6), Inner(())])
def test_a_value_survives_the_round_trip(value):
    assert decode(encode(value), KNOWN) == value


def test_equal_values_have_equal_fingerprints_and_others_not():
    assert fingerprint(Outer("a")) == fingerprint(Outer("a"))
    assert fingerprint(Outer("a")) != fingerprint(Outer("a", rate=0.25))


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UnknownName, match="'rate'"):
        decode({"type": "Outer", "name": "a", "rat": 1}, KNOWN)


def test_only_named_classes_are_built():
    with pytest.raises(UnknownName):
        decode({"type": "Path", "name": "/"}, KNOWN)


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(InvalidValue):
        encode(Outer("a", inner=object()))


@pytest.mark.parametrize("half", [np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_numbers_of_numpy_are_written_as_plain_numbers(half):
    assert encode([half, np.int64(3)]) == [0.5, 3]
