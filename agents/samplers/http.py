"""A sampler over HTTP: endpoints of the OpenAI kind that take token ids and give them back, with log-probabilities."""

from typing import Any

from ...envs import AgentError, UsageError
from ..asked import check, number
from ..core import Finish, Request, Sample
from ..endpoint import Endpoint
from ..hosted import choice
from .vllm_wire import is_logp, warm

PLAIN = {"min_p": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}


class HttpSampler:
    """Continues ids by ``/completions`` of the ``model`` at ``endpoint``, in vLLM's names for what OpenAI's lack.

    Args:
        version: of the weights there; they are fixed, so it is every token's. Whoever changes them sets it anew, while
            no request runs.
        processed: whether the server's log-probabilities are those after temperature, top-k and top-p (vLLM:
            ``--logprobs-mode processed_logprobs``). Without it a request that heats or cuts is refused (rule 6).
    """

    def __init__(self, endpoint: Endpoint, model: str, *, version: int = 0, processed: bool = False) -> None:
        self.endpoint, self.model, self.version, self.processed = endpoint, model, version, processed

    async def __call__(self, request: Request) -> Sample:
        """Raises UsageError for what cannot be sampled so, among it an endpoint whose answers lack ids or
        log-probabilities; ContextFull and AgentError like ``hosted.choice``."""
        self._check(request)
        found, _ = await choice(self.endpoint, "/completions", self._body(request))
        return self._sample(request, found)

    def _check(self, request: Request) -> None:
        check(request, "http", whole=False)
        changed = request.temperature not in (0.0, 1.0) or request.top_k or request.top_p < 1.0
        if changed and not self.processed:
            raise UsageError(
                f"{self.endpoint.url} may give log-probabilities from before temperature, top_k and top_p: leave these,"
                " or say processed=True of a server that gives those after (vLLM: --logprobs-mode processed_logprobs)"
            )
        warm(request)

    def _body(self, request: Request) -> dict[str, Any]:
        # all that shapes the distribution is said: a server takes what is left out from the model's own settings
        return {
            **PLAIN,
            "model": self.model,
            "prompt": list(request.ids),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_k": request.top_k,
            "top_p": request.top_p,
            "seed": number(request.seed),
            "stop_token_ids": list(request.stop),
            "ignore_eos": True,  # only the request's own tokens end it
            "logprobs": 0,  # of the token taken, and of no other
            "return_token_ids": True,
        }

    def _sample(self, request: Request, found: dict[str, Any]) -> Sample:
        where = f"{self.endpoint.url}/completions"
        held = found.get("logprobs")
        ids, logps = found.get("token_ids"), held.get("token_logprobs") if isinstance(held, dict) else None
        missing = [name for name, part in (("token ids", ids), ("log-probabilities", logps)) if part is None]
        if missing:
            raise UsageError(
                f"{where} returns no {' and no '.join(missing)}: nothing that it writes can be trained on. Take a"
                " server that answers return_token_ids and logprobs, as vLLM does; by chat this one can be evaluated"
            )
        if found.get("prompt_token_ids") not in (None, list(request.ids)):
            raise UsageError(f"{where} read other ids than it was given: it cannot be used for exact tokens")
        shown = self.endpoint.hidden(f"{ids!r} with {logps!r}")[:200]
        if not (isinstance(ids, list) and isinstance(logps, list) and 0 < len(ids) == len(logps)):
            raise AgentError(f"{where}: {shown} are not tokens with a log-probability each")
        if not all(type(t) is int and t >= 0 for t in ids) or not all(map(is_logp, logps)):
            raise AgentError(f"{where}: {shown} are no ids or no log-probabilities")
        finish = self._finish(request, ids, found.get("finish_reason"), where)
        return Sample(tuple(ids), tuple(min(0.0, float(x)) for x in logps), (self.version,) * len(ids), finish)

    @staticmethod
    def _finish(request: Request, ids: list[int], reason: object, where: str) -> Finish:
        stopped = ids[-1] in request.stop
        if reason == "stop" and not stopped:
            raise UsageError(
                f"{where} ended at a token that the request does not name, or left it out: exact tokens want a server"
                " that takes stop_token_ids and ignore_eos and keeps the token that ended the text"
            )
        if not stopped and (reason != "length" or len(ids) != request.max_tokens):
            raise AgentError(f"{where}: {len(ids)} of {request.max_tokens} tokens, ended by {reason!r}")
        return "stop" if stopped else "length"
