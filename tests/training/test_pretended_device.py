"""Whole runs on a device that is pretended: nothing mixes tensors of the CPU with those of a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a device",
)

RUNS = """
import sys
sys.path.insert(0, sys.argv[1])
from pretended_device import DEVICE, NAME, Pretended
import torch
from PIL import Image
import coview
from coview.planning.trial import Trial

# Bytes are counted by addresses, which tensors of the device do not have.
Trial._saved_bytes = lambda trial, images: (1e6 * images, 5e5 * images)
with Pretended():
    rows = torch.ones(3, device=DEVICE)
    try:
        rows + torch.ones(3)
    except RuntimeError:
        print("mixing is refused")
    run = coview.pretrain(
        "scenes", recipe="moco-cpu", size=8, encoder="resnet10/8-small", batch_size=32, epochs=1,
        limit=80, labels_from="column", device=NAME, out=sys.argv[2],
    )
    Image.new("RGB", (8, 8), "red").save(sys.argv[2] + ".png")
    for layer in ("h", "z"):
        coview.search(
            run.path, sys.argv[2] + ".png", in_="scenes", limit=20, number=2, layer=layer,
            device=NAME,
        )
    print("done")
"""


def test_a_run_with_its_monitor_and_a_search_never_mix_devices(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNS, str(Path(__file__).parent), str(tmp_path / "run")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "mixing is refused" in done.stdout
    assert done.stdout.strip().endswith("done"), done.stderr[-2000:]
