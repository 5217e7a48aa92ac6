"""The only room that holds weights: a batch becomes optimiser steps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..envs import TurngymError, UsageError
from .batch import Batch
from .estimator import Recipe, joint, pushes
from .output import Network, Output, log_probs, pack, survey
from .reductions import number
from .references import References
from .rows import POLICY, REUSED
from .shaping import Scale
from .shards import gathered, placed, whole
from .tally import Tally, explained, lag
from .terms import PROXIMAL, Term


class Learner:
    """Descends a recipe's loss on a causal language model, in place, on the model's own device.

    Args:
        model: a Hugging Face causal language model, a module with the interface of ``CausalLM``, or a network of
            one. It stays in eval mode, so that its log-probs are the sampler's (rule 6). Where other processes share
            its passes, their learners do what this one is asked to.
        recipe: what to descend.
        lr, betas, weight_decay: AdamW's.
        micro_tokens: padded tokens of one forward and backward pass; bounds memory, changes no gradient;
            a CPU is fastest near 2,000, a GPU wants as many as fit.
        references: frozen models of the policies that the recipe names.

    Raises UsageError if the model is of another kind, or a reference is given that the recipe does not name.
    """

    def __init__(
        self,
        model: nn.Module | Network,
        recipe: Recipe,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.0,
        micro_tokens: int = 2048,
        references: Mapping[str, nn.Module | Network] | None = None,
    ) -> None:
        self.network = model if isinstance(model, Network) else Network(model)
        self.model, self.ranks = self.network.model, self.network.ranks
        self.recipe, self.micro_tokens, self.version = recipe, micro_tokens, 0
        self.references = References(recipe.references, references or {}, self.network)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.critic = recipe.critic(self.network, micro_tokens) if recipe.critic else None
        self.scale = Scale(recipe.scale) if recipe.scale else None
        trained: list[dict[str, Any]] = [{"params": self.parameters, "rate": lr}]
        if self.critic is not None and self.critic.parameters:
            trained.append({"params": self.critic.parameters, "rate": lr * self.critic.lr})
        self.optimizer = torch.optim.AdamW(trained, lr=lr, betas=betas, weight_decay=weight_decay)

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def update(self, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """Learn from one batch: one optimiser step a minibatch and epoch; ``version`` grows by one.

        ``progress`` is the share of the run's updates that is done: the recipe's decay goes by it.

        Gives the loss by term and in all, ``grad_norm`` (before clipping), ``entropy`` (nats a token), ``kl``
        (k3 to the behaviour policy, nats a token), ``clip_fraction``, ``tokens`` and ``rows`` learned from,
        ``steps`` taken, the lag a token, and what a critic has to say (``critic/…``). A batch without credit takes no
        step. Raises UsageError if the recipe cannot use the batch, TurngymError if a gradient is not finite.
        """
        self.ranks.tell("update", batch, progress)
        self.network.ready()
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self.recipe.update.factor(progress)
        self.references.refresh(self.version)
        tally = Tally()
        log = lag(batch, self.version)
        credited = self._credited(batch).to(self.device)
        # all references, the proximal policy among them, are read before the first step
        parts = [self._referred(part) for part in self._minibatches(credited, progress)]
        for part in parts * self.recipe.update.epochs:
            if not self._step(part, tally):
                break
        self.version += 1
        log |= explained(credited, self.recipe.terms)
        learned = {} if self.critic is None else self.critic.learn(credited)
        return log | tally.read() | {f"critic/{name}": value for name, value in learned.items()}

    def log_probs(self, batch: Batch) -> Tensor:
        """Log-probability [B, T] of each written token, at its row's temperature; no gradient."""
        self.ranks.tell("log_probs", batch)
        self.network.ready()
        return log_probs(self.network, batch.to(self.device), self.micro_tokens)

    def _credited(self, batch: Batch) -> Batch:
        """With its advantage: scaled, and by the penalty's reference and the critic's values where there are such."""
        penalty, values = self.recipe.penalty, None
        if self.scale is not None:
            batch = self.scale(batch)
        if penalty is not None:
            batch = self.recipe.penalised(self._referred(batch.to(self.device), {penalty.reference}))
        if self.critic is not None:
            batch = batch.to(self.device)
            values = self.critic.values(batch).to(batch.reward)
        return self.recipe.credited(batch, values)

    def _minibatches(self, batch: Batch, progress: float) -> Iterator[Batch]:
        """The rows that need a pass, weighed within their minibatch; groups are never cut."""
        count = self.recipe.update.minibatches
        # group i goes to minibatch i mod count, each source dealt on its own; what is reused stays with its group
        place, sources = torch.zeros_like(batch.group), [POLICY if s == REUSED else s for s in batch.source]
        for source in sorted(set(sources)):
            chosen = torch.tensor([s == source for s in sources], device=self.device)
            place[chosen] = number(batch.group[chosen])[1] % count
        for i in range(count):
            part = self.recipe.weighed(batch.select(place == i) if count > 1 else batch, progress)
            active = self.recipe.active(part)
            if active.any():
                yield part.take(active)

    def _referred(self, batch: Batch, names: Iterable[str] | None = None) -> Batch:
        """With the log-probs of every reference that the recipe reads (or ``names``) and the batch does not bring."""
        missing = sorted(set(self.recipe.read if names is None else names) - set(batch.references))
        found = dict(batch.references)
        for name in missing:
            found[name] = (
                log_probs(self.network, batch, self.micro_tokens)
                if name == PROXIMAL
                else self.references.log_probs(name, self.network, batch, self.micro_tokens)
            )
        return replace(batch, references=found)

    def _step(self, batch: Batch, tally: Tally) -> bool:
        """One optimiser step; false, and no step, if the policy has moved beyond the target KL."""
        update, step = self.recipe.update, Tally()
        self.optimizer.zero_grad()
        self._backward(batch, step, None if tally.steps else self.version)
        if update.target_kl is not None and step.read()["kl"] > update.target_kl:
            return False
        limit = float("inf") if update.grad_clip is None else update.grad_clip
        groups = self.optimizer.param_groups
        norm, *others = (whole(nn.utils.clip_grad_norm_(group["params"], limit)) for group in groups)
        if not all(bool(n.isfinite()) for n in (norm, *others)):
            raise TurngymError(f"the gradient at version {self.version} is not finite; the weights are unchanged")
        self.optimizer.step()
        for name, value in step.sums.items():
            tally.add(name, value)
        tally.add("grad_norm", norm)
        tally.steps += 1
        return True

    def _backward(self, batch: Batch, tally: Tally, version: int | None) -> None:
        """Add the gradient of the recipe's loss, micro-batch by micro-batch."""
        micro = pack(batch, self.micro_tokens, self.network.nodes)
        late = joint(self.recipe.terms, batch) if len(micro) > 1 else []
        c: Tensor | None = None
        if late:
            logp, known = self._surveyed(late, batch)
            values, c = pushes(late, logp, batch, **known)
            tally.losses(values)
            for term in late:
                tally.clipped(term, Output.given(batch, logp, **known), batch)
        read, views = None if self.critic is None else self.critic.read, self.references.views()
        ours = tally if self.ranks.count == 1 else Tally()
        for index, real in self.ranks.share(micro):
            part = batch.take(index)
            output = Output(self.network, part, read, views)
            direct = {t.name: t(output, part) for t in self.recipe.terms if t not in late}
            loss = sum(direct.values(), start=output.logp.new_zeros(()))
            if c is not None:
                loss = loss + (c[index, : part.ids.shape[1]] * output.logp).sum()
            (loss if real else 0.0 * loss).backward()  # type: ignore[no-untyped-call]
            if real:
                ours.losses(direct)
                ours.measure(output, part, version)
                ours.add("rows", torch.tensor(len(index)))
                for term in self.recipe.terms:
                    if term not in late:
                        ours.clipped(term, output, part)
        if ours is not tally:
            for name, value in self.ranks.total(ours.sums).items():
                tally.add(name, value)

    def _surveyed(self, terms: Sequence[Term], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-probs of the whole batch, and the entropy where a mask of these terms goes by it."""
        logp, known = log_probs(self.network, batch, self.micro_tokens), {}
        if any(getattr(getattr(t, "mask", None), "entropic", False) for t in terms):
            known["entropy"] = survey(self.network, batch, self.micro_tokens, lambda output: output.entropy)
        return logp, known

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Copies of the weights on the CPU, by name: what ``Weights.publish`` takes. To be read to its end."""
        self.ranks.tell("tensors")
        for name, tensor in self.network.weights():
            yield name, tensor.detach().to("cpu", copy=True)

    def kept(self) -> dict[str, Tensor]:
        """Copies on the CPU of what is trained: what ``restore`` takes."""
        self.ranks.tell("kept")
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.network.state().items()}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go back to what was ``kept``; optimiser and version stay."""
        self.ranks.tell("restore", kept)
        self.network.load(kept)

    def state_dict(self) -> dict[str, Any]:
        """Model, optimiser and version, whole; the tensors are the live ones where they are not sharded."""
        self.ranks.tell("state_dict")
        return {
            "model": self.network.state(),
            "optimizer": gathered(self.optimizer.state_dict()),
            "version": self.version,
            "references": self.references.state_dict(),
            "critic": {} if self.critic is None else self.critic.state_dict(),
            "scale": {} if self.scale is None else self.scale.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from ``state_dict``, of however many processes. Raises UsageError if it is another model's."""
        self.ranks.tell("load_state_dict", state)
        try:
            self.network.load(state["model"])
            # a copy: the optimiser would keep, and change, the very tensors of the state
            self.optimizer.load_state_dict(placed(deepcopy(state["optimizer"]), self.optimizer))
            self.references.load_state_dict(state["references"])
            if self.critic is not None:
                self.critic.load_state_dict(state["critic"])
            if self.scale is not None:
                self.scale.load_state_dict(state["scale"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(f"the state is not one of this learner's: {error}") from error
        self.version = int(state["version"])
