"""The live widget: click anywhere on the map, and the text that belongs there is written.

    click, or x, y and the button ──▶ ask ──▶ one worker thread ──generate_text_steps──▶ marks and panel, step by step

The kernel stays free while a text is being written. A new question supersedes the old one: the worker leaves it
after the step it is at, and nothing of it is shown any more.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from threading import RLock, Timer
from typing import Any, Protocol

import ipywidgets
from bokeh.events import DoubleTap, Tap
from bokeh.io import output_notebook
from bokeh.resources import Resources
from jupyter_bokeh import BokehModel

from e2t_lib.dataset import Dataset
from e2t_lib.errors import E2TError
from e2t_lib.explorer.answer import STYLE, Point, answer_html, place_text
from e2t_lib.explorer.figure import document_map
from e2t_lib.service import EmbeddingToTextRequest, EmbeddingToTextResponse

DECIMALS = 4  # of a coordinate: what the fields show is exactly what is asked
BOKEH = Resources(mode="inline", components=["bokeh"])  # the JavaScript that the map needs, offline
PATIENCE = 10.0  # seconds that a click may take; a step that would end later is not begun
SETTLING = 0.1  # seconds from the press of the button to the reading of the fields
INVITATION = "Click anywhere on the map, or choose x and y and press the button."


class Explorable(Protocol):
    """What the widget needs of a service."""

    dataset: Dataset

    def generate_text_steps(
        self, request: EmbeddingToTextRequest, within: float | None = None
    ) -> Iterator[EmbeddingToTextResponse]:
        """A response after every correction step; the last one is the answer."""


def explore(
    service: Explorable, places: Mapping[str, Point] | None = None, **request_options: Any
) -> ipywidgets.Widget:
    """The map of a service's documents as a widget; make it the last expression of a cell.

    Args:
        service: with its models loaded.
        places: {name: (x, y)} to suggest: marked on the map, and offered in a drop-down list.
        request_options: fields of `EmbeddingToTextRequest` other than x and y, for every question.

    Raises:
        E2TError: an option is unusable, or no models are loaded.
    """
    if not hasattr(service, "dataset"):
        raise E2TError("no models are loaded; call load_trained_model(models_dir) first")
    output_notebook(BOKEH, hide_banner=True)
    return Explorer(service, places or {}, **request_options)


class Explorer(ipywidgets.VBox):
    """The widget that `explore` returns; `ask` does from code what a click does."""

    def __init__(self, service: Explorable, places: Mapping[str, Point], **request_options: Any):
        self._service, self._options = service, request_options
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explorer")  # models are not shared
        self._turn, self._questions = RLock(), 0
        self._request((0.0, 0.0))  # an unusable option is told now, not at the first click
        suggested = [(name, _asked_for(self._request(place))) for name, place in places.items()]
        self._map = document_map(service.dataset, suggested, width=560, height=540)
        self._x, self._y = ipywidgets.FloatText(description="x"), ipywidgets.FloatText(description="y")
        self._button = ipywidgets.Button(description="Read the text there", button_style="primary")
        self._choice = ipywidgets.Dropdown(description="places", options=[("choose a place", ()), *suggested])
        self._status, self._panel = ipywidgets.HTML(), ipywidgets.HTML()
        self._say(INVITATION)
        for event in (Tap, DoubleTap):  # two quick clicks are one of each, however far apart they are
            self._map.figure.on_event(event, self._tapped)
        self._button.on_click(self._pressed)
        self._choice.observe(self._chosen, "value")
        super().__init__(self._layout(suggesting=bool(suggested)))

    def ask(self, x: float, y: float) -> "Future[None]":
        """Have the text of a place written and shown, whatever is being written.

        Args:
            x, y: in the layout's own units.

        Returns:
            A future that ends with the text, or as soon as a later question supersedes this one.

        Raises:
            E2TError: a coordinate is not finite.
        """
        request = self._request((x, y))
        place = _asked_for(request)
        with self._turn:
            self._questions += 1
            self._x.value, self._y.value = place
            if self._choice.value != place:
                self._choice.value = ()
            self._map.mark(place)
            self._panel.value = ""
            self._say(f"Writing the text of {place_text(place)} …")
            return self._worker.submit(self._write, request, self._questions)

    def close(self) -> None:
        """Leave what is being written, and close the widget."""
        with self._turn:
            self._questions += 1
        self._worker.shutdown(wait=False)
        super().close()

    def _request(self, place: Point) -> EmbeddingToTextRequest:
        x, y = (round(float(value), DECIMALS) for value in place)
        try:
            return EmbeddingToTextRequest(x=x, y=y, **self._options)
        except TypeError as error:
            raise E2TError(f"request options: {error}") from None

    def _tapped(self, tap: Any) -> None:
        if _asked_for(self._request((tap.x, tap.y))) != (self._x.value, self._y.value):  # else a true double click
            self.ask(tap.x, tap.y)

    def _pressed(self, _: Any) -> None:
        """A kernel may be told of the press before the number that was typed just before it."""
        Timer(SETTLING, lambda: self.ask(self._x.value, self._y.value)).start()

    def _chosen(self, change: Any) -> None:
        if change.new:
            self.ask(*change.new)

    def _write(self, request: EmbeddingToTextRequest, question: int) -> None:
        """In the worker thread. A failure is shown, too: nobody looks at the future of a click."""
        start, place = time.perf_counter(), place_text(_asked_for(request))
        if question != self._questions:
            return
        try:
            for response in self._service.generate_text_steps(request, PATIENCE):
                step = response.trace[-1].iteration
                if not self._show(question, f"Step {step} of the text of {place}; refining it …", response):
                    return
            self._show(question, f"The text of {place}, written in {time.perf_counter() - start:.1f} s.")
        except Exception as error:
            self._show(question, str(error) if isinstance(error, E2TError) else f"{type(error).__name__}: {error}")
            raise

    def _show(self, question: int, line: str, response: EmbeddingToTextResponse | None = None) -> bool:
        """Show a line and a response unless the question is superseded; whether it still stands."""
        with self._turn:
            if question != self._questions:
                return False
            if response:
                self._map.mark(_asked_for(response.request), response.landing_coordinates)
                self._panel.value = answer_html(response)
            self._say(line, aloud=response is None)
            return True

    def _say(self, line: str, *, aloud: bool = True) -> None:
        """A line for all to see; a screen reader speaks an alert as it comes."""
        role = ' role="alert"' if aloud else ""
        self._status.value = f"<div{role}>{escape(line)}</div>"

    def _layout(self, *, suggesting: bool) -> list[ipywidgets.Widget]:
        for widget, width in ((self._x, "8rem"), (self._y, "8rem"), (self._button, "11rem"), (self._choice, "20rem")):
            widget.layout.width = width
            widget.style.description_width = "initial"
        controls = [self._x, self._y, self._button, *([self._choice] if suggesting else [])]
        self._panel.layout = ipywidgets.Layout(max_height="34rem", overflow="auto")
        reading = ipywidgets.VBox(
            [self._status, self._panel], layout=ipywidgets.Layout(flex="1 1 18rem", padding="0 1rem")
        )
        wrap = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start", width="100%")
        return [
            ipywidgets.HTML(f"<style>{STYLE}</style>", layout=ipywidgets.Layout(display="none")),
            ipywidgets.HBox(controls, layout=ipywidgets.Layout(flex_flow="row wrap")),
            ipywidgets.HBox([BokehModel(self._map.figure), reading], layout=wrap),
        ]


def _asked_for(request: EmbeddingToTextRequest) -> Point:
    return request.x, request.y
