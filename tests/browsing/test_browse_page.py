"""The page in a real browser: mouse, keys, touch, files that are dropped, one file offline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_table import CLASSES, annotations_of, drawn, write_png

from coview import browsing, reports
from coview.browsing import Annotation, Annotations, BrowseServer, Change, Facet, write_page
from coview.core.errors import InvalidValue
from headless_browser import Browser, Page, find_browser, started

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine"),
]

DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
READY = "document.documentElement.dataset.ready !== undefined"
COLLECTION = drawn()
SHIFT, ALT = 8, 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as process:
        yield process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrowseServer]:
    with BrowseServer(COLLECTION, annotations_of(COLLECTION, tmp_path / "tags.csv")) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(drawn(), tmp_path_factory.mktemp("pages") / "page.html")


@pytest.fixture
def page(browser: Browser, server: BrowseServer) -> Iterator[Page]:
    with browser.opened(server.address) as opened:
        opened.wait_for(READY)
        opened.run("document.querySelector('[value=dots]').click()")
        yield opened
        # Reading a canvas is slow, and only these tests do it.
        assert [error for error in opened.errors if "willReadFrequently" not in error] == []


def place_of(page: Page, row: int) -> tuple[float, float]:
    """Where the dot of an image is before the map has been moved."""
    left, top, width, height = page.run(
        "(b => [b.x, b.y, b.width, b.height])(document.getElementById('map').getBoundingClientRect())"
    )
    scale = max(20, min(width, height) * 0.94)
    x, y = COLLECTION.points[row].tolist()
    return left + width / 2 + (x - 0.5) * scale, top + height / 2 + (y - 0.5) * scale


def click_on(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def status(page: Page) -> str:
    return page.run("document.getElementById('status').textContent")


def tiles(page: Page) -> list[int]:
    return page.run("[...document.querySelectorAll('.tile')].map(t => Number(t.dataset.row))")


def shown(page: Page) -> str:
    return page.run("document.getElementById('shown').textContent")


def color_at(page: Page, x: float, y: float) -> list[int]:
    return page.run(
        "(c => { const b = c.getBoundingClientRect();"
        f"return [...c.getContext('2d').getImageData({x} - b.x, {y} - b.y, 1, 1).data].slice(0, 3); }})"
        "(document.getElementById('dots'))"
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 375])
def test_it_opens_without_errors_and_asks_this_machine_alone(
    browser: Browser, server: BrowseServer, width: int, dark: bool
) -> None:
    with browser.opened(server.address, width=width, dark=dark) as page:
        page.wait_for(READY)
        page.run("document.getElementById('map').focus()")
        page.press("ArrowRight")
        page.press("Enter")
        page.wait_for("document.querySelectorAll('.tile').length === 24")
        page.wait_for("[...document.images].some(i => i.naturalWidth > 0)")
        assert page.run("[...document.images].every(i => !i.complete || i.naturalWidth > 0)")
        assert page.errors == []
        origin = f"http://127.0.0.1:{server.port}/"
        assert all(url.startswith((origin, "blob:")) for url in page.requests)
        assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.run("location.search") == ""  # the token is in no history
        paper = page.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 22, 26)" if dark else "rgb(247, 247, 244)")


def test_every_color_of_the_map_is_in_both_styles_and_in_the_legend() -> None:
    styles = (Path(reports.__file__).parent / "report.css").read_text()
    script = (Path(browsing.__file__).parent / "map.js").read_text()
    colors = f"const COLORS = {len(re.findall(r'[.]c[0-9] {', styles))};"
    assert colors in script
    for number in range(10):
        values = re.findall(rf"--c{number}: (#[0-9a-f]{{6}});", styles)
        assert len(set(values)) == 2


def test_dots_have_the_colors_of_their_classes(page: Page) -> None:
    colors = {tuple(color_at(page, *place_of(page, row))) for row in range(0, 30)}
    ground = tuple(color_at(page, *np.add(place_of(page, 0), (0, -120)).tolist()))
    assert ground == (255, 255, 255)
    assert len(colors - {ground}) >= 3


def test_a_click_shows_the_image_and_its_neighbors(page: Page, server: BrowseServer) -> None:
    page.click(*place_of(page, 11))
    page.wait_for("document.querySelectorAll('.tile').length === 24")
    unit = COLLECTION.vectors / np.linalg.norm(COLLECTION.vectors, axis=1, keepdims=True)
    cosines = unit @ unit[11]
    cosines[11] = -2
    assert tiles(page) == np.argsort(-cosines, kind="stable")[:24].tolist()
    text = page.run("document.getElementById('image').textContent")
    assert "b/011.png" in text
    assert CLASSES[2] in text  # and not as markup
    assert page.run("document.querySelectorAll('#image b').length") == 0
    assert page.run("document.querySelector('.tile').classList.contains('same')")


def test_pointing_at_a_dot_shows_its_picture(page: Page) -> None:
    page.point(*place_of(page, 6))
    page.wait_for("!document.getElementById('tip').hidden")
    page.wait_for("document.getElementById('tip').textContent.includes('ci/006.png')")
    page.wait_for("document.querySelector('#tip img').naturalWidth > 0")
    page.point(2, 2)
    assert page.run("document.getElementById('tip').hidden")


def test_the_keyboard_alone_is_enough(page: Page, server: BrowseServer) -> None:
    """To an image, its neighbors, a selection, a label, a tag, undo, and names."""
    page.run("document.getElementById('map').focus()")
    before = ""
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.press(key)
        page.wait_for(
            f"(document.querySelector('#image strong')?.textContent ?? '') !== '{before}'"
        )
        before = page.run("document.querySelector('#image strong').textContent")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('.tile').length === 24")
    page.press("x")
    assert status(page) == "1 image selected"
    page.press("2")
    page.wait_for("document.getElementById('status').textContent.includes('labeled cross')")
    (row,) = server.annotations.by_row
    assert server.annotations.by_row == {row: Annotation("cross")}
    page.press("t")
    page.type("nice")
    page.press("Enter")
    page.wait_for("document.getElementById('status').textContent.includes('tagged nice')")
    assert server.annotations.by_row == {row: Annotation("cross", ("nice",))}
    page.press("Escape")
    page.press("u")
    page.wait_for("document.getElementById('status').textContent.includes('taken back')")
    assert server.annotations.by_row == {row: Annotation("cross")}
    # Another page gives a tag and a label: a change here keeps the one, and gives the other back.
    server.annotations.update({row: Change("ring", ("seen",))})
    page.press("2")
    page.wait_for("document.getElementById('status').textContent.includes('labeled cross')")
    assert server.annotations.by_row == {row: Annotation("cross", ("seen",))}
    page.press("u")
    page.wait_for("document.getElementById('status').textContent.includes('taken back')")
    assert server.annotations.by_row == {row: Annotation("ring", ("seen",))}
    page.press("/")
    page.type("cr/00")
    page.wait_for("document.getElementById('shown').textContent.startsWith('3 of')")
    page.press("Escape")
    page.press("v")
    assert status(page) == "4 images selected" or status(page) == "3 images selected"
    page.press("?")
    assert page.run("document.getElementById('keys').open")


def test_zoom_keeps_the_place_under_the_pointer(page: Page) -> None:
    x, y = place_of(page, 20)
    before = color_at(page, x, y)
    at = np.floor((x, y))  # a wheel turns at whole pixels
    for _ in range(6):
        page.mouse("mouseWheel", *at.tolist(), deltaX=0, deltaY=-240)
    page.run(DRAWN)
    zoomed_x, zoomed_y = (at + (np.array([x, y]) - at) * np.exp(6 * 240 * 0.0016)).tolist()
    near = np.abs(np.subtract(color_at(page, zoomed_x, zoomed_y), before))
    assert near.max() < 90  # the dot, perhaps its edge, on white ground
    page.click(zoomed_x, zoomed_y)
    page.wait_for("document.getElementById('image').textContent.includes('b/020.png')")
    page.run("document.getElementById('map').focus()")
    page.press("0")
    page.run(DRAWN)
    assert color_at(page, x, y) == before


def test_dragging_moves_the_map_and_chooses_nothing(page: Page) -> None:
    x, y = place_of(page, 20)
    page.drag([(x, y), (x + 30, y + 20), (x + 60, y + 40)])
    page.run(DRAWN)
    assert page.run("document.querySelector('#image strong')") is None
    page.click(x + 60, y + 40)
    page.wait_for("document.getElementById('image').textContent.includes('b/020.png')")


def test_pictures_appear_on_the_map(page: Page) -> None:
    page.run("document.querySelector('[value=pictures]').click()")
    painted = (
        "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter(v => v > 0).length)"
        "(document.getElementById('map'))"
    )
    assert page.wait_for(f"{painted} > 100000")
    asked = [url for url in page.requests if "/sheet?" in url]
    assert 1 <= len(asked) <= 3  # many pictures in one request
    page.run("document.querySelector('[value=dots]').click()")
    assert page.wait_for(f"{painted} < 100")


def test_pictures_that_fail_are_asked_for_again_at_a_click_and_not_before(
    browser: Browser, server: BrowseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(rows: str, size: str) -> None:
        asked.append(rows)
        raise InvalidValue("No picture can be read.")

    monkeypatch.setattr(server._server.requests, "sheet", refuse)
    with browser.opened(server.address) as page:
        page.wait_for(READY)
        page.run("document.querySelector('[value=pictures]').click()")
        page.wait_for("performance.getEntriesByType('resource').some(e => /sheet/.test(e.name))")
        for _ in range(5):
            page.run("new Promise(done => setTimeout(done, 150))")
            click_on(page, "#fit")
        rows = [row for each in asked for row in each.split(",")]
        assert len(rows) == len(set(rows))
        first = len(asked)
        page.click(*place_of(page, 0))
        page.wait_for("performance.getEntriesByType('resource').filter(e => /sheet/.test(e.name))"
                      f".length > {first}")  # fmt: skip


def lasso_around(page: Page, rows: np.ndarray, modifiers: int = 0) -> None:
    places = np.array([place_of(page, int(row)) for row in rows])
    (left, top), (right, bottom) = places.min(0) - 8, places.max(0) + 8
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top + 3)]
    page.drag([(float(x), float(y)) for x, y in corners], modifiers)


def test_the_lasso_selects_adds_and_takes_away(page: Page) -> None:
    classes = [np.flatnonzero(COLLECTION.store.labels == k) for k in range(3)]
    click_on(page, "#lasso")
    lasso_around(page, classes[0])
    assert status(page) == "30 images selected"
    page.wait_for("document.querySelectorAll('.tile').length === 30")
    assert tiles(page) == classes[0].tolist()
    lasso_around(page, classes[1], SHIFT)
    assert status(page) == "60 images selected"
    lasso_around(page, classes[0], ALT)
    assert status(page) == "30 images selected"
    lasso_around(page, classes[2])
    page.wait_for("document.querySelectorAll('.tile').length === 30")
    assert tiles(page) == classes[2].tolist()
    page.press("Escape")
    page.press("Escape")
    assert status(page) == "Nothing is selected"


def test_labels_and_tags_of_a_selection_are_in_the_file_at_once(
    page: Page, server: BrowseServer, browser: Browser
) -> None:
    click_on(page, "#lasso")
    rows = np.flatnonzero(COLLECTION.store.labels == 1)
    lasso_around(page, rows)
    page.run("document.getElementById('label').focus()")
    page.type("plus sign")
    page.press("Enter")
    page.wait_for("document.getElementById('status').textContent.includes('30 images labeled')")
    page.run("document.getElementById('tag').value = 'to check'")
    click_on(page, "#add-tag")
    page.wait_for("document.getElementById('status').textContent.includes('30 images tagged')")
    saved = Annotations(
        server.annotations.path, ids=COLLECTION.store.ids, names=COLLECTION.store.names,
        paths=COLLECTION.paths,
    ).by_row  # fmt: skip
    assert saved == {int(row): Annotation("plus sign", ("to check",)) for row in rows}
    with browser.opened(server.address) as again:
        again.wait_for(READY)
        click_on(again, '[data-entry="label 0"]')
        assert shown(again) == "30 of 90 images"
        assert again.errors == []
    click_on(page, "#remove-tag")
    page.wait_for("document.getElementById('status').textContent.includes('no longer tagged')")
    assert server.annotations.by_row[int(rows[0])] == Annotation("plus sign")


def test_filters_join_within_a_property_and_cut_between_two(page: Page) -> None:
    marks, labels = COLLECTION.facets[1].codes, COLLECTION.store.labels
    click_on(page, '[data-entry="class 0"]')
    assert shown(page) == "30 of 90 images"
    click_on(page, '[data-entry="class 1"]')
    assert shown(page) == "60 of 90 images"
    click_on(page, '[data-entry="verdict 0"]')
    expected = np.flatnonzero((labels < 2) & (marks & 1 > 0))
    assert shown(page) == f"{len(expected)} of 90 images"
    click_on(page, "#tab-shown")
    page.wait_for(f"document.querySelectorAll('.tile').length === {len(expected)}")
    assert tiles(page) == expected.tolist()
    click_on(page, '[data-entry="verdict 1"]')
    assert shown(page) == f"{((labels < 2) & (marks > 0)).sum()} of 90 images"
    # A hidden image is neither picked nor enclosed.
    page.run("document.getElementById('map').focus()")
    page.press("v")
    assert status(page) == f"{((labels < 2) & (marks > 0)).sum()} images selected"


def test_the_list_is_sorted_by_a_score(page: Page) -> None:
    click_on(page, "#tab-shown")
    page.wait_for("document.querySelectorAll('.tile').length >= 60")
    page.run(
        "(s => { s.value = 'outlier score'; s.dispatchEvent(new Event('change')); })"
        "(document.getElementById('sort'))"
    )
    order = np.argsort(-COLLECTION.scores["outlier score"], kind="stable")
    page.wait_for(f"document.querySelector('.tile')?.dataset.row === '{order[0]}'")
    assert tiles(page)[:60] == order[:60].tolist()


DROP = """(async (name) => {
  const bytes = Uint8Array.from(atob('%s'), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: 'image/png' }));
  for (const type of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
})('found <b>.png')"""


def test_a_dropped_image_finds_its_neighbors(page: Page, tmp_path: Path) -> None:
    import base64

    content = write_png(tmp_path / "x.png", COLLECTION.store.image(9)).read_bytes()
    page.run(DROP % base64.b64encode(content).decode())
    page.wait_for("document.querySelectorAll('.tile').length === 24")
    assert tiles(page)[0] == 4
    assert "found <b>.png" in page.run("document.getElementById('image').textContent")
    page.wait_for("document.querySelector('#image img').naturalWidth === 32")
    assert page.run("document.getElementById('drop').hidden")


def test_more_like_the_selection_are_its_neighbors(page: Page) -> None:
    click_on(page, '[data-entry="verdict 0"]')
    page.run("document.getElementById('map').focus()")
    page.press("v")
    page.press("n")
    page.wait_for("document.getElementById('image').textContent.includes('More like 4 images')")
    assert not {0, 1, 2, 3} & set(tiles(page))


def test_all_tags_of_an_image_are_shown_and_the_filter_says_how_many_there_are(
    browser: Browser, server: BrowseServer
) -> None:
    changes = {row: Change("", add=(f"tag {row:02d}", "common")) for row in range(40)}
    server.annotations.update(changes)
    with browser.opened(server.address) as page:
        page.wait_for(READY)
        page.run("document.querySelector('[value=dots]').click()")
        page.click(*place_of(page, 39))
        page.wait_for("document.getElementById('image').textContent.includes('tag 39')")
        assert "31 of 41 shown" in page.run("document.getElementById('facets').textContent")


def test_an_undo_that_cannot_be_written_is_kept(page: Page, server: BrowseServer) -> None:
    page.click(*place_of(page, 11))
    page.run("document.getElementById('label').value = 'cat'")
    click_on(page, "#set-label")
    page.wait_for("document.getElementById('status').textContent.includes('written to')")
    path, kept = server.annotations.path, server.annotations.path.read_bytes()
    path.write_bytes(b"\xff")
    click_on(page, "#undo")
    page.wait_for("document.getElementById('status').className === 'bad'")
    path.write_bytes(kept)
    assert not page.run("document.getElementById('undo').disabled")
    click_on(page, "#undo")
    page.wait_for("document.getElementById('status').textContent.includes('taken back')")
    assert server.annotations.by_row == {}
    page.errors.clear()


def test_a_file_that_is_too_large_is_refused_by_its_size(page: Page, server: BrowseServer) -> None:
    page.run(
        "(input => { const held = new DataTransfer();"
        "held.items.add(new File([new Uint8Array(2 ** 25 + 1)], 'large.tif'));"
        "input.files = held.files; input.dispatchEvent(new Event('change')); })"
        "(document.getElementById('file'))"
    )
    page.wait_for("document.getElementById('status').className === 'bad'")
    assert status(page) == "large.tif is larger than 32 MiB, the most that is searched by."


def test_values_without_a_mark_of_their_own_are_gray(browser: Browser, tmp_path: Path) -> None:
    collection = replace(COLLECTION, facets=(
        Facet(name="cluster", title="Cluster", values=tuple(f"{k}" for k in range(32)),
              codes=np.arange(90) % 32),
    ))  # fmt: skip
    tags = annotations_of(collection, tmp_path / "tags.csv")
    with BrowseServer(collection, tags) as running, browser.opened(running.address) as page:
        page.wait_for(READY)
        page.run("document.querySelector('[value=dots]').click()")
        gray = page.run(
            "(c => { c.fillStyle = getComputedStyle(document.documentElement)"
            ".getPropertyValue('--muted').trim(); return [1, 3, 5].map("
            "at => parseInt(c.fillStyle.slice(at, at + 2), 16)); })"
            "(document.createElement('canvas').getContext('2d'))"
        )
        far = [np.abs(np.array(color_at(page, *place_of(page, row))) - gray).max()
               for row in (29, 30, 31)]  # fmt: skip
        assert far[0] > 40 > max(far[1:])
        assert "The first 30 have a mark each" in page.run(
            "document.getElementById('facets').textContent"
        )
        page.errors.clear()


def test_an_error_of_the_server_is_shown_and_changes_nothing(
    page: Page, server: BrowseServer
) -> None:
    page.click(*place_of(page, 11))
    page.run("document.getElementById('label').value = 'a;b'")
    click_on(page, "#set-label")
    page.wait_for("document.getElementById('status').className === 'bad'")
    assert "without a semicolon" in status(page)
    assert server.annotations.by_row == {}
    assert page.run("document.querySelector('[data-entry=\"label 0\"]')") is None
    assert any("400" in error for error in page.errors)
    page.errors.clear()


def gesture(page: Page, done: str, *steps: list[float]) -> None:
    """Fingers on the dot of image 20, at each step this far (pixels) to its sides, until ``done``.

    Chromium ends a gesture with touchcancel where the page does not answer within a fraction of a
    second, as on a machine with other work: a user tries again, and so does this.
    """
    for _ in range(5):
        page.run(
            "document.getElementById('map').scrollIntoView({block: 'center', behavior: 'instant'})"
        )
        x, y = place_of(page, 20)
        for kind, reaches in zip(("touchStart", *["touchMove"] * len(steps)), steps, strict=False):
            page.touch(kind, *((x + reach, y) for reach in reaches))
        page.touch("touchEnd")
        try:
            page.wait_for(done, seconds=4)
        except AssertionError:
            continue
        return
    page.wait_for(done)


def test_touch_zooms_with_two_fingers_and_chooses_with_one(
    browser: Browser, server: BrowseServer
) -> None:
    with browser.opened(server.address, width=375, height=800, touch=True) as page:
        page.wait_for(READY)
        gesture(page, "document.getElementById('image').textContent.includes('.png')", [0])
        before = page.run("document.getElementById('dots').toDataURL()")
        zoomed = f"document.getElementById('dots').toDataURL() !== '{before}'"
        gesture(page, zoomed, *([-reach, reach] for reach in (20, 30, 45, 60)))
        assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0
        small = page.run(
            "[...document.querySelectorAll('button, input:not([type=radio])')].filter(e => e.offsetParent"
            " && e.getBoundingClientRect().height < 32).map(e => e.id || e.textContent)"
        )
        assert small == []
        assert page.errors == []


def test_no_picture_is_cut_at_the_edge_of_the_whole_map(browser: Browser, tmp_path: Path) -> None:
    """The outermost images lie at 0 and 1; between them and the frame nothing is drawn."""
    points = COLLECTION.points.copy()
    points[:4] = [[0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]]
    file = write_page(replace(COLLECTION, points=points), tmp_path / "page.html")
    with browser.opened(file) as page:
        page.wait_for(READY)
        page.run("document.querySelector('[value=pictures]').click()")
        painted = (
            "(c => c.getContext('2d').getImageData({}, c.width, c.height).data.filter(v => v > 0).length)"
            "(document.getElementById('map'))"
        )
        page.wait_for(f"{painted.format('0, 0')} > 10000")
        for outside in ("c.width - 4, 0", "0, c.height - 4", "4 - c.width, 0", "0, 4 - c.height"):
            assert page.run(painted.format(outside)) == 0, outside


def test_one_file_does_the_same_offline(browser: Browser, file: Path, tmp_path: Path) -> None:
    with browser.opened(file) as page:
        page.wait_for(READY)
        assert page.requests == [file.resolve().as_uri()]
        page.click(*place_of(page, 11))
        page.wait_for("document.querySelectorAll('.tile').length === 24")
        unit = COLLECTION.vectors / np.linalg.norm(COLLECTION.vectors, axis=1, keepdims=True)
        cosines = unit @ unit[11]
        cosines[11] = -2
        assert tiles(page) == np.argsort(-cosines, kind="stable")[:24].tolist()
        painted = (
            "(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
            "(document.querySelector('.tile canvas'))"
        )
        page.wait_for(f"{painted} > 20")
        click_on(page, '[data-entry="class 2"]')
        assert shown(page) == "30 of 90 images"
        page.press("2")
        page.wait_for("document.getElementById('status').textContent.includes('labeled cross')")
        text = page.run(
            "new Promise(done => { URL.createObjectURL = (blob) => { blob.text().then(done); return '#'; };"
            "document.getElementById('download').click(); })"
        )
        lines = text.splitlines()
        assert lines[0] == "name,path,label,tags"
        assert len(lines) == 31
        assert "b/011.png,,cross," in lines
        assert f"b/002.png,,{CLASSES[2]}," in lines
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("file:", "blob:"))] == []


def test_pages_forbid_requests_to_other_machines(
    browser: Browser, file: Path, server: BrowseServer
) -> None:
    for address in (file, server.address):
        with browser.opened(address) as page:
            page.wait_for(READY)
            sent = page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')")
            assert sent == "blocked"
            assert any("Content Security Policy" in error for error in page.errors)


def test_a_file_of_too_many_images_is_refused(tmp_path: Path) -> None:
    class Many:
        def __len__(self) -> int:
            return 10_001

    with pytest.raises(InvalidValue, match="at most 10,000 images"):
        write_page(Many(), tmp_path / "page.html")  # type: ignore[arg-type]
    assert not (tmp_path / "page.html").exists()
