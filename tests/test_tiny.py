"""The embedded policy: a lossless tokenizer with one token a word, and a model under half a million parameters."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from turngym.agents.chat import Prompter
from turngym.agents.memory import PLACEHOLDER
from turngym.agents.tiny import BASE, tokenizer
from turngym.agents.tiny import model as shape
from turngym.agents.tiny.vocabulary import (
    BEGINNINGS,
    FRAGMENTS,
    GLUE,
    IDS,
    INTEGERS,
    PATHS,
    SPECIALS,
    SUBPATHS,
    entries,
    words,
)
from turngym.envs.web.env import THINK
from turngym.envs.web.grammar import ACTIONS
from turngym.envs.web.suite import TEMPLATES, WebSuite
from turngym.envs.web.words import SPLITS

WORDS = tokenizer.build()
PIECES = ['="', '=" ', '"', "\n", "\n ", " ", "  ", "…", "é", "𝄞", "a", "chair", "[3]", "-20", 'do(action="', "<|"]
PIECES += [
    "/cart",
    "/topic/30",
    "<think>",
    "<think> ",
    "<think",
    "</think>",
    "<answer>",
    "</answer>",
    "</think><answer>",
]
PIECES += ["<", ">", "think", "answer", 'do(action="Switch Tab", argument="', "=", "-", "tabs:", " here, "]


def ids(text: str) -> list[int]:
    return list(WORDS.encode(text, add_special_tokens=False))


@given(text=st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_decoding_takes_back_encoding(text: str) -> None:
    assert WORDS.decode(ids(text)) == text


@pytest.mark.parametrize("beginning", [*BEGINNINGS, "\n", ""])
def test_spaces_after_a_beginning_are_kept(beginning: str) -> None:
    for spaces in range(4):
        for rest in ("", "chair", "<think>", '="', "\n", *BEGINNINGS):
            text = f"a{beginning}{' ' * spaces}{rest}"
            assert WORDS.decode(ids(text)) == text
            assert WORDS.decode(ids(text[1:])) == text[1:]


@given(text=st.text())
def test_nothing_is_unknown(text: str) -> None:
    assert WORDS.unk_token_id is None and None not in ids(text)
    assert all(0 <= i < len(WORDS) for i in ids(text))


def test_the_vocabulary_is_bytes_entries_and_specials() -> None:
    assert WORDS.convert_tokens_to_ids(list(SPECIALS)) == list(range(len(WORDS) - len(SPECIALS), len(WORDS)))
    assert sorted(WORDS.get_vocab().values()) == list(range(len(WORDS)))
    assert len(set(entries())) == len(entries()) and len({*words()}) == len(words())
    shown = [WORDS.decode([i]) for i in range(256, len(WORDS) - len(SPECIALS))]
    plain = (*FRAGMENTS, *GLUE, PLACEHOLDER, *PATHS, *SUBPATHS, *words(), *map(str, INTEGERS), *(f"[{i}]" for i in IDS))
    assert len(shown) == len({*shown}) and {*shown, "\n"} == {*plain}
    assert all(sum(f.startswith(f'do(action="{name}"') for f in FRAGMENTS) == 1 for name in ACTIONS)
    assert (WORDS.eos_token, WORDS.pad_token) == ("<|end|>", "<|pad|>")


def test_words_integers_and_ids_are_one_token_wherever_they_stand() -> None:
    assert list(INTEGERS) == list(range(-20, 100)) and len(words()) > 150
    for text in (*words(), *map(str, INTEGERS), *(f"[{i}]" for i in IDS)):
        (one,) = ids(text)
        assert one >= 256
        assert ids(f"chair {text} table")[1] == one and ids(f"chair\n{text}")[-1] == one
        assert ids(f'exit(message="{text}")')[1:-1] == [one]


@pytest.mark.parametrize(
    ("action", "size"),
    [
        ('do(action="Click", element="red chair [12]")', 5),
        ('do(action="Search", argument="red chair", element="search box [3]")', 8),
        ('do(action="Select Dropdown Option", argument="farm", element="address [4]")', 6),
        ('do(action="Press Enter")', 1),
        ("go_backward()", 1),
        ('exit(message="47")', 3),
        ('do(action="Switch Tab", argument="1")', 3),
        ('<think>need red chair</think><answer>do(action="Click", element="red chair [12]")</answer>', 11),
        ("<think>done</think><answer>go_backward()</answer>", 5),
    ],
)
def test_an_action_is_a_few_tokens(action: str, size: int) -> None:
    assert len(ids(action)) == size and min(ids(action)) >= 256


def played(template: str, prompt: str) -> tuple[list[str], list[str]]:
    """What gold episodes of a template say, and what they do, on the data of every split."""
    actions, texts = list[str](), list[str]()
    for split in SPLITS:
        env = WebSuite(task=template, split=split, instructions=False, prompt=prompt)
        for seed in range(3):
            observation, _ = env.reset(seed=seed)
            over = False
            while not over:
                texts += [message.text for message in observation]
                actions.append(env.cheat())
                observation, _, terminated, truncated, _ = env.step(actions[-1])
                over = terminated or truncated
            texts += [message.text for message in observation]
        env.close()
    return texts, actions


@pytest.mark.parametrize("prompt", ["plain", "thinking"])
@pytest.mark.parametrize("template", [t.name for t in TEMPLATES])
def test_gold_episodes_are_whole_words(template: str, prompt: str) -> None:
    prompter, (texts, actions) = Prompter(WORDS), played(template, prompt)
    for text in (*texts, *actions):
        assert WORDS.decode(ids(text)) == text
        spelled = "".join(WORDS.convert_ids_to_tokens([i for i in ids(text) if i < 256]))
        assert spelled.count("Ċ") == text.count("\n")
        assert set(spelled) <= set("Ċ:," if "\ntabs: " in text else "Ċ")  # between tabs alone
    sizes = [len(prompter.encode(action)) for action in actions]
    assert max(sizes) <= (10 if prompt == "plain" else json.loads((BASE / "agent.json").read_text())["max_tokens"])
    assert all(prompter.text(prompter.encode(action)) == action for action in actions)
    assert all(text.startswith(THINK) == (prompt == "thinking") for text in texts if "\n" not in text)


def test_the_template_writes_roles_and_closes_answers() -> None:
    chat = [("system", "tell the price"), ("user", "page"), ("assistant", "done"), ("user", "page")]
    messages = [{"role": role, "content": content} for role, content in chat]
    said = WORDS.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert said == "<|system|>tell the price<|user|>page<|assistant|>done<|end|><|user|>page<|assistant|>"
    assert len(ids(said)) == 12 and all(i >= 256 for i in ids(said))


def build(seed: int = 0) -> torch.nn.Module:
    return shape.build(len(WORDS), pad=WORDS.pad_token_id, end=WORDS.eos_token_id, seed=seed)


def test_the_model_is_small_untied_and_fp32() -> None:
    model = build()
    assert sum(p.numel() for p in model.parameters()) <= 500_000
    assert model.config.head_dim == 32 and not model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.config.eos_token_id, model.config.pad_token_id) == (WORDS.eos_token_id, WORDS.pad_token_id)
    assert model.config.max_position_embeddings >= 2048


def test_the_model_follows_its_seed_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = build(), build(), build(1)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)


def test_saving_keeps_the_tokenizer(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer.build().save_pretrained(str(tmp_path))
    same_tokenizer(str(tmp_path))


def same_tokenizer(folder: str) -> None:
    loaded, text = AutoTokenizer.from_pretrained(folder), 'Shop at /\nhome [1] é do(action="Click", element="x [2]")'
    assert json.loads(loaded.backend_tokenizer.to_str()) == json.loads(WORDS.backend_tokenizer.to_str())
    assert (loaded.chat_template, loaded.eos_token, loaded.pad_token) == (WORDS.chat_template, "<|end|>", "<|pad|>")
    assert loaded.encode(text, add_special_tokens=False) == ids(text) and loaded.decode(ids(text)) == text


def test_the_shipped_weights_are_small_and_load() -> None:
    assert sum(file.stat().st_size for file in BASE.iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(str(BASE), dtype="float32")
    assert sum(p.numel() for p in model.parameters()) <= 500_000
    assert model.config.head_dim == 32 and not model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    assert model.get_input_embeddings().num_embeddings == len(WORDS)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (WORDS.eos_token_id, WORDS.pad_token_id)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_shipped_tokenizer_is_the_one_of_the_code() -> None:
    same_tokenizer(str(BASE))


def test_the_shipped_log_says_how_the_weights_were_made() -> None:
    log = [json.loads(line) for line in (BASE / "pretrain.jsonl").read_text().splitlines()]
    stages = [row for row in log if "command" in row]
    assert stages and all(row["command"].startswith("turngym pretrain") for row in stages)
    assert all(type(row["settings"]["seed"]) is int for row in stages)
    steps = [row for row in log if "loss" in row]
    assert steps[-1]["step"] == stages[-1]["settings"]["steps"] and steps[-1]["loss"] < steps[0]["loss"] / 3


def test_paths_are_whole() -> None:
    assert len(ids("at /cart")) == 2 and len(ids("at /product/7/review")) == 4
    assert all(len(ids(f"at /department{path}")) == 3 for path in SUBPATHS)
    assert all(len(ids(f"at {path}")) == 2 for path in PATHS)
    assert len(ids("at /topic/40")) == 3 < len(ids("at /topic/41"))
    assert len(ids("at /topic/4/write")) == len(ids("at /user/rosa")) + 1 == 4
