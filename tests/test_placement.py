"""Points to ask about, what is aimed at there, and how a text is measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from e2t_lib import E2TError, load_dataset
from e2t_lib.parametric_umap import ParametricUMAP
from e2t_lib.placement import (
    Aiming,
    LayoutJudge,
    Novelty,
    PlacementMeter,
    find_gaps,
    own_points,
    points_between,
    read_points,
)

finite = st.floats(-1e6, 1e6)


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("data/arxiv_aug_sep")


@pytest.fixture(scope="module")
def umap(dataset):
    return ParametricUMAP(epochs=10, fine_tune_epochs=10).fit(
        dataset.unit_embeddings, dataset.coordinates, progress=False
    )


def aiming_at(umap, dataset, novelty=None):
    return Aiming(umap, dataset.unit_embeddings, dataset.coordinates, novelty or Novelty([]))


def ring_with_a_hole():
    random = np.random.default_rng(0)
    square = random.uniform(-1, 1, (2_000, 2))
    return square[np.linalg.norm(square - [0.3, -0.2], axis=1) > 0.08]


def test_the_emptiest_place_inside_a_map_is_its_hole():
    gaps = find_gaps(ring_with_a_hole(), 20)
    assert np.hypot(gaps[0].x - 0.3, gaps[0].y + 0.2) < 0.03 and 0.07 < gaps[0].radius < 0.1
    assert [gap.radius for gap in gaps] == sorted((gap.radius for gap in gaps), reverse=True)


def test_gaps_hold_no_document_lie_inside_and_apart(dataset):
    gaps = find_gaps(dataset.coordinates, 50)
    assert len(gaps) == 50
    centres = np.array([[gap.x, gap.y] for gap in gaps])
    nearest = np.linalg.norm(centres[:, None] - dataset.coordinates[None], axis=2).min(axis=1)
    np.testing.assert_allclose(nearest, [gap.radius for gap in gaps], rtol=1e-4)
    for number, gap in enumerate(gaps):
        assert all(np.hypot(gap.x - other.x, gap.y - other.y) >= other.radius for other in gaps[:number])


@given(st.integers(0, 5), st.integers(4, 60))
@settings(max_examples=30, deadline=None)
def test_the_space_between_two_islands_is_not_inside_the_map(seed, size):
    islands = np.random.default_rng(seed).normal(size=(2 * size, 2))
    islands[size:] += [100.0, 0.0]
    for gap in find_gaps(islands, 10):
        assert not 10 < gap.x < 90


def test_documents_on_one_line_have_no_inside():
    with pytest.raises(E2TError, match="on one line"):
        find_gaps(np.stack([np.arange(9.0), np.arange(9.0)], axis=1), 3)


def test_points_between_lie_half_way_from_a_document_to_a_near_one(dataset):
    points = points_between(dataset.coordinates, 30, seed=1)
    np.testing.assert_array_equal(points, points_between(dataset.coordinates, 30, seed=1))
    distances = np.sort(np.linalg.norm(points[:, None] - dataset.coordinates[None], axis=2), axis=1)
    assert points.shape == (30, 2) and (distances[:, 0] > 0).mean() > 0.9
    assert own_points(dataset.coordinates, 10**6, seed=0).shape == dataset.coordinates.shape


@given(st.lists(st.tuples(finite, finite), min_size=1), st.booleans(), st.booleans())
def test_points_are_read_as_they_were_written(tmp_path_factory, points, as_json, header):
    path = tmp_path_factory.mktemp("points") / "points"
    lines = [f'{{"x": {x!r}, "y": {y!r}}}' if as_json else f"{x!r}, {y!r}" for x, y in points]
    path.write_text("\n\n".join((["x,y"] if header else []) + lines))
    np.testing.assert_array_equal(read_points(path), points)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no point"),
        ("x,y\n", "holds no point"),
        ("1,2\n3\n", "line 2: '3' is no point"),
        ("1,2,3", "line 1"),
        ('{"x": 1}', "line 1"),
        ("nan,1", "not finite"),
        ('{"x": "a", "y": 1}', "line 1"),
    ],
)
def test_what_is_no_point_is_named_with_its_line(tmp_path, text, named):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(E2TError, match=named):
        read_points(path)


def test_a_file_of_points_that_is_not_there_is_named(tmp_path):
    with pytest.raises(E2TError, match="no such file"):
        read_points(tmp_path / "none.csv")


def test_targets_are_unit_vectors_and_sampled_ones_as_far_from_the_mean_as_documents(umap, dataset):
    points = points_between(dataset.coordinates, 40, seed=0)
    aiming = aiming_at(umap, dataset)
    mean, blended, sampled = (aiming.targets(points, kind, 3) for kind in ("mean", "blended", "sampled"))
    for targets in (mean, blended, sampled):
        assert targets.shape == (40, 3, 384) and targets.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(targets, axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(mean[:, 0], umap.inverse_transform(points), atol=1e-5)
    nearest = np.linalg.norm(points[:, None] - dataset.coordinates[None], axis=2).argsort(axis=1)[:, 0]
    of_mean, of_blended = (
        (kind[:, 0] * dataset.unit_embeddings[nearest]).sum(axis=1).mean() for kind in (mean, blended)
    )
    assert of_blended > of_mean + 0.1
    documents_apart = (mean[:, 0] * dataset.unit_embeddings[nearest]).sum(axis=1).mean()
    assert abs((sampled * mean).sum(axis=2).mean() - documents_apart) < 0.1
    assert 0.5 < np.einsum("mkd,mld->mkl", sampled, sampled)[:, 0, 1].mean() < 0.95


def test_no_document_is_a_target_not_even_the_one_pointed_at(umap, dataset):
    points = dataset.coordinates[:20].astype(float)
    sampled = aiming_at(umap, dataset).targets(points, "sampled", 4)
    assert (sampled @ dataset.unit_embeddings.T).max() < 0.98


def test_sampled_targets_are_those_that_land_where_the_text_is_to_among_documents_like_them(umap, dataset):
    points = np.array([[gap.x, gap.y] for gap in find_gaps(dataset.coordinates, 10)])
    aiming = aiming_at(umap, dataset)
    for point, own in zip(points, aiming.targets(points, "sampled", 40), strict=True):
        away = np.linalg.norm(dataset.coordinates - point, axis=1) / umap.neighbor_distance_
        alike = (own @ dataset.unit_embeddings.T).argsort(axis=1)[:, -15:]
        misses = aiming.placement(own, point) + 0.4 * np.median(away[alike], axis=1)
        assert (np.diff(misses) > -1e-3).all() and misses[0] < 0.8 * misses[-1]


def test_there_are_as_many_targets_as_asked_for_few_documents_or_many_targets(umap, dataset):
    few = Aiming(umap, dataset.unit_embeddings[:6], dataset.coordinates[:6], Novelty([]))
    assert few.targets(dataset.coordinates[:2].astype(float), "sampled", 4).shape == (2, 4, 384)
    assert aiming_at(umap, dataset).targets(dataset.coordinates[:1].astype(float), "sampled", 500).shape[1] == 500


def test_each_objective_ranks_by_what_it_names(umap, dataset):
    point, targets = dataset.coordinates[0].astype(float), dataset.unit_embeddings[:2]
    others = dataset.unit_embeddings[:50]
    aiming = aiming_at(umap, dataset)
    aims = {name: aiming.at(point, targets, name, 0.1) for name in ("embedding", "placement", "both")}
    distance = (1 - others @ targets.T).min(axis=1)
    placement = aiming.placement(others, point)
    np.testing.assert_allclose(aims["embedding"].miss(others), distance, atol=1e-6)
    np.testing.assert_allclose(aims["placement"].miss(others), placement, rtol=1e-4)
    np.testing.assert_allclose(aims["both"].miss(others), placement + 7.5 * distance, rtol=1e-4)
    assert (aims["embedding"].tolerance, aims["placement"].tolerance, aims["both"].tolerance) == (0.1, 0.5, 1.25)


def test_where_a_text_is_the_encoder_says_and_the_documents_most_like_it(umap, dataset):
    texts, point = dataset.unit_embeddings[:50], dataset.coordinates[7].astype(float)
    landed = np.linalg.norm(umap.transform(texts) - point, axis=1) / umap.neighbor_distance_
    at_home = np.linalg.norm(dataset.coordinates[:50] - point, axis=1) / umap.neighbor_distance_
    found = aiming_at(umap, dataset).placement(texts, point)  # a document is most like itself
    np.testing.assert_allclose(found, 0.6 * landed + 0.4 * at_home, rtol=1e-3, atol=1e-3)


def test_the_longest_shared_run_counts_words_in_a_row():
    novelty = Novelty(["One two three, four five.", "six seven"])
    assert novelty.longest_shared_run("Well: TWO three four (five) six") == 4
    assert novelty.longest_shared_run("two three five four") == 0
    assert novelty.longest_shared_run("") == 0


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_shared_run_is_that_of_trying_all(left, right):
    runs = [
        n
        for n in range(3, len(left) + 1)
        for i in range(len(left) - n + 1)
        if any(right[j : j + n] == left[i : i + n] for j in range(len(right) - n + 1))
    ]
    assert Novelty([" ".join(right)]).longest_shared_run(" ".join(left)) == max(runs, default=0)


def test_the_judge_puts_known_documents_near_their_places_and_others_not_far(umap, dataset):
    judge = LayoutJudge(dataset.unit_embeddings[umap.train_], dataset.coordinates[umap.train_])
    nearby = dataset.unit_embeddings[umap.train_[:50]] + 1e-3
    placed = judge.place(nearby)
    miss = np.linalg.norm(placed - dataset.coordinates[umap.train_[:50]], axis=-1)
    assert np.median(miss) / umap.neighbor_distance_ < 3
    assert not np.array_equal(placed[0], placed[1])
    np.testing.assert_array_equal(judge.place(nearby), placed)


def test_documents_measured_as_texts_are_at_home_and_not_new(umap, dataset):
    meter = PlacementMeter(umap, dataset)
    rows = umap.held_out_[:20]
    figures = meter.figures(
        dataset.coordinates[rows], [dataset.texts[row] for row in rows], dataset.unit_embeddings[rows]
    )
    assert figures["longest_shared_run"] > 20 and figures["share_without_quotation"] == 0
    assert figures["highest_cosine"] == pytest.approx(1, abs=1e-4)
    assert figures["nearer_than_nearest_document"] == 0
    assert meter.real_documents()["judge_error"] < 15
    apart = cdist(dataset.coordinates[umap.held_out_], dataset.coordinates[umap.train_]).min(axis=1)
    alone = umap.held_out_[[apart.argmax()]]
    assert meter.real_documents(1e-9) == meter.errors(dataset.coordinates[alone], dataset.unit_embeddings[alone])


def test_eight_words_in_a_row_are_a_quotation():
    novelty = Novelty(["One two, three four FIVE six seven eight nine.", "short"])
    assert novelty.quotes("and two three four five six seven eight nine ten")
    assert not novelty.quotes("one two three four five six seven and eight nine")
    assert not novelty.quotes("") and not Novelty([]).quotes("one two three four five six seven eight")


@given(st.lists(st.sampled_from("ab"), max_size=24), st.lists(st.sampled_from("ab"), max_size=24))
def test_quotations_are_shared_runs_of_eight_or_more(left, right):
    text, document = " ".join(left), " ".join(right)
    runs = {tuple(right[start : start + 8]) for start in range(len(right) - 7)}
    assert Novelty([document]).quotes(text) == any(
        tuple(left[start : start + 8]) in runs for start in range(len(left) - 7)
    )


def test_a_quotation_comes_behind_all_other_texts(umap, dataset):
    aim = aiming_at(umap, dataset, Novelty(dataset.texts)).at(
        dataset.coordinates[0], dataset.unit_embeddings[:1], "both", 0.1
    )
    assert aim.cost(dataset.texts[5]) >= 1_000 > aim.cost("Zorbled wibbish.") > aim.cost("A map of the data.") == 0


def test_words_are_those_of_the_documents_those_known_and_numbers_and_none_comes_twice_in_a_row():
    novelty = Novelty(["One small step."])
    assert novelty.ill_words("One: STEP 2 of 3d", frozenset({"of"})) == 0
    assert novelty.ill_words("one smallish step of", frozenset()) == 2
    assert novelty.ill_words("step step, step 1 1", frozenset()) == 3
