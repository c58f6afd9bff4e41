"""Whose a temporary file is, and which are left."""

import os
import subprocess
import sys

import pytest

from coview.core.files import replacing
from coview.core.machine import process_started
from coview.core.temporary import DAY, is_written, mark, sweep, temporary_beside


def test_every_file_has_a_name_of_its_own(tmp_path):
    assert temporary_beside(tmp_path / "x") != temporary_beside(tmp_path / "x")


def test_files_of_processes_that_have_ended_are_deleted(tmp_path):
    if not process_started(os.getpid()):
        pytest.skip("this system does not say which processes run")
    code = "from coview.core.temporary import mark; print(mark())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended = ended.stdout.strip()
    assert (is_written(ended), is_written(mark()), is_written("x")) == (False, True, None)
    path = tmp_path / "x.parquet"
    names = [f".x.parquet.{ended}.tmp", f"..x.parquet.{ended}.tmp.{ended}.tmp"]
    others = [f".x.parquet.{mark()}.tmp", f".y.parquet.{ended}.tmp", ".x.parquet.7.tmp"]
    for name in (*names, *others):
        (tmp_path / name).touch()
    sweep(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(others)


def test_a_number_before_the_mark_is_no_part_of_it(monkeypatch):
    if not process_started(os.getpid()):
        pytest.skip("this system does not say which processes run")
    monkeypatch.setattr("coview.core.temporary._machine", lambda: "12345678")
    started = process_started(os.getpid()).zfill(8)
    monkeypatch.setattr("coview.core.temporary.process_started", lambda process: started)
    assert is_written(f"1764580000123456789-{mark()}.parquet")


def test_files_of_other_machines_are_deleted_after_a_day(tmp_path):
    path = tmp_path / "x.parquet"
    new, old = (tmp_path / f".x.parquet.0000000{n}-1-5-0123abcd.tmp" for n in (1, 2))
    for each in (new, old):
        each.touch()
    os.utime(old, (0, new.stat().st_mtime - DAY - 1))
    sweep(path)
    assert list(tmp_path.iterdir()) == [new]


def test_a_file_that_is_being_replaced_stays(tmp_path):
    path = tmp_path / "x.parquet"
    with replacing(path) as temporary:
        temporary.write_bytes(b"x")
        sweep(path)
        assert temporary.exists()
    assert path.read_bytes() == b"x"
