"""Texts to token batches: tokenised once, bucketed by length, padded on the right."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.conditioning import Hypotheses
from e2t_lib.vec2text.model import IGNORE
from e2t_lib.vec2text.recombination import BREAK


class PairDataset(Dataset):
    """(embedding, text) pairs as tensors, some with a hypothesis to correct.

    Args:
        embeddings: (n, d) float32, unit rows.
        texts: n texts.
        tokenizer: with BOS and EOS.
        max_length: tokens kept of a text; a text that is cut has no EOS, so that no model learns to stop there.
    """

    hypotheses: list[np.ndarray] | None = None

    def __init__(self, embeddings: np.ndarray, texts: Sequence[str], tokenizer: Any, max_length: int):
        self.embeddings = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        whole = tokenise(texts, tokenizer, end=True)
        self.totals = torch.tensor([len(ids) for ids in whole])
        self.tokens = [ids[:max_length] for ids in whole]
        self.tokenizer = tokenizer

    def suggest(self, hypotheses: Sequence[str], embeddings: np.ndarray, max_length: int) -> "PairDataset":
        """This, with texts to correct: n texts, "" where there is none, and their embeddings, (n, d) float32."""
        self.hypotheses = [ids[:max_length] for ids in tokenise(hypotheses, self.tokenizer)]
        self.hypothesis_embeddings = embeddings
        return self

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> int:
        return row  # `collate` makes a batch of row numbers at once

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair, hypothesis included: what it costs."""
        own = [len(ids) for ids in self.tokens]
        return own if self.hypotheses is None else [n + len(h) for n, h in zip(own, self.hypotheses, strict=True)]

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        """The arguments of `ConditionedLM.forward` for a batch of rows."""
        labels = torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(self.tokens[row]).long() for row in rows], batch_first=True, padding_value=IGNORE
        )
        shifted = labels.roll(1, dims=1)
        shifted[:, 0] = self.tokenizer.bos_token_id
        batch: dict[str, Any] = {
            "embeddings": self.embeddings[list(rows)],
            "input_ids": shifted.clamp(min=0),
            "labels": labels,
            "lengths": self.totals[list(rows)],
        }
        if self.hypotheses is not None and any(len(self.hypotheses[row]) for row in rows):
            own = [self.hypotheses[row] for row in rows]
            batch["hypotheses"] = as_hypotheses(own, self.hypothesis_embeddings[list(rows)])
        return batch

    def token_counts(self, vocabulary: int) -> Tensor:
        """How often each token stands in the texts, (vocabulary,) int64."""
        return torch.bincount(torch.from_numpy(np.concatenate(self.tokens)).long(), minlength=vocabulary)


def tokenise(texts: Sequence[str], tokenizer: Any, *, end: bool = False) -> list[np.ndarray]:
    """Token ids of each text, and EOS where asked for."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ends = [tokenizer.eos_token_id] if end else []
    # int32: a token list of Python ints takes 36 bytes a token, which 280,000 abstracts do not leave room for.
    return [np.array(ids + ends, dtype=np.int32) for ids in encoded]


def ended(text: str, tokenizer: Any, max_length: int) -> str:
    """A text with as many of its sentences as fit into `max_length` tokens with EOS.

    A model that learns from texts cut anywhere breaks off in the middle of a sentence, too. Where not one sentence after
    the first line fits, the text is returned as it is.
    """

    def tokens(end: int) -> int:
        return len(tokenizer(text[:end], add_special_tokens=False)["input_ids"])

    if tokens(len(text)) < max_length:
        return text
    ends = [gap.start() for gap in BREAK.finditer(text) if gap.start() > text.find("\n")]
    fitting = bisect_left(ends, max_length, key=tokens)
    return text[: ends[fitting - 1]] if fitting else text


def as_hypotheses(tokens: Sequence[np.ndarray], embeddings: np.ndarray) -> Hypotheses:
    """Hypotheses of texts by their token ids, padded on the left, and embeddings (n, d)."""
    width = max(len(ids) for ids in tokens)
    padded = torch.zeros(len(tokens), width, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, ids in enumerate(tokens):
        padded[row, width - len(ids) :] = torch.from_numpy(ids).long()
        mask[row, width - len(ids) :] = 1
    return Hypotheses(padded, mask, torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32)))


class LengthBuckets(Sampler[list[int]]):
    """Batches of texts of similar length, in a random order that (seed, epoch) decides.

    Padding a random batch of titles and abstracts wastes half of it. Texts are shuffled, cut into pools of 64
    batches, sorted inside a pool, and the batches of all pools shuffled again.

    Args:
        lengths: tokens of each text.
        batch_size: texts a batch.
        seed: of the order.
        most_tokens: long texts come in smaller batches, of about so many tokens at most; 0: no limit.
    """

    POOL = 64

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, most_tokens: int = 0):
        self.lengths, self.seed, self.epoch = np.asarray(lengths), seed, 0
        self.sizes = np.full(len(self.lengths), batch_size)
        if most_tokens:
            octaves = 2 ** np.ceil(np.log2(np.maximum(self.lengths, 1))).astype(int)
            self.sizes = np.clip(most_tokens // octaves, 1, batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(-(-int((self.sizes == size).sum()) // int(size)) for size in np.unique(self.sizes))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = [batch for size in np.unique(self.sizes) for batch in self._batches(int(size), rng)]
        for batch in rng.permutation(len(batches)):
            yield batches[batch].tolist()

    def _batches(self, size: int, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(np.flatnonzero(self.sizes == size))
        pools = [order[start : start + self.POOL * size] for start in range(0, len(order), self.POOL * size)]
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        return [order[start : start + size] for start in range(0, len(order), size)]


def corrected_rows(rows: Sequence[int], settings: Vec2TextSettings) -> list[int]:
    """The training rows that the corrector learns from: all, or a seeded choice of `corrector_texts`."""
    count = settings.corrector_texts
    if not count or count >= len(rows):
        return list(rows)
    return sorted(np.random.default_rng(settings.seed).choice(rows, count, replace=False).tolist())


def held_out_rows(count: int, settings: Vec2TextSettings) -> list[int]:
    """A seeded share of the rows, at least one, in order."""
    number = max(1, round(settings.held_out * count))
    return sorted(np.random.default_rng(settings.seed).permutation(count)[:number].tolist())
