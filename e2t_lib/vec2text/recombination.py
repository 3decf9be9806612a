"""Sentence edits: a long text with sentences exchanged for those of other texts written for the same target.

Of thirty texts written for an abstract none says all of it, yet each of its points stands in one or another. An embedder
that takes the mean over a text's tokens puts the text near the weighted mean of its sentences: once each sentence has
been embedded, thousands of combinations can be compared without embedding any. The loop embeds the most promising.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from e2t_lib.vec2text.correction import Draft

BREAK, END = re.compile(r"\n+|(?<=[.!?])\s+"), re.compile(r"[.!?]\W*$")
# A sentence's weight is its number of tokens to this power. The weighted means of 150 held-out documents have a cosine of
# .897 to their embeddings; of powers from 0 to 1.2, 0.6 and 0.8 are best (0: .887, 1: .896).
WEIGHT = 0.8
WIDTH = 6  # combinations that are changed further
MOVES = 6  # changes of a draft at most
ALIKE = 0.9  # cosine of two sentences that say the same: one text has room for one of them


class Sentence(NamedTuple):
    """A sentence's embedding, (d,) float32, unit, and how many tokens it has."""

    embedding: np.ndarray
    tokens: int


def sentences(text: str) -> list[str]:
    """The parts of a text that end in a full stop or at a line's end: a title is one of them."""
    return [part for part in BREAK.split(text.strip()) if part]


def sentence_edits(draft: Draft, known: dict[str, Sentence], lengths: range, count: int) -> list[str]:
    """Combinations of the sentences of all texts tried, starting from a draft; the most promising first.

    An opening is exchanged for another's opening, what follows it for what follows others'.

    Args:
        draft: of two sentences or more.
        known: every sentence of `draft.tried`.
        lengths: how many tokens a combination may have.
        count: of combinations at most.
    """
    search = _Combinations(draft, known, lengths)
    frontier, seen = [search.start], {search.start: 1.0}
    for _ in range(MOVES):
        found = {new for combination in frontier for new in search.moves(combination)} - set(seen)
        frontier = sorted(found, key=search.nearness, reverse=True)[:WIDTH]
        seen |= {combination: search.nearness(combination) for combination in frontier}
    best = sorted(seen, key=lambda combination: -seen[combination])
    return [search.text(combination) for combination in best if combination != search.start][:count]


class _Combinations:
    """Combinations of sentences, tuples of their numbers: openings come first, the others by their place in a text."""

    def __init__(self, draft: Draft, known: dict[str, Sentence], lengths: range):
        own, others = sentences(draft.text), [sentences(text) for text in draft.tried]
        openings = list(dict.fromkeys([own[0], *(parts[0] for parts in others if len(parts) > 1)]))
        places: dict[str, float] = {}  # in the first text that has it: 0 after the opening, 1 where it breaks off
        for parts in (own, *others):
            for number, part in enumerate(parts[1:]):
                places.setdefault(part, number / len(parts) if END.search(part) else 1.0)
        following = sorted(places, key=lambda part: places[part])
        self.parts, self.openings, self.lengths = openings + following, len(openings), lengths
        self.start = (0, *sorted(self.openings + following.index(part) for part in dict.fromkeys(own[1:])))
        self.separator = "\n\n" if "\n" in draft.text.strip() else " "
        self.broken = np.array([places.get(part) == 1.0 for part in self.parts])
        self.tokens = np.array([known[part].tokens for part in self.parts])
        units = np.stack([known[part].embedding for part in self.parts])
        self.alike = units @ units.T > ALIKE
        vectors = units * self.tokens[:, None] ** WEIGHT
        total = vectors[list(self.start)].sum(axis=0)
        # One more addend, the last: where the draft truly lies corrects the estimate of all that is like it.
        vectors = np.vstack([vectors, draft.embedding * np.linalg.norm(total) - total])
        self.products, self.along = vectors @ vectors.T, vectors @ draft.target

    def nearness(self, combination: tuple[int, ...]) -> float:
        """Estimated cosine with the target."""
        rows = [*combination, -1]
        return float(self.along[rows].sum() / np.sqrt(self.products[np.ix_(rows, rows)].sum()))

    def text(self, combination: tuple[int, ...]) -> str:
        opening, *following = (self.parts[number] for number in combination)
        return opening + self.separator + " ".join(following)

    def moves(self, combination: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The best combinations with one sentence exchanged, added, or left out."""
        for place in range(len(combination) + 1):
            before, after = combination[:place], combination[place + 1 :]
            near = self._with_each([*before, *after], opening=place == 0)
            for number in np.argsort(-near)[:WIDTH]:
                if np.isfinite(near[number]):
                    yield tuple(sorted((*before, int(number), *after)))
            if 0 < place < len(combination) > 2 and self.tokens[[*before, *after]].sum() >= self.lengths.start:
                yield (*before, *after)

    def _with_each(self, others: list[int], opening: bool) -> np.ndarray:
        """Estimated cosine of some sentences with each one added, (n,); -inf where it may not be."""
        rows = [*others, -1]
        squares = self.products[np.ix_(rows, rows)].sum() + 2 * self.products[:, rows].sum(1) + self.products.diagonal()
        near = ((self.along[rows].sum() + self.along) / np.sqrt(squares))[:-1]
        length = self.tokens + self.tokens[others].sum()
        near[(length < self.lengths.start) | (length >= self.lengths.stop)] = -np.inf
        near[self.alike[:, others].any(axis=1)] = -np.inf
        near[self.broken & self.broken[others].any()] = -np.inf  # what breaks off ends a text
        near[slice(self.openings, None) if opening else slice(self.openings)] = -np.inf
        return near
