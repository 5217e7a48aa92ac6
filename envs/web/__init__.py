"""Web worlds: real server-rendered sites, the engines that walk them, and the actions that agents take on them."""

from .engine import Engine, Place, Site
from .env import WebEnv
from .grammar import Command, Do, Exit, Go, parse, show
from .page import Element, Page, render
from .task import Evaluator, Final, StateMatch, Step, StringMatch, Task, UrlMatch, because, click
from .template import Draft, Episode, Job, Template

__all__ = [
    "Command",
    "Do",
    "Draft",
    "Element",
    "Engine",
    "Episode",
    "Evaluator",
    "Exit",
    "Final",
    "Go",
    "Job",
    "Page",
    "Place",
    "Site",
    "StateMatch",
    "Step",
    "StringMatch",
    "Task",
    "Template",
    "UrlMatch",
    "WebEnv",
    "because",
    "click",
    "parse",
    "render",
    "show",
]
