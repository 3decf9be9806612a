"""Both trainings without notebooks."""

import json
import math

import pytest

from e2t_lib import E2TError, ParametricUMAP, Vec2Text, load_dataset
from e2t_lib.settings import MapSettings, Vec2TextSettings
from e2t_lib.train import GUIDE_METRICS, guide_metrics, train_models

TREE = {
    "parametric_umap": {"README.md", "config.pkl", "scaler.pkl", "encoder", "decoder"},
    "vec2text": {"README.md", "vec2text_config.json", "tokenizer", "language_model", "embedding_model"},
}


def tree(folder):
    return {path.name: {entry.name for entry in path.iterdir()} for path in folder.iterdir()}


def test_the_models_folder_holds_the_guides_tree_and_a_card_each(trained):
    folder, _ = trained
    assert tree(folder) == TREE


def test_all_eight_of_the_guides_metrics_are_there(trained):
    _, metrics = trained
    figures = guide_metrics(metrics)
    assert tuple(figures) == GUIDE_METRICS
    assert all(math.isfinite(value) for value in figures.values())
    assert 0 <= figures["convergence_rate"] <= 1
    assert json.loads(json.dumps(metrics)) == metrics


def test_both_models_load_and_know_the_dataset(trained):
    folder, _ = trained
    dataset = load_dataset("data/arxiv_test")
    assert ParametricUMAP.load(folder / "parametric_umap").transform(dataset.embeddings).shape == (10, 2)
    assert load_dataset(Vec2Text.load(folder / "vec2text").trained_on).document_ids == dataset.document_ids


def test_one_model_can_be_left_out(tmp_path, gpt2_folder):
    settings = MapSettings(epochs=1, fine_tune_epochs=1, batch_size=4)
    metrics = train_models("data/arxiv_test", tmp_path, map_settings=settings, skip_vec2text=True)
    assert tree(tmp_path) == {"parametric_umap": TREE["parametric_umap"]} and "vec2text" not in metrics
    with pytest.raises(E2TError, match="nothing to train"):
        train_models("data/arxiv_test", tmp_path, skip_umap=True, skip_vec2text=True)


def test_what_the_user_can_mend_is_said_before_any_training(tmp_path, gpt2_folder):
    unreachable = Vec2TextSettings(base_model="nobody/no-such-model")
    with pytest.raises(E2TError, match=r"base model 'nobody/no-such-model'.*--base-model embedded"):
        train_models("data/arxiv_test", tmp_path / "m", vec2text_settings=unreachable)
    (tmp_path / "file").touch()
    with pytest.raises(E2TError, match="cannot be written"):
        train_models("data/arxiv_test", tmp_path / "file" / "m", vec2text_settings=unreachable)
    with pytest.raises(E2TError, match="no such dataset folder"):
        train_models(tmp_path / "nowhere", tmp_path / "m")


def test_an_embedder_that_did_not_make_the_embeddings_is_refused(tmp_path):
    """Or its inverse would be trained for another space."""
    from e2t_lib.dataset.lessons import break_copy

    with (
        break_copy(load_dataset("data/arxiv_test").folder, "shuffled") as folder,
        pytest.raises(E2TError, match="embedder"),
    ):
        train_models(folder, tmp_path, skip_vec2text=True)
