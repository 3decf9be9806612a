"""An answer as HTML, which both the widget and the page show."""

from html import escape

from e2t_lib.plots import ACCENT
from e2t_lib.service import EmbeddingToTextResponse

Point = tuple[float, float]

# Colours come from where it is shown: JupyterLab has dark themes. It also has rules of its own for dt and dd.
STYLE = """
.e2t-answer { font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
.e2t-answer h2 { font-size: 1.2em; line-height: 1.3; margin: 0 0 .5em }
.e2t-answer h3 { font-size: .95em; margin: 1.2em 0 .3em }
.e2t-answer p { margin: 0 0 .8em }
.e2t-answer dl { display: grid; grid-template-columns: max-content 1fr; gap: .15em 1em; margin: 1em 0; font-size: .9em }
.e2t-answer dt, .e2t-answer dd { all: unset; font-variant-numeric: tabular-nums }
.e2t-answer dt { opacity: .75 }
.e2t-answer ol { margin: 0; padding-left: 1.6em; font-size: .9em }
.e2t-answer li { margin-bottom: .25em }
.e2t-answer summary { cursor: pointer; font-size: .9em }
.e2t-answer details ol { margin-top: .5em }
.e2t-answer small { opacity: .75; white-space: nowrap }
.e2t-answer .e2t-warning { border-left: 4px solid #d08700; padding-left: .7em }
"""
DOT = f'<span style="color: {ACCENT}">●</span>'


def place_text(place: Point) -> str:
    """(x, y), as precise as a reader needs it."""
    return f"({place[0]:z.2f}, {place[1]:z.2f})"


def answer_html(response: EmbeddingToTextResponse) -> str:
    """The text with all that is known about it; every text in it is escaped."""
    result = response.text_generation_result
    paragraphs = [f"<p>{escape(line)}</p>" for line in result.content.splitlines() if line.strip()]
    warnings = [f'<p class="e2t-warning"><strong>Warning:</strong> {escape(line)}</p>' for line in response.warnings]
    parts = [
        f"<h2>{escape(result.title)}</h2>",
        *paragraphs,
        *warnings,
        _figures(response),
        _trace(response),
        _nearest(response),
    ]
    return f'<article class="e2t-answer">{"".join(parts)}</article>'


def _figures(response: EmbeddingToTextResponse) -> str:
    request = response.request
    rows = {
        "asked for": f"{place_text((request.x, request.y))} <small>the ring</small>",
        "landed at": f"{place_text(response.landing_coordinates)} <small>the dot</small> {DOT}",
        "placement error": f"{response.placement_error:.1f} <small>distances between neighbours</small>",
        "confidence": f"{response.confidence:.2f} <small>near 1 where the documents around agree</small>",
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in rows.items())}</dl>"


def _trace(response: EmbeddingToTextResponse) -> str:
    """Every step folded away, its summary in sight."""
    trace = response.trace
    end = "within the tolerance" if response.converged else "short of the tolerance"
    count = trace[-1].iteration
    summary = (
        f"{count} correction step{'s' * (count != 1)}: cosine {trace[0].best.cosine:.2f} → {trace[-1].best.cosine:.2f}"
    )
    steps = "".join(f"<li>{step.best.cosine:.2f} <em>{escape(step.best.text)}</em></li>" for step in trace)
    return f'<details><summary>{summary}, {end}</summary><ol start="0">{steps}</ol></details>'


def _nearest(response: EmbeddingToTextResponse) -> str:
    rows = "".join(
        f"<li>{escape(document.title)} <small>at {document.distance:.3f}</small></li>"
        for document in response.nearest_documents
    )
    return f"<h3>Nearest documents</h3><ol>{rows}</ol>"
