"""The site of the notebooks and pages, opened from disk in a real browser: whole, and in need of nothing else."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from browser.test_explorer import CHROMIUM, FLAGS, picture, playwright, pytestmark  # noqa: F401
from e2t_lib.files import project_root
from e2t_lib.pipeline import find_notebooks

ROOT = project_root()
SITE = ROOT / "build" / "docs"
SOURCES = ("docs/**/*", "notebooks/**/*.ipynb", "*.md", "data/base_model/README.md")
BUILD = [sys.executable, "-m", "sphinx", "-q", "-E", "-c", "docs", "-d", "build/doctrees", ".", str(SITE)]
LOCAL = ("file:", "data:", "blob:")

# What a page holds, once its formulas are drawn and its images are there.
LOOK = """async () => {
    if (window.MathJax) await MathJax.startup.promise
    const images = [...document.images]
    for (const image of images) image.loading = "eager"
    await Promise.all(images.map(image => image.decode().catch(() => null)))
    const formulas = [...document.querySelectorAll(".math")]
    const dollars = element => [...element.childNodes].some(node => node.nodeType == 3 && node.data.includes("$"))
    const prose = [...document.querySelectorAll(".bd-article :is(p, li, td)")]
    return {
        blank: images.filter(image => !image.naturalWidth).map(image => image.src),
        images: document.querySelectorAll(".bd-article img").length,
        formulas: formulas.length,
        undrawn: [
            ...formulas.filter(one => !one.querySelector("svg") || one.querySelector("[data-mml-node=merror]")),
            ...prose.filter(dollars),  // Markdown has torn it, as a | does in a table
        ].map(one => one.textContent),
        links: [...document.links].map(link => link.href.split("#")[0].split("?")[0]),
    }
}"""


@dataclass
class Seen:
    """What happened while a page was open, and what it held."""

    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    held: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def site():
    """Its folder; built, where it is older than what it is made of."""
    newest = max(path.stat().st_mtime for pattern in SOURCES for path in ROOT.glob(pattern))
    built = SITE / "searchindex.js"  # the last file that a build writes
    if not built.exists() or built.stat().st_mtime < newest:
        subprocess.run(BUILD, cwd=ROOT, check=True)
    return SITE


@pytest.fixture(scope="module")
def window():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1360, "height": 900})
        yield page
        chromium.close()


@pytest.fixture(scope="module")
def pages(site, window):
    """{page: Seen}, of every page but the one that only leads to the first."""
    seen = {}
    window.on("request", lambda request: now.requests.append(request.url))
    window.on("requestfailed", lambda request: now.failed.append(request.url))
    window.on("pageerror", lambda error: now.errors.append(str(error)))
    window.on("console", lambda message: now.errors.append(message.text) if message.type == "error" else None)
    for path in sorted(site.rglob("*.html")):
        if path != site / "index.html" and "_static" not in path.parts:
            now = seen[str(path.relative_to(site))] = Seen()
            window.goto(path.as_uri())
            now.held = window.evaluate(LOOK)
            picture(window, f"site-{path.stem}.png")
    return seen


def test_every_notebook_and_page_is_there(pages):
    sources = [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.glob("notebooks/**/[0-9]*.ipynb")]
    wanted = {str(path.relative_to(ROOT).with_suffix(".html")) for path in sources}
    assert wanted - pages.keys() == set()


def test_no_page_asks_for_what_is_not_on_the_disk(pages):
    assert {name: seen.failed for name, seen in pages.items() if seen.failed} == {}
    assert [url for seen in pages.values() for url in seen.requests if not url.startswith(LOCAL)] == []


def test_no_page_has_an_error(pages):
    assert {name: seen.errors for name, seen in pages.items() if seen.errors} == {}


def test_every_image_is_seen(pages):
    assert {name: seen.held["blank"] for name, seen in pages.items() if seen.held["blank"]} == {}
    assert all(pages[f"notebooks/{path.stem}.html"].held["images"] for path in find_notebooks())


def test_every_formula_is_drawn(pages):
    assert {name: seen.held["undrawn"] for name, seen in pages.items() if seen.held["undrawn"]} == {}
    assert all(pages[f"notebooks/{path.stem}.html"].held["formulas"] for path in find_notebooks()[:4])


def test_every_link_to_the_disk_leads_somewhere(pages):
    links = {link for seen in pages.values() for link in seen.held["links"] if link.startswith("file:")}
    there = {path.as_uri() for path in SITE.rglob("*")} | {SITE.as_uri()}
    assert {link.rstrip("/") for link in links} - there == set()


def test_one_goes_from_page_to_page(site, pages, window):
    window.goto((site / "index.html").as_uri())
    window.wait_for_url((site / "docs" / "index.html").as_uri())
    walked = []
    while (onwards := window.locator("a.right-next")).count():
        before = window.url
        onwards.click()
        window.wait_for_url(lambda url, before=before: url != before)
        walked.append(window.url)
        assert window.locator("a.left-prev").evaluate("link => link.href") == before
    notebooks = [(site / "notebooks" / f"{path.stem}.html").as_uri() for path in find_notebooks()]
    assert [url for url in walked if url in notebooks] == notebooks
    apart = {"docs/index.html", "genindex.html", "search.html"}
    assert {(site / name).as_uri() for name in pages.keys() - apart} == set(walked)


def test_words_are_found(site, window):
    window.goto((site / "search.html").as_uri() + "?q=confidence")
    window.locator("#search-results a", has_text="Reading the figures").first.wait_for()
