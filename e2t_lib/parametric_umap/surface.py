"""The embedding expected at a place, read off the documents around it: what the decoder learns, and is averaged with."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.interpolate import LinearNDInterpolator
from scipy.sparse import csr_array
from scipy.spatial import Delaunay, cKDTree

from e2t_lib.errors import E2TError

FAR = 100.0  # standard deviations of the layout, to corners beyond what anybody asks for
CORNERS = FAR * np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
GRID = 64  # columns of places that are looked up one after the other


class MeanSurface:
    """Local means of embeddings at documents' places, interpolated linearly between them.

    Over each triangle of the places' Delaunay triangulation the surface is a plane. Four far corners hold the mean of all,
    so that it falls off to that where the map ends, and exists for documents that lie on a line, too.

    Args:
        places: (n, 2) of documents, scaled: their standard deviation is about 1.
        means: (n, d), what the embeddings around each have in common; kept in float16, so that a saved surface is the same.
    """

    def __init__(self, places: np.ndarray, means: np.ndarray):
        self.places, self.means = np.asarray(places, np.float32), np.asarray(means, np.float16)
        heights = self.means.astype(np.float32)
        heights = np.concatenate([heights, np.tile(heights.mean(axis=0), (len(CORNERS), 1))])
        self._heights = heights[: len(self.places)]
        triangles = Delaunay(np.concatenate([self.places.astype(np.float64), CORNERS]))
        self._interpolate = LinearNDInterpolator(triangles, heights)
        inner = triangles.simplices[(triangles.simplices < len(self.places)).all(axis=1)]
        self._inner = inner if len(inner) else np.repeat(np.arange(len(self.places))[:, None], 3, axis=1)

    def __call__(self, xy: np.ndarray) -> np.ndarray:
        """The expected embedding at each place (m, 2), scaled as the documents': (m, d) float32."""
        asked = np.clip(np.asarray(xy, np.float64), -0.99 * FAR, 0.99 * FAR)
        order = _walk(asked)  # each triangle is sought from the one before: .2 microseconds a row for 1.1
        expected = np.empty((len(asked), self.means.shape[1]), np.float32)
        expected[order] = self._interpolate(asked[order])
        lost = np.isnan(expected[:, 0])
        if lost.any():  # among slivers, where documents lie all but on a line or on top of each other
            expected[lost] = self.means[cKDTree(self.places).query(asked[lost])[1]]
        return expected

    def sample(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Places between documents, (count, 2), each anywhere in a random triangle, and the surface there, (count, d)."""
        corners = self._inner[random.integers(0, len(self._inner), count)]
        shares = random.dirichlet((1, 1, 1), count).astype(np.float32)
        starts = np.arange(0, corners.size + 1, 3)
        mix = csr_array((shares.ravel(), corners.ravel(), starts), shape=(count, len(self.places)))
        return mix @ self.places, mix @ self._heights

    def save(self, path: Path) -> None:
        """Write places and means."""
        save_file({"places": self.places, "means": self.means}, path)

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
        except (SafetensorError, KeyError, ValueError) as error:
            raise E2TError(f"{path}: not the local means of a map ({error})") from None


def _walk(places: np.ndarray) -> np.ndarray:
    """An order of places, (m, 2), in which each is near the one before: up and down the columns of a grid."""
    least = places.min(axis=0)
    column, row = np.floor((places - least) * (GRID / np.maximum(np.ptp(places, axis=0), 1e-9))).astype(np.intp).T
    return np.argsort(column * (GRID + 1) + np.where(column % 2, GRID - row, row))
