"""The surface of local means between documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from e2t_lib.errors import E2TError
from e2t_lib.parametric_umap.surface import MeanSurface

RANDOM = np.random.default_rng(0)
PLACES = RANDOM.normal(size=(200, 2)).astype(np.float32)
layouts = st.integers(2, 30).flatmap(lambda n: arrays(np.float32, (n, 2), elements=st.floats(-3, 3, width=16)))


def test_a_plane_is_met_between_documents_to_the_precision_of_its_storage():
    planes = RANDOM.normal(size=(3, 5))
    surface = MeanSurface(PLACES, PLACES @ planes[:2] + planes[2])
    inside = 0.3 * RANDOM.normal(size=(100, 2))
    assert np.allclose(surface(inside), inside @ planes[:2] + planes[2], atol=5e-3)
    places, expected = surface.sample(np.random.default_rng(1), 100)
    assert places.shape == (100, 2) and np.allclose(expected, places @ planes[:2] + planes[2], atol=5e-3)


def test_a_document_has_its_own_mean_and_far_away_there_is_the_mean_of_all():
    means = RANDOM.normal(size=(200, 5))
    surface = MeanSurface(PLACES, means)
    assert np.allclose(surface(PLACES), means, atol=5e-3)
    for far in ([1e6, 0], [-99, -99]):
        assert np.allclose(surface(np.array([far])), means.mean(axis=0), atol=0.1)


@given(places=layouts, asked=layouts)
def test_any_layout_has_a_surface_that_stays_within_its_means(places, asked):
    """Documents on a line, on top of each other, or two of them."""
    means = np.random.default_rng(0).uniform(-1, 1, (len(places), 3))
    surface = MeanSurface(places, means)
    sampled, expected = surface.sample(np.random.default_rng(0), 20)
    for values in (surface(places), surface(asked), surface(places + 1e-6), surface(sampled), expected):
        assert np.isfinite(values).all() and np.abs(values).max() <= 1.01
    assert (sampled >= places.min(axis=0) - 1e-3).all() and (sampled <= places.max(axis=0) + 1e-3).all()


def test_what_is_loaded_is_what_was_saved(tmp_path):
    surface = MeanSurface(PLACES, RANDOM.normal(size=(200, 5)))
    surface.save(tmp_path / "surface.safetensors")
    asked = RANDOM.normal(size=(50, 2))
    assert np.array_equal(MeanSurface.load(tmp_path / "surface.safetensors")(asked), surface(asked))
    with pytest.raises(E2TError, match="no such file"):
        MeanSurface.load(tmp_path / "other.safetensors")
    (tmp_path / "surface.safetensors").write_bytes(b"of something else")
    with pytest.raises(E2TError, match="not the local means"):
        MeanSurface.load(tmp_path / "surface.safetensors")
