"""One optimizer step touches few files, each in a straight line; docs/one-step.md is the list."""

import sys
from pathlib import Path

import torch

from coview.core.images import store_from_arrays
from coview.encoders import resnet
from coview.methods import Learner, simclr
from coview.training import BatchLoader, OptimizerSpec, choose_precision, train_step
from coview.views import views_of

SOURCE = Path(__file__).parents[2] / "src" / "coview"
LISTED = Path(__file__).parents[2] / "docs" / "one-step.md"


def traced(action):
    """The files of the package whose functions ``action`` enters, each at its first entry."""
    order = []

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and SOURCE in path.parents:
            name = path.relative_to(SOURCE).as_posix()
            if name not in order:
                order.append(name)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return order


def test_one_step_visits_the_listed_files_in_order():
    pictures = torch.randint(0, 256, (16, 12, 12, 3), dtype=torch.uint8).numpy()
    store, method = store_from_arrays(pictures), simclr(8)
    learner = Learner(method, resnet(18, width=0.25, stem="small"))
    precision = choose_precision("fp32", torch.device("cpu"))
    optimizer = OptimizerSpec(name="lars", learning_rate=1.0).build(learner)
    loader = BatchLoader(
        store.ids, None, lambda rows, ids, epoch: views_of(store, rows, method.views, seed=0, epoch=0),
        batch_size=8, seed=0, total_steps=2,
    )  # fmt: skip

    def step():
        batch = next(iter(loader))
        train_step(learner, batch, optimizer, 0.1, precision)

    step()  # the first compiles the kernels
    listed = [line[3:-1] for line in LISTED.read_text().splitlines() if line.startswith("- `")]
    assert traced(step) == listed
