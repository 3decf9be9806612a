"""nbval compares outputs strictly, but for what a kernel's plumbing decides."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """stderr is captured differently under papermill, nbclient and nbval, and carries no result of ours."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
