"""The embedding expected at a place, read off the documents around it: what the decoder is averaged with."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array
from scipy.spatial import Delaunay, QhullError

from e2t_lib.errors import E2TError


class MeanSurface:
    """Local means of embeddings at documents' places, interpolated linearly between them.

    Over each triangle of the places' Delaunay triangulation the surface is a plane. It ends where the outermost documents
    lie; of fewer than three documents, or where all lie on a line, there is none.

    Args:
        places: (n, 2), of documents.
        means: (n, d), what the embeddings around each have in common; kept in float16, so that a saved surface is the same.
    """

    def __init__(self, places: np.ndarray, means: np.ndarray):
        self.places, self._stored = np.asarray(places, np.float32), np.asarray(means, np.float16)
        self.means = self._stored.astype(np.float32)
        try:
            self._triangles = Delaunay(self.places.astype(np.float64))
        except (QhullError, ValueError):
            self._triangles = None

    def __call__(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At places (m, 2): which of them it covers, their numbers (k,), and (k, d) float32, the expected embeddings."""
        if self._triangles is None:
            return np.empty(0, np.intp), np.empty((0, self.means.shape[1]), np.float32)
        triangle = self._triangles.find_simplex(xy)
        covered = np.flatnonzero(triangle >= 0)
        chosen = triangle[covered]
        planes = self._triangles.transform[chosen]  # (k, 3, 2): two rows that give two weights, and a corner
        weights = np.empty((len(covered), 3), np.float32)
        weights[:, :2] = np.einsum("kij,kj->ki", planes[:, :2], xy[covered] - planes[:, 2])
        weights[:, 2] = 1 - weights[:, 0] - weights[:, 1]
        corners = self._triangles.simplices[chosen]
        ends = np.arange(0, corners.size + 1, 3)
        mix = csr_array((weights.ravel(), corners.ravel(), ends), shape=(len(covered), len(self.means)))
        return covered, mix @ self.means

    def save(self, path: Path) -> None:
        """Write places and means."""
        save_file({"places": self.places, "means": self._stored}, path)

    @classmethod
    def load(cls, path: Path) -> "MeanSurface":
        """Read what `save` wrote.

        Raises:
            E2TError: the file is missing or damaged.
        """
        try:
            stored = load_file(path)
            return cls(stored["places"], stored["means"])
        except FileNotFoundError:
            raise E2TError(f"{path}: no such file") from None
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise E2TError(f"{path}: not the local means of a map ({error})") from None
