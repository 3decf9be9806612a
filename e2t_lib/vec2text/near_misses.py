"""What the corrector learns to correct: texts that missed their target, as the correction loop will meet them.

Half are written by the model from the embedding alone. Half are echoes: the true text with every token drawn anew,
given the true ones before it, as the loop's later and better texts are: nearer, and cheap to make. Every fourth pair
has no hypothesis, so that the inverter is not forgotten.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import send_to_device
from tqdm import tqdm

from e2t_lib.vec2text.batches import LengthBuckets, PairDataset
from e2t_lib.vec2text.writing import Sampling

if TYPE_CHECKING:
    from e2t_lib.vec2text.estimator import Vec2Text

PLAIN = 0.25  # share of the pairs without a hypothesis
ECHOES = 0.5  # share of the hypotheses that are echoes
ECHO_BATCH, ECHO_TOKENS = 64, 2_048  # texts and tokens at a time: each token has scores for the whole vocabulary


def with_near_misses(model: "Vec2Text", texts: Sequence[str], embeddings: np.ndarray) -> PairDataset:
    """Pairs of texts and embeddings, (n, d), with hypotheses of this model to correct; its seed decides them."""
    pairs = PairDataset(embeddings, texts, model.tokenizer, model.settings.max_length)
    lengths = pairs.lengths
    kinds = np.random.default_rng(model.settings.seed).random(len(texts))
    echoed = [row for row, kind in enumerate(kinds) if PLAIN <= kind < PLAIN + (1 - PLAIN) * ECHOES]
    written = [row for row, kind in enumerate(kinds) if kind >= PLAIN + (1 - PLAIN) * ECHOES]
    written.sort(key=lambda row: lengths[row])  # alike in length, fast to write
    misses: list[str] = []
    for octave, rows in itertools.groupby(written, key=lambda row: lengths[row].bit_length()):
        sampling = Sampling(max_length=min(2 ** (octave + 1), model.settings.max_length))  # twice the longest or more
        misses += model.write(embeddings[list(rows)], sampling, seed=model.settings.seed, progress=True)
    misses += echoes(model, pairs, echoed)
    hypotheses, landed = [""] * len(texts), np.zeros_like(embeddings, dtype=np.float32)
    for row, text in zip(written + echoed, misses, strict=True):
        hypotheses[row] = text
    if misses:
        landed[written + echoed] = model.embedder.encode(misses, progress=True)
    return pairs.suggest(hypotheses, landed, model.model.room(model.settings.max_length))


def echoes(model: "Vec2Text", pairs: PairDataset, rows: Sequence[int]) -> list[str]:
    """Near misses of some pairs, in the order of the rows; see `ConditionedLM.echo`."""
    lengths = pairs.lengths
    buckets = LengthBuckets([lengths[row] for row in rows], ECHO_BATCH, model.settings.seed, ECHO_TOKENS)
    noise = torch.Generator().manual_seed(model.settings.seed)
    out = [""] * len(rows)
    for numbers in tqdm(buckets, desc="echoes", unit="batch", disable=None):
        batch = send_to_device(pairs.collate([rows[number] for number in numbers]), model.device)
        ids = model.model.echo(**batch, generator=noise)
        for number, text in zip(numbers, model.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            out[number] = text.strip()
    return out
