"""Draws docs/gallery-*.png: episodes of a trained agent in Chromium, a picture and the action of every turn.

python docs/gallery.py runs/demo
"""

import io
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from turngym.trainers.demo import replay
from turngym.trainers.evaluate import Evaluation, play, world
from turngym.trainers.view import Episode, Step

SHOWN = {"shop": "order_one", "forum": "post_one", "across": "order_advised"}
CARD, GAP, COLUMNS = (320, 240), 14, 4  # pixels
INK, DIM, GROUND = "#1d2433", "#6b7480", "#ffffff"


def episode(agent: str, template: str) -> Episode:
    """The first solved episode of a template."""
    asked = Evaluation(agent=agent, engine="browser", template=template, episodes=4, workers=1)
    played = [replay(t) for t in play(asked, world(asked), record=True) if t.scored]
    return next((e for e in played if e.success), played[0])


def card(step: Step, number: int) -> Image.Image:
    """The page of a turn, and beneath it what was done."""
    drawn = Image.new("RGB", (CARD[0], CARD[1] + 58), GROUND)
    if step.screenshot:
        drawn.paste(Image.open(io.BytesIO(step.screenshot)).convert("RGB").resize(CARD, Image.Resampling.LANCZOS))
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, 0, CARD[0] - 1, CARD[1] - 1), outline="#cfd4da")
    words = textwrap.wrap(f"{number}  {step.action or 'the end'}", 46)
    pen.multiline_text((2, CARD[1] + 6), "\n".join(words[:3]), INK, ImageFont.load_default(13), spacing=3)
    return drawn


def sheet(shown: Episode) -> Image.Image:
    """The episode's goal above its turns."""
    cards = [card(step, i + 1) for i, step in enumerate(shown.steps)]
    width, height = (cards[0].width + GAP), (cards[0].height + GAP)
    rows = -(-len(cards) // COLUMNS)
    drawn = Image.new("RGB", (COLUMNS * width + GAP, rows * height + 56), GROUND)
    pen = ImageDraw.Draw(drawn)
    pen.text((GAP, 10), shown.goal, INK, ImageFont.load_default(22))
    turns = len(shown.steps) - 1
    ending = "solved" if shown.success else "failed"
    pen.text(
        (GAP, 36), f"{shown.template}, level {shown.level}: {ending} in {turns} turns", DIM, ImageFont.load_default(13)
    )
    for i, one in enumerate(cards):
        drawn.paste(one, (GAP + i % COLUMNS * width, 56 + i // COLUMNS * height))
    return drawn


def main() -> None:
    for site, template in SHOWN.items():
        file = Path(__file__).parent / f"gallery-{site}.png"
        sheet(episode(sys.argv[1], template)).quantize(96).save(file, optimize=True)
        print(file)


if __name__ == "__main__":
    main()
