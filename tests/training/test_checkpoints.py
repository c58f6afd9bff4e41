import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from coview.core.errors import DamagedFile, StorageError, UnreadableFile
from coview.training import Checkpoints, checkpoints

WRITER = """
import os, sys, torch
from coview.training.checkpoints import Checkpoints

def write_for_ever(folder):
    store = Checkpoints(folder)
    step = store.load_latest().step if store.steps() else 0
    print(os.getpid(), flush=True)
    while True:
        step += 1
        store.save(step, {"w": torch.full((50_000,), float(step))}, {})

for line in sys.stdin:
    if os.fork() == 0:
        write_for_ever(sys.argv[1])
    os.wait()
    print("gone", flush=True)
"""


def tensors(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "weight": torch.randn(7, 5, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "count": torch.tensor(step),
        "flags": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 4),
    }


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[n], second[n]) and first[n].dtype == second[n].dtype for n in first
    )


def saved(folder, *steps):
    store = Checkpoints(folder)
    for step in steps:
        store.save(step, tensors(step), {"seconds": step / 3})
    return store


def test_checkpoint_comes_back_bit_for_bit(tmp_path):
    loaded = saved(tmp_path, 40).load_latest()
    assert same(loaded.tensors, tensors(40))
    assert (loaded.step, loaded.meta, loaded.damaged) == (40, {"seconds": 40 / 3}, ())


def test_checkpoint_of_tensors_in_any_layout_comes_back(tmp_path):
    odd = {"t": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)}
    odd["view"] = odd["t"][:, 1]
    store = Checkpoints(tmp_path)
    store.save(1, odd, {})
    assert same(store.load_latest().tensors, odd)


def test_checkpoints_absent_are_none(tmp_path):
    assert Checkpoints(tmp_path / "none").load_latest() is None


def test_checkpoints_keep_the_last_two_and_nothing_else(tmp_path):
    store = saved(tmp_path, 1, 2, 3, 10, 200)
    assert store.steps() == [10, 200]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000200"]


def test_checkpoint_manifest_describes_every_tensor(tmp_path):
    saved(tmp_path, 5)
    manifest = json.loads((tmp_path / "step-00000005" / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["step"] == 5
    assert manifest["tensors"].keys() == tensors(5).keys()
    assert manifest["tensors"]["weight"]["shape"] == [7, 5]
    assert manifest["tensors"]["half"]["dtype"] == "bfloat16"
    assert {len(tensor["hash"]) for tensor in manifest["tensors"].values()} == {32}


def test_checkpoint_damage_of_every_kind_is_seen(tmp_path):
    """Flips of bits spread over every file, truncations, emptied and vanished files."""
    store = saved(tmp_path / "run", 1, 2)
    cases = 0
    for name in ("state.safetensors", "manifest.json", "END"):
        path = store.path(2) / name
        whole = path.read_bytes()
        stride = max(1, len(whole) // 150)
        damaged = [
            whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :]
            for i in range(0, len(whole), stride)
        ]
        damaged += [whole[:length] for length in range(0, len(whole), stride)]
        damaged += [whole + b"\0", b"", b"\0" * len(whole), whole[::-1]]
        for content in damaged:
            path.write_bytes(content)
            loaded = store.load_latest()
            assert loaded.step == 1, (name, len(content))
            assert str(store.path(2)) in loaded.damaged[0]
            cases += 1
        path.unlink()
        assert store.load_latest().step == 1
        path.write_bytes(whole)
    assert store.load_latest().step == 2
    assert cases > 600


def test_checkpoint_with_a_file_of_another_step_is_seen(tmp_path):
    store = saved(tmp_path, 1, 2)
    for name in ("state.safetensors", "manifest.json", "END"):
        path = store.path(2) / name
        whole = path.read_bytes()
        shutil.copy(store.path(1) / name, path)
        assert store.load_latest().step == 1
        path.write_bytes(whole)


def test_checkpoint_renamed_to_another_step_is_seen(tmp_path):
    store = saved(tmp_path, 1, 2)
    store.path(2).rename(store.path(3))
    assert store.load_latest().step == 1


def test_checkpoints_all_damaged_is_an_error_that_names_them(tmp_path):
    store = saved(tmp_path, 1, 2)
    for step in (1, 2):
        (store.path(step) / "END").write_text("0" * 32)
    with pytest.raises(DamagedFile, match=r"step-00000002.*step-00000001"):
        store.load_latest()


def test_checkpoint_saved_again_replaces_a_damaged_one_only(tmp_path):
    store = saved(tmp_path, 1, 2)
    inode = (store.path(2) / "END").stat().st_ino
    store.save(2, tensors(2), {})
    assert (store.path(2) / "END").stat().st_ino == inode
    (store.path(2) / "state.safetensors").write_bytes(b"")
    store.save(2, tensors(2), {})
    assert store.load_latest().step == 2


def test_checkpoints_of_later_steps_go_when_a_run_came_back(tmp_path):
    store = saved(tmp_path, 20, 40)
    (store.path(40) / "END").unlink()
    assert store.load_latest().step == 20
    store.save(30, tensors(30), {})
    assert store.steps() == [20, 30]


def test_checkpoint_leftovers_of_a_crash_are_swept(tmp_path):
    for name in (".step-00000007.tmp", ".trash-step-00000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").write_bytes(b"half")
    saved(tmp_path, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000008"]


@pytest.mark.parametrize("place", ["", "step-00000002/manifest.json", "step-00000002/END"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EMFILE])
def test_checkpoint_that_may_not_be_read_is_neither_absent_nor_damaged(
    tmp_path, monkeypatch, place, number
):
    store = saved(tmp_path, 1, 2)
    refuse_reading(monkeypatch, tmp_path / place, number)
    with pytest.raises(UnreadableFile, match="cannot be read"):
        store.load_latest()
    with pytest.raises(StorageError, match="cannot be read"):  # and none is written over it
        store.save(2, tensors(2), {})
    monkeypatch.undo()
    assert store.load_latest().step == 2


def test_what_an_interrupted_save_left_is_swept(tmp_path):
    store = saved(tmp_path, 1, 2)
    for name in (".trash-step-00000001", ".step-00000003.tmp"):
        shutil.copytree(store.path(2), tmp_path / name)
    store.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_checkpoint_on_a_bad_sector_is_damaged(tmp_path, monkeypatch):
    store = saved(tmp_path, 1, 2)
    refuse_reading(monkeypatch, store.path(2) / "state.safetensors", errno.EIO)
    assert store.load_latest().step == 1


def refuse_reading(monkeypatch, place, number):
    """Reading the file or listing the folder ``place`` fails, also for root."""
    for owner, name in ((checkpoints, "open_regular"), (Path, "iterdir")):
        whole = getattr(owner, name)

        def refuse(path, whole=whole):
            if path == place:
                raise OSError(number, os.strerror(number))
            return whole(path)

        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.parametrize("operation", ["mkdir", "open", "fsync", "rename"])
def test_checkpoint_full_disk_is_a_storage_error_and_harms_nothing(
    tmp_path, monkeypatch, operation
):
    store = saved(tmp_path, 1, 2)

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, refuse)
        with pytest.raises(StorageError, match="No space left"):
            store.save(3, tensors(3), {})
    assert store.steps() == [1, 2]
    assert same(store.load_latest().tensors, tensors(2))
    store.save(3, tensors(3), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_checkpoint_survives_sigkill_of_its_writer(tmp_path):
    """A real process, killed in the middle of writing, again and again."""
    store, last = Checkpoints(tmp_path), 0
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as parent:
        for attempt in range(20):
            parent.stdin.write("once more\n")
            writer = int(parent.stdout.readline())
            time.sleep(0.01 + 0.0031 * attempt)
            os.kill(writer, signal.SIGKILL)
            assert parent.stdout.readline() == "gone\n"
            loaded = store.load_latest()
            if loaded is not None:
                assert loaded.damaged == ()
                assert (loaded.tensors["w"] == loaded.step).all()
                assert loaded.step >= last
                last = loaded.step
        parent.stdin.close()
    assert last > 0
    assert len(store.steps()) <= 3


def test_checkpoints_of_every_tenth_step_are_kept_beside_the_last_two(tmp_path):
    store = Checkpoints(tmp_path, keep_every=10)
    for step in (5, 10, 15, 20, 25, 30, 35):
        store.save(step, tensors(step), {})
    assert store.steps() == [10, 20, 30, 35]
    assert same(store.load(20).tensors, tensors(20))
    store.save(22, tensors(22), {})  # a run that went on from 20
    assert store.steps() == [10, 20, 22]
