"""The notebooks as stages of a pipeline, executed by papermill into `runs/<id>/`.

    runs/<id>/run.json                  what was asked for, and each stage's state
              notebooks/<name>.ipynb    executed
              metrics/<name>.json       each stage's figures
              resources/<name>.json     and the memory it held
              models/                   published to `data/models` when all stages are finished
              checkpoints/              of the training under way
              report/index.html

A stage stays finished for as long as all that it hangs on stays as it was: its notebook, its parameters, the
dataset, the library, the stages before. Whatever changed is made again, with all that follows.
"""

import hashlib
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, project_root, read_json, resolve, write_json
from e2t_lib.settings import load_profile
from e2t_lib.train import require_base_model, require_writable

OF_THE_RUN = ("profile", "data_dir", "models_dir", "run_dir", "resume")  # parameters that the pipeline itself sets
DOORWAYS = {"cli.py", "doctor.py", "pipeline.py", "refresh.py", "report", "train.py"}  # sources that no notebook uses
INTERACTIVE = "notebook"  # runs/notebook belongs to notebooks executed by hand, by nbval and by `refresh`


class StageFailed(E2TError):
    """A cell failed or its kernel died."""

    exit_code = 1


@dataclass(frozen=True)
class RunResult:
    """What `run_pipeline` did.

    Attributes:
        run_dir, models_dir, report: the run, the published models, the report's index; absolute.
        executed: names of the stages executed this time.
        skipped: names of the stages that were finished already.
    """

    run_dir: Path
    models_dir: Path
    report: Path
    executed: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A notebook, the parameters the user and the pipeline give it, and digests of what its result hangs on."""

    path: Path
    given: dict[str, Any]
    of_the_run: dict[str, Any]
    inputs: dict[str, str]

    @property
    def name(self) -> str:
        """Of the notebook, without suffix."""
        return self.path.stem


def run_pipeline(
    profile: str = "quick",
    data_dir: str | Path = "data/arxiv_aug_sep",
    run_id: str | None = None,
    parameters: dict[str, Any] | None = None,
    *,
    models_dir: str | Path = "data/models",
    runs_dir: str | Path = "runs",
    notebooks_dir: str | Path | None = None,
    fresh: bool = False,
) -> RunResult:
    """Execute the notebooks in order, publish the models, write the report; go on where an earlier start stopped.

    Args:
        profile: smoke, quick or full.
        data_dir: the dataset folder.
        run_id: name of the run's folder; None: profile and dataset, such as quick-arxiv_aug_sep.
        parameters: of the notebooks, by name; strings are read as the declared type. Each goes to every notebook
            that declares it.
        models_dir: gets a copy of the run's models once all stages are finished.
        runs_dir: holds the runs.
        notebooks_dir: holds 01_*.ipynb and so on; None: the project's.
        fresh: start over.

    Raises:
        StageFailed: a cell failed, or its kernel died; names notebook, cell and error.
        E2TError: what the user can mend, before the first stage.
    """
    base_model = load_profile(profile).vec2text.base_model
    data, models = resolve(data_dir), resolve(models_dir)
    if not data.is_dir():
        raise E2TError(f"{data_dir}: no such dataset folder; make one with `e2t build --input FILE --out {data_dir}`")
    run_id = f"{profile}-{data.name}" if run_id is None else run_id
    if not re.fullmatch(r"\w[\w.+-]*", run_id) or run_id == INTERACTIVE:
        raise E2TError(f"run id {run_id!r}: give letters, digits and any of _ . + -, and not {INTERACTIVE!r}")
    run_dir = resolve(runs_dir) / run_id
    of_the_run = [profile, str(data_dir), str(run_dir / "models"), str(run_dir), False]
    stages = plan(find_notebooks(notebooks_dir), parameters or {}, dict(zip(OF_THE_RUN, of_the_run, strict=True)), data)
    if any("base_model" in declared_parameters(stage.path) for stage in stages):
        require_base_model((parameters or {}).get("base_model") or base_model)
    require_writable(models)
    require_writable(run_dir)

    with _only_process(run_dir):
        if fresh:
            _clear(run_dir)
        run = _Run(run_dir, {"run_id": run_id, "profile": profile, "data_dir": str(data_dir)})
        executed = run.bring_up_to_date(stages)
        publish(run_dir / "models", models)
        from e2t_lib.report import write_report

        report = write_report(run_dir)
    skipped = [stage.name for stage in stages if stage.name not in executed]
    return RunResult(run_dir, models, report, tuple(executed), tuple(skipped))


def find_notebooks(folder: str | Path | None = None) -> list[Path]:
    """The numbered notebooks of a folder, by default the project's, in order.

    Raises:
        E2TError: there are none.
    """
    folder = resolve(folder) if folder else project_root() / "notebooks"
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    if not paths:
        raise E2TError(f"{folder}: holds no notebooks named 01_*.ipynb and so on")
    return paths


def plan(notebooks: Iterable[Path], given: dict[str, Any], of_the_run: dict[str, Any], data: Path) -> list[Stage]:
    """One stage a notebook, in order.

    Raises:
        E2TError: a parameter that no notebook declares, that the pipeline sets itself, or of another type.
    """
    declared = {path: declared_parameters(path) for path in notebooks}
    known = dict.fromkeys(name for names in declared.values() for name in names if name not in OF_THE_RUN)
    for name in given:
        if name not in known:
            of_another_option = f"parameter {name!r} is set by the pipeline, by its own options"
            unknown = f"unknown parameter {name!r}; the notebooks declare {', '.join(known) or 'none'}"
            raise E2TError(of_another_option if name in OF_THE_RUN else unknown)
    inputs = {"dataset": _digest_files(data.iterdir()), "library": _digest_files(_library())}
    stages: list[Stage] = []
    for path, names in declared.items():
        own = {name: parse_parameter(name, value, names[name]) for name, value in given.items() if name in names}
        before = {"stages before": _digest(stages[-1].inputs)} if stages else {}
        hangs_on = {"notebook": _digest(_sources(path)), "parameters": _digest([of_the_run["profile"], own]), **before}
        from_the_run = {name: value for name, value in of_the_run.items() if name in names}
        stages.append(Stage(path, own, from_the_run, hangs_on | inputs))
    return stages


def declared_parameters(path: Path) -> dict[str, str]:
    """{name: type} of a notebook's parameters cell, in its order."""
    import papermill

    try:
        found = papermill.inspect_notebook(str(path))
    except Exception as error:  # of nbformat, json and papermill: a file that is no notebook
        raise E2TError(f"{path}: not a notebook ({error})") from None
    return {name: entry["inferred_type_name"] for name, entry in found.items()}


def parse_parameter(name: str, value: Any, kind: str) -> Any:
    """`value` as the declared type; papermill's own reading of 1e-4 is a string.

    Raises:
        E2TError: it is none.
    """
    booleans = {"true": True, "false": False}
    try:
        if kind == "bool":
            return booleans[str(value).lower()]
        if kind == "float" and not math.isfinite(float(value)):
            raise ValueError
        return {"int": int, "float": float}.get(kind, lambda same: same)(str(value) if kind == "int" else value)
    except (ValueError, TypeError, KeyError):
        raise E2TError(f"parameter {name}: {value!r} is not of type {kind}") from None


class _Run:
    """The state of a run in run.json, written at every change."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder, self.path = folder, folder / "run.json"
        earlier = read_json(self.path) if self.path.exists() else {}
        self.record: dict[str, Any] = {**about, "stages": earlier.get("stages", {})}

    def bring_up_to_date(self, stages: list[Stage]) -> list[str]:
        """Execute the stages that are not finished, in order; their names."""
        known = {stage.name: self.record["stages"].get(stage.name, {}) for stage in stages}
        self.record["stages"] = {name: record for name, record in known.items() if record}
        executed = []
        for number, stage in enumerate(stages, start=1):
            label = f"[{number}/{len(stages)}] {stage.name}"
            changed = [
                name for name, digest in stage.inputs.items() if known[stage.name].get("inputs", {}).get(name) != digest
            ]
            if self._is_finished(stage, changed):
                print(f"{label}: already done", flush=True)
                continue
            if changed and known[stage.name]:
                label += f" (again: {', '.join(changed)} changed)"
            self._execute(stage, label, resume=bool(known[stage.name]) and not changed, later=stages[number:])
            executed.append(stage.name)
        return executed

    def _output(self, stage: Stage) -> Path:
        return self.folder / "notebooks" / stage.path.name

    def _is_finished(self, stage: Stage, changed: list[str]) -> bool:
        record = self.record["stages"].get(stage.name, {})
        return not changed and record.get("status") == "finished" and self._output(stage).exists()

    def _execute(self, stage: Stage, label: str, *, resume: bool, later: list[Stage]) -> None:
        if not resume:
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        for stale in (stage, *later):
            self.record["stages"].pop(stale.name, None)
            for kind in ("metrics", "resources"):
                (self.folder / kind / f"{stale.name}.json").unlink(missing_ok=True)
        parameters = stage.of_the_run | stage.given | ({"resume": resume} if "resume" in stage.of_the_run else {})
        began = time.monotonic()
        mark = {"inputs": stage.inputs, "given": stage.given, "started": _now()}
        self._mark(stage, status="running", **mark)
        shown = sys.stderr.isatty()  # papermill's bar of cells, which takes the label's line
        print("" if shown else f"{label} ... ", end="", flush=True)
        try:
            execute(stage.path, self._output(stage), parameters, label)
        except StageFailed as error:
            self._mark(stage, **mark, status="failed", error=str(error), finished=_now())
            print(f"{label} ... failed" if shown else "failed", flush=True)
            raise
        seconds = time.monotonic() - began
        self._mark(stage, **mark, status="finished", finished=_now(), seconds=round(seconds, 1))
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        print(f"{label} ... {seconds:.0f} s" if shown else f"{seconds:.0f} s", flush=True)

    def _mark(self, stage: Stage, **record: Any) -> None:
        self.record["stages"][stage.name] = record
        write_json(self.path, self.record)


def execute(notebook: Path, output: Path, parameters: dict[str, Any], label: str) -> None:
    """Execute a notebook by papermill, in the working directory.

    Raises:
        StageFailed: the executed part is kept in `output`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            progress_bar={"desc": label, "leave": False, "disable": None},
            kernel_manager_class=this_interpreter(),
        )
    except papermill.PapermillExecutionError as error:
        raise StageFailed(f"{_last_cell(output)}: {_described(error.ename, error.evalue)}") from None
    except (DeadKernelError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "Kernel died"
        raise StageFailed(f"{_last_cell(output)}: {reason} (was it short of memory?)") from None


def _last_cell(output: Path) -> str:
    """Name of a notebook and In [number] of the last cell that it started."""
    import nbformat

    cells = nbformat.read(output, as_version=4).cells if output.exists() else []
    count = sum(cell.cell_type == "code" and bool(cell.metadata.papermill.start_time) for cell in cells)
    return f"{output.stem}, cell {count} (see {output})"


def _described(name: str, value: str) -> str:
    first = next((line for line in value.splitlines() if line.strip()), "")
    return first if name == E2TError.__name__ else f"{name}: {first}" if first else name


def this_interpreter() -> type:
    """A kernel manager that starts kernels of this very interpreter, whatever kernels a home directory holds."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    return ThisInterpreter


def publish(source: Path, models: Path) -> None:
    """Copy each model folder of a run to `models`; all are copied before the first takes its place."""
    folders = [folder for folder in sorted(source.glob("*")) if folder.is_dir() and not folder.name.startswith(".")]
    with ExitStack() as stack:
        for folder in folders:
            temporary = stack.enter_context(atomic_folder(models / folder.name))
            shutil.copytree(folder, temporary, dirs_exist_ok=True)


@contextmanager
def _only_process(run_dir: Path) -> Iterator[None]:
    """One process a run. The system takes the lock from a process that dies, so that it cannot go stale."""
    import fcntl

    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise E2TError(
                f"{run_dir}: another process is at work on this run; wait, or give another --run-id"
            ) from None
        yield


def _clear(run_dir: Path) -> None:
    others = [path for path in run_dir.iterdir() if path.name != ".lock"]
    if others and not (run_dir / "run.json").exists():
        raise E2TError(f"{run_dir}: is not a run of this pipeline; remove it yourself, or give another --run-id")
    for path in others:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _library() -> Iterator[Path]:
    """Sources that notebooks use, and the base model that ships with them."""
    package = Path(__file__).parent
    sources = (path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in DOORWAYS)
    yield from sources
    yield from (path for path in (project_root() / "data" / "base_model").rglob("*") if path.is_file())


def _sources(notebook: Path) -> list[Any]:
    return [[cell["cell_type"], cell["source"]] for cell in read_json(notebook)["cells"]]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest_files(paths: Iterable[Path]) -> str:
    def content(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return _digest([[path.name, content(path)] for path in sorted(paths) if path.is_file()])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
