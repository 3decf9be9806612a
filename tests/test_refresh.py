"""`e2t refresh`: outputs as nbval will compare them."""

import nbformat
import pytest

from e2t_lib.errors import E2TError
from e2t_lib.files import project_root
from e2t_lib.pipeline import StageFailed
from e2t_lib.refresh import refresh_notebook


def write(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata = {"tags": ["keep"], "scrolled": True}
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_outputs_are_kept_without_what_differs_between_machines(tmp_path):
    path = tmp_path / "01_a.ipynb"
    write(path, "print(6 * 7)", "import sys; print('noise', file=sys.stderr)")
    refresh_notebook(path)
    notebook = nbformat.read(path, 4)
    assert notebook.cells[0].outputs[0].text == "42\n"
    assert notebook.cells[0].metadata == {"tags": ["keep"]}
    assert notebook.cells[1].outputs == [] and notebook.cells[1].execution_count == 2
    assert "version" not in notebook.metadata.language_info


def test_a_failing_notebook_stays_as_it_was(tmp_path):
    path = tmp_path / "01_a.ipynb"
    write(path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(StageFailed, match=r"01_a\.ipynb: .*division by zero"):
        refresh_notebook(path)
    assert path.read_bytes() == before


def test_an_absolute_path_in_an_output_is_refused(tmp_path):
    path = tmp_path / "01_a.ipynb"
    write(path, f"print({str(project_root() / 'data')!r})")
    with pytest.raises(E2TError, match="path of this machine"):
        refresh_notebook(path)
