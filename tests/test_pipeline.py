"""The pipeline, on small real notebooks executed by real kernels."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from e2t_lib.errors import E2TError
from e2t_lib.pipeline import StageFailed, parse_parameter, run_pipeline
from e2t_lib.report import write_report

PARAMETERS = """profile: str = "smoke"
data_dir: str = ""
models_dir: str = ""
run_dir: str = ""
resume: bool = False
"""
WRITE = """import json, pathlib
folder = pathlib.Path(run_dir) / "metrics"; folder.mkdir(parents=True, exist_ok=True)
(folder / "{name}.json").write_text(json.dumps({figures}))
log = pathlib.Path(run_dir).parent / "log.txt"
log.open("a").write("{name} " + str(resume) + "\\n")
"""


def write_notebook(folder: Path, name: str, parameters: str, *cells: str) -> None:
    first = nbformat.v4.new_code_cell(PARAMETERS + parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    title = nbformat.v4.new_markdown_cell(f"# {name}")
    notebook = nbformat.v4.new_notebook(
        cells=[title, first, *map(nbformat.v4.new_code_cell, cells)],
        metadata=kernel | {"language_info": {"name": "python"}},
    )
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path):
    """Two notebooks; the second reads what the first wrote."""
    notebooks, data = tmp_path / "notebooks", tmp_path / "data"
    notebooks.mkdir()
    data.mkdir()
    (data / "documents.json").write_text("[1, 2, 3]")
    write_notebook(notebooks, "01_count", "step: float = 1.0", WRITE.format(name="01_count", figures='{"step": step}'))
    read = "earlier = __import__('json').load(open(run_dir + '/metrics/01_count.json'))"
    model = "from pathlib import Path\nfolder = Path(models_dir, 'm'); folder.mkdir(parents=True, exist_ok=True)\n"
    model += "(folder / 'weights').write_text(str(earlier['step'] * factor))"
    figures = WRITE.format(name="02_use", figures='{"product": earlier["step"] * factor}')
    write_notebook(notebooks, "02_use", "factor: int = 3", read, model, figures)
    return tmp_path


def run(project: Path, **options):
    return run_pipeline(
        "smoke",
        project / "data",
        options.pop("run_id", "r"),
        options.pop("parameters", {}),
        models_dir=project / "models",
        runs_dir=project / "runs",
        notebooks_dir=project / "notebooks",
        **options,
    )


def log(project: Path) -> list[str]:
    return (project / "runs" / "log.txt").read_text().split("\n")[:-1]


def test_stages_pass_results_on_and_models_are_published_with_a_report(project):
    result = run(project, parameters={"step": "2.5", "factor": "4"})
    assert result.executed == ("01_count", "02_use")
    assert json.loads((result.run_dir / "metrics" / "02_use.json").read_text()) == {"product": 10.0}
    assert (project / "models" / "m" / "weights").read_text() == "10.0"
    page = result.report.read_text()
    assert "product" in page and "02_use.html" in page
    assert (result.report.parent / "02_use.html").exists()
    executed = nbformat.read(result.run_dir / "notebooks" / "02_use.ipynb", 4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")


def test_the_report_says_how_long_a_stage_took_how_much_memory_it_held_and_where_the_map_is(project):
    hold = "import time\nfrom e2t_lib.stage import open_stage\nheld = bytearray(b'1') * 500_000_000\ntime.sleep(0.5)"
    write = "folders = dict(data_dir=data_dir, models_dir=models_dir, run_dir=run_dir)\n"
    write += "open_stage('02_use', profile=profile, **folders).write_metrics({'product': 1.0})"
    write_notebook(project / "notebooks", "02_use", "factor: int = 3", hold, write)
    result = run(project)
    assert json.loads((result.run_dir / "metrics" / "02_use.json").read_text()) == {"product": 1.0}
    peak = json.loads((result.run_dir / "resources" / "02_use.json").read_text())["peak_memory_gb"]
    assert 0.5 < peak < 2
    page = result.report.read_text()
    assert f"{peak:.2f} GB" in page and page.count("not measured") == 1
    slowest = re.search(r">02_use</a>.*?<td>02_use: ([\d.]+) s<br>02_use: ([\d.]+) s<br>02_use: ([\d.]+) s</td>", page)
    seconds = [float(found) for found in slowest.groups()]
    assert seconds == sorted(seconds, reverse=True) and seconds[0] >= 0.5
    assert "map.html" not in page
    (result.run_dir / "map.html").touch()
    assert 'href="../map.html"' in write_report(result.run_dir).read_text()


def test_finished_stages_are_not_repeated_and_changed_ones_are_with_all_that_follows(project):
    run(project)
    assert run(project).executed == ()
    assert run(project, parameters={"factor": "7"}).executed == ("02_use",)
    assert run(project, parameters={"factor": "7", "step": "2"}).executed == ("01_count", "02_use")
    (project / "data" / "documents.json").write_text("[4]")
    assert run(project, parameters={"factor": "7", "step": "2"}).executed == ("01_count", "02_use")
    assert run(project, parameters={"factor": "7", "step": "2"}, fresh=True).executed == ("01_count", "02_use")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"stepp": "1"}, "unknown parameter 'stepp'"),
        ({"run_dir": "x"}, "set by the pipeline"),
        ({"factor": "2.5"}, "not of type int"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_the_first_stage(project, parameters, named):
    with pytest.raises(E2TError, match=named):
        run(project, parameters=parameters)
    assert not (project / "runs" / "log.txt").exists()


def test_an_unknown_profile_or_dataset_is_an_error(project):
    with pytest.raises(E2TError, match="unknown profile 'tiny'"):
        run_pipeline("tiny", project / "data")
    with pytest.raises(E2TError, match="no such dataset folder"):
        run_pipeline("smoke", project / "nowhere")
    with pytest.raises(E2TError, match="run id"):
        run(project, run_id="../elsewhere")


def test_the_first_failure_stops_the_run_with_the_cells_error_and_is_gone_on_from(project):
    broken = "raise ValueError('no such colour: blau')"
    write_notebook(project / "notebooks", "03_last", "", WRITE.format(name="03_last", figures="{}"))
    good = nbformat.read(project / "notebooks" / "02_use.ipynb", 4)
    write_notebook(project / "notebooks", "02_use", "factor: int = 3", "1 + 1", broken)
    with pytest.raises(StageFailed, match=r"02_use, cell 4 .*ValueError: no such colour: blau") as caught:
        run(project)
    assert caught.value.exit_code == 1
    assert log(project) == ["01_count False"]
    assert not (project / "models" / "m").exists()
    nbformat.write(good, project / "notebooks" / "02_use.ipynb")
    assert run(project).executed == ("02_use", "03_last")


def test_a_killed_run_goes_on_where_it_stood(project):
    """kill -9 during the second notebook: the first is not repeated, the second is told to resume."""
    hang = "import pathlib, time\nmark = pathlib.Path(run_dir) / 'here'\n"
    hang += "if not mark.exists():\n    mark.touch(); time.sleep(600)"
    write_notebook(project / "notebooks", "02_use", "", hang, WRITE.format(name="02_use", figures="{}"))
    code = f"""
from e2t_lib.pipeline import run_pipeline
p = {str(project)!r}
run_pipeline("smoke", p + "/data", "r", models_dir=p + "/models", runs_dir=p + "/runs", notebooks_dir=p + "/notebooks")
"""
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (project / "runs" / "r" / "here").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    with pytest.raises(E2TError, match="another process"):
        run(project)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = run(project)
    assert (result.executed, result.skipped) == (("02_use",), ("01_count",))
    assert log(project) == ["01_count False", "02_use True"]


@pytest.mark.parametrize(
    ("value", "kind", "expected"), [("1e-4", "float", 1e-4), ("True", "bool", True), ("3", "int", 3), ("3", "str", "3")]
)
def test_parameters_are_read_as_their_declared_type(value, kind, expected):
    assert parse_parameter("p", value, kind) == expected


@pytest.mark.parametrize(("value", "kind"), [("nan", "float"), ("perhaps", "bool"), ("1.5", "int"), ("", "float")])
def test_a_parameter_of_another_type_is_named(value, kind):
    with pytest.raises(E2TError, match=f"parameter p: {value!r} is not of type {kind}"):
        parse_parameter("p", value, kind)
