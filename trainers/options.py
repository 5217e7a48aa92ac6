"""Command-line options from the scalar fields of frozen dataclasses; strict, and every error is one line."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from ..envs.errors import UsageError

T = TypeVar("T")
Reader = Callable[[str], Any]  # a word of the command line -> the value of a field


class Parser(argparse.ArgumentParser):
    """An argparse parser that abbreviates nothing and raises UsageError instead of leaving the process."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        plain = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, None, description, epilog, formatter_class=plain, allow_abbrev=False)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The namespace of ``arguments``; raises UsageError, naming the option nearest to an unknown one."""
        namespace, rest = self.parse_known_args(list(arguments))
        if rest:
            option = next((word for word in rest if word.startswith("-")), None)
            if option is None:
                raise UsageError(f"unexpected argument {rest[0]!r} (see {self.prog} --help)")
            known = [name for name in self._option_string_actions if name.startswith("--")]
            raise UsageError(unknown("option", option.split("=")[0], known, f"{self.prog} --help"))
        return namespace

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def doc(text: str) -> dict[str, str]:
    """The metadata of a field whose option has this help."""
    return {"help": text}


def unknown(kind: str, name: str, known: Sequence[str], see: str = "") -> str:
    """One line: ``name`` is unknown, and the nearest known name, or where to see them, or all of them."""
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    if near:
        return f"unknown {kind} {name}; did you mean {near[0]}?"
    return f"unknown {kind} {name}; " + (f"see {see}" if see else f"known: {', '.join(known)}")


def add(parser: argparse.ArgumentParser, of: object) -> None:
    """Add an option to ``parser`` for each scalar field of ``of``, a dataclass or an instance of one.

    Scalars are int, float, str, bool (``--name``, ``--no-name``), Literal of strings, tuples of any length
    but of one such type (written with commas), and each of them or None (written ``none``); no other field gets
    an option, and none with ``metadata={"option": False}``. ``metadata={"help": ...}`` is the help; the default shown
    is the instance's, or else the class's; a field of a class without one is required.
    """
    for field, hint, reader in _scalars(of):
        default = _default(of, field)
        help_ = str(field.metadata.get("help", ""))
        if default is not MISSING:
            help_ += f" (default: {_plain(default)})"
        # What was not given stays out of the namespace, so that `apply` changes nothing else.
        common: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "required": default is MISSING,
            "help": help_.strip().replace("%", "%%"),
        }
        name = "--" + field.name.replace("_", "-")
        if hint is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, **common)
        else:
            parser.add_argument(name, type=reader, metavar=_metavar(hint), **common)


def apply(instance: T, namespace: argparse.Namespace) -> T:
    """A copy of dataclass ``instance`` with the fields that were given on the command line."""
    return replace(instance, **_given(instance, namespace))  # type: ignore[type-var]


def build(cls: type[T], namespace: argparse.Namespace) -> T:
    """An instance of dataclass ``cls`` from what was given on the command line and its defaults."""
    return cls(**_given(cls, namespace))


def words(base: T, instance: T) -> list[str]:
    """The words of a command line that make ``instance`` out of ``base``, as far as options can."""
    found: list[str] = []
    for field, hint, _ in _scalars(instance):
        value, option = getattr(instance, field.name), field.name.replace("_", "-")
        if value == getattr(base, field.name):
            continue
        if hint is bool and value is not None:
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            found.append(f"--{option}={'none' if value is None else written}")
    return found


def show(instance: object, indent: str = "") -> str:
    """Every field of a dataclass on a line of its own, those of nested ones beneath their name."""
    width = max((len(field.name) for field in _fields(instance)), default=0)
    lines = []
    for field in _fields(instance):
        value = getattr(instance, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        if parts and all(_nested(part) for part in parts):
            for part in parts:
                lines += [f"{indent}{field.name:{width}} = {type(part).__name__}", show(part, indent + "    ")]
        else:
            lines.append(f"{indent}{field.name:{width}} = {_plain(value)}")
    return "\n".join(line for line in lines if line)


def _nested(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _fields(of: object) -> tuple[Field[Any], ...]:
    if not is_dataclass(of):
        raise TypeError(f"{of!r} is no dataclass")
    return fields(of)


def _scalars(of: object) -> Iterator[tuple[Field[Any], Any, Reader]]:
    """The fields that have an option: (field, type without None, reader)."""
    hints = get_type_hints(of if isinstance(of, type) else type(of))
    for field in _fields(of):
        hint, optional = _without_none(hints[field.name])
        reader = _reader(hint)
        if field.init and reader is not None and field.metadata.get("option", True):
            yield field, hint, _or_none(reader) if optional else reader


def _given(of: object, namespace: argparse.Namespace) -> dict[str, Any]:
    return {f.name: getattr(namespace, f.name) for f, _, _ in _scalars(of) if hasattr(namespace, f.name)}


def _default(of: object, field: Field[Any]) -> Any:
    if not isinstance(of, type):
        return getattr(of, field.name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any) -> str:
    """How a value is written on the command line."""
    if isinstance(value, tuple) and all(isinstance(v, int | float | str) for v in value):
        return ",".join(map(str, value)) or "()"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if value == "":
        return "''"
    return str(getattr(value, "__qualname__", value))


def _metavar(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"{_metavar(get_args(hint)[0])},..."
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    return {int: "N", float: "X"}.get(hint, "TEXT")


def _without_none(hint: Any) -> tuple[Any, bool]:
    """(the type without None, whether None was in it); unions of more stay what they are."""
    if get_origin(hint) not in (Union, UnionType) or NoneType not in get_args(hint):
        return hint, False
    rest = [h for h in get_args(hint) if h is not NoneType]
    return (rest[0], True) if len(rest) == 1 else (hint, True)


def _reader(hint: Any) -> Reader | None:
    """What turns a word into a value of type ``hint``; None for a type that has no option."""
    if hint is int:
        return _integer
    if hint is float:
        return _number
    if hint is str or hint is bool:  # argparse itself reads bool
        return str
    if get_origin(hint) is Literal and all(isinstance(choice, str) for choice in get_args(hint)):
        return _choice(get_args(hint))
    if get_origin(hint) is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is Ellipsis:
        inner = None if get_args(hint)[0] is bool else _reader(get_args(hint)[0])
        return None if inner is None else _list(inner)
    return None


def _integer(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number") from None


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word!r} is no finite number")
    return value


def _choice(choices: tuple[str, ...]) -> Reader:
    def read(word: str) -> str:
        if word not in choices:
            raise argparse.ArgumentTypeError(unknown("value", word, choices))
        return word

    return read


def _list(inner: Reader) -> Reader:
    return lambda text: tuple(inner(word.strip()) for word in text.split(",") if word.strip())


def _or_none(reader: Reader) -> Reader:
    return lambda word: None if word == "none" else reader(word)
