"""The report of a run: an index and one page a notebook, plain files that need neither server nor network."""

from pathlib import Path
from typing import Any

from e2t_lib.files import atomic_folder, read_json, write_text
from e2t_lib.report import sections
from e2t_lib.report.baselines import against_baselines
from e2t_lib.report.html import document
from e2t_lib.report.notebook import page

__all__ = ["write_report"]


def write_report(run_dir: Path) -> Path:
    """Write `<run_dir>/report/` from what lies in the run's folder, replacing an earlier one.

    Args:
        run_dir: with run.json and notebooks/, and what the stages left of metrics/, resources/ and map.html.

    Returns:
        The index, report/index.html.

    Raises:
        E2TError: the folder cannot be written.
    """
    import nbformat

    record = read_json(run_dir / "run.json")
    names = list(record["stages"])
    notebooks = {name: nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4) for name in names}
    metrics, resources = _by_stage(run_dir / "metrics"), _by_stage(run_dir / "resources")
    with atomic_folder(run_dir / "report") as folder:
        for name, notebook in notebooks.items():
            write_text(folder / f"{name}.html", page(notebook, name))
        parts = [
            sections.lead(record, has_map=(run_dir / "map.html").exists()),
            against_baselines(metrics),
            sections.stages(record, notebooks, resources),
            sections.figures(notebooks, folder),
            sections.figures_of_merit(metrics),
            sections.environment(record),
            sections.settings(record),
        ]
        write_text(folder / "index.html", document(f"Run {record['run_id']}", "".join(parts)))
    return run_dir / "report" / "index.html"


def _by_stage(folder: Path) -> dict[str, Any]:
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
