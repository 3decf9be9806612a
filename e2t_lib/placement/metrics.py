"""Does a text land where it should, does it belong there, and is it new?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from e2t_lib.dataset.layout import layout_settings, without_tensorflow
from e2t_lib.placement.novelty import COPIED_WORDS, novelty_of

if TYPE_CHECKING:
    from e2t_lib.dataset import Dataset
    from e2t_lib.parametric_umap import ParametricUMAP

COHERENCE = 10  # documents nearest to a point that its text is compared with
# Asked twice, with other random numbers, umap-learn's `transform` puts half of 427 real documents more than 3.6 neighbour
# distances from where it put them before, and their median error is 4.0 to 5.4: one answer says little.
RUNS = 5


class LayoutJudge:
    """Where umap-learn itself would put a text on the map: a judge that no encoder was aimed at, asked several times.

    A UMAP of the embeddings whose own layout gives way to the map's, so that its `transform` answers on the map. At
    the size of its own layout, for its forces have one.

    Args:
        embeddings: (n, d), of the documents it knows.
        coordinates: (n, 2), their places on the map.
        seed: of umap-learn.
    """

    def __init__(self, embeddings: np.ndarray, coordinates: np.ndarray, seed: int = 0):
        with without_tensorflow():
            from umap import UMAP

        self._umap = UMAP(**layout_settings(len(embeddings), seed), n_jobs=1).fit(embeddings)
        self._centre = coordinates.mean(axis=0)
        self._scale = self._umap.embedding_.std() / (coordinates - self._centre).std()
        self._umap.embedding_ = np.ascontiguousarray(self._scale * (coordinates - self._centre), dtype=np.float32)

    def place(self, embeddings: np.ndarray) -> np.ndarray:
        """(m, d) -> (RUNS, m, 2), in the map's own units, each run with random numbers of its own."""
        runs = []
        for seed in range(RUNS):
            self._umap.transform_seed = seed
            runs.append(self._umap.transform(embeddings))
        return np.stack(runs) / self._scale + self._centre


class PlacementMeter:
    """Measures texts for points of a map.

    Args:
        umap: fitted on the dataset.
        dataset: its documents; the judge knows those that the map was trained on, so that the others can be asked
            where real documents land that neither has seen.
    """

    def __init__(self, umap: "ParametricUMAP", dataset: "Dataset"):
        self.umap, self.dataset = umap, dataset
        self.novelty = novelty_of(dataset)
        self.judge = LayoutJudge(dataset.unit_embeddings[umap.train_], dataset.coordinates[umap.train_])
        self._index = NearestNeighbors(n_neighbors=min(COHERENCE, len(dataset))).fit(dataset.coordinates)

    def figures(self, points: np.ndarray, texts: Sequence[str], embeddings: np.ndarray) -> dict[str, float]:
        """Of m texts with embeddings (m, d), unit rows, for points (m, 2).

        Returns:
            placement_error: median distance from the point to where the text lands by the map's encoder, in
            neighbour distances; judge_error: the same by umap-learn's `transform`, over all texts and runs of it;
            nearer_than_nearest_document: share of the texts that land nearer to their point than its nearest document
            lies; highest_cosine: mean over the texts, with the document most like each; longest_shared_run: 95th
            percentile, in words, and share_without_quotation: of the texts without 8 words in a row of any document;
            coherence: mean cosine with the 10 documents nearest to the point.
        """
        distance, near = self._index.kneighbors(points)
        landed = self._miss(self.umap.transform(embeddings), points)
        runs = [self.novelty.longest_shared_run(text) for text in texts]
        return self.errors(points, embeddings) | {
            "nearer_than_nearest_document": float(np.mean(landed < distance[:, 0] / self.umap.neighbor_distance_)),
            "highest_cosine": float((embeddings @ self.dataset.unit_embeddings.T).max(axis=1).mean()),
            "longest_shared_run": float(np.quantile(runs, 0.95)),
            "share_without_quotation": float(np.mean(np.array(runs) < COPIED_WORDS)),
            "coherence": float(np.einsum("md,mkd->mk", embeddings, self.dataset.unit_embeddings[near]).mean()),
        }

    def real_documents(self, share: float = 1.0) -> dict[str, float]:
        """Median error, by encoder and judge, of documents that neither was trained on.

        Args:
            share: of them, those that lie farthest from any document known: what can be asked of texts in gaps.
        """
        coordinates, rows = self.dataset.coordinates, self.umap.held_out_
        known = NearestNeighbors(n_neighbors=1).fit(coordinates[self.umap.train_])
        alone = known.kneighbors(coordinates[rows])[0][:, 0].argsort(kind="stable")
        rows = rows[alone[-max(round(share * len(rows)), 1) :]]
        return self.errors(coordinates[rows], self.dataset.unit_embeddings[rows])

    def errors(self, points: np.ndarray, embeddings: np.ndarray) -> dict[str, float]:
        """Median error, by encoder and judge, of embeddings (m, d), unit rows, that belong at points (m, 2)."""
        placed = {"placement_error": self.umap.transform(embeddings), "judge_error": self.judge.place(embeddings)}
        return {name: float(np.median(self._miss(landed, points))) for name, landed in placed.items()}

    def _miss(self, landed: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(landed - points, axis=-1) / self.umap.neighbor_distance_
