"""One HTML file that replays episodes: what the agent saw, beside a picture of the page, and what it did."""

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import write_text


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: the words seen, the action taken on them ("" at the end), and a PNG or JPEG of the page."""

    observation: str
    action: str
    screenshot: bytes | None


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode as it went; ``level`` is its difficulty and ``success`` whether it reached the goal."""

    goal: str
    template: str
    level: int
    success: bool
    steps: Sequence[Step]


def write(path: Path, title: str, episodes: Sequence[Episode]) -> None:
    """Write the page to ``path``; it needs nothing but itself. Raises UsageError when it cannot be written.

    Observations come from untrusted pages: they are shown as text only, and the file's own policy forbids
    whatever is not in it. A picture that occurs twice is stored once.
    """
    # "<" would let a text end the script element that carries it.
    data = json.dumps(_data(episodes)).replace("<", "\\u003c")
    parts = {"title": html.escape(title), "style": _STYLE, "script": _SCRIPT, "data": data}
    write_text(path, re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], _PAGE))


def _data(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What the script reads: the distinct pictures, and episodes whose steps name them by number."""
    pictures = dict[bytes, int]()

    def picture(png: bytes | None) -> int | None:
        return None if png is None else pictures.setdefault(png, len(pictures))

    shown = [
        {
            "goal": e.goal,
            "template": e.template,
            "level": e.level,
            "success": e.success,
            "steps": [[s.observation, s.action, picture(s.screenshot)] for s in e.steps],
        }
        for e in episodes
    ]
    return {"episodes": shown, "pictures": [_url(p) for p in pictures]}


def _url(picture: bytes) -> str:
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


_STYLE = """
:root{color-scheme:light dark;--back:#f5f4f0;--card:#fff;--soft:#ecebe5;--line:#dddbd2;--text:#20242c;--dim:#6b7078;
--main:#2a6f5e;--on:#fff;--good:#1d7a4a;--bad:#b3403a;--tint:#e3efea}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--card:#1c2026;--soft:#252a31;--line:#323841;--text:#e4e6e9;
--dim:#98a0aa;--main:#6cc4aa;--on:#10201b;--good:#5fcb90;--bad:#f08a80;--tint:#21342f}}
*{box-sizing:border-box}
body{margin:0;height:100vh;display:grid;grid-template:auto 1fr/300px 1fr;font:15px/1.5 system-ui,sans-serif;
background:var(--back);color:var(--text)}
body>header{grid-column:1/-1;display:flex;align-items:baseline;gap:14px;padding:12px 20px;background:var(--card);
border-bottom:1px solid var(--line)}
h1{font-size:17px;margin:0}
.dim{color:var(--dim);font-size:13px}
nav{overflow:auto;padding:10px;border-right:1px solid var(--line)}
nav button{display:block;width:100%;text-align:left;padding:9px 12px;margin-bottom:4px;border:1px solid transparent;
border-radius:9px;background:none;color:inherit;font:inherit;cursor:pointer}
nav button:hover{background:var(--soft)}
nav button[aria-current=true]{background:var(--card);border-color:var(--line);box-shadow:0 1px 3px #0001}
nav b{display:block;font-weight:550;line-height:1.35;margin-bottom:3px}
select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:7px;padding:3px 6px}
#filter{width:100%;margin-bottom:8px}
.badge{display:inline-block;padding:0 8px;margin-right:7px;border-radius:99px;border:1px solid;font-size:12px;
font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}
main{overflow:auto;padding:16px 20px;display:flex;flex-direction:column;gap:12px}
h2{font-size:20px;line-height:1.3;margin:0 0 4px}
#bar{display:flex;align-items:center;gap:8px;flex-wrap:wrap}
#bar button{font:inherit;min-width:38px;padding:5px 11px;border:1px solid var(--line);border-radius:8px;
background:var(--card);color:inherit;cursor:pointer}
#bar button:hover{border-color:var(--main)}
#bar #play{background:var(--main);border-color:var(--main);color:var(--on);font-weight:600;min-width:74px}
#dots{display:flex;gap:4px;flex:1;min-width:120px}
#bar #dots button{flex:1;min-width:6px;max-width:44px;height:9px;padding:0;border:0;border-radius:9px;
background:var(--line)}
#bar #dots .past{background:var(--main);opacity:.45}
#bar #dots .now{background:var(--main);opacity:1}
#stage{display:grid;grid-template-columns:minmax(0,640px) minmax(260px,1fr);gap:16px;align-items:start}
figure,section{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:hidden}
figure i{display:flex;gap:6px;padding:9px 12px;background:var(--soft)}
figure i::before,figure i::after,figure i span{content:"";width:10px;height:10px;border-radius:9px;
background:var(--line)}
figure img{display:block;width:100%;background:#fff}
figure p{margin:0;padding:120px 20px;text-align:center;color:var(--dim)}
section+section{margin-top:12px}
h3{font-size:12px;font-weight:600;letter-spacing:.05em;text-transform:uppercase;margin:0;padding:8px 14px 0;
color:var(--dim)}
pre{margin:0;padding:6px 14px 12px;font:13.5px/1.55 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;
overflow-wrap:anywhere;max-height:52vh;overflow:auto}
#act{background:var(--tint);border-color:var(--main)}
#act pre{font-weight:600}
:focus-visible{outline:2px solid var(--main);outline-offset:2px}
@media(max-width:900px){body{height:auto;grid-template:auto auto auto/1fr}nav{max-height:30vh;border:0}
#stage{grid-template-columns:1fr}}
"""

_SCRIPT = """
"use strict";
const {episodes, pictures} = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (tag, of = {}, ...inside) => {
  const node = Object.assign(document.createElement(tag), of);
  node.append(...inside);
  return node;
};
let episode = 0, step = 0, timer = 0;
const badge = (e) =>
  make("span", {className: "badge " + (e.success ? "good" : "bad")}, e.success ? "solved" : "failed");
const turns = (e) => e.steps.filter(([, action]) => action).length;  // the last step is the end
const about = (e) => make("span", {className: "dim"},
  `${e.template} \\u00b7 level ${e.level} \\u00b7 ${turns(e)} ${turns(e) === 1 ? "turn" : "turns"}`);
const shown = () => episodes.map((e, i) => i).filter((i) =>
  at("filter").value === "all" || episodes[i].success === (at("filter").value === "solved"));

function list() {
  at("list").replaceChildren(...shown().map((i) => make("button", {onclick: () => go(i, 0), ariaCurrent: i === episode},
    make("b", {}, episodes[i].goal), badge(episodes[i]), about(episodes[i]))));
}
function show() {
  const e = episodes[episode];
  if (!e) return;
  const [seen, did, picture] = e.steps[step] || ["", "", null];
  at("goal").textContent = e.goal;
  at("about").replaceChildren(badge(e), about(e));
  at("seen").textContent = seen;
  at("did").textContent = did || "the end";
  at("count").textContent = e.steps.length ? `${step + 1} of ${e.steps.length}` : "no turns";
  at("picture").replaceChildren(picture === null ? make("p", {}, "no picture of this turn")
    : make("img", {src: pictures[picture], alt: "the page at this turn"}));
  at("dots").replaceChildren(...e.steps.map((_, i) => make("button", {onclick: () => go(episode, i),
    className: i < step ? "past" : i === step ? "now" : "", ariaLabel: `turn ${i + 1}`, title: `turn ${i + 1}`})));
  at("play").textContent = timer ? "pause" : "play";
  history.replaceState(null, "", `#${episode + 1}.${step + 1}`);
}
function go(to, turn) {
  const moved = to !== episode;
  episode = to;
  step = Math.max(0, Math.min(turn, (episodes[to]?.steps.length || 1) - 1));
  if (moved) list();
  show();
  at("list").querySelector("[aria-current=true]")?.scrollIntoView({block: "nearest"});
}
function stop() { clearInterval(timer); timer = 0; show(); }
function play() {
  if (timer) return stop();
  const last = () => step >= episodes[episode].steps.length - 1;
  if (last()) step = 0;
  timer = setInterval(() => (last() ? stop() : go(episode, step + 1)), Number(at("speed").value));
  show();
}
function other(by) {
  const all = shown(), to = all[all.indexOf(episode) + by];
  if (to !== undefined) go(to, 0);
}
at("back").onclick = () => go(episode, step - 1);
at("on").onclick = () => go(episode, step + 1);
at("play").onclick = () => episodes.length && play();
at("speed").onchange = () => { if (timer) { stop(); play(); } };
at("filter").onchange = () => { list(); if (!shown().includes(episode) && shown().length) go(shown()[0], 0); };
addEventListener("keydown", (key) => {
  if (key.target.tagName === "SELECT" || key.ctrlKey || key.metaKey || key.altKey) return;
  const does = {ArrowLeft: () => go(episode, step - 1), ArrowRight: () => go(episode, step + 1),
    ArrowUp: () => other(-1), ArrowDown: () => other(1), " ": () => episodes.length && play()}[key.key];
  if (does) { key.preventDefault(); does(); }
});
const solved = episodes.filter((e) => e.success).length;
at("sum").textContent = `${solved} of ${episodes.length} solved`;
const [first, turn] = location.hash.slice(1).split(".").map(Number);
list();
go(episodes[first - 1] ? first - 1 : 0, (turn || 1) - 1);
list();
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>{{style}}</style>
</head>
<body>
<header><h1>{{title}}</h1><span id="sum" class="dim"></span></header>
<nav aria-label="episodes">
<select id="filter" aria-label="which episodes"><option value="all">all episodes</option><option>solved</option>
<option>failed</option></select>
<div id="list"></div>
</nav>
<main>
<div><h2 id="goal">no episodes</h2><div id="about"></div></div>
<div id="bar">
<button id="back" aria-label="turn before" title="turn before: left arrow">&#8592;</button>
<button id="play" title="play: space bar">play</button>
<button id="on" aria-label="next turn" title="next turn: right arrow">&#8594;</button>
<div id="dots"></div><span id="count" class="dim"></span>
<select id="speed" aria-label="speed"><option value="2500">slow</option><option value="1300" selected>normal</option>
<option value="500">fast</option></select>
</div>
<div id="stage">
<figure><i><span></span></i><div id="picture"></div></figure>
<div><section id="act"><h3>action</h3><pre id="did"></pre></section>
<section><h3>observation</h3><pre id="seen"></pre></section></div>
</div>
</main>
<script type="application/json" id="data">{{data}}</script>
<script>{{script}}</script>
</body>
</html>
"""
