"""What the corrector learns to correct: texts that missed their target, as the correction loop will meet them.

A quarter are written by the model from the embedding alone: the closest of four, since the loop corrects the closest it
has. The others are echoes: the true text with some or all of its tokens drawn anew, given the true ones before them.
They are as near as the loop's later texts, and cheap to make. Every fourth pair has no hypothesis, so that the inverter
is not forgotten.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import send_to_device
from tqdm import tqdm

from e2t_lib.vec2text.batches import LengthBuckets, PairDataset
from e2t_lib.vec2text.training import bf16_pays
from e2t_lib.vec2text.writing import Sampling

if TYPE_CHECKING:
    from e2t_lib.vec2text.estimator import Vec2Text

PLAIN = 0.25  # share of the pairs without a hypothesis
ECHOES = 0.75  # share of the hypotheses that are echoes
LEAST_ECHOED = 0.15  # share of an echo's tokens that are drawn anew, from here to all
BEST_OF = 4  # texts written for a pair, of which the closest is its hypothesis
ECHO_BATCH, ECHO_TOKENS = 64, 2_048  # texts and tokens at a time: each token has scores for the whole vocabulary


def with_near_misses(model: "Vec2Text", texts: Sequence[str], embeddings: np.ndarray) -> PairDataset:
    """Pairs of texts and embeddings, (n, d), with hypotheses of this model to correct; its seed decides them."""
    pairs = PairDataset(embeddings, texts, model.tokenizer, model.settings.max_length)
    kinds = np.random.default_rng(model.settings.seed).random(len(texts))
    first_written = PLAIN + (1 - PLAIN) * ECHOES
    echoed = np.flatnonzero((kinds >= PLAIN) & (kinds < first_written)).tolist()
    written = np.flatnonzero(kinds >= first_written).repeat(BEST_OF).tolist()
    hypotheses, landed = [""] * len(texts), np.zeros_like(embeddings, dtype=np.float32)
    for rows, misses in (written, written_texts(model, pairs, written)), (echoed, echoes(model, pairs, echoed)):
        vectors = _embed(model, misses)
        nearness = (vectors * embeddings[rows]).sum(axis=1)
        for number in nearness.argsort():  # the closest of a pair comes last, and stays
            hypotheses[rows[number]], landed[rows[number]] = misses[number], vectors[number]
    return pairs.suggest(hypotheses, landed, model.model.room(model.settings.max_length))


def _embed(model: "Vec2Text", texts: Sequence[str]) -> np.ndarray:
    """(n, d) float32; in bf16 where that pays (see `embed_once`)."""
    if not texts:
        return np.zeros((0, model.dimension), dtype=np.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays()):
        return model.embedder.encode(texts, progress=True).astype(np.float32)


def written_texts(model: "Vec2Text", pairs: PairDataset, rows: Sequence[int]) -> list[str]:
    """A text for the embedding of each row, in the order of the rows, of about its length at most."""
    lengths = pairs.lengths
    order = sorted(range(len(rows)), key=lambda number: lengths[rows[number]])  # alike in length, fast to write
    out = [""] * len(rows)
    for octave, group in itertools.groupby(order, key=lambda number: lengths[rows[number]].bit_length()):
        numbers = list(group)
        sampling = Sampling(max_length=min(2 ** (octave + 1), model.settings.max_length))  # twice the longest or more
        targets = pairs.embeddings[[rows[number] for number in numbers]].numpy()
        for number, text in zip(numbers, model.write(targets, sampling, seed=octave, progress=True), strict=True):
            out[number] = text
    return out


def echoes(model: "Vec2Text", pairs: PairDataset, rows: Sequence[int]) -> list[str]:
    """Near misses of some pairs, in the order of the rows; see `ConditionedLM.echo`."""
    lengths = pairs.lengths
    buckets = LengthBuckets([lengths[row] for row in rows], ECHO_BATCH, model.settings.seed, ECHO_TOKENS)
    noise = torch.Generator().manual_seed(model.settings.seed)
    out = [""] * len(rows)
    for numbers in tqdm(buckets, desc="echoes", unit="batch", disable=None):
        batch = send_to_device(pairs.collate([rows[number] for number in numbers]), model.device)
        share = LEAST_ECHOED + (1 - LEAST_ECHOED) * torch.rand(len(numbers), generator=noise)
        ids = model.model.echo(**batch, share=share.to(model.device), generator=noise)
        for number, text in zip(numbers, model.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            out[number] = text.strip()
    return out
