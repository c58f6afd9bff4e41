"""Part 1: the tests that need a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from on_gpu.part import Part

ROOT = Path(__file__).parents[2]
# Warnings of other versions are no failures here, and no test marked gpu needs a plugin.
OPTIONS = ["-m", "gpu", "-vv", "-p", "no:cacheprovider", "-W", "default"]


def run(part: Part) -> None:
    """Every file that has a test marked ``gpu``, and of it those tests."""
    files = [
        str(path)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text()
    ]
    if part.tiny:
        part.write("tests", note=f"left out: {len(files)} files have tests that need a GPU")
        return
    run_tests(part, files)


def run_tests(part: Part, files: list[str]) -> None:
    """In this process, which has imported torch: each test is a result as soon as it has ended."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    writer = Writer(part)
    code = pytest.main([*OPTIONS, *files], plugins=[writer])
    counts = {kind: writer.outcomes.count(kind) for kind in ("passed", "failed", "skipped")}
    part.write("all tests", ok=code == pytest.ExitCode.OK and counts["passed"] > 0, **counts)


class Writer:
    """A plugin of pytest that writes the outcome of each test."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.outcomes: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            self.part.write(f"collect {report.nodeid}", ok=False, note=lines[-1][:300])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # One of three phases; of the others only what goes wrong is an outcome.
        if report.when != "call" and report.passed:
            return
        self.outcomes.append(report.outcome)
        name = f"test {report.nodeid.rpartition('::')[2]}"
        if report.skipped:
            self.part.write(name, note="skipped")
        else:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr or "")
            self.part.write(name, ok=report.passed, note=" ".join(message.split())[:300])
