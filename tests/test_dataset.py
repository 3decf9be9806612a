"""Loading: the three files become one table, or an error that says where they do not."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from e2t_lib.dataset import Dataset, load_dataset
from e2t_lib.errors import E2TError

SMALL = Path(__file__).resolve().parents[1] / "data" / "arxiv_test"
FULL = SMALL.with_name("arxiv_aug_sep")
FILES = ("all_embeddings.json", "all_metadata.json", "coordinates.json")


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    """The three files of the small dataset, and no description."""
    for name in FILES:
        (tmp_path / name).write_text((SMALL / name).read_text())
    return tmp_path


def error_of(folder: Path) -> str:
    with pytest.raises(E2TError) as caught:
        load_dataset(folder)
    return str(caught.value)


def same(one: Dataset, other: Dataset) -> bool:
    lists = ("document_ids", "titles", "contents", "authors", "categories")
    return (
        all(getattr(one, name) == getattr(other, name) for name in lists)
        and np.array_equal(one.embeddings, other.embeddings)
        and np.array_equal(one.coordinates, other.coordinates)
    )


@pytest.mark.parametrize(("path", "documents", "fields"), [(SMALL, 10, 10), (FULL, 1040, 45)])
def test_shipped_folders_load_with_the_promised_shapes_and_say_they_are_invented(path, documents, fields):
    dataset = load_dataset(path)
    assert len(dataset) == documents == len(set(dataset.document_ids))
    assert dataset.embeddings.shape == (documents, 384) and dataset.embeddings.dtype == np.float32
    assert dataset.coordinates.shape == (documents, 2) and dataset.coordinates.dtype == np.float32
    assert len({categories[0] for categories in dataset.categories}) == fields
    assert dataset.texts[0] == f"{dataset.titles[0]}\n\n{dataset.contents[0]}"
    assert dataset.description["synthetic"] is True and "no such papers exist" in dataset.description["provenance"]
    assert dataset.coordinates.mean() == pytest.approx(0, abs=1e-3)
    assert dataset.coordinates.std() == pytest.approx(1, abs=1e-3)


def test_order_of_the_embeddings_file_decides_however_the_others_are_shuffled(folder):
    expected = load_dataset(folder)
    metadata, coordinates = read(folder, FILES[1]), list(read(folder, FILES[2]).items())
    shuffle = random.Random(1).shuffle
    shuffle(metadata)
    shuffle(coordinates)
    assert [record["document_id"] for record in metadata] != expected.document_ids
    (folder / FILES[1]).write_text(json.dumps(metadata))
    (folder / FILES[2]).write_text(json.dumps(dict(coordinates)))
    assert same(load_dataset(folder), expected)

    embeddings = read(folder, FILES[0])
    (folder / FILES[0]).write_text(json.dumps(embeddings[::-1]))
    assert same(load_dataset(folder), expected.subset(slice(None, None, -1)))


@pytest.mark.parametrize("twins", [FILES, FILES[:1], FILES[1:]])
def test_parquet_twins_read_the_same_and_come_before_the_json(folder, twins):
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = load_dataset(folder)
    for name in twins:
        rows = read(folder, name)
        if name == "coordinates.json":
            rows = [{"document_id": key, "x": x, "y": y} for key, (x, y) in rows.items()]
        pq.write_table(pa.Table.from_pylist(rows), (folder / name).with_suffix(".parquet"), row_group_size=4)
        (folder / name).write_text("not JSON")
    assert same(load_dataset(folder), expected)


def test_fixed_size_float32_parquet_columns_read_the_same(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = load_dataset(folder)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(expected.embeddings.ravel()), 384)
    columns = {"document_id": pa.array(expected.document_ids), "embedding": vectors}
    pq.write_table(pa.table(columns), folder / "all_embeddings.parquet")
    (folder / "all_embeddings.json").unlink()
    assert same(load_dataset(folder), expected)


def test_authors_and_categories_may_be_absent(folder):
    bare = [{key: record[key] for key in ("document_id", "title", "content")} for record in read(folder, FILES[1])]
    (folder / FILES[1]).write_text(json.dumps(bare))
    dataset = load_dataset(folder)
    assert dataset.authors == dataset.categories == [[]] * 10
    assert dataset.description == {}


def test_subset_takes_integers_masks_and_slices():
    dataset = load_dataset(SMALL)
    picked = dataset.subset([7, 2])
    assert picked.document_ids == [dataset.document_ids[7], dataset.document_ids[2]]
    assert np.array_equal(picked.embeddings, dataset.embeddings[[7, 2]])
    mask = np.isin(np.arange(10), [2, 7])
    assert dataset.subset(mask).document_ids == picked.document_ids[::-1]
    assert dataset.subset(slice(3)).texts == dataset.texts[:3]
    assert dataset.subset((7, 2)).document_ids == picked.document_ids
    assert len(dataset.subset([])) == 0


def test_unit_embeddings_are_unit_rows_of_the_same_direction(folder):
    rows = read(folder, FILES[0])
    rows[0]["embedding"] = [value * 1e-20 for value in rows[0]["embedding"]]
    (folder / FILES[0]).write_text(json.dumps(rows))
    dataset = load_dataset(folder)
    assert np.allclose(np.linalg.norm(dataset.unit_embeddings, axis=1), 1, atol=1e-6)
    assert np.allclose(dataset.unit_embeddings, load_dataset(SMALL).embeddings, atol=1e-5)


def test_missing_folder_and_missing_file_are_named(folder):
    assert "no such dataset folder" in error_of(folder / "nowhere")
    (folder / FILES[2]).unlink()
    assert f"{FILES[2]}: no such file" in error_of(folder)


def test_broken_json_is_named_with_its_line(folder):
    path = folder / FILES[1]
    path.write_text(path.read_text().replace('"title"', "title", 4).replace("title:", '"title":', 2))
    assert f"{FILES[1]}: not valid JSON at line 4" in error_of(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (FILES[0], '{"a": [1]}', "must be a list"),
        (FILES[1], '"text"', "must be a list"),
        (FILES[2], "[[1, 2]]", "must be an object"),
        (FILES[0], "[]", "holds no document"),
        (FILES[1], "[3]", "no document_id"),
        ("dataset.json", "[]", "must be an object"),
        ("dataset.json", '{"dimension": 768}', "768"),
    ],
)
def test_wrong_shape_of_a_file_is_named(folder, name, content, words):
    (folder / name).write_text(content)
    message = error_of(folder)
    assert f"{name}: " in message and words in message


def test_repeated_key_of_the_coordinates_is_an_error_though_json_would_drop_it(folder):
    path = folder / FILES[2]
    key = next(iter(read(folder, FILES[2])))
    path.write_text(path.read_text().replace("{", "{" + f'"{key}": [0, 0],', 1))
    assert f"{FILES[2]}: {key}: appears 2 times" in error_of(folder)


def test_loading_needs_numpy_only(tmp_path):
    heavy = ("torch", "tensorflow", "transformers", "umap", "sklearn", "pandas", "pyarrow", "matplotlib", "scipy")
    code = "import sys; from e2t_lib.dataset import load_dataset; load_dataset(sys.argv[1])"
    code += f"; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code, str(SMALL)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert out.stdout.strip() == "[]"
