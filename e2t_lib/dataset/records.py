"""The files of a dataset folder as they are: rows in file order, and a problem for each one that cannot be a row.

Loading and checking both start here: loading raises the first problem, checking collects them all.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from e2t_lib.errors import E2TError
from e2t_lib.files import read_json

EMBEDDINGS = "all_embeddings.json"
METADATA = "all_metadata.json"
COORDINATES = "coordinates.json"
DESCRIPTION = "dataset.json"
TEXT_TEMPLATE = "{title}\n\n{content}"

Kind = Literal["file", "record", "id", "dimension", "number", "zero vector", "text", "outlier", "embedder", "duplicate"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a dataset folder.

    Attributes:
        file: name inside the folder.
        document_id: "" where the file as a whole, or a record without a usable id, is meant.
        message: what is wrong and what was found, in one line.
        kind: the check that found it.
    """

    file: str
    document_id: str
    message: str
    kind: Kind

    @property
    def about(self) -> str:
        """Document and message."""
        return f"{self.document_id}: {self.message}" if self.document_id else self.message

    def __str__(self) -> str:
        return f"{self.file}: {self.about}"


@dataclass(frozen=True)
class Table:
    """One of the three files.

    Attributes:
        file: name of the file that was read, JSON or its Parquet twin.
        ids: document_ids in file order, repeated ones repeated.
        values: what stands beside each id: a vector, a metadata record, a pair; not checked.
        problems: found while reading.
        readable: False where the file is missing or broken, so that nothing can be said about its documents.
    """

    file: str
    ids: list[str]
    values: list[Any]
    problems: list[Problem]
    readable: bool = True


@dataclass(frozen=True)
class Records:
    """The three files and the description of a folder, with what was wrong already on reading."""

    embeddings: Table
    metadata: Table
    coordinates: Table
    description: dict[str, Any]
    problems: list[Problem]

    @property
    def tables(self) -> tuple[Table, Table, Table]:
        """In the order in which problems are reported."""
        return self.embeddings, self.metadata, self.coordinates

    @cached_property
    def vectors(self) -> list[np.ndarray]:
        """`as_vector` of every row of the embeddings file."""
        return [as_vector(value) for value in self.embeddings.values]

    @cached_property
    def dimension(self) -> int:
        """The dimension every embedding should have: the description's if any embedding has it, else the commonest."""
        lengths = Counter(len(vector) for vector in self.vectors if len(vector))
        stated = self.description.get("dimension")
        if isinstance(stated, int) and stated in lengths:
            return stated
        return lengths.most_common(1)[0][0] if lengths else 0


def read_records(folder: Path) -> Records:
    """Read a dataset folder; a Parquet twin is read where present in place of the JSON file. Raises nothing."""
    description, problems = _read(folder / DESCRIPTION, _description)
    tables = (
        _read_table(folder, EMBEDDINGS, _embedding_rows),
        _read_table(folder, METADATA, _metadata_rows),
        _read_table(folder, COORDINATES, _coordinate_rows),
    )
    problems = [*problems, *(problem for table in tables for problem in table.problems)]
    return Records(*tables, description=description or {}, problems=problems)


def as_vector(value: Any) -> np.ndarray:
    """A stored vector as float32, NaN in place of what is no number; empty where it is no vector at all."""
    if isinstance(value, list) and not set(map(type, value)) <= {float}:
        value = [_as_float(component) for component in value]
    if not isinstance(value, list | np.ndarray):
        return np.empty(0, np.float32)
    with np.errstate(over="ignore"):  # 1e300 is a JSON number, but infinite as float32: `not finite`, as reported
        return np.asarray(value, dtype=np.float64).astype(np.float32)


def text_of(title: str, content: str) -> str:
    """The text of a document: the one place that joins it."""
    return TEXT_TEMPLATE.format(title=title, content=content)


def is_text(value: Any) -> bool:
    """Whether the value is a string that UTF-8 can hold (no lone surrogate), and not blank."""
    return is_string(value) and bool(value.strip())


def is_string(value: Any) -> bool:
    """Whether the value is a string that UTF-8 can hold (JSON can name a lone surrogate, no tokenizer takes one)."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_names(value: Any) -> bool:
    """Whether the value can stand as authors or categories: a list of strings, or nothing."""
    return value is None or (isinstance(value, list) and all(map(is_string, value)))


def shown(value: Any) -> str:
    """A stored value as the file has it, cut to fit a line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_float(component: Any) -> float:
    if isinstance(component, bool) or not isinstance(component, int | float):
        return float("nan")
    try:
        return float(component)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf")


def _description(path: Path) -> dict[str, Any]:
    description = read_json(path) if path.exists() else {}
    if not isinstance(description, dict):
        raise E2TError("the top level must be an object {...}")
    return description


Rows = Iterable[tuple[Any, Any]]


def _read_table(folder: Path, name: str, rows_of: Callable[[Path], Rows]) -> Table:
    twin = (folder / name).with_suffix(".parquet")
    path = twin if twin.exists() else folder / name
    rows, problems = _read(path, lambda path: list(rows_of(path)))
    table = Table(path.name, [], [], problems, readable=not problems)
    if rows == []:
        problems.append(Problem(path.name, "", "holds no document", "record"))
    for row, (document_id, value) in enumerate(rows or []):
        if is_text(document_id):
            table.ids.append(document_id)
            table.values.append(value)
        else:
            found = "no document_id" if document_id is None else f"the document_id {shown(document_id)}"
            message = f"record {row} (from 0) has {found}; it must be a non-empty string"
            problems.append(Problem(path.name, "", message, "record"))
    return table


def _read(path: Path, reader: Callable[[Path], Any]) -> tuple[Any, list[Problem]]:
    try:
        return reader(path), []
    except E2TError as error:
        return None, [Problem(path.name, "", str(error).removeprefix(f"{path}: "), "file")]
    except (OSError, ValueError, NotImplementedError, RecursionError) as error:  # pyarrow's errors are among these
        reason = str(error).partition("\n")[0] or type(error).__name__
        return None, [Problem(path.name, "", f"cannot be read ({reason})", "file")]


def _embedding_rows(path: Path) -> Rows:
    return ((record.get("document_id"), record.get("embedding")) for record in _dicts(path, "embedding"))


def _metadata_rows(path: Path) -> Rows:
    return ((record.get("document_id"), record) for record in _dicts(path, "title", "content"))


def _coordinate_rows(path: Path) -> Rows:
    if path.suffix == ".parquet":
        return ((record["document_id"], [record["x"], record["y"]]) for record in _dicts(path, "x", "y"))
    if not isinstance(read_json(path), dict):
        raise E2TError('the top level must be an object {"document_id": [x, y], ...}')
    # Read again as pairs: a dict has silently dropped all but the last of equal keys.
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)


def _dicts(path: Path, *fields: str) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return _parquet_dicts(path, ("document_id", *fields))
    content = read_json(path)
    if not isinstance(content, list):
        raise E2TError(f'the top level must be a list [{{"document_id": ..., "{fields[0]}": ...}}, ...]')
    return [record if isinstance(record, dict) else {} for record in content]


def _parquet_dicts(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def plain(scalar: Any) -> Any:
        is_vector = (
            isinstance(scalar, pa.ListScalar) and scalar.is_valid and pa.types.is_floating(scalar.type.value_type)
        )
        # A view into the column: as_py would make 384 Python floats a document.
        return scalar.values.to_numpy(zero_copy_only=False) if is_vector else scalar.as_py()

    table = pq.ParquetFile(path).read()
    absent = [name for name in fields if name not in table.column_names]
    if absent:
        raise E2TError(f"no column {', '.join(absent)}; it has {', '.join(table.column_names)}")
    columns = [[plain(scalar) for scalar in column] for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
