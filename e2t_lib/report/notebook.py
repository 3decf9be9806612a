"""Executed notebooks: as pages that fetch nothing, and what the index takes from them."""

import base64
import copy
import io
import re
from collections.abc import Iterator
from html import escape
from typing import Any

# nbconvert's lab template, without what it would fetch: require.js, MathJax and Mermaid.
OFFLINE_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""


def page(notebook: Any, name: str) -> str:
    """An executed notebook as one HTML file."""
    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)  # their state needs a script from the network
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _links_to_pages(_with_formulas(cell.source))
    exporter = HTMLExporter(template_name="lab", raw_template=OFFLINE_TEMPLATE)
    return exporter.from_notebook_node(notebook, {"metadata": {"name": name}})[0]


def title(notebook: Any) -> str:
    """Its first heading."""
    return next((heading for heading, _ in _under_headings(notebook) if heading), "")


def images(notebook: Any) -> Iterator[tuple[str, bytes]]:
    """(heading it stands under, PNG) of every figure."""
    for heading, cell in _under_headings(notebook):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield heading, base64.b64decode(output["data"]["image/png"])


def seconds_of_cells(notebook: Any) -> Iterator[tuple[float, str]]:
    """(seconds, heading it stands under) of every cell that was executed."""
    for heading, cell in _under_headings(notebook):
        if cell.cell_type == "code" and cell.metadata.papermill.duration is not None:
            yield cell.metadata.papermill.duration, heading


def _under_headings(notebook: Any) -> Iterator[tuple[str, Any]]:
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        yield heading, cell


def _last_heading(source: str) -> str:
    outside_code = re.sub(r"```.*?```", "", source, flags=re.DOTALL)
    found = re.findall(r"^#{1,6} +(.+?) *$", outside_code, flags=re.MULTILINE)
    return found[-1] if found else ""


def _links_to_pages(source: str) -> str:
    return re.sub(r"\]\(([\w.-]+)\.ipynb\)", r"](\1.html)", source)


def _with_formulas(source: str) -> str:
    """LaTeX set by matplotlib, as inline pictures; code is left alone, and so is what mathtext does not know."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", source, flags=re.DOTALL)
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", _formula, parts[number], flags=re.DOTALL)
    return "".join(parts)


def _formula(match: re.Match[str]) -> str:
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    display, inline = match.groups()
    latex = " ".join((display or inline).split())
    known = re.sub(
        r"\\(?:big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])", "", re.sub(r"\\[lr]Vert(?![a-zA-Z])", r"\\Vert ", latex)
    )
    picture = io.BytesIO()
    try:
        depth = math_to_image(f"${known}$", picture, format="svg", dpi=72, prop=FontProperties(size=14))
    except ValueError:
        return match[0]
    code = base64.b64encode(picture.getvalue()).decode()
    style = "display:block;margin:1em auto" if display else f"display:inline;vertical-align:-{depth:.1f}px"
    return f'<img alt="{escape(latex)}" style="{style}" src="data:image/svg+xml;base64,{code}">'
