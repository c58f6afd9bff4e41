"""Numbers and JSON values as text for a person."""

from __future__ import annotations

import pytest

from coview.reports.formatting import cosine, decimal, duration, millions, percent, value
from coview.reports.html import Markup, join, script_data, tag
from coview.reports.tables import recipe_rows


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.8123, "81.2 %"), (1, "100.0 %"), (0, "0.0 %"), (0.0008, "0.08 %"), (-0.021, "-2.1 %")],
)
def test_percent(share: float, text: str) -> None:
    assert plain(percent(share)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (6.9305, "6.93"), (0.0321, "0.0321"), (0.3, "0.3"), (812.4, "812"),
     (12345, "12,345"), (3e-5, "3e-5"), (2.5e-7, "2.5e-7"), (-3.234, "-3.23"),
     (1.5e9, "1.5e9")],
)  # fmt: skip
def test_decimal(number: float, text: str) -> None:
    assert plain(decimal(number)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(812, "812"), (9_999, "9,999"), (197_248, "197 k"), (11_173_962, "11.2 M"),
     (999_999, "1 M"), (3.2e9, "3.2 G")],
)  # fmt: skip
def test_millions(number: float, text: str) -> None:
    assert plain(millions(number)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (31.2, "31 s"), (59.7, "1 min"), (75, "1 min 15 s"), (3600, "1 h"),
     (7384, "2 h 3 min"), (90_000, "1 d 1 h"), (86_400 + 59, "1 d")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert plain(duration(seconds)) == text


@pytest.mark.parametrize(("number", "text"), [(0.999, "1.00"), (-0.001, "0.00"), (-0.5, "-0.50")])
def test_cosine(number: float, text: str) -> None:
    assert plain(cosine(number)) == text


@pytest.mark.parametrize(
    ("item", "text"),
    [(None, "none"), (True, "yes"), (4096, "4,096"), (0.075, "0.075"), (1.0, "1"),
     (1e-6, "1e-6"), ([], "none"), ([0.75, 2], "0.75, 2"),
     ({"k": 20}, "k 20"), ("lars", "lars")],
)  # fmt: skip
def test_value(item: object, text: str) -> None:
    assert value(item) == text


def test_tag_escapes_text_and_attributes_but_not_markup() -> None:
    inner = tag("b", "<&>")
    assert tag("p", inner, '"', title='"<') == (
        '<p title="&quot;&lt;"><b>&lt;&amp;&gt;</b>&quot;</p>'
    )
    assert (
        tag("img", alt="", hidden=True, id=None, aria_label=3)
        == '<img alt="" hidden aria-label="3">'
    )
    assert isinstance(join(["<", Markup("<br>"), None, [1]]), Markup)
    assert join(["<", Markup("<br>"), None, [1]]) == "&lt;<br>1"


def test_script_data_cannot_end_its_element() -> None:
    text = script_data("x", ["</script><!--"])
    assert text.count("</script>") == 1
    assert "<!--" not in text


def test_recipe_rows_show_equal_items_once() -> None:
    crop = {"type": "Crop", "area": 0.2}
    rows = list(recipe_rows({"type": "R", "views": [crop, crop, {"type": "Crop"}], "seed": 0}))
    assert rows == [
        (0, "views 1 to 2", "Crop", True),
        (1, "area", "0.2", False),
        (0, "views 3", "Crop", True),
        (0, "seed", "0", False),
    ]
