"""A dataset folder from any documents: embed them, lay them out, write the three files."""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.dataset.layout import lay_out, layout_settings
from e2t_lib.dataset.records import (
    COORDINATES,
    DESCRIPTION,
    EMBEDDINGS,
    METADATA,
    TEXT_TEMPLATE,
    is_names,
    is_text,
    shown,
    text_of,
)
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, resolve, write_json, write_text

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
UNDESCRIBED = {"licence": "unknown", "provenance": "unknown", "synthetic": False}


def build_dataset(
    input_file: str | Path,
    out_folder: str | Path,
    embedder: Embedder,
    *,
    seed: int = 0,
    neighbors: int = 15,
    min_dist: float = 0.1,
    description: dict[str, Any] | None = None,
    limit: int = 0,
) -> Path:
    """Make a dataset folder of a JSON Lines file of documents.

    Args:
        input_file: .jsonl, .jsonl.gz or .jsonl.xz; `document_id`, `title` and `content` required, every other field
            kept in the metadata.
        out_folder: made, or replaced if it holds a dataset and nothing else.
        embedder: of the texts.
        seed, neighbors, min_dist: of umap-learn's UMAP with cosine distance; neighbours are at most n - 1.
        description: licence, provenance, synthetic (bool) and whatever else dataset.json is to say.
        limit: read the first so many documents; 0 reads all.

    Returns:
        The folder, absolute.

    Raises:
        E2TError: input missing or broken (with its line), fewer than three documents, impossible settings, or a
            folder of other files.
    """
    _refuse_impossible_settings(seed, neighbors, min_dist, limit)
    folder = resolve(out_folder)
    _refuse_other_files(folder)
    documents = read_documents(resolve(input_file), limit)
    embeddings = embedder.encode(
        [text_of(document["title"], document["content"]) for document in documents], progress=True
    )
    # Rounding moves a unit vector of 384 dimensions by a cosine of 1e-11 and halves the file. The layout is made
    # of the rounded ones, so that it can be made again from the folder.
    embeddings = embeddings.astype(np.float64).round(6) + 0.0
    umap_settings = layout_settings(len(documents), seed, neighbors, min_dist)
    coordinates = lay_out(embeddings, umap_settings)
    about = {
        "documents": len(documents),
        "embedder": embedder.name,
        "dimension": embeddings.shape[1],
        "normalised": True,
        "text_template": TEXT_TEMPLATE,
        **UNDESCRIBED,
        **(description or {}),
        "umap": umap_settings,
        "versions": {name: version(name) for name in ("umap-learn", "pynndescent", "numpy")},
    }
    _write(folder, documents, embeddings, coordinates, about)
    return folder


def read_documents(path: Path, limit: int = 0) -> list[dict[str, Any]]:
    """The documents of a JSON Lines file, checked.

    Raises:
        E2TError: with the line, for the first that is not a document or repeats an id; for fewer than three.
    """
    documents: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, line in islice(_lines(path), limit or None):
        document = _parsed(line, f"{path}: line {number}")
        first = seen.setdefault(document["document_id"], number)
        if first != number:
            raise E2TError(f"{path}: line {number}: document_id {document['document_id']!r} is already on line {first}")
        documents.append(document)
    if len(documents) < 3:
        raise E2TError(f"{path}: {len(documents)} documents; a map needs at least 3")
    return documents


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise E2TError(f"{path}: cannot be read ({error})") from None


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
        json.dumps(
            document, ensure_ascii=False, allow_nan=False
        ).encode()  # NaN and lone surrogates: parsed, but not JSON
    except (ValueError, RecursionError) as error:
        raise E2TError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise E2TError(f'{where}: not an object {{"document_id": ..., "title": ..., "content": ...}}')
    for name in ("document_id", "title", "content"):
        if name not in document:
            raise E2TError(f"{where}: the field {name} is missing")
        if not is_text(document[name]):
            raise E2TError(f"{where}: {name} is {shown(document[name])}; it must be a non-empty string")
    for name in ("authors", "categories"):
        if not is_names(document.get(name)):
            raise E2TError(f"{where}: {name} is {shown(document[name])}; it must be a list of strings, or left out")
    return document


def _refuse_impossible_settings(seed: int, neighbors: int, min_dist: float, limit: int) -> None:
    allowed = {
        f"seed {seed}: must be from 0 to 2**32 - 1": 0 <= seed < 2**32,
        f"neighbors {neighbors}: must be at least 2": neighbors >= 2,
        f"min_dist {min_dist}: must be from 0 to 1": 0 <= min_dist <= 1,
        f"limit {limit}: must be 0 (all documents) or more": limit >= 0,
    }
    for message, fine in allowed.items():
        if not fine:
            raise E2TError(message)


def _refuse_other_files(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise E2TError(f"{folder}: is a file; name a folder to write the dataset to")
    stems = {Path(name).stem for name in (EMBEDDINGS, METADATA, COORDINATES, DESCRIPTION)}
    others = [
        path.name for path in folder.glob("*") if path.stem not in stems or path.suffix not in (".json", ".parquet")
    ]
    if others:
        raise E2TError(f"{folder}: holds other files ({min(others)}) that a build would remove; name another folder")


def _write(
    folder: Path,
    documents: list[dict[str, Any]],
    embeddings: np.ndarray,
    coordinates: np.ndarray,
    about: dict[str, Any],
) -> None:
    ids = [document["document_id"] for document in documents]
    with atomic_folder(folder) as temporary:
        rows = ({"document_id": i, "embedding": row.tolist()} for i, row in zip(ids, embeddings, strict=True))
        _write_lines(temporary / EMBEDDINGS, "[]", (json.dumps(row, separators=(",", ":")) for row in rows))
        _write_lines(temporary / METADATA, "[]", (json.dumps(document, ensure_ascii=False) for document in documents))
        pairs = zip(ids, coordinates.tolist(), strict=True)
        _write_lines(temporary / COORDINATES, "{}", (f"{json.dumps(i)}: {json.dumps(pair)}" for i, pair in pairs))
        write_json(temporary / DESCRIPTION, about)


def _write_lines(path: Path, brackets: str, lines: Iterable[str]) -> None:
    """One document a line, so that a change of one document is a diff of one line."""
    write_text(path, brackets[0] + "\n" + ",\n".join(lines) + "\n" + brackets[1] + "\n")
