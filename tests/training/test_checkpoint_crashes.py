"""The machine stops between any two file operations; what is on the disk must be enough."""

import os
import shutil

import pytest
import torch

from coview.training import Checkpoints

OPERATIONS = ("mkdir", "open", "fsync", "rename", "unlink", "rmdir")


class Killed(BaseException):
    """The process is gone: nothing that comes later may act."""


class Machine:
    """Counts the file operations of ``os`` and stops at number ``limit``, before doing it.

    It also knows what a power failure would take: contents of files that were never synced, and
    renames since the last sync of their folder.
    """

    def __init__(self, monkeypatch, limit):
        self.limit, self.count = limit, 0
        self.synced, self.renames = set(), []
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self._wrapped(name))

    def _wrapped(self, name):
        def operation(*args, **kwargs):
            if self.count >= self.limit:
                raise Killed
            self.count += 1
            # The machine of the test does not crash: its real syncs would only cost time.
            result = None if name == "fsync" else self.real[name](*args, **kwargs)
            if name == "fsync":
                self.synced.add(os.fstat(args[0]).st_ino)
                if os.path.isdir(f"/proc/self/fd/{args[0]}"):
                    folder = os.readlink(f"/proc/self/fd/{args[0]}")
                    self.renames = [r for r in self.renames if os.path.dirname(r[1]) != folder]
            elif name == "rename":
                self.renames.append((str(args[0]), str(args[1])))
            return result

        return operation

    def lose_power(self, folder, old):
        for source, target in reversed(self.renames):
            if os.path.exists(target) and not os.path.exists(source):
                self.real["rename"](target, source)
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_ino not in self.synced | old:
                path.write_bytes(b"")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def tensors(step):
    return {"w": torch.full((64,), float(step)), "step": torch.tensor(step)}


def crash(tmp_path, limit, *, power, damaged=False):
    """Save step 3 over 1 and 2 and stop at operation ``limit``; True if it got through."""
    folder = tmp_path / str(limit)
    store = Checkpoints(folder)
    for step in (1, 2):
        store.save(step, tensors(step), {})
    if damaged:
        shutil.copytree(store.path(2), store.path(3))
    old = {path.stat().st_ino for path in folder.rglob("*")}
    through = False
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch, limit)
        try:
            store.save(3, tensors(3), {})
            through = True
        except Killed:
            pass
    if power:
        machine.lose_power(folder, old)
    return store, through


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("power", [False, True])
def test_checkpoint_crash_at_every_operation_leaves_a_sound_one(tmp_path, power, damaged):
    limit = 0
    while True:
        store, through = crash(tmp_path, limit, power=power, damaged=damaged)
        loaded = store.load_latest()
        assert loaded.step in (2, 3), limit
        assert (loaded.tensors["w"] == loaded.step).all()
        if not damaged:
            assert loaded.damaged == (), limit
        store.save(4, tensors(4), {})
        assert store.load_latest().step == 4
        assert not list(store.folder.glob(".*")), limit
        if through:
            break
        limit += 1
    assert limit > 15
    assert loaded.step == 3


def test_checkpoint_crash_model_sees_a_missing_sync(tmp_path, monkeypatch):
    """The model itself: without fsync of the files, a power failure leaves a damaged checkpoint."""
    monkeypatch.setattr("coview.training.checkpoints.write_durably", lambda p, c: p.write_bytes(c))
    damaged = 0
    for limit in range(100):
        store, through = crash(tmp_path, limit, power=True)
        damaged += bool(store.load_latest().damaged)
        if through:
            break
    assert damaged > 0
