"""Building: JSON Lines in, a folder that passes every check out; or an error with the line."""

import gzip
import json
import lzma
import warnings
from pathlib import Path

import numpy as np
import pytest

from e2t_lib.dataset import build_dataset, check_folder, load_dataset
from e2t_lib.dataset.build import read_documents
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError

SMALL = Path(__file__).resolve().parents[1] / "data" / "arxiv_test"
DOCUMENTS = json.loads((SMALL / "all_metadata.json").read_text(encoding="utf-8"))


def letters(texts: list[str]) -> np.ndarray:
    """A fast embedder: how often a text has each letter."""
    return np.array([[1 + text.lower().count(letter) for letter in "abcdefghijklmnopqrst"] for text in texts])


def lines(documents: list) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text(lines(DOCUMENTS))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Ten documents with the real embedder, and what it warned of."""
    place = tmp_path_factory.mktemp("built")
    (place / "documents.jsonl").write_text(lines(DOCUMENTS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("always", RuntimeWarning)
        folder = build_dataset(
            place / "documents.jsonl", place / "out", Embedder("embedded"), seed=3, description={"licence": "CC0-1.0"}
        )
    return folder, [str(warning.message) for warning in caught]


def error_of(*arguments, **options) -> str:
    with pytest.raises(E2TError) as caught:
        build_dataset(*arguments, **options)
    return str(caught.value)


def test_what_is_built_passes_every_check_without_a_warning(built):
    folder, caught = built
    report = check_folder(folder)
    assert report.problems == [] and len(report.cosines) == 10
    assert caught == []


def test_what_is_built_holds_the_documents_their_embeddings_and_a_scaled_layout(built):
    dataset, shipped = load_dataset(built[0]), load_dataset(SMALL)
    assert dataset.texts == shipped.texts and dataset.categories == shipped.categories
    assert np.allclose(dataset.embeddings, shipped.embeddings, atol=1e-5)
    assert np.allclose(dataset.coordinates.mean(axis=0), 0, atol=1e-4)
    assert dataset.coordinates.std() == pytest.approx(1, abs=1e-4)


def test_description_records_how_it_was_made(built):
    description = load_dataset(built[0]).description
    assert description["embedder"] == "embedded" and description["dimension"] == 384
    assert description["documents"] == 10 and description["normalised"] is True
    assert description["licence"] == "CC0-1.0" and description["synthetic"] is False
    assert description["umap"]["random_state"] == 3 and description["umap"]["n_neighbors"] == 9
    assert description["versions"]["umap-learn"]


def test_files_hold_one_document_a_line(built):
    for name in ("all_embeddings.json", "all_metadata.json", "coordinates.json"):
        rows = (built[0] / name).read_text().splitlines()
        assert len(rows) == 12
        assert all(document["document_id"] in row for document, row in zip(DOCUMENTS, rows[1:-1], strict=True))


def test_same_seed_same_folder_other_seed_other_layout(source, tmp_path):
    folders = [
        build_dataset(source, tmp_path / f"out{i}", Embedder(letters), seed=seed) for i, seed in enumerate((0, 0, 1))
    ]
    first, again, other = ({path.name: path.read_text() for path in folder.iterdir()} for folder in folders)
    assert first == again
    assert first["coordinates.json"] != other["coordinates.json"]
    assert first["all_embeddings.json"] == other["all_embeddings.json"]


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_very_few_documents_get_a_layout_too(source, tmp_path, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        dataset = load_dataset(build_dataset(source, tmp_path / "out", Embedder(letters), limit=count))
    assert len(dataset) == count and len(np.unique(dataset.coordinates, axis=0)) == count


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), ("", bytes)])
def test_packed_and_plain_files_read_the_same(tmp_path, suffix, pack):
    path = tmp_path / f"documents.jsonl{suffix}"
    path.write_bytes(pack(("\n" + lines(DOCUMENTS)).encode()))
    assert read_documents(path) == DOCUMENTS
    assert read_documents(path, limit=4) == DOCUMENTS[:4]
    if suffix:
        path.write_bytes(path.read_bytes()[:-20])
        assert "cannot be read" in error_of(path, tmp_path / "out", Embedder(letters))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"document_id": "x", "title": ', "not valid JSON"),
        ("[1]", "not an object"),
        ('{"document_id": "x", "title": "t"}', "content is missing"),
        ('{"document_id": "x", "title": "t", "content": " "}', "content is"),
        ('{"document_id": "x", "title": null, "content": "c"}', "title is null"),
        ('{"document_id": 7, "title": "t", "content": "c"}', "document_id is 7"),
        ('{"document_id": "x", "title": "t", "content": "c", "score": NaN}', "not valid JSON"),
        (r'{"document_id": "x", "title": "t", "content": "\ud800"}', "not valid JSON"),
        ('{"document_id": "x", "title": "t", "content": "c", "authors": "A, B"}', "authors is"),
        (json.dumps(DOCUMENTS[1]), "already on line 2"),
    ],
)
def test_a_broken_line_is_named_by_file_and_number(tmp_path, line, words):
    path = tmp_path / "documents.jsonl"
    path.write_text(lines(DOCUMENTS[:4]) + line + "\n" + lines(DOCUMENTS[4:]))
    message = error_of(path, tmp_path / "out", Embedder(letters))
    assert f"{path}: line 5: " in message and words in message and "\n" not in message
    assert not (tmp_path / "out").exists()


def test_missing_input_and_too_few_documents_are_errors(source, tmp_path):
    assert "no such file" in error_of(tmp_path / "nowhere.jsonl", tmp_path / "out", Embedder(letters))
    assert "at least 3" in error_of(source, tmp_path / "out", Embedder(letters), limit=2)


@pytest.mark.parametrize("option", [{"neighbors": 1}, {"min_dist": 2.0}, {"seed": -1}, {"limit": -1}])
def test_impossible_settings_are_errors(source, tmp_path, option):
    assert next(iter(option)) in error_of(source, tmp_path / "out", Embedder(letters), **option)


def test_a_folder_of_other_files_is_left_alone_and_a_dataset_is_replaced(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in error_of(source, out, Embedder(letters))
    assert (out / "thesis.txt").read_text() == "years of work"
    assert "is a file" in error_of(source, source, Embedder(letters))
    (out / "thesis.txt").rename(out / "coordinates.parquet")
    build_dataset(source, out, Embedder(letters), limit=5)
    assert len(load_dataset(out)) == 5 and not (out / "coordinates.parquet").exists()
