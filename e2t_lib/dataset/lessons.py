"""What notebook 01 shows: datasets broken on purpose, and what a cosine means in a corpus."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.embedder import Embedder, embedded_model_path


def _nan(embeddings: list, _metadata: list, _places: dict) -> None:
    embeddings[0]["embedding"][7] = float("nan")


def _missing_metadata(_embeddings: list, metadata: list, _places: dict) -> None:
    del metadata[0]


def _far_outside(_embeddings: list, _metadata: list, places: dict) -> None:
    places[next(iter(places))] = [1000.0, 0.0]


def _shuffled(embeddings: list, _metadata: list, _places: dict) -> None:
    vectors = [record["embedding"] for record in embeddings]
    for record, vector in zip(embeddings, vectors[1:] + vectors[:1], strict=True):
        record["embedding"] = vector


MISTAKES: dict[str, Callable[[list, list, dict], None]] = {
    "nan": _nan,
    "missing metadata": _missing_metadata,
    "far outside": _far_outside,
    "shuffled": _shuffled,
}


@contextmanager
def break_copy(folder: Path, mistake: str) -> Iterator[Path]:
    """A temporary copy of a dataset folder with one of the `MISTAKES` in it; gone on exit."""
    names = ["all_embeddings.json", "all_metadata.json", "coordinates.json"]
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / folder.name
        shutil.copytree(folder, copy)
        parts: list[Any] = [json.loads((copy / name).read_text(encoding="utf-8")) for name in names]
        MISTAKES[mistake](*parts)
        for name, part in zip(names, parts, strict=True):
            (copy / name).write_text(json.dumps(part), encoding="utf-8")
        yield copy


def wrongly_pooled() -> Embedder:
    """all-MiniLM-L6-v2 with one mistake: it takes the first token's vector for the mean of all tokens' vectors."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    model = SentenceTransformer(str(embedded_model_path()))
    model[1] = Pooling(model[1].embedding_dimension, pooling_mode="cls")
    return Embedder(lambda texts: model.encode(texts, show_progress_bar=False))


@dataclass(frozen=True)
class CosineBaselines:
    """Cosines between documents of one corpus, (m,) each."""

    random_pairs: np.ndarray
    nearest: np.ndarray


def cosine_baselines(embeddings: np.ndarray, *, sample: int = 1000, seed: int = 0) -> CosineBaselines:
    """Cosines of a seeded sample of documents with a random other document, and with their nearest one."""
    rng = np.random.default_rng(seed)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = rng.permutation(len(unit))[:sample]
    similarity = unit[rows] @ unit.T
    similarity[np.arange(len(rows)), rows] = -np.inf
    others = (rows + rng.integers(1, len(unit), size=len(rows))) % len(unit)
    return CosineBaselines((unit[rows] * unit[others]).sum(axis=1), similarity.max(axis=1))
