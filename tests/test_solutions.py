"""What every solutions notebook promises, looked at without executing it; nbval executes them."""

import re
from pathlib import Path

import nbformat
import pytest

from e2t_lib.files import project_root
from e2t_lib.pipeline import OF_THE_RUN, declared_parameters, find_notebooks

NOTEBOOKS = find_notebooks()
EXERCISES = 4
MOST_LINES = 25


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


@pytest.fixture
def path(notebook) -> Path:
    return notebook.parent / "solutions" / f"{notebook.stem}_solutions.ipynb"


@pytest.fixture
def cells(path):
    return nbformat.read(path, 4).cells


@pytest.fixture
def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


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


def test_every_cell_was_executed_in_order_and_none_failed(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_no_figure_is_outside_its_expected_range(code):
    printed = [output.get("text", "") for cell in code for output in cell.outputs]
    assert not [text for text in printed if "NOT as expected" in text]


def test_cells_are_short_and_define_nothing(code):
    for cell in code:
        assert len(cell.source.splitlines()) <= MOST_LINES
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)


def test_outputs_hold_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 500_000
    assert str(project_root()) not in text and str(Path.home()) + "/" not in text
