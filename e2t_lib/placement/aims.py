"""Where the correction loop aims when it is asked about a place: target embeddings, and what texts are ranked by."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from e2t_lib.placement.novelty import Novelty
from e2t_lib.settings import Objective, Target
from e2t_lib.vec2text.correction import Aim, embedding_distance

if TYPE_CHECKING:
    from e2t_lib.parametric_umap import ParametricUMAP

BLEND = 0.5  # share of the nearest document
AROUND = 45  # documents at most whose residuals make sampled targets: 990 pairs
# They are one in a hundred of the map's. Thirty of 1,040 lie too far apart: at 16 own places and 16 gaps, cosines of texts with
# their targets .70 and .66, with the documents around .37 and .29; of ten, .72 and .67, .41 and .32, and in gaps 2.6 off by the
# judge instead of 3.7.
AROUND_SHARE = 0.01
ALIKE = 5  # documents most like a text, which say where it belongs, beside the encoder
ALIKE_WEIGHT = 0.4  # of what they say
# A target between two subjects has the five on both sides and lands on the point all the same. Of 200 gaps the four best targets of
# each are 4.6 off by the judge without this, 4.2 with it, 4.1 where 45 documents and not 30 make them; on own places 3.8 and 3.7.
COMPANY = 15  # documents most like a target, half of which are to lie around the point
COMPANY_WEIGHT = 0.4  # neighbour distances that one counts by which their median is off
PLACEMENT_TOLERANCE = 0.5  # neighbour distances: nearer than that, a text is where it should be
DISTANCE_WEIGHT = 7.5  # neighbour distances that a whole embedding distance counts, where both are aimed at
COPIED = 1_000.0  # farther than any text can be: a quotation is kept only where there is nothing else
ILL_WORDED = 0.375  # neighbour distances that a word counts which is none, or repeats the one before
OWN = 0.25  # neighbour distances: a document as near as that is the one pointed at, and not to be written again


class Aiming:
    """What texts for places of a map are to be.

    Args:
        umap: fitted.
        embeddings, coordinates: (n, d) float32, unit rows, and (n, 2), of the documents on the map.
        novelty: what knows the documents that nothing is to be copied from.
        words: casefolded, that are words though no document has them.
    """

    def __init__(
        self,
        umap: "ParametricUMAP",
        embeddings: np.ndarray,
        coordinates: np.ndarray,
        novelty: Novelty,
        words: frozenset[str] = frozenset(),
    ):
        self.umap, self.embeddings, self.coordinates = umap, embeddings, coordinates
        self.novelty, self.words = novelty, words
        self._alike = NearestNeighbors(n_neighbors=min(COMPANY, len(embeddings)), algorithm="brute").fit(embeddings)

    def targets(self, points: np.ndarray, kind: Target, count: int) -> np.ndarray:
        """Embeddings that texts for points of the map are to have.

        The map expects at a place the mean of what documents there are about: it is shorter than any document's
        embedding, and a text that meets its direction is about all of them and none in particular.

        - mean: the map's expectation, normalised.
        - blended: half way from there to the nearest document.
        - sampled: the expectation, and what sets two documents near by apart from theirs, (r + r') / sqrt(2) of their
          residuals r = embedding - expectation at its place: as far from the mean as documents are, and none of them
          (a smoothed bootstrap of the embeddings there). Of all pairs of the nearest documents, a hundredth of all and 45 at
          most, those whose targets land nearest to the point and are like documents that lie around it; a document on the
          point itself is left out, for a text is not to copy it.

        Args:
            points: (m, 2).
            kind: one of the above.
            count: targets a point, k; equal ones but for "sampled", where they come nearest first. At most n - 2.

        Returns:
            (m, k, d) float32, unit rows.
        """
        expected, length = self.umap.inverse_transform(points, return_confidence=True)
        if kind == "mean":
            return np.repeat(expected[:, None], count, axis=1)
        around = min(AROUND, round(AROUND_SHARE * len(self.coordinates)))
        around = min(max(around, count + 1), len(self.coordinates) - 1)
        distance, near = NearestNeighbors(n_neighbors=around + 1).fit(self.coordinates).kneighbors(points)
        if kind == "blended":
            blended = _unit((1 - BLEND) * expected + BLEND * self.embeddings[near[:, 0]])
            return np.repeat(blended[:, None], count, axis=1)
        own = distance[:, 0] <= OWN * self.umap.neighbor_distance_
        chosen = np.where(own[:, None], near[:, 1:], near[:, :-1])  # (m, around)
        middles = expected * length[:, None]
        return np.stack([self._sampled(*each, count) for each in zip(points, middles, chosen, strict=True)])

    def _sampled(self, point: np.ndarray, middle: np.ndarray, documents: np.ndarray, count: int) -> np.ndarray:
        """The best targets for a point, (2,), where the map expects (d,), of documents around, (k,)."""
        there, length = self.umap.inverse_transform(self.coordinates[documents], return_confidence=True)
        residuals = self.embeddings[documents] - there * length[:, None]
        one, other = np.triu_indices(len(documents), k=1)
        targets = _unit(middle + (residuals[one] + residuals[other]) / np.sqrt(2))
        miss, company = self._opinions(targets, point)
        return targets[np.argsort(miss + COMPANY_WEIGHT * company, kind="stable")[:count]]

    def placement(self, texts: np.ndarray, point: np.ndarray) -> np.ndarray:
        """How far from a point, (2,), texts of embeddings (m, d) are on the map, in neighbour distances, (m,).

        By the encoder, and to two fifths by the middle of the places of the five documents most like a text. The two
        err apart: of 427 real documents that neither knew, the encoder places one 5.1 off in the median (23.6, root mean
        square), the five alike 4.3 (19.4), the middle of both 4.0 (19.9). And a search finds, among many texts, what only
        the encoder takes to be there: benchmarks/placement_log.md.
        """
        return self._opinions(texts, point)[0]

    def _opinions(self, texts: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`placement` of texts, and the median distance of the documents most like each from the point: (m,), (m,)."""
        distance, alike = self._alike.kneighbors(texts)
        weight = 1 / np.maximum(distance[:, :ALIKE], 1e-6)
        off = self.coordinates[alike] - point
        middle = np.einsum("mk,mkd->md", weight / weight.sum(axis=1, keepdims=True), off[:, :ALIKE])
        landed = self.umap.transform(texts) - point
        miss = (1 - ALIKE_WEIGHT) * np.linalg.norm(landed, axis=1) + ALIKE_WEIGHT * np.linalg.norm(middle, axis=1)
        company = np.median(np.linalg.norm(off, axis=2), axis=1)
        return miss / self.umap.neighbor_distance_, company / self.umap.neighbor_distance_

    def at(self, point: np.ndarray, targets: np.ndarray, objective: Objective, tolerance: float) -> Aim:
        """What ranks texts for a point, (2,), and target embeddings, (k, d), unit rows.

        - embedding: the embedding distance to the nearest target.
        - placement: how far from the point the text is on the map.
        - both: placement + 7.5 x embedding distance, so that of texts as near the one that is most about the
          place is kept.

        A text with 8 words in a row of a document comes behind all that have none; and each word that neither a
        document nor `words` has, or that repeats the one before, counts as 3/8 of a neighbour distance, or a twentieth of
        an embedding distance: word pieces make many a word that is none.

        The search ends at an embedding distance of `tolerance`, a placement of .5 neighbour distances, or both.
        """

        def distance(texts: np.ndarray) -> np.ndarray:
            return embedding_distance(texts, targets)

        each = ILL_WORDED / DISTANCE_WEIGHT if objective == "embedding" else ILL_WORDED

        def cost(text: str) -> float:
            return each * self.novelty.ill_words(text, self.words) + (COPIED if self.novelty.quotes(text) else 0.0)

        if objective == "embedding":
            return Aim(distance, tolerance, cost)
        if objective == "placement":
            return Aim(lambda texts: self.placement(texts, point), PLACEMENT_TOLERANCE, cost)
        both = PLACEMENT_TOLERANCE + DISTANCE_WEIGHT * tolerance
        return Aim(lambda texts: self.placement(texts, point) + DISTANCE_WEIGHT * distance(texts), both, cost)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
