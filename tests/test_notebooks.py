"""What every notebook promises, looked at without executing it; nbval executes them."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from e2t_lib.files import project_root
from e2t_lib.pipeline import OF_THE_RUN, declared_parameters, find_notebooks

NOTEBOOKS = find_notebooks()
MOST_LINES = 40


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def code(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_there_are_the_five():
    names = ["data_checks", "umap_training", "vec2text_training", "correction_loop_evaluation", "usage"]
    assert [path.stem for path in NOTEBOOKS] == [f"{number:02d}_{name}" for number, name in enumerate(names, start=1)]


def test_every_cell_was_executed_in_order_and_none_failed(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_no_figure_is_outside_its_expected_range(code):
    printed = [output.get("text", "") for cell in code for output in cell.outputs]
    assert not [text for text in printed if "NOT as expected" in text]


def test_cells_are_short_and_definitions_live_in_the_library(code):
    for cell in code:
        assert len(cell.source.splitlines()) <= MOST_LINES
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)


def test_committed_outputs_hold_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 500_000
    assert "papermill" not in json.dumps(nbformat.read(path, 4).metadata)
    assert str(project_root()) not in text and str(Path.home()) + "/" not in text


def test_every_parameter_has_a_type_and_says_what_it_is(path, code):
    declared = declared_parameters(path)
    assert list(declared)[: len(OF_THE_RUN)] == list(OF_THE_RUN)
    [cell] = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool) = \S+  # .+", line), line


def test_notebooks_are_linked_one_to_the_next(path):
    number = NOTEBOOKS.index(path)
    last = nbformat.read(path, 4).cells[-1].source
    for neighbour in NOTEBOOKS[max(number - 1, 0) : number + 2]:
        assert neighbour == path or neighbour.name in last
