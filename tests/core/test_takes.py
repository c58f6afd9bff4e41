"""Options as Python arguments: reasonable values are taken, others are one sentence."""

import dataclasses

import numpy as np
import pytest
import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import build_options, option, takes
from coview.options import FinetuneOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    count: int | None = option("a whole number")
    rate: float | None = option("a number", also=("--learning-rate",))
    exact: bool = option("yes or no", False)
    set: tuple[str, ...] = option("fields", ())


@takes(Settings)
def settings(options):
    return options


@pytest.mark.parametrize("two", [2, 2.0, np.int64(2), np.float32(2), np.array(2), torch.tensor(2)])
def test_whole_number_of_any_library_is_taken(two):
    assert settings(count=two).count == 2
    assert type(settings(count=two).count) is int
    assert type(settings(rate=two).rate) is float


@pytest.mark.parametrize("count", [2.5, np.nan, np.inf, True, "2", [2], np.array([2]), 2j])
def test_what_is_no_whole_number_is_refused(count):
    with pytest.raises(InvalidValue, match=r"`count` is .*expected a whole number"):
        settings(count=count)


def test_truth_of_numpy_is_taken_and_a_number_is_not():
    assert settings(exact=np.True_).exact is True
    with pytest.raises(InvalidValue, match="expected true or false"):
        settings(exact=1)


@pytest.mark.parametrize("value", [5, [5], None])
def test_repeated_option_of_no_text_is_refused(value):
    with pytest.raises(InvalidValue, match=r"`set` is .*expected texts"):
        settings(set=value)


def test_what_is_no_text_is_answered_with_what_the_option_takes():
    for value in (0.1, 5):
        with pytest.raises(
            InvalidValue, match=r"`labels` is .*; expected a text: .* a share as 1%"
        ):
            build_options(FinetuneOptions, {"start": "x", "data": "y", "labels": value})
    with pytest.raises(InvalidValue, match=r"`budget` is 60; expected a text: .* as 30m or 2h"):
        build_options(FinetuneOptions, {"start": "x", "data": "y", "budget": 60})


def test_other_spelling_of_an_option_is_an_argument_too():
    assert settings(learning_rate=2).rate == 2
    with pytest.raises(InvalidValue, match="`rate` is given twice"):
        settings(rate=2, learning_rate=3)


def test_a_word_of_other_programs_gets_ours():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Rate:
        learning_rate: float | None = option("the peak")

    with pytest.raises(UnknownName, match="Did you mean 'learning_rate'"):
        takes(Rate)(lambda options: options)(lr=0.1)
