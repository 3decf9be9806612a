"""What a solutions notebook promises beyond what tests/test_notebooks.py says of every notebook."""

import re
from pathlib import Path

import nbformat
import pytest

from e2t_lib.pipeline import OF_THE_RUN, declared_parameters, find_notebooks

NOTEBOOKS = find_notebooks()
EXERCISES = 4


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


@pytest.fixture
def path(notebook) -> Path:
    return notebook.parent / "solutions" / f"{notebook.stem}_solutions.ipynb"


@pytest.fixture
def cells(path):
    return nbformat.read(path, 4).cells


def test_there_is_one_for_each_notebook_and_no_other(path):
    found = find_notebooks(path.parent)
    assert [path.stem for path in found] == [f"{notebook.stem}_solutions" for notebook in NOTEBOOKS]


def test_every_exercise_has_its_solution_in_order(notebook, cells):
    last = [cell.source for cell in nbformat.read(notebook, 4).cells[-2:] if cell.cell_type == "markdown"]
    [exercises] = [source for source in last if source.startswith("## Exercises")]
    asked = re.findall(r"^(\d+)\. ", exercises, re.MULTILINE)
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert asked == re.findall(r"^## Exercise (\d+): \S", prose, re.MULTILINE)
    assert asked == [str(number) for number in range(1, EXERCISES + 1)]


def test_every_solution_has_code_and_ends_in_prose(cells):
    kinds = [
        "heading" if re.search(r"^## Exercise \d", cell.source, re.MULTILINE) else cell.cell_type for cell in cells
    ]
    parts = "".join({"heading": "#", "code": "c", "markdown": "m"}[kind] for kind in kinds)
    assert re.fullmatch(r"mc+(#[cm]*c){4}m", parts), parts


def test_notebook_and_solutions_link_to_each_other(notebook, path, cells):
    assert cells[0].source.startswith("# ") and f"](../{notebook.name})" in cells[0].source
    last = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells[-2:])
    assert f"](solutions/{path.name})" in last


def test_the_parameters_are_those_of_every_notebook(notebook, path):
    own, of_notebook = (
        next(cell.source for cell in nbformat.read(which, 4).cells if "parameters" in cell.metadata.get("tags", []))
        for which in (path, notebook)
    )
    assert list(declared_parameters(path)) == list(OF_THE_RUN)
    assert own.splitlines() == of_notebook.splitlines()[: len(OF_THE_RUN)]
