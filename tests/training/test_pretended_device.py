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

TESTS = Path(__file__).parents[1]
BEGIN = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(TESTS / "training")!r}, {str(TESTS / "detection")!r}]
from pretended_device import DEVICE, NAME, Pretended
import torch
from PIL import Image
import coview
from coview.planning.trial import Trial

# Bytes are counted by addresses, which tensors of the device do not have.
Trial._saved_bytes = lambda trial, images: (1e6 * images, 5e5 * images)
out = Path(sys.argv[1])
few = {{"limit": 80, "device": NAME, "epochs": 1, "batch_size": 16}}


def pretrain(recipe, **more):
    words = {{"size": 8, "encoder": "resnet10/8-small", "labels_from": "column"}}
    return coview.pretrain("scenes", recipe=recipe, out=out / "run", **few, **words | more).path
"""
JOBS = {
    "a mix": """
try:
    torch.ones(3, device=DEVICE) + torch.ones(3)
except RuntimeError:
    print("mixing is refused")
""",
    "pretrain, search, embed": """
run = pretrain("moco-cpu")
Image.new("RGB", (8, 8), "red").save(out / "red.png")
for layer in ("h", "z"):
    coview.search(run, out / "red.png", in_="scenes", limit=20, number=2, layer=layer, device=NAME)
coview.map(run, "scenes", limit=20, device=NAME, out=out / "map.parquet")
""",
    "bf16, LoGo's critic, resume": """
run = pretrain("byol-cpu", affinity="learned", precision="bf16")
coview.resume(run, epochs=2, device=NAME)
""",
    "learned temperature in micro-batches": """
run = pretrain("simclr-cpu", learn_temperature=True, micro_batch=8, activation_checkpointing=True)
""",
    "views rendered on the device": """
import os
os.environ["COVIEW_RENDER_ON"] = "device"
run = pretrain("byol-cpu", local_crops=1)
coview.evaluate(run, "scenes", protocols="knn,robustness", limit=40, device=NAME)
""",
    "finetune, predict, distill": """
run = pretrain("simclr-cpu")
tuned = coview.finetune(run, "scenes", labels="4-per-class", out=out / "tuned", **few).path
coview.predict(tuned, "scenes", limit=20, device=NAME)
coview.distill(tuned, "scenes", labels="4-per-class", start=run, out=out / "student", **few)
""",
    "boxes, outlines": """
from drawn_boxes import write_coco
from small_detector import SETTINGS
run = pretrain("simclr-cpu")
write_coco(out / "coco")
for task in ("boxes", "masks"):
    words = {"size": 48, "batch_size": 4, "epochs": 1, "set": SETTINGS, "workers": 0}
    coview.detect(run, out / "coco", task=task, out=out / task, device=NAME, **words)
""",
    "pixels": """
from drawn_boxes import write_voc
run = pretrain("simclr-cpu")
write_voc(out / "voc")
words = {"size": 48, "batch_size": 4, "epochs": 1, "workers": 0}
words["set"] = ("method.channels=16", "schedule.warmup_epochs=0")
coview.detect(run, out / "voc", task="semantic", out=out / "pixels", device=NAME, **words)
""",
    "evaluate": """
run = pretrain("simclr-cpu")
names = "knn,linear,logistic,few-labels,retrieval,clustering,label-free,ood,contrastive"
coview.evaluate(run, "scenes", protocols=names, outliers="scenes:test", limit=60, device=NAME)
""",
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_what_runs_on_a_device_never_mixes_it_with_the_cpu(job, tmp_path):
    if job.startswith("boxes"):
        pytest.importorskip("faster_coco_eval")
    lines = "".join(f"    {line}\n" for line in JOBS[job].splitlines())
    program = f"{BEGIN}\nwith Pretended():\n{lines}    print('done')\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.strip().endswith("done"), done.stderr[-2000:]
    assert job != "a mix" or "mixing is refused" in done.stdout
