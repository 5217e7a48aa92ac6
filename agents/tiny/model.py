"""The embedded policy's shape: a Qwen3 of under half a million parameters."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


def build(
    vocabulary: int, *, pad: int, end: int, seed: int, layers: int = 3, width: int = 96, heads: int = 4
) -> Qwen3ForCausalLM:
    """An untrained model in fp32.

    Embeddings are untied and head_dim is 32 because vLLM's CPU attention starts at 32 and reloads tied embeddings
    wrongly. The wide initialisation lets the copy circuit form within hundreds of steps.
    """
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.1,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        tie_word_embeddings=False,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=end,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):  # the initialiser knows the global generator only
        torch.manual_seed(seed)
        model: Qwen3ForCausalLM = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    return model
