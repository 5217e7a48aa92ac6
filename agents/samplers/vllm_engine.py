"""vLLM's engine in this process: what one thread does with it.

Source of the calls: vllm/v1/engine/llm_engine.py, version 0.32.
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...envs import UsageError, extra
from ..core import Request
from .vllm_weights import tied
from .vllm_wire import check, engine, fits, parameters

WHERE = "vLLM in this process"
GIB = 2**30


class Engine:
    """vLLM's LLMEngine; but for what is asked of a request or of tensors, for one thread."""

    def __init__(self, model: str, dtype: str, longest: int, cache: float, initial: int) -> None:
        arguments = extra("vllm.engine.arg_utils", "vllm")
        engines = extra("vllm.v1.engine.llm_engine", "vllm")
        self._parameters = extra("vllm.sampling_params", "vllm").SamplingParams
        self._final = extra("vllm.sampling_params", "vllm").RequestOutputKind.FINAL_ONLY
        cpu = extra("vllm.platforms", "vllm").current_platform.is_cpu()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise UsageError(
                "this process has a process group of torch, which vLLM would join: close the other vLLM sampler,"
                " or take the servers' (--sampler vllm)"
            )
        if cache <= 0:
            raise UsageError(f"keys and values want a cache of more than 0 GiB, not {cache:g}")
        self._shapes = _shapes(model)
        wanted = dict(
            model=model, skip_tokenizer_init=True, dtype=dtype, max_model_len=longest or None,
            kv_cache_memory_bytes=int(cache * GIB), async_scheduling=False, disable_log_stats=True, **engine(cpu),
        )  # fmt: skip
        try:
            with _untouched():
                self._engine = engines.LLMEngine.from_engine_args(arguments.EngineArgs(**wanted))
        except (OSError, RuntimeError, ValueError) as error:
            extra("vllm.distributed.parallel_state", "vllm").cleanup_dist_env_and_memory()  # the group may be there
            raise UsageError(f"vLLM does not load {model}: {error}") from error
        self._engine.set_weight_version(str(initial))
        self.longest, self.vocabulary = (
            int(self._engine.model_config.max_model_len), int(self._engine.model_config.get_vocab_size()),
        )  # fmt: skip

    def may(self, request: Request) -> None:
        """Raises UsageError for what is not to be sampled, ContextFull for what does not fit."""
        check(request)
        fits(request, self.longest, WHERE)
        if not all(0 <= token < self.vocabulary for token in (*request.ids, *request.stop)):
            raise UsageError(f"a request has ids that are not among the model's {self.vocabulary}")

    def accepts(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises UsageError for tensors that are not all of the model's."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wrong = sorted(n for n in shapes.keys() | self._shapes.keys() if shapes.get(n) != self._shapes.get(n))
        if wrong:
            raise UsageError(
                f"these weights are not those of vLLM's model: {wrong[0]} is {shapes.get(wrong[0], 'missing')}, not"
                f" {self._shapes.get(wrong[0], 'there')}; {len(wrong)} differ"
            )

    def put(self, name: str, request: Request) -> None:
        """Begins with the next step. Raises ValueError for what vLLM refuses."""
        wanted = self._parameters(**parameters(request), output_kind=self._final)
        self._engine.add_request(name, {"prompt_token_ids": list(request.ids)}, wanted)

    def drop(self, name: str) -> None:
        """Nobody wants it any more."""
        self._engine.abort_request([name])

    def step(self) -> list[tuple[str, Any]]:
        """One pass; names and last words of the requests that it ended."""
        return [(said.request_id, said.outputs[0]) for said in self._engine.step() if said.finished]

    def renew(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """What runs reads its context again."""
        with torch.no_grad():
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(tensors.items())})
        self._engine.set_weight_version(str(version))
        if not self._engine.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("the prefix cache was not reset")

    def close(self) -> None:
        """The model and its caches go, and so does torch's process group."""
        self._engine.engine_core.shutdown()


def _shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Of a checkpoint's tensors by name. Raises UsageError for no model's folder and for tied embeddings."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(model)
        tied(config)
        with torch.device("meta"):
            whole = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UsageError(f"{model} holds no causal LM that transformers knows: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}


@contextmanager
def _untouched() -> Iterator[None]:
    """The engine that begins inside runs in this process and leaves it as it was: it seeds the global generators,
    sets variables of the environment, and on a CPU takes ``torch.set_num_threads`` away."""
    before, arrays, python, threads = dict(os.environ), np.random.get_state(), random.getstate(), torch.set_num_threads
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would overrule ``cache``
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ |= before
        np.random.set_state(arrays)
        random.setstate(python)
        vars(torch)["set_num_threads"] = threads
