"""What a newcomer waits for: `make run` and `make test` on a clean clone with an empty home directory.

    python benchmarks/clean_clone.py            # half an hour; keep the machine idle
    python benchmarks/clean_clone.py run        # or one of the two

Writes benchmarks/results/clean_clone.json: minutes of both, and seconds of importing, of `e2t --help` and of loading
the trained models, and what the run's stages measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import measured_on

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "clean_clone.json"
LOAD = """
import time; began = time.perf_counter()
from pathlib import Path
from e2t_lib import EmbeddingToTextService
EmbeddingToTextService().load_trained_model(Path("data/models"))
print(time.perf_counter() - began)
"""


def main() -> None:
    """Clone, install, run, test, measure, write; a target left out keeps its figures of the time before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["run", "test"])
    targets = parser.parse_args().targets
    figures: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    figures["measured"] = measured_on()
    with tempfile.TemporaryDirectory() as temporary:
        clone, home = Path(temporary) / "e2t", Path(temporary) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        kept = {
            name: value for name, value in os.environ.items() if name in ("PATH", "LANG") or name.startswith("PIP_")
        }
        environment = kept | {"HOME": str(home)}
        for target in ("install", *targets):
            figures[f"make_{target}_seconds"] = timed(["make", target], clone, environment)
            if target == "run":
                figures |= measure_run(clone, environment)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    print(RESULT)


def measure_run(clone: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Figures of a finished `make run`; the run and its models are copied to build/clean_clone."""
    python = str(clone / ".venv" / "bin" / "python")
    loaded = subprocess.run(
        [python, "-c", LOAD], cwd=clone, env=environment, capture_output=True, text=True, check=True
    )
    [run] = (clone / "runs").glob("quick-*")
    models = clone / "data" / "models"
    shutil.copytree(run, ROOT / "build" / "clean_clone", dirs_exist_ok=True)
    shutil.copytree(models, ROOT / "build" / "clean_clone" / "trained", dirs_exist_ok=True)
    stages = json.loads((run / "run.json").read_text())["stages"]
    return {
        "load_seconds": round(float(loaded.stdout.split()[-1]), 2),
        "import_seconds": timed([python, "-c", "import e2t_lib"], clone, environment),
        "help_seconds": timed([python, "-m", "e2t_lib.cli", "--help"], clone, environment),
        "stage_seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "stage_memory_gb": {
            path.stem: round(json.loads(path.read_text())["peak_memory_gb"], 1)
            for path in sorted(run.glob("resources/*.json"))
        },
        "metrics": {path.stem: json.loads(path.read_text()) for path in sorted(run.glob("metrics/*.json"))},
        "models": sorted(str(path.relative_to(models)) for path in models.glob("*/*")),
    }


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


if __name__ == "__main__":
    main()
