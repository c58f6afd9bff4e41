"""What a release needs: one version everywhere, a complete wheel, a citation."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import try_wheel  # noqa: E402


def test_one_version_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", try_wheel.check_versions())


def test_versions_that_differ_are_noticed(monkeypatch, tmp_path):
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "src" / "coview" / "core").mkdir(parents=True)
    (tmp_path / "src" / "coview" / "core" / "version.py").write_text('VERSION = "9.9.9"\n')
    monkeypatch.setattr(try_wheel, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"9\.9\.9"):
        try_wheel.check_versions()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    builders = pytest.importorskip("hatchling.builders.wheel")
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = builders.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    try_wheel.check_content(wheel)


def test_a_file_too_much_is_noticed(wheel, tmp_path):
    other = tmp_path / wheel.name
    other.write_bytes(wheel.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("tests/test_x.py", "")
    with pytest.raises(SystemExit, match="too much"):
        try_wheel.check_content(other)


def test_the_package_is_imported_from_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import coview, coview.cli; print(coview.__file__); coview.cli.main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path) in done.stdout
    assert try_wheel.check_versions() in done.stdout


def test_the_citation_has_what_it_must_have():
    text = (ROOT / "CITATION.cff").read_text()
    for key in ("cff-version", "message", "title", "authors", "version", "license"):
        assert re.search(rf"^{key}:", text, re.MULTILINE), key
    (license,) = re.findall(
        r'^license = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert f"license: {license}" in text
