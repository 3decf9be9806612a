"""llm_synthesis: the documents around a point, and a language model that writes one which would lie between them.

Its texts are candidates like any others: the correction loop embeds and ranks them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from e2t_lib.errors import E2TError
from e2t_lib.language_models import LanguageModel

WORDS_SHOWN = 60  # of each neighbour's content: five neighbours fit into a context of 1,024 tokens
INSTRUCTION = (
    "You write documents of one place on a map of documents, each of them new: copy no sentence. Put the title on the "
    "first line, then an empty line, then the abstract; write nothing else."
)
ASK = "Write the title and the abstract of a {kind} about: {subject}"


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
        """For a model that chats: the documents are what it wrote before, which a small model understands best."""
        messages = [{"role": "system", "content": INSTRUCTION}]
        for title, content in reversed(self.documents):
            messages.append({"role": "user", "content": ASK.format(kind="document", subject=title)})
            messages.append({"role": "assistant", "content": f"{title}\n\n{content}"})
        subject = " / ".join(title for title, _ in self.documents[:2])
        return [*messages, {"role": "user", "content": ASK.format(kind="new document", subject=subject)}]

    @property
    def completion(self) -> str:
        """For a model that only goes on."""
        return f"{self.shown}\n\nTitle:"


def candidates(model: LanguageModel, prompt: Prompt, count: int, *, temperature: float, seed: int) -> list[str]:
    """`count` documents by a language model, as "title\\n\\nabstract"; empty answers give way to the others.

    Raises:
        E2TError: all answers are empty.
    """
    answers = model.complete(prompt, count, temperature=temperature, seed=seed)
    kept = [text for text in map(as_document, answers) if text]
    if not kept:
        raise E2TError(
            f"language model {model.name!r}: all of its {len(answers)} answers are empty; "
            "where it reasons at length, E2T_LLM_MAX_TOKENS allows more"
        )
    return [kept[number % len(kept)] for number in range(count)]


def as_document(answer: str) -> str:
    """An answer as "title\\n\\nabstract".

    Thoughts, labels and markup are left out, so are the next document of a model that goes on and a sentence cut short.
    """
    # A chat template may have opened the thoughts already, and a model may not have come to their end.
    answer = re.sub(r"(?s)\A.*</think>|<think>.*", "", answer).strip()
    answer = re.split(r"\n\s*\n\s*(?:\d+\. |\**Title:)", re.sub(r"\A\d+\. ", "", answer))[0]
    lines = [re.sub(r"^[#*\s]*(?:(?:Title|Abstract)\s*:)?[*\s]*", "", line) for line in answer.splitlines()]
    lines = [line.strip().strip("*").strip() for line in lines]
    title, *content = [line for line in lines if line] or [""]
    return "\n\n".join(part for part in (title.strip('"'), _full_sentences(" ".join(content))) if part)


def _full_sentences(text: str) -> str:
    """Up to the end of its last full sentence; as it is where it has none."""
    ends = [match.end() for match in re.finditer(r"""[.!?]["')\]]*(?=\s|$)""", text)]
    return text[: ends[-1]] if ends else text
