"""What every notebook needs around its own work: profile, folders, results as files, checked numbers."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2t_lib.errors import E2TError
from e2t_lib.files import read_json, resolve, write_json
from e2t_lib.settings import Profile, load_profile


@dataclass(frozen=True)
class Stage:
    """One notebook at work: where it reads, where it writes.

    Attributes:
        name: of the notebook, such as "02_umap_training".
        profile: every setting.
        data_dir, models_dir, run_dir: absolute; relative ones are taken from the project root, because papermill
            runs a notebook in the launch directory and nbval in the notebook's own.
    """

    name: str
    profile: Profile
    data_dir: Path
    models_dir: Path
    run_dir: Path

    @property
    def checkpoint_dir(self) -> Path:
        """Where this stage's training keeps its state."""
        return self.run_dir / "checkpoints" / self.name

    def write_metrics(self, metrics: dict[str, Any]) -> Path:
        """Write the stage's figures to `<run_dir>/metrics/<name>.json`.

        Beside them, in `<run_dir>/resources/<name>.json`, the memory that its process held: it differs from one run to
        the next, and figures must not.
        """
        path = self.run_dir / "metrics" / f"{self.name}.json"
        write_json(path, metrics)
        write_json(self.run_dir / "resources" / f"{self.name}.json", {"peak_memory_gb": peak_memory()})
        return path

    def read_metrics(self, name: str) -> dict[str, Any]:
        """The figures another stage wrote.

        Raises:
            E2TError: that stage has not been run here.
        """
        path = self.run_dir / "metrics" / f"{name}.json"
        if not path.exists():
            raise E2TError(f"{path}: not there; run notebook {name} first, with the same run_dir")
        return read_json(path)


def open_stage(name: str, *, profile: str, data_dir: str, models_dir: str, run_dir: str) -> Stage:
    """The stage of a notebook, from its parameters.

    Raises:
        E2TError: unknown profile, or no such data folder.
    """
    stage = Stage(name, load_profile(profile), *(resolve(folder) for folder in (data_dir, models_dir, run_dir)))
    if not stage.data_dir.is_dir():
        raise E2TError(f"{data_dir}: no such dataset folder; make one with `e2t build --input FILE --out {data_dir}`")
    return stage


def peak_memory() -> float | None:
    """The most memory that this process has held, resident, in gigabytes; None where the system does not count it."""
    status = Path("/proc/self/status")
    own = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if own:  # getrusage takes for a kernel's own what the process that started it held
        return int(own[1]) * 1024 / 1e9
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return getrusage(RUSAGE_SELF).ru_maxrss * unit / 1e9


def say(name: str, value: float, low: float, high: float) -> None:
    """Print a figure as the range it is expected in, or, outside it, as itself.

    A trained network gives slightly other figures on another processor; a range that it always falls into can
    be compared word for word by nbval, and tells the reader what to expect on their own machine.
    """
    verdict = f"between {low:g} and {high:g}, as expected" if low <= value <= high else f"{value:.4f}, NOT as expected"
    print(f"{name}: {verdict}")
