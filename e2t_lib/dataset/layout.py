"""The 2-D layout of embeddings that a map is trained on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def layout_settings(rows: int, seed: int, neighbors: int = 15, min_dist: float = 0.1) -> dict[str, Any]:
    """Keyword arguments of `umap.UMAP` for so many rows: cosine distance, neighbours at most n - 1, seeded."""
    return {
        "n_neighbors": min(neighbors, rows - 1),
        "min_dist": min_dist,
        "metric": "cosine",
        "random_state": seed,
        "init": "spectral" if rows >= 5 else "random",  # no 2-D spectrum of so few points
    }


def lay_out(embeddings: np.ndarray, umap_settings: dict[str, Any]) -> np.ndarray:
    """A 2-D layout by umap-learn (McInnes et al., arXiv:1802.03426), centred, of unit standard deviation.

    Args:
        embeddings: (n, d), n >= 3.
        umap_settings: keyword arguments of `umap.UMAP`.

    Returns:
        (n, 2) float64, rounded to 5 decimals; one scale for both axes, so that the shape stays.
    """
    with without_tensorflow():
        from umap import UMAP

    bar = {"disable": None, "desc": "layout"}
    layout = UMAP(**umap_settings, n_jobs=1, tqdm_kwds=bar).fit_transform(embeddings).astype(np.float64)
    layout -= layout.mean(axis=0)
    return (layout / layout.std()).round(5) + 0.0


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """For the import of umap-learn."""
    # It imports TensorFlow, for a ParametricUMAP of its own, wherever it finds it: 6 of its 9 s, and a
    # screen of log lines.
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
