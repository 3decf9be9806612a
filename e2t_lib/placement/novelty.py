"""Is a text new, or has it been copied from a document?"""

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

SEED_WORDS = 3  # a shared run starts with so many
COPIED_WORDS = 8  # in a row: as many as that are a quotation


class Quotations:
    """Knows every run of 8 words of some documents, as 64-bit hashes: 8 bytes a word.

    Args:
        texts: of the documents.
    """

    def __init__(self, texts: Sequence[str]):
        self._hashes = np.unique(np.fromiter((run for text in texts for run in _runs(text)), dtype=np.int64))

    def in_text(self, text: str) -> bool:
        """Whether a text has 8 words in a row with a document, case and punctuation aside."""
        runs = np.fromiter(_runs(text), dtype=np.int64)
        if not len(runs) or not len(self._hashes):
            return False
        places = np.searchsorted(self._hashes, runs).clip(max=len(self._hashes) - 1)
        return bool((self._hashes[places] == runs).any())


def _runs(text: str) -> list[int]:
    words = _words(text)
    return [hash(tuple(words[start : start + COPIED_WORDS])) for start in range(len(words) - COPIED_WORDS + 1)]


class Novelty:
    """Compares texts with all documents.

    Args:
        texts, embeddings: n and (n, d) unit rows, of the documents.
    """

    def __init__(self, texts: Sequence[str], embeddings: np.ndarray):
        self._embeddings = embeddings
        self._words = [_words(text) for text in texts]
        self._places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        for number, words in enumerate(self._words):
            for start in range(len(words) - SEED_WORDS + 1):
                self._places[tuple(words[start : start + SEED_WORDS])].append((number, start))

    def highest_cosine(self, embeddings: np.ndarray) -> np.ndarray:
        """Of each text's embedding, (m, d) unit rows, with any document: (m,)."""
        return (embeddings @ self._embeddings.T).max(axis=1)

    def longest_shared_run(self, text: str) -> int:
        """Words in a row that some document has, too, case and punctuation aside; runs below 3 count as 0."""
        words, longest = _words(text), 0
        for start in range(len(words) - SEED_WORDS + 1):
            for number, there in self._places.get(tuple(words[start : start + SEED_WORDS]), ()):
                pairs = zip(words[start:], self._words[number][there:], strict=False)
                longest = max(longest, sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return longest


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
