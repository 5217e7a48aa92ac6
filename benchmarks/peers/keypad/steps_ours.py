"""GRPO steps of turngym on the keypad: one JSON line a step on the standard output."""

import argparse
import json

from turngym.trainers.log import rows
from turngym.trainers.recipes import grpo
from turngym.trainers.run import train
from turngym.trainers.settings import Run

PARTS = ("seconds/wait", "seconds/learn", "seconds/other")  # of an update, in all


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--noise", action="store_true", help="every group has spread")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-exact", action="store_true")
    parser.add_argument("--out", default="ours")
    args = parser.parse_args()
    run = Run(
        recipe=grpo(kl=0.0, minibatches=1, decay=1.0), name="grpo", model=args.model, out=args.out,
        env=f"gym_keypad:{'Noisy' if args.noise else ''}Keypad-v0", steps=args.steps, groups=args.groups,
        size=args.size, lr=args.lr, demonstrations=0, rehearsal=0, browser_every=0, checkpoint_every=args.steps,
        workers=args.workers, threads=args.threads, exact=not args.no_exact,
    )  # fmt: skip
    train(run)
    for row in rows(args.out):
        said = {"seconds": sum(row[name] for name in PARTS)} | {name: row.get(name) for name in row}
        print(json.dumps(said))


if __name__ == "__main__":
    main()
