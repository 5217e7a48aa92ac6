"""The keypad's policy: a Qwen3 with a tokenizer of its own, to be cloned from gold episodes by ``turngym train``.

python benchmarks/peers/keypad/policy.py FOLDER [--layers 4 --width 128]
"""

import argparse
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from world import SYSTEM, Keypad

from turngym.agents.tiny import model as shape
from turngym.trainers.habits import Habits, write
from turngym.trainers.models import save

VOCABULARY = 1024  # rows of the embedding; the tokenizer has fewer
PAD, BEGIN, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}"
    "{% for c in m['tool_calls'] or [] %}{% set f = c['function'] or c %}"
    "{{ '<tool_call>\n{\"name\": \"' + f['name'] + '\", \"arguments\": ' + f['arguments'] | tojson }}"
    "{{ '}\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on a few conversations."""
    texts, rng = [SYSTEM], random.Random(0)
    for _ in range(200):
        keypad = Keypad()
        texts.append(keypad.start(rng.randrange(1 << 31)))
        while not keypad.over:
            texts += [keypad.gold(), keypad.press(keypad.code[len(keypad.pressed)])]
        texts += ["system\nuser\nassistant\ntool\n", "jammed", keypad.gold()]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner = trainers.BpeTrainer(
        vocab_size=512, min_frequency=20, initial_alphabet=sorted(alphabet), show_progress=False
    )
    core.train_from_iterator(texts, learner)
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, BEGIN, END)])
    core.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_call>", "</tool_call>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END)
    fast.chat_template = TEMPLATE
    return fast


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()
    made = tokenizer()
    pad, end = made.convert_tokens_to_ids([PAD, END])
    heads = args.width // 32
    model = shape.build(VOCABULARY, pad=pad, end=end, seed=0, layers=args.layers, width=args.width, heads=heads)
    save(args.folder, model, made)
    write(args.folder, Habits(memory="full", max_tokens=40, instructions=False))


if __name__ == "__main__":
    main()
