"""Word edits: a text as it stands but for one token replaced, left out or put in.

A rewritten text changes much at once; near its target, little should. The corrector reads the text and says of each of
its tokens what it would rather have there. What it favours most becomes edited texts, and the inverter's likelihood of
each whole text, which keeps the language sound, decides their order before any is embedded.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from e2t_lib.vec2text.batches import PairDataset
from e2t_lib.vec2text.model import IGNORE
from e2t_lib.vec2text.training import bf16_pays

if TYPE_CHECKING:
    from e2t_lib.vec2text.estimator import Vec2Text

CHANGES = 6  # places and tokens of a text that are tried; each is two or three edits
TOKENS = 2_048  # scored at a time: each has scores for the whole vocabulary


def word_edits(
    model: "Vec2Text", targets: np.ndarray, texts: Sequence[str], landed: np.ndarray, max_length: int
) -> list[list[str]]:
    """Edits of each text, the likeliest first.

    Args:
        model: with a corrector.
        targets: (n, d) float32, unit rows.
        texts: n texts.
        landed: (n, d) float32, their embeddings.
        max_length: tokens of a text at most; longer ones are cut.
    """
    pairs = PairDataset(targets, texts, model.tokenizer, max_length).suggest(
        texts, landed, model.model.room(max_length)
    )
    edited, owners = [], []
    for rows in _batches(pairs.lengths):
        batch = send_to_device(pairs.collate(rows), model.device)
        for row, wanted in zip(rows, _wanted(model, batch), strict=True):
            own = _edits(pairs.tokens[row].tolist(), wanted, model.model.eos)
            edited += own
            owners += [row] * len(own)
    written = [text.strip() for text in model.tokenizer.batch_decode(edited, skip_special_tokens=True)]
    likelihoods = _likelihoods(model, written, targets[owners], max_length)
    out: list[list[str]] = [[] for _ in texts]
    for number in np.argsort(-likelihoods, kind="stable"):
        out[owners[number]].append(written[number])
    return out


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of texts alike in length, about `TOKENS` tokens at a time."""
    order = np.argsort(lengths, kind="stable").tolist()
    while order:
        size = max(TOKENS // max(lengths[order[-1]], 1), 1)
        yield order[-size:]
        order = order[:-size]


@torch.inference_mode()
def _wanted(model: "Vec2Text", batch: dict[str, Any]) -> list[list[tuple[int, int]]]:
    """For each text the places and tokens that the corrector favours most over what stands there."""
    labels, eos = batch.pop("labels"), model.model.eos
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16_pays()):
        scores = model.model.scores(**batch)
    gains = scores - scores.gather(2, labels.clamp(min=0)[:, :, None])
    gains[:, :, eos] = -torch.inf  # an end comes nearer by leaving tokens out
    gains, tokens = gains.topk(CHANGES, dim=2)
    gains[(labels == IGNORE)[:, :, None] | (tokens == labels[:, :, None])] = -torch.inf
    best = gains.flatten(1).topk(CHANGES).indices
    places, chosen = best // CHANGES, tokens.flatten(1).gather(1, best)
    return [list(zip(*pair, strict=True)) for pair in zip(places.tolist(), chosen.tolist(), strict=True)]


def _edits(ids: list[int], wanted: list[tuple[int, int]], eos: int) -> list[list[int]]:
    """A text, (t,) token ids, with each wanted token in the place of what stands there, and before it."""
    out = []
    for place, token in wanted:
        before, after = ids[:place], ids[place:]
        out.append([*before, token, *after])
        if after[0] != eos:
            out.append([*before, token, *after[1:]])
        if after[1:2] == [token]:
            out.append([*before, *after[1:]])
    return out


@torch.inference_mode()
def _likelihoods(model: "Vec2Text", texts: Sequence[str], targets: np.ndarray, max_length: int) -> np.ndarray:
    """Log-likelihood of each whole text by the inverter, (n,)."""
    pairs = PairDataset(targets, texts, model.tokenizer, max_length)
    out = np.zeros(len(texts))
    for rows in _batches(pairs.lengths):
        batch = send_to_device(pairs.collate(rows), model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16_pays()):
            out[rows] = model.model.likelihood(**batch).cpu().numpy()
    return out
