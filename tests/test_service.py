"""From a point on the map to a text, and what is said about it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from e2t_lib import E2TError, EmbeddingToTextRequest, EmbeddingToTextService, load_dataset
from e2t_lib.language_models import LocalModel
from e2t_lib.placement import Aiming, novelty_of
from e2t_lib.settings import CorrectionSettings

FEW = CorrectionSettings(num_beams=2, proposals=2, max_correction_iterations=2, max_length=24)


@pytest.fixture(scope="module")
def service(trained):
    return EmbeddingToTextService(correction=FEW).load_trained_model(trained[0])


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("data/arxiv_test")


@pytest.fixture
def request_at(dataset):
    x, y = dataset.coordinates[3]
    return EmbeddingToTextRequest(x=float(x), y=float(y))


def test_the_guides_snippet(trained, monkeypatch):
    service = EmbeddingToTextService()
    service.load_trained_model(Path(trained[0]))
    service.correction = FEW  # the guide's five iterations take a minute
    request = EmbeddingToTextRequest(x=0.5, y=-0.3, method="vec2text")
    response = service.generate_text_from_coordinates(request)
    assert response.text_generation_result.title in response.text_generation_result.text
    assert response.text_generation_result.title


def test_a_response_tells_where_the_text_landed_and_how_it_got_there(service, dataset, request_at):
    response = service.generate_text_from_coordinates(request_at)
    np.testing.assert_allclose(np.linalg.norm(response.target_embedding), 1, atol=1e-5)
    text = response.text_generation_result.text
    embedding = service.vec2text.embedder.encode([text])
    assert response.distance == pytest.approx(1 - float((embedding @ response.target_embedding)[0]), abs=1e-4)
    np.testing.assert_allclose(response.landing_coordinates, service.umap.transform(embedding)[0], atol=1e-3)
    miss = np.linalg.norm(np.array(response.landing_coordinates) - [request_at.x, request_at.y])
    assert response.placement_error == pytest.approx(miss / service.umap.neighbor_distance_, rel=1e-4)
    assert [step.iteration for step in response.trace] == [0, 1, 2] and response.iterations == 2
    assert response.trace[-1].best.text == text
    assert response.warnings == ()


def test_nearest_documents_are_the_nearest_on_the_map(service, dataset, request_at):
    found = service.generate_text_from_coordinates(replace(request_at, neighbors=3)).nearest_documents
    assert found[0].document_id == dataset.document_ids[3] and found[0].distance == pytest.approx(0, abs=1e-6)
    distances = np.linalg.norm(dataset.coordinates - dataset.coordinates[3], axis=1)
    assert [document.distance for document in found] == pytest.approx(sorted(distances)[:3], abs=1e-6)


def test_answers_are_repeatable_and_follow_the_seed(service, request_at):
    texts = [
        service.generate_text_from_coordinates(replace(request_at, seed=seed)).text_generation_result.text
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_many_requests_are_answered_in_their_order(service, dataset):
    requests = [
        EmbeddingToTextRequest(x=float(x), y=float(y), max_correction_iterations=iterations)
        for (x, y), iterations in zip(dataset.coordinates[:4], (1, 0, 1, 0), strict=True)
    ]
    responses = service.generate_texts(requests)
    assert [response.request for response in responses] == requests
    assert [response.iterations for response in responses] == [1, 0, 1, 0]
    assert service.generate_texts([]) == []


def test_a_tolerance_of_its_own_ends_the_loop_at_once(service, request_at):
    response = service.generate_text_from_coordinates(replace(request_at, embedding_tolerance=2.0))
    assert (response.converged, response.iterations) == (True, 0)


def test_off_the_map_the_answer_warns(service):
    response = service.generate_text_from_coordinates(EmbeddingToTextRequest(x=1e4, y=-1e4))
    assert "off the map" in response.warnings[0] and "density percentile 0.0" in response.warnings[0]


def test_off_the_map_is_an_error_when_asked_for(service, request_at):
    with pytest.raises(E2TError, match="off the map"):
        service.generate_texts([request_at, EmbeddingToTextRequest(x=1e4, y=0.0, off_map="error")])
    assert service.generate_text_from_coordinates(replace(request_at, off_map="error")).text_generation_result.text


def test_an_answer_comes_step_by_step_and_ends_as_it_would_at_once(service, request_at):
    steps = list(service.generate_text_steps(request_at))
    assert [step.iterations for step in steps] == [0, 1, 2]
    assert [len(step.trace) for step in steps] == [1, 2, 3]
    misses = [step.trace[-1].best.miss for step in steps]
    assert misses == sorted(misses, reverse=True)
    at_once = service.generate_text_from_coordinates(request_at)
    assert steps[-1].text_generation_result == at_once.text_generation_result


@pytest.mark.parametrize("within, steps", [(0.0, 1), (3.9, 1), (7.9, 2), (8.0, 3), (None, 3)])
def test_no_step_is_begun_that_would_end_too_late(service, request_at, monkeypatch, within, steps):
    clock = iter([0.0, 2.0, 5.0, 7.0])  # steps of 2, 3 and 2 seconds
    monkeypatch.setattr("e2t_lib.service.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert len(list(service.generate_text_steps(request_at, within))) == steps


@pytest.mark.parametrize("target", ["mean", "blended", "sampled"])
def test_every_objective_returns_the_best_it_saw_by_its_own_measure(service, request_at, target):
    asked = [replace(request_at, objective=name, target=target) for name in ("embedding", "placement", "both")]
    embedding, placement, both = service.generate_texts(asked)
    novelty, documents = novelty_of(service.dataset), (service.dataset.unit_embeddings, service.dataset.coordinates)
    aiming = Aiming(service.umap, *documents, novelty, service.vec2text.words)

    def parts(response):
        text = response.text_generation_result.text
        point = np.array([request_at.x, request_at.y])
        [placed] = aiming.placement(service.vec2text.embedder.encode([text]), point)
        return response.distance, placed, novelty.ill_words(text, service.vec2text.words)

    misses = [response.trace[-1].best.miss for response in (embedding, placement, both)]
    (distance, _, ill), (_, placed, ill_placed), whole = map(parts, (embedding, placement, both))
    assert misses[0] == pytest.approx(distance + 0.05 * ill, abs=1e-5)
    assert misses[1] == pytest.approx(placed + 0.375 * ill_placed, rel=1e-3)
    assert misses[2] == pytest.approx(whole[1] + 7.5 * whole[0] + 0.375 * whole[2], rel=1e-3)
    # Asked one by one they begin with the same texts, of which each takes its own best; then their ways part.
    placement, both = (service.generate_text_from_coordinates(one).trace[0].best for one in asked[1:])
    assert placement.miss <= both.miss - 7.5 * (1 - both.cosine) + 1e-3


def test_a_response_becomes_json(service, request_at):
    record = json.loads(json.dumps(service.generate_text_from_coordinates(request_at).to_dict(), allow_nan=False))
    assert record["request"]["method"] == "vec2text"
    assert set(record["text_generation_result"]) == {"title", "content", "text"}
    assert len(record["target_embedding"]) == 384 and record["trace"][0]["best"]["text"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"x": float("nan")}, "finite"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"target": "x"}, "mean, blended, sampled"),
        ({"objective": "x"}, "unknown objective"),
        ({"off_map": "x"}, "unknown off_map"),
        ({"neighbors": 0}, "neighbors"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(wrong, named):
    with pytest.raises(E2TError, match=named):
        EmbeddingToTextRequest(**{"x": 0.0, "y": 0.0} | wrong)


def test_missing_models_are_named(tmp_path, service, trained):
    with pytest.raises(E2TError, match="no models are loaded"):
        EmbeddingToTextService().generate_text_from_coordinates(EmbeddingToTextRequest(x=0.0, y=0.0))
    with pytest.raises(E2TError, match="holds no parametric_umap/"):
        EmbeddingToTextService().load_trained_model(tmp_path)
    with pytest.raises(E2TError, match="no such dataset folder"):
        EmbeddingToTextService().load_trained_model(trained[0], data_dir=tmp_path / "nowhere")


def test_llm_synthesis_writes_from_the_neighbours_and_is_ranked_by_the_loop(trained, gpt2_folder, request_at):
    model = LocalModel(str(gpt2_folder))
    service = EmbeddingToTextService(correction=FEW, language_model=model).load_trained_model(trained[0])
    asked = replace(request_at, method="llm_synthesis", neighbors=2)
    response = service.generate_text_from_coordinates(asked)
    assert response.text_generation_result.text
    assert response.trace[0].beam[0].miss == min(hypothesis.miss for hypothesis in response.trace[0].beam)
    assert service.generate_text_from_coordinates(asked).text_generation_result == response.text_generation_result


def test_llm_synthesis_without_a_language_model_says_what_to_set(service, request_at, monkeypatch):
    for name in ("E2T_LLM_MODEL", "E2T_LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(E2TError, match="E2T_LLM_MODEL"):
        service.generate_text_from_coordinates(replace(request_at, method="llm_synthesis"))
