"""The words of vLLM's ``/inference/v1/generate`` and of its engine: a Request to its body, its answer to a Sample.

Source: vllm/entrypoints/scale_out/token_in_token_out/protocol.py and vllm/engine/arg_utils.py, version 0.32.
"""

from collections.abc import Mapping
from typing import Any

from ...envs import AgentError, UsageError
from .. import asked
from ..core import ContextFull, Finish, Request, Sample

GENERATE = "/inference/v1/generate"
DEFAULT, TORN = "default", "torn"  # versions by vLLM's first name, and by ours for weights that are half written
FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length"}
WHOLE = 32768  # tokens of prompts in a step on a CPU, and so of the longest context there
NEVER = -9000.0  # vLLM says -9999 for a log-probability that is no number
COLDEST = 0.01  # vLLM raises a temperature below it, but for 0, to it (vllm/sampling_params.py)


def check(request: Request) -> None:
    """Raises UsageError for what is not to be sampled (rules 6 and 9)."""
    asked.check(request, "vLLM")
    warm(request)


def warm(request: Request) -> None:
    """Raises UsageError for a temperature that vLLM would silently take for another."""
    if 0 < request.temperature < COLDEST:
        raise UsageError(
            f"vLLM samples at a temperature of {COLDEST} where {request.temperature:g} is asked for: take 0, or at"
            f" least {COLDEST}"
        )


def is_logp(said: object) -> bool:
    """Whether a server says a log-probability of a token that it sampled, in nats; rounding may put it above 0."""
    return isinstance(said, int | float) and not isinstance(said, bool) and NEVER < said <= 1e-6


def fits(request: Request, longest: int, where: str) -> None:
    """Raises ContextFull for a request that may need more than ``longest`` tokens of context."""
    if len(request.ids) + request.max_tokens > longest:
        raise ContextFull(
            f"a context of {len(request.ids)} tokens and {request.max_tokens} to come is beyond the {longest} of"
            f" {where}: use a memory that compresses, or fewer turns"
        )


def engine(cpu: bool) -> dict[str, Any]:
    """Options of an engine that trains with us, by the names of vLLM's EngineArgs: log-probabilities are of the
    distribution sampled from, and a model's folder changes no request.

    On a CPU prompts are read whole: version 0.32 dies when it has read a part of one that has a seed.
    """
    whole = {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": WHOLE}
    same = {"logprobs_mode": "processed_logprobs", "generation_config": "vllm", "max_num_seqs": 128}
    return same | (whole if cpu else {})


def parameters(request: Request) -> dict[str, Any]:
    """vLLM's SamplingParams. Only the stop tokens that are asked for stop; the seed is one of the request alone."""
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": asked.number(request.seed),
        "logprobs": 0,  # that of the token itself
        "stop_token_ids": list(request.stop),
        "ignore_eos": True,
        "detokenize": False,
    }


def body(request: Request, model: str) -> dict[str, Any]:
    """What is posted."""
    return {"model": model, "token_ids": list(request.ids), "sampling_params": parameters(request)}


def read(said: Mapping[str, Any], request: Request, initial: int | None, where: str) -> Sample:
    """The Sample of an answer. ``initial`` is the version of weights that vLLM calls "default"; None: refused.

    Raises AgentError for an answer that is none, that does not fit the request, or whose weights have no version.
    """
    try:
        (choice,) = said["choices"]
        tokens = tuple(choice["token_ids"])
        logps = tuple(float(entry["logprob"]) for entry in choice["logprobs"]["content"])
        spans = [(str(s["version"]), int(s["start"]), int(s["end"])) for s in choice["weight_versions"]]
        finish = str(choice["finish_reason"])
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(f"{where}: no answer of vLLM 0.32: {type(error).__name__}: {error}") from error
    return sample(tokens, logps, spans, finish, request, initial, where)


def sample(
    tokens: tuple[Any, ...],
    logps: tuple[float, ...],
    spans: list[tuple[str, int, int]],
    finish: str,
    request: Request,
    initial: int | None,
    where: str,
) -> Sample:
    """The Sample of what vLLM said, whether by HTTP or in process; raises like ``read``."""
    versions = [number for said, start, end in spans for number in [version(said, initial, where)] * (end - start)]
    ids = all(type(token) is int and token >= 0 for token in tokens)
    if finish not in FINISHES:
        raise AgentError(f"{where}: ended by {finish!r}, neither stop nor length")
    if not (ids and 0 < len(tokens) <= request.max_tokens and len(tokens) == len(logps) == len(versions)):
        raise AgentError(
            f"{where}: {len(tokens)} tokens, {len(logps)} log-probs, {len(versions)} versions; asked for at most"
            f" {request.max_tokens} of each"
        )
    if not all(map(is_logp, logps)):
        raise AgentError(f"{where}: {min(logps)} to {max(logps)} are no log-probabilities of sampled tokens")
    return Sample(tokens, tuple(min(0.0, logp) for logp in logps), tuple(versions), FINISHES[finish])


def version(said: str, initial: int | None, where: str) -> int:
    """Our number of a server's weights, which travels in decimal; raises AgentError for weights that have none."""
    if said == DEFAULT and initial is not None:
        return initial
    if said == DEFAULT:
        raise AgentError(f"{where}: it plays the weights that it started with: it was started again")
    if said == TORN:
        raise AgentError(f"{where}: its weights are half written: an update of them failed")
    try:
        return int(said)
    except ValueError:
        raise AgentError(f"{where}: weights of version {said!r}, which is not a run's of turngym") from None


def limit(said: Mapping[str, Any], model: str, where: str) -> int:
    """The longest context in tokens that the server of ``/v1/models`` holds for ``model``.

    Raises AgentError when it serves another one.
    """
    try:
        found = {str(one["id"]): int(one["max_model_len"]) for one in said["data"]}
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(f"{where}: no list of models of vLLM: {type(error).__name__}: {error}") from error
    if model not in found:
        raise AgentError(f"{where}: it serves {', '.join(sorted(found)) or 'nothing'}, not {model}")
    return found[model]
