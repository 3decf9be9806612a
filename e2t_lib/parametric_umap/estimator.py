"""ParametricUMAP: fit, transform, inverse_transform, save, load."""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from e2t_lib.dataset.layout import lay_out, layout_settings
from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, resolve, write_text
from e2t_lib.model_card import CARD, map_card
from e2t_lib.parametric_umap import storage
from e2t_lib.parametric_umap.checkpoint import Checkpoint, History
from e2t_lib.parametric_umap.inputs import checked, matrix
from e2t_lib.parametric_umap.landmarks import directions, landmarks
from e2t_lib.parametric_umap.networks import build_decoder, build_encoder, start_from
from e2t_lib.parametric_umap.placing import Placing
from e2t_lib.parametric_umap.smoothing import best_neighbors, local_means, spectrum_width
from e2t_lib.parametric_umap.surface import MeanSurface
from e2t_lib.parametric_umap.training import Rows, averaged, train
from e2t_lib.settings import MapSettings

MINIMUM_ROWS = 5
CROWD = 10  # documents around a point that say how crowded the map is there
# Rows a network call, the smallest that fits: one point in a millisecond, and 2,048 at half the time a row of 256. Few
# shapes, all padded, so that each is compiled once and a row's result does not depend on its company. Embeddings are placed
# 512 at a time at most: 2,048 take 1.8 times as long a row, for what is computed no longer fits into the cache.
BLOCKS = (128, 512, 2_048)
KNOTS = 20_000  # documents that the surface of local means hangs on, a random choice of more: 15 MB in a saved map


class ParametricUMAP:
    """Two networks that carry a given 2-D layout of embeddings both ways, also for points it has never seen.

    Unlike Sainburg, McInnes & Gentner (2021, "Parametric UMAP Embeddings for Representation and Semisupervised
    Learning") it fits the coordinates of a finished layout rather than UMAP's graph: an epoch is one pass over the
    rows, not over millions of edges.

    Args:
        settings: see `MapSettings`.
        **overrides: fields of `MapSettings` by name.

    Attributes:
        held_out_: (h,) int64, rows that no step trained on; they choose each step's best epoch, so figures on them
            are slightly flattering.
        train_: (n - h,) int64, the others.
        history_: step -> {"loss", "val_loss"}, one value an epoch.
        coordinates_: (n, 2) float64, the layout of all rows, as given or as made.
        layout_: (m, 2) float64, coordinates of the training rows, and of documents that `add` has put on the map.
        scaler_: scikit-learn StandardScaler of `layout_`.
        neighbor_distance_: median distance between nearest neighbours in the whole layout, in its own units.
        smoothing_: how many documents around a place the local means are of, which the decoder learned.
        fourier_width_: spread of the decoder's frequencies, in cycles per standard deviation of the layout.
        directions_: (d, k) float32, orthonormal: the networks see embeddings along them, and answer along them.
        metrics_: what `evaluate_map` returned, if it was assigned; saved with the model.
    """

    layout_: np.ndarray
    _unit: bool

    def __init__(self, settings: MapSettings | None = None, **overrides: Any):
        unknown = sorted(set(overrides) - {field.name for field in fields(MapSettings)})
        if unknown:
            raise E2TError(f"ParametricUMAP has no setting {unknown[0]!r}; see MapSettings")
        self.settings = checked(replace(settings or MapSettings(), **overrides))
        self.metrics_: dict[str, Any] = {}
        self._dimension = 0
        self._index: NearestNeighbors | None = None

    def fit(
        self,
        X: np.ndarray,
        coordinates: np.ndarray | None = None,
        *,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> "ParametricUMAP":
        """Learn the layout in both directions.

        Args:
            X: (n, d) embeddings, n >= 5. If all are unit vectors, inputs and outputs are normalised. float32 is not
                copied as a whole, but for the training rows.
            coordinates: (n, 2), the layout, in any units; None: umap-learn makes one, seeded, of all rows.
            checkpoint_dir: folder for a checkpoint every ten epochs.
            resume: go on from the checkpoint there, if any; the result is that of an uninterrupted run.
            progress: show progress bars.

        Returns:
            self.

        Raises:
            E2TError: the rows do not match, are too few, not finite or all in one place; a checkpoint is damaged or
                of another run.
        """
        X = matrix(X, "embeddings")
        coordinates = None if coordinates is None else matrix(coordinates, "coordinates", 2)
        if coordinates is not None and len(X) != len(coordinates):
            raise E2TError(f"{len(X)} embeddings but {len(coordinates)} coordinates; give one row a document to both")
        if len(X) < MINIMUM_ROWS:
            raise E2TError(f"{len(X)} documents are too few to fit a map; give {MINIMUM_ROWS} or more")
        if resume and checkpoint_dir is None:
            raise E2TError("resume needs the checkpoint_dir of the run to go on from")
        if coordinates is None:
            coordinates = lay_out(X, layout_settings(len(X), self.settings.seed))
        self._describe(X, coordinates)
        xy = self.scaler_.transform(coordinates).astype(np.float32)
        checkpoint = Checkpoint(resolve(checkpoint_dir) if checkpoint_dir else None, self.settings, X, xy)
        training = self._build(xy[self.train_], self._embeddings(X, self.train_))
        held_out = self._embeddings(X, self.held_out_) @ self.directions_
        self.history_: History = train(
            self._encoder,
            self._decoder,
            training,
            Rows(held_out, xy[self.held_out_]),
            self._surface,
            self.settings,
            checkpoint,
            unit=self._unit,
            resume=resume,
            progress=progress,
        )
        self._compile()
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Place embeddings on the map.

        Args:
            X: (n, d).

        Returns:
            (n, 2) float32, in the layout's own units.

        Raises:
            E2TError: not fitted; not finite; not d wide.
        """
        self._require_fitted()
        X = matrix(X, "embeddings", self._dimension)
        return (self._encode(X) * self.scaler_.scale_ + self.scaler_.mean_).astype(np.float32)

    @overload
    def inverse_transform(self, xy: Any, return_confidence: Literal[False] = False) -> np.ndarray: ...

    @overload
    def inverse_transform(self, xy: Any, return_confidence: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...

    def inverse_transform(self, xy: Any, return_confidence: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The embedding expected at each point of the map.

        Args:
            xy: (n, 2), in the layout's own units.
            return_confidence: also return, for each point, the length of the expected embedding before it is
                normalised: about 1 where the documents around agree, about 0 where they have nothing in common. Off
                the map it means nothing: see `distance_to_layout`.

        Returns:
            (n, d) float32, unit rows if the training rows were; with the confidence, also (n,) float32.

        Raises:
            E2TError: not fitted; not finite; not two columns.
        """
        self._require_fitted()
        expected = self._expected(self.scaler_.transform(matrix(xy, "coordinates", 2)).astype(np.float32))
        length = np.linalg.norm(expected, axis=1)  # along the directions it is what it is in all dimensions
        expected *= 1 / np.maximum(length, 1e-12)[:, None] if self._unit else self._scale
        embeddings = self._expand(expected)
        return (embeddings, length) if return_confidence else embeddings

    def distance_to_layout(self, xy: Any) -> np.ndarray:
        """Distance of each point (n, 2) from the nearest document, in neighbour distances: (n,) float64.

        Far above 1 means off the map, where `inverse_transform` extrapolates.
        """
        self._require_fitted()
        nearest = self._documents().kneighbors(matrix(xy, "coordinates", 2), 1)[0]
        return nearest[:, 0] / self.neighbor_distance_

    def density_percentile(self, xy: Any) -> np.ndarray:
        """How crowded the map is at each point (n, 2), among its documents: (n,) float64, in percent.

        50 where documents lie as close as around a typical one of them, 0 where they lie farther off than around any;
        by the distance to the tenth nearest document (k-nearest-neighbour density, Loftsgaarden & Quesenberry, 1965).
        """
        self._require_fitted()
        index = self._documents()
        reach = index.kneighbors(matrix(xy, "coordinates", 2))[0][:, -1]
        return 100 * (1 - np.searchsorted(self._reach, reach, side="left") / len(self._reach))

    def on_map(self, xy: Any, least: float = 1.0) -> np.ndarray:
        """Whether each point (n, 2) has a density percentile of `least` or more: (n,) bool."""
        return self.density_percentile(xy) >= least

    def add(self, X: np.ndarray) -> np.ndarray:
        """Put new documents on the map, which stays as it is: (n, 2) float32, their coordinates.

        They count from then on for `distance_to_layout`, `density_percentile` and `on_map`. The networks do not learn
        from them.

        Args:
            X: (n, d) embeddings.

        Raises:
            E2TError: as for `transform`.
        """
        placed = self.transform(X)
        self.layout_ = np.concatenate([self.layout_, placed])
        self._index = None
        return placed

    def _documents(self) -> NearestNeighbors:
        """The index of the layout, made when first asked for, and how far each document's tenth neighbour is."""
        if self._index is None:
            neighbors = min(CROWD, len(self.layout_) - 1)
            self._index = NearestNeighbors(n_neighbors=neighbors).fit(self.layout_)
            self._reach = np.sort(self._index.kneighbors()[0][:, -1])
        return self._index

    def save(self, folder: str | Path) -> None:
        """Write config.pkl, scaler.pkl, encoder/, decoder/ and a model card, all or nothing.

        Raises:
            E2TError: not fitted; the folder cannot be written.
        """
        self._require_fitted()
        config = {name: getattr(self, name) for name in _SAVED} | {"settings": asdict(self.settings)}
        with atomic_folder(resolve(folder)) as temporary:
            storage.write_pickle(temporary / "config.pkl", config)
            storage.write_pickle(temporary / "scaler.pkl", self.scaler_)
            storage.write_network(temporary / "encoder", self._encoder, self._encoder_config())
            storage.write_network(temporary / "decoder", self._decoder, self._decoder_config())
            self._surface.save(temporary / "decoder" / "surface.safetensors")
            write_text(temporary / CARD, map_card(config))

    @classmethod
    def load(cls, folder: str | Path) -> "ParametricUMAP":
        """Read what `save` wrote; outputs are identical. Nothing in the folder can run code.

        Raises:
            E2TError: a file is missing, damaged, or holds what it should not.
        """
        folder = resolve(folder)
        config = storage.read_pickle(folder / "config.pkl", dict)
        try:
            umap = cls(MapSettings(**config["settings"]))
            for name in _SAVED:
                setattr(umap, name, config[name])
        except (KeyError, TypeError) as error:
            raise E2TError(f"{folder / 'config.pkl'}: incomplete or of another version ({error})") from None
        umap.scaler_ = storage.read_pickle(folder / "scaler.pkl", StandardScaler)
        umap._encoder = storage.read_network(folder / "encoder", build_encoder)
        umap._decoder = storage.read_network(folder / "decoder", build_decoder)
        umap._surface = MeanSurface.load(folder / "decoder" / "surface.safetensors")
        umap._compile()
        return umap

    def _describe(self, X: np.ndarray, coordinates: np.ndarray) -> None:
        shuffled = np.random.default_rng(self.settings.seed).permutation(len(X))
        count = max(1, round(self.settings.held_out * len(X)))
        self.held_out_, self.train_ = np.sort(shuffled[:count]), np.sort(shuffled[count:])
        self.coordinates_ = coordinates
        self.layout_ = coordinates[self.train_]
        self._index = None
        self.scaler_ = StandardScaler().fit(self.layout_)
        self.neighbor_distance_ = neighbor_distance(coordinates)
        lengths = _lengths(X)
        self._unit = bool(np.allclose(lengths, 1, atol=1e-3))
        self._scale = float(np.sqrt(np.mean(lengths**2))) or 1.0
        self._dimension = X.shape[1]

    def _encoder_config(self) -> dict[str, Any]:
        s = self.settings
        places = min(s.places, len(self.train_))
        return {"dimension": self._seen, "widths": list(s.encoder_layers), "places": places, "seed": s.seed}

    def _decoder_config(self) -> dict[str, Any]:
        s = self.settings
        fourier = {"features": s.fourier_features, "width": self.fourier_width_}
        return {"dimension": self._seen, "widths": list(s.decoder_layers), "seed": s.seed} | fourier

    @property
    def _seen(self) -> int:
        return int(self.directions_.shape[1])

    def _build(self, xy: np.ndarray, embeddings: np.ndarray) -> Rows:
        """Networks and surface for training rows, and these as the networks see them."""
        s = self.settings
        self.smoothing_ = s.smoothing or best_neighbors(xy, embeddings, s.seed)
        self.fourier_width_ = s.fourier_width or spectrum_width(xy, self.smoothing_)
        chosen = np.random.default_rng(s.seed).permutation(len(xy))[:KNOTS]
        means = local_means(xy[chosen], xy, embeddings, self.smoothing_)
        count = self._dimension if s.encoder_only else min(s.projection, self._dimension)
        self.directions_ = directions(means, count, s.seed)
        self._surface = MeanSurface(xy[chosen], means @ self.directions_)
        self._encoder = build_encoder(**self._encoder_config())
        self._decoder = build_decoder(**self._decoder_config())
        seen = embeddings @ self.directions_
        if not s.encoder_only:  # which finds a map of its own first
            start_from(self._encoder, *landmarks(seen, xy, self._encoder_config()["places"], s.seed))
        return Rows(seen, xy)

    def _expected(self, xy: np.ndarray) -> np.ndarray:
        """The answer at scaled places, along the directions, before it is brought to length."""
        answer = self._decode(xy)
        if not self.settings.encoder_only and self.settings.surface:  # the guide's decoder answers alone
            answer = averaged(answer, self._surface(xy), self.settings.surface)
        return answer

    def _compile(self) -> None:
        placing = Placing(self._encoder, self.directions_, None if self._unit else self._scale)
        self._encode = _in_blocks(placing, 2, BLOCKS[:-1])
        self._expand = _in_blocks(_graph(lambda block: tf.matmul(block, self.directions_.T)), self._dimension)
        self._decode = _in_blocks(_graph(lambda block: self._decoder(block, training=False)), self._seen)

    def _embeddings(self, X: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Rows of length 1, or of mean square length 1: either way one loss and one learning rate fit."""
        chosen = X[part]  # a copy already: no other for the division
        divisor = np.maximum(_lengths(chosen), 1e-12)[:, None] if self._unit else np.float32(self._scale)
        return np.divide(chosen, divisor, out=chosen)

    def _require_fitted(self) -> None:
        if not hasattr(self, "history_"):
            raise E2TError("this ParametricUMAP is not fitted; call fit, or ParametricUMAP.load(folder)")


_SAVED = (
    "held_out_",
    "train_",
    "coordinates_",
    "layout_",
    "neighbor_distance_",
    "smoothing_",
    "fourier_width_",
    "directions_",
    "history_",
    "metrics_",
    "_dimension",
    "_unit",
    "_scale",
)


def _lengths(X: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", X, X))  # np.linalg.norm would make a copy of X


def _graph(network: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    call = tf.function(network)
    return lambda block: call(tf.constant(block)).numpy()


def _in_blocks(
    call: Callable[[np.ndarray], np.ndarray], width: int, sizes: tuple[int, ...] = BLOCKS
) -> Callable[[np.ndarray], np.ndarray]:
    def run(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), width), np.float32)
        for start in range(0, len(rows), sizes[-1]):
            block = rows[start : start + sizes[-1]]
            size = next(size for size in sizes if size >= len(block))
            padding = np.zeros((size - len(block), rows.shape[1]), np.float32)
            padded = np.concatenate([block, padding]) if len(padding) else block
            out[start : start + len(block)] = call(padded)[: len(block)]
        return out

    return run


def neighbor_distance(coordinates: np.ndarray) -> float:
    """Median distance between nearest neighbours; duplicates say nothing about the spacing and are left out.

    Raises:
        E2TError: there are only duplicates.
    """
    nearest = NearestNeighbors(n_neighbors=1).fit(coordinates).kneighbors()[0][:, 0]
    if not nearest.any():
        raise E2TError("coordinates: every document lies on top of another; give a layout that tells them apart")
    return float(np.median(nearest[nearest > 0]))
