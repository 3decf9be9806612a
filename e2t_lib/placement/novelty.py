"""Is a text new, or has it been copied from a document?"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from e2t_lib.dataset import Dataset

SEED = 3  # words that a shared run starts with
COPIED_WORDS = 8  # in a row: as many as that are a quotation
FACTOR = np.int64(1_000_003)  # of the polynomial that tells words in a row apart


class Novelty:
    """Compares texts with documents, word by word, case and punctuation aside.

    All words of all documents stand in one array, with the places of every three in a row sorted beside it: 20 bytes a
    word.

    Args:
        texts: of the documents.
    """

    def __init__(self, texts: Sequence[str]):
        self._numbers: dict[str, int] = {}
        words = [[self._numbers.setdefault(word, len(self._numbers)) for word in _words(text)] for text in texts]
        ends = [-1] * COPIED_WORDS  # no run goes on into the next document
        self._corpus = np.array([number for own in words for number in (*own, *ends)], dtype=np.int32)
        keys = _keys(self._corpus)
        self._places = np.argsort(keys, kind="stable")
        self._keys = keys[self._places]

    def longest_shared_run(self, text: str) -> int:
        """Words in a row that some document has, too; runs below 3 count as 0."""
        words = np.array([self._numbers.get(word, -2) for word in _words(text)], dtype=np.int32)
        keys, longest = _keys(words), 0
        starts = zip(np.searchsorted(self._keys, keys), np.searchsorted(self._keys, keys, side="right"), strict=True)
        for start, (first, last) in enumerate(starts):
            places, length = self._places[first:last], 0
            while len(places) and start + length < len(words):
                there = places + length
                places = places[
                    (there < len(self._corpus)) & (self._corpus.take(there, mode="clip") == words[start + length])
                ]
                length += bool(len(places))
            longest = max(longest, length)
        return longest if longest >= SEED else 0

    def quotes(self, text: str) -> bool:
        """Whether a text has 8 words in a row with a document."""
        return self.longest_shared_run(text) >= COPIED_WORDS

    def ill_words(self, text: str, known: frozenset[str]) -> int:
        """Words that no document has and that are not `known`, numbers aside, and words that repeat the one before."""
        words = _words(text)
        invented = [word for word in words if word.isalpha() and word not in self._numbers and word not in known]
        return len(invented) + sum(word == before for before, word in pairwise(words))


@lru_cache(maxsize=1)
def novelty_of(dataset: "Dataset") -> Novelty:
    """What texts are compared with: made once for a dataset, a second for 4,000 abstracts."""
    return Novelty(dataset.texts)


def _keys(words: np.ndarray) -> np.ndarray:
    """A number for every three words in a row, equal for equal ones: (n - 2,) int64, or none."""
    a, b, c = (words[start : max(len(words) - SEED + 1 + start, start)].astype(np.int64) for start in range(SEED))
    return (a * FACTOR + b) * FACTOR + c


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
