"""The correction loop: write, re-embed, keep the closest, correct it.

    target ──propose──▶ texts ──embed──▶ embeddings ──keep the closest──▶ beam ──rewrite and edit them──▶ texts ...

A beam of hypotheses is kept for each target. The best text ever seen is what is returned, and convergence is
tested on it; both mistakes the other way round are common (a loop that forgets its best answer, or tests it
before the update and never reports a first success). What is closest, and close enough, an `Aim` says: at first
the embedding distance, but any other will do, such as the distance on a map. Where several embeddings would do, they are
several targets of one search: its hypotheses share one beam, and each is corrected toward the target it is nearest to.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from e2t_lib.settings import CorrectionSettings

BLANK = 1e6  # the miss of a text without words; finite, for it may stand in a trace, and JSON has no infinity
Embed = Callable[[Sequence[str]], np.ndarray]
# (targets (m, d), temperatures (m,), None or the m texts to correct and their embeddings (m, d)) -> m texts
Propose = Callable[[np.ndarray, np.ndarray, tuple[list[str], np.ndarray] | None], list[str]]


@dataclass(frozen=True)
class Aim:
    """What a search wants of its texts.

    Attributes:
        miss: embeddings (m, d) of texts -> (m,), how far each is from it; 0: it is there.
        tolerance: the miss at which the search ends.
        cost: what a text adds to its miss by its words, whatever its embedding.
    """

    miss: Callable[[np.ndarray], np.ndarray]
    tolerance: float
    cost: Callable[[str], float] = lambda text: 0.0


@dataclass(frozen=True)
class Draft:
    """A hypothesis to edit.

    Attributes:
        target: (d,) float32, unit.
        text: as it stands.
        embedding: of the text, (d,) float32, unit.
        tried: all texts tried for the target so far, this one first; of several that differ in case only, the last.
    """

    target: np.ndarray
    text: str
    embedding: np.ndarray
    tried: Sequence[str]


# The hypotheses of each search, the best first -> edits for each search, the most promising first
Edit = Callable[[Sequence[Sequence[Draft]]], list[list[str]]]


@dataclass(frozen=True)
class Hypothesis:
    """A text, how near its embedding is to the target, and how far the text is from what was aimed at."""

    text: str
    cosine: float
    miss: float

    @property
    def distance(self) -> float:
        """1 - cosine, the embedding distance."""
        return 1.0 - self.cosine


@dataclass(frozen=True)
class CorrectionStep:
    """One step of the trace: the beam after it, closest first, and the best text so far."""

    iteration: int
    beam: tuple[Hypothesis, ...]
    best: Hypothesis


@dataclass(frozen=True)
class CorrectionResult:
    """What one search found.

    Attributes:
        text: the best text ever seen.
        cosine: of its embedding with its target.
        iterations: correction steps taken until it converged, or all of them; 0: the first texts sufficed.
        converged: its miss is within the tolerance.
        trace: every step, from iteration 0.
        embedding: of the text, (d,) float32.
        target: of the search, the nearest to it if there are several, (d,) float32.
    """

    text: str
    cosine: float
    iterations: int
    converged: bool
    trace: tuple[CorrectionStep, ...]
    embedding: np.ndarray = field(repr=False, compare=False)
    target: np.ndarray = field(repr=False, compare=False)

    @property
    def miss(self) -> float:
        """How far it is from what was aimed at: its distance, where the loop was given no other aim."""
        return self.trace[-1].best.miss

    @property
    def distance(self) -> float:
        """1 - cosine, the embedding distance."""
        return 1.0 - self.cosine


@dataclass(frozen=True)
class _Candidate:
    """A hypothesis with its embedding, and the target it is nearest to."""

    text: str
    embedding: np.ndarray
    target: np.ndarray
    cosine: float
    miss: float

    @property
    def plain(self) -> Hypothesis:
        return Hypothesis(self.text, self.cosine, self.miss)


class _Search:
    """The state of one search, for a text of one of its targets, (k, d)."""

    def __init__(self, targets: np.ndarray, aim: Aim):
        self.targets, self.aim = targets, aim
        self.beam: list[_Candidate] = []
        self.best = _Candidate("", targets[0], targets[0], -1.0, np.inf)
        self.trace: list[CorrectionStep] = []
        self.tried: dict[str, str] = {}  # by what an uncased embedder reads
        self.rewritten: set[str] = set()  # hypotheses that texts were written from

    def fresh(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts, each once, that were not tried yet."""
        new: dict[str, str] = {}
        for text in texts:
            if text.casefold() not in self.tried:
                new.setdefault(text.casefold(), text)
        return list(new.values())

    def update(self, texts: Sequence[str], embeddings: np.ndarray, width: int) -> None:
        """Take in new texts, and keep the closest; texts that differ in case only are one to an uncased embedder."""
        self.tried |= {text.casefold(): text for text in texts}
        known = {candidate.text.casefold(): candidate for candidate in self.beam}
        cosines, misses = embeddings @ self.targets.T, self.aim.miss(embeddings)
        for text, embedding, own, miss in zip(texts, embeddings, cosines, misses, strict=True):
            blank = not text.strip()  # answers nothing
            whole = BLANK if blank else float(miss) + self.aim.cost(text)
            target, cosine = self.targets[own.argmax()], -1.0 if blank else float(own.max())
            candidate = _Candidate(text, embedding, target, cosine, whole)
            known.setdefault(text.casefold(), candidate)
        self.beam = sorted(known.values(), key=lambda candidate: candidate.miss)[:width]
        self.best = min(self.beam[0], self.best, key=lambda candidate: candidate.miss)
        beam = tuple(candidate.plain for candidate in self.beam)
        self.trace.append(CorrectionStep(len(self.trace), beam, self.best.plain))

    @property
    def drafts(self) -> list[Draft]:
        tried = self.tried.values()
        return [Draft(own.target, own.text, own.embedding, (own.text, *tried)) for own in self.beam]

    @property
    def converged(self) -> bool:
        return self.best.miss <= self.aim.tolerance

    @property
    def result(self) -> CorrectionResult:
        return CorrectionResult(
            text=self.best.text,
            cosine=self.best.cosine,
            iterations=len(self.trace) - 1,
            converged=self.converged,
            trace=tuple(self.trace),
            embedding=self.best.embedding,
            target=self.best.target,
        )


def embedding_aims(targets: np.ndarray, tolerance: float) -> list[Aim]:
    """For each of n searches, to land on a target of its own; targets as for `correct`."""

    def aim(own: np.ndarray) -> Aim:
        return Aim(lambda embeddings: embedding_distance(embeddings, own), tolerance)

    return [aim(np.atleast_2d(own)) for own in targets]


def embedding_distance(embeddings: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 - cosine of embeddings (m, d) with the nearest of targets (k, d), all of them unit rows: (m,)."""
    return 1.0 - (embeddings @ targets.T).max(axis=1)


def correct(
    targets: np.ndarray,
    propose: Propose,
    embed: Embed,
    settings: CorrectionSettings,
    *,
    edit: Edit | None = None,
    aims: Sequence[Aim] | None = None,
    progress: bool = False,
) -> list[CorrectionResult]:
    """Find a text for each target embedding.

    Args:
        targets: (n, d) float32, unit rows; or (n, k, d), where each text may be of any of k targets.
        propose: writes texts for targets, at first from nothing, then from texts to correct. The first proposal for
            each is greedy, at temperature 0; the others are sampled.
        embed: texts -> (m, d) float32, unit rows; the embedder that made the targets.
        settings: beam width, proposals a hypothesis, the share of edits, iterations, tolerance, targets at a time.
        edit: changes texts a little; None: all proposals are written anew.
        aims: n, what texts are ranked by; None: the distance to the target, within the settings' tolerance.
        progress: show a progress bar over searches.

    Returns:
        n results, in order. At most `settings.most_texts` texts are tried for each, whether of one target or several.
    """
    aims = aims or embedding_aims(targets, settings.embedding_tolerance)
    results: list[CorrectionResult] = []
    with tqdm(total=len(targets), desc="correcting", unit="text", disable=None if progress else True) as bar:
        for start in range(0, len(targets), settings.batch_size):
            part = slice(start, start + settings.batch_size)
            *_, found = correction_steps(targets[part], propose, embed, settings, edit=edit, aims=aims[part])
            results += found
            bar.update(len(found))
    return results


def correction_steps(
    targets: np.ndarray,
    propose: Propose,
    embed: Embed,
    settings: CorrectionSettings,
    *,
    edit: Edit | None = None,
    aims: Sequence[Aim],
) -> Iterator[list[CorrectionResult]]:
    """As `correct`, for targets that fit together: the results after each step, until all have converged."""
    searches = [_Search(np.atleast_2d(own), aim) for own, aim in zip(targets, aims, strict=True)]
    for _ in range(settings.max_correction_iterations + 1):
        active = [search for search in searches if not search.converged]
        if not active:
            return
        _step(active, propose, embed, edit, settings)
        yield [search.result for search in searches]


def _step(
    searches: list[_Search], propose: Propose, embed: Embed, edit: Edit | None, settings: CorrectionSettings
) -> None:
    """Propose, embed and keep, for all searches at once; they are all at the same step."""
    most, edits = settings.num_beams * settings.proposals, int(settings.edits * settings.proposals)
    edited = _edited(searches, edit if edits else None)
    budgets = [most - min(len(own), edits * len(search.beam)) for search, own in zip(searches, edited, strict=True)]
    written = _written(searches, budgets, propose, settings.temperature)
    # What is written was known before in one case of seven: edits take its place. Where there are none, one is tried again.
    texts = [
        search.fresh(new + own)[:most] or new[:1] for search, new, own in zip(searches, written, edited, strict=True)
    ]
    embeddings = iter(embed([text for own in texts for text in own]))
    for search, own in zip(searches, texts, strict=True):
        search.update(own, np.stack([next(embeddings) for _ in own]), settings.num_beams)


def _written(searches: list[_Search], counts: list[int], propose: Propose, temperature: float) -> list[list[str]]:
    """So many texts for each search, from its hypotheses; from nothing while it has none, for each target in turn."""
    each = [(search, number) for search, count in zip(searches, counts, strict=True) for number in range(count)]
    if not each:  # all are to be edits
        return [[] for _ in searches]
    if searches[0].beam:
        parents = [search.beam[number % len(search.beam)] for search, number in each]
        targets = np.stack([parent.target for parent in parents])
        known = [parent.text for parent in parents], np.stack([parent.embedding for parent in parents])
        # Written greedily, a hypothesis gives the same text each time.
        greedy = [n < len(own.beam) and own.beam[n].text not in own.rewritten for own, n in each]
        for search in searches:
            search.rewritten |= {parent.text for parent in search.beam}
    else:
        targets = np.stack([search.targets[number % len(search.targets)] for search, number in each])
        known, greedy = None, [number < len(search.targets) for search, number in each]
    written = iter(propose(targets, np.where(greedy, 0.0, temperature), known))
    return [list(itertools.islice(written, count)) for count in counts]


def _edited(searches: list[_Search], edit: Edit | None) -> list[list[str]]:
    """Edits for each search that it has not tried."""
    if not edit or not searches[0].beam:
        return [[] for _ in searches]
    return [
        search.fresh(texts)
        for search, texts in zip(searches, edit([search.drafts for search in searches]), strict=True)
    ]
