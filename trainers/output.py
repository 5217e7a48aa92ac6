"""What a forward pass gives, made when first read."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ..envs import UsageError
from .batch import Batch


class CausalLM(Protocol):
    """What a learner needs of a model: any Hugging Face causal language model has it.

    ``get_decoder()(input_ids=[B, T], use_cache=False).last_hidden_state`` is [B, T, H], and the module of
    ``get_output_embeddings()`` takes hidden states to logits.
    """

    def get_decoder(self) -> Callable[..., Any]: ...

    def get_output_embeddings(self) -> Callable[[Tensor], Tensor]: ...


class Network:
    """A causal language model cut in two, so that the head runs only where a written token follows.

    Rows are padded on the right and the model is causal, so no attention mask is needed: what is read never
    lies to the right. Dropout is off (rule 6). A model that does more to its logits than apply the head
    (soft-capping, scaling) is run whole; ``splits`` says which. Raises UsageError for a model of another kind.
    """

    def __init__(self, model: nn.Module) -> None:
        missing = [n for n in ("get_decoder", "get_output_embeddings") if not hasattr(model, n)]
        if missing:
            raise UsageError(f"{type(model).__name__} has no {' or '.join(missing)}; pass a causal language model")
        self.model = model.eval()
        lm = cast(CausalLM, model)
        self.decoder, self.head = lm.get_decoder(), lm.get_output_embeddings()
        self.splits = self._splits()

    @torch.no_grad()
    def _splits(self) -> bool:
        """Whether the head on the decoder's hidden states gives the model's own logits, bit for bit."""
        first = next(self.model.parameters())
        ids = torch.arange(1, 9, device=first.device)[None] % self._vocabulary()
        return torch.equal(self.head(self.hidden(ids)), self.logits(ids))

    def _vocabulary(self) -> int:
        size = getattr(getattr(self.model, "config", None), "vocab_size", None)
        return size if isinstance(size, int) else 2

    def hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states [B, T, H] of ``ids`` [B, T]."""
        return cast(Tensor, self.decoder(input_ids=ids, use_cache=False).last_hidden_state)

    def logits(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of the whole model."""
        return cast(Tensor, self.model(input_ids=ids, use_cache=False).logits)


class Output:
    """The policy's view of a batch of B rows, W written tokens in all, at each row's temperature."""

    def __init__(self, network: Network | None, batch: Batch) -> None:
        self._network, self.batch = network, batch

    @classmethod
    def given(cls, batch: Batch, logp: Tensor) -> "Output":
        """An output of which only ``logp`` is known; reading anything else raises UsageError."""
        out = cls(None, batch)
        out.__dict__["logp"] = logp
        return out

    @property
    def network(self) -> Network:
        if self._network is None:
            raise UsageError("a term whose scope needs two passes may read the log-probs of written tokens only")
        return self._network

    @cached_property
    def written(self) -> tuple[Tensor, Tensor]:
        """Row and column of every written token, each [W]."""
        row, column = self.batch.loss_mask.nonzero(as_tuple=True)
        return row, column

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor]:
        """The different rows of ids [U, T-1], and which of them each row is, [B].

        Members of a group often read and write the same: such rows pass through the network once.
        """
        ids, place = torch.unique(self.batch.ids[:, :-1], dim=0, return_inverse=True)
        return ids, place

    @cached_property
    def states(self) -> Tensor:
        """Last hidden states [U, T-1, H] of the distinct rows: the state at t predicts the token at t + 1."""
        return self.network.hidden(self.distinct[0])

    @property
    def hidden(self) -> Tensor:
        """Last hidden states [B, T-1, H]."""
        return self.states[self.distinct[1]]

    @cached_property
    def logits(self) -> Tensor:
        """Logits [W, V] that predict the written tokens, divided by the row's temperature; at least float32."""
        row, column = self.written
        ids, place = self.distinct
        if self.network.splits:
            # not an index: its backward adds equal rows up in no fixed order when there are several threads
            flat = place[row] * self.states.shape[1] + column - 1
            raw = self.network.head(nn.functional.embedding(flat, self.states.flatten(0, 1)))
        else:
            raw = self.network.logits(ids)[place[row], column - 1]
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return raw / self.batch.temperature[row, None].to(raw)

    @cached_property
    def normalizer(self) -> Tensor:
        """Log of the sum of exponentials of the logits, [W]."""
        return self.logits.logsumexp(-1)

    @cached_property
    def logp(self) -> Tensor:
        """Log-probability [B, T] of each written token; 0 elsewhere."""
        taken = self.logits.gather(-1, self.batch.ids[self.written][:, None])[:, 0]
        return self.scatter(taken - self.normalizer)

    @cached_property
    def entropy(self) -> Tensor:
        """Entropy in nats [B, T] of the distribution of each written token; 0 elsewhere."""
        p = (self.logits - self.normalizer[:, None]).exp()
        return self.scatter(self.normalizer - (p * self.logits).sum(-1))

    def scatter(self, values: Tensor) -> Tensor:
        """``values`` [W] at their places in [B, T]; 0 elsewhere."""
        return values.new_zeros(self.batch.ids.shape).index_put(self.written, values)


def pack(batch: Batch, tokens: int) -> list[Tensor]:
    """Micro-batches of rows of like length, at most ``tokens`` padded tokens of distinct rows each (one at the least).

    Gives row indices; rows of equal ids stay together, the longest rows come first so that memory runs out at once
    or never.
    """
    if not len(batch.ids):
        return []
    kinds = torch.unique(batch.ids, dim=0, return_inverse=True)[1]
    order = kinds.argsort(stable=True)
    order = order[batch.lengths[order].argsort(descending=True, stable=True)]
    out, taken, seen = list[list[int]](), list[int](), set[int]()
    width = 0
    for row, kind, length in zip(order.tolist(), kinds[order].tolist(), batch.lengths[order].tolist(), strict=True):
        if taken and kind not in seen and (len(seen) + 1) * width > tokens:
            out.append(taken)
            taken, seen = [], set()
        width = width if taken else length
        taken.append(row)
        seen.add(kind)
    return [torch.tensor(index, device=batch.ids.device) for index in (*out, taken)]


@torch.no_grad()
def log_probs(network: Network, batch: Batch, tokens: int) -> Tensor:
    """Log-probability [B, T] of each written token under ``network``, in micro-batches; no gradient."""
    out: Tensor | None = None
    for index in pack(batch, tokens):
        logp = Output(network, batch.take(index)).logp
        out = logp.new_zeros(batch.ids.shape) if out is None else out
        out[index, : logp.shape[1]] = logp
    return batch.behaviour.new_zeros(batch.ids.shape) if out is None else out
