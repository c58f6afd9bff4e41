import re
import sys

import pytest

from coview.core import progress as printing
from coview.core.line_log import keep_lines


def pretend(monkeypatch, *, terminal, seconds_a_look=0.0):
    """A terminal or not, and a clock that moves by so much whenever it is read."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    clock = iter(range(1_000_000))
    if seconds_a_look:
        monkeypatch.setattr(printing.time, "monotonic", lambda: next(clock) * seconds_a_look)


def test_plain_lines_show_rate_time_left_and_note(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with printing.progress("Training", 1000) as advance:
        advance(250, "loss 5.1")
    first = capsys.readouterr().out.splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d Training: 250/1,000 images", first)
    assert "left" in first
    assert first.endswith("loss 5.1")


def test_work_inside_other_work_shows_nothing(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with printing.progress("Training", 10) as advance:
        with printing.progress("Features", 10) as inner:
            inner(10, "x")
        advance(10)
    said = capsys.readouterr().out
    assert "Training" in said
    assert "Features" not in said
    with printing.progress("Features", 10) as advance:
        advance(10)
    assert "Features" in capsys.readouterr().out


def test_a_terminal_of_eighty_columns_shows_all_figures(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    pretend(monkeypatch, terminal=True)
    note = "loss 5.103 (chance 6.931), kNN 41.0 %"
    with printing.progress("Training", 1_234_567) as advance:
        advance(234_567, note)
        with printing.progress("Features", 10) as inner:
            inner(10)
    said = capsys.readouterr().out
    assert "234567/1234567" in said
    assert "images/s" in said
    assert note in said
    assert "Features" not in said
    assert "…" not in said


def test_lines_have_a_time_beside_long_work_alone(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False)
    printing.say("before")
    with printing.progress("Training", 10):
        printing.say("a note")
    before, note = capsys.readouterr().out.splitlines()
    assert before == "before"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d a note", note)


def test_quiet_output_has_neither_details_nor_progress(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with printing.output(quiet=True), printing.progress("Training", 10) as advance:
        advance(5)
        printing.say("a plan", detail=True)
        printing.say("a warning")
    assert [line[20:] for line in capsys.readouterr().out.splitlines()] == ["a warning"]


def test_a_terminal_shows_no_bar_in_quiet_output(monkeypatch, capsys):
    pretend(monkeypatch, terminal=True)
    with printing.output(quiet=True), printing.progress("Training", 10) as advance:
        advance(10)
    assert capsys.readouterr().out == ""


def test_the_log_has_what_is_left_out_of_the_output(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch, terminal=True, seconds_a_look=11.0)
    with keep_lines("coview pretrain") as log, printing.output(quiet=True):
        log.open(tmp_path / "log.txt")
        printing.say("a plan", detail=True)
        with printing.progress("Training", 10) as advance:
            advance(5, "epoch 0.5")
    lines = [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines[:2] == ["coview pretrain", "a plan"]
    assert lines[2].startswith("Training: 5/10 images")
    assert lines[2].endswith("epoch 0.5")


def test_the_log_is_kept_until_there_is_a_file_and_ends_with_the_error(tmp_path):
    with pytest.raises(ValueError), keep_lines("coview pretrain") as log:
        printing.say("first")
        log.open(tmp_path / "log.txt")
        raise ValueError("it went wrong")
    lines = [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == ["coview pretrain", "first", "it went wrong"]


def test_a_log_that_cannot_be_written_costs_its_lines_alone(tmp_path, capsys):
    with keep_lines("coview pretrain") as log:
        log.open(tmp_path / "missing" / "log.txt")
        printing.say("goes on")
    assert capsys.readouterr().out == "goes on\n"


def test_the_last_line_is_printed_once(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with printing.progress("Aligning", 20, "pairs") as advance:
        advance(5)
        advance(15)
    said = [line[20:] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in said if "20/20" in line] == ["Aligning: 20/20 pairs"]
    with printing.progress("Aligning", 20, "pairs"):
        pass  # nothing was printed meanwhile: the end still is
    assert "0/20" in capsys.readouterr().out


def test_what_is_slow_for_once_is_said(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False)
    with printing.say_when_slow("It is compiled.", 30):
        pass
    with printing.output(quiet=True), printing.say_when_slow("It is compiled.", 0.001):
        printing.time.sleep(0.05)
    assert capsys.readouterr().out == ""
    with printing.say_when_slow("It is compiled.", 0.001):
        printing.time.sleep(0.05)
    assert capsys.readouterr().out == "It is compiled.\n"
