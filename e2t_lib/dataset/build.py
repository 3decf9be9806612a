"""A dataset folder from any documents: embeddings by the embedder, coordinates by umap-learn."""

import gzip
import json
import lzma
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.dataset.loading import COORDINATES, DESCRIPTION, EMBEDDINGS, METADATA, document_text, write_records
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, resolve, write_json

OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
OWN_FILES = {f"{stem}{suffix}" for stem in (EMBEDDINGS, METADATA, COORDINATES) for suffix in (".json", ".parquet")}


def build_dataset(
    input_file: str | Path,
    out_folder: str | Path,
    embedder: Embedder,
    *,
    seed: int = 0,
    neighbors: int = 15,
    min_dist: float = 0.1,
    limit: int = 0,
    description: dict[str, Any] | None = None,
) -> Path:
    """Make a dataset folder.

    Args:
        input_file: JSON lines (.jsonl, .jsonl.xz, .jsonl.gz) with document_id, title and content; further fields
            are kept in the metadata.
        out_folder: made, or replaced if it is a dataset folder already.
        embedder: makes the embeddings.
        seed, neighbors, min_dist: of umap-learn (cosine metric). A seed makes UMAP use one thread.
        limit: only the first so many documents; 0: all.
        description: further entries of dataset.json, such as licence and provenance.

    Raises:
        E2TError: a missing or broken input, by line; or the folder holds something else.
    """
    source, folder = resolve(input_file), Path(out_folder).absolute()
    _refuse_foreign(folder)
    documents = read_documents(source, limit)
    texts = [document_text(document["title"], document["content"]) for document in documents]
    embeddings = embedder.encode(texts, progress=True)
    places = umap_layout(embeddings, seed=seed, neighbors=neighbors, min_dist=min_dist)
    ids = [document["document_id"] for document in documents]
    described = {
        "embedder": embedder.name,
        "dimension": embeddings.shape[1],
        "normalised": True,
        "text_template": "{title}\n\n{content}",
        "documents": len(ids),
        "layout": {
            "method": "umap-learn",
            "metric": "cosine",
            "neighbors": neighbors,
            "min_dist": min_dist,
            "seed": seed,
        },
        "versions": {name: version(name) for name in ("umap-learn", "sentence-transformers")},
        "source": source.name,
        **(description or {}),
    }
    with atomic_folder(folder) as new:
        vectors = [np.round(row.astype(float), 6).tolist() for row in embeddings]
        rows = zip(ids, vectors, strict=True)
        write_records(new / f"{EMBEDDINGS}.json", [{"document_id": key, "embedding": row} for key, row in rows])
        write_records(new / f"{METADATA}.json", documents)
        layout = dict(zip(ids, np.round(places.astype(float), 5).tolist(), strict=True))
        lines = ",\n".join(
            f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(place)}" for key, place in layout.items()
        )
        (new / f"{COORDINATES}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        write_json(new / DESCRIPTION, described)
    return folder


def read_documents(path: Path, limit: int = 0) -> list[dict[str, Any]]:
    """The documents of a JSON lines file.

    Raises:
        E2TError: missing file, broken line, missing field, empty text or repeated document_id, by line.
    """
    documents: list[dict[str, Any]] = []
    first_lines: dict[str, int] = {}
    for number, line in _lines(path):
        document = _document(line, f"{path}, line {number}")
        key = document["document_id"]
        if key in first_lines:
            raise E2TError(f"{path}, line {number}: document_id {key!r} stands already in line {first_lines[key]}")
        first_lines[key] = number
        documents.append(document)
        if len(documents) == limit:
            break
    if len(documents) < 3:
        raise E2TError(f"{path}: {len(documents)} documents; a map needs three or more")
    return documents


def umap_layout(embeddings: np.ndarray, *, seed: int = 0, neighbors: int = 15, min_dist: float = 0.1) -> np.ndarray:
    """2-D coordinates by umap-learn (McInnes et al. 2018, arXiv:1802.03426), (n, 2) float32.

    Cosine metric, seeded, centred, and scaled by one factor so that the standard deviation over both axes is 1.
    """
    from umap import UMAP

    rows = len(embeddings)
    # The spectral start needs more points than it has dimensions to solve for.
    start = "spectral" if rows > 10 else "random"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed means one thread, which umap-learn warns of at every fit
        reducer = UMAP(
            n_neighbors=min(neighbors, rows - 1), min_dist=min_dist, metric="cosine", random_state=seed, init=start
        )
        places = np.asarray(reducer.fit_transform(embeddings), dtype=np.float64)
    places -= places.mean(axis=0)
    return (places / places.std()).astype(np.float32)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise E2TError(f"{path}: cannot be read ({error})") from None


def _document(line: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise E2TError(f"{where}: not valid JSON at column {error.colno}: {error.msg}") from None
    for key in ("document_id", "title", "content"):
        value = document.get(key) if isinstance(document, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise E2TError(f"{where}: {key} is missing or empty")
    return document


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise E2TError(f"{folder}: is a file; give a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and not names & OWN_FILES:
        raise E2TError(f"{folder}: holds other files ({sorted(names)[0]}); give a new folder")
