"""What embeddings the documents around a place have in common."""

import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

CHOICES = (5, 10, 20, 35, 50, 80)
MAXIMUM_ROWS = 2_000  # asked for to choose among them
EVIDENCE = 50_000  # documents that answer: of more, the nearest 80 agree anyway, and there is no need to copy them
BLOCK = 16_384  # rows at a time: the neighbours of a million at once would take gigabytes
RIDGE = 0.1  # holds the slope down where few neighbours lie on one side


def local_means(places: np.ndarray, coordinates: np.ndarray, embeddings: np.ndarray, neighbors: int) -> np.ndarray:
    """The embedding expected at each place, by local linear regression on those of the documents nearest to it.

    A plane through the neighbours, nearer ones weighing more (Cleveland, 1979, "Robust Locally Weighted Regression and
    Smoothing Scatterplots"; without its robustness step), where a plain mean would be pulled inwards at the edges.

    Args:
        places: (m, 2).
        coordinates: (n, 2), of the documents.
        embeddings: (n, d) float32, of the documents.
        neighbors: how many, at most n.

    Returns:
        (m, d) float32.
    """
    index = NearestNeighbors(n_neighbors=min(neighbors, len(coordinates))).fit(coordinates)
    expected = np.empty((len(places), embeddings.shape[1]), np.float32)
    for start in range(0, len(places), BLOCK):
        block = places[start : start + BLOCK]
        distance, near = index.kneighbors(block)
        weights = _intercept_weights(distance, coordinates[near] - block[:, None])
        ends = np.arange(0, weights.size + 1, weights.shape[1])
        shape = (len(block), len(coordinates))
        mix = csr_array((weights.astype(np.float32).ravel(), near.ravel(), ends), shape=shape)
        expected[start : start + BLOCK] = mix @ embeddings
    return expected


def best_neighbors(coordinates: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    """The number of neighbours whose local mean is closest to the embeddings of a tenth of the documents, left out."""
    rows = np.random.default_rng(seed).permutation(len(coordinates))
    count = min(max(len(rows) // 10, 1), MAXIMUM_ROWS)
    asked, others = np.sort(rows[:count]), np.sort(rows[count:][:EVIDENCE])
    errors = [
        np.mean((local_means(coordinates[asked], coordinates[others], embeddings[others], k) - embeddings[asked]) ** 2)
        for k in CHOICES
    ]
    return CHOICES[int(np.argmin(errors))]


def spectrum_width(coordinates: np.ndarray, neighbors: int) -> float:
    """Standard deviation, in cycles per unit, of the spectrum of a Gaussian kernel that reaches so many neighbours.

    Random frequencies of that width stand for that kernel (Rahimi & Recht, 2007, "Random Features for Large-Scale Kernel
    Machines"): wider ones let a network vary between documents in ways that nothing there has taught it.
    """
    index = NearestNeighbors(n_neighbors=min(neighbors + 1, len(coordinates))).fit(coordinates)
    reach = np.median(index.kneighbors(coordinates[:MAXIMUM_ROWS])[0][:, -1])
    return float(1 / (2 * np.pi * max(reach, 1e-3)))


def _intercept_weights(distance: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """What each neighbour, (b, k) and (b, k, 2) from the place, contributes to the fitted plane's height there."""
    reach = np.maximum(distance[:, -1:], 1e-12)
    kernel = 1 - distance / reach + 1e-6
    design = np.concatenate([np.ones((*distance.shape, 1)), offset / reach[..., None]], axis=2)
    weighted = design * kernel[..., None]
    gram = design.transpose(0, 2, 1) @ weighted
    gram += RIDGE * kernel.sum(axis=1)[:, None, None] * np.diag([0, 1, 1])
    first = np.broadcast_to([[1.0], [0.0], [0.0]], (len(gram), 3, 1))
    return (weighted @ np.linalg.solve(gram, first))[..., 0]
