"""Landmarks: middles of documents that are alike and lie together."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2t_lib.parametric_umap.landmarks import directions, landmarks


def three_clusters():
    random = np.random.default_rng(0)
    cluster = np.repeat([0, 1, 2], 30)
    X = np.eye(8)[cluster] + 0.05 * random.normal(size=(90, 8))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), np.array([[-1, 0], [0, 1], [1, 0]])[
        cluster
    ]


def test_each_cluster_has_a_landmark_in_its_middle():
    X, xy = three_clusters()
    vectors, places = landmarks(X, xy, 3, seed=0)
    assert vectors.dtype == places.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    order = places[:, 0].argsort()
    assert places[order] == pytest.approx(np.array([[-1, 0], [0, 1], [1, 0]]), abs=1e-6)
    assert vectors[order][:, :3] == pytest.approx(np.eye(3), abs=0.05)


def test_as_many_landmarks_as_documents_are_the_documents_even_where_some_are_there_twice():
    X, xy = three_clusters()
    X, xy = np.concatenate([X, X[:5]]), np.concatenate([xy, xy[:5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors, places = landmarks(X, xy, len(xy), seed=0)
    assert (vectors @ X.T).max(axis=0) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(places).all()


def test_a_seed_gives_the_same_landmarks_again_and_another_gives_others():
    X, xy = three_clusters()
    first, again, other = (landmarks(X, xy, 20, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@given(count=st.integers(1, 12), seed=st.integers(0, 5))
def test_directions_are_orthonormal_and_hold_the_longest_part_of_what_they_are_of(count, seed):
    means = np.random.default_rng(seed).normal(size=(40, 12)) * np.arange(1, 13)
    found = directions(means, count, seed)
    assert found.shape == (12, count) and found.dtype == np.float32
    assert np.allclose(found.T @ found, np.eye(count), atol=1e-5)
    kept = np.linalg.norm(means @ found) ** 2
    assert np.isclose(kept, (np.linalg.svd(means, compute_uv=False)[:count] ** 2).sum(), rtol=1e-4)
    assert np.array_equal(directions(means, count, seed), found)
