"""The page: the same map with texts written beforehand, one file that needs neither server nor network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.events import DocumentReady, DoubleTap, Tap
from bokeh.models import CustomJS
from bokeh.resources import INLINE

from e2t_lib.dataset import Dataset
from e2t_lib.errors import E2TError
from e2t_lib.explorer.answer import STYLE, answer_html, place_text
from e2t_lib.explorer.figure import document_map
from e2t_lib.files import write_text
from e2t_lib.service import EmbeddingToTextResponse

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(
    path: str | Path,
    dataset: Dataset,
    answers: Sequence[EmbeddingToTextResponse],
    title: str = "Point at the map, read the text",
) -> Path:
    """Write the map with the texts of some places as one HTML file, replacing an earlier one atomically.

    Args:
        path: of the file.
        dataset: the documents to show; its titles and coordinates go into the file, its contents do not.
        answers: the places with their texts, in the order of their list.
        title: of the page.

    Returns:
        The path.

    Raises:
        E2TError: there are no answers, or the place cannot be written.
    """
    if not answers:
        raise E2TError("a page without answers has nothing to read; pass one at least")
    path = Path(path)
    write_text(path, _html(dataset, answers, title))
    return path


def _html(dataset: Dataset, answers: Sequence[EmbeddingToTextResponse], title: str) -> str:
    variables = {
        "style": STYLE,
        "documents": f"{len(dataset):,}",
        "answers": [_entry(answer) for answer in answers],
        "marks": [
            {"asked": [answer.request.x, answer.request.y], "landed": list(answer.landing_coordinates)}
            for answer in answers
        ],
    }
    template = get_env().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return file_html(_document(dataset, answers), INLINE, title, template=template, template_variables=variables)


def _entry(answer: EmbeddingToTextResponse) -> dict[str, Any]:
    return {
        "title": answer.text_generation_result.title,
        "place": place_text((answer.request.x, answer.request.y)),
        "html": answer_html(answer),
    }


def _document(dataset: Dataset, answers: Sequence[EmbeddingToTextResponse]) -> Document:
    """The figure, calling the page's own functions `tap` and `choose`."""
    places = [(answer.text_generation_result.title, (answer.request.x, answer.request.y)) for answer in answers]
    plot = document_map(dataset, places).figure
    plot.name = "map"
    for event in (Tap, DoubleTap):  # two quick clicks are one of each, however far apart they are
        plot.js_on_event(event, CustomJS(code="tap([cb_obj.x, cb_obj.y])"))
    document = Document()
    document.add_root(plot)
    document.js_on_event(DocumentReady, CustomJS(code="choose(0)"))
    return document
