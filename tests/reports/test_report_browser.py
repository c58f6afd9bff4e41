"""The report in a real browser: silent, self-contained, and alive under mouse and keyboard."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from report_run import make_run

from coview.reports import write_report
from coview.reports.duplicates import Copies, Copy, write_duplicates_page
from headless_browser import Browser, Page, find_browser, started

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "run", images=120))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as process:
        yield process


def edited(report: Path, folder: Path, before: str, after: str) -> Path:
    text = report.read_text("utf-8")
    assert before in text
    path = folder / "report.html"
    path.write_text(text.replace(before, after, 1), "utf-8")
    return path


def tip(page: Page) -> str | None:
    return page.run("(t => t.hidden ? null : t.textContent)(document.getElementById('tip'))")


def point_at(page: Page, selector: str, across: float, down: float) -> None:
    x, y = page.run(
        f"(() => {{ const e = document.querySelector('{selector}');"
        "e.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = e.getBoundingClientRect();"
        f"return [b.x + b.width * {across}, b.y + b.height * {down}]; }})()"
    )
    page.point(x, y)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_report_opens_without_errors_or_requests(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    with browser.opened(report, width=width, dark=dark) as page:
        assert page.errors == []
        assert page.requests == [report.resolve().as_uri()]
        assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        paper = page.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 22, 26)" if dark else "rgb(247, 247, 244)")


@pytest.mark.parametrize("width", [1200, 420])
def test_tables_of_an_evaluation_break_no_name_and_are_not_cut_in_a_wide_window(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    folder = make_run(tmp_path / "run", images=20)
    path = folder / "evaluation" / "linear.json"
    content = json.loads(path.read_text())
    for place, row in enumerate(content["results"]):
        row["setting"] = {
            "learning_rate": 333.3 + place, "weight_decay": 1e-4 / (1 + place),
            "validation_accuracy": 0.8,
        }  # fmt: skip
    classes = ["netted heart", "dotted flower", "woven cross"]
    content["results"][0]["confusion"] = {
        "classes": classes, "counts": [[8, 1, 1], [5, 5, 0], [0, 1, 9]]
    }  # fmt: skip
    path.write_text(json.dumps(content))
    with browser.opened(write_report(folder), width=width) as page:
        lines = page.run(
            "[...document.querySelectorAll('.confused td > bdi')].map(each => Math.round("
            "each.getBoundingClientRect().height / parseFloat(getComputedStyle(each).lineHeight)))"
        )
        assert lines == [1] * len(classes)
        cut = page.run(
            "[...document.querySelectorAll('.evaluation > .scroll')].map("
            "each => each.scrollWidth - each.clientWidth)"
        )
        assert width < 1200 or max(cut) == 0


def test_report_policy_forbids_a_foreign_picture(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    picture = '<main><img src="http://127.0.0.1:9/x.png" alt="x">'
    with browser.opened(edited(report, tmp_path, "<main>", picture)) as page:
        assert any("Content Security Policy" in error for error in page.errors)


def test_a_request_would_be_noticed(browser: Browser, report: Path, tmp_path: Path) -> None:
    free = edited(report, tmp_path, 'http-equiv="Content-Security-Policy"', 'name="policy"')
    picture = '<main><img src="http://127.0.0.1:9/x.png" alt="x">'
    with browser.opened(edited(free, tmp_path, "<main>", picture)) as page:
        assert "http://127.0.0.1:9/x.png" in page.requests


def test_an_injected_script_does_not_run_and_is_noticed(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    script = "<main><script>window.injected = 1</script><b onclick='window.injected = 1'>x</b>"
    with browser.opened(edited(report, tmp_path, "<main>", script)) as page:
        page.run("document.querySelector('main > b').click()")
        assert page.run("window.injected") is None
        assert any("Content Security Policy" in error for error in page.errors)


@pytest.mark.parametrize("fault", ["console.error('broken')", "null.x"])
def test_an_error_would_be_noticed(
    browser: Browser, report: Path, tmp_path: Path, fault: str
) -> None:
    free = edited(report, tmp_path, 'http-equiv="Content-Security-Policy"', 'name="policy"')
    with browser.opened(
        edited(free, tmp_path, "<main>", f"<main><script>{fault}</script>")
    ) as page:
        assert len(page.errors) == 1


def test_chart_tells_values_under_the_mouse_and_the_arrow_keys(
    browser: Browser, report: Path
) -> None:
    with browser.opened(report) as page:
        point_at(page, ".only-wide .plot", 0.5, 0.5)
        epoch, loss = (tip(page) or "").split("\n")
        assert epoch.startswith("epoch 1") or epoch.startswith("epoch 2")
        assert loss.startswith("loss 5.")
        page.point(2, 2)
        assert tip(page) is None
        page.run("document.querySelector('.only-wide .plot').focus()")
        page.press("End")
        assert (tip(page) or "").startswith("epoch 40.0\nloss 5.")
        page.press("ArrowLeft")
        assert (tip(page) or "").startswith("epoch 39")
        page.press("Escape")
        assert tip(page) is None
        assert page.errors == []


def test_map_shows_the_image_under_the_mouse(browser: Browser, report: Path) -> None:
    with browser.opened(report) as page:
        x, y, name = page.run(
            "(d => [d.points[7][0] / 600, d.points[7][1] / d.height, d.names[7]])"
            "(JSON.parse(document.getElementById('map-data').textContent))"
        )
        point_at(page, "#map", x, y)
        assert (tip(page) or "").endswith(name)
        painted = page.run(
            "(c => new Set(c.getContext('2d').getImageData(0, 0, 128, 128).data).size)"
            "(document.querySelector('#tip canvas'))"
        )
        assert painted > 20


def test_map_walks_with_the_arrow_keys(browser: Browser, report: Path) -> None:
    with browser.opened(report) as page:
        page.run("document.getElementById('map').focus()")
        seen = []
        for key in ("Home", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown"):
            page.press(key)
            seen.append(tip(page))
        assert all(seen)
        assert len(set(seen)) >= 4


def test_map_singles_out_a_class(browser: Browser, report: Path) -> None:
    with browser.opened(report) as page:
        page.run("document.querySelector('.classes button[data-group=\"2\"]').click()")
        assert page.run("document.querySelectorAll('#map .dimmed').length") == 5
        page.run("document.getElementById('map').focus()")
        for key in ("Home", "ArrowRight", "ArrowUp"):
            page.press(key)
            assert (tip(page) or "").startswith("cross\n")
        page.run("document.querySelector('.classes button[data-group=\"2\"]').click()")
        assert page.run("document.querySelectorAll('#map .dimmed').length") == 0


def test_map_can_show_pictures_for_marks(browser: Browser, report: Path) -> None:
    painted = (
        "(c => c.hidden ? 0 : c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter(v => v > 0).length)(document.getElementById('map-pictures'))"
    )
    with browser.opened(report) as page:
        assert page.run(painted) == 0
        page.run("document.getElementById('map-switch').click()")
        assert page.run(painted) > 10_000
        page.run("document.getElementById('map-switch').click()")
        assert page.run(painted) == 0


def test_report_policy_forbids_a_request_by_script(browser: Browser, report: Path) -> None:
    with browser.opened(report) as page:
        outcome = page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')")
        assert outcome == "blocked"
        assert any("Content Security Policy" in error for error in page.errors)


def test_a_command_is_copied_or_selected(browser: Browser, report: Path) -> None:
    with browser.opened(report) as page:
        command = page.run("document.querySelector('.steps code').textContent")
        assert command.startswith("coview ")
        assert page.run("document.querySelector('.copy').tagName") == "BUTTON"
        page.run("document.querySelector('.copy').focus()")
        page.run("document.querySelector('.copy').click()")
        said = page.run("new Promise(d => setTimeout(d, 200)).then(() => "
                        "document.querySelector('.copy').textContent)")  # fmt: skip
        assert said in ("Copied", "Selected")
        if said == "Selected":
            assert page.run("String(getSelection())") == command
        assert page.errors == []


def test_the_page_of_a_run_that_is_going_loads_itself_until_the_end(
    browser: Browser, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", finished=0.4, images=20)
    verdict = (folder / "verdict.json").read_text()
    (folder / "verdict.json").unlink()
    headline = "document.querySelector('.headline').textContent"
    timer = "window.setInterval = (tick, time) => { window.tick = tick; window.every = time; }"
    path = write_report(folder, running=True)
    with browser.opened(path, height=700, script=timer) as page:
        assert "Training is going on" in page.run(headline)
        assert page.run("window.every") == 20_000
        page.run("document.getElementById('specialists').open = true; scrollTo(0, 1500)")
        page.run("window.isOld = true; tick()")
        wait_for(page, "document.readyState == 'complete' && !window.isOld && scrollY == 1500")
        assert page.run("document.getElementById('specialists').open")
        (folder / "verdict.json").write_text(verdict)
        write_report(folder, running=False)
        page.run("tick()")
        wait_for(
            page, f"document.readyState == 'complete' && {headline} == '\\u2713It has learned'"
        )
        assert page.run("window.every") is None
        assert page.errors == []


def test_a_page_that_is_not_written_again_says_that_the_run_may_have_stopped(
    browser: Browser, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", finished=0.4, images=20)
    (folder / "verdict.json").unlink()
    path = write_report(folder, running=True)
    words = "not written again for 20 minutes: the run may have stopped"
    state = "document.querySelector('.state').textContent"
    with browser.opened(path) as page:
        assert words not in page.run(state)
        assert "may have stopped" not in page.run(state)
    ahead = "{ const now = Date.now; Date.now = () => now() + 20.5 * 60_000; }"
    with browser.opened(path, script=ahead) as page:
        assert words in page.run(state)


def wait_for(page: Page, condition: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        # While the page loads there is none to ask.
        with contextlib.suppress(AssertionError):
            if page.run(condition):
                return
        time.sleep(0.05)
    raise AssertionError(condition)


@pytest.mark.parametrize(("width", "dark"), [(375, True), (1280, False)])
def test_the_page_of_copies_shows_them_side_by_side(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    image = Copy(name="a/" + 40 * "long" + ".jpg", label="a", part="", similarity=0.9,
                 kind="re-encoded", pixels=np.full((128, 96, 3), 90, np.uint8))  # fmt: skip
    groups = [
        Copies(number=number, contradicts=False, leaks=False, similarity=0.9,
               images=(image,) * count)
        for number, count in enumerate((2, 2, 5), 1)
    ]  # fmt: skip
    path = tmp_path / "copies.html"
    write_duplicates_page(path, groups, sentences=["Copies."], title="photos", number=3)
    with browser.opened(path, width=width, dark=dark) as page:
        assert page.errors == []
        assert page.requests == [path.resolve().as_uri()]
        assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0
        places = "(s => [...document.querySelectorAll(s)].map(e => e.getBoundingClientRect().y))"
        assert len(set(page.run(f"{places}('.copy-group:first-child img')"))) == 1
        first, second, third = page.run(f"{places}('.copy-group')")
        assert (first == second) == (width == 1280)
        assert third > second
