"""The report of a run: an index and one page a notebook, plain files that need neither server nor network."""

import base64
import copy
import io
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import e2t_lib
from e2t_lib.files import atomic_folder, read_json, write_text
from e2t_lib.settings import Profile, load_profile
from e2t_lib.train import guide_metrics

PACKAGES = ("numpy", "torch", "transformers", "tensorflow", "keras", "sentence-transformers", "umap-learn", "papermill")
LONGEST_LIST = 12  # values of a metric shown in a cell

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 1rem 1.5rem 0; max-width: 100% }
figure img { max-width: 100%; border: 1px solid #eee }
figcaption { color: #555; font-size: .9rem }
a { color: #0b57a4 }
"""

# nbconvert's lab template, without what it would fetch: require.js, MathJax and Mermaid.
OFFLINE_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""


def write_report(run_dir: Path) -> Path:
    """Write `<run_dir>/report/` from what lies in the run's folder, replacing an earlier one.

    Args:
        run_dir: with run.json, notebooks/ and metrics/.

    Returns:
        The index, report/index.html.

    Raises:
        E2TError: the folder cannot be written.
    """
    import nbformat

    record = read_json(run_dir / "run.json")
    names = list(record["stages"])
    notebooks = {name: nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4) for name in names}
    metrics = {path.stem: read_json(path) for path in sorted((run_dir / "metrics").glob("*.json"))}
    with atomic_folder(run_dir / "report") as folder:
        for name, notebook in notebooks.items():
            write_text(folder / f"{name}.html", _page(notebook, name))
        sections = [
            _summary(record),
            _stages(record, notebooks),
            _metrics(metrics),
            _figures(notebooks, folder),
            _settings(record),
        ]
        write_text(folder / "index.html", _document(f"Run {record['run_id']}", "".join(sections)))
    return run_dir / "report" / "index.html"


class Html(str):
    """Text that is HTML already; any other is escaped."""


def _html(value: Any) -> str:
    return value if isinstance(value, Html) else escape("" if value is None else str(value))


def _document(title: str, body: str) -> str:
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"<head>{meta}<title>{escape(title)}</title><style>{STYLE}</style></head>"
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body><h1>{escape(title)}</h1>{body}</body></html>\n'


def _section(title: str, body: str, level: int = 2) -> Html:
    return Html(f"<h{level}>{escape(title)}</h{level}>\n{body}\n")


def _table(rows: list[tuple[Any, ...]], header: tuple[str, ...] = ()) -> Html:
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr>"] if header else []
    for row in rows:
        lines.append("<tr>" + "".join(map(_cell, row)) + "</tr>")
    return Html("<table>\n" + "\n".join(lines) + "\n</table>\n")


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{_number(value)}</td>'
    if isinstance(value, list):
        shown = [_number(item) if isinstance(item, int | float) else str(item) for item in value[:LONGEST_LIST]]
        value = ", ".join(shown) + (f", … ({len(value)} in all)" if len(value) > LONGEST_LIST else "")
    return f"<td>{_html(value)}</td>"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _summary(record: dict[str, Any]) -> str:
    profile = load_profile(record["profile"])
    given = {name: value for stage in record["stages"].values() for name, value in stage["given"].items()}
    seeds = {stage: settings["seed"] for stage, settings in _by_stage(profile) if "seed" in settings}
    seeds |= {name: value for name, value in given.items() if name.endswith("seed")}
    rows = [
        ("profile", record["profile"]),
        ("dataset", record["data_dir"]),
        ("parameters given", ", ".join(f"{name} = {value}" for name, value in given.items()) or "none"),
        ("seeds", ", ".join(f"{name} {value}" for name, value in seeds.items())),
        ("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"),
        ("versions", ", ".join(f"{name} {number}" for name, number in _versions())),
    ]
    return _table(rows)


def _versions() -> Iterator[tuple[str, str]]:
    yield "e2t", e2t_lib.__version__
    yield "Python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _stages(record: dict[str, Any], notebooks: dict[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = []
    for name, notebook in notebooks.items():
        link = Html(f'<a href="{escape(name)}.html">{escape(name)}</a>')
        seconds = notebook.metadata.papermill.duration
        rows.append((link, _heading(notebook), record["stages"][name]["finished"], f"{seconds:.1f} s"))
    total = sum(notebook.metadata.papermill.duration for notebook in notebooks.values())
    rows.append(("", "", "together", f"{total:.1f} s"))
    return _section("Stages", _table(rows, ("notebook", "", "finished", "duration")))


def _metrics(metrics: dict[str, Any]) -> str:
    """The guide's figures first, then everything that the stages wrote, a table for each nested group."""
    first = guide_metrics(metrics)
    parts = [_table(list(first.items()), ("the training guide's metrics", "held out"))] if first else []
    parts += [_section(name, _nested(figures), level=3) for name, figures in metrics.items()]
    return _section("Figures of merit", "".join(parts) or "<p>No stage wrote any.</p>")


def _nested(figures: dict[str, Any]) -> str:
    rows = list(_flat(figures))
    return _table(rows) if rows else Html("<p>none</p>")


def _flat(figures: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of the leaves; a mean with its standard error is one leaf, a list of dicts many."""
    if isinstance(figures, dict) and set(figures) == {"mean", "standard_error"}:
        yield path, f"{_number(figures['mean'])} ± {_number(figures['standard_error'])}"
    elif isinstance(figures, dict):
        for name, value in figures.items():
            yield from _flat(value, f"{path} · {name}" if path else str(name))
    elif isinstance(figures, list) and any(isinstance(item, dict) for item in figures):
        for number, item in enumerate(figures):
            yield from _flat(item, f"{path} {number}")
    else:
        yield path, figures


def _figures(notebooks: dict[str, Any], folder: Path) -> str:
    parts = []
    for name, notebook in notebooks.items():
        for number, (heading, image) in enumerate(_images(notebook), start=1):
            file = folder / "figures" / f"{name}_{number}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(base64.b64decode(image))
            source, caption = f"figures/{file.name}", f"{name}: {heading}"
            picture = f'<img src="{escape(source)}" alt="{escape(caption)}" loading="lazy">'
            parts.append(f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>\n")
    return _section("Figures", "".join(parts)) if parts else ""


def _images(notebook: Any) -> Iterator[tuple[str, str]]:
    """(markdown heading it stands under, base64 PNG) of every figure of an executed notebook."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield heading, output["data"]["image/png"]


def _last_heading(source: str) -> str:
    outside_code = re.sub(r"```.*?```", "", source, flags=re.DOTALL)
    found = re.findall(r"^#{1,6} +(.+?) *$", outside_code, flags=re.MULTILINE)
    return found[-1] if found else ""


def _heading(notebook: Any) -> str:
    headings = (_last_heading(cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((heading for heading in headings if heading), "")


def _settings(record: dict[str, Any]) -> str:
    rows = [
        (stage, name, list(value) if isinstance(value, tuple) else value)
        for stage, settings in _by_stage(load_profile(record["profile"]))
        for name, value in settings.items()
    ]
    note = "<p>Before the parameters given above, which override them.</p>\n"
    return _section(f"Settings of the profile {record['profile']}", note + _table(rows, ("stage", "setting", "value")))


def _by_stage(profile: Profile) -> list[tuple[str, dict[str, Any]]]:
    fields = asdict(profile)
    alone = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    return [*((name, value) for name, value in fields.items() if isinstance(value, dict)), ("profile", alone)]


def _page(notebook: Any, name: str) -> str:
    """An executed notebook as one HTML file that fetches nothing."""
    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)  # their state needs a script from the network
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _links_to_pages(_with_formulas(cell.source))
    exporter = HTMLExporter(template_name="lab", raw_template=OFFLINE_TEMPLATE)
    return exporter.from_notebook_node(notebook, {"metadata": {"name": name}})[0]


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
