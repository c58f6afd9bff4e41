"""Compiled code that is kept from one start to the next, and what happens where it cannot be."""

import errno
import importlib.util
import os
import sys

import numba
import pytest
from numba.core import caching

from coview.core import compiled as compiler
from coview.core.errors import CoviewError

SOURCE = """
from coview.core.compiled import compiled

@compiled(nogil=True)
def double(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder for code; nothing else of numba's settings changes."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.delenv("COVIEW_CACHE", raising=False)
    monkeypatch.setattr(compiler, "_said", [])
    (tmp_path / "module.py").write_text(SOURCE)
    return tmp_path


def double(place):
    """The function as a new process has it."""
    spec = importlib.util.spec_from_file_location("module", place / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.double(3) == 6
    return module.double


def test_code_is_kept(place):
    double(place)
    assert list((place / "code").rglob("*.nbi"))
    assert sum(double(place).stats.cache_hits.values()) == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x05garbage", None])
def test_damaged_code_is_compiled_anew_and_mended(place, ending, content):
    double(place)
    (path,) = (place / "code").rglob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    double(place)
    double(place)
    assert sum(double(place).stats.cache_hits.values()) == 1


def test_full_disk_costs_time_only(place, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    double(place)
    double(place)


def test_no_place_for_code_is_said_once_and_costs_time_only(place, monkeypatch, capsys):
    def refuse(self):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    double(place)
    double(place)
    assert capsys.readouterr().out.count("No folder for compiled code may be written") == 1


def test_own_cache_folder_takes_code_where_no_other_may(place, monkeypatch):
    whole = caching._CacheLocator.ensure_cache_path

    def refuse(self):
        if "mine" not in self.get_cache_path():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        whole(self)

    monkeypatch.setenv("COVIEW_CACHE", str(place / "mine"))
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    double(place)
    assert list((place / "mine" / "compiled").rglob("*.nbi"))


def test_a_numba_that_cannot_be_imported_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)  # so that its import fails
    spec = importlib.util.spec_from_file_location("anew", compiler.__file__)
    with pytest.raises(
        CoviewError, match=r"needs the package 'numba'.* cannot be imported"
    ) as error:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert isinstance(error.value, ImportError)
