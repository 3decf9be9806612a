"""Parametric UMAP: a given layout, carried both ways."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from e2t_lib.dataset.layout import lay_out, layout_settings
from e2t_lib.errors import E2TError
from e2t_lib.parametric_umap import ParametricUMAP, evaluate_map, placing, training
from e2t_lib.settings import MapSettings

SMALL = MapSettings(
    encoder_layers=(32,), decoder_layers=(32,), epochs=12, fine_tune_epochs=150, fourier_features=16, patience=0
)
GUIDE_METRICS = {"coordinate_mse", "coordinate_mae", "embedding_mse", "embedding_mae", "avg_cosine_similarity"}


def sheet(rows=200, dimension=24, seed=0):
    """Unit embeddings that bend with their place (x, y), noise added; the layout is neither centred nor scaled."""
    random = np.random.default_rng(seed)
    xy = random.uniform(-1, 1, (rows, 2))
    bends = np.concatenate([xy, np.sin(3 * xy), np.cos(3 * xy)], axis=1) @ random.normal(size=(6, dimension))
    X = bends + 0.3 * random.normal(size=bends.shape)
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), 10 * xy + [50, -3]


@pytest.fixture(scope="module")
def data():
    return sheet()


@pytest.fixture(scope="module")
def fitted(data):
    return ParametricUMAP(SMALL).fit(*data, progress=False)


@pytest.fixture(scope="module")
def figures(fitted, data):
    return evaluate_map(fitted, *data)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "parametric_umap"
    fitted.save(folder)
    return folder


def test_held_out_documents_decode_better_than_the_mean_vector_and_below_the_ceiling(figures):
    held_out = figures["held_out"]
    assert held_out["avg_cosine_similarity"] > held_out["mean_vector_cosine"] + 0.3
    assert held_out["avg_cosine_similarity"] > held_out["knn_cosine"] - 0.02
    assert 0.8 < held_out["fraction_of_ceiling"] < 1.05


def test_both_parts_report_the_five_metrics_of_the_guide_and_every_figure_is_finite(figures):
    assert list(figures) == ["held_out", "training"]
    for part in figures.values():
        assert part.keys() >= GUIDE_METRICS
        assert all(type(value) is float and np.isfinite(value) for value in part.values())


def test_transform_answers_in_the_units_of_the_layout(fitted, data, figures):
    X, coordinates = data
    placed = fitted.transform(X)
    assert placed.shape == (200, 2) and placed.dtype == np.float32
    error = np.sqrt(np.mean((placed - coordinates)[fitted.held_out_] ** 2, axis=0))
    assert (error < 0.5 * coordinates.std(axis=0)).all()
    assert figures["held_out"]["coordinate_mse"] == pytest.approx(np.mean(error**2))


def test_inverse_transform_gives_unit_rows_and_a_confidence_between_0_and_about_1(fitted, data):
    embeddings, confidence = fitted.inverse_transform(data[1], return_confidence=True)
    assert embeddings.shape == (200, 24) and embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert confidence.shape == (200,) and 0.5 < confidence.mean() < 1.05


def test_the_round_trip_from_the_map_comes_back_near_its_start(figures):
    assert figures["held_out"]["round_trip_error"] < 3


def test_the_answer_is_the_decoder_averaged_with_the_local_means_to_the_share_asked_for(data):
    X, coordinates = data
    untrained = replace(SMALL, epochs=0, fine_tune_epochs=0)
    half, none, all_of_it = (
        ParametricUMAP(untrained, surface=share).fit(X, coordinates, progress=False) for share in (0.5, 0.0, 1.0)
    )
    scaled = half.scaler_.transform(coordinates).astype(np.float32)
    assert np.allclose(all_of_it._expected(scaled), all_of_it._surface(scaled))
    assert np.allclose(half._expected(scaled), (none._expected(scaled) + all_of_it._expected(scaled)) / 2, atol=1e-6)


def test_encoder_only_leaves_the_decoder_behind(data, figures):
    literal = ParametricUMAP(SMALL, encoder_only=True).fit(*data, progress=False)
    left_behind = evaluate_map(literal, *data)["held_out"]["avg_cosine_similarity"]
    assert left_behind < figures["held_out"]["avg_cosine_similarity"] - 0.2
    assert list(literal.history_) == ["autoencoder", "encoder"]


@pytest.mark.parametrize("layers", [(), (256, 128, 64)])
def test_the_encoder_chooses_from_the_embedding_with_hidden_layers_beside_it_or_without(layers, data, tmp_path):
    X, coordinates = data
    umap = ParametricUMAP(SMALL, encoder_layers=layers, fine_tune_epochs=20).fit(X, coordinates, progress=False)
    error = np.sqrt(np.mean((umap.transform(X) - coordinates)[umap.held_out_] ** 2, axis=0))
    assert (error < 0.5 * coordinates.std(axis=0)).all()
    umap.save(tmp_path / "map")
    assert np.array_equal(ParametricUMAP.load(tmp_path / "map").transform(X), umap.transform(X))


@pytest.mark.parametrize("projection", [6, 128])
@pytest.mark.parametrize("layers", [(), (16,)])
def test_the_encoder_begins_by_answering_with_the_places_of_what_is_like_an_embedding(layers, projection, data):
    X, coordinates = data
    untrained = ParametricUMAP(SMALL, encoder_layers=layers, projection=projection, epochs=0, fine_tune_epochs=0)
    umap = untrained.fit(X, coordinates, progress=False)
    error = np.sqrt(np.mean((umap.transform(X) - coordinates) ** 2, axis=0))
    assert (error < 0.5 * coordinates.std(axis=0)).all()


def test_what_lies_across_the_directions_of_a_map_is_no_matter_of_a_place(data):
    X, coordinates = data
    longer = X * np.linspace(1, 2, len(X), dtype=np.float32)[:, None]  # not unit vectors, so that nothing is normalised
    umap = ParametricUMAP(SMALL, projection=6, epochs=1, fine_tune_epochs=1).fit(longer, coordinates, progress=False)
    along = umap.directions_ @ umap.directions_.T
    across = np.random.default_rng(0).normal(size=X.shape).astype(np.float32) @ (np.eye(len(along)) - along)
    assert umap.directions_.shape == (24, 6)
    assert np.allclose(umap.transform(longer + across), umap.transform(longer), atol=1e-3)
    answer = umap.inverse_transform(coordinates)
    assert np.allclose(answer @ along, answer, atol=1e-5)


@pytest.mark.parametrize(("layers", "bf16", "tolerance"), [((), True, 0.1), ((), False, 1e-3), ((16,), True, 1e-3)])
@pytest.mark.parametrize("length", [1, 3])
def test_embeddings_are_placed_where_the_encoder_says_in_neighbour_distances(
    layers, bf16, tolerance, length, data, monkeypatch
):
    monkeypatch.setattr(placing, "processor_has_bf16", lambda: bf16)
    X, coordinates = length * data[0], data[1]
    umap = ParametricUMAP(SMALL, encoder_layers=layers, fine_tune_epochs=20).fit(X, coordinates, progress=False)
    said = umap.scaler_.inverse_transform(umap._encoder(data[0] @ umap.directions_))
    apart = np.linalg.norm(umap.transform(X) - said, axis=1) / umap.neighbor_distance_
    assert np.median(apart) < tolerance and apart.max() < 10 * tolerance


@pytest.mark.filterwarnings("error")
def test_embeddings_may_be_read_only_or_lie_backwards(fitted, data):
    X = np.tile(data[0], (3, 1))  # more than a block, which is computed where it lies
    placed = fitted.transform(X)
    X.flags.writeable = False
    assert np.array_equal(fitted.transform(X), placed)
    assert np.allclose(fitted.transform(X[::-1])[::-1], placed)


def test_a_row_has_the_same_place_alone_as_in_a_batch(fitted, data):
    X, coordinates = data
    assert np.array_equal(fitted.transform(X[7:8])[0], fitted.transform(X)[7])
    assert np.array_equal(fitted.inverse_transform(coordinates[7:8])[0], fitted.inverse_transform(coordinates)[7])


def test_history_has_a_training_and_a_held_out_loss_for_each_epoch(fitted):
    assert {step: len(curves["loss"]) for step, curves in fitted.history_.items()} == {
        "autoencoder": 12,
        "layout": 150,
    }
    assert all(len(curves["loss"]) == len(curves["val_loss"]) for curves in fitted.history_.values())


def test_a_step_ends_when_its_held_out_loss_stalls_and_keeps_its_best_weights(data):
    X, coordinates = data
    umap = ParametricUMAP(SMALL, epochs=1, learning_rate=0.05, patience=4).fit(X, coordinates, progress=False)
    losses = umap.history_["layout"]["val_loss"]
    assert len(losses) < 150 and len(losses) - 1 - np.argmin(losses) == 4
    whole = ParametricUMAP(SMALL, epochs=1, learning_rate=0.05).fit(X, coordinates, progress=False)
    assert len(whole.history_["layout"]["val_loss"]) == 150


def test_many_rows_pass_once_an_epoch_in_pieces_that_are_alike(monkeypatch):
    monkeypatch.setattr(training, "PIECE", 64)
    step = training.Step(
        "s",
        (),
        lambda *_: 0,
        1,
        mask=lambda random, rows: random.random((rows, 3)) < 0.5,
        sample=lambda random, rows: (random.random((rows, 2)), random.random((rows, 5))),
    )
    done, settings = training.Progress(), MapSettings(batch_size=16)
    rows = training.Rows(np.arange(200.0)[:, None], np.arange(400.0).reshape(200, 2))
    pieces = list(training._epoch(step, rows, settings, done))
    assert len(pieces) == 4
    shapes = {tuple(part.shape for part in piece) for piece in pieces}
    assert shapes == {((4, 16, 1), (4, 16, 2), (4, 16, 3), (4, 16, 2), (4, 16, 5))}
    seen = np.concatenate([embeddings.ravel() for embeddings, *_ in pieces])
    assert sorted(seen[:200]) == list(range(200))
    for embeddings, xy, *_ in pieces:
        assert (xy[..., :1] == 2 * embeddings).all()
    large = list(training._epoch(step, rows, done=done, settings=MapSettings(batch_size=100)))
    assert [piece[0].shape for piece in large] == [(1, 100, 1)] * 2  # larger than a piece: none comes twice


def test_without_coordinates_umap_learn_makes_the_layout(data):
    X, _ = data
    umap = ParametricUMAP(SMALL, epochs=1, fine_tune_epochs=2).fit(X, progress=False)
    assert umap.coordinates_.shape == (200, 2)
    assert np.array_equal(umap.coordinates_, lay_out(X, layout_settings(200, SMALL.seed)))
    assert evaluate_map(umap, X, umap.coordinates_)["held_out"].keys() >= GUIDE_METRICS


def test_density_ranks_the_middle_above_the_edge_above_outside(fitted):
    middle, outside = fitted.density_percentile([[50, -3], [1000, 0]])
    assert middle > 20 and outside == 0
    own = fitted.density_percentile(fitted.layout_)
    assert 40 < np.median(own) < 65
    assert fitted.on_map([[50, -3], [1000, 0]]).tolist() == [True, False]


def test_documents_are_added_to_a_map_that_does_not_move(data, saved):
    X, coordinates = data
    umap = ParametricUMAP.load(saved)
    before, decoded = umap.transform(X), umap.inverse_transform(coordinates)
    fresh = sheet(rows=30, seed=1)[0]
    farther = umap.distance_to_layout(umap.transform(fresh))
    placed = umap.add(fresh)
    assert placed.shape == (30, 2) and len(umap.layout_) == 180 + 30
    assert np.array_equal(umap.transform(X), before) and np.array_equal(umap.inverse_transform(coordinates), decoded)
    assert farther.max() > 0 and umap.distance_to_layout(placed).max() == 0


def test_held_out_and_training_rows_part_the_documents(fitted):
    assert len(fitted.held_out_) == 20
    assert sorted([*fitted.held_out_, *fitted.train_]) == list(range(200))


def test_points_on_the_layout_are_near_it_and_others_far(fitted):
    assert fitted.distance_to_layout(fitted.layout_[:3]).max() == 0
    assert fitted.distance_to_layout([[1000, 0]])[0] > 100


def test_the_saved_folder_holds_exactly_what_it_promises(saved):
    assert sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()) == [
        "README.md",
        "config.pkl",
        "decoder/config.json",
        "decoder/model.safetensors",
        "decoder/surface.safetensors",
        "encoder/config.json",
        "encoder/model.safetensors",
        "scaler.pkl",
    ]


def test_the_card_says_what_the_map_was_trained_on_and_what_it_reached(fitted, saved, figures, tmp_path):
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ") and "## Figures" not in card
    assert f"{len(fitted.train_)} documents" in card and f"{len(fitted.held_out_)} others were held out" in card
    for step, curves in fitted.history_.items():
        assert f"| {step} | {len(curves['loss'])} | {min(curves['loss']):.4g} | {min(curves['val_loss']):.4g} |" in card
    assert "| encoder_layers | 32 |" in card and "| patience | 0 |" in card
    measured = ParametricUMAP.load(saved)
    measured.metrics_ = figures
    measured.save(tmp_path / "measured")
    shown = (tmp_path / "measured" / "README.md").read_text()
    assert f"| avg_cosine_similarity | {figures['held_out']['avg_cosine_similarity']:.4g} |" in shown


def test_a_loaded_map_in_another_process_answers_identically_and_says_nothing(fitted, saved, data, tmp_path):
    X, coordinates = data
    np.savez(tmp_path / "in.npz", X=X, xy=coordinates)
    script = (
        "import sys, numpy as np; from e2t_lib import ParametricUMAP; umap = ParametricUMAP.load(sys.argv[1]);"
        "given = np.load(sys.argv[2] + '/in.npz');"
        "np.savez(sys.argv[2] + '/out.npz', xy=umap.transform(given['X']), X=umap.inverse_transform(given['xy']))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "KERAS_"))}
    run = subprocess.run(
        [sys.executable, "-c", script, saved, tmp_path], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout == run.stderr == ""
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["xy"], fitted.transform(X))
        assert np.array_equal(out["X"], fitted.inverse_transform(coordinates))


def test_a_loaded_map_keeps_its_settings_history_and_rows(fitted, saved):
    loaded = ParametricUMAP.load(saved)
    assert loaded.settings == fitted.settings
    assert loaded.history_ == fitted.history_
    assert np.array_equal(loaded.held_out_, fitted.held_out_)
    assert loaded.neighbor_distance_ == fitted.neighbor_distance_


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("name", ["config.pkl", "scaler.pkl"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_runs_nothing(fitted, tmp_path, name):
    folder, marker = tmp_path / "umap", tmp_path / "executed"
    fitted.save(folder)
    (folder / name).write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(E2TError, match=f"{name}.*mkdir"):
        ParametricUMAP.load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["config.pkl", "scaler.pkl", "encoder/config.json", "decoder/model.safetensors", "decoder/surface.safetensors"],
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_damaged_file_is_named(fitted, tmp_path, name, damage):
    folder = tmp_path / "umap"
    fitted.save(folder)
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(E2TError, match=str(folder / name.split("/")[0])):
        ParametricUMAP.load(folder)


def test_a_resumed_run_equals_an_uninterrupted_one_and_the_seed_decides(data, tmp_path, monkeypatch):
    X, coordinates = data
    settings = replace(SMALL, epochs=12, fine_tune_epochs=14, encoder_only=True)  # two steps: less to compile
    whole = ParametricUMAP(settings).fit(X, coordinates, progress=False)

    class PowerCut(Exception):
        pass

    saves = []

    def save_then_fail(self, *arguments, save=training.Checkpoint.save):
        save(self, *arguments)
        saves.append(arguments[0].epoch)
        if len(saves) == 3:  # epoch 10 of the second step
            raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(training.Checkpoint, "save", save_then_fail)
        ParametricUMAP(settings).fit(X, coordinates, checkpoint_dir=tmp_path, progress=False)
    assert saves == [10, 12, 10]
    resumed = ParametricUMAP(settings).fit(X, coordinates, checkpoint_dir=tmp_path, resume=True, progress=False)
    assert resumed.history_ == whole.history_
    assert np.array_equal(resumed.transform(X), whole.transform(X))
    assert np.array_equal(resumed.inverse_transform(coordinates), whole.inverse_transform(coordinates))
    with pytest.raises(E2TError, match="other settings or data"):
        ParametricUMAP(settings, seed=1).fit(X, coordinates, checkpoint_dir=tmp_path, resume=True, progress=False)


def test_ten_documents_of_any_length_are_enough_and_keep_their_length():
    X, coordinates = sheet(rows=10, dimension=5)
    umap = ParametricUMAP(SMALL, epochs=0).fit(7 * X + 1, coordinates, progress=False)
    assert len(umap.held_out_) == 1
    lengths = np.linalg.norm(umap.inverse_transform(coordinates), axis=1)
    assert 3 < lengths.mean() < 10
    assert evaluate_map(umap, 7 * X + 1, coordinates)["held_out"].keys() >= GUIDE_METRICS


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda X, xy: (X[:-1], xy), "199 embeddings but 200 coordinates"),
        (lambda X, xy: (np.where(np.arange(200)[:, None] == 3, np.nan, X), xy), "embeddings: row 3"),
        (lambda X, xy: (X, np.where(np.arange(200)[:, None] == 4, np.inf, xy)), "coordinates: row 4"),
        (lambda X, xy: (X[:4], xy[:4]), "4 documents are too few"),
        (lambda X, xy: (X, xy[:, :1]), "coordinates: shape"),
        (lambda X, xy: (X, np.ones_like(xy)), "lies on top of another"),
    ],
)
def test_data_that_cannot_be_a_map_are_refused_with_their_place(data, change, message):
    with pytest.raises(E2TError, match=message):
        ParametricUMAP(SMALL).fit(*change(*data), progress=False)


def test_wrong_use_of_a_map_is_refused(fitted, data, tmp_path):
    with pytest.raises(E2TError, match=r"shape \(200, 23\)"):
        fitted.transform(data[0][:, :-1])
    for unfitted in (
        lambda u: u.transform(data[0]),
        lambda u: u.inverse_transform(data[1]),
        lambda u: u.save(tmp_path),
    ):
        with pytest.raises(E2TError, match="not fitted"):
            unfitted(ParametricUMAP())
    with pytest.raises(E2TError, match="fitted on 200 documents"):
        evaluate_map(fitted, data[0][:50], data[1][:50])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"surface": 1.5},
        {"learning_rate": "1e-4"},
        {"decoder_layers": ()},
        {"encoder_layers": (0,)},
        {"encoder_layers": None},
        {"epoch": 3},
    ],
)
def test_a_setting_no_run_can_have_is_named(wrong):
    with pytest.raises(E2TError, match=next(iter(wrong))):
        ParametricUMAP(**wrong)
