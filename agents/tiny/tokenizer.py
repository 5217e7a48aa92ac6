"""The embedded policy's tokenizer: byte-level BPE whose merges are whole entries, lossless on every text."""

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .vocabulary import BEGINNINGS, END, FRAGMENTS, GLUE, PAD, SPECIALS, entries, spell

# content follows its role at once; an assistant's turn closes with the end token, which the policy samples
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def normalizer() -> normalizers.Normalizer:
    """A space where a text, a line or a value begins; ``decoder`` takes exactly these away again."""
    begins = [normalizers.Replace(b, f"{b} ") for b in (*BEGINNINGS, "\n")]
    return normalizers.Sequence([normalizers.Prepend(" "), *begins])


def decoder() -> decoders.Decoder:
    begins = [decoders.Replace(f"{b} ", b) for b in (*BEGINNINGS, "\n")]
    return decoders.Sequence([decoders.ByteLevel(), *begins, decoders.Strip(" ", 1, 0)])


def build() -> PreTrainedTokenizerFast:
    """The tokenizer: 256 bytes, then one id for each entry, then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split, to_bytes = _split(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {byte: i for i, byte in enumerate(alphabet)}
    for entry in entries():
        vocabulary.setdefault("".join(piece for piece, _ in to_bytes.pre_tokenize_str(entry)), len(vocabulary))
    core = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    core.normalizer, core.decoder = normalizer(), decoder()
    core.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _split() -> pre_tokenizers.PreTokenizer:
    """Fragments of the grammar first, then ids, integers, words and paths with the space before them."""
    fixed = sorted((*(" " + spell(f) for f in FRAGMENTS), *map(spell, GLUE)), key=len, reverse=True)
    pattern = "|".join(map(re.escape, fixed)) + r"| ?\[[0-9]+\]| ?-?[0-9]+| ?/[a-z0-9]*| ?[A-Za-z]+| ?[^\sA-Za-z0-9]|\s"
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")
