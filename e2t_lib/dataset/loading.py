"""The dataset folder: three files joined by document_id, in the order of the embeddings."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.errors import E2TError
from e2t_lib.files import read_json, resolve

EMBEDDINGS, METADATA, COORDINATES = "all_embeddings", "all_metadata", "coordinates"
DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Dataset:
    """Documents, their embeddings and their places on the map; row i of each belongs to document i.

    Attributes:
        folder: where it was read.
        document_ids, titles, contents: n strings each.
        authors, categories: n lists of strings, empty where the metadata has none.
        embeddings: (n, d) float32.
        coordinates: (n, 2) float32, in the layout's own units.
        description: `dataset.json`, or {}.
    """

    folder: Path
    document_ids: list[str]
    titles: list[str]
    contents: list[str]
    embeddings: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    authors: list[list[str]] = field(default_factory=list, repr=False)
    categories: list[list[str]] = field(default_factory=list, repr=False)
    description: dict[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The text of each document: what was embedded, and what Vec2Text learns to write."""
        return [document_text(title, content) for title, content in zip(self.titles, self.contents, strict=True)]

    def __len__(self) -> int:
        return len(self.document_ids)


def document_text(title: str, content: str) -> str:
    """Title, an empty line, content."""
    return f"{title}\n\n{content}"


@dataclass(frozen=True)
class RawDataset:
    """What the files hold, before anything is believed of it.

    Attributes:
        embeddings: (document_id, vector) as they stand; the vector may be anything.
        metadata: one mapping a document.
        coordinates: (document_id, place).
        names: the file that each of the three was read from, JSON or its Parquet twin.
        description: `dataset.json`, or {}.
    """

    embeddings: list[tuple[Any, Any]]
    metadata: list[dict[str, Any]]
    coordinates: list[tuple[Any, Any]]
    names: dict[str, str]
    description: dict[str, Any]


def read_raw(folder: Path) -> RawDataset:
    """Read the files of a dataset folder without judging their values.

    Raises:
        E2TError: no such folder; a file is missing, is not JSON, or is not a list (or mapping) of records.
    """
    if not folder.is_dir():
        raise E2TError(f"{folder}: no such dataset folder")
    paths = {stem: _path(folder, stem) for stem in (EMBEDDINGS, METADATA, COORDINATES)}
    embeddings = _records(paths[EMBEDDINGS], ("document_id", "embedding"))
    metadata = _records(paths[METADATA], ("document_id",))
    description = folder / DESCRIPTION
    return RawDataset(
        embeddings=[(record["document_id"], record["embedding"]) for record in embeddings],
        metadata=metadata,
        coordinates=_places(paths[COORDINATES]),
        names={stem: path.name for stem, path in paths.items()},
        description=read_json(description) if description.exists() else {},
    )


def load_dataset(folder: str | Path) -> Dataset:
    """Read a dataset folder for use.

    Raises:
        E2TError: the first thing that makes it unusable, by file and document_id. `e2t check` names them all.
    """
    folder = resolve(folder)
    raw = read_raw(folder)
    from e2t_lib.dataset.checks import structural_problems

    for problem in structural_problems(raw):
        raise E2TError(
            f"{folder / problem.file}: {problem.where}{problem.message} (`e2t check {folder}` names every problem)"
        )
    metadata = {record["document_id"]: record for record in raw.metadata}
    places = dict(raw.coordinates)
    ids = [document_id for document_id, _ in raw.embeddings]
    return Dataset(
        folder=folder,
        document_ids=ids,
        titles=[metadata[key]["title"] for key in ids],
        contents=[metadata[key]["content"] for key in ids],
        authors=[list(metadata[key].get("authors") or []) for key in ids],
        categories=[_as_list(metadata[key].get("categories")) for key in ids],
        embeddings=np.array([vector for _, vector in raw.embeddings], dtype=np.float32),
        coordinates=np.array([places[key] for key in ids], dtype=np.float32),
        description=raw.description,
    )


def _as_list(value: Any) -> list[str]:
    """arXiv's own dumps write categories as one string, "cs.CL cs.LG"."""
    return value.split() if isinstance(value, str) else list(value if value is not None else [])


def _path(folder: Path, stem: str) -> Path:
    parquet = folder / f"{stem}.parquet"
    return parquet if parquet.exists() else folder / f"{stem}.json"


def _records(path: Path, required: tuple[str, ...]) -> list[dict[str, Any]]:
    records = _read_parquet(path) if path.suffix == ".parquet" else read_json(path)
    if not isinstance(records, list):
        raise E2TError(f"{path}: must hold a list of records, not a {type(records).__name__}")
    for row, record in enumerate(records):
        missing = [key for key in required if not isinstance(record, dict) or key not in record]
        if missing:
            raise E2TError(f"{path}: record {row} has no {missing[0]!r}")
    return records


def _places(path: Path) -> list[tuple[Any, Any]]:
    if path.suffix == ".parquet":
        return [(record["document_id"], [record["x"], record["y"]]) for record in _read_parquet(path)]
    pairs = read_json(path, object_pairs_hook=_Pairs)
    if not isinstance(pairs, _Pairs):
        raise E2TError(f"{path}: must hold a mapping of document_id to [x, y], not a {type(pairs).__name__}")
    return list(pairs)


class _Pairs(list):
    """A JSON object as its pairs, so that a key that stands twice is seen twice."""


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise E2TError(f"{path}: not a readable Parquet file ({error})") from None


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """A JSON list with one record a line: readable in a diff, and to a line-based tool."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
