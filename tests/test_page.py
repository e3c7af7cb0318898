"""The report's page in a real browser: whole by itself, readable on a phone, in the dark, and by those who listen."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.report import __main__ as report
from tests.browser import Browser, chromium
from tests.project import Project

HOSTILE = "<script>document.title = 'broken'</script><img src='https://example.org/x.png'>" + "long" * 60

CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = colour => {
    const linear = part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
    const [r, g, b] = rgba(colour).map(part => linear(part / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = node => {
    while (node && rgba(getComputedStyle(node).backgroundColor)[3] === 0) node = node.parentElement;
    return getComputedStyle(node || document.body).backgroundColor;
  };
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('title')) continue;
    const ink = node.closest('svg') ? getComputedStyle(node).fill : getComputedStyle(node).color;
    const [low, high] = [light(ink), light(behind(node))].sort((a, b) => a - b);
    const ratio = (high + .05) / (low + .05);
    if (ratio < 4.5) faint.add(`${node.className || node.tagName} ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()
"""
"""Texts whose contrast to what is behind them is under 4.5 (WCAG 2.2, criterion 1.4.3)."""

WIDE = """
[...document.querySelectorAll('body *')].filter(node => !node.closest('.scroll, svg svg')
  && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.className || node.tagName)
"""


HIDDEN = """
[...document.querySelectorAll('svg')].filter(node => !node.parentElement.closest('svg')
  && !node.closest('[aria-hidden]') && !(node.getAttribute('role') === 'img' && node.getAttribute('aria-label'))).length
"""

HEADINGS = "[...document.querySelectorAll('h1, h2, h3')].map(node => Number(node.tagName[1]))"


@pytest.fixture(scope="module")
def written(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the small project, in which every generated answer would harm a page that believed it."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        project.enter(patch)
        results = Path(shutil.copytree("reports/evaluate", folder / "evaluate"))
        samples = results / "tuned/inference/samples.jsonl"
        rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
        samples.write_text("".join(json.dumps(row | {"answer": HOSTILE}) + "\n" for row in rows), encoding="utf-8")
        report.run(results=results, out=folder / "report")
    return folder / "report/report.html"


def test_the_page_names_no_address(written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|iframe|img|object)|@import|url\(|(?:src|href)=.(?!#)", page)


@pytest.fixture(scope="module")
def opened(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.look(1280)
        browser.open(written)
        browser.ask("document.querySelectorAll('details').forEach(node => { node.open = true })")
        yield browser


@pytest.mark.browser
def test_the_page_needs_nothing_beside_it_and_complains_of_nothing(opened: Browser, written: Path) -> None:
    asked = [event["request"]["url"] for event in opened.told("Network.requestWillBeSent")]
    assert asked == [written.as_uri()]
    assert opened.told("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    assert opened.ask("document.title").endswith(": base against tuned")


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(opened: Browser, width: int) -> None:
    opened.look(width)
    assert opened.ask("document.documentElement.scrollWidth") == opened.ask("innerWidth") == width
    assert opened.ask(WIDE) == []


@pytest.mark.browser
def test_on_paper_nothing_is_cut_off(opened: Browser) -> None:
    opened.look(794)  # A4 at 96 dots an inch
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert opened.ask("document.documentElement.scrollWidth") == 794
    assert opened.ask("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(opened: Browser, scheme: str) -> None:
    opened.look(1280, scheme)
    assert opened.ask(CONTRAST) == []


@pytest.mark.browser
def test_the_dark_is_dark(opened: Browser) -> None:
    opened.look(1280, "dark")
    dark = opened.ask("getComputedStyle(document.body).backgroundColor")
    opened.look(1280, "light")
    assert dark == "rgb(20, 23, 26)" != opened.ask("getComputedStyle(document.body).backgroundColor")


@pytest.mark.browser
def test_pictures_have_words_and_headings_an_order(opened: Browser) -> None:
    levels = opened.ask(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert opened.ask(HIDDEN) == 0
