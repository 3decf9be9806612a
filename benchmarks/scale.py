"""Time and memory of training a map, from a thousand rows to a million.

    python benchmarks/scale.py

Embeddings are a synthetic mixture: 200 clusters of unit vectors, each with a place of its own and directions that follow
it, and noise. Every size trains in a process of its own, in batches of 1,024, for 20 + 10 epochs; its peak memory is
that of the whole process, the embeddings included. Writes benchmarks/results/scale.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import measured_on

from e2t_lib.parametric_umap import ParametricUMAP

OUTPUT = Path(__file__).resolve().parent / "results" / "scale.json"
DIMENSION = 384
CLUSTERS = 200
SETTINGS: dict[str, Any] = {"batch_size": 1024, "epochs": 20, "fine_tune_epochs": 10}


def main() -> None:
    """Measure every size in a process of its own, or, as that process, one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    sizes = []
    for rows in asked.rows:
        command = [sys.executable, __file__, "--measure", str(rows)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        sizes.append(json.loads(answer.splitlines()[-1]))
        print(json.dumps(sizes[-1]), flush=True)
        figures = {"measured": measured_on(), "dimension": DIMENSION, "settings": SETTINGS, "sizes": sizes}
        OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")


def measure(rows: int) -> dict[str, float]:
    """Seconds and gigabytes of one fit; error of a thousand rows beyond those it saw."""
    X, xy = mixture(rows + 1_000)
    fresh_X, fresh_xy = X[rows:].copy(), xy[rows:].copy()
    before = peak_gigabytes()
    began = time.perf_counter()
    umap = ParametricUMAP(**SETTINGS).fit(X[:rows], xy[:rows], progress=False)
    seconds = time.perf_counter() - began
    epochs = sum(len(curves["loss"]) for curves in umap.history_.values())
    error = np.linalg.norm(umap.transform(fresh_X) - fresh_xy, axis=1)
    decoded = umap.inverse_transform(fresh_xy)
    return {
        "rows": rows,
        "epochs": epochs,
        "fit_seconds": seconds,
        "microseconds_a_row_and_epoch": 1e6 * seconds / rows / epochs,
        "gigabytes_before": before,
        "gigabytes_peak": peak_gigabytes(),
        "coordinate_rmse": float(np.sqrt(np.mean(error**2)) / xy.std()),
        "inverse_cosine": float(np.mean(np.sum(decoded * fresh_X, axis=1))),
    }


def mixture(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings, (rows, 384) float32, and a layout of them, (rows, 2)."""
    random = np.random.default_rng(0)
    centres, places = random.normal(size=(CLUSTERS, DIMENSION)), random.uniform(-10, 10, (CLUSTERS, 2))
    directions = random.normal(size=(CLUSTERS, 2, DIMENSION))
    cluster, within = random.integers(CLUSTERS, size=rows), random.normal(size=(rows, 2))
    X = np.empty((rows, DIMENSION), np.float32)
    for start in range(0, rows, 10_000):
        part = slice(start, start + 10_000)
        bent = np.einsum("nk,nkd->nd", within[part], directions[cluster[part]])
        noisy = centres[cluster[part]] + 0.5 * bent + random.normal(size=bent.shape)
        X[part] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return X, places[cluster] + 0.4 * within


def peak_gigabytes() -> float:
    """Most memory that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
