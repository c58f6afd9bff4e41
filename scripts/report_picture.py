"""The picture of README and docs: the first screen of the demo's report, in headless Chromium.

python scripts/report_picture.py FOLDER [RUN]     writes FOLDER/report.png (``make picture``)

Without RUN the demo is run in a temporary folder, which takes about three minutes on two cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1100, 900
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def browser() -> str:
    """The program of a Chromium; leaves with a sentence where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    sys.exit(f"No browser: expected one of {', '.join(BROWSERS)}.")


def photograph(page: Path, picture: Path) -> None:
    """The first screen of ``page``, in light colors, as a PNG."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={picture.resolve()}", page.resolve().as_uri(),
            ],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        run = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(place, "demo")
        if len(sys.argv) <= 2:
            import coview

            coview.demo(out=run)
        else:
            from coview.reports import write_report

            write_report(run)
        photograph(run / "report.html", folder / "report.png")
    print(folder / "report.png")


if __name__ == "__main__":
    main()
