"""Everything that can be wrong with a dataset folder, each problem by file and document_id.

One small function for each kind of mistake; all of them are run, so that one look shows all there is to mend.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from e2t_lib.dataset.loading import COORDINATES, DESCRIPTION, EMBEDDINGS, METADATA, RawDataset, document_text, read_raw
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve
from e2t_lib.settings import CheckSettings


class CanEmbed(Protocol):
    """What the checks need of an embedder."""

    name: str

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) unit rows."""
        ...


@dataclass(frozen=True)
class Problem:
    """One thing to mend."""

    kind: str
    file: str
    message: str
    document_id: str | None = None

    @property
    def where(self) -> str:
        """The document, as a prefix."""
        return "" if self.document_id is None else f"document {self.document_id}: "

    def __str__(self) -> str:
        return f"{self.file}: {self.where}{self.message}"


@dataclass(frozen=True)
class CheckReport:
    """What the checks found.

    Attributes:
        folder: the dataset.
        documents, dimension: its size, as far as it could be read.
        problems: to mend before any training.
        notes: worth knowing, not wrong.
    """

    folder: Path
    documents: int
    dimension: int
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)

    def raise_for_problems(self) -> None:
        """Raise E2TError unless all is well."""
        if self.problems:
            raise E2TError(f"{self.folder}: {len(self.problems)} problems, the first: {self.problems[0]}")


def check_folder(
    folder: str | Path, settings: CheckSettings | None = None, embedder: CanEmbed | None = None
) -> CheckReport:
    """Run every check.

    Args:
        folder: the dataset folder.
        settings: how closely to look.
        embedder: what should have made the embeddings; None: the one named in dataset.json, else the embedded one.

    Raises:
        E2TError: there is no such folder. Anything wrong inside is in the report.
    """
    folder, settings = resolve(folder), settings or CheckSettings()
    if not folder.is_dir():
        raise E2TError(f"{folder}: no such dataset folder")
    try:
        raw = read_raw(folder)
    except E2TError as error:
        path, _, message = str(error).partition(": ")
        return CheckReport(folder, 0, 0, [Problem("unreadable file", Path(path).name, message)])
    problems = list(structural_problems(raw))
    vectors = _vectors(raw)
    if not problems:
        problems += far_outside(raw, settings.outlier_distance)
        problems += not_reproduced(raw, vectors, settings, embedder)
    dimension = vectors.shape[1] if vectors is not None else 0
    return CheckReport(folder, len(raw.embeddings), dimension, problems, list(_notes(raw)))


def structural_problems(raw: RawDataset) -> Iterator[Problem]:
    """What makes a folder unusable, whatever its embedder: ids, shapes, values, texts."""
    if not raw.embeddings:
        yield Problem("empty", raw.names[EMBEDDINGS], "holds no document")
    yield from mismatched_ids(raw)
    yield from bad_vectors(raw)
    yield from bad_texts(raw)
    yield from bad_coordinates(raw)


def mismatched_ids(raw: RawDataset) -> Iterator[Problem]:
    """Ids that are no strings, stand twice in a file, or are missing from another."""
    ids = {
        EMBEDDINGS: [key for key, _ in raw.embeddings],
        METADATA: [record["document_id"] for record in raw.metadata],
        COORDINATES: [key for key, _ in raw.coordinates],
    }
    for stem, keys in ids.items():
        for row, key in enumerate(keys):
            if not isinstance(key, str) or not key.strip():
                yield Problem("bad id", raw.names[stem], f"record {row}: document_id is {key!r}, not a name")
        for key, times in Counter(map(str, keys)).items():
            if times > 1:
                yield Problem("duplicate id", raw.names[stem], f"stands {times} times", key)
    known = {stem: set(map(str, keys)) for stem, keys in ids.items()}
    for stem in (METADATA, COORDINATES):
        for key in sorted(known[EMBEDDINGS] - known[stem]):
            yield Problem("missing id", raw.names[stem], f"missing, though it is in {raw.names[EMBEDDINGS]}", key)
        for key in sorted(known[stem] - known[EMBEDDINGS]):
            yield Problem("missing id", raw.names[EMBEDDINGS], f"missing, though it is in {raw.names[stem]}", key)


def bad_vectors(raw: RawDataset) -> Iterator[Problem]:
    """Embeddings that are no list of finite numbers, have another length than the rest, or are zero."""
    name = raw.names[EMBEDDINGS]
    lengths = Counter(len(vector) for _, vector in raw.embeddings if isinstance(vector, list))
    expected = raw.description.get("dimension") or (lengths.most_common(1)[0][0] if lengths else 0)
    for key, vector in raw.embeddings:
        if not isinstance(vector, list) or not vector:
            yield Problem("bad embedding", name, "embedding is not a list of numbers", str(key))
        elif len(vector) != expected:
            yield Problem("wrong dimension", name, f"embedding has {len(vector)} dimensions, not {expected}", str(key))
        elif (position := _first_bad_number(vector)) is not None:
            message = f"embedding holds {vector[position]!r} at position {position}, not a finite number"
            yield Problem("not finite", name, message, str(key))
        elif not any(vector):
            yield Problem("zero vector", name, "embedding is all zeros: it points nowhere", str(key))


def bad_texts(raw: RawDataset) -> Iterator[Problem]:
    """Titles and contents that are missing, no strings, or empty."""
    for record in raw.metadata:
        for key in ("title", "content"):
            value = record.get(key)
            if not isinstance(value, str) or not value.strip():
                state = "missing" if value is None else "empty" if isinstance(value, str) else f"{value!r}, not a text"
                yield Problem("empty text", raw.names[METADATA], f"{key} is {state}", str(record["document_id"]))


def bad_coordinates(raw: RawDataset) -> Iterator[Problem]:
    """Coordinates that are not two finite numbers."""
    for key, place in raw.coordinates:
        if not isinstance(place, list) or len(place) != 2 or _first_bad_number(place) is not None:
            yield Problem("bad coordinates", raw.names[COORDINATES], f"{place!r} is not [x, y]", str(key))


def far_outside(raw: RawDataset, limit: float) -> Iterator[Problem]:
    """Coordinates more than `limit` median absolute deviations from the median, in x or in y.

    A single far point shrinks the rest of the map to a dot, and with it every error measured on it.
    """
    places = np.array([place for _, place in raw.coordinates], dtype=float)
    deviation = np.abs(places - np.median(places, axis=0))
    # Where more than half the points share a coordinate the median deviation is zero; the mean is not.
    scale = np.where(np.median(deviation, axis=0) > 0, np.median(deviation, axis=0), deviation.mean(axis=0))
    factors = (deviation / np.where(scale > 0, scale, 1.0)).max(axis=1)
    for row in np.flatnonzero(factors > limit):
        key, place = raw.coordinates[row]
        message = f"[{place[0]:g}, {place[1]:g}] is far outside: {factors[row]:.0f} median deviations from the centre"
        yield Problem("far outside", raw.names[COORDINATES], message, key)


def not_reproduced(
    raw: RawDataset, vectors: np.ndarray | None, settings: CheckSettings, embedder: CanEmbed | None
) -> Iterator[Problem]:
    """Stored embeddings that the embedder does not give for the stored text, in a seeded sample."""
    if vectors is None:
        return
    try:
        embedder = embedder or _named_embedder(raw)
    except E2TError as error:
        yield Problem("unreachable embedder", DESCRIPTION, str(error))
        return
    count = min(settings.sample, len(vectors))
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), size=count, replace=False))
    metadata = {record["document_id"]: record for record in raw.metadata}
    keys = [raw.embeddings[row][0] for row in rows]
    fresh = embedder.encode([document_text(metadata[key]["title"], metadata[key]["content"]) for key in keys])
    name = raw.names[EMBEDDINGS]
    if fresh.shape[1] != vectors.shape[1]:
        sizes = f"{fresh.shape[1]} dimensions, the stored embeddings have {vectors.shape[1]}"
        yield Problem("wrong embedder", name, f"embedder {embedder.name} makes {sizes}")
        return
    stored = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    for key, cosine in zip(keys, (stored * fresh).sum(axis=1), strict=True):
        if cosine < settings.minimum_cosine:
            message = f"embedder {embedder.name} gives another embedding for its text (cosine {cosine:.2f})"
            yield Problem("not reproduced", name, message, key)


def _named_embedder(raw: RawDataset) -> CanEmbed:
    from e2t_lib.embedder import EMBEDDED, Embedder

    return Embedder(raw.description.get("embedder", EMBEDDED))


def _notes(raw: RawDataset) -> Iterator[str]:
    seen: dict[Any, str] = {}
    for record in raw.metadata:
        text = record.get("content")
        if text in seen:
            yield f"{raw.names[METADATA]}: document {record['document_id']}: same content as {seen[text]}"
        elif isinstance(text, str):
            seen[text] = record["document_id"]


def _vectors(raw: RawDataset) -> np.ndarray | None:
    if any(True for _ in bad_vectors(raw)) or not raw.embeddings:
        return None
    return np.array([vector for _, vector in raw.embeddings], dtype=np.float32)


def _first_bad_number(values: Iterable[Any]) -> int | None:
    for position, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            return position
    return None
