"""How well texts were recovered: the guide's three metrics, text overlap, curves, and the baselines beside them.

A cosine says nothing alone (between two random documents of one field it is already .2 to .3 here), so the
random pair, the mean vector and the nearest training document always stand beside it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from e2t_lib.vec2text.correction import CorrectionResult


def evaluate_vec2text(
    results: Sequence[CorrectionResult],
    targets: np.ndarray,
    references: Sequence[str],
    training_embeddings: np.ndarray,
    training_texts: Sequence[str],
) -> dict[str, Any]:
    """Score what the correction loop found.

    Args:
        results: one a target.
        targets: (n, d) float32, unit rows.
        references: the n texts behind the targets, cut to the length that was written.
        training_embeddings, training_texts: (m, d) and m: what the nearest-neighbour baseline may answer with.

    Returns:
        `average_embedding_distance` (of 1 - cosine), `average_iterations`, `convergence_rate` (a share, 0 to 1);
        then `cosine`, `bleu` (sacreBLEU, 0 to 100), `token_f1`, `rouge_l`, `exact_match` (case-folded) as
        {"mean", "standard_error"}; `distance_by_step`, the best so far after each step; and `baselines`.
    """
    cosines = np.array([result.cosine for result in results])
    texts = [result.text for result in results]
    return {
        "average_embedding_distance": float(1.0 - cosines.mean()),
        "average_iterations": float(np.mean([result.iterations for result in results])),
        "convergence_rate": float(np.mean([result.converged for result in results])),
        "documents": len(results),
        "cosine": mean_and_error(cosines),
        **text_overlap(texts, references),
        "distance_by_step": distance_by_step(results),
        "baselines": baselines(targets, references, training_embeddings, training_texts),
    }


def mean_and_error(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The mean and its standard error, s / sqrt(n); 0 for a single value."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "standard_error": float(error)}


def text_overlap(texts: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, float]]:
    """BLEU, token F1, ROUGE-L and exact match of texts against their references."""
    pairs = [(words(text), words(reference)) for text, reference in zip(texts, references, strict=True)]
    exact = [text.casefold().strip() == ref.casefold().strip() for text, ref in zip(texts, references, strict=True)]
    return {
        "bleu": bleu(texts, references),
        "token_f1": mean_and_error([token_f1(*pair) for pair in pairs]),
        "rouge_l": mean_and_error([rouge_l(*pair) for pair in pairs]),
        "exact_match": mean_and_error(exact),
    }


def words(text: str) -> list[str]:
    """Case-folded words and punctuation marks: the embedder is uncased, so case cannot be held against a text."""
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def bleu(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) by sacreBLEU, case-folded; its standard error by bootstrap."""
    from sacrebleu.metrics import BLEU

    scorer = BLEU(lowercase=True)
    score = scorer.corpus_score(list(texts), [list(references)], n_bootstrap=200)
    # sacreBLEU reports half the width of the 95 % interval.
    return {"mean": float(score.score), "standard_error": float(score._ci) / 1.96 if len(texts) > 1 else 0.0}


def token_f1(text: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the two bags of words (as in SQuAD)."""
    common = sum((Counter(text) & Counter(reference)).values())
    return 2 * common / (len(text) + len(reference)) if text or reference else 1.0


def rouge_l(text: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    from rapidfuzz.distance import LCSseq

    return 2 * LCSseq.similarity(text, reference) / (len(text) + len(reference)) if text or reference else 1.0


def distance_by_step(results: Sequence[CorrectionResult]) -> list[dict[str, float]]:
    """Distance of the best text so far after each step; a search that has converged stays where it is."""
    steps = max(len(result.trace) for result in results)
    best = [[step.best.distance for step in result.trace] for result in results]
    table = np.array([row + row[-1:] * (steps - len(row)) for row in best])
    return [mean_and_error(column) for column in table.T]


def baselines(
    targets: np.ndarray, references: Sequence[str], training_embeddings: np.ndarray, training_texts: Sequence[str]
) -> dict[str, Any]:
    """What needs no model: a random training document, the mean training vector, the nearest training document."""
    similarity = targets @ training_embeddings.T
    mean = training_embeddings.mean(axis=0)
    nearest = similarity.argmax(axis=1)
    return {
        "random_pair": {"cosine": mean_and_error(similarity.mean(axis=1))},
        "mean_vector": {"cosine": mean_and_error(targets @ (mean / np.linalg.norm(mean)))},
        "nearest_neighbor": {
            "cosine": mean_and_error(similarity.max(axis=1)),
            **text_overlap([training_texts[row] for row in nearest], references),
        },
    }
