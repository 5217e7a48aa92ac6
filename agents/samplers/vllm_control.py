"""A vLLM server from the trainer's side: pause, new weights, resume. These calls wait, from any thread."""

import asyncio
import base64
import pickle
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from ...envs import AgentError
from ..core import Request, Sample
from ..endpoint import Endpoint, Retry
from .vllm_wire import GENERATE, TORN, body, read

T = TypeVar("T")


class Calls:
    """An event loop in a thread of its own, for callers that wait."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-control", daemon=True)
        self._thread.start()

    def __call__(self, job: Coroutine[Any, Any, T]) -> T:
        """What ``job`` returns or raises."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Control:
    """The server at ``url``: the four calls that vLLM's own trainer engines make of a client, and those around them.

    Every call raises AgentError when the server cannot be reached or refuses. The server must run with
    VLLM_SERVER_DEV_MODE=1, and so be reachable by those alone who may change its weights.
    """

    def __init__(self, url: str, calls: Calls, *, key: str = "", timeout: float = 600.0) -> None:
        self._calls = calls
        self._endpoint = Endpoint(url, key=key, timeout=timeout, retry=Retry(attempts=1))
        self.url, self.label = self._endpoint.url, ""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._post("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._post("/start_weight_update")

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        many = isinstance(update_info, list)
        infos = [_json(info) for info in (update_info if isinstance(update_info, list) else [update_info])]
        self._post("/update_weights", {"update_info": infos if many else infos[0]})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """The weights are there, and are called ``weight_version``, by default ``label``."""
        self._post("/finish_weight_update", {"weight_version": weight_version or self.label})

    def pause(self) -> None:
        """Between two tokens; what runs is kept and goes on at ``resume``."""
        self._post("/pause?mode=keep")

    def stop(self) -> None:
        """Give up what runs, and begin nothing until ``resume``."""
        self._post("/pause?mode=abort")

    def resume(self) -> None:
        self._post("/resume")

    def forget(self) -> None:
        """Empty the prefix cache. What is paused reads its context again, under the weights that there are then."""
        said = self._post("/reset_prefix_cache?reset_running_requests=true")
        if said.get("success") is not True:
            raise AgentError(f"{self.url}: the prefix cache was not reset: {said}")

    def tear(self) -> None:
        """From now on the weights are half written: their tokens are nobody's."""
        self._post("/update_weight_version", {"new_version": TORN})

    def version(self) -> str:
        """What the server calls its weights."""
        return str(self._calls(self._endpoint.get("/weight_info")).get("weight_version"))

    def workers(self) -> int:
        """Processes that hold a part of the model or a copy of it."""
        said = self._calls(self._endpoint.get("/get_world_size")).get("world_size")
        if not isinstance(said, int):
            raise AgentError(f"{self.url}: no world size of vLLM: {said!r}")
        return said

    def sample(self, request: Request, model: str) -> Sample:
        """Like the sampler's; weights that vLLM calls "default" are refused."""
        return read(self._calls(self._endpoint.post(GENERATE, body(request, model))), request, None, self.url)

    def close(self) -> None:
        self._calls(self._endpoint.close())

    def _post(self, path: str, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._calls(self._endpoint.post(path, said or {}))


def _json(info: dict[str, Any]) -> dict[str, Any]:
    """CUDA IPC's handles are no JSON: the server reads them pickled where VLLM_ALLOW_INSECURE_SERIALIZATION=1."""
    handles = info.get("ipc_handles")
    if handles is None:
        return info
    rest = {name: value for name, value in info.items() if name != "ipc_handles"}
    return rest | {"ipc_handles_pickled": base64.b64encode(pickle.dumps(handles)).decode()}
