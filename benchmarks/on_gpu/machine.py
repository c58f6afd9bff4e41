"""The machine, its GPU and software, and the packages that cannot be imported, as JSON."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import torch

from setting import setting

# Of those that not every part needs. numba refuses a numpy that is newer than itself.
PACKAGES = ("numba", "triton", "pytest")


def main(name: str) -> None:
    device = torch.device(name)
    torch.empty(0, device=device)
    gpu = "no GPU"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        gpu = (
            f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}"
        )
    print(json.dumps({"setting": f"{setting()}; {gpu}", "unusable": unusable()}))


def unusable() -> dict[str, str]:
    """The packages that cannot be imported, with the reason."""
    errors = {}
    for name in PACKAGES:
        try:
            import_module(name)
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {error}"
    return errors


if __name__ == "__main__":
    main(sys.argv[1])
