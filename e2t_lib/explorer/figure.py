"""The map of documents as an interactive Bokeh figure, which both the widget and the page show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Legend, LegendItem
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from e2t_lib.dataset import Dataset
from e2t_lib.explorer.answer import Point
from e2t_lib.plots import ACCENT, FAINT, INK, fields_of

# Paul Tol's "muted" scheme, told apart with any colour vision; fields differ by shape, too.
LOOKS = (
    ("#332288", "circle"),
    ("#cc6677", "square"),
    ("#117733", "triangle"),
    ("#ddaa33", "diamond"),
    ("#88ccee", "inverted_triangle"),
    ("#aa4499", "hex"),
    ("#44aa99", "square_pin"),
    ("#882255", "star"),
)
OTHER = ("#a5adb5", "circle")

NO_LANDING: dict[str, list[float]] = {"x": [], "y": [], "landed_x": [], "landed_y": []}

TOOLTIP = """<div style="max-width: 22rem; white-space: normal; font: 13px/1.4 system-ui, sans-serif">
@title <span style="color: #68737d">$name</span></div>"""


@dataclass(frozen=True)
class Map:
    """The figure, and the two sources that mark an answer on it.

    Attributes:
        figure: documents below, marks above; its `Tap` events tell x and y anywhere.
        asked: columns x, y: the place asked for.
        landing: columns x, y, landed_x, landed_y: from there to where the text lands.
    """

    figure: figure
    asked: ColumnDataSource
    landing: ColumnDataSource

    def mark(self, place: Point, landed: Point | None = None) -> None:
        """Show the place asked for, and where its text lands if that is known."""
        x, y = place
        self.asked.data = {"x": [x], "y": [y]}
        ends = {"x": [x], "y": [y], "landed_x": [landed[0]], "landed_y": [landed[1]]} if landed else NO_LANDING
        self.landing.data = ends


def document_map(dataset: Dataset, places: Sequence[tuple[str, Point]], *, width: int = 640, height: int = 600) -> Map:
    """All documents at their coordinates, told apart by field, with marked places.

    Args:
        dataset: its titles are shown on hover; its categories, where it has any, are the fields.
        places: (title, (x, y)) to mark with rings, numbered from 1.
        width, height: of the figure, in pixels.
    """
    plot = figure(
        width=width,
        height=height,
        match_aspect=True,
        output_backend="canvas",  # 50,000 documents are fluid on it; WebGL is ten times slower where there is no GPU
        tools="pan,wheel_zoom,box_zoom,reset",
        active_scroll="wheel_zoom",
        toolbar_location="right",
    )
    _calm(plot)
    documents = _documents(plot, dataset)
    asked, landing = _marks(plot)
    rings = _places(plot, places)
    plot.add_tools(HoverTool(renderers=[*documents.values(), rings], tooltips=TOOLTIP, limit=1))
    _legend(plot, documents)
    return Map(plot, asked, landing)


def _calm(plot: Any) -> None:
    """Nothing louder than the documents."""
    plot.toolbar.logo = None
    plot.grid.visible = False
    plot.outline_line_color = None
    plot.xaxis.axis_label, plot.yaxis.axis_label = "x", "y"
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = FAINT
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = plot.axis.axis_label_text_color = INK


def _documents(plot: Any, dataset: Dataset) -> dict[str, GlyphRenderer]:
    """{field: its documents}, the commonest first."""
    known = any(dataset.categories)
    fields = np.array(fields_of(dataset.categories, keep=len(LOOKS)) if known else ["document"] * len(dataset))
    titles = np.array(dataset.titles, dtype=object)
    names = sorted(Counter(fields.tolist()), key=lambda name: (name == "other", -(fields == name).sum()))
    size = float(np.clip(220 / np.sqrt(len(dataset)), 3.5, 11))
    renderers = {}
    for name, (colour, shape) in zip(names, (*LOOKS, OTHER), strict=False):
        colour, shape = OTHER if name == "other" else (colour, shape)
        x, y = dataset.coordinates[fields == name].astype(np.float32).T
        columns = {"x": x.copy(), "y": y.copy(), "title": titles[fields == name].tolist()}
        renderers[name] = plot.scatter(
            "x",
            "y",
            source=ColumnDataSource(columns, name="documents", tags=[name]),
            name=name,
            marker=shape,
            size=size,
            fill_color=colour,
            fill_alpha=0.75,
            line_color=None,
            muted_alpha=0.08,
        )
    return renderers


def _places(plot: Any, places: Sequence[tuple[str, Point]]) -> GlyphRenderer:
    source = ColumnDataSource(
        {
            "x": [point[0] for _, point in places],
            "y": [point[1] for _, point in places],
            "title": [title for title, _ in places],
            "number": [str(number) for number in range(1, len(places) + 1)],
        }
    )
    rings = plot.scatter(
        "x", "y", source=source, name="a place", size=19, fill_color="white", line_color=INK, line_width=1.5
    )
    plot.text(
        "x",
        "y",
        "number",
        source=source,
        text_align="center",
        text_baseline="middle",
        text_font_size="11px",
        text_font_style="bold",
        text_color=INK,
    )
    return rings


def _marks(plot: Any) -> tuple[ColumnDataSource, ColumnDataSource]:
    """`Map.asked` and `Map.landing`; white halos keep them in sight on any colour."""
    asked = ColumnDataSource({"x": [], "y": []}, name="asked")
    landing = ColumnDataSource(NO_LANDING, name="landing")
    for colour, size, ring, line in (("white", 31, 5, 6), (INK, 28, 2.5, 2)):
        plot.segment("x", "y", "landed_x", "landed_y", source=landing, line_color=colour, line_width=line)
        plot.scatter("x", "y", source=asked, size=size, fill_color=None, line_color=colour, line_width=ring)
    dot = plot.scatter("landed_x", "landed_y", source=landing, size=12, fill_color=ACCENT, line_color="white")
    dot.level = "overlay"  # above the rings and their numbers: most texts land close by
    return asked, landing


def _legend(plot: Any, documents: Mapping[str, GlyphRenderer]) -> None:
    """Below the map; a click on a field fades its documents."""
    if len(documents) < 2:
        return
    items = [LegendItem(label=name, renderers=[renderer]) for name, renderer in documents.items()]
    legend = Legend(items=items, orientation="horizontal", location="center", ncols=5, click_policy="mute")
    legend.update(border_line_color=None, padding=2, margin=4, spacing=4, glyph_width=16, glyph_height=16)
    legend.update(label_text_color=INK, label_text_font_size="12px")
    plot.add_layout(legend, "below")
