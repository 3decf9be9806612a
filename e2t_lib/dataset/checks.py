"""Data checks: everything wrong with a dataset folder, each problem by file and document_id, none hiding another.

A check is a generator of problems over the records of the folder. To add one, write it and list it below.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.dataset.records import (
    DESCRIPTION,
    Problem,
    Records,
    as_vector,
    is_names,
    is_string,
    is_text,
    read_records,
    shown,
    text_of,
)
from e2t_lib.embedder import EMBEDDED, Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve
from e2t_lib.settings import CheckSettings

FEW = 10  # points; with so many, twice the distance is allowed


@dataclass(frozen=True)
class CheckReport:
    """What `check_folder` found.

    Attributes:
        folder: absolute.
        counts: {file: records with a document_id}.
        documents: document_ids that all three files hold.
        dimension: of the embeddings; 0 if there are none.
        embedder: name of the embedder that the stored embeddings were compared with.
        cosines: {document_id: cosine of its stored and its fresh embedding}, of the sample.
        problems: must be mended before training.
        notes: worth a look, such as two documents with one text.
    """

    folder: Path
    counts: dict[str, int]
    documents: int
    dimension: int
    embedder: str
    cosines: dict[str, float]
    problems: list[Problem]
    notes: list[Problem]

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not self.problems


def check_folder(
    folder: str | Path, settings: CheckSettings | None = None, embedder: Embedder | None = None
) -> CheckReport:
    """Run every check on a dataset folder, and re-embed a sample of it.

    Args:
        folder: with the three files, JSON or Parquet, and perhaps dataset.json.
        settings: how closely to look; a sample of 0 leaves the embedder out.
        embedder: what made the embeddings, or anything with its `name` and `encode`; by default the one that
            dataset.json names, or else the embedded one.

    Returns:
        The report. A broken folder is a report with problems, never an exception.
    """
    settings = settings or CheckSettings()
    folder = resolve(folder)
    records = read_records(folder)
    problems = [*records.problems, *structural_problems(records), *empty_texts(records)]
    problems += coordinates_far_outside(records, settings.outlier_distance)
    name = embedder.name if embedder else str(records.description.get("embedder") or EMBEDDED)
    cosines, mismatches = compare_with_embedder(records, settings, embedder or name)
    return CheckReport(
        folder=folder,
        counts={table.file: len(table.ids) for table in records.tables},
        documents=len(set.intersection(*(set(table.ids) for table in records.tables))),
        dimension=records.dimension,
        embedder=name,
        cosines=cosines,
        problems=problems + mismatches,
        notes=[*repeated_texts(records), *repeated_embeddings(records)],
    )


def repeated_ids(records: Records) -> Iterator[Problem]:
    """A document_id that a file holds more than once."""
    for table in records.tables:
        for document_id, times in Counter(table.ids).items():
            if times > 1:
                yield Problem(table.file, document_id, f"appears {times} times", "id")


def mismatched_ids(records: Records) -> Iterator[Problem]:
    """A document_id that not all files hold, named in the file that is odd: the one to lack it, or to have it alone."""
    held = {table.file: set(table.ids) for table in records.tables if table.readable}
    for document_id in dict.fromkeys(chain.from_iterable(table.ids for table in records.tables)):
        holding = [file for file, ids in held.items() if document_id in ids]
        lacking = [file for file in held if file not in holding]
        if len(holding) == 1 and len(lacking) == 2:
            yield Problem(holding[0], document_id, f"is in no other file: {' and '.join(lacking)} lack it", "id")
        elif lacking:
            yield Problem(lacking[0], document_id, f"is missing here, but is in {' and '.join(holding)}", "id")


def stated_dimension(records: Records) -> Iterator[Problem]:
    """A description whose dimension no embedding has."""
    stated = records.description.get("dimension")
    if stated is not None and records.dimension and stated != records.dimension:
        message = f"dimension {shown(stated)}, but the embeddings have {records.dimension}"
        yield Problem(DESCRIPTION, "", message, "dimension")


def wrong_dimensions(records: Records) -> Iterator[Problem]:
    """An embedding that is no list, or longer or shorter than the others."""
    for document_id, value, vector in _embeddings(records):
        if not len(vector):
            message = f"the embedding is {shown(value)}; it must be a list of {records.dimension or 'finite'} numbers"
            yield Problem(records.embeddings.file, document_id, message, "dimension")
        elif len(vector) != records.dimension:
            message = f"the embedding has {len(vector)} dimensions instead of {records.dimension}"
            yield Problem(records.embeddings.file, document_id, message, "dimension")


def components_not_finite(records: Records) -> Iterator[Problem]:
    """An embedding with a NaN, an infinity, a null, a string: the first such component is shown."""
    for document_id, value, vector in _embeddings(records):
        bad = np.flatnonzero(~np.isfinite(vector))
        if len(bad):
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            message = f"component {bad[0]} (from 0) is {shown(value[bad[0]])}, not a finite float32 number{more}"
            yield Problem(records.embeddings.file, document_id, message, "number")


def zero_vectors(records: Records) -> Iterator[Problem]:
    """An embedding without a direction, which has no cosine to anything."""
    for document_id, _, vector in _embeddings(records):
        if len(vector) and not vector.any():
            yield Problem(records.embeddings.file, document_id, "the embedding is all zeros", "zero vector")


def broken_texts(records: Records) -> Iterator[Problem]:
    """A title or content that is no string; authors or categories that are no list of strings."""
    for document_id, record in zip(records.metadata.ids, records.metadata.values, strict=True):
        for name in ("title", "content"):
            if not is_string(record.get(name)):
                found = f"is {shown(record[name])}" if name in record else "is missing"
                yield Problem(records.metadata.file, document_id, f"{name} {found}; it must be a string", "record")
        for name in ("authors", "categories"):
            if not is_names(record.get(name)):
                message = f"{name} is {shown(record[name])}; it must be a list of strings, or left out"
                yield Problem(records.metadata.file, document_id, message, "record")


def broken_coordinates(records: Records) -> Iterator[Problem]:
    """Coordinates that are not two finite numbers."""
    for document_id, value in zip(records.coordinates.ids, records.coordinates.values, strict=True):
        pair = as_vector(value)
        if len(pair) != 2 or not np.isfinite(pair).all():
            message = f"the coordinates are {shown(value)}; they must be two finite numbers [x, y]"
            yield Problem(records.coordinates.file, document_id, message, "number")


STRUCTURAL: tuple[Callable[[Records], Iterator[Problem]], ...] = (
    repeated_ids,
    mismatched_ids,
    stated_dimension,
    wrong_dimensions,
    components_not_finite,
    zero_vectors,
    broken_texts,
    broken_coordinates,
)


def structural_problems(records: Records) -> Iterator[Problem]:
    """What makes a folder unusable; `load_dataset` raises the first."""
    return chain.from_iterable(check(records) for check in STRUCTURAL)


def empty_texts(records: Records) -> Iterator[Problem]:
    """A title or content with nothing to read in it."""
    for document_id, record in zip(records.metadata.ids, records.metadata.values, strict=True):
        for name in ("title", "content"):
            if is_string(record.get(name)) and not is_text(record[name]):
                yield Problem(records.metadata.file, document_id, f"{name} is empty", "text")


def coordinates_far_outside(records: Records, limit: float) -> Iterator[Problem]:
    """A map point more than `limit` median absolute deviations from the median in x or y; of few points, more than that."""
    pairs = [as_vector(value) for value in records.coordinates.values]
    good = [row for row, pair in enumerate(pairs) if len(pair) == 2 and np.isfinite(pair).all()]
    if not good:
        return
    points = np.array([pairs[row] for row in good], dtype=np.float64)
    away = np.abs(points - np.median(points, axis=0))
    spread = np.median(away, axis=0)
    # With more than half of the points on one line the median deviation is 0, and every other point would be far.
    spread = np.where(spread > 0, spread, away.mean(axis=0))
    far = away / np.where(spread > 0, spread, 1)
    # The deviation of few points may be small by chance: of 6 of 10 sound ones, one can lie 23 of them away.
    limit *= 1 + FEW / len(good)
    for row, distances in zip(good, far, strict=True):
        axis = int(distances.argmax())
        if distances[axis] > limit:
            value, times = pairs[row][axis], distances[axis]
            message = f"{'xy'[axis]} = {value:g} is far outside: {times:.0f} times as far from the median as is usual"
            yield Problem(records.coordinates.file, records.coordinates.ids[row], message, "outlier")


def compare_with_embedder(
    records: Records, settings: CheckSettings, embedder: Embedder | str
) -> tuple[dict[str, float], list[Problem]]:
    """Re-embed a seeded sample of the documents that have a sound embedding and text.

    Args:
        records: of the folder.
        settings: size of the sample, least cosine.
        embedder: or the name of one.

    Returns:
        {document_id: cosine of its stored and its fresh embedding}, and the embeddings that are not the embedder's.
    """
    stored, texts = _sound_embeddings(records), _texts(records)
    common = sorted(stored.keys() & texts.keys())
    sample = [common[i] for i in np.random.default_rng(0).permutation(len(common))[: settings.sample]]
    if not sample:
        return {}, []
    try:
        embedder = Embedder(embedder) if isinstance(embedder, str) else embedder
        fresh = np.asarray(embedder.encode([texts[document_id] for document_id in sample]), dtype=np.float64)
    except E2TError as error:
        return {}, [
            Problem(DESCRIPTION, "", f"the stored embeddings cannot be compared with fresh ones: {error}", "embedder")
        ]
    file = records.embeddings.file
    if fresh.shape[1] != records.dimension:
        message = f"the embedder {embedder.name} makes {fresh.shape[1]} dimensions, stored are {records.dimension}"
        return {}, [Problem(file, "", message, "embedder")]
    old = np.array([stored[document_id] for document_id in sample], dtype=np.float64)
    norms = np.linalg.norm(old, axis=1) * np.linalg.norm(fresh, axis=1)
    cosines = dict(zip(sample, ((old * fresh).sum(axis=1) / norms).tolist(), strict=True))
    tail = f"the embedder {embedder.name} gives the text is below {settings.minimum_cosine:g}"
    return cosines, [
        Problem(file, document_id, f"its cosine of {cosine:.3f} to the embedding {tail}", "embedder")
        for document_id, cosine in cosines.items()
        if cosine < settings.minimum_cosine
    ]


def repeated_texts(records: Records) -> Iterator[Problem]:
    """Documents with the very same title and content."""
    return _repeated(_texts(records), records.metadata.file, "text")


def repeated_embeddings(records: Records) -> Iterator[Problem]:
    """Documents with the very same embedding, which no decoder can tell apart."""
    vectors = {document_id: vector.tobytes() for document_id, vector in _sound_embeddings(records).items()}
    return _repeated(vectors, records.embeddings.file, "embedding")


def _repeated(values: Mapping[str, Hashable], file: str, what: str) -> Iterator[Problem]:
    first: dict[Hashable, str] = {}
    for document_id, value in values.items():
        if first.setdefault(value, document_id) != document_id:
            yield Problem(file, document_id, f"has the same {what} as {first[value]}", "duplicate")


def _embeddings(records: Records) -> Iterator[tuple[str, Any, np.ndarray]]:
    return zip(records.embeddings.ids, records.embeddings.values, records.vectors, strict=True)


def _sound_embeddings(records: Records) -> dict[str, np.ndarray]:
    return {
        document_id: vector
        for document_id, _, vector in _embeddings(records)
        if len(vector) == records.dimension and np.isfinite(vector).all() and vector.any()
    }


def _texts(records: Records) -> dict[str, str]:
    return {
        document_id: text_of(record["title"], record["content"])
        for document_id, record in zip(records.metadata.ids, records.metadata.values, strict=True)
        if is_text(record.get("title")) and is_text(record.get("content"))
    }
