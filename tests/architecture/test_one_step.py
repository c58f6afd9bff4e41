"""One optimizer step touches few files, each in a straight line; docs/one-step.md is the list."""

import copy
import sys
from pathlib import Path

import pytest
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


def test_the_plain_lines_are_the_same_step():
    """docs/one-step.md holds a step in 40 lines; it is the real one but for rounding."""
    code = LISTED.read_text().split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 40
    namespace = {}
    exec(compile(code, str(LISTED), "exec"), namespace)  # our own page

    generator = torch.Generator().manual_seed(0)
    shape = (24, 12, 12, 3)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).numpy()
    store, method = store_from_arrays(pictures), simclr(8)
    learner = Learner(method, resnet(18, width=0.25, stem="small")).train()
    encoder, head = copy.deepcopy(learner.encoder), copy.deepcopy(learner.head)
    spec = OptimizerSpec(name="lars", learning_rate=1.0, weight_decay=1e-4)
    optimizer, plain = (
        spec.build(learner),
        spec.build(torch.nn.ModuleDict({"e": encoder, "h": head})),
    )
    loader = BatchLoader(
        store.ids, None, lambda rows, ids, epoch: views_of(store, rows, method.views, seed=0, epoch=epoch),
        batch_size=8, seed=0, total_steps=5,
    )  # fmt: skip
    precision = choose_precision("fp32", torch.device("cpu"))
    for batch in loader:
        step = train_step(learner, batch, optimizer, 0.05, precision)
        loss = namespace["simclr_step"](
            store, method, encoder, head, plain, step=batch.step, batch_size=8, seed=0,
            learning_rate=0.05,
        )  # fmt: skip
        assert loss == pytest.approx(step.loss, rel=1e-5)
    theirs = [*encoder.parameters(), *head.parameters(), *encoder.buffers(), *head.buffers()]
    ours = [*learner.encoder.parameters(), *learner.head.parameters(),
            *learner.encoder.buffers(), *learner.head.buffers()]  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
