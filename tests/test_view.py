"""The replay is one file, shows what it was given, and runs nothing that it was shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from turngym.envs.errors import UsageError
from turngym.envs.web.chromium import find, flags
from turngym.trainers.view import Episode, Step, write

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
EVIL = "</script><img src=x onerror=\"document.title='broken'\"> <b>{{data}}"
EPISODES = [
    Episode("buy a mug", "buy", 2, True, [Step("page one", "do 1", PNG), Step("page two", "", PNG)]),
    Episode(EVIL, EVIL, 1, False, [Step(EVIL, EVIL, None)]),
    Episode("nothing happened", "none", 1, False, []),
]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view") / "deep" / "index.html"
    write(path, f"Run {EVIL}", EPISODES)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=find(), args=flags()) as browser:
            yield browser


@pytest.fixture
def page(browser: Browser, replay: Path) -> Iterator[Page]:
    with browser.new_page() as page:
        problems = list[str]()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(replay.as_uri())
        yield page
        assert not problems


def test_episodes_are_stepped_through_by_keys(page: Page) -> None:
    assert page.text_content("#sum") == "1 of 3 solved"
    assert [page.text_content(f"#{id}") for id in ("goal", "seen", "did", "count")] == [
        "buy a mug",
        "page one",
        "do 1",
        "1 of 2",
    ]
    assert page.evaluate("document.querySelector('#picture img').naturalWidth") == 1
    page.keyboard.press("ArrowRight")
    assert (page.text_content("#seen"), page.text_content("#did")) == ("page two", "the end")
    page.keyboard.press("ArrowRight")  # stays at the end
    assert page.text_content("#count") == "2 of 2"
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#count") == "1 of 2"


def test_playing_goes_on_by_itself(page: Page) -> None:
    page.select_option("#speed", "500")
    page.click("#play")
    expect(page.locator("#count")).to_have_text("2 of 2")
    expect(page.locator("#play")).to_have_text("play")


def test_the_list_is_filtered(page: Page) -> None:
    page.select_option("#filter", "failed")
    assert page.locator("#list button").count() == 2
    assert page.text_content("#goal") == EVIL
    page.select_option("#filter", "solved")
    assert page.locator("#list button").count() == 1


def test_untrusted_text_stays_text(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    assert [page.text_content(f"#{id}") for id in ("goal", "seen", "did")] == [EVIL] * 3
    assert page.text_content("#picture") == "no picture of this turn"
    assert page.title() == f"Run {EVIL}"
    assert page.locator("img, b img").count() == 0


def test_an_episode_without_turns_is_shown(page: Page) -> None:
    page.locator("#list button").nth(2).click()
    assert page.text_content("#count") == "no turns"


def test_a_picture_is_stored_once_and_nothing_is_loaded(replay: Path) -> None:
    text = replay.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert len(data["pictures"]) == 1
    assert [step[2] for step in data["episodes"][0]["steps"]] == [0, 0]
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", text)


def test_a_jpeg_is_called_one(tmp_path: Path) -> None:
    write(tmp_path / "a.html", "", [Episode("g", "t", 1, True, [Step("", "", b"\xff\xd8\xff")])])
    assert "data:image/jpeg;base64,/9j/" in (tmp_path / "a.html").read_text()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write(tmp_path / "file" / "a.html", "", [])
