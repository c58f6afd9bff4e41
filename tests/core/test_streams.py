"""Output that cannot be written, or not in this encoding, costs its lines and nothing else."""

import errno
import io
import os
import subprocess
import sys

import pytest

from coview.cli import main
from coview.core.progress import progress, say
from coview.core.streams import SafeStream, safe_streams


class Failing(io.StringIO):
    """A stream whose disk is full, or whose reader has gone."""

    def __init__(self, number=errno.ENOSPC):
        super().__init__()
        self.number = number

    def flush(self):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "cp1252", "latin-1", "shift_jis"])
def test_characters_that_the_encoding_lacks_are_spelled_out(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    say("데이터 \N{RIGHTWARDS ARROW} caf\udce9 5 \xb1 1 \N{SNOWMAN}")
    written = stream.buffer.getvalue().decode(encoding)
    assert "\\u2603" in written
    assert "caf\\xe9" in written


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF])
def test_what_is_printed_never_fails(monkeypatch, number):
    monkeypatch.setattr(sys, "stdout", Failing(number))
    say("a line")
    with progress("Training", 3) as advance:
        advance(3)


@pytest.mark.parametrize("stream", [None, "closed"])
def test_nobody_listens(monkeypatch, stream):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    say("a line")
    with progress("Training", 3) as advance:
        advance(3)


def test_error_of_a_stream_is_remembered():
    full, gone = SafeStream.over(Failing()), SafeStream.over(Failing(errno.EPIPE))
    for safe in (full, gone):
        assert safe.error is None
        print("a line", file=safe, flush=True)
        assert safe.error is not None
    assert (full.is_lost, gone.is_lost) == (True, False)


def test_names_cannot_steer_the_terminal(capsys):
    say("left out: \x1b]0;title\x07 and \u202egpj.exe")
    assert capsys.readouterr().out == "left out: \\x1b]0;title\\x07 and \\u202egpj.exe\n"
    assert main(["doctor", "no\x1b[2J\nsuch"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "no\\x1b[2J\\nsuch" in complaint


def test_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with safe_streams():
        assert isinstance(sys.stdout, SafeStream)
    assert (sys.stdout, sys.stderr) == before


def shell(redirection):
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -m coview --help {redirection}', sys.executable],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirection", "code", "complaint"),
    [
        ("| true", 0, ""), (">&-", 0, ""), (">&- 2>&-", 0, ""), ("2>&-", 0, ""),
        ("> /dev/full", 2, "No space left on device"), ("> /dev/full 2> /dev/full", 2, ""),
    ],
)  # fmt: skip
def test_output_of_a_process_that_cannot_be_written(redirection, code, complaint):
    done = shell(redirection)
    assert done.returncode == code
    assert complaint in done.stderr
    assert done.stderr.count("\n") == bool(complaint)
