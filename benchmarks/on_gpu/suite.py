"""Part 1: the tests that need a GPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from on_gpu.part import Part

ROOT = Path(__file__).parents[2]


def run(part: Part) -> None:
    """Every file that has a test marked ``gpu``, and of it those tests."""
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text()
    )
    if part.tiny:
        part.write("tests", note=f"left out: {len(files)} files have tests that need a GPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        run_tests(part, files, Path(folder) / "tests.xml")


def run_tests(part: Part, files: list[str], report: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider",
               f"--junitxml={report}", *files]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, timeout=max(5, part.left), capture_output=True, text=True, check=False
    )
    if not report.exists():
        part.write("tests", ok=False, note=(done.stdout + done.stderr).strip()[-500:])
        return
    passed = failed = skipped = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        skipped += "skipped" in kinds
        if kinds & {"failure", "error"}:
            failed += 1
            message = next(c.get("message", "") for c in case if c.tag in ("failure", "error"))
            part.write(f"test {case.get('name')}", ok=False, note=message[:300])
        elif not kinds & {"skipped"}:
            passed += 1
    part.write(
        "tests", ok=failed == 0 and passed > 0, passed=passed, failed=failed, skipped=skipped
    )
