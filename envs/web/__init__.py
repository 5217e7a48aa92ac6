"""Web worlds: real server-rendered sites, the engines that walk them, and the actions that agents take on them."""

from .engine import Engine, Site
from .env import Episode, WebEnv
from .grammar import Command, Do, Exit, Go, parse, show
from .page import Element, Page, render
from .task import Evaluator, Final, StateMatch, Step, StringMatch, Task, UrlMatch

__all__ = [
    "Command",
    "Do",
    "Element",
    "Engine",
    "Episode",
    "Evaluator",
    "Exit",
    "Final",
    "Go",
    "Page",
    "Site",
    "StateMatch",
    "Step",
    "StringMatch",
    "Task",
    "UrlMatch",
    "WebEnv",
    "parse",
    "render",
    "show",
]
