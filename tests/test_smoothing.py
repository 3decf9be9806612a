"""What the documents around a place have in common."""

import numpy as np
import pytest

from e2t_lib.parametric_umap.smoothing import CHOICES, best_neighbors, local_means, spectrum_width


@pytest.fixture
def places():
    return np.random.default_rng(0).uniform(-1, 1, (400, 2))


def test_a_plane_is_found_again_and_hardly_pulled_inwards_at_its_edges(places):
    slope = np.array([[2, -1, 0], [0.5, 3, 1]])
    embeddings = (places @ slope + 4).astype(np.float32)
    asked = np.array([[0, 0], [0.2, -0.3], [-0.95, -0.95]])
    error = np.abs(local_means(asked, places, embeddings, 40) - (asked @ slope + 4)).max(axis=1)
    nearest = np.linalg.norm(places - asked[2], axis=1).argsort()[:40]
    plain_mean = np.abs(embeddings[nearest].mean(axis=0) - (asked[2] @ slope + 4)).max()
    assert error[:2].max() < 0.05 and error[2] < plain_mean / 2


def test_one_neighbour_is_the_document_itself_and_more_than_there_are_is_all(places):
    values = np.random.default_rng(1).normal(size=(400, 5)).astype(np.float32)
    assert np.allclose(local_means(places, places, values, 1), values, atol=1e-5)
    assert np.isfinite(local_means(places, places[:3], values[:3], 50)).all()
    assert np.isfinite(local_means(places[:2], np.repeat(places[:1], 9, axis=0), values[:9], 5)).all()


def test_noisier_embeddings_are_averaged_over_more_documents(places):
    random, wave = np.random.default_rng(2), np.sin(6 * places @ np.array([[1.0, 0.3, -1], [0.2, 1, 1]]))
    chosen = [
        best_neighbors(places, (wave + noise * random.normal(size=wave.shape)).astype(np.float32), 0)
        for noise in (0.01, 2.0)
    ]
    assert chosen[0] < chosen[1] and set(chosen) <= set(CHOICES)


def test_the_spectrum_is_wider_where_documents_lie_closer(places):
    assert spectrum_width(places / 10, 20) == pytest.approx(10 * spectrum_width(places, 20))
    assert spectrum_width(places, 80) < spectrum_width(places, 20)
    assert np.isfinite(spectrum_width(np.zeros((9, 2)), 5))
