"""Queries, keys and negatives of one step -> the terms of a pair objective's loss.

Nothing is changed before ``commit``: the queue that all pairs of a step meet is that of before, and
a step that is refused leaves queue and critic as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.affinity import GradientRatio, Repulsion
from coview.methods.critic import AdversarialCritic, Weights, unit
from coview.methods.memory import KeyQueue
from coview.methods.method import Method
from coview.methods.pair_objectives import Negatives, PairObjective
from coview.methods.passes import Outputs

AFFINITY = "affinity"


class PairLoss:
    """One step's embeddings under ``method``, compared by its objective as it is at this step.

    asked: slot -> (z [B, D], what asks [B, D]); answered: slot -> keys [B, D]; ids int64 [B].
    sizes: the B of every rank where they are known, so that the ranks need not tell each other.
    """

    def __init__(
        self,
        method: Method,
        objective: PairObjective,
        asked: dict[int, Outputs],
        answered: dict[int, Tensor],
        ids: Tensor,
        step: int,
        *,
        queue: KeyQueue | None = None,
        critic: AdversarialCritic | None = None,
        ranks: Ranks = SINGLE_PROCESS,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.method, self.asked, self.answered = method, asked, answered
        self.ids, self.step, self.ranks = ids, step, ranks
        self.queue, self.critic, self.sizes = queue, critic, sizes
        self.objective = objective
        shared = queue is not None or objective.uses_batch
        # Each key travels once, however many pairs meet it.
        self.everywhere = (
            {slot: ranks.gather(key, sizes) for slot, key in answered.items()} if shared else {}
        )
        self.all_ids = ranks.gather(ids, sizes) if shared or critic else ids
        self.moved: tuple[Weights, Weights] | None = None

    def terms(self, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """The similarity and, where locals repel, the weighted affinity.

        ``parameters`` are those whose gradients a gradient ratio measures.
        """
        similarity = self.similarity()
        terms = {type(self.objective).__name__: similarity}
        if self.method.repulsion is not None:
            affinity = self.affinity(self.method.repulsion)
            weight = self._weight(self.method.repulsion, similarity, affinity, parameters)
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
            key = self.answered[pair.key]
            total = total + pair.weight * self.objective(
                self.asked[pair.query][-1],
                key.detach() if pair.stop_gradient else key,
                self.ids,
                negatives[pair.stop_gradient],
                self.ranks,
            )
        return total

    def affinity(self, repulsion: Repulsion) -> Tensor:
        """The mean affinity of the pairs of local views; the critic has moved before it judges."""
        local = {slot: unit(self.asked[slot][0]) for slot in repulsion.views}
        weights: Weights = {}
        found = []
        with torch.autocast(self.ids.device.type, enabled=False):
            if self.critic is not None:
                # The critic sees the batch of all ranks, so that each moves its copy alike.
                whole = {
                    slot: self.ranks.gather(z.detach(), self.sizes) for slot, z in local.items()
                }
                pairs = [(whole[a], whole[b]) for a, b in repulsion.pairs]
                self.moved = self.critic.propose_update(pairs, self.step, len(self.all_ids))
                weights = self.moved[0]
            for a, b in repulsion.pairs:
                if self.critic is None:
                    found.append((local[a] * local[b]).sum(1).mean())
                else:
                    found.append(self.critic.affinity(weights, local[a], local[b]).mean())
        return torch.stack(found).mean() * self.ranks.share(len(self.ids))

    def commit(self) -> None:
        """Move what the step moves: the keys of all ranks into the queue, the critic's weights."""
        if self.queue is not None:
            keys = [self.everywhere[slot].detach() for slot in self.method.keys]
            self.queue.push(torch.cat(keys), self.all_ids.repeat(len(keys)))
        if self.critic is not None and self.moved is not None:
            self.critic.commit(*self.moved)

    def _negatives(self, *, stop_gradient: bool) -> Negatives | None:
        rows: list[Tensor] = []
        ids: list[Tensor] = []
        if self.objective.uses_batch:
            rows = [key.detach() if stop_gradient else key for key in self.everywhere.values()]
            ids = [self.all_ids] * len(rows)
        if self.queue is not None:
            rows, ids = [*rows, self.queue.rows], [*ids, self.queue.ids]
        if not rows:
            return None
        return Negatives(rows=torch.cat([r.to(rows[-1].dtype) for r in rows]), ids=torch.cat(ids))

    def _weight(
        self,
        repulsion: Repulsion,
        similarity: Tensor,
        affinity: Tensor,
        parameters: Sequence[nn.Parameter],
    ) -> float | Tensor:
        if not isinstance(repulsion.balance, GradientRatio):
            return repulsion.balance.value
        ours = self._norm(similarity, parameters)
        theirs = self._norm(affinity, parameters)
        ratio = repulsion.balance.limit * ours / theirs.clamp_min(1e-12)
        return ratio.clamp_max(1.0)

    def _norm(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
        """|gradient of the whole batch's loss|, over all ranks."""
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        flat = torch.cat([
            (torch.zeros_like(p) if g is None else g).reshape(-1)
            for p, g in zip(wanted, found, strict=True)
        ])  # fmt: skip
        norm: Tensor = torch.linalg.vector_norm(self.ranks.all_reduce_sum(flat) / self.ranks.world)
        return norm
