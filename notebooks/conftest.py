"""nbval compares outputs strictly, but for what a kernel's plumbing decides."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

# No progress bars, of ours or of the libraries', which would be outputs; kernels inherit it.
os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

# Under `-n` the notebooks share the cores: two on two cores with two threads each wait for each other and take three times as long.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # under `-n`, the same for all workers
PATIENCE = 1_200  # seconds that a notebook waits for those before it


def pytest_configure(config: pytest.Config) -> None:
    """`--dist loadscope` would begin with the longest notebooks, which wait for the others."""
    config.option.loadscopereorder = False


def pytest_collectstart(collector: Any) -> None:
    """stderr is captured differently under papermill, nbclient and nbval, and carries no result of ours."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under `-n` a notebook waits for those before it, whose models it reads."""
    began = time.monotonic()
    while missing := [path.name for path in _before(item) if not _finished(path).exists()]:
        if time.monotonic() - began > PATIENCE:
            pytest.fail(f"{item.path.name}: waited {PATIENCE} s for {missing[0]}, which is run by another worker")
        time.sleep(0.2)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Tell the notebooks that wait, passed or not."""
    if RUN and item is [other for other in item.session.items if other.path == item.path][-1]:
        _finished(item.path).parent.mkdir(exist_ok=True)
        _finished(item.path).touch()


def _before(item: pytest.Item) -> list[Path]:
    """Of the notebooks of this run, those of the stages before; for a solution its own stage, too."""
    stages = {other.path for other in item.session.items if other.path.parent == Path(__file__).parent}
    return [path for path in sorted(stages) if RUN and path != item.path and path.name[:2] <= item.path.name[:2]]


def _finished(path: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"e2t-notebooks-{RUN}" / path.name
