"""The notebooks' committed outputs: executed in place in the smoke profile, in order, in a clean `runs/notebook`."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from e2t_lib.errors import E2TError
from e2t_lib.files import project_root, write_text
from e2t_lib.pipeline import INTERACTIVE, StageFailed, find_notebooks, this_interpreter

KEPT_METADATA = {"tags"}  # of a cell; what front ends add there differs from one to the next


def refresh_notebooks(folder: str | Path | None = None) -> list[Path]:
    """Execute every notebook as nbval will, and keep the outputs; a notebook that fails stays as it was.

    Args:
        folder: holds 01_*.ipynb and so on, and `solutions` of their exercises; None: the project's.

    Raises:
        StageFailed: a cell failed.
        E2TError: an output holds an absolute path of this machine.
    """
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # as notebooks/conftest.py does for nbval
    shutil.rmtree(project_root() / "runs" / INTERACTIVE, ignore_errors=True)
    paths = find_notebooks(folder)
    paths += sorted((paths[0].parent / "solutions").glob("[0-9]*.ipynb"))  # they use the models that the others leave
    for path in paths:
        refresh_notebook(path)
    return paths


def refresh_notebook(path: Path) -> None:
    """Execute one notebook in place; raises as `refresh_notebooks`."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        kernel_manager_class=this_interpreter(),
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        raise StageFailed(f"{path.name}: {str(error).strip().splitlines()[-1]}") from None
    clean(notebook)
    _refuse_absolute_paths(notebook, path)
    write_text(path, nbformat.writes(notebook) + "\n")


def clean(notebook: Any) -> None:
    """Take out what differs each time: stderr, addresses in memory, front ends' metadata, the interpreter's version."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT_METADATA}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "text/plain" in output.get("data", {}):
                    output.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", output.data["text/plain"])


def _refuse_absolute_paths(notebook: Any, path: Path) -> None:
    places = (str(project_root()), str(Path.home()) + os.sep)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            shown = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            if any(place in shown for place in places):
                raise E2TError(
                    f"{path.name}, cell {number}: its output holds a path of this machine; print a relative one"
                )
