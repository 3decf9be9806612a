"""A dataset folder in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.dataset.checks import structural_problems
from e2t_lib.dataset.records import Records, as_vector, read_records, text_of
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve


@dataclass(frozen=True, eq=False)
class Dataset:
    """Documents with their embeddings and their places on the map, row by row.

    Attributes:
        document_ids: n unique ids, in the order of the embeddings file.
        titles, contents: n strings each.
        authors, categories: n lists of strings each; empty where the metadata names none.
        embeddings: (n, d) float32, as stored.
        coordinates: (n, 2) float32.
        description: what dataset.json says, or {}.
        folder: where it was read.
    """

    document_ids: list[str]
    titles: list[str]
    contents: list[str]
    authors: list[list[str]]
    categories: list[list[str]]
    embeddings: np.ndarray
    coordinates: np.ndarray
    description: dict[str, Any]
    folder: Path

    def __len__(self) -> int:
        return len(self.document_ids)

    @cached_property
    def texts(self) -> list[str]:
        """Title, an empty line, content: what the embedder reads."""
        return [text_of(title, content) for title, content in zip(self.titles, self.contents, strict=True)]

    @cached_property
    def unit_embeddings(self) -> np.ndarray:
        """(n, d) float32, rows of length 1."""
        norms = np.linalg.norm(self.embeddings.astype(np.float64), axis=1, keepdims=True)
        return (self.embeddings / norms).astype(np.float32)

    def subset(self, indices: Sequence[int] | np.ndarray | slice) -> "Dataset":
        """The documents of these rows, in this order; rows as integers, a boolean mask or a slice."""
        rows = np.arange(len(self))[indices if isinstance(indices, slice | np.ndarray) else list(indices)]
        return Dataset(
            document_ids=[self.document_ids[row] for row in rows],
            titles=[self.titles[row] for row in rows],
            contents=[self.contents[row] for row in rows],
            authors=[self.authors[row] for row in rows],
            categories=[self.categories[row] for row in rows],
            embeddings=self.embeddings[rows],
            coordinates=self.coordinates[rows],
            description=self.description,
            folder=self.folder,
        )


def load_dataset(folder: str | Path) -> Dataset:
    """Read a dataset folder: the guide's three files joined by document_id, in the order of the embeddings file.

    A Parquet twin (`all_embeddings.parquet`, `all_metadata.parquet`, and `coordinates.parquet` with the columns
    document_id, x, y) is read where present in place of the JSON file.

    Args:
        folder: a relative one that does not exist from here is taken from the project root.

    Raises:
        E2TError: the folder is missing, or unusable; the message names file and document_id.
    """
    folder = resolve(folder)
    if not folder.is_dir():
        raise E2TError(f"{folder}: no such dataset folder")
    records = read_records(folder)
    problem = next(iter(records.problems), None) or next(structural_problems(records), None)
    if problem:
        raise E2TError(f"{folder / problem.file}: {problem.about} (`e2t check` lists every problem)")
    return _joined(records, folder)


def _joined(records: Records, folder: Path) -> Dataset:
    ids = records.embeddings.ids
    metadata = dict(zip(records.metadata.ids, records.metadata.values, strict=True))
    coordinates = dict(zip(records.coordinates.ids, records.coordinates.values, strict=True))
    documents = [metadata[document_id] for document_id in ids]
    return Dataset(
        document_ids=ids,
        titles=[document["title"] for document in documents],
        contents=[document["content"] for document in documents],
        authors=[document.get("authors") or [] for document in documents],
        categories=[document.get("categories") or [] for document in documents],
        embeddings=np.stack(records.vectors),
        coordinates=np.stack([as_vector(coordinates[document_id]) for document_id in ids]),
        description=records.description,
        folder=folder,
    )
