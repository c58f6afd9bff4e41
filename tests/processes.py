"""Several processes that run the same checks beside each other, joined through a file by gloo."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from coview.core.ranks import Ranks

Check = Callable[[Ranks], None]
NOT_RUN = "not run, because one before it has failed"


def together(world: int, checks: Sequence[Check], *, seconds: int = 60) -> dict[str, list[str]]:
    """What each rank says of each check, by its name: "" or the traceback.

    ``checks`` are functions of a test module; a rank that fails one leaves. Whatever takes longer
    than ``seconds`` in one collective fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, args=(world, list(checks), folder, seconds), nprocs=world)
        said = [read(Path(folder, str(rank)), checks) for rank in range(world)]
    return {check.__name__: [found[check.__name__] for found in said] for check in checks}


def _run(rank: int, world: int, checks: list[Check], folder: str, seconds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/joined", rank=rank, world_size=world,
        timeout=timedelta(seconds=seconds),
    )  # fmt: skip
    for check in checks:
        fault = ""
        try:
            check(Ranks.of())
        except BaseException:
            fault = traceback.format_exc()
        Path(folder, f"{rank}.{check.__name__}").write_text(fault)
        if fault:
            os._exit(0)  # the others' collectives fail at once rather than after the time-out
    dist.destroy_process_group()
    # Past the ends of gloo's and Python's own threads, whose order is not ours: now and then one
    # meets an interpreter that is gone, and the process aborts after all checks have passed.
    os._exit(0)


def read(prefix: Path, checks: Sequence[Check]) -> dict[str, str]:
    files = {check.__name__: Path(f"{prefix}.{check.__name__}") for check in checks}
    return {name: path.read_text() if path.exists() else NOT_RUN for name, path in files.items()}
