import sys

from coview.core import progress as room


def pretend(monkeypatch, *, terminal, seconds_a_look=0.0):
    """A terminal or not, and a clock that moves by so much whenever it is read."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    clock = iter(range(1_000_000))
    if seconds_a_look:
        monkeypatch.setattr(room.time, "monotonic", lambda: next(clock) * seconds_a_look)


def test_plain_lines_show_rate_time_left_and_note(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with room.progress("Training", 1000) as advance:
        advance(250, "loss 5.1")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Training: 250/1,000 images")
    assert "left" in first
    assert first.endswith("loss 5.1")


def test_work_inside_other_work_shows_nothing(monkeypatch, capsys):
    pretend(monkeypatch, terminal=False, seconds_a_look=11.0)
    with room.progress("Training", 10) as advance:
        with room.progress("Features", 10) as inner:
            inner(10, "x")
        advance(10)
    said = capsys.readouterr().out
    assert "Training" in said
    assert "Features" not in said
    with room.progress("Features", 10) as advance:
        advance(10)
    assert "Features" in capsys.readouterr().out


def test_a_terminal_of_eighty_columns_shows_all_figures(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    pretend(monkeypatch, terminal=True)
    note = "loss 5.103 (chance 6.931), kNN 41.0 %"
    with room.progress("Training", 1_234_567) as advance:
        advance(234_567, note)
        with room.progress("Features", 10) as inner:
            inner(10)
    said = capsys.readouterr().out
    assert "234567/1234567" in said
    assert "images/s" in said
    assert note in said
    assert "Features" not in said
    assert "…" not in said
