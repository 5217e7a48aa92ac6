"""What a forward pass gives, made when first read."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ..envs import UsageError
from .batch import Batch
from .forest import NODES, Forest, grow
from .ranks import ALONE, Ranks

Reader = Callable[["Output"], Tensor]
"""A critic: the value [B, T] of what was read before each written token."""
View = Callable[["Output", str], "Output"]
"""A reference policy: its own output on the rows of the policy's, or on a context of theirs ("": the rows)."""


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
    (soft-capping, scaling) is run whole; ``splits`` says which. Where every layer is full attention that takes a mask,
    rows that begin alike and have less than ``nodes`` tokens become trees of at most ``nodes`` nodes; elsewhere
    ``nodes`` is 0 and rows pass as they are. Raises UsageError for a model of another kind.
    """

    root: nn.Module | None = None  # of shards: decoder and head can then not be called by themselves
    ranks: Ranks = ALONE  # the processes that share the passes

    def __init__(self, model: nn.Module) -> None:
        missing = [n for n in ("get_decoder", "get_output_embeddings") if not hasattr(model, n)]
        if missing:
            raise UsageError(f"{type(model).__name__} has no {' or '.join(missing)}; pass a causal language model")
        self.model = model.eval()
        lm, self.dtype = cast(CausalLM, model), next(model.parameters()).dtype
        self.decoder, self.head = lm.get_decoder(), lm.get_output_embeddings()
        self.splits, self.nodes = self._splits(), NODES if self._branches() else 0

    @torch.no_grad()
    def _splits(self) -> bool:
        """Whether the head on the decoder's hidden states gives the model's own logits, bit for bit."""
        first = next(self.model.parameters())
        ids = torch.arange(1, 9, device=first.device)[None] % self._vocabulary()
        return torch.equal(self.head(self.hidden(ids)), self.logits(ids))

    @torch.no_grad()
    def _branches(self) -> bool:
        """Whether two rows that part after two tokens have, as one tree, the states that each has alone.

        The yardstick is what the tree would give as if it were one row: rounding is far smaller.
        """
        if not getattr(self.model, "_supports_attention_backend", False):
            return False
        config = cast(Any, self.model).config.get_text_config()
        windows = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
        if windows or getattr(config, "sliding_window", None) or config._attn_implementation not in ("sdpa", "eager"):
            return False
        ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]], device=next(self.model.parameters()).device)
        ids = ids % self._vocabulary()
        forest = grow(ids, torch.tensor([4, 4]), NODES)
        alone, masked, plain = self.hidden(ids), self.hidden(forest.ids, forest), self.hidden(forest.ids)
        error, wrong = ((alone - x.flatten(0, 1)[forest.place]).abs().mean() for x in (masked, plain))
        return bool(error <= 0.05 * wrong)

    def _vocabulary(self) -> int:
        size = getattr(getattr(self.model, "config", None), "vocab_size", None)
        return size if isinstance(size, int) else 2

    def hidden(self, ids: Tensor, forest: Forest | None = None) -> Tensor:
        """Last hidden states [B, T, H] of ``ids`` [B, T], of rows or of the trees of ``forest``."""
        return cast(Tensor, self.decoder(input_ids=ids, use_cache=False, **self._seen(forest)).last_hidden_state)

    def logits(self, ids: Tensor, forest: Forest | None = None) -> Tensor:
        """Logits [B, T, V] of the whole model."""
        return cast(Tensor, self.model(input_ids=ids, use_cache=False, **self._seen(forest)).logits)

    def read(self, forest: Forest, node: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [U, N, H] of the forest's nodes and raw logits [W, V] at ``node`` [W], in one call."""
        states = self.hidden(forest.ids, forest)
        return states, self.head(nn.functional.embedding(node, states.flatten(0, 1)))

    def ready(self) -> None:
        """For a pass: no dropout (rule 6)."""
        self.model.eval()

    def twin(self) -> "Network":
        """A model of its own with the same shape."""
        return Network(deepcopy(self.model))

    def weights(self) -> Iterable[tuple[str, Tensor]]:
        """What the model computes with, whole, by name; every process must ask."""
        return self.model.state_dict().items()

    def state(self) -> dict[str, Tensor]:
        """What of it is trained, whole, by name; live tensors where it is not sharded. Every process must ask."""
        return self.model.state_dict()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take ``state`` over. Raises KeyError, RuntimeError or ValueError if it is another model's."""
        self.model.load_state_dict(state)

    def _seen(self, forest: Forest | None) -> dict[str, Tensor]:
        """Positions and mask where there are branches."""
        if forest is None or not forest.branches:
            return {}
        return {"position_ids": forest.depth, "attention_mask": forest.mask(self.dtype)}


class Output:
    """The policy's view of a batch of B rows, W written tokens in all, at each row's temperature.

    ``critic`` gives ``values``; ``others`` are the reference policies, whose views of the same rows ``other`` gives.
    """

    def __init__(
        self,
        network: Network | None,
        batch: Batch,
        critic: Reader | None = None,
        others: Mapping[str, View] | None = None,
    ) -> None:
        self._network, self.batch, self._critic, self._others = network, batch, critic, others or {}

    @classmethod
    def given(cls, batch: Batch, logp: Tensor, **known: Tensor) -> "Output":
        """An output of which only ``logp`` and what else is ``known`` is there; reading more raises UsageError."""
        out = cls(None, batch)
        out.__dict__.update(logp=logp, **known)
        return out

    @property
    def network(self) -> Network:
        if self._network is None:
            raise UsageError("a term whose scope needs two passes may read log-probs and entropy alone")
        return self._network

    def other(self, name: str, context: str = "") -> "Output":
        """A reference policy's view of the same written tokens, without gradient; raises UsageError if there is none.

        ``context`` names other tokens for it to read before them.
        """
        if name not in self._others:
            raise UsageError(f"no model for reference {name!r}: Learner(..., references={{{name!r}: model}})")
        return self._others[name](self, context)

    @cached_property
    def written(self) -> tuple[Tensor, Tensor]:
        """Row and column of every written token, each [W]."""
        row, column = self.batch.loss_mask.nonzero(as_tuple=True)
        return row, column

    @cached_property
    def forest(self) -> Forest:
        """The rows without their last tokens, as trees: what they share passes through the network once."""
        return grow(self.batch.ids[:, :-1], self.batch.lengths - 1, self.network.nodes)

    @cached_property
    def states(self) -> Tensor:
        """Last hidden states [U, N, H] of the forest's nodes; each predicts the token after it."""
        if self.network.root is not None and self.network.splits:
            return self._read[0]
        return self.network.hidden(self.forest.ids, self.forest)

    @property
    def hidden(self) -> Tensor:
        """Last hidden states [B, T-1, H]."""
        return self.states.flatten(0, 1)[self.forest.place]

    @cached_property
    def _read(self) -> tuple[Tensor, Tensor]:
        row, column = self.written
        return self.network.read(self.forest, self.forest.place[row, column - 1])

    @cached_property
    def logits(self) -> Tensor:
        """Logits [W, V] that predict the written tokens, divided by the row's temperature; at least float32."""
        row, column = self.written
        node = self.forest.place[row, column - 1]
        if self.network.root is not None:
            raw = self._read[1]
        elif self.network.splits:
            # not an index: its backward adds equal rows up in no fixed order when there are several threads
            raw = self.network.head(nn.functional.embedding(node, self.states.flatten(0, 1)))
        else:
            raw = nn.functional.embedding(node, self.network.logits(self.forest.ids, self.forest).flatten(0, 1))
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return raw / self.batch.temperature[row, None].to(raw)

    @cached_property
    def normalizer(self) -> Tensor:
        """Log of the sum of exponentials of the logits, [W]."""
        return self.logits.logsumexp(-1)

    @property
    def distribution(self) -> Tensor:
        """Log-probabilities [W, V] of every token that might have been written."""
        return self.logits - self.normalizer[:, None]

    @cached_property
    def values(self) -> Tensor:
        """The critic's value [B, T] of what was read before each written token; 0 elsewhere."""
        if self._critic is None:
            raise UsageError("a term reads values, and there is no critic: Recipe(critic=...)")
        return self._critic(self)

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


def pack(batch: Batch, tokens: int, nodes: int = 0) -> list[Tensor]:
    """Micro-batches of whole trees of like size, about ``tokens`` padded nodes each (one tree at the least).

    Gives row indices; the largest trees come first so that memory runs out at once or never.
    """
    if not len(batch.ids):
        return []
    forest = grow(batch.ids[:, :-1], batch.lengths - 1, min(nodes, tokens))
    out, taken = list[list[int]](), list[int]()
    for tree in sorted(range(len(forest.sizes)), key=lambda u: -forest.sizes[u]):
        if taken and (len(taken) + 1) * forest.sizes[taken[0]] > tokens:
            out.append(taken)
            taken = []
        taken.append(tree)
    of = forest.tree
    return [torch.isin(of, torch.tensor(trees, device=of.device)).nonzero()[:, 0] for trees in (*out, taken)]


@torch.no_grad()
def survey(
    network: Network, batch: Batch, tokens: int, read: Callable[[Output], Tensor], critic: Reader | None = None
) -> Tensor:
    """What ``read`` finds [B, T] in an output of ``network``, in micro-batches; no gradient."""
    out: Tensor | None = None
    for index, real in network.ranks.share(pack(batch, tokens, network.nodes)):
        found = read(Output(network, batch.take(index), critic))
        out = found.new_zeros(batch.ids.shape) if out is None else out
        if real:
            out[index, : found.shape[1]] = found
    return batch.behaviour.new_zeros(batch.ids.shape) if out is None else network.ranks.sum(out)


def log_probs(network: Network, batch: Batch, tokens: int) -> Tensor:
    """Log-probability [B, T] of each written token under ``network``."""
    return survey(network, batch, tokens, lambda output: output.logp)
