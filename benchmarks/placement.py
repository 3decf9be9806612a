"""Do texts land where the map was pointed at, do they belong there, and are they new? Against the nearest document's text.

    python benchmarks/placement.py AUG_SEP.jsonl.xz --points 200

Lays out the documents, trains a map on them, and asks the embedded base, which has seen none of them, for texts at
three kinds of points: documents' own, half way between documents, and gaps. Every way of aiming is tried on a few points;
the default on all. Writes benchmarks/results/placement.json; no text of the corpus is kept. It takes hours: answers are kept
in build/placement/answers, so that a killed run goes on from there, as long as the library and the base are the same.
"""

import argparse
import hashlib
import itertools
import json
import pickle
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import measured_on
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from e2t_lib.dataset import Dataset, load_dataset
from e2t_lib.dataset.build import build_dataset
from e2t_lib.embedder import Embedder
from e2t_lib.explorer.widget import PATIENCE
from e2t_lib.parametric_umap import ParametricUMAP
from e2t_lib.placement import LayoutJudge, PlacementMeter, find_gaps, own_points, points_between
from e2t_lib.service import EmbeddingToTextRequest, EmbeddingToTextResponse, EmbeddingToTextService
from e2t_lib.settings import CorrectionSettings
from e2t_lib.vec2text import Vec2Text

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "placement" / "answers"
PART = 32  # points asked at a time
ALONE = 0.2  # share of the held-out documents that lies most alone
FOLDS = 10  # judges, each of which knows all documents but a tenth
APART = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # neighbour distances to the nearest document known; gaps begin at 3.5
SETTINGS = CorrectionSettings(max_length=64)  # a title and two sentences or so: a click is answered within ten seconds
ASK = EmbeddingToTextRequest(x=0.0, y=0.0)
WAYS = {
    f"{objective}, {target}": replace(ASK, objective=objective, target=target)  # type: ignore[arg-type]
    for target in ("mean", "blended", "sampled")
    for objective in ("embedding", "placement", "both")
}


def main() -> None:
    """Build, train, ask, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--points", type=int, default=200, help="of each kind")
    parser.add_argument("--few", type=int, default=24, help="of each kind, for each way of aiming")
    parser.add_argument(
        "--only", nargs="*", choices=WAYS, default=list(WAYS), help="ways; none: keep the figures there are"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "placement.json")
    asked = parser.parse_args()
    service = trained(asked.corpus)
    meter = PlacementMeter(service.umap, service.dataset)
    places = service.dataset.coordinates
    points = {
        "own": own_points(places, asked.points, seed=0),
        "between": points_between(places, asked.points, seed=1),
        "gaps": np.array([[gap.x, gap.y] for gap in find_gaps(places, asked.points)]),
    }
    figures: dict[str, Any] = {
        "measured": measured_on(),
        "documents": len(places),
        "real_documents": meter.real_documents(),
        "real_documents_alone": meter.real_documents(ALONE),
        "real_documents_apart": judged_apart(service, points["gaps"]),
        "click": click(service, points["between"][:5]),
    }
    print(json.dumps(figures, indent=1), flush=True)
    figures["ways"] = {} if asked.only else json.loads(asked.output.read_text())["ways"]
    for name in asked.only:
        few = {kind: every_nth(own, asked.few) for kind, own in points.items()}
        figures["ways"][name] = {kind: measure(service, meter, own, WAYS[name]) for kind, own in few.items()}
        print(name, json.dumps(figures["ways"][name], indent=1), flush=True)
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")
    for kind, own in points.items():
        figures[kind] = measure(service, meter, own, ASK) | {"nearest_document": retrieved(meter, own)}
        print(kind, json.dumps(figures[kind], indent=1), flush=True)
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")


def trained(corpus: Path) -> EmbeddingToTextService:
    """The documents with a map of them, made once, and the embedded base as it ships."""
    folder = ROOT / "build" / "placement" / corpus.name.partition(".")[0]
    if not (folder / "dataset.json").exists():
        build_dataset(corpus, folder, Embedder(), description={"synthetic": False})
    service = EmbeddingToTextService(correction=SETTINGS)
    service.dataset, service.vec2text = load_dataset(folder), Vec2Text.load("embedded")
    if not (folder.parent / "map").exists():
        fit_map(service.dataset).save(folder.parent / "map")
    service.umap = ParametricUMAP.load(folder.parent / "map")
    return service


def fit_map(dataset: Dataset) -> ParametricUMAP:
    """The map at its defaults."""
    return ParametricUMAP().fit(dataset.unit_embeddings, dataset.coordinates)


def judged_apart(service: EmbeddingToTextService, gaps: np.ndarray) -> dict[str, dict[str, float]]:
    """Median error of real documents by judges that do not know them, by how far they lie from any that these know."""
    embeddings, places = service.dataset.unit_embeddings, service.dataset.coordinates
    fold = np.random.default_rng(0).permutation(len(places)) % FOLDS
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # (m,) and (runs, m) of each judge
    for number in tqdm(range(FOLDS), desc="judges"):
        out = fold == number
        landed = LayoutJudge(embeddings[~out], places[~out]).place(embeddings[out])
        nearest = NearestNeighbors(n_neighbors=1).fit(places[~out]).kneighbors(places[out])[0][:, 0]
        parts.append((nearest, np.linalg.norm(landed - places[out], axis=-1)))
    apart, errors = (
        np.concatenate(part, axis=-1) / service.umap.neighbor_distance_ for part in zip(*parts, strict=True)
    )
    edges = (*APART, service.umap.distance_to_layout(gaps).min(), np.inf)
    names = [*(f"{low} to {high}" for low, high in itertools.pairwise(APART)), f"{APART[-1]} to gaps", "as gaps"]
    within = {"all": apart >= 0} | {
        name: (apart >= low) & (apart < high)
        for name, (low, high) in zip(names, itertools.pairwise(edges), strict=True)
    }
    return {
        name: {"documents": int(rows.sum()), "judge_error": float(np.median(errors[:, rows]))}
        for name, rows in within.items()
    }


def every_nth(points: np.ndarray, count: int) -> np.ndarray:
    """So many of them, spread evenly: gaps come by size."""
    return points[np.linspace(0, len(points) - 1, min(count, len(points))).astype(int)]


def click(service: EmbeddingToTextService, points: np.ndarray) -> dict[str, float]:
    """Median seconds until the first text of a single point, and until the last."""
    seconds = []
    for x, y in points:
        began, spent = time.perf_counter(), []
        for _ in service.generate_text_steps(replace(ASK, x=float(x), y=float(y)), PATIENCE):
            spent.append(time.perf_counter() - began)
        seconds.append((spent[0], spent[-1]))
    first, last = np.median(seconds[1:], axis=0)  # the first point warms up
    return {"first_text_seconds": float(first), "last_text_seconds": float(last)}


def measure(
    service: EmbeddingToTextService, meter: PlacementMeter, points: np.ndarray, ask: EmbeddingToTextRequest
) -> dict[str, Any]:
    """Figures of the texts, of those of iteration 0 and of the targets themselves, and seconds a text."""
    requests = [replace(ask, x=float(x), y=float(y)) for x, y in points]
    parts = [answered(service, requests[start : start + PART]) for start in range(0, len(requests), PART)]
    responses = [response for own, _ in parts for response in own]
    seconds = sum(spent for _, spent in parts) / len(points)
    final = figures_of(service, meter, points, [response.text_generation_result.text for response in responses])
    first = figures_of(service, meter, points, [response.trace[0].best.text for response in responses])
    return {
        "points": len(points),
        "seconds_a_text": seconds,
        **final,
        "distance": float(np.mean([response.distance for response in responses])),
        "converged": float(np.mean([response.converged for response in responses])),
        "perplexity": perplexity(service.vec2text, responses),
        "iteration_0": first,
        "target": meter.errors(points, np.stack([response.target_embedding for response in responses])),
    }


def answered(
    service: EmbeddingToTextService, requests: list[EmbeddingToTextRequest]
) -> tuple[list[EmbeddingToTextResponse], float]:
    """The answers and the seconds they took: kept ones, where the same was asked of the same code and weights."""
    path = KEPT / f"{hashlib.sha256(repr((SETTINGS, requests)).encode() + fingerprint()).hexdigest()[:24]}.pkl"
    if not path.exists():
        began = time.perf_counter()
        found = service.generate_texts(requests, progress=True), time.perf_counter() - began
        KEPT.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tmp").write_bytes(pickle.dumps(found))
        path.with_suffix(".tmp").rename(path)
        return found
    kept: tuple[list[EmbeddingToTextResponse], float] = pickle.loads(path.read_bytes())
    return kept


@cache
def fingerprint() -> bytes:
    """Of all that an answer depends on: the library, the base, the documents and their map."""
    folders = [ROOT / "e2t_lib", ROOT / "data" / "base_model", KEPT.parent]
    found = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    files = [path for path in found if path.suffix != ".pyc" and KEPT not in path.parents]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).digest()


def figures_of(
    service: EmbeddingToTextService, meter: PlacementMeter, points: np.ndarray, texts: list[str]
) -> dict[str, float]:
    """See `PlacementMeter.figures`."""
    return meter.figures(points, texts, service.vec2text.embedder.encode(texts))


def perplexity(model: Vec2Text, responses: list[EmbeddingToTextResponse]) -> float:
    """Of the texts given their own embeddings: what is well put is likely for what it says; babble is not."""
    texts = [response.text_generation_result.text for response in responses]
    return float(np.exp(model.loss(texts, model.embedder.encode(texts))))


def retrieved(meter: PlacementMeter, points: np.ndarray) -> dict[str, float]:
    """The baseline: the text of the nearest document, but for the one that a point is the place of."""
    dataset = meter.dataset
    distance, near = NearestNeighbors(n_neighbors=2).fit(dataset.coordinates).kneighbors(points)
    rows = np.where(distance[:, 0] < 1e-6, near[:, 1], near[:, 0])
    return meter.figures(points, [dataset.texts[row] for row in rows], dataset.unit_embeddings[rows])


if __name__ == "__main__":
    main()
