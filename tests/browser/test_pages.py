"""The pages in a real browser: pointer, keyboard, names for screen readers, colours, widths, hostile text."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from chromium import PROGRAM, Chromium, started
from predicted_runs import CORPUS, EVIL, ROWS, make_example

from backattn.corpus.spans import predicted_spans
from backattn.report.inspection import Inspection
from backattn.report.sentence_list import inspect
from backattn.report.sentence_page import sentence_page
from backattn.report.tables import make_report
from fakes import make_recipe

pytestmark = pytest.mark.slow

CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")
SHIFT = 8
LIT = "Array.from(document.querySelectorAll('{} .lit'), node => node.textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One tab of a real browser."""
    if PROGRAM is None:
        pytest.skip("no Chromium: `apt-get install chromium`, as .ci/run does where it is root with CI=true")
    with started(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the pages of a report, of a list, and of its five sentences."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKATTN_CACHE", str(cache))
        patch.chdir(cache)
        recipe = make_recipe()
        make_example(recipe, cache)
        make_report(["toy"], cache)
        inspect(recipe, CORPUS, [], None, cache)
        make_report(["toy"], cache)
        yield cache / "toy" / "report"


def page(folder: Path, name: str) -> Path:
    """The page of a sentence of :data:`ROWS`."""
    sentence = CORPUS.test[list(ROWS).index(name)]
    return folder / f"sentence-{sentence.key.hex()[:8]}.html"


def cell(row: int, column: int) -> str:
    """A cell of A; the first row and the first column hold the tokens."""
    return f".attention tr:nth-of-type({row}) > :nth-child({column + 1})" if row else (
        f".attention thead th:nth-child({column + 1})"
    )  # fmt: skip


def test_hostile_tokens_stay_text(browser: Chromium, folder: Path) -> None:
    """No dialog opens (the browser's driver raises), nothing is asked of anywhere, the text is all there."""
    pages = sorted(folder.glob("*.html"))
    assert len(pages) == 7
    for path in pages:
        browser.open(path)
        asked = [
            event["request"]["url"] for name, event in browser.events if name == "Network.requestWillBeSent"
        ]
        assert asked == [path.as_uri()]
        assert not [
            event for name, event in browser.events if name in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        assert browser.value("document.images.length") == 0
    for path in (page(folder, "wrong"), folder / "sentences.html"):
        browser.open(path)
        assert EVIL in browser.value("document.body.textContent")


def test_the_policy_stops_what_would_be_injected(browser: Chromium, folder: Path, tmp_path: Path) -> None:
    """Were a token not escaped, the page still would neither run it nor ask for anything."""
    inside = '<img src="http://192.0.2.1/x" onerror="document.title=1"/><script>document.title = 2</script>'
    for path in (page(folder, "mended"), folder / "sentences.html", folder / "report.html"):
        text = path.read_text("utf-8")
        (tmp_path / path.name).write_text(text.replace("</h1>", f"</h1>{inside}", 1), "utf-8")
        browser.open(tmp_path / path.name)
        assert browser.value("document.images.length") == 1
        assert browser.value("document.title") not in ("1", "2")
        failed = [event["blockedReason"] for name, event in browser.events if name == "Network.loadingFailed"]
        assert failed == ["csp"]


def test_the_pointer_lights_up_row_column_and_both_texts(browser: Chromium, folder: Path) -> None:
    browser.open(page(folder, "mended"))
    browser.point(cell(2, 1))
    source, english = "<b>", "anA"
    assert browser.value(LIT.format("thead")) == [english]
    assert browser.value(LIT.format("tbody tr:nth-child(2) th").replace(" .lit", ".lit")) == [source]
    # Gold, the base and +BAN, then English.
    assert browser.value(LIT.format(".tokens")) == [source, source, source, english]
    rows, columns = 4, 3  # with the sentence's end
    assert browser.value("document.querySelectorAll('.attention td.lit').length") == rows + columns - 1
    value = browser.value(f"document.querySelector({cell(2, 1)!r}).textContent")
    assert browser.value("document.querySelector('.readout').textContent") == f"{source} ← {english}: {value}"
    browser.point(".tokens [data-c='2']")
    assert browser.value("document.querySelectorAll('.attention td.lit').length") == rows
    assert browser.value(LIT.format("thead")) == ["oiR"]
    browser.point("h1")
    assert browser.value("document.querySelectorAll('.lit').length") == 0


def test_the_keyboard_reaches_every_cell(browser: Chromium, folder: Path) -> None:
    browser.open(page(folder, "mended"))
    place = "[document.activeElement.parentNode.rowIndex, document.activeElement.cellIndex]"
    for _ in range(10):
        browser.press("Tab")
        if browser.value("document.activeElement.closest('.attention') !== null"):
            break
    assert browser.value(place) == [1, 1]
    steps = [
        ("ArrowRight", [1, 2]), ("ArrowDown", [2, 2]), ("ArrowLeft", [2, 1]), ("ArrowLeft", [2, 0]),
        ("ArrowLeft", [2, 0]), ("ArrowUp", [1, 0]), ("ArrowUp", [1, 0]), ("End", [1, 3]),
        ("ArrowRight", [1, 3]), ("ArrowUp", [0, 3]), ("ArrowUp", [0, 3]), ("Home", [0, 3]),
        ("ArrowDown", [1, 3]),
    ]  # fmt: skip
    for key, expected in steps:
        browser.press(key)
        assert browser.value(place) == expected, key
    browser.press("End", modifiers=2)
    assert browser.value(place) == [4, 3]
    browser.press("Home", modifiers=2)
    assert browser.value(place) == [1, 1]
    assert browser.value(LIT.format(".tokens")) == ["Ana", "Ana", "Ana", "anA"]
    browser.press("ArrowLeft")
    assert browser.value(LIT.format(".tokens")) == ["Ana", "Ana", "Ana"]
    # One stop: the next Tab leaves the table, and coming back it is where it was.
    browser.press("Tab")
    assert not browser.value("document.querySelector('.attention').contains(document.activeElement)")
    browser.press("Tab", modifiers=SHIFT)
    assert browser.value(place) == [1, 0]


def test_screen_readers_are_told_what_is_what(browser: Chromium, folder: Path) -> None:
    browser.open(page(folder, "mended"))
    found = browser.accessible()
    assert ("grid", "Attention A") in found
    assert [name for role, name in found if role == "columnheader"] == ["anA", "oiR", "</s>"]
    assert [name for role, name in found if role == "rowheader"] == [
        "Ana S-PER ≠ O", "<b>", "Rio S-LOC ≠ S-ORG", "</s>",
    ]  # fmt: skip
    assert len([1 for role, _ in found if role == "gridcell"]) == 4 * 3 + 1  # and the corner
    assert {("navigation", "Sentences"), ("link", "All sentences"), ("main", "")} <= set(found)

    browser.open(folder / "sentences.html")
    found = browser.accessible()
    assert {("group", "Only sentences with an entity of type"), ("radio", "any"), ("radio", "LOC"),
            ("navigation", "Kinds of sentences"), ("region", "Mended by T")} <= set(found)  # fmt: skip

    browser.open(folder / "report.html")
    found = browser.accessible()
    assert ("link", "Sentences that T mends, breaks or changes") in found
    for title in ("Test F1", "Errors on test by kind (mean over the seeds)"):
        assert {("region", title), ("table", title)} <= set(found)
    for path in folder.glob("*.html"):
        browser.open(path)
        roles = ("link", "radio", "table", "grid", "region", "image", "navigation", "heading")
        assert not [role for role, name in browser.accessible() if role in roles and not name]
        levels = browser.value(
            "Array.from(document.querySelectorAll('h1,h2,h3,h4'), h => Number(h.tagName[1]))"
        )
        assert levels[0] == 1
        assert all(after - before < 2 for before, after in pairwise(levels))


def test_the_filter_leaves_sentences_of_one_type(browser: Chromium, folder: Path) -> None:
    """By the keyboard, without a script."""
    browser.open(folder / "sentences.html", script=False)
    browser.value("document.querySelector('#type-0').focus()")
    shown = ("Array.from(document.querySelectorAll('li.sentence')).filter(li => li.checkVisibility())"
             ".map(li => li.querySelector('a').textContent)")  # fmt: skip
    for name in ("LOC", "ORG", "PER"):
        browser.press(" ") if name == "LOC" else browser.press("ArrowDown")
        assert browser.value("document.querySelector(':checked').parentNode.textContent").strip() == name
        expected = {
            f"test:{number}"
            for number, row in enumerate(ROWS.values(), 1)
            if any(span.type == name for tags in row[1:] for span in predicted_spans(tags.split()))
        }
        assert set(browser.value(shown)) == expected


def test_pages_are_read_without_a_script(browser: Chromium, folder: Path) -> None:
    browser.open(page(folder, "mended"), script=False)
    found = browser.accessible()
    assert ("table", "Attention A") in found
    assert not any(role == "grid" for role, _ in found)
    text = browser.value("document.body.innerText")
    assert "BiLSTM+CRF+BAN (words+transfer" in text
    assert "arrow keys" not in text
    browser.open(folder / "sentences.html", script=False)
    ends = browser.value("Array.from(document.links, a => a.getAttribute('href'))")
    for end in ends:
        if end.startswith("#"):
            assert browser.value(f"document.querySelector({end!r}) !== null")
        else:
            assert (folder / end).is_file()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_and_are_legible(browser: Chromium, folder: Path, dark: bool) -> None:
    """On a wide screen and on a phone nothing but tables scrolls sideways; every text has its contrast."""
    for path in [
        folder / "report.html",
        folder / "sentences.html",
        page(folder, "wrong"),
        page(folder, "mended"),
    ]:
        for width in (1200, 360):
            browser.open(path, width=width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width, path
            browser.value("document.querySelectorAll('details').forEach(part => { part.open = true; })")
            assert browser.value(CONTRAST) == [], path
            assert browser.value("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_shade_of_a_is_legible(browser: Chromium, folder: Path, tmp_path: Path, dark: bool) -> None:
    attention = np.linspace(0, 1, 36, dtype=np.float32).reshape(6, 6)
    sentence, recipe = CORPUS.test[2], make_recipe()
    tokens = (*sentence.tokens, "x" * 80, "y")
    shown = Inspection(
        "toy", type(sentence)(tokens, ("S-LOC",) * 5), ("test:1",), " ", tokens, ("S-PER",) * 5, attention,
        recipe.transfer, (), (),
    )  # fmt: skip
    (tmp_path / "shades.html").write_text(sentence_page(shown), "utf-8")
    browser.open(tmp_path / "shades.html", width=360, dark=dark)
    levels = browser.value("Array.from(document.querySelectorAll('[class^=\"a\"]'), cell => cell.className)")
    assert set(levels) >= {f"a{level}" for level in range(1, 11)}
    assert browser.value(CONTRAST) == []
    browser.point(cell(3, 3))
    assert browser.value(CONTRAST) == []
    assert browser.value("document.documentElement.scrollWidth") <= 360
