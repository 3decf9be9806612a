"""Where the correction loop aims when it is asked about a place: target embeddings, and what texts are ranked by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from e2t_lib.placement.novelty import Novelty
from e2t_lib.settings import Objective, Target
from e2t_lib.vec2text.correction import Aim

if TYPE_CHECKING:
    from e2t_lib.parametric_umap import ParametricUMAP

BLEND = 0.5  # share of the nearest document
PLACEMENT_TOLERANCE = 0.5  # neighbour distances: nearer than that, a text is where it should be
DISTANCE_WEIGHT = 10.0  # neighbour distances that a whole embedding distance counts, where both are aimed at
COPIED = 1_000.0  # farther than any text can be: a quotation is kept only where there is nothing else
ILL_WORDED = 0.5  # neighbour distances that a word counts which is none, or repeats the one before
OWN = 0.25  # neighbour distances: a document as near as that is the one pointed at, and not to be written again


def targets_at(
    umap: "ParametricUMAP",
    embeddings: np.ndarray,
    coordinates: np.ndarray,
    points: np.ndarray,
    kind: Target,
    count: int,
) -> np.ndarray:
    """Embeddings that texts for points of the map are to have.

    The map expects at a place the mean of what documents there are about: it is shorter than any document's
    embedding, and a text that meets its direction is about all of them and none in particular.

    - mean: the map's expectation, normalised.
    - blended: half way from there to the nearest document.
    - sampled: the expectation, and what sets two documents near by apart from theirs, (r + r') / sqrt(2) of their
      residuals r = embedding - expectation at its place: as far from the mean as documents are, and none of them (a
      smoothed bootstrap of the embeddings there). Another pair for each of `count` targets; a document that lies on
      the point itself is left out, for a text is not to copy it.

    Args:
        umap: fitted.
        embeddings, coordinates: (n, d) float32, unit rows, and (n, 2), of the documents.
        points: (m, 2).
        kind: one of the above.
        count: targets a point, k; equal ones but for "sampled". At most n - 2.

    Returns:
        (m, k, d) float32, unit rows.
    """
    expected, length = umap.inverse_transform(points, return_confidence=True)
    if kind == "mean":
        return np.repeat(expected[:, None], count, axis=1)
    distance, near = NearestNeighbors(n_neighbors=count + 2).fit(coordinates).kneighbors(points)
    if kind == "blended":
        return np.repeat(_unit((1 - BLEND) * expected + BLEND * embeddings[near[:, 0]])[:, None], count, axis=1)
    own = distance[:, 0] <= OWN * umap.neighbor_distance_
    chosen = np.where(own[:, None], near[:, 1:], near[:, :-1])  # (m, k + 1)
    there, there_length = umap.inverse_transform(coordinates[chosen.ravel()], return_confidence=True)
    residuals = embeddings[chosen] - (there * there_length[:, None]).reshape(*chosen.shape, -1)
    return _unit((expected * length[:, None])[:, None] + (residuals[:, :-1] + residuals[:, 1:]) / np.sqrt(2))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Aiming:
    """What ranks texts for places of a map.

    Attributes:
        umap: fitted.
        novelty: what knows the documents that nothing is to be copied from.
        words: casefolded, that are words though no document has them.
    """

    umap: "ParametricUMAP"
    novelty: Novelty
    words: frozenset[str] = frozenset()

    def placement(self, texts: np.ndarray, point: np.ndarray) -> np.ndarray:
        """How far from a point, (2,), texts of embeddings (m, d) land on the map, in neighbour distances, (m,).

        By the encoder alone. With a share of the places of the documents most like a text, the independent judge was no
        better pleased (a median of 4.1 to 5.8 where the encoder alone has 4.3 to 5.3, of 12 to 24 points), and texts
        landed half as far off again by the encoder.
        """
        return np.linalg.norm(self.umap.transform(texts) - point, axis=1) / self.umap.neighbor_distance_

    def at(self, point: np.ndarray, target: np.ndarray, objective: Objective, tolerance: float) -> Aim:
        """What ranks texts for a point, (2,), and a target embedding, (d,), unit.

        - embedding: the embedding distance to the target.
        - placement: how far from the point the text lands on the map.
        - both: placement + 10 x embedding distance, so that of texts that land alike the one that is most about the
          place is kept.

        A text with 8 words in a row of a document comes behind all that have none; and each word that neither a
        document nor `words` has, or that repeats the one before, counts as half a neighbour distance, or a twentieth of
        an embedding distance: word pieces make many a word that is none.

        The search ends at an embedding distance of `tolerance`, a placement of .5 neighbour distances, or both.
        """

        def distance(texts: np.ndarray) -> np.ndarray:
            return 1.0 - texts @ target

        each = ILL_WORDED / DISTANCE_WEIGHT if objective == "embedding" else ILL_WORDED

        def cost(text: str) -> float:
            return each * self.novelty.ill_words(text, self.words) + (COPIED if self.novelty.quotes(text) else 0.0)

        if objective == "embedding":
            return Aim(distance, tolerance, cost)
        if objective == "placement":
            return Aim(lambda texts: self.placement(texts, point), PLACEMENT_TOLERANCE, cost)
        both = PLACEMENT_TOLERANCE + DISTANCE_WEIGHT * tolerance
        return Aim(lambda texts: self.placement(texts, point) + DISTANCE_WEIGHT * distance(texts), both, cost)
