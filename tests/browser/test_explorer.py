"""The explorer in a real browser: the widget in a real JupyterLab, and the page from disk.

E2T_SCREENSHOTS names a folder for pictures of both; E2T_MODELS a folder of trained models to take them with, in place
of the tests' own, which write nonsense.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from e2t_lib import EmbeddingToTextRequest, EmbeddingToTextService
from e2t_lib.explorer import write_page
from e2t_lib.settings import CorrectionSettings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; `make browser` installs one on Debian"),
    pytest.mark.timeout(600),
]

QUIET = ("disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run")
FLAGS = [f"--{flag}" for flag in ("no-sandbox", *QUIET)]
PATIENCE = 90_000  # milliseconds: a kernel loads TensorFlow and torch
FEW = {"num_beams": 2, "proposals": 2, "max_correction_iterations": 2, "max_length": 24}
GOOD = {"num_beams": 4, "proposals": 4, "max_correction_iterations": 3, "max_length": 64}

# From a place on the map to a pixel of the window: Bokeh's own scales know.
TO_PIXEL = """([x, y]) => {
    const { frame, el } = [...Bokeh.index.roots][0]
    const corner = el.getBoundingClientRect()
    return [corner.x + frame.x_scale.compute(x), corner.y + frame.y_scale.compute(y)]
}"""


@pytest.fixture(scope="module")
def models(request):
    """(folder, settings of the correction loop)"""
    folder = os.environ.get("E2T_MODELS")
    return (Path(folder).absolute(), GOOD) if folder else (request.getfixturevalue("trained")[0], FEW)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def window(browser):
    """A page of the browser that records its requests, and what goes wrong in it."""
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    yield page
    page.close()


def picture(page, name):
    if folder := os.environ.get("E2T_SCREENSHOTS"):
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(1, 1)
        page.wait_for_timeout(500)
        page.screenshot(path=Path(folder) / name)


def point_at(page, place):
    """The pointer at a place of the map, moved there as a hand moves it."""
    x, y = page.evaluate(TO_PIXEL, [float(value) for value in place])
    page.mouse.move(x - 15, y - 15)
    page.mouse.move(x, y, steps=3)


def click_at(page, place):
    point_at(page, place)
    page.mouse.down()
    page.mouse.up()


# The page from disk


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
    """(page file, dataset, answers)"""
    service = EmbeddingToTextService(correction=CorrectionSettings(**models[1])).load_trained_model(models[0])
    places = between_documents(service.dataset.coordinates, count=5)
    answers = service.generate_texts([EmbeddingToTextRequest(x=float(x), y=float(y)) for x, y in places])
    path = tmp_path_factory.mktemp("page") / "map.html"
    return write_page(path, service.dataset, answers), service.dataset, answers


def between_documents(coordinates, count):
    """Places half way between a document and its nearest neighbour, far from one another."""
    chosen = [int(coordinates[:, 0].argmin())]
    while len(chosen) < count:
        away = np.linalg.norm(coordinates[:, None] - coordinates[chosen], axis=2).min(axis=1)
        chosen.append(int(away.argmax()))
    nearest = np.linalg.norm(coordinates[chosen, None] - coordinates, axis=2).argsort(axis=1)[:, 1]
    return (coordinates[chosen] + coordinates[nearest]) / 2


@pytest.fixture
def page(window, written):
    window.goto(written[0].as_uri())
    window.locator("#answer h2").wait_for()  # the map is there: it chose the first place
    yield window
    assert [url for url in window.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert window.errors == []


def test_a_document_shows_its_title_on_hover(page, written):
    _, dataset, answers = written
    asked = np.array([[answer.request.x, answer.request.y] for answer in answers])
    away = np.linalg.norm(dataset.coordinates[:, None] - asked, axis=2).min(axis=1)
    document = int(away.argmax())
    point_at(page, dataset.coordinates[document])
    page.locator(".bk-Tooltip", has_text=dataset.titles[document]).wait_for()


def test_a_click_on_a_place_shows_its_text(page, written):
    answer = written[2][2]
    click_at(page, (answer.request.x, answer.request.y))
    playwright.expect(page.locator("#answer")).to_contain_text(f"{answer.confidence:.2f} near 1")
    shown = page.locator("#answer").inner_text()
    assert " ".join(answer.text_generation_result.title.split()) in " ".join(shown.split())
    assert all(document.title in shown for document in answer.nearest_documents)
    playwright.expect(page.locator("nav button").nth(2)).to_have_attribute("aria-pressed", "true")
    picture(page, "page.png")


def test_a_click_elsewhere_says_what_lies_there(page, written):
    _, dataset, _answers = written
    corner = dataset.coordinates.max(axis=0)
    click_at(page, corner)
    nearest = int(np.linalg.norm(dataset.coordinates - corner, axis=1).argmin())
    playwright.expect(page.locator("#answer")).to_contain_text(dataset.titles[nearest])
    page.get_by_role("button", name=re.compile("nearest place")).click()
    playwright.expect(page.locator("#answer")).to_contain_text("Nearest documents")


def test_the_places_are_reached_by_keyboard(page, written):
    buttons = page.locator("nav button")
    assert buttons.count() == len(written[2])
    buttons.first.focus()
    for number in (1, 2, 3):
        page.keyboard.press("Tab")
        playwright.expect(buttons.nth(number)).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(buttons.nth(3)).to_have_attribute("aria-pressed", "true")
    answer = written[2][3]
    playwright.expect(page.locator("#answer")).to_contain_text(f"({answer.request.x:.2f}, {answer.request.y:.2f})")


# The widget in JupyterLab


@pytest.fixture(scope="module")
def lab(models, tmp_path_factory):
    """The address of a JupyterLab with one notebook, explore.ipynb."""
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "work" / "explore.ipynb", *models)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (folder / "labconfig").mkdir()
    (folder / "labconfig" / "page_config.json").write_text(json.dumps(quiet))
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    options = {"ip": "127.0.0.1", "port": "0", "open_browser": "False", "root_dir": str(folder / "work")}
    command = [sys.executable, "-m", "jupyterlab", "--allow-root"]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | dict.fromkeys(own, str(folder)))
        try:
            yield address_of(folder, server)
        finally:
            server.terminate()
            server.wait(30)


def write_notebook(path, folder, settings):
    """Beside it, models/ and data/, as links."""
    options = ", ".join(f"{name}={value}" for name, value in settings.items())
    code = (
        "from e2t_lib import EmbeddingToTextService\n"
        "from e2t_lib.explorer import explore\n"
        "from e2t_lib.settings import CorrectionSettings\n\n"
        f"service = EmbeddingToTextService(CorrectionSettings({options}))\n"
        'service.load_trained_model("models", data_dir="data")\n'
        "x, y = service.dataset.coordinates[3] + 0.01",
        'explore(service, places={"Near the fourth document": (x, y)})',
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    path.parent.mkdir()
    (path.parent / "models").symlink_to(folder)
    (path.parent / "data").symlink_to(data_of(folder))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def data_of(models_folder):
    """The dataset that models were trained on."""
    from e2t_lib.files import resolve
    from e2t_lib.vec2text import Vec2Text

    return resolve(Vec2Text.load(models_folder / "vec2text").trained_on)


def address_of(folder, server):
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and server.poll() is None:
        for file in folder.glob("jpserver-*.json"):
            if text := file.read_text():
                return "{url}doc/tree/explore.ipynb?token={token}".format(**json.loads(text))
        time.sleep(0.2)
    raise AssertionError((folder / "log").read_text())


def finished(page):
    """The answer for the place in the fields, once it is the last word."""
    place = "({:.2f}, {:.2f})".format(*map(float, values(page)))
    page.get_by_role("alert").filter(has_text=f"The text of {place}, written in").wait_for()
    answer = page.locator(".e2t-answer").inner_text()
    assert place in answer
    return answer


@pytest.fixture
def notebook(window, lab):
    """The notebook, run, its widget in sight."""
    window.goto(lab)
    window.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    window.get_by_title("Kernel status: Idle").or_(window.get_by_text("| Idle")).first.wait_for()
    window.get_by_role("menuitem", name="Run", exact=True).click()
    window.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    window.locator(".bk-Figure").wait_for()
    window.locator(".bk-Figure").scroll_into_view_if_needed()
    yield window
    assert [url for url in window.requests if not url.startswith(("http://127.0.0.1", "data:", "blob:"))] == []


def fields(page):
    return [page.get_by_label(name, exact=True) for name in "xy"]


def values(page):
    return [field.input_value() for field in fields(page)]


def moved_from(page, before):
    """Both fields have followed; each has a message of its own."""
    for field, value in zip(fields(page), before, strict=True):
        playwright.expect(field).not_to_have_value(value)


def click_map(page, right, down):
    """A click so many pixels into the figure, which the fields follow."""
    before, box = values(page), page.locator(".bk-Figure").bounding_box()
    page.mouse.click(box["x"] + right, box["y"] + down)
    moved_from(page, before)


def test_the_widget_writes_what_is_asked(notebook):
    click_map(notebook, 250, 200)  # a click on the map ...
    for part in ("landed at", "placement error", "confidence", "correction step", "Nearest documents"):
        assert part in finished(notebook)

    click_map(notebook, 200, 100)  # ... another, and a third while its text is being written
    click_map(notebook, 350, 300)
    finished(notebook)
    picture(notebook, "widget.png")

    x, y = fields(notebook)  # the keyboard alone
    x.press("ControlOrMeta+a")
    notebook.keyboard.type("0.25")
    notebook.keyboard.press("Tab")
    playwright.expect(y).to_be_focused()
    notebook.keyboard.type("-0.5")
    notebook.keyboard.press("Tab")
    playwright.expect(notebook.get_by_role("button", name="Read the text there")).to_be_focused()
    notebook.keyboard.press("Enter")
    notebook.get_by_role("alert").filter(has_text="(0.25, -0.50)").wait_for()
    finished(notebook)

    notebook.get_by_label("places").select_option("Near the fourth document")
    moved_from(notebook, ["0.25", "-0.5"])
    finished(notebook)
