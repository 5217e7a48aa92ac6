"""Where the remote browsers are said to be, and one line for whatever is wrong with what was said."""

import json
from pathlib import Path

import pytest

from turngym.envs.errors import UsageError
from turngym.envs.web.remote import FOLDER, STATE, VARIABLE, Browser, endpoints, load, save


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and nothing in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def started(*addresses: str) -> tuple[Browser, ...]:
    return tuple(Browser(f"browser-{i}", "process", "77", "/home", a) for i, a in enumerate(addresses))


def wrote(text: str) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / STATE).write_text(text)


def test_the_variable_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    FOLDER.mkdir(parents=True)
    save(FOLDER, started("http://127.0.0.1:9000", "http://127.0.0.1:9001"))
    assert endpoints() == ("http://127.0.0.1:9000", "http://127.0.0.1:9001")
    monkeypatch.setenv(VARIABLE, " ws://far:3000/key?a=b , wss://far.example/,http://[::1]:9222/,")
    assert endpoints() == ("ws://far:3000/key?a=b", "wss://far.example/", "http://[::1]:9222/")
    monkeypatch.setenv(VARIABLE, " ")  # set, but to nothing
    assert len(endpoints()) == 2


@pytest.mark.parametrize("text", [None, '{"browsers": []}'])
def test_none_is_one_line_that_names_the_command(text: str | None) -> None:
    if text:
        wrote(text)
    with pytest.raises(UsageError, match="no remote browsers: start some with: turngym browsers up") as caught:
        endpoints()
    assert "\n" not in str(caught.value) and VARIABLE in str(caught.value)


def test_a_variable_of_commas_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ", ,")
    with pytest.raises(UsageError, match="no remote browsers"):
        endpoints()


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:9222",
        "localhost",
        "ftp://far",
        "http://",
        "http://far:port",
        "http://far:70000",
        "http://far:0",
        "http://far/devtools/browser/1",
        "http://far?a=b",
        "ws://far away",
    ],
)
def test_a_malformed_endpoint_is_one_line(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:9222,{endpoint}")
    with pytest.raises(UsageError, match=f"{VARIABLE} holds .*turngym browsers up") as caught:
        endpoints()
    assert repr(endpoint) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"browsers": 3}', '{"browsers": ["http://a"]}', '{"browsers": [{"name": "a"}]}']
)
def test_a_file_of_something_else_is_one_line(text: str) -> None:
    wrote(text)
    with pytest.raises(UsageError, match="is no readable list of browsers: remove it") as caught:
        endpoints()
    assert str(FOLDER / STATE) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_with_other_types_is_one_line() -> None:
    wrote(json.dumps({"browsers": [{"name": "a", "kind": "process", "id": 7, "home": "", "endpoint": "http://a"}]}))
    with pytest.raises(UsageError, match="is no readable list"):
        endpoints()


def test_a_browser_without_an_endpoint_is_one_line() -> None:
    FOLDER.mkdir(parents=True)
    save(FOLDER, started(""))
    with pytest.raises(UsageError, match="browsers.json holds ''"):
        endpoints()


def test_what_is_saved_is_loaded_and_nothing_leaves_no_file(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") == ()
    browsers = started("http://a:1", "http://a:2")
    save(tmp_path, browsers)
    save(tmp_path, browsers)
    assert load(tmp_path) == browsers
    assert [file.name for file in tmp_path.iterdir()] == [STATE]
    save(tmp_path, ())
    save(tmp_path, ())
    assert load(tmp_path) == () and list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write .*absent.*: No such file or directory"):
        save(tmp_path / "absent", started("http://a:1"))
