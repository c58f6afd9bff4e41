"""One learner for every method: images -> features -> embeddings -> loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.eval_mode import eval_mode
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.encoders import Encoder
from coview.heads.head import Head
from coview.methods.affinity import Critic
from coview.methods.batch_norm import batch_norms, ghost_groups, set_batch_norm
from coview.methods.critic import AdversarialCritic
from coview.methods.memory import KeyQueue
from coview.methods.method import Method
from coview.methods.pair_loss import PairLoss
from coview.methods.pair_objectives import PairObjective
from coview.methods.passes import (
    FULL_BATCH,
    Network,
    Outputs,
    Passes,
    checkpoint_blocks,
    count_parts,
    drops,
    exchange_rows,
    find_blocks,
    forward_passes,
    group_passes,
    image_order,
)
from coview.methods.set_objectives import SetObjective
from coview.methods.target import EMA, SAME_NETWORK, FrozenTeacher, MomentumEncoder
from coview.methods.temperature import LearnedTemperature, WithTemperature
from coview.objectives.inputs import as_number, working_dtype

TEACHER_IMAGES = 256
"""Of a view that a teacher classifies at a time: a plan counts the student's memory alone, and this
bounds the teacher's for a batch of any size."""


class NetworkTask(nn.Module):
    """What all tasks share: an encoder, its passes, and running statistics that only
    ``after_step`` moves.

    ``passes`` says how a batch goes through the network, ``total_steps`` is the length of the run,
    ``ranks`` are the processes that share each batch.
    """

    def __init__(
        self, encoder: Encoder, *, ranks: Ranks = SINGLE_PROCESS, total_steps: int | None = None
    ) -> None:
        super().__init__()
        self.passes, self.ranks, self.total_steps = FULL_BATCH, ranks, total_steps
        self.encoder = encoder
        self._new_statistics: list[Tensor] = []

    head: nn.Module

    takes_micro_batches: ClassVar[bool] = True
    """Whether it goes through parts of a batch one after another (:class:`Passes`)."""

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """See :class:`coview.training.Task`."""
        raise NotImplementedError

    def after_step(self, step: float) -> None:
        raise NotImplementedError

    def reduce_memory(self, images: int, *, exact: bool = False) -> str:
        raise NotImplementedError

    def unlike_in_parts(self, images: int, micro_batch: int | None) -> str:
        """What is another in micro-batches of a batch of ``images``, in words; "" where they give
        its loss and gradient."""
        return ""

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def chance_level(self, batch_size: int) -> float:
        """The loss of a network that has learned nothing, for batches of ``batch_size`` images."""
        raise NotImplementedError

    def lower_bound(self, batch_size: int, classes: int | None) -> float:
        """An estimate of the lowest loss in practice; ``classes``: of the images, if known."""
        raise NotImplementedError

    def set_passes(self, passes: Passes) -> None:
        """Go through the network in these passes from here on. Raises InvalidValue."""
        if passes.activation_checkpointing and not self.passes.activation_checkpointing:
            checkpoint_blocks(self.encoder)
        self.passes = passes

    def running_statistics(self) -> list[Tensor]:
        """The buffers that a forward pass moves: BatchNorm's, a momentum encoder's included."""
        return [buffer for norm in batch_norms(self) for buffer in norm.buffers()]

    @contextmanager
    def staged_statistics(self) -> Iterator[None]:
        """Inside, forward passes move the running statistics; on exit the old values return.

        The new values are stored for :meth:`commit_statistics`.
        """
        statistics = self.running_statistics()
        before = clone_tensors(statistics)
        try:
            yield
            self._new_statistics = clone_tensors(statistics)
        finally:
            copy_tensors(before, statistics)

    def commit_statistics(self) -> None:
        """Take the values of the last :meth:`staged_statistics`, once."""
        if self._new_statistics:
            copy_tensors(self._new_statistics, self.running_statistics())
        self._new_statistics = []


class Learner(NetworkTask):
    """The task of training ``encoder`` by ``method``.

    ``loss`` changes nothing: parameters and buffers (BatchNorm's running statistics, the queue, the
    critic) have the same bits after it as before, whether it returns or raises. ``after_step``
    commits what the last ``loss`` prepared. A skipped step leaves no trace in the state.

    ``passes`` says how a batch that is too large for memory goes through the network,
    ``total_steps`` is the length of the run (needed by a momentum that grows along it), and
    ``ranks`` are the processes that share each batch. Raises InvalidValue.

    >>> from coview.core.batches import Batch
    >>> from coview.encoders import resnet
    >>> from coview.methods import simclr
    >>> learner = Learner(simclr(8), resnet(18, width=0.125, stem="small"))
    >>> views = (torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8))
    >>> list(learner.loss(Batch(step=0, epoch=0, views=views, ids=torch.arange(4)), step=0))
    ['NTXent']
    """

    head: Head

    def __init__(
        self, method: Method, encoder: Encoder, *, head_seed: int = 0,
        total_steps: int | None = None, passes: Passes = FULL_BATCH, ranks: Ranks = SINGLE_PROCESS,
    ) -> None:  # fmt: skip
        super().__init__(encoder, ranks=ranks, total_steps=total_steps)
        self.method = method
        self.head = method.head.build(encoder.features, head_seed)
        width = self.head.widths[-1]
        # Not the head's seed, so that no layer of the predictor repeats one of the head.
        self.predictor = (
            None if method.predictor is None else method.predictor.build(width, head_seed + 1)
        )
        self.momentum_encoder = (
            MomentumEncoder(self.encoder, self.head) if isinstance(method.target, EMA) else None
        )
        self.queue = (
            None if method.memory is None else KeyQueue(method.memory.length, width, head_seed)
        )
        self.teacher: FrozenTeacher | None = None
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
        shares_statistics = method.synchronized or method.batch_norm == "ghost"
        set_batch_norm(
            self, ranks=ranks if shares_statistics else SINGLE_PROCESS,
            ghost_batch_size=method.ghost_batch_size, frozen=method.batch_norm == "frozen",
        )  # fmt: skip
        self.set_passes(passes)
        self._pair_loss: PairLoss | None = None

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars; training minimizes their sum.

        Raises InvalidValue if the batch does not have the views of the method, or lacks labels
        that the method needs.
        """
        # That of a step that was skipped, or did not fit into memory: it keeps all activations.
        self._pair_loss = None
        method = self.method
        if len(batch.views) != len(method.views.views):
            raise InvalidValue(
                f"The batch of step {step} has {len(batch.views)} views of each image; "
                f"{method.name} takes {len(method.views.views)}."
            )
        # Before the student, whose activations are kept: a large teacher's are gone by then.
        teacher = self._teacher_logits(batch) if method.objective.needs_teacher else None
        with self.staged_statistics():
            norms = batch_norms(self.encoder, self.head, self.predictor)
            outputs = self._forward_views(self._embed_query, norms, batch, method.online, step)
            keys = self._compute_keys(outputs, batch, step)
        objective = self._current_objective()
        # The embeddings are float32: what is computed of them is, too, also by a user's objective.
        with torch.autocast(batch.ids.device.type, enabled=False):
            if isinstance(objective, PairObjective):
                self._pair_loss = PairLoss(
                    method, objective, outputs, keys, batch.ids, step, queue=self.queue,
                    critic=self.critic, ranks=self.ranks, sizes=batch.sizes or None,
                )  # fmt: skip
                return self._pair_loss.terms([*self.encoder.parameters(), *self.head.parameters()])
            embeddings = [outputs[index][0] for index in method.online]
            return objective.terms(embeddings, batch.labels, self.ranks, teacher=teacher)

    def after_step(self, step: float) -> None:
        """Commit what the last ``loss`` prepared: statistics, moving average, queue, critic.

        ``step`` is the position in a schedule of ``total_steps``. Clamps a learned temperature to
        its bounds."""
        if self.temperature is not None:
            self.temperature.commit()
        self.commit_statistics()
        if self.momentum_encoder is not None and isinstance(self.method.target, EMA):
            momentum = self.method.target.momentum(step, self.total_steps)
            self.momentum_encoder.update(self.encoder, self.head, momentum)
        if self._pair_loss is not None:
            self._pair_loss.commit()
        self._pair_loss = None

    def unlike_in_parts(self, images: int, micro_batch: int | None) -> str:
        """See :meth:`NetworkTask.unlike_in_parts`.

        Parts are exact where no layer of encoder, head and predictor has BatchNorm, where its
        statistics are frozen, and where each part is whole groups of ghost BatchNorm; and no layer
        drops anything at random (:func:`drops`).
        """
        if micro_batch is None:
            return ""
        modules = self.encoder, self.head, self.predictor
        ghost, unlike = self.method.ghost_batch_size, list[str]()
        are_groups = ghost is not None and images % micro_batch == 0 and micro_batch % ghost == 0
        if batch_norms(*modules) and self.method.batch_norm != "frozen" and not are_groups:
            unlike.append(f"BatchNorm sees {micro_batch} images at a time instead of the batch")
        if drops(*modules):
            unlike.append("dropout and stochastic depth draw other masks")
        return " and ".join(unlike)

    def reduce_memory(self, images: int, *, exact: bool = False) -> str:
        """Switch on activation checkpointing if the encoder has known blocks, which is exact; after
        that halve the micro-batch, which is ``images`` at first.

        ``exact``: take only micro-batches that change nothing (:meth:`unlike_in_parts`). Returns a
        note for the user, "" if there is no smaller micro-batch."""
        if not self.passes.activation_checkpointing and find_blocks(self.encoder):
            self.set_passes(replace(self.passes, activation_checkpointing=True))
            return (
                "The batch did not fit into memory: each residual block is recomputed in the "
                "backward pass from here on, which gives the same gradient."
            )
        now = self.passes.micro_batch
        smaller = list(range((now or images) // 2, 1, -1))
        if exact:  # parts that change something are kept as well
            smaller = [
                size for size in smaller
                if not (self.unlike_in_parts(images, now) or self.unlike_in_parts(images, size))
            ]  # fmt: skip
        if not smaller:
            return ""
        micro_batch = smaller[0]
        self.set_passes(replace(self.passes, micro_batch=micro_batch))
        unlike = self.unlike_in_parts(images, micro_batch)
        how = f"but {unlike}" if unlike else "exactly"
        return (
            f"The batch did not fit into memory: it goes on in micro-batches of {micro_batch}. The "
            f"gradient is that of the whole batch's loss, {how}."
        )

    def set_teacher(self, network: nn.Module) -> None:
        """Learn from the logits that ``network`` gives the views; it is frozen from here on."""
        self.teacher = FrozenTeacher(network)

    def _teacher_logits(self, batch: Batch) -> list[Tensor] | None:
        """The teacher's logits of each view; no image's depend on the others in its part."""
        if self.teacher is None:
            return None
        images = min(self.passes.micro_batch or len(batch), TEACHER_IMAGES)
        return [
            torch.cat([self.teacher(part) for part in torch.split(view, images)])
            for view in batch.views
        ]

    def _current_objective(self) -> SetObjective | PairObjective:
        """The method's objective, at the learned temperature if there is one."""
        objective = self.method.objective
        if self.temperature is None:
            return objective
        assert isinstance(objective, WithTemperature)
        return objective.with_temperature(self.temperature())

    def _compute_keys(
        self, outputs: dict[int, Outputs], batch: Batch, step: int
    ) -> dict[int, Tensor]:
        """View index -> keys [B, D]; they carry a gradient if the target is the same network."""
        indices = self.method.keys
        if self.momentum_encoder is not None:
            with torch.no_grad():
                keys = self._forward_views(
                    self.momentum_encoder, batch_norms(self.momentum_encoder), batch, indices, step
                )
            return {index: key for index, (key,) in keys.items()}
        same_network = self.method.target == SAME_NETWORK
        return {
            index: outputs[index][0] if same_network else outputs[index][0].detach()
            for index in indices
        }

    def _forward_views(
        self, network: Network, norms: list[_BatchNorm], batch: Batch, indices: Sequence[int],
        step: int,
    ) -> dict[int, Outputs]:  # fmt: skip
        """View index -> outputs, in float32 (float64 of a float64 network) under autocast, too."""
        method, micro_batch = self.method, self.passes.micro_batch
        views, orders, sizes = list(batch.views), {}, batch.sizes
        if self._is_one_group(sizes):
            orders = {k: image_order(k, sum(sizes), step) for k in indices if k != 0}
        for index, order in orders.items():
            views[index] = exchange_rows(views[index], order, sizes, self.ranks)
        rounds = group_passes(
            views, indices,
            per_view=method.batch_norm in ("per view", "ghost"),
            micro_batch=micro_batch,
            shuffle=method.batch_norm == "ghost" and not orders,
            step=step,
            rank_sizes=sizes,
        )  # fmt: skip
        recompute = micro_batch is not None and torch.is_grad_enabled()
        outputs = forward_passes(network, norms, views, rounds, recompute=recompute)
        embeddings = {
            index: tuple(rows.to(working_dtype(rows)) for rows in of_view)
            for index, of_view in outputs.items()
        }
        for index, order in orders.items():
            embeddings[index] = tuple(
                exchange_rows(rows, order.argsort(), sizes, self.ranks)
                for rows in embeddings[index]
            )
        return embeddings

    def _is_one_group(self, sizes: Sequence[int]) -> bool:
        """Whether a process of several is a single ghost batch.

        Its own images in another order would share their statistics as before.
        """
        ghost = self.method.ghost_batch_size
        if ghost is None or self.ranks.is_single or not sizes:
            return False
        is_whole = count_parts(sizes, self.passes.micro_batch) == 1
        return is_whole and min(ghost_groups(size, ghost) for size in sizes) == 1

    def _embed_query(self, images: Tensor) -> Outputs:
        """(z,), or (z, prediction) if the method has a predictor; the last one is the query."""
        z = self._project(self.encoder(images))
        return (z,) if self.predictor is None else (z, self.predictor(z))

    def _project(self, h: Tensor) -> Tensor:
        """g(h). Logits for a teacher's are of float32 under autocast, too: rounded to bf16 they
        make other probabilities at a low temperature."""
        if not self.method.objective.needs_teacher:
            z: Tensor = self.head(h)
            return z
        with torch.autocast(h.device.type, enabled=False):
            logits: Tensor = self.head(h.to(working_dtype(h)))
        return logits

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
        """The loss of a network that has learned nothing, for batches of ``batch_size`` images."""
        return self.method.chance_level(batch_size)

    def lower_bound(self, batch_size: int, classes: int | None) -> float:
        """An estimate of the lowest loss in practice; ``classes``: of the images, if known."""
        return self.method.lower_bound(batch_size, self.head.widths[-1], classes=classes)


def clone_tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    originals = list(tensors)
    copies = [torch.empty_like(tensor) for tensor in originals]
    copy_tensors(originals, copies)
    return copies


def copy_tensors(values: Sequence[Tensor], tensors: Iterable[Tensor]) -> None:
    """Copy each value into its tensor, in one launch per dtype."""
    # Through .data: autograd must not see what backward has saved as modified.
    targets = [tensor.data for tensor in tensors]
    for dtype in {value.dtype for value in values}:
        pairs = [(t, v) for t, v in zip(targets, values, strict=True) if v.dtype == dtype]
        torch._foreach_copy_([t for t, _ in pairs], [v for _, v in pairs])
