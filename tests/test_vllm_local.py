"""The in-process vLLM sampler without vLLM; with it, tests/vllm has its checks."""

import sys
from pathlib import Path

import pytest

from turngym.agents.samplers.vllm_local import VllmLocal
from turngym.envs import MissingExtra


def test_a_missing_vllm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'turngym\[vllm\]'"):
        VllmLocal(tmp_path)
