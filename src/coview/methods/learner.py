"""One learner for every method: images -> features -> embeddings -> loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.eval_mode import eval_mode
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.encoders import Encoder
from coview.methods.affinity import Critic
from coview.methods.batch_norm import batch_norms, set_batch_norm
from coview.methods.critic import AdversarialCritic
from coview.methods.memory import KeyQueue
from coview.methods.method import Method
from coview.methods.momentum_encoder import MomentumEncoder
from coview.methods.pair_loss import PairLoss
from coview.methods.pair_objectives import PairObjective
from coview.methods.passes import (
    WHOLE,
    Network,
    Outputs,
    Passes,
    activation_checkpointing,
    blocks_of,
    forward_passes,
    grouped,
)
from coview.methods.set_objectives import SetObjective
from coview.methods.target import EMA, SAME_NETWORK
from coview.methods.temperature import LearnedTemperature, WithTemperature
from coview.objectives.inputs import as_number


class Learner(nn.Module):
    """The task of learning ``encoder`` by ``method``.

    ``loss`` changes nothing: parameters and buffers (BatchNorm's running statistics, the queue, the
    critic) are the same bits after it as before, whether it returns or raises. ``after_step`` takes
    over what the last ``loss`` has prepared. So a step that is refused in between has never been.

    ``passes`` says how a batch goes through the network where it is too large for memory,
    ``total_steps`` how long the run is, for a momentum that grows along it, and ``ranks`` who else
    holds a part of each batch.
    """

    def __init__(
        self,
        method: Method,
        encoder: Encoder,
        *,
        head_seed: int = 0,
        total_steps: int | None = None,
        passes: Passes = WHOLE,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.method, self.passes, self.ranks = method, WHOLE, ranks
        self.total_steps = total_steps
        self.encoder = encoder
        self.head = method.head.build(encoder.features, head_seed)
        width = self.head.widths[-1]
        # Another seed than the head's, so that no layer repeats one of its.
        self.predictor = (
            None if method.predictor is None else method.predictor.build(width, head_seed + 1)
        )
        self.momentum_encoder = (
            MomentumEncoder(self.encoder, self.head) if isinstance(method.target, EMA) else None
        )
        self.queue = (
            None if method.memory is None else KeyQueue(method.memory.length, width, head_seed)
        )
        objective = method.objective
        self.temperature = (
            LearnedTemperature(as_number(objective.temperature))
            if isinstance(objective, WithTemperature) and objective.learn_temperature
            else None
        )
        repulsion = method.repulsion
        self.critic = (
            AdversarialCritic(repulsion.affinity, width, head_seed)
            if repulsion is not None and isinstance(repulsion.affinity, Critic)
            else None
        )
        together = method.synchronized or method.batch_norm == "groups"
        set_batch_norm(
            self,
            ranks=ranks if together else SINGLE_PROCESS,
            group=method.ghost_batch_size,
            frozen=method.batch_norm == "frozen",
        )
        self.set_passes(passes)
        self._staged: list[Tensor] = []
        self._comparison: PairLoss | None = None

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars; their sum is what is minimized.

        Raises InvalidValue where the batch has another number of views than the method.
        """
        method = self.method
        if len(batch.views) != len(method.views.views):
            raise InvalidValue(
                f"The batch of step {step} has {len(batch.views)} views of each image; "
                f"{method.name} was told to expect {len(method.views.views)}."
            )
        with self._staging():
            trained = batch_norms(self.encoder, self.head, self.predictor)
            asked = self._through(self._online, trained, batch, method.online, step)
            answered = self._answers(asked, batch, step)
        objective = self._objective()
        if not isinstance(objective, PairObjective):
            embeddings = [asked[slot][0] for slot in method.online]
            return {type(objective).__name__: objective(embeddings, batch.labels, self.ranks)}
        self._comparison = PairLoss(
            method, objective, asked, answered, batch.ids, step,
            queue=self.queue, critic=self.critic, ranks=self.ranks, sizes=batch.sizes or None,
        )  # fmt: skip
        return self._comparison.terms(self._trained())

    def after_step(self, step: int) -> None:
        """Take over what the last ``loss`` has prepared: statistics, average, queue, critic.

        A learned temperature is kept within its bound."""
        if self.temperature is not None:
            self.temperature.commit()
        if self._staged:
            write(self._staged, self._statistics())
        if self.momentum_encoder is not None and isinstance(self.method.target, EMA):
            momentum = self.method.target.momentum(step, self.total_steps)
            self.momentum_encoder.follow(self.encoder, self.head, momentum)
        if self._comparison is not None:
            self._comparison.commit()
        self._staged, self._comparison = [], None

    def reduce_memory(self, images: int) -> str:
        """Run blocks again where there are some, which is exact; then halve the micro-batch, which
        is the batch at first; "" where it is down to two images."""
        if not self.passes.blocks and blocks_of(self.encoder):
            self.set_passes(replace(self.passes, blocks=True))
            return (
                "The batch did not fit into memory: each residual block is run again in the "
                "backward pass from here on, which gives the same gradient."
            )
        part = (self.passes.micro_batch or images) // 2
        if part < 2:
            return ""
        self.set_passes(replace(self.passes, micro_batch=part))
        return (
            f"The batch did not fit into memory: it goes on in micro-batches of {part}. The "
            "gradient is that of the whole batch's loss, but BatchNorm sees a part at a time."
        )

    def set_passes(self, passes: Passes) -> None:
        """Go through the network in these passes from here on."""
        if passes.blocks and not self.passes.blocks:
            activation_checkpointing(self.encoder)
        self.passes = passes

    def _objective(self) -> SetObjective | PairObjective:
        """The method's, at the temperature that has been learned so far."""
        objective = self.method.objective
        if self.temperature is None:
            return objective
        assert isinstance(objective, WithTemperature)
        return objective.with_temperature(self.temperature())

    def _answers(self, asked: dict[int, Outputs], batch: Batch, step: int) -> dict[int, Tensor]:
        """The keys of every slot that answers, [B, D], with a gradient where they are shared."""
        slots = self.method.keys
        if self.momentum_encoder is not None:
            with torch.no_grad():
                found = self._through(
                    self.momentum_encoder, batch_norms(self.momentum_encoder), batch, slots, step
                )
            return {slot: key for slot, (key,) in found.items()}
        flows = self.method.target == SAME_NETWORK
        return {slot: asked[slot][0] if flows else asked[slot][0].detach() for slot in slots}

    def _through(
        self,
        network: Network,
        norms: list[_BatchNorm],
        batch: Batch,
        slots: Sequence[int],
        step: int,
    ) -> dict[int, Outputs]:
        method, micro_batch = self.method, self.passes.micro_batch
        rounds = grouped(
            batch.views, slots,
            apart=method.batch_norm in ("per view", "groups"),
            part=micro_batch,
            mixed=method.batch_norm == "groups",
            step=step,
            counts=batch.sizes,
        )  # fmt: skip
        again = micro_batch is not None and torch.is_grad_enabled()
        return forward_passes(network, norms, batch.views, rounds, again=again)

    def _online(self, images: Tensor) -> Outputs:
        """z, and what asks with it where a predictor does."""
        z: Tensor = self.head(self.encoder(images))
        return (z,) if self.predictor is None else (z, self.predictor(z))

    def _trained(self) -> list[nn.Parameter]:
        """What a gradient ratio measures: encoder and head."""
        return [*self.encoder.parameters(), *self.head.parameters()]

    def _statistics(self) -> list[Tensor]:
        """What a forward pass moves: BatchNorm's buffers, those of the follower too."""
        return [buffer for norm in batch_norms(self) for buffer in norm.buffers()]

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Statistics move inside the block, for each pass to see; then they are put back."""
        statistics = self._statistics()
        before = copies(statistics)
        try:
            yield
            self._staged = copies(statistics)
        finally:
            write(before, statistics)

    @torch.no_grad()
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, features] and z [B, D] of images [B, 3, H, W], in evaluation mode, no gradients.

        The images may be on any device; h and z are on the network's. Leaves the mode as it was.
        """
        with eval_mode(self):
            h: Tensor = self.encoder(images.to(next(self.parameters()).device))
            z: Tensor = self.head(h)
            return h, z

    def chance_level(self, batch_size: int) -> float:
        """The loss at which nothing has been learned, for batches of so many images."""
        return self.method.chance_level(batch_size)


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """A copy of each tensor."""
    originals = list(tensors)
    found = [torch.empty_like(tensor) for tensor in originals]
    write(originals, found)
    return found


def write(values: Sequence[Tensor], tensors: Iterable[Tensor]) -> None:
    """Give each of ``tensors`` its value, in one launch for each kind of number."""
    # Through .data: what backward has saved must not count as modified.
    targets = [tensor.data for tensor in tensors]
    for dtype in {value.dtype for value in values}:
        pairs = [(t, v) for t, v in zip(targets, values, strict=True) if v.dtype == dtype]
        torch._foreach_copy_([t for t, _ in pairs], [v for _, v in pairs])
