"""The explorer without a browser: what the figure, the widget and the page hold."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from e2t_lib import E2TError, EmbeddingToTextRequest, EmbeddingToTextResponse, load_dataset
from e2t_lib.explorer import explore, write_page
from e2t_lib.explorer.answer import answer_html
from e2t_lib.explorer.figure import document_map
from e2t_lib.service import NearbyDocument, TextGenerationResult
from e2t_lib.vec2text.correction import CorrectionStep, Hypothesis

PATIENCE = 20  # seconds


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("data/arxiv_test")


def response_at(x, y, *, text="A title\n\nAnd its content.", step=0, warnings=()):
    trace = tuple(
        CorrectionStep(number, (), Hypothesis(f"Draft {number}", 0.5 + number / 10, 0.0)) for number in range(step + 1)
    )
    return EmbeddingToTextResponse(
        request=EmbeddingToTextRequest(x=x, y=y),
        text_generation_result=TextGenerationResult(text),
        target_embedding=np.ones(4, dtype=np.float32) / 2,
        confidence=0.625,
        landing_coordinates=(x + 0.25, y - 0.25),
        placement_error=1.5,
        distance=0.3,
        iterations=step,
        converged=False,
        trace=trace,
        nearest_documents=(NearbyDocument("one", "The nearest of all", (x, y), 0.125),),
        warnings=warnings,
    )


class Writer:
    """A service that writes a step each time it is let go on."""

    def __init__(self, dataset, steps=2):
        self.dataset, self.steps, self.asked = dataset, steps, []
        self.gate, self.waiting = threading.Semaphore(0), threading.Event()

    def generate_text_steps(self, request, within=None):
        self.within = within
        self.asked.append((request.x, request.y))
        for step in range(self.steps):
            self.waiting.set()
            assert self.gate.acquire(timeout=PATIENCE)
            yield replace(
                response_at(request.x, request.y, text=f"Step {step} at {request.x}", step=step), request=request
            )


@pytest.fixture
def writer(dataset):
    return Writer(dataset)


@pytest.fixture
def open_writer(writer):
    writer.gate = threading.Semaphore(1000)
    return writer


def test_every_document_is_on_the_map_once(dataset):
    plot = document_map(dataset, [("here", (0.0, 0.0))]).figure
    sources = [renderer.data_source for renderer in plot.renderers if renderer.data_source.name == "documents"]
    titles = [title for source in sources for title in source.data["title"]]
    assert sorted(titles) == sorted(dataset.titles)
    x = np.concatenate([source.data["x"] for source in sources])
    np.testing.assert_allclose(np.sort(x), np.sort(dataset.coordinates[:, 0]))


def test_fields_differ_in_colour_and_in_shape():
    documents = load_dataset("data/arxiv_aug_sep")
    plot = document_map(documents, []).figure
    glyphs = [renderer.glyph for renderer in plot.renderers if renderer.data_source.name == "documents"]
    assert len(glyphs) == 9 == len({glyph.fill_color for glyph in glyphs})
    assert len({glyph.marker for glyph in glyphs}) == 8  # the last one is "other", in grey
    assert [item.label.value for item in plot.legend[0].items][-1] == "other"


def test_documents_without_categories_have_no_legend(dataset):
    plot = document_map(replace(dataset, categories=[[] for _ in dataset.titles]), []).figure
    assert not plot.legend


def test_an_answer_says_all_that_is_known_about_it():
    html = answer_html(response_at(1.0, 2.0, step=3, warnings=("off the map",)))
    for part in ("A title", "And its content.", "(1.00, 2.00)", "(1.25, 1.75)", "1.5", "0.62", "The nearest of all"):
        assert part in html
    assert "3 correction steps: cosine 0.50 → 0.80" in html and "Draft 3" in html and "off the map" in html


def test_texts_are_escaped():
    html = answer_html(response_at(0.0, 0.0, text="<script>alert(1)</script>\n<b>bold</b>", warnings=("<i>",)))
    assert "<script" not in html and "<b>" not in html and "<i>" not in html and "&lt;script&gt;" in html


def test_a_question_is_answered_step_by_step(writer):
    explorer = explore(writer, seed=7)
    future = explorer.ask(0.5, -0.25)
    assert "Writing the text of (0.50, -0.25)" in explorer._status.value
    assert explorer._map.asked.data == {"x": [0.5], "y": [-0.25]} and explorer._map.landing.data["x"] == []
    writer.gate.release()
    writer.gate.release()
    future.result(PATIENCE)
    assert "Step 1 at 0.5" in explorer._panel.value and "written in" in explorer._status.value
    assert (explorer._x.value, explorer._y.value) == (0.5, -0.25) and writer.within == 10
    assert explorer._map.landing.data == {"x": [0.5], "y": [-0.25], "landed_x": [0.75], "landed_y": [-0.5]}


def test_a_later_question_supersedes_the_one_before(writer):
    explorer = explore(writer)
    first, second, third = explorer.ask(1, 1), explorer.ask(2, 2), explorer.ask(3, 3)
    for _ in range(3):  # one step of the first, whose text nobody waits for any more; all of the third
        writer.gate.release()
    for future in (first, second, third):
        future.result(PATIENCE)
    assert writer.asked[-1] == (3, 3) and (2, 2) not in writer.asked
    assert "Step 1 at 3" in explorer._panel.value and explorer._map.asked.data["x"] == [3]


def test_nothing_of_a_superseded_text_is_shown(writer):
    explorer = explore(writer)
    first = explorer.ask(1, 1)
    assert writer.waiting.wait(PATIENCE)
    second = explorer.ask(2, 2)
    writer.gate.release()
    first.result(PATIENCE)
    assert explorer._panel.value == "" and "(2.00, 2.00)" in explorer._status.value
    writer.gate.release()
    writer.gate.release()
    second.result(PATIENCE)
    assert writer.asked == [(1, 1), (2, 2)] and "Step 1 at 2" in explorer._panel.value


def test_closing_leaves_what_is_being_written(writer):
    explorer = explore(writer)
    future = explorer.ask(1, 1)
    explorer.close()
    writer.gate.release()
    future.result(PATIENCE)
    assert explorer._panel.value == ""


def test_a_failure_is_shown_and_the_next_question_is_answered(open_writer):
    explorer = explore(open_writer)
    answer, open_writer.generate_text_steps = open_writer.generate_text_steps, None
    with pytest.raises(TypeError):
        explorer.ask(1, 1).result(PATIENCE)
    assert "TypeError" in explorer._status.value
    open_writer.generate_text_steps = answer
    explorer.ask(2, 2).result(PATIENCE)
    assert "Step 1 at 2" in explorer._panel.value


def test_button_and_places_ask_as_a_click_does(open_writer):
    explorer = explore(open_writer, {"a gap": (1.5, 2.5), "another": (3.0, 4.0)})
    explorer._x.value, explorer._y.value = 0.25, 0.75
    explorer._button.click()
    deadline = time.monotonic() + PATIENCE
    while not open_writer.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_writer.asked == [(0.25, 0.75)]
    explorer._choice.value = (1.5, 2.5)
    explorer.ask(3.0, 4.0).result(PATIENCE)
    assert explorer._choice.value == ()
    explorer._choice.value = (3.0, 4.0)
    explorer._worker.submit(int).result(PATIENCE)
    assert open_writer.asked[-1] == (3.0, 4.0) and explorer._choice.value == (3.0, 4.0)
    assert (explorer._x.value, explorer._y.value) == (3.0, 4.0)


@pytest.mark.parametrize("options", [{"method": "magic"}, {"neighbors": 0}, {"colour": "red"}])
def test_unusable_options_are_told_at_once(writer, options):
    with pytest.raises(E2TError):
        explore(writer, **options)


def test_a_service_without_models_says_so():
    from e2t_lib import EmbeddingToTextService

    with pytest.raises(E2TError, match="load_trained_model"):
        explore(EmbeddingToTextService())


def test_the_page_is_one_file_that_asks_for_nothing(dataset, tmp_path):
    answers = [response_at(0.0, 0.5), response_at(1.0, 1.5, text="Second </script><b>text")]
    path = write_page(tmp_path / "deep" / "page.html", dataset, answers, title="Ten & more")
    html = path.read_text()
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", markup)
    assert not re.search(r"<script[^>]*\ssrc=", html) and "<title>Ten &amp; more</title>" in html
    assert markup.count("data-place=") - markup.count("[data-place]") == 2 and 'aria-live="polite"' in markup
    assert "Second &lt;/script&gt;&lt;b&gt;text" in markup and "<b>text" not in html
    assert len(list(path.parent.iterdir())) == 1


def test_a_page_needs_answers(dataset, tmp_path):
    with pytest.raises(E2TError, match="at least"):
        write_page(tmp_path / "page.html", dataset, [])
    assert not (tmp_path / "page.html").exists()
