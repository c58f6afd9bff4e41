import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from coview.training import StopSignals

STUBBORN = """
import time
from coview.training.signals import StopSignals
with StopSignals() as signals:
    print("ready", flush=True)
    while True:
        if signals():
            print(signals(), flush=True)
            break
        time.sleep(0.01)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, "stopped by Ctrl-C"),
        (signal.SIGTERM, "stopped by SIGTERM"),
        (signal.SIGHUP, "stopped by SIGHUP"),
        (signal.SIGUSR1, "stopped by SIGUSR1"),
        (signal.SIGUSR2, "stopped by SIGUSR2"),
    ],
)
def test_signal_only_sets_the_flag(number, words, capfd):
    with StopSignals() as signals:
        assert signals() == ""
        os.kill(os.getpid(), number)
        assert signals() == words
    assert "after this step and saving" in capfd.readouterr().err


def test_signal_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="out"), StopSignals():
        raise ValueError("out")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_interrupt_of_a_background_job_saves_too():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script begins its jobs
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop() == "stopped by Ctrl-C"
    finally:
        signal.signal(signal.SIGINT, before)


def test_signal_that_is_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signal_without_a_terminal_to_say_so_stops_all_the_same(monkeypatch):
    def gone(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", gone)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals() == "stopped by SIGHUP"


def test_signals_in_another_thread_change_nothing():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopSignals() as signals:
            seen.append((signals(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [("", before)]


def test_signal_twice_leaves_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopped by SIGTERM\n"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "last checkpoint is intact" in complaint
