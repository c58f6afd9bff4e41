import pytest

from coview.core.errors import CoviewError, InvalidValue, UnknownName, nearest
from coview.core.machine import duration, parse_duration


def test_unknown_name_offers_the_nearest():
    error = UnknownName("recipe", "simclr-cp", ["simclr-cpu", "supcon-cpu"])
    assert error.nearest == "simclr-cpu"
    assert "Did you mean 'simclr-cpu'?" in str(error)
    assert isinstance(error, LookupError)
    assert isinstance(error, CoviewError)


def test_nothing_near_is_no_guess():
    assert nearest("zzz", ["simclr"]) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5H", 5400), ("1d", 86400)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "0h", "nanh", "infh", "3 weeks"])
def test_other_texts_are_no_durations(text):
    with pytest.raises(InvalidValue, match="30m"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_said(seconds, text):
    assert duration(seconds) == text
