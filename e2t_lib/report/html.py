"""HTML by hand: the page, its style, sections, tables."""

from collections.abc import Iterable
from html import escape
from typing import Any

LONGEST_LIST = 12  # values of a metric shown in a cell

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem }
a { color: #0b57a4 }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
.wide th, .wide td { min-width: 4.5rem }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.note { color: #555; font-size: .85rem }
.comparisons { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem }
.comparisons article { border: 1px solid #ddd; border-radius: .4rem; padding: .75rem 1rem }
.comparisons h3 { margin: 0; font-size: 1rem; display: flex; justify-content: space-between; gap: 1rem }
.comparisons h3 span:last-child, .stages td { white-space: nowrap }
.comparisons p { margin: .25rem 0 }
.comparisons table { width: 100%; margin: .5rem 0 0 }
.comparisons td:nth-child(2) { text-align: right; white-space: nowrap }
.better { color: #1a6b2d; font-weight: 600 }
.worse { color: #a3271b; font-weight: 600 }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem }
figure { margin: 0 }
figure img { max-width: 100%; border: 1px solid #eee }
figcaption { color: #555; font-size: .9rem }
details { margin: .75rem 0 }
summary { cursor: pointer; font-weight: 600 }
"""


class Html(str):
    """Text that is HTML already; any other is escaped."""


def html(value: Any) -> str:
    """A value as HTML."""
    return value if isinstance(value, Html) else escape("" if value is None else str(value))


def document(title: str, body: str) -> str:
    """A whole page."""
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"<head>{meta}<title>{escape(title)}</title><style>{STYLE}</style></head>"
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body><h1>{escape(title)}</h1>{body}</body></html>\n'


def section(title: str, body: str) -> Html:
    """A heading and what stands under it."""
    return Html(f"<h2>{escape(title)}</h2>\n{body}\n")


def folded(title: str, body: str) -> Html:
    """What shows when its title is clicked."""
    return Html(f"<details><summary>{escape(title)}</summary>\n{body}</details>\n")


def link(target: str, text: str) -> Html:
    """A link to a file beside the page."""
    return Html(f'<a href="{escape(target)}">{escape(text)}</a>')


def table(rows: Iterable[tuple[Any, ...]], header: tuple[str, ...] = ()) -> Html:
    """A table, which scrolls by itself where the window is too narrow for it."""
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr>"] if header else []
    lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return Html('<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>\n")


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{number(value)}</td>'
    if isinstance(value, list):
        shown = [number(item) if isinstance(item, int | float) else html(item) for item in value[:LONGEST_LIST]]
        more = [f"… ({len(value)} in all)"] if len(value) > LONGEST_LIST else []
        long = any(isinstance(item, str) and " " in item for item in value)  # texts, not names
        value = Html(("<br>" if long else ", ").join(shown + more))
    return f"<td>{html(value)}</td>"


def number(value: float) -> str:
    """Four digits of a fraction, all of a whole number."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
