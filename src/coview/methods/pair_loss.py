"""Queries, keys and negatives of one step -> the terms of a pair objective's loss.

Nothing changes before ``commit``: all pairs of a step use the queue as it was before the step, and
a skipped step leaves queue and critic as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.affinity import GradientRatio, Repulsion
from coview.methods.critic import AdversarialCritic, Weights, critic_rows
from coview.methods.memory import KeyQueue
from coview.methods.method import Method
from coview.methods.pair_objectives import Negatives, PairObjective
from coview.methods.passes import Outputs

AFFINITY = "affinity"


class PairLoss:
    """The loss of one step under ``method``, with ``objective`` as it is at this step.

    outputs: view index -> (z [B, D], query [B, D]), or (z,) where z is the query.
    keys: view index -> keys [B, D]. ids: int64 [B].
    sizes: the B of every rank if known, which saves one exchange.
    """

    def __init__(
        self, method: Method, objective: PairObjective, outputs: dict[int, Outputs],
        keys: dict[int, Tensor], ids: Tensor, step: int, *, queue: KeyQueue | None = None,
        critic: AdversarialCritic | None = None, ranks: Ranks = SINGLE_PROCESS,
        sizes: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.method, self.outputs, self.keys = method, outputs, keys
        self.ids, self.step, self.ranks = ids, step, ranks
        self.queue, self.critic, self.sizes = queue, critic, sizes
        self.objective = objective
        needs_all_keys = queue is not None or objective.uses_batch_negatives
        # Each key is gathered once, for all pairs.
        self.gathered_keys = (
            {index: ranks.gather(key, sizes) for index, key in keys.items()}
            if needs_all_keys else {}
        )  # fmt: skip
        self.gathered_ids = ranks.gather(ids, sizes) if needs_all_keys or critic else ids
        self.critic_update: tuple[Weights, Weights] | None = None

    def terms(self, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """The similarity and, if local views repel each other, the weighted affinity.

        ``parameters`` are those whose gradients a gradient ratio measures.
        """
        similarity = self.similarity()
        terms = {type(self.objective).__name__: similarity}
        if self.method.repulsion is not None:
            affinity = self.affinity(self.method.repulsion)
            weight = self._affinity_weight(self.method.repulsion, similarity, affinity, parameters)
            terms[AFFINITY] = weight * affinity
        return terms

    def similarity(self) -> Tensor:
        """The weighted sum over all pairs."""
        negatives = {
            stop_gradient: self._negatives(stop_gradient=stop_gradient)
            for stop_gradient in {pair.stop_gradient for pair in self.method.pairing}
        }
        total = self.ids.new_zeros((), dtype=torch.float32)
        for pair in self.method.pairing:
            key = self.keys[pair.key]
            total = total + pair.weight * self.objective(
                self.outputs[pair.query][-1], key.detach() if pair.stop_gradient else key, self.ids,
                negatives[pair.stop_gradient], self.ranks,
            )  # fmt: skip
        return total

    def affinity(self, repulsion: Repulsion) -> Tensor:
        """The mean affinity of the pairs of local views, by the critic's updated weights."""
        local = {index: critic_rows(self.outputs[index][0]) for index in repulsion.views}
        weights: Weights = {}
        values = []
        with torch.autocast(self.ids.device.type, enabled=False):
            if self.critic is not None:
                # The critic sees the batch of all ranks, so all ranks make the same update.
                gathered = {
                    index: self.ranks.gather(z.detach(), self.sizes) for index, z in local.items()
                }
                pairs = [(gathered[a], gathered[b]) for a, b in repulsion.pairs]
                self.critic_update = self.critic.propose_update(
                    pairs, self.step, len(self.gathered_ids)
                )
                weights = self.critic_update[0]
            for a, b in repulsion.pairs:
                if self.critic is None:
                    values.append((local[a] * local[b]).sum(1).mean())
                else:
                    values.append(self.critic.affinity(weights, local[a], local[b]).mean())
        return torch.stack(values).mean() * self.ranks.share(len(self.ids))

    def commit(self) -> None:
        """Push the keys of all ranks into the queue and store the critic's update."""
        if self.queue is not None:
            keys = [self.gathered_keys[index].detach() for index in self.method.keys]
            self.queue.push(torch.cat(keys), self.gathered_ids.repeat(len(keys)))
        if self.critic is not None and self.critic_update is not None:
            self.critic.commit(*self.critic_update)

    def _negatives(self, *, stop_gradient: bool) -> Negatives | None:
        rows: list[Tensor] = []
        ids: list[Tensor] = []
        if self.objective.uses_batch_negatives:
            rows = [key.detach() if stop_gradient else key for key in self.gathered_keys.values()]
            ids = [self.gathered_ids] * len(rows)
        if self.queue is not None:
            rows, ids = [*rows, self.queue.rows], [*ids, self.queue.ids]
        if not rows:
            return None
        return Negatives(rows=torch.cat([r.to(rows[-1].dtype) for r in rows]), ids=torch.cat(ids))

    def _affinity_weight(
        self,
        repulsion: Repulsion,
        similarity: Tensor,
        affinity: Tensor,
        parameters: Sequence[nn.Parameter],
    ) -> float | Tensor:
        if not isinstance(repulsion.balance, GradientRatio):
            return repulsion.balance.value
        similarity_norm = self._gradient_norm(similarity, parameters)
        affinity_norm = self._gradient_norm(affinity, parameters)
        ratio = repulsion.balance.limit * similarity_norm / affinity_norm.clamp_min(1e-12)
        return ratio.clamp_max(1.0)

    def _gradient_norm(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
        """|gradient of the whole batch's loss|, over all ranks."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        flat = torch.cat([
            (torch.zeros_like(p) if g is None else g).reshape(-1)
            for p, g in zip(trained, gradients, strict=True)
        ])  # fmt: skip
        norm: Tensor = torch.linalg.vector_norm(self.ranks.all_reduce_sum(flat) / self.ranks.world)
        return norm
