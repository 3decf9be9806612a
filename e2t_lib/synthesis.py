"""llm_synthesis: the documents around a point, and a language model that writes one which would lie between them.

The language model is a local one of transformers, or any OpenAI-compatible server. Its texts are candidates like
any others: the correction loop embeds and ranks them.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from e2t_lib.errors import E2TError
from e2t_lib.files import resolve

MAX_TOKENS = 320  # a title and an abstract
WORDS_SHOWN = 60  # of each neighbour's content: five neighbours fit into a context of 1,024 tokens
INSTRUCTION = (
    "These documents lie around one point of a map of documents, nearest first. Write the title and the abstract of "
    "one new document that would lie between them. Copy none of them. Put the title on the first line, then an empty "
    "line, then the abstract; write nothing else."
)


@dataclass(frozen=True)
class Prompt:
    """What a language model is asked: a chat for those that follow instructions, a pattern for those that go on."""

    documents: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, documents: Sequence[tuple[str, str]]) -> "Prompt":
        """From (title, content) pairs, nearest first; contents are cut to their first words."""
        return cls(tuple((title, " ".join(content.split()[:WORDS_SHOWN])) for title, content in documents))

    @property
    def shown(self) -> str:
        """The documents, nearest last: a model goes on from what it read last."""
        return "\n\n".join(f"Title: {title}\nAbstract: {content}" for title, content in reversed(self.documents))

    @property
    def messages(self) -> list[dict[str, str]]:
        """For a model that chats."""
        shown = "\n\n".join(f"{n}. {title}\n\n{content}" for n, (title, content) in enumerate(self.documents, start=1))
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": shown}]

    @property
    def completion(self) -> str:
        """For a model that only goes on."""
        return f"{self.shown}\n\nTitle:"


class LanguageModel(Protocol):
    """Anything that answers a prompt with texts."""

    name: str

    def complete(self, prompt: Prompt, count: int, *, temperature: float, seed: int) -> list[str]:
        """`count` answers, sampled."""
        ...


class LocalModel:
    """A causal LM of transformers, by folder or hub name; asked in its chat template where it has one.

    Raises:
        E2TError: it is neither a folder, nor cached, nor reachable.
    """

    def __init__(self, name: str):
        from e2t_lib.vec2text.bases import default_device, load_language_model, load_tokenizer

        source = str(resolve(name)) if resolve(name).is_dir() else name
        self.name = name
        try:
            self.model, self.tokenizer = load_language_model(source), load_tokenizer(source)
        except Exception as error:  # the hub client raises a dozen kinds, all meaning the same to the user
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise E2TError(
                f"language model {name!r}: neither a folder, nor cached, nor reachable ({reason}); set E2T_LLM_MODEL "
                "to the folder of a downloaded model, or E2T_LLM_BASE_URL to a server"
            ) from None
        self.model.to(default_device()).eval()

    def complete(self, prompt: Prompt, count: int, *, temperature: float, seed: int) -> list[str]:
        """`count` answers; equal seeds give equal answers.

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
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            out = self.model.generate(
                ids.to(self.model.device),
                attention_mask=torch.ones_like(ids).to(self.model.device),
                do_sample=True,
                temperature=temperature,
                top_p=0.95,
                max_new_tokens=MAX_TOKENS,
                num_return_sequences=count,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)

    def _ids(self, prompt: Prompt) -> Any:
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(prompt.messages, tokenize=False, add_generation_prompt=True)
            return self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        return self.tokenizer(prompt.completion, return_tensors="pt")["input_ids"]


class OpenAIServer:
    """An OpenAI-compatible server, through the `openai` client, which retries with back-off by itself.

    Args:
        base_url: such as http://localhost:8000/v1.
        model: the name it serves.
        api_key: where the server asks for one.
        timeout: seconds for one answer.
        max_retries: of a refused, broken or timed-out call.
    """

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, *, timeout: float = 120.0, max_retries: int = 2
    ):
        from openai import OpenAI

        self.name, self.base_url = model, base_url
        # The client insists on a key; local servers ignore it.
        self._client = OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=max_retries)

    def complete(self, prompt: Prompt, count: int, *, temperature: float, seed: int) -> list[str]:
        """`count` answers, one call each: few servers know `n`.

        Raises:
            E2TError: the server cannot be reached, refuses, or answers with something else than a chat completion.
        """
        return [self._answer(prompt, temperature, seed + number) for number in range(count)]

    def _answer(self, prompt: Prompt, temperature: float, seed: int) -> str:
        from openai import OpenAIError

        try:
            completion = self._client.chat.completions.create(
                model=self.name,
                messages=prompt.messages,  # type: ignore[arg-type]
                temperature=temperature,
                max_tokens=MAX_TOKENS,
                seed=seed,
            )
            return completion.choices[0].message.content or ""
        except OpenAIError as error:
            cause = f"{error} {error.__cause__ or ''}".strip()
            raise E2TError(f"language model server {self.base_url}, model {self.name!r}: {cause[:300]}") from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # JSON of another shape
            raise E2TError(
                f"language model server {self.base_url}: its answer is no chat completion ({type(error).__name__}: {error})"
            ) from None


def language_model_from_environment() -> LanguageModel:
    """The language model that the environment names.

    E2T_LLM_BASE_URL and E2T_LLM_MODEL (and E2T_LLM_API_KEY, or OPENAI_API_KEY) name a server; E2T_LLM_MODEL alone a
    local model, by folder or hub name.

    Raises:
        E2TError: nothing is set, or a server without a model; says what to set.
    """
    base_url, model = os.environ.get("E2T_LLM_BASE_URL"), os.environ.get("E2T_LLM_MODEL")
    if not model:
        raise E2TError(
            "llm_synthesis needs a language model: set E2T_LLM_MODEL to a local one (a folder or hub name), or "
            "E2T_LLM_BASE_URL and E2T_LLM_MODEL to an OpenAI-compatible server and a model it serves "
            "(and E2T_LLM_API_KEY, if it asks for a key)"
        )
    if base_url:
        return OpenAIServer(base_url, model, os.environ.get("E2T_LLM_API_KEY") or os.environ.get("OPENAI_API_KEY"))
    return LocalModel(model)


def candidates(model: LanguageModel, prompt: Prompt, count: int, *, temperature: float, seed: int) -> list[str]:
    """`count` documents by a language model, as "title\\n\\nabstract"; empty answers give way to the others.

    Raises:
        E2TError: all answers are empty.
    """
    answers = model.complete(prompt, count, temperature=temperature, seed=seed)
    kept = [text for text in map(as_document, answers) if text]
    if not kept:
        raise E2TError(f"language model {model.name!r}: all of its {len(answers)} answers are empty")
    return [kept[number % len(kept)] for number in range(count)]


def as_document(answer: str) -> str:
    """An answer as "title\\n\\nabstract": without labels, markup, and the next document of a model that goes on."""
    answer = re.split(r"\n\s*\n\s*(?:\d+\. |\**Title:)", answer.strip())[0]
    lines = [re.sub(r"^[#*\s]*(?:(?:Title|Abstract)\s*:)?[*\s]*", "", line) for line in answer.splitlines()]
    lines = [line.strip().strip("*").strip() for line in lines]
    title, *content = [line for line in lines if line] or [""]
    return "\n\n".join(part for part in (title.strip('"'), " ".join(content)) if part)
