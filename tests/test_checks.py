"""Checks: whatever is broken, the report names its file and its document, and nothing hides anything else."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2t_lib.dataset import CheckReport, check_folder, load_dataset
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.settings import CheckSettings

DATA = Path(__file__).resolve().parents[1] / "data"
E, M, C = FILES = ("all_embeddings.json", "all_metadata.json", "coordinates.json")
PRISTINE = {name: json.loads((DATA / "arxiv_test" / name).read_text(encoding="utf-8")) for name in FILES}
IDS = [record["document_id"] for record in PRISTINE[E]]
NOT_RE_EMBEDDED = CheckSettings(sample=0)


@dataclass
class Broken:
    """The parsed files, and the document that a corruption changes."""

    files: dict
    row: int
    component: int = 0

    @property
    def document_id(self) -> str:
        return IDS[self.row]

    @property
    def vector(self) -> list:
        return self.files[E][self.row]["embedding"]

    @property
    def record(self) -> dict:
        return self.files[M][self.row]


@contextmanager
def written(files: dict) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_text(json.dumps(content))
        yield Path(name)


def report_of(files: dict) -> CheckReport:
    with written(files) as folder:
        return check_folder(folder, NOT_RE_EMBEDDED)


def put(value) -> Callable[[Broken], None]:
    return lambda it: it.vector.__setitem__(it.component, value)


# {what is done to one document: (the file to be named, the kind of problem, how)}
CORRUPTIONS: dict[str, tuple[str, str, Callable[[Broken], object]]] = {
    "component NaN": (E, "number", put(float("nan"))),
    "component infinite": (E, "number", put(float("-inf"))),
    "component too large for float32": (E, "number", put(1e300)),
    "component an integer beyond floats": (E, "number", put(10**400)),
    "component null": (E, "number", put(None)),
    "component a string": (E, "number", put("0.1")),
    "component a boolean": (E, "number", put(True)),
    "component a list": (E, "number", put([0.1])),
    "component dropped": (E, "dimension", lambda it: it.vector.pop(it.component)),
    "component added": (E, "dimension", lambda it: it.vector.insert(it.component, 0.5)),
    "embedding empty": (E, "dimension", lambda it: it.vector.clear()),
    "embedding null": (E, "dimension", lambda it: it.files[E][it.row].update(embedding=None)),
    "embedding absent": (E, "dimension", lambda it: it.files[E][it.row].pop("embedding")),
    "embedding zero": (E, "zero vector", lambda it: it.files[E][it.row].update(embedding=[0] * 384)),
    "embedding repeated": (E, "id", lambda it: it.files[E].append(it.files[E][it.row])),
    "embedding record deleted": (E, "id", lambda it: it.files[E].pop(it.row)),
    "embedding renamed": (E, "id", lambda it: it.files[E][it.row].update(document_id="other")),
    "metadata repeated": (M, "id", lambda it: it.files[M].insert(0, it.record)),
    "metadata deleted": (M, "id", lambda it: it.files[M].pop(it.row)),
    "metadata renamed": (M, "id", lambda it: it.record.update(document_id="other")),
    "title empty": (M, "text", lambda it: it.record.update(title="")),
    "content blank": (M, "text", lambda it: it.record.update(content=" \n\t")),
    "title null": (M, "record", lambda it: it.record.update(title=None)),
    "content absent": (M, "record", lambda it: it.record.pop("content")),
    "content a number": (M, "record", lambda it: it.record.update(content=3)),
    "content a lone surrogate": (M, "record", lambda it: it.record.update(content="half a \ud83d")),
    "authors a string": (M, "record", lambda it: it.record.update(authors="A, B")),
    "categories of numbers": (M, "record", lambda it: it.record.update(categories=[1])),
    "place deleted": (C, "id", lambda it: it.files[C].pop(it.document_id)),
    "place far outside": (C, "outlier", lambda it: it.files[C][it.document_id].__setitem__(it.component % 2, -80.0)),
    "place NaN": (C, "number", lambda it: it.files[C][it.document_id].__setitem__(it.component % 2, float("nan"))),
    "place of three numbers": (C, "number", lambda it: it.files[C][it.document_id].append(0.0)),
    "place null": (C, "number", lambda it: it.files[C].update({it.document_id: None})),
    "place of strings": (C, "number", lambda it: it.files[C].update({it.document_id: ["0", "1"]})),
}
STRUCTURAL = sorted(name for name, (_, kind, _) in CORRUPTIONS.items() if kind not in ("text", "outlier"))


@pytest.mark.parametrize("name", CORRUPTIONS)
@settings(max_examples=3, deadline=None)
@given(row=st.integers(0, 9), component=st.integers(0, 383))
def test_every_corruption_is_named_by_file_document_and_kind_and_accuses_nobody_else(name, row, component):
    file, kind, corrupt = CORRUPTIONS[name]
    it = Broken(copy.deepcopy(PRISTINE), row, component)
    corrupt(it)
    problems = report_of(it.files).problems
    assert (file, it.document_id, kind) in {(problem.file, problem.document_id, problem.kind) for problem in problems}
    assert {problem.document_id for problem in problems} <= {it.document_id, "other"}
    assert all(problem.message and "\n" not in str(problem) for problem in problems)


# Deleting and repeating records moves the rows of the others, so these are left to the test above.
INDEPENDENT = [name for name in CORRUPTIONS if not any(word in name for word in ("deleted", "repeated", "renamed"))]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 9), st.sampled_from(INDEPENDENT), min_size=2, max_size=4))
@example({0: "place NaN", 1: "place NaN", 2: "place NaN"})  # seven points are left, most of them close together
def test_no_problem_hides_another(wanted):
    files = copy.deepcopy(PRISTINE)
    for row, name in wanted.items():
        CORRUPTIONS[name][2](Broken(files, row, row))
    found = {(problem.file, problem.document_id) for problem in report_of(files).problems}
    assert found == {(CORRUPTIONS[name][0], IDS[row]) for row, name in wanted.items()}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STRUCTURAL), st.integers(0, 9))
def test_what_cannot_be_used_is_not_loaded_and_the_error_names_file_and_document(name, row):
    file, _, corrupt = CORRUPTIONS[name]
    it = Broken(copy.deepcopy(PRISTINE), row)
    corrupt(it)
    with written(it.files) as folder, pytest.raises(E2TError) as caught:
        load_dataset(folder)
    message = str(caught.value)
    assert f"/{file}: {it.document_id}: " in message or ("renamed" in name and f"/{file}: other: " in message)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 0.99))
def test_a_file_cut_anywhere_is_named_and_the_others_are_still_checked(file, share):
    files = copy.deepcopy(PRISTINE)
    other = M if file != M else C
    corruption = "title empty" if other == M else "place null"
    CORRUPTIONS[corruption][2](Broken(files, 4))
    with written(files) as folder:
        text = (folder / file).read_text()
        (folder / file).write_text(text[: int(share * len(text))])
        problems = check_folder(folder, NOT_RE_EMBEDDED).problems
    assert [problem for problem in problems if problem.file == file and problem.kind == "file"]
    assert [problem for problem in problems if problem.file == other and problem.document_id == IDS[4]]
    assert len(problems) == 2


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["document_id", "embedding", "title", "content", IDS[0]]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([*FILES, "dataset.json"]), ANY_JSON)
def test_any_json_in_any_file_gives_a_report(file, content):
    report = report_of({**PRISTINE, file: content})
    assert report.problems if file != "dataset.json" else report.documents == 10


def test_deeply_nested_json_and_binary_parquet_are_problems_not_crashes():
    with written(PRISTINE) as folder:
        (folder / E).write_text("[" * 100_000)
        (folder / "coordinates.parquet").write_bytes(b"PAR1 nonsense PAR1")
        (folder / M).write_bytes(b"\xff\xfe[]")
        problems = check_folder(folder, NOT_RE_EMBEDDED).problems
    assert [(p.file, p.kind) for p in problems] == [(E, "file"), (M, "file"), ("coordinates.parquet", "file")]


def test_parquet_without_its_columns_says_which():
    import pyarrow as pa
    import pyarrow.parquet as pq

    with written(PRISTINE) as folder:
        pq.write_table(pa.table({"document_id": IDS, "vector": [[1.0]] * 10}), folder / "all_embeddings.parquet")
        problems = check_folder(folder, NOT_RE_EMBEDDED).problems
    assert [str(p) for p in problems] == ["all_embeddings.parquet: no column embedding; it has document_id, vector"]


def test_nulls_in_parquet_vectors_are_named_by_document():
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = copy.deepcopy(PRISTINE[E])
    rows[3]["embedding"][5] = None
    rows[6]["embedding"] = None
    with written(PRISTINE) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "all_embeddings.parquet")
        problems = check_folder(folder, NOT_RE_EMBEDDED).problems
    assert {(p.document_id, p.kind) for p in problems} == {(IDS[3], "number"), (IDS[6], "dimension")}


def test_an_id_that_only_one_file_holds_is_named_there():
    files = copy.deepcopy(PRISTINE)
    files[C]["stray"] = [0.0, 0.0]
    problems = report_of(files).problems
    assert [(p.file, p.document_id, p.kind) for p in problems] == [(C, "stray", "id")]
    assert E in problems[0].message and M in problems[0].message


def test_ragged_dimensions_are_judged_by_the_description_before_the_majority():
    files = copy.deepcopy(PRISTINE)
    for record in files[E][:6]:
        record["embedding"] = record["embedding"][:100]
    by_majority = {problem.document_id for problem in report_of(files).problems}
    by_description = {
        problem.document_id for problem in report_of({**files, "dataset.json": {"dimension": 384}}).problems
    }
    assert by_majority == set(IDS[6:]) and by_description == set(IDS[:6])


def test_a_description_no_embedding_agrees_with_is_one_problem():
    problems = report_of({**PRISTINE, "dataset.json": {"dimension": 768}}).problems
    assert [(p.file, p.kind) for p in problems] == [("dataset.json", "dimension")]


def test_outliers_are_found_on_a_map_whose_points_lie_mostly_on_one_line():
    ids = [f"d{i}" for i in range(40)]
    files = {
        E: [{"document_id": i, "embedding": [1.0, n]} for n, i in enumerate(ids)],
        M: [{"document_id": i, "title": i, "content": i} for i in ids],
        C: {i: [n / 10, 0.0 if n % 4 else 0.5] for n, i in enumerate(ids)},
    }
    assert report_of(files).ok  # a quarter of the points off the line is no outlier, though the deviation's median is 0
    files[C]["d7"] = [0.7, 90.0]
    assert [(p.document_id, p.kind) for p in report_of(files).problems] == [("d7", "outlier")]
    files[C] = {i: [2.0, 2.0] for i in ids}
    assert report_of(files).ok


def test_repeated_texts_and_embeddings_are_notes():
    files = copy.deepcopy(PRISTINE)
    files[M][8].update(title=files[M][2]["title"], content=files[M][2]["content"])
    files[E][5]["embedding"] = files[E][1]["embedding"]
    report = report_of(files)
    assert report.ok
    assert {(note.file, note.document_id) for note in report.notes} == {(M, IDS[8]), (E, IDS[5])}


@pytest.fixture(scope="module")
def embedded():
    return Embedder("embedded")


@pytest.mark.parametrize(("name", "documents"), [("arxiv_test", 10), ("arxiv_aug_sep", 1040)])
def test_shipped_folders_pass_every_check(name, documents):
    report = check_folder(DATA / name, CheckSettings(sample=16))
    assert report.problems == report.notes == []
    assert report.counts == dict.fromkeys(FILES, documents) and report.documents == documents
    assert report.embedder == "embedded" and len(report.cosines) == min(documents, 16)
    assert min(report.cosines.values()) > 0.9999


def test_embeddings_given_to_the_wrong_documents_are_named_one_by_one(embedded):
    files = copy.deepcopy(PRISTINE)
    one, other = files[E][2], files[E][9]
    one["embedding"], other["embedding"] = other["embedding"], one["embedding"]
    with written(files) as folder:
        report = check_folder(folder, CheckSettings(), embedded)
    assert {(p.file, p.document_id, p.kind) for p in report.problems} == {(E, i, "embedder") for i in (IDS[2], IDS[9])}
    assert len(report.cosines) == 10


def test_broken_documents_do_not_stop_the_others_from_being_re_embedded(embedded):
    files = copy.deepcopy(PRISTINE)
    for row, name in enumerate(("component NaN", "title empty", "embedding zero", "component dropped")):
        CORRUPTIONS[name][2](Broken(files, row))
    with written(files) as folder:
        report = check_folder(folder, CheckSettings(), embedded)
    assert set(report.cosines) == set(IDS[4:])
    assert {p.document_id for p in report.problems} == set(IDS[:4])


def counting(texts: list[str]) -> np.ndarray:
    """An embedder of another kind: how often a text has each letter."""
    return np.array([[1 + text.count(letter) for letter in "abcdefgh"] for text in texts])


def test_an_embedder_of_another_dimension_is_one_problem():
    with written(PRISTINE) as folder:
        problems = check_folder(folder, CheckSettings(), Embedder(counting)).problems
    assert [(p.file, p.document_id, p.kind) for p in problems] == [(E, "", "embedder")]
    assert "8" in problems[0].message and "384" in problems[0].message


def test_an_unreachable_embedder_is_one_problem_of_the_description():
    with written({**PRISTINE, "dataset.json": {"embedder": "nobody/has-this-model"}}) as folder:
        problems = check_folder(folder, CheckSettings()).problems
    assert [(p.file, p.kind) for p in problems] == [("dataset.json", "embedder")]
    assert "nobody/has-this-model" in problems[0].message


def test_the_sample_is_the_same_every_time(embedded):
    with written(PRISTINE) as folder:
        first, second = (check_folder(folder, CheckSettings(sample=3), embedded) for _ in range(2))
    assert list(first.cosines) == list(second.cosines) and len(first.cosines) == 3
