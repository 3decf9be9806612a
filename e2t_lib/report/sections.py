"""The sections of a report's index, beside the comparison with baselines."""

import heapq
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import e2t_lib
from e2t_lib.report.html import Html, folded, html, link, number, section, table
from e2t_lib.report.notebook import images, seconds_of_cells, title
from e2t_lib.settings import Profile, load_profile
from e2t_lib.train import guide_metrics

PACKAGES = ("numpy", "torch", "transformers", "tensorflow", "keras", "sentence-transformers", "umap-learn", "papermill")
SLOWEST = 3  # cells of a notebook


def lead(record: dict[str, Any], has_map: bool) -> str:
    """What was run, in a line, and the map to click."""
    finished = max(stage["finished"] for stage in record["stages"].values())
    words = f"Profile {record['profile']}, dataset {record['data_dir']}, finished {_minute(finished)}."
    place = f" {link('../map.html', 'The map with its texts, to click')}." if has_map else ""
    return f"<p>{html(words)}{place}</p>\n"


def stages(record: dict[str, Any], notebooks: dict[str, Any], resources: dict[str, Any]) -> str:
    """The executed notebooks, how long each and its slowest cells took, and the most memory it held."""
    rows: list[tuple[Any, ...]] = []
    for name, notebook in notebooks.items():
        peak = resources.get(name, {}).get("peak_memory_gb")
        slowest = heapq.nlargest(SLOWEST, seconds_of_cells(notebook))
        cells = Html("<br>".join(f"{html(heading)}: {seconds:.1f} s" for seconds, heading in slowest))
        about = Html(f"{link(f'{name}.html', name)}<br>{html(title(notebook))}")
        seconds = f"{notebook.metadata.papermill.duration:.1f} s"
        finished = _minute(record["stages"][name]["finished"])
        rows.append((about, seconds, f"{peak:.2f} GB" if peak else "not measured", cells, finished))
    total = sum(notebook.metadata.papermill.duration for notebook in notebooks.values())
    rows.append(("together", f"{total:.1f} s", "", "", ""))
    shown = table(rows, ("notebook", "duration", "peak memory", "slowest cells", "finished"))
    return section("Stages", f'<div class="stages">{shown}</div>')


def _minute(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M UTC}"


def figures(notebooks: dict[str, Any], folder: Path) -> str:
    """Every figure of the notebooks, which are written to `folder`/figures."""
    parts = []
    for name, notebook in notebooks.items():
        for count, (heading, image) in enumerate(images(notebook), start=1):
            file = folder / "figures" / f"{name}_{count}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(image)
            caption = escape(f"{name}: {heading}")
            picture = f'<img src="figures/{escape(file.name)}" alt="{caption}" loading="lazy">'
            parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>\n")
    return section("Figures", f'<div class="figures">{"".join(parts)}</div>') if parts else ""


def figures_of_merit(metrics: dict[str, Any]) -> str:
    """The guide's figures first, then everything that the stages wrote."""
    first = guide_metrics(metrics)
    parts = [table(list(first.items()), ("the training guide's metrics", "held out"))] if first else []
    parts += [folded(name, table(list(_flat(own)))) for name, own in metrics.items()]
    return section("Figures of merit", "".join(parts) or "<p>No stage wrote any.</p>")


def _flat(figures: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of the leaves; a mean with its standard error is one leaf, a list of dicts many."""
    if isinstance(figures, dict) and set(figures) == {"mean", "standard_error"}:
        yield path, f"{number(figures['mean'])} ± {number(figures['standard_error'])}"
    elif isinstance(figures, dict):
        for name, value in figures.items():
            yield from _flat(value, f"{path} · {name}" if path else str(name))
    elif isinstance(figures, list) and any(isinstance(item, dict) for item in figures):
        for count, item in enumerate(figures):
            yield from _flat(item, f"{path} {count}")
    else:
        yield path, figures


def environment(record: dict[str, Any]) -> str:
    """Parameters, seeds, machine and versions."""
    given = {name: value for stage in record["stages"].values() for name, value in stage["given"].items()}
    by_stage = _by_stage(load_profile(record["profile"]))
    seeds = {stage: settings["seed"] for stage, settings in by_stage if "seed" in settings}
    seeds |= {name: value for name, value in given.items() if name.endswith("seed")}
    rows = [
        ("parameters given", ", ".join(f"{name} = {value}" for name, value in given.items()) or "none"),
        ("seeds", ", ".join(f"{name} {value}" for name, value in seeds.items())),
        ("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"),
        ("versions", ", ".join(f"{name} {number}" for name, number in _versions())),
    ]
    return section("Environment", table(rows))


def _versions() -> Iterator[tuple[str, str]]:
    yield "e2t", e2t_lib.__version__
    yield "Python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def settings(record: dict[str, Any]) -> str:
    """Every setting of the profile."""
    rows = [
        (stage, name, list(value) if isinstance(value, tuple) else value)
        for stage, own in _by_stage(load_profile(record["profile"]))
        for name, value in own.items()
    ]
    note = "<p>Before the parameters given above, which override them.</p>\n"
    heading = f"Settings of the profile {record['profile']}"
    return folded(heading, note + table(rows, ("stage", "setting", "value")))


def _by_stage(profile: Profile) -> list[tuple[str, dict[str, Any]]]:
    fields = asdict(profile)
    alone = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    return [*((name, value) for name, value in fields.items() if isinstance(value, dict)), ("profile", alone)]
