"""Is everything there that a run needs? The checks of `e2t doctor`, none of which stops the others.

Only the standard library is imported before the checks begin: what else is missing is for them to find.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import e2t_lib
from e2t_lib.errors import E2TError
from e2t_lib.files import project_root, resolve
from e2t_lib.settings import Vec2TextSettings

if TYPE_CHECKING:
    from e2t_lib.embedder import Embedder

MEMORY_GB, DISK_GB = 4.0, 5.0  # free: what the quick profile and its folders take, with some to spare
DIMENSION = 384  # of the embedded embedder
SENTENCES = ("A cat is asleep on the sofa.", "A kitten naps on the couch.", "The bank raised its interest rates.")
SECONDS = 30  # that a kernel may take to start, or a server to answer, unless E2T_LLM_TIMEOUT says otherwise
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Note(str):
    """What a check found where that is neither good nor bad."""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        name: of the thing.
        look: returns what was found; raises what is wrong.
        remedy: what to do then, unless the error itself says.
    """

    name: str
    look: Callable[[], str]
    remedy: str


@dataclass(frozen=True)
class Finding:
    """What a check found, as one line; mark is "OK", "FAIL" or, for what is neither, "--"."""

    mark: str
    text: str

    def __str__(self) -> str:
        return f"[{self.mark}] {' '.join(self.text.split())}"


def examine(
    base_model: str = "embedded", data_dir: str | Path = "data/arxiv_aug_sep", models: str | Path = "data/models"
) -> Iterator[Finding]:
    """Make every check, in order, and say what each found as soon as it is known.

    Args:
        base_model: the base model that a training would start from.
        data_dir: the dataset folder.
        models: the folder of the trained models.
    """
    for check in _checks(base_model, data_dir, models):
        yield diagnose(check)


def diagnose(check: Check) -> Finding:
    """Make one check; whatever is wrong becomes its finding."""
    try:
        found = check.look()
    except E2TError as error:
        what, _, remedy = str(error).partition("; ")  # our errors say what to do after what is wrong
        return Finding("FAIL", f"{check.name}: {what} : {remedy or check.remedy}")
    except Exception as error:  # of any library: a check may find anything
        first = next(iter(str(error).strip().splitlines()), "")
        return Finding("FAIL", f"{check.name}: {type(error).__name__}: {first} : {check.remedy}")
    return Finding("--" if isinstance(found, Note) else "OK", f"{check.name}: {found}")


def _checks(base_model: str, data_dir: str | Path, models: str | Path) -> list[Check]:
    project = project_root()
    return [
        Check("Python", python, "install Python 3.11, remove .venv, make install"),
        Check("packages", lambda: packages(_required(by_extras=False)), "make install"),
        Check("other packages", _other_packages, "make install"),
        Check("device", _device, "make install"),
        Check("memory", memory, "close other programs, or make the batches smaller: -p vec2text_batch_size 8"),
        Check("disk", lambda: disk(project), "make room, or give --models-dir and --data-dir on another disk"),
        Check("embedder", _embedder, "make install"),
        Check("base model", lambda: _base_model(base_model), "pass --base-model embedded"),
        Check("dataset", lambda: _dataset(data_dir), f"e2t build --input FILE --out {data_dir}"),
        Check("map model", lambda: trained(models, "parametric_umap", "ParametricUMAP"), "make run"),
        Check("text model", lambda: trained(models, "vec2text", "Vec2Text"), "make run"),
        Check("runs", lambda: writable(project / "runs"), "make the folder writable"),
        Check("data", lambda: writable(project / "data"), "make the folder writable"),
        Check("kernel", _kernel, "make install"),
        Check("papermill", _papermill, "make install"),
        Check("browser", _browser, "make browser"),
        Check("language model", language_model, "unset E2T_LLM_MODEL and E2T_LLM_BASE_URL, or mend what they name"),
    ]


def python(running: str = platform.python_version()) -> str:
    """Whether e2t is made for a version of Python."""
    from packaging.specifiers import SpecifierSet

    asked = metadata("e2t")["Requires-Python"]
    if not SpecifierSet(asked).contains(running, prereleases=True):
        raise E2TError(f"{running}, but e2t asks for {asked}")
    return f"{running}, {sys.executable}"


def packages(asked: Iterable[str]) -> str:
    """Whether packages are installed at the versions asked for, each such as "numpy==2.4.6"."""
    from packaging.requirements import Requirement

    wanted, wrong = [Requirement(line) for line in asked], []
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):  # ==2.13.0 holds for 2.13.0+cpu, too
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        raise E2TError(", ".join(wrong))
    return f"all {len(wanted)} at the versions that e2t asks for"


def _required(*, by_extras: bool) -> list[str]:
    return [line for line in requires("e2t") or [] if ("extra ==" in line) is by_extras]


def _other_packages() -> str:
    try:
        return packages(_required(by_extras=True))
    except E2TError as error:
        return Note(f"{error}; only the tests and the making of the documentation need them: make install")


def _device() -> str:
    import psutil
    import torch

    from e2t_lib.vec2text.bases import default_device

    device = default_device()
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        return f"GPU, {about.name}, {about.total_memory / 1e9:.0f} GB"
    processor = f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB"
    return f"GPU of {processor}" if device == "mps" else f"CPU, {processor}; the full profile wants a GPU"


def _processor() -> str:
    """Its name, which on Linux `platform.processor` does not know."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def memory(least: float = MEMORY_GB) -> str:
    """Whether at least so many gigabytes of memory are free."""
    import psutil

    return _enough(psutil.virtual_memory().available / 1e9, least)


def disk(folder: Path, least: float = DISK_GB) -> str:
    """Whether at least so many gigabytes are free where a folder lies."""
    return _enough(shutil.disk_usage(folder).free / 1e9, least)


def _enough(free: float, least: float) -> str:
    if free < least:
        raise E2TError(f"{free:.1f} GB free, at least {least:g} are wanted")
    return f"{free:.1f} GB free, {least:g} are enough"


def _embedder() -> str:
    from e2t_lib.embedder import Embedder

    return embeds(Embedder(), DIMENSION)


def embeds(embedder: "Embedder", dimension: int) -> str:
    """Whether an embedder gives unit vectors of a dimension, and likens what is alike."""
    import numpy as np

    first, alike, other = rows = embedder.encode(SENTENCES)
    if rows.shape[1] != dimension:
        raise E2TError(f"{embedder.name}: {rows.shape[1]} numbers a sentence, not {dimension}")
    if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4):
        raise E2TError(f"{embedder.name}: its vectors are not of length 1")
    related, unrelated = float(first @ alike), float(first @ other)
    cosines = f"cosine {related:.2f} of two related sentences, {unrelated:.2f} of two others"
    if related <= unrelated:
        raise E2TError(f"{embedder.name}: {cosines}: its weights are damaged")
    return f"{embedder.name}, {dimension} dimensions, {cosines}"


def _base_model(name: str) -> str:
    from e2t_lib.embedder import Embedder
    from e2t_lib.vec2text import Vec2Text

    model = Vec2Text.from_base(Vec2TextSettings(base_model=name), Embedder())
    weights = sum(parameter.numel() for parameter in model.model.parameters())
    return f"{name}, {weights / 1e6:.0f} million weights, {len(model.tokenizer):,} tokens"


def _dataset(folder: str | Path) -> str:
    from e2t_lib.dataset import load_dataset

    dataset = load_dataset(folder)
    return f"{folder}, {len(dataset):,} documents, {dataset.embeddings.shape[1]} dimensions"


def trained(models: str | Path, name: str, kind: str) -> str:
    """Loads a trained model; `kind` is its class in e2t_lib."""
    if not (resolve(models) / name).is_dir():
        return Note(f"{models}/{name} is not trained yet: make run")
    getattr(e2t_lib, kind).load(resolve(models) / name)
    return f"{models}/{name} loads"


def writable(folder: Path) -> str:
    """Whether files can be written to a folder, which is made if it is not there."""
    from e2t_lib.train import require_writable

    require_writable(folder)
    return f"{folder} can be written"


def _kernel() -> str:
    """Starts a kernel as the pipeline does, and has it answer."""
    import nbformat
    from nbclient import NotebookClient

    from e2t_lib.pipeline import this_interpreter

    cell = nbformat.v4.new_code_cell("import sys, e2t_lib; print(sys.executable)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(
        notebook, timeout=SECONDS, startup_timeout=SECONDS, kernel_manager_class=this_interpreter()
    ).execute()
    answer = "".join(output.text for output in notebook.cells[0].outputs if output.get("name") == "stdout").strip()
    if answer != sys.executable:
        raise E2TError(f"runs {answer}, not {sys.executable}")
    return "starts, runs this interpreter and imports e2t_lib"


def _papermill() -> str:
    import papermill

    return papermill.__version__


def _browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or Note("no Chromium; only the tests of the map to click need one")


def language_model() -> str:
    """Whether the language model that the environment names, if any, can be asked."""
    if not any(name.startswith("E2T_LLM_") for name in os.environ):
        return Note("E2T_LLM_MODEL names none; only llm_synthesis needs one")
    from e2t_lib.language_models import OpenAIServer, language_model_from_environment
    from e2t_lib.synthesis import Prompt

    limits = {"max_retries": 0, "max_tokens": 8}
    patience = {} if "E2T_LLM_TIMEOUT" in os.environ else {"timeout": SECONDS}
    model = language_model_from_environment(**limits, **patience)
    if not isinstance(model, OpenAIServer):
        return f"{model.name}, local"
    model.complete(Prompt.of([("Maps of documents", "What a map of documents shows.")]), 1, temperature=0, seed=0)
    return f"{model.name} at {model.base_url}, which answers"
