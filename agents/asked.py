"""What every sampler asks of a request, and its seed as engines take one."""

from hashlib import blake2b

from ..envs import UsageError
from .core import Request


def check(request: Request, sampler: str, *, whole: bool = True) -> None:
    """Raises UsageError for what the ``sampler`` of that name cannot do: images, and cuts of a distribution that it
    samples ``whole`` (rules 6 and 9)."""
    if whole and (request.top_k or request.top_p < 1.0):
        raise UsageError(f"the {sampler} sampler samples from the whole distribution: leave top_k and top_p unset")
    if request.images:
        raise UsageError(f"the {sampler} sampler reads words only, no images")
    if not request.ids or request.max_tokens < 1 or request.temperature < 0:
        raise UsageError("a request wants ids, max_tokens of at least 1 and a temperature of at least 0")


def number(seed: tuple[int, ...]) -> int:
    """One number of 63 bits for a seed of several, as engines take it; (1,) and (1, 0) are two seeds."""
    return int.from_bytes(blake2b(repr(seed).encode(), digest_size=8).digest(), "big") >> 1
