"""Every published figure, one after another; what each prints goes to docs/benchmarks/results/.

    python benchmarks/all.py [--quick] [--cifar TRAIN TEST] [--only NAME ...]

--quick asks only whether everything runs, and writes nothing. CIFAR-10 takes half an hour and is
measured where its files are given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "benchmarks" / "results"
FULL: dict[str, list[str]] = {
    "views": ["views.py"],
    "loss": ["loss.py"],
    "training": ["training.py"],
    "demo": ["accuracy.py", "demo"],
    "clock": ["clock.py"],
}
QUICK = {name: [*FULL[name], "--quick"] for name in ("views", "loss", "training", "clock")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="does everything run")
    parser.add_argument("--cifar", nargs=2, metavar=("TRAIN", "TEST"), help="files of CIFAR-10")
    parser.add_argument("--only", nargs="+", choices=(*FULL, "cifar"), help="some of them")
    given = parser.parse_args()
    jobs = dict(QUICK if given.quick else FULL)
    if given.cifar and not given.quick:
        jobs["cifar"] = ["accuracy.py", "cifar", *given.cifar]
    for name in given.only or ():
        if name not in jobs:
            parser.error(
                "cifar needs --cifar TRAIN TEST"
                if name == "cifar" and not given.quick
                else f"{name} has no quick form"
            )
    failed = [name for name in given.only or jobs if not measured(name, jobs[name], given.quick)]
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return len(failed)


def measured(name: str, words: list[str], quick: bool) -> bool:
    """Run one benchmark, show what it prints and, unless quick, keep it."""
    print(f"== {name}", flush=True)
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    if done.returncode == 0 and not quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.md").write_text(done.stdout)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
