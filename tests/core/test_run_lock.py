"""One process at a time writes a run; a lock whose holder has ended is free."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from coview.core import run_lock as module
from coview.core.errors import RunError, StorageError
from coview.core.run_lock import Holder, run_lock

HOLDING = """
import sys, time
from pathlib import Path
from coview.core.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture
def without_flock(monkeypatch):
    monkeypatch.setattr(module, "lock_file", lambda descriptor: None)


def leave_lock(run, *, seconds_ago=0.0, **changes):
    """The lock file of a holder that differs from this process in ``changes``."""
    path = run / "lock.json"
    path.write_text(json.dumps(asdict(replace(Holder.this_process(), **changes))))
    date = time.time() - seconds_ago
    os.utime(path, (date, date))
    return path


def test_lock_is_held_once_and_gone_afterwards(run):
    with run_lock(run):
        assert json.loads((run / "lock.json").read_text())["process"] == os.getpid()
        with pytest.raises(RunError, match=f"is being written by process {os.getpid()} on"), \
                run_lock(run):  # fmt: skip
            pass
        assert (run / "lock.json").exists()  # that of the first
    assert [path.name for path in run.iterdir()] == ["run.json"]
    with run_lock(run):
        pass


@pytest.mark.parametrize("signal", ["kill", "terminate"])
def test_lock_of_a_process_that_has_ended_is_free(run, signal):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(run)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {process.pid} on"), run_lock(run):
            pass
        getattr(process, signal)()
        process.wait(10)
    assert (run / "lock.json").exists()
    with run_lock(run):
        pass


def test_of_many_that_want_a_lock_one_gets_it(run):
    got, ready, done = [], threading.Barrier(8), threading.Event()

    def take():
        ready.wait()
        try:
            with run_lock(run):
                got.append(1)
                done.wait(10)
        except RunError:
            got.append(0)
        if len(got) == 8:
            done.set()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 1


def test_lock_of_another_machine_is_refused_until_its_date_is_old(run):
    path = leave_lock(run, machine="other", host="gpu7", seconds_ago=60)
    with pytest.raises(RunError, match=f"on gpu7.* 60 s ago.*delete {path}, or try again in 2 min"), \
            run_lock(run):  # fmt: skip
        pass
    assert path.exists()
    leave_lock(run, machine="other", host="gpu7", seconds_ago=module.STALE + 1)
    with run_lock(run):
        pass


def test_lock_that_the_file_system_does_not_know_is_that_of_a_living_process(run, without_flock):
    leave_lock(run)
    with pytest.raises(RunError, match="is being written by process"), run_lock(run):
        pass


@pytest.mark.parametrize("changes", [{"started": "1"}, {"process": 2**22 + 1}])
def test_lock_of_a_number_that_is_used_again_is_free(run, without_flock, changes):
    leave_lock(run, **changes)
    with run_lock(run):
        pass


def test_lock_of_another_container_goes_by_its_date_where_there_is_no_flock(run, without_flock):
    other = {"namespace": "pid:[7]", "started": "1"}  # its number 1 is not ours
    leave_lock(run, **other)
    with pytest.raises(RunError, match="delete"), run_lock(run):
        pass
    leave_lock(run, **other, seconds_ago=module.STALE + 1)
    with run_lock(run):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"process": 3}'])
def test_damaged_lock_is_free(run, content):
    (run / "lock.json").write_bytes(content)
    with run_lock(run):
        pass


def test_lock_is_renewed_and_its_loss_ends_the_process(run, monkeypatch):
    lost = []
    monkeypatch.setattr(module, "RENEWAL", 0.02)
    monkeypatch.setattr(module, "exit_now", lost.append)
    with run_lock(run):
        os.utime(run / "lock.json", (1, 1))
        time.sleep(0.2)
        assert (run / "lock.json").stat().st_mtime > 1
        assert lost == []
        (run / "lock.json").unlink()  # a person may delete it: nobody has taken it yet
        time.sleep(0.1)
        assert lost == []
        (run / "lock.json").write_text("another process")
        time.sleep(0.2)
        assert "taken over" in lost[0]
    assert (run / "lock.json").read_text() == "another process"


def test_folder_that_stays_empty_is_removed(tmp_path):
    with run_lock(tmp_path / "a" / "new"):
        pass
    assert not (tmp_path / "a").exists()
    (tmp_path / "old").mkdir()
    with run_lock(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()


def test_folder_that_may_not_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Could not write"), run_lock(tmp_path / "file" / "run"):
        pass
