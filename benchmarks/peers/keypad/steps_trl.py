"""GRPO steps of TRL 1.16.0 on the keypad: one JSON line a step on the standard output. Runs where TRL is installed."""

import argparse
import json
import os
import random
import sys
import time
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template
from world import CALLS, SYSTEM, Keypad


def environment(noise: float) -> type:
    class Safe:
        def reset(self, seed: int, **_: Any) -> None:
            self.keypad = Keypad(noise)
            self.keypad.start(seed)

        def press(self, digit: int) -> str:
            """Press a digit.

            Args:
                digit: which one

            Returns:
                what the keypad shows
            """
            return self.keypad.press(int(digit))

    return Safe


class Clock(TrainerCallback):
    """Seconds from the end of one step to the end of the next, and what TRL logs of it."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.last, self.seconds = now, now - self.last

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "frac_reward_zero_std" in logs:
            said = {
                "seconds": self.seconds,
                "spread": 1 - logs["frac_reward_zero_std"],
                "reward": logs["reward"],
                "calls": logs["tools/call_frequency"],
                "tokens": logs["completions/mean_length"],
            }
            print(json.dumps(said), file=OUT, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="rows of a forward and backward pass")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="trl")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.response_template = qwen3_template
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    safes = [(seed, Keypad().start(seed)) for seed in range(args.groups * args.steps)]
    messages = [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": note}] for _, note in safes]
    chance = random.Random(0)

    def opened(environments: list[Any], **_: Any) -> list[float]:
        return [safe.keypad.reward(chance.random()) for safe in environments]

    every = args.groups * args.size
    config = GRPOConfig(
        output_dir=args.out, per_device_train_batch_size=args.rows, gradient_accumulation_steps=every // args.rows,
        num_generations=args.size, max_completion_length=160, max_tool_calling_iterations=CALLS, max_steps=args.steps,
        learning_rate=args.lr, beta=0.0, loss_type="grpo", temperature=1.0, top_k=0, top_p=1.0, use_cpu=True,
        bf16=False, gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, args=config, processing_class=tokenizer, reward_funcs=opened,
        train_dataset=Dataset.from_dict({"prompt": messages, "seed": [seed for seed, _ in safes]}),
        environment_factory=environment(args.noise), callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()


if __name__ == "__main__":
    OUT, sys.stdout = sys.stdout, sys.stderr
    main()
