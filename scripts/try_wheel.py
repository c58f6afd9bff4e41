"""Build the wheel, look into it, install it in a fresh environment and use it there.

python scripts/try_wheel.py                  ``make wheel``, with the dependencies that are here
python scripts/try_wheel.py --dependencies   ``make release``: they are installed anew (about 5 GB)

Nothing of the checkout is used but the wheel. It lies in dist/ afterwards. Nothing is published.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = [
    "--limit", "200", "--size", "8", "--encoder", "resnet10/8-small", "--batch-size", "32",
    "--epochs", "1", "--device", "cpu",
]  # fmt: skip
USES: list[list[str]] = [
    ["--version"],
    ["recipes", "simclr"],
    ["pretrain", "scenes", "--out", "run", *SMALL],
    ["embed", "run", "scenes", "--limit", "20", "--out", "vectors.parquet"],
    ["export", "run"],
    ["report", "run"],
]
"""What the installed command must do, in an empty folder."""


def check_versions() -> str:
    """The version, which pyproject.toml, the package, CITATION.cff and CHANGELOG.md agree on."""
    places = {
        "pyproject.toml": r'^version = "(.*)"$',
        "src/coview/core/version.py": r'^VERSION = "(.*)"$',
        "CITATION.cff": r"^version: (.*)$",
        "CHANGELOG.md": r"^## (\d\S*)",
    }
    found = {}
    for name, pattern in places.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    if len(set(found.values())) != 1:
        sys.exit(f"The versions differ: {found}")
    return next(iter(found.values()))


def check_content(wheel: Path) -> None:
    """Every file of src/coview is in the wheel, and nothing else but the license and metadata."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {n for n in names if not n.partition("/")[0].endswith(".dist-info")}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "coview").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if package != source:
        sys.exit(f"Missing: {sorted(source - package)}; too much: {sorted(package - source)}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        sys.exit("The wheel has no license.")


def build(folder: Path) -> Path:
    """The wheel, built by pip in an environment of its own."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = folder.glob("coview-*.whl")
    return wheel


def use(wheel: Path, folder: Path, *, dependencies: bool) -> None:
    """Install ``wheel`` in a fresh environment in ``folder`` and run USES there."""
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    install = [binaries / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *([] if dependencies else ["--no-deps"]), wheel], check=True)
    place = folder / "empty"
    place.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HOME": str(folder), "COVIEW_CACHE": str(folder / "cache")}
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([binaries / "python", "-c", purelib], text=True).strip())
    if not dependencies:  # those of this environment, behind the fresh one; an installed coview too
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = [binaries / "python", "-c", "import coview; print(coview.__file__)"]
    file = subprocess.check_output(where, cwd=place, env=environment, text=True).strip()
    if not Path(file).is_relative_to(site):
        sys.exit(f"The fresh environment imports {file}, which is not the wheel.")
    for words in USES:
        print("coview", *words, flush=True)
        done = subprocess.run(
            [binaries / "coview", *words], cwd=place, env=environment, check=False
        )
        if done.returncode:
            sys.exit(f"coview {words[0]} ended with exit code {done.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dependencies", action="store_true", help="install them anew")
    options = parser.parse_args()
    version = check_versions()
    distribution = ROOT / "dist"
    distribution.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        check_content(wheel)
        use(wheel, Path(folder), dependencies=options.dependencies)
        (distribution / wheel.name).write_bytes(wheel.read_bytes())
    print(f"coview {version} works from dist/{wheel.name}")


if __name__ == "__main__":
    main()
