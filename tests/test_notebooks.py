"""What every notebook promises, looked at without executing it; nbval executes them."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from e2t_lib.files import project_root
from e2t_lib.pipeline import OF_THE_RUN, declared_parameters, find_notebooks

NOTEBOOKS = find_notebooks()
SOLUTIONS = find_notebooks(NOTEBOOKS[0].parent / "solutions")  # of which tests/test_solutions.py says more
MOST_LINES, MOST_LINES_OF_A_SOLUTION, MEDIAN_LINES = 40, 25, 6
WORDS = range(900, 2_001)
FIGURES = range(3, 8)  # the picture of the flow included


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture(params=[*NOTEBOOKS, *SOLUTIONS], ids=lambda path: path.stem)
def each(request) -> Path:
    return request.param


@pytest.fixture
def its_code(each):
    return [cell for cell in nbformat.read(each, 4).cells if cell.cell_type == "code"]


@pytest.fixture
def code(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


@pytest.fixture
def prose(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


def test_there_are_the_five():
    names = ["data_checks", "umap_training", "vec2text_training", "correction_loop_evaluation", "usage"]
    assert [path.stem for path in NOTEBOOKS] == [f"{number:02d}_{name}" for number, name in enumerate(names, start=1)]


def test_every_cell_was_executed_in_order_and_none_failed(its_code):
    assert [cell.execution_count for cell in its_code] == list(range(1, len(its_code) + 1))
    assert not [output for cell in its_code for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in its_code for output in cell.outputs if output.get("name") == "stderr"]


def test_no_figure_is_outside_its_expected_range(its_code):
    printed = [output.get("text", "") for cell in its_code for output in cell.outputs]
    assert not [text for text in printed if "NOT as expected" in text]


def test_cells_are_short_and_definitions_live_in_the_library(each, its_code):
    for cell in its_code:
        assert len(cell.source.splitlines()) <= (MOST_LINES_OF_A_SOLUTION if each in SOLUTIONS else MOST_LINES)
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)


def test_no_output_hangs_on_a_semicolon_which_the_regression_test_does_not_hear(its_code):
    assert not [cell.source for cell in its_code if cell.source.rstrip().endswith(";")]


def test_most_cells_are_very_short(code):
    assert statistics.median(len(cell.source.splitlines()) for cell in code) <= MEDIAN_LINES


def test_prose_is_of_a_length_to_be_read(prose):
    assert sum(len(source.split()) for source in prose) in WORDS


def test_every_notebook_has_its_figures(code):
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) in FIGURES


def test_headings_follow_the_template(path, prose):
    number = NOTEBOOKS.index(path) + 1
    assert re.match(rf"# {number} · ", prose[0])
    assert all(part in prose[0] for part in ("**What you will learn**", "**How long it takes**"))
    headings = re.findall(r"^##+ (.+)$", re.sub(r"```.*?```", "", "\n".join(prose), flags=re.S), re.M)
    assert headings[-2:] == ["Summary", "Exercises"] and any(name.startswith("The pitfall") for name in headings[:-2])
    assert len(re.findall(r"^\d\. ", prose[-1], re.M)) == 4 and f"solutions/{path.stem}_solutions.ipynb" in prose[-1]


def test_a_picture_says_where_in_the_flow_we_are(path, code):
    assert f"where_we_are({NOTEBOOKS.index(path) + 1})" in code[1].source
    assert any("image/png" in output.get("data", {}) for output in code[1].outputs)


def test_papermill_tells_every_parameter(path):
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    [cell] = [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        name, kind, about = re.fullmatch(r"(\w+): (\w+) = .+?  # (.+)", line).groups()
        assert re.search(rf"^\s*{name}: {kind} ", told, re.M) and about.split(";")[0][:40] in " ".join(told.split())


def test_committed_outputs_hold_nothing_of_a_machine(each):
    text = each.read_text(encoding="utf-8")
    assert each.stat().st_size < 500_000
    assert "papermill" not in json.dumps(nbformat.read(each, 4).metadata)
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


def test_the_ten_answers_stand_in_the_cells_named():
    page = (project_root() / "docs" / "what_you_will_know.md").read_text(encoding="utf-8")
    answers = re.findall(r"→ \[\d\d, cell (\d+), \*(.+?)\*\]\(\.\./notebooks/(\w+)\.ipynb#", page)
    assert len(answers) == len(re.findall(r"^\d+\. \*\*", page, re.M)) == 10
    for cell, heading, stem in answers:
        source = nbformat.read(project_root() / "notebooks" / f"{stem}.ipynb", 4).cells[int(cell)].source
        assert re.search(rf"^##+ {re.escape(heading)}$", source, re.M), f"{stem}, cell {cell}: no {heading!r}"
