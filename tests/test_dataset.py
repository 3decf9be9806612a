"""Datasets: what is loaded, what is built, and that every mistake is named by file and document."""

import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2t_lib.dataset import break_copy, build_dataset, check_folder, cosine_baselines, load_dataset
from e2t_lib.dataset.build import read_documents, umap_layout
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.settings import CheckSettings

ROOT = Path(__file__).resolve().parents[1]
TEN = ROOT / "data" / "arxiv_test"
FILES = ("all_embeddings.json", "all_metadata.json", "coordinates.json")
NO_EMBEDDING = CheckSettings(sample=0)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(TEN, tmp_path / "copy")


def edit(folder: Path, name: str, change) -> None:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.mark.parametrize(("name", "documents"), [("arxiv_test", 10), ("arxiv_aug_sep", 1040)])
def test_the_shipped_datasets_pass_every_check_and_say_that_they_are_synthetic(name, documents):
    report = check_folder(ROOT / "data" / name)
    assert report.problems == []
    assert (report.documents, report.dimension) == (documents, 384)
    described = load_dataset(ROOT / "data" / name).description
    assert described["synthetic"] is True and "no such papers exist" in described["provenance"]


def test_ten_documents_come_from_ten_fields():
    fields = {categories[0].split(".")[0] for categories in load_dataset(TEN).categories}
    assert len(fields) == 10


def test_the_order_of_the_embeddings_decides(copy):
    before = load_dataset(copy)
    edit(copy, "all_metadata.json", lambda records: records.reverse())
    edit(copy, "all_embeddings.json", lambda records: records.insert(0, records.pop()))
    after = load_dataset(copy)
    assert after.document_ids == [before.document_ids[-1], *before.document_ids[:-1]]
    assert after.titles[0] == before.titles[-1]
    assert np.array_equal(after.coordinates[0], before.coordinates[-1])
    assert after.embeddings.dtype == after.coordinates.dtype == np.float32


def test_parquet_twins_are_read_in_place_of_json(copy):
    import pandas as pd

    before = load_dataset(copy)
    for name in FILES[:2]:
        pd.DataFrame(json.loads((copy / name).read_text())).to_parquet((copy / name).with_suffix(".parquet"))
    places = json.loads((copy / FILES[2]).read_text())
    rows = [{"document_id": key, "x": x, "y": y} for key, (x, y) in places.items()]
    pd.DataFrame(rows).to_parquet(copy / "coordinates.parquet")
    for name in FILES:
        (copy / name).unlink()
    after = load_dataset(copy)
    assert after.texts == before.texts and after.categories == before.categories
    assert np.array_equal(after.embeddings, before.embeddings)
    assert np.array_equal(after.coordinates, before.coordinates)
    assert check_folder(copy, NO_EMBEDDING).problems == []


def _vector(row, change):
    return lambda records: change(records[row]["embedding"])


CORRUPTIONS = {
    "zero vector": (FILES[0], lambda r: lambda d: d[r].update(embedding=[0.0] * 384)),
    "not finite": (FILES[0], lambda r: lambda d: d[r]["embedding"].__setitem__(5, float("nan"))),
    "not finite ": (FILES[0], lambda r: lambda d: d[r]["embedding"].__setitem__(5, float("inf"))),
    "not finite  ": (FILES[0], lambda r: lambda d: d[r]["embedding"].__setitem__(5, "0.1")),
    "wrong dimension": (FILES[0], lambda r: lambda d: d[r]["embedding"].pop()),
    "bad embedding": (FILES[0], lambda r: lambda d: d[r].update(embedding=None)),
    "duplicate id": (FILES[0], lambda r: lambda d: d.append(dict(d[r]))),
    "missing id": (FILES[1], lambda r: lambda d: d.pop(r)),
    "duplicate id ": (FILES[1], lambda r: lambda d: d.append(dict(d[r]))),
    "empty text": (FILES[1], lambda r: lambda d: d[r].update(title="  ")),
    "empty text ": (FILES[1], lambda r: lambda d: d[r].pop("content")),
    "missing id ": (FILES[2], lambda r: lambda d: d.pop(list(d)[r])),
    "far outside": (FILES[2], lambda r: lambda d: d.__setitem__(list(d)[r], [0.0, 900.0])),
    "bad coordinates": (FILES[2], lambda r: lambda d: d.__setitem__(list(d)[r], [0.0, float("nan")])),
    "bad coordinates ": (FILES[2], lambda r: lambda d: d.__setitem__(list(d)[r], [1.0])),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(CORRUPTIONS)), row=st.integers(0, 9))
def test_every_corruption_is_named_by_kind_file_and_document(tmp_path_factory, kind, row):
    folder = tmp_path_factory.mktemp("corrupt") / "data"
    shutil.copytree(TEN, folder)
    name, corrupt = CORRUPTIONS[kind]
    document_id = load_dataset(TEN).document_ids[row]
    edit(folder, name, corrupt(row))
    problems = check_folder(folder, NO_EMBEDDING).problems
    assert (kind.strip(), name, document_id) in {(p.kind, p.file, p.document_id) for p in problems}
    assert {p.document_id for p in problems} == {document_id}
    if kind.strip() != "far outside":
        with pytest.raises(E2TError, match=document_id):
            load_dataset(folder)


def test_an_id_that_only_coordinates_know_is_named(copy):
    edit(copy, FILES[2], lambda places: places.update(stranger=[0.0, 0.0]))
    [problem] = check_folder(copy, NO_EMBEDDING).problems
    assert str(problem) == "all_embeddings.json: document stranger: missing, though it is in coordinates.json"


def test_a_key_that_stands_twice_in_coordinates_is_seen(copy):
    text = (copy / FILES[2]).read_text()
    first = load_dataset(copy).document_ids[0]
    (copy / FILES[2]).write_text(text.replace("{", f'{{"{first}": [0, 0],', 1))
    assert [p.kind for p in check_folder(copy, NO_EMBEDDING).problems] == ["duplicate id"]


def test_all_problems_are_named_at_once(copy):
    edit(copy, FILES[0], lambda records: (records[0].update(embedding=[0.0] * 384), records[1]["embedding"].pop()))
    edit(copy, FILES[1], lambda records: records[2].update(title=""))
    assert [p.kind for p in check_folder(copy).problems] == ["zero vector", "wrong dimension", "empty text"]


def test_an_embedder_that_does_not_reproduce_the_embeddings_is_a_problem(copy):
    def backwards(texts: list[str]) -> np.ndarray:
        return Embedder().encode(texts)[:, ::-1]

    problems = check_folder(copy, CheckSettings(sample=10), Embedder(backwards)).problems
    assert len(problems) == 10 and {p.kind for p in problems} == {"not reproduced"}
    short = check_folder(copy, None, Embedder(lambda texts: np.ones((len(texts), 3)))).problems
    assert [p.kind for p in short] == ["wrong embedder"] and "3 dimensions" in short[0].message


@pytest.mark.parametrize("mistake", ["nan", "missing metadata", "far outside", "shuffled"])
def test_the_mistakes_of_notebook_01_are_found(mistake):
    with break_copy(TEN, mistake) as folder:
        assert check_folder(folder, CheckSettings(sample=10)).problems


def test_a_file_that_is_missing_or_broken_is_named(copy):
    (copy / FILES[0]).write_text('[{"document_id": "a",\n  oops')
    [problem] = check_folder(copy).problems
    assert problem.file == FILES[0] and "line 2" in problem.message
    (copy / FILES[0]).unlink()
    assert "no such file" in check_folder(copy).problems[0].message
    with pytest.raises(E2TError, match="no such dataset folder"):
        check_folder(copy / "nowhere")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    source = load_dataset(TEN)
    documents = [
        {"document_id": key, "title": title, "content": content, "venue": "none"}
        for key, title, content in zip(source.document_ids, source.titles, source.contents, strict=True)
    ]
    with lzma.open(folder / "documents.jsonl.xz", "wt") as lines:
        lines.write("\n".join(json.dumps(document) for document in documents) + "\n\n")
    return build_dataset(folder / "documents.jsonl.xz", folder / "out", Embedder(), description={"licence": "CC0-1.0"})


def test_what_is_built_passes_the_checks_and_holds_the_documents(built):
    assert check_folder(built).problems == []
    dataset, source = load_dataset(built), load_dataset(TEN)
    assert dataset.texts == source.texts and dataset.document_ids == source.document_ids
    assert np.allclose(dataset.embeddings, source.embeddings, atol=2e-3)
    assert np.allclose(dataset.coordinates.mean(axis=0), 0, atol=1e-4)
    assert dataset.coordinates.std() == pytest.approx(1, abs=1e-4)
    assert dataset.description["embedder"] == "embedded" and dataset.description["licence"] == "CC0-1.0"
    assert json.loads((built / FILES[1]).read_text())[0]["venue"] == "none"


def test_the_layout_is_decided_by_the_seed():
    embeddings = load_dataset(TEN).embeddings
    first, second, other = (umap_layout(embeddings, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: not valid JSON at column 2"),
        ('{"document_id": "b", "title": "t"}', "line 2: content is missing or empty"),
        ('{"document_id": "a", "title": "t", "content": "c"}', "line 2: document_id 'a' stands already in line 1"),
        ("[1]", "line 2: document_id is missing"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    path = tmp_path / "documents.jsonl"
    path.write_text('{"document_id": "a", "title": "t", "content": "c"}\n' + line + "\n")
    with pytest.raises(E2TError, match=message.replace("(", r"\(")):
        read_documents(path)


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    with pytest.raises(E2TError, match="holds other files"):
        build_dataset(tmp_path / "none.jsonl", tmp_path / "letters", Embedder(lambda texts: np.ones((len(texts), 2))))


def test_baselines_of_known_vectors():
    embeddings = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    assert cosine_baselines(embeddings).nearest == pytest.approx(np.ones(4))
