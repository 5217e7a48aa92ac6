"""``turngym serve``: a model behind an endpoint, for evaluations, judges and other programs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..envs.errors import UsageError, extra
from .options import Parser, add, build, doc


@dataclass(frozen=True)
class Serve:
    """What to serve and where."""

    model: str = field(default="", metadata=doc("model folder or hub id; none: the embedded policy"))
    served: str = field(default="", metadata=doc("its name on the wire; none: that of its folder"))
    host: str = field(default="127.0.0.1", metadata=doc("the address to listen at; 0.0.0.0 is every one"))
    port: int = field(default=8000, metadata=doc("0 is one of the system's choice"))
    device: str = field(default="cpu", metadata=doc("where it computes: cpu or cuda"))
    threads: int = field(default=1, metadata=doc("torch threads"))


def serve_command(arguments: Sequence[str]) -> int:
    """``turngym serve [--model FOLDER] [--served NAME] [--host HOST] [--port PORT]``"""
    parser = Parser("turngym serve", "Serve a model at http://HOST:PORT/v1, as OpenAI's API does, until Ctrl-C.")
    add(parser, Serve)
    wanted = build(Serve, parser.parse(arguments))
    for module in ("uvicorn", "starlette", "jinja2"):
        extra(module, "web")
    if wanted.threads < 1:
        raise UsageError(f"threads must be at least 1, not {wanted.threads}")
    import torch

    from ..agents.chat import Prompter
    from ..agents.samplers import TorchSampler
    from ..agents.serve import Service, serve
    from .habits import habits
    from .models import folder, load
    from .settings import available

    available(wanted.device)
    torch.set_num_threads(wanted.threads)
    model, tokenizer = load(wanted.model, wanted.device)
    name = wanted.served or Path(folder(wanted.model)).resolve().name
    most = habits(wanted.model).max_tokens
    service = Service(TorchSampler(model, together=False), Prompter(tokenizer), name, max_tokens=most)
    serve(service, wanted.host, wanted.port, lambda line: print(line, flush=True))
    return 0
