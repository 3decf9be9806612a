"""Ways from embeddings to a 2-D map and back, on rows that none has seen: one run, the same rows for all.

    python benchmarks/parametric_umap.py TRAIN.jsonl.xz --documents 10000 --seeds 0 1 2

Embeds the first documents of a file, lays all of them out by umap-learn, and for each seed splits them into training
rows and a fifth that is held out. Every way learns from the training rows and their places in that layout; umap-learn's
ParametricUMAP, which makes a map of its own, is brought onto it by the best affine map, and decodes its own coordinates
of the held-out rows. Writes benchmarks/results/parametric_umap.json; umap-learn's ParametricUMAP takes most of the time.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from machine import measured_on
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from umap import UMAP
from umap.parametric_umap import ParametricUMAP as TheirParametricUMAP

from e2t_lib.dataset.build import read_documents
from e2t_lib.dataset.layout import lay_out, layout_settings
from e2t_lib.dataset.records import text_of
from e2t_lib.embedder import Embedder
from e2t_lib.parametric_umap import ParametricUMAP
from e2t_lib.parametric_umap.metrics import SMOOTHING, cosine_ceiling, mean_cosine, shared_neighbors
from e2t_lib.vec2text.pretraining import embed_once

ROOT = Path(__file__).resolve().parents[1]
SLOW_ROWS = 200  # that umap-learn's inverse is asked for: each takes it a good part of a second
Way = Callable[[np.ndarray], np.ndarray]


@dataclass
class Fitted:
    """One way there and back."""

    place: Way
    decode: Way
    own_places: Way | None = None  # where it has a map of its own: coordinates there, which `decode` takes
    decoded_rows: int | None = None  # how many of the held-out rows are decoded; None: all


def main() -> None:
    """Embed, lay out, fit everything for every seed, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="others measured before are kept")
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "parametric_umap.json")
    asked = parser.parse_args()
    documents = read_documents(asked.corpus, asked.documents)
    texts = [text_of(document["title"], document["content"]) for document in documents]
    X = np.asarray(embed_once(texts, Embedder(), ROOT / "build" / "parametric_umap"), dtype=np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    xy = lay_out(X, layout_settings(len(X), seed=0))
    kept: dict[str, Any] = json.loads(asked.output.read_text()) if asked.output.exists() else {"ways": {}, "dates": {}}
    before, dates = kept["ways"], kept["dates"]
    runs: dict[str, list[dict[str, float]]] = {
        name: [run for run in before.get(name, []) if run["seed"] not in asked.seeds or name not in asked.only]
        for name in WAYS
    }
    for seed in asked.seeds:
        rows = np.random.default_rng(seed).permutation(len(X))
        train, test = rows[len(X) // 5 :], rows[: len(X) // 5]
        bound = ceiling(X, xy, train, test)
        for name in tqdm(asked.only, desc=f"seed {seed}"):
            began = time.perf_counter()
            fitted = WAYS[name](X[train], xy[train], seed)
            seconds = time.perf_counter() - began
            runs[name].append({"seed": seed, "fit_seconds": seconds, **scored(fitted, X, xy, train, test, bound)})
            print(name, json.dumps(runs[name][-1]), flush=True)
            figures = {"measured": measured_on(), "documents": len(X), "dimension": X.shape[1], "ways": runs}
            figures["dates"] = dates = dates | {
                name: figures["measured"]["date"]
            }  # of others, of when they were measured
            asked.output.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(runs))


def ours(X: np.ndarray, xy: np.ndarray, seed: int, **settings: Any) -> Fitted:
    """The estimator at its defaults, the guide's epochs and batch, with half as many rows held out for early stopping."""
    umap = ParametricUMAP(seed=seed, held_out=0.05, **settings).fit(X, xy, progress=False)
    return Fitted(umap.transform, umap.inverse_transform)


def encoder_only(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """The guide's literal recipe, which fine-tunes the encoder and leaves the decoder behind."""
    return ours(X, xy, seed, encoder_only=True, encoder_layers=(256, 128, 64), decoder_layers=(64, 128, 256))


def plain_encoder(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """What the guide describes, by Keras alone: its layers and epochs, then mean squared error to the layout."""
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(width, activation="relu") for width in (256, 128, 64)]
    encoder = keras.Sequential([keras.Input((X.shape[1],)), *hidden, keras.layers.Dense(2)])
    hidden = [keras.layers.Dense(width, activation="relu") for width in (64, 128, 256)]
    decoder = keras.Sequential([keras.Input((2,)), *hidden, keras.layers.Dense(X.shape[1])])
    whole, scaler = keras.Sequential([encoder, decoder]), StandardScaler().fit(xy)
    for network, wanted, epochs in ((whole, X, 100), (encoder, scaler.transform(xy), 50)):
        network.compile("adam", "mse")
        network.fit(X, wanted, batch_size=32, epochs=epochs, verbose=0)
    return Fitted(
        lambda rows: scaler.inverse_transform(encoder.predict(rows, batch_size=2_048, verbose=0)),
        lambda places: decoder.predict(scaler.transform(places), batch_size=2_048, verbose=0),
    )


def nearest_neighbors(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """Regression on the nearest rows both ways, their number and weights chosen by five-fold cross-validation."""
    choices = {"n_neighbors": [3, 5, 10, 15, 20, 30, 50], "weights": ["uniform", "distance"]}
    place = GridSearchCV(KNeighborsRegressor(), choices, scoring="neg_mean_squared_error").fit(X, xy)
    decode = GridSearchCV(KNeighborsRegressor(), choices, scoring="neg_mean_squared_error").fit(xy, X)
    return Fitted(place.predict, decode.predict)


def ridge(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """Linear both ways."""
    alphas = np.logspace(-3, 3, 7)
    return Fitted(RidgeCV(alphas).fit(X, xy).predict, RidgeCV(alphas).fit(xy, X).predict)


def umap_learn(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """umap-learn's own `transform` and `inverse_transform`, its layout of the training rows replaced by the given.

    At the size of its own layout, for its forces have one: at unit size it throws new rows off the map.
    """
    umap = UMAP(**layout_settings(len(X), seed), n_jobs=1).fit(X)
    scale = umap.embedding_.std() / xy.std()
    umap.embedding_ = np.ascontiguousarray(scale * xy, dtype=np.float32)
    return Fitted(
        lambda rows: umap.transform(rows) / scale,
        lambda places: umap.inverse_transform(scale * places),
        decoded_rows=SLOW_ROWS,
    )


def umap_learn_parametric(X: np.ndarray, xy: np.ndarray, seed: int) -> Fitted:
    """umap-learn's ParametricUMAP, an autoencoder at its defaults, but for a loss that signed embeddings can have."""
    umap = TheirParametricUMAP(
        **layout_settings(len(X), seed),
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=keras.losses.MeanSquaredError(),
        autoencoder_loss=True,
        keras_fit_kwargs={"verbose": 0},
        n_jobs=1,
    ).fit(X)
    aligned = aligned_to(umap.transform(X), xy)
    return Fitted(lambda rows: aligned(umap.transform(rows)), umap.inverse_transform, own_places=umap.transform)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, int], Fitted]] = {
    "ours": ours,
    "encoder only": encoder_only,
    "plain encoder": plain_encoder,
    "k nearest neighbours": nearest_neighbors,
    "ridge": ridge,
    "umap-learn": umap_learn,
    "umap-learn ParametricUMAP": umap_learn_parametric,
}


def aligned_to(own: np.ndarray, wanted: np.ndarray) -> Way:
    """The affine map that brings points, (n, 2), closest to others; more than a rotation and a scale, in their favour."""
    return LinearRegression().fit(own, wanted).predict


def ceiling(X: np.ndarray, xy: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """See `cosine_ceiling`."""
    index = NearestNeighbors(n_neighbors=SMOOTHING).fit(xy[train])
    return cosine_ceiling(
        X[train], index.kneighbors(return_distance=False), index.kneighbors(xy[test], return_distance=False)
    )


def scored(
    fitted: Fitted, X: np.ndarray, xy: np.ndarray, train: np.ndarray, test: np.ndarray, bound: float
) -> dict[str, float]:
    """Both ways on the held-out rows; distances in those between nearest neighbours of the layout, times in µs a row."""
    fitted.place(X[test])  # what is compiled on the first call is not timed; nothing of umap-learn's inverse is
    placed, place_time = timed(fitted.place, X[test])
    few = test[: fitted.decoded_rows]
    asked = fitted.own_places(X[few]) if fitted.own_places else xy[few]
    if not fitted.decoded_rows:
        fitted.decode(asked)
    decoded, decode_time = timed(fitted.decode, asked)
    spacing = np.median(NearestNeighbors(n_neighbors=1).fit(xy).kneighbors()[0])
    error = np.linalg.norm(placed - xy[test], axis=1)
    start = placed[: len(few)] if fitted.own_places else xy[few]
    returned = np.linalg.norm(fitted.place(decoded.astype(np.float32)) - start, axis=1)
    return {
        "coordinate_rmse": float(np.sqrt(np.mean(error**2))),
        "coordinate_error_median": float(np.median(error) / spacing),
        "neighbor_recall": shared_neighbors(NearestNeighbors().fit(xy[train]), xy[test], placed),
        "inverse_cosine": mean_cosine(decoded, X[few]),
        "fraction_of_ceiling": mean_cosine(decoded, X[few]) / bound,
        "round_trip_error": float(np.median(returned) / spacing),
        "place_microseconds": place_time,
        "decode_microseconds": decode_time,
    }


def timed(way: Way, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """The result, and microseconds a row: of the fastest of five calls, or of as many as fit into two seconds."""
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < 2:
        began = time.perf_counter()
        result = np.asarray(way(rows))
        seconds.append(time.perf_counter() - began)
    return result, 1e6 * min(seconds) / len(rows)


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Means over the seeds, one line a way that was measured."""
    runs = {way: figures for way, figures in runs.items() if figures}
    names = [name for name in next(iter(runs.values()))[0] if name != "seed"]
    lines = [["", *names], ["---", *("---:" for _ in names)]]
    for way, figures in runs.items():
        lines.append([way, *(f"{np.mean([run[name] for run in figures]):.3g}" for name in names)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
