import pytest

from coview.core.errors import InvalidValue
from coview.core.text import byte_size, duration, parse_duration, plural


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
def test_durations_are_written(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (1, ("file",), "1 file"),
        (0, ("file",), "0 files"),
        (12345, ("class", "classes"), "12,345 classes"),
        (1.0, ("epoch",), "1 epoch"),
        (2.5, ("epoch",), "2.5 epochs"),
    ],
)
def test_counts_have_the_plural_of_their_noun(count, nouns, text):
    assert plural(count, *nouns) == text


@pytest.mark.parametrize(("count", "text"), [(5 << 20, "5 MiB"), (3 << 29, "1.5 GiB")])
def test_sizes_have_a_binary_unit(count, text):
    assert byte_size(count) == text
