"""``turngym sites``: the embedded sites, served for people and for other agents."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..envs.errors import extra
from .options import Parser, add, build, doc


@dataclass(frozen=True)
class Sites:
    """What to serve and where."""

    host: str = field(default="127.0.0.1", metadata=doc("the address to listen at; 0.0.0.0 is every one"))
    port: int = field(default=8000, metadata=doc("0 is one of the system's choice"))
    split: Literal["train", "validation", "test"] = field(default="test", metadata=doc("whose things the sites show"))


def sites_command(arguments: Sequence[str]) -> int:
    """``turngym sites [--host HOST] [--port PORT] [--split SPLIT]``"""
    parser = Parser("turngym sites", "Serve the embedded sites at http://SITE.SEED.localhost:PORT/ until Ctrl-C.")
    add(parser, Sites)
    wanted = build(Sites, parser.parse(arguments))
    for module in ("uvicorn", "starlette", "jinja2"):
        extra(module, "web")
    from ..envs.web.serve import serve

    serve(wanted.host, wanted.port, wanted.split, lambda line: print(line, flush=True))
    return 0
