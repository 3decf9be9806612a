"""nbval compares outputs strictly, but for what a kernel's plumbing decides."""

import os
from typing import Any

# No progress bars, of ours or of the libraries', which would be outputs; kernels inherit it.
os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

# Under `-n` the notebooks share the cores: two on two cores with two threads each wait for each other and take three times as long.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))


def pytest_collectstart(collector: Any) -> None:
    """stderr is captured differently under papermill, nbclient and nbval, and carries no result of ours."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
