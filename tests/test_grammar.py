"""The grammar of actions: whatever is shown is read back, and whatever is malformed is answered, never raised on."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turngym.envs import ActionError
from turngym.envs.web import Do, Exit, Go, parse, show
from turngym.envs.web.grammar import ACTIONS, MAX_LENGTH, ON_ELEMENT, ON_PAGE, WITH_TEXT, quote, reason

NASTY = ['"', "'", "\\", "\n", "\\n", '\\"', ", ", "=", ")", "(", "[3]", "<answer>", "</answer>", "é", "𝄞", " "]
TEXT = st.text(max_size=200) | st.lists(st.sampled_from(NASTY), max_size=20).map("".join)
NAME = TEXT.map(lambda text: f"{text} [7]")


def problem(text: str) -> str:
    with pytest.raises(ActionError) as caught:
        parse(text)
    return str(caught.value)


@given(action=st.sampled_from(WITH_TEXT), argument=TEXT, name=NAME)
@example(action="Type", argument='<answer>exit(message="x")</answer>', name="box [7]")
def test_what_is_shown_is_read_back(action: str, argument: str, name: str) -> None:
    assert parse(show(action, argument=argument, element=name)) == Do(action, argument, 7)


@given(action=st.sampled_from(ON_ELEMENT), name=NAME)
def test_elements_of_any_name_are_read_back(action: str, name: str) -> None:
    assert parse(show(action, element=name)) == Do(action, element=7)


@given(message=TEXT)
@example(message="<answer>go_backward()</answer>")
def test_messages_are_read_back(message: str) -> None:
    assert parse(f"exit(message={quote(message)})") == Exit(message)
    assert parse(f"exit({quote(message)})") == Exit(message)


@given(action=st.sampled_from(ON_PAGE))
def test_actions_on_the_page_are_read_back(action: str) -> None:
    assert parse(show(action)) == Do(action)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("go_backward()", Go(forward=False)),
        (" go_forward ( ) \n", Go(forward=True)),
        ("exit()", Exit("")),
        ("exit(message='it''s')", None),
        (r"exit(message='it\'s')", Exit("it's")),
        ('exit( message = "47" )', Exit("47")),
        ('do("Click", element="red chair [12]")', Do("Click", element=12)),
        ('do("Type", "mug", "search box [1]")', Do("Type", "mug", 1)),
        ('do(element="3", argument="a", action="Search")', Do("Search", "a", 3)),
        ('do(action="Click", element="12")', Do("Click", element=12)),
        ('do(action="Click", element=" 12 ")', Do("Click", element=12)),
        ('do(action="Click", element="size [9] box [10] ")', Do("Click", element=10)),
        ('do(action="Type", argument="", element="box [1]")', Do("Type", "", 1)),
        ('do(action="Switch Tab", argument="2")', Do("Switch Tab", "2")),
        ('do(action="Wait")', Do("Wait")),
        ('do(\n  action="Click",\n  element="x [1]",\n)', Do("Click", element=1)),
    ],
)
def test_spellings(text: str, command: object) -> None:
    if command is None:
        assert problem(text).startswith("cannot read the arguments of exit")
    else:
        assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('<think>The price is exit(message="9").</think><answer>exit(message="47")</answer>', Exit("47")),
        ("<think>a\nb</think>\n<answer>\ngo_backward()\n</answer>\n", Go(forward=False)),
        ("<answer>go_backward()</answer> no: <answer>go_forward()</answer>", Go(forward=True)),
        ('<think>an <answer> is due</think><answer>exit(message="1")</answer>', Exit("1")),
        ('<think>a</think><answer>exit(message="x</answer>y")</answer>', Exit("x</answer>y")),
    ],
)
def test_thinking_is_passed_over(text: str, command: object) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one call of do, exit, go_backward or go_forward"),
        ("look", "one call of do, exit, go_backward or go_forward"),
        ("fly()", "one call of do, exit, go_backward or go_forward"),
        ("go_backward", "one call of do, exit"),
        ("<answer></answer>", "one call of do, exit"),
        ("I think <answer>click it</answer>", "one call of do, exit"),
        ('do(action="Click", element="x [1]") now', "one call of do, exit"),
        ("go_backward() go_forward()", "cannot read the arguments of go_backward: ) go_forward("),
        ('exit(message="4") exit(message="7")', "cannot read the arguments of exit"),
        ("exit(message=47)", "cannot read the arguments of exit: message=47"),
        ('exit(message="a)', "cannot read the arguments of exit"),
        ('exit("a" "b")', "cannot read the arguments of exit"),
        ('exit("a", "b")', "exit takes each of (message) once, not so many"),
        ('exit(message="a", message="b")', "exit takes each of (message) once, not message"),
        ('exit(answer="a")', "exit takes each of (message) once, not answer"),
        ('go_forward("2")', "go_forward takes each of () once"),
        ("do()", "no action ''; there are Click, "),
        ('do(action="Jump", element="x [1]")', "no action 'Jump'; there are Click, Right Click"),
        ('do(action="click", element="x [1]")', "no action 'click'"),
        ('do(action="Click")', "Click wants an element such as 'name [3]'"),
        ('do(action="Click", element="x")', "Click wants an element"),
        ('do(action="Click", element="x [1] y")', "Click wants an element"),
        ('do(action="Click", element="[1234567]")', "Click wants an element"),
        ('do(action="Type", element="x [1]")', "Type wants an argument"),
        ('do(action="Type", argument="a")', "Type wants an element"),
        ('do(action="Switch Tab")', "Switch Tab wants the tab's number"),
        ('do(action="Switch Tab", argument="first")', "Switch Tab wants the tab's number"),
        ("exit(message='" + "a" * MAX_LENGTH + "')", f"longer than {MAX_LENGTH} characters"),
        ('exit(message="\ud800")', "lone surrogate"),
        ("__import__('os').system('true')", "one call of do, exit"),
    ],
)
def test_every_mistake_is_answered(text: str, said: str) -> None:
    assert said in problem(text)


PIECES = st.sampled_from(
    [
        *NASTY,
        "do(",
        "exit(",
        "go_forward()",
        'action="',
        *ACTIONS,
        'element="',
        'argument="',
        '")',
        "message=",
        "\ud800",
    ]
)


@given(text=st.text(st.characters(), max_size=100) | st.lists(PIECES, max_size=15).map("".join))
@example(text='do(action="' + "A" * 3000 + '")')
@example(text="exit(" + "a" * 3000 + '="x")')
@example(text="[1] " * 900)
def test_any_text_is_a_command_or_a_short_answer(text: str) -> None:
    try:
        command = parse(text)
    except ActionError as error:
        assert 10 < len(str(error)) < 300
        str(error).encode()
    else:
        assert isinstance(command, Do | Exit | Go)


@given(
    thought=TEXT.filter(lambda text: "<answer>" not in text), argument=TEXT.filter(lambda text: "</answer>" not in text)
)
@example(thought='do(action="Wait")', argument="<answer>")
@example(thought="go_backward() </answer>", argument="</think>")
def test_a_thought_is_no_part_of_the_action(thought: str, argument: str) -> None:
    for action in (
        show("Type", argument=argument, element="box [7]"),
        f"exit(message={quote(argument)})",
        "go_forward()",
    ):
        assert reason(thought, action) == f"<think>{thought}</think><answer>{action}</answer>"
        assert parse(reason(thought, action)) == parse(action)


def test_a_thought_without_an_action_is_answered() -> None:
    for text in ("<think>home</think>", reason("home", ""), reason("home", "home"), 'x exit(message="1")'):
        assert problem(text) == "an action is one call of do, exit, go_backward or go_forward"


def test_all_actions_of_the_paper_are_there() -> None:
    assert set(ACTIONS) == {
        *("Click", "Right Click", "Type", "Search", "Hover", "Scroll Up", "Scroll Down"),
        *("Press Enter", "Switch Tab", "Select Dropdown Option", "Wait"),
    }
    assert len(ACTIONS) == len(set(ACTIONS)) == 11
