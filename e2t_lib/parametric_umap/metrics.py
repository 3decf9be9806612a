"""Is the map any good? Held-out documents first, each figure beside the best and the worst one could expect."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from e2t_lib.errors import E2TError

if TYPE_CHECKING:
    from e2t_lib.parametric_umap.estimator import ParametricUMAP

NEIGHBORS = 10
KNN_CHOICES = (1, 3, 5, 10, 20, 30, 50)
SMOOTHING = 20  # nearby pairs averaged for the ceiling
MAXIMUM_ROWS = 2_000  # a seeded sample of more: trustworthiness takes memory quadratic in the rows


def evaluate_map(umap: "ParametricUMAP", X: np.ndarray, coordinates: np.ndarray) -> dict[str, dict[str, float]]:
    """Measure a fitted map on the data it was fitted to.

    Args:
        umap: fitted on these rows in this order.
        X: (n, d) embeddings.
        coordinates: (n, 2), the layout.

    Returns:
        {"held_out": figures, "training": figures}, of at most 2,000 rows each. Both networks are judged against the
        layout:

        - coordinate_mse, coordinate_mae: of `transform`, over both axes, in the layout's own units (squared).
        - coordinate_error_median: distance between `transform` and the layout, in neighbour distances.
        - embedding_mse, embedding_mae, avg_cosine_similarity: of `inverse_transform` at the layout's coordinates.
        - avg_cosine_similarity_round_trip: of `inverse_transform(transform(X))`.
        - ceiling: mean cosine no decoder from 2-D can be expected to pass (see `cosine_ceiling`);
          fraction_of_ceiling: avg_cosine_similarity over it.
        - knn_cosine, knn_neighbors: the mean embedding of the k nearest training rows on the layout instead of a
          decoder; k is the best of several by leave-one-out on the training rows.
        - mean_vector_cosine, random_pair_cosine: what knowing nothing of the place gives.
        - trustworthiness: of the predicted coordinates (Venna & Kaski, 2001); left out for fewer than 3 rows.
        - neighbor_recall: of the 10 training rows nearest to a row's place in the layout, the share that are also
          among the 10 nearest to its predicted place.
        - round_trip_error: median distance between xy and transform(inverse_transform(xy)), in neighbour distances.

    Raises:
        E2TError: these are not the rows of the fit.
    """
    X, coordinates = np.asarray(X, np.float32), np.asarray(coordinates, np.float64)
    rows = len(umap.train_) + len(umap.held_out_)
    if len(X) != rows or len(coordinates) != rows:
        raise E2TError(f"the map was fitted on {rows} documents; evaluate it on the same, not on {len(X)}")
    held_out, train = _sample(umap.held_out_), umap.train_
    sampled = _sample(np.arange(len(train)))
    index = NearestNeighbors(n_neighbors=min(max(KNN_CHOICES), len(train) - 1)).fit(coordinates[train])
    own_neighbors = index.kneighbors(return_distance=False)  # of each training row, itself left out
    k = best_k(X[train], own_neighbors, sampled)
    parts = {
        "held_out": (held_out, index.kneighbors(coordinates[held_out], return_distance=False)),
        "training": (train[sampled], own_neighbors[sampled]),
    }
    figures = {}
    for name, (part, neighbors) in parts.items():
        figures[name] = _network_figures(umap, X[part], coordinates[part], index)
        ceiling = cosine_ceiling(X[train], own_neighbors, neighbors)
        figures[name] |= {
            "ceiling": ceiling,
            "fraction_of_ceiling": figures[name]["avg_cosine_similarity"] / max(ceiling, 1e-12),
            "knn_cosine": mean_cosine(X[train][neighbors[:, :k]].mean(axis=1), X[part]),
            "knn_neighbors": float(k),
            "mean_vector_cosine": mean_cosine(X[train].mean(axis=0, keepdims=True), X[part]),
            "random_pair_cosine": mean_cosine(X[np.random.default_rng(0).choice(train, len(part))], X[part]),
        }
    return figures


def cosine_ceiling(training: np.ndarray, own_neighbors: np.ndarray, neighbors: np.ndarray) -> float:
    """Estimate of E ||E[x | xy]||, the mean cosine of the best possible decoder of unit embeddings.

    Independent documents x, x' at the same place have E[x . x'] = ||E[x | xy]||^2. So take the cosine between each
    training row and its nearest neighbour on the layout, average it over the 20 rows around each point (a negative
    mean counts as 0), take the root, then the mean. The root of one overall mean is simpler but larger, by Jensen's
    inequality. Nearest neighbours lie a little apart, which errs low; UMAP put them together because they are
    alike, which errs high, so a decoder that has to learn from few documents stays clearly below it.

    Args:
        training: (n, d) embeddings.
        own_neighbors: (n, k) for each training row the others, nearest on the layout first.
        neighbors: (m, k) the same for the points to judge.
    """
    unit = _unit(training)
    pairs = np.sum(unit * unit[own_neighbors[:, 0]], axis=1)
    return float(np.sqrt(np.maximum(pairs[neighbors[:, :SMOOTHING]].mean(axis=1), 0)).mean())


def best_k(training: np.ndarray, own_neighbors: np.ndarray, rows: np.ndarray) -> int:
    """The number of neighbours whose mean embedding is closest to a training row that is not among them."""
    choices = [k for k in KNN_CHOICES if k <= own_neighbors.shape[1]]
    scores = [mean_cosine(training[own_neighbors[rows, :k]].mean(axis=1), training[rows]) for k in choices]
    return choices[int(np.argmax(scores))]


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over rows of the cosine; one row broadcasts over many."""
    return float(np.mean(np.sum(_unit(a) * _unit(b), axis=1)))


def _network_figures(
    umap: "ParametricUMAP", X: np.ndarray, coordinates: np.ndarray, index: NearestNeighbors
) -> dict[str, float]:
    placed = umap.transform(X)
    decoded = umap.inverse_transform(coordinates)
    returned = umap.transform(decoded)
    return {
        "coordinate_mse": float(np.mean((placed - coordinates) ** 2)),
        "coordinate_mae": float(np.mean(np.abs(placed - coordinates))),
        "coordinate_error_median": _median_distance(placed, coordinates) / umap.neighbor_distance_,
        "embedding_mse": float(np.mean((decoded - X) ** 2)),
        "embedding_mae": float(np.mean(np.abs(decoded - X))),
        "avg_cosine_similarity": mean_cosine(decoded, X),
        "avg_cosine_similarity_round_trip": mean_cosine(umap.inverse_transform(placed), X),
        **_trustworthiness(X, placed),
        "neighbor_recall": shared_neighbors(index, coordinates, placed),
        "round_trip_error": _median_distance(returned, coordinates) / umap.neighbor_distance_,
    }


def shared_neighbors(index: NearestNeighbors, wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean share of the 10 rows of an index nearest to one place, (n, 2), that are among the 10 nearest to another."""
    k = min(NEIGHBORS, index.n_samples_fit_ - 1)
    pairs = zip(*(index.kneighbors(xy, k, return_distance=False) for xy in (wanted, found)), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))


def _trustworthiness(X: np.ndarray, placed: np.ndarray) -> dict[str, float]:
    k = min(NEIGHBORS, (len(X) - 1) // 2)  # scikit-learn wants k < n / 2
    return {"trustworthiness": float(trustworthiness(X, placed, n_neighbors=k, metric="cosine"))} if k else {}


def _median_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(a - b, axis=1)))


def _sample(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= MAXIMUM_ROWS:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, MAXIMUM_ROWS, replace=False))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
