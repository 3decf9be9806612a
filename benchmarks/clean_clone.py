"""What a newcomer waits for: `make run` and `make test` on a clean clone with an empty home directory.

    python benchmarks/clean_clone.py            # half an hour; keep the machine idle

Writes benchmarks/results/clean_clone.json: minutes of both, and seconds of importing, of `e2t --help` and of loading
the trained models, and what the run's stages measured.
"""

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
    """Clone, run, test, measure, write."""
    with tempfile.TemporaryDirectory() as temporary:
        clone, home = Path(temporary) / "e2t", Path(temporary) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        kept = {
            name: value for name, value in os.environ.items() if name in ("PATH", "LANG") or name.startswith("PIP_")
        }
        environment = kept | {"HOME": str(home)}
        figures: dict[str, Any] = {"measured": measured_on()}
        for target in ("install", "run", "test"):
            figures[f"make_{target}_seconds"] = timed(["make", target], clone, environment)
        python = str(clone / ".venv" / "bin" / "python")
        figures["import_seconds"] = timed([python, "-c", "import e2t_lib"], clone, environment)
        figures["help_seconds"] = timed([python, "-m", "e2t_lib.cli", "--help"], clone, environment)
        loaded = subprocess.run([python, "-c", LOAD], cwd=clone, env=environment, capture_output=True, text=True)
        figures["load_seconds"] = round(float(loaded.stdout.split()[-1]), 2)
        [run] = (clone / "runs").glob("quick-*")
        stages = json.loads((run / "run.json").read_text())["stages"]
        figures["stage_seconds"] = {name: stage["seconds"] for name, stage in stages.items()}
        figures["metrics"] = {path.stem: json.loads(path.read_text()) for path in sorted(run.glob("metrics/*.json"))}
        figures["models"] = sorted(
            str(path.relative_to(clone / "data" / "models")) for path in (clone / "data" / "models").glob("*/*")
        )
        shutil.copytree(run, ROOT / "build" / "clean_clone", dirs_exist_ok=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    print(RESULT)


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


if __name__ == "__main__":
    main()
