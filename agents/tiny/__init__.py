"""The embedded policy: a tiny Qwen3 and its tokenizer, made by ``turngym pretrain``."""

from pathlib import Path

BASE = Path(__file__).parent / "base"

__all__ = ["BASE"]
