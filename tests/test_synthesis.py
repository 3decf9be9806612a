"""Language models for llm_synthesis: a local one, and a real server on loopback that serves it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2t_lib.errors import E2TError
from e2t_lib.synthesis import LocalModel, OpenAIServer, Prompt, as_document, candidates, language_model_from_environment

PROMPT = Prompt.of([("Red trees", "tall old tree " * 40), ("Blue rivers", "river stone")])


@pytest.fixture(scope="module")
def local(gpt2_folder):
    return LocalModel(str(gpt2_folder))


@pytest.fixture(scope="module")
def server(local):
    """Speaks the chat-completions protocol and generates with the local model; /broken, /refuse, /empty misbehave."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked.append((self.headers["Authorization"], asked))
            if self.path.startswith("/refuse"):
                return self.answer(401, {"error": {"message": "wrong key"}})
            if self.path.startswith("/broken"):
                return self.answer(200, {"hello": "world"})
            text = ""
            if not self.path.startswith("/empty"):
                [text] = local.complete(PROMPT, 1, temperature=asked["temperature"], seed=asked["seed"])
            message = {"role": "assistant", "content": text}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self.answer(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices})

        def answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def url(server, path="/v1"):
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_local_model_answers_repeatably_by_seed(local):
    answers = [local.complete(PROMPT, 3, temperature=0.7, seed=seed) for seed in (0, 0, 1)]
    assert len(answers[0]) == 3 and answers[0] == answers[1] != answers[2]


def test_a_prompt_beyond_the_context_is_an_error(local):
    long = Prompt.of([("word " * 600, "word " * 60)] * 5)
    with pytest.raises(E2TError, match="fewer neighbors"):
        local.complete(long, 1, temperature=0.7, seed=0)


def test_a_local_model_that_is_not_there_is_an_error():
    with pytest.raises(E2TError, match="language model 'nobody/no-such-model'"):
        LocalModel("nobody/no-such-model")


def test_a_server_is_asked_once_an_answer_with_seeds_of_their_own(server):
    server.asked.clear()
    model = OpenAIServer(url(server), "m", "secret")
    texts = candidates(model, PROMPT, 2, temperature=0.5, seed=7)
    assert len(texts) == 2 and all(texts)
    assert [asked["seed"] for _, asked in server.asked] == [7, 8]
    key, asked = server.asked[0]
    assert key == "Bearer secret" and asked["model"] == "m"
    assert "Red trees" in asked["messages"][-1]["content"] and asked["messages"][0]["role"] == "system"


@pytest.mark.parametrize(("path", "named"), [("/refuse", "wrong key"), ("/broken", "no chat completion")])
def test_a_misbehaving_server_is_a_clear_error(server, path, named):
    with pytest.raises(E2TError, match=named):
        OpenAIServer(url(server, path), "m", max_retries=0).complete(PROMPT, 1, temperature=0.5, seed=0)


def test_empty_answers_are_an_error(server):
    with pytest.raises(E2TError, match="empty"):
        candidates(OpenAIServer(url(server, "/empty"), "m"), PROMPT, 2, temperature=0.5, seed=0)


def test_a_server_that_is_not_there_is_a_clear_error():
    with pytest.raises(E2TError, match=r"http://127.0.0.1:9/v1, model 'm': Connection error"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", max_retries=0).complete(PROMPT, 1, temperature=0.5, seed=0)


def test_the_environment_names_the_model(monkeypatch, gpt2_folder):
    for name in ("E2T_LLM_BASE_URL", "E2T_LLM_MODEL", "E2T_LLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(E2TError, match="E2T_LLM_BASE_URL and E2T_LLM_MODEL"):
        language_model_from_environment()
    monkeypatch.setenv("E2T_LLM_MODEL", str(gpt2_folder))
    assert isinstance(language_model_from_environment(), LocalModel)
    monkeypatch.setenv("E2T_LLM_BASE_URL", "http://localhost:1/v1")
    assert isinstance(language_model_from_environment(), OpenAIServer)


def test_a_chat_template_is_used_where_the_model_has_one(gpt2_folder):
    model = LocalModel(str(gpt2_folder))
    model.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    asked = model.tokenizer.decode(model._ids(PROMPT)[0])
    assert asked.lstrip().startswith("<system>") and asked.endswith("<assistant>")


@pytest.mark.parametrize(
    "answer",
    [
        "A title\n\nAn abstract of two lines\nwhich ends.",
        "Title: A title\nAbstract: An abstract of two lines which ends.",
        "**Title:** A title\n\n**Abstract:** An abstract of two lines\nwhich ends.",
        '# "A title"\n\nAn abstract of two lines which ends.\n\nTitle: The next one\nAbstract: more',
    ],
)
def test_answers_of_many_manners_become_documents(answer):
    assert as_document(answer) == "A title\n\nAn abstract of two lines which ends."


@given(st.text())
def test_any_answer_becomes_a_title_and_at_most_one_abstract(answer):
    document = as_document(answer)
    assert document == document.strip() and document.count("\n\n") <= 1
