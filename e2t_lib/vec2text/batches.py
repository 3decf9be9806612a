"""Texts to token batches: tokenised once, bucketed by length, padded on the right."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from e2t_lib.vec2text.model import IGNORE


class PairDataset(Dataset):
    """(embedding, text) pairs as tensors.

    Args:
        embeddings: (n, d) float32, unit rows.
        texts: n texts.
        tokenizer: with BOS and EOS.
        max_length: tokens kept of a text; a text that is cut has no EOS, so that no model learns to stop there.
    """

    def __init__(self, embeddings: np.ndarray, texts: Sequence[str], tokenizer: Any, max_length: int):
        self.embeddings = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        # int32: a token list of Python ints takes 36 bytes a token, which 280,000 abstracts do not leave room for.
        ends = [tokenizer.eos_token_id]
        self.tokens = [np.array(ids + ends, dtype=np.int32)[:max_length] for ids in encoded]
        self.bos = tokenizer.bos_token_id

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.embeddings[row], torch.from_numpy(self.tokens[row]).long()

    def collate(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The arguments of `ConditionedLM.forward`."""
        labels = torch.nn.utils.rnn.pad_sequence([ids for _, ids in pairs], batch_first=True, padding_value=IGNORE)
        shifted = labels.roll(1, dims=1)
        shifted[:, 0] = self.bos
        return {
            "embeddings": torch.stack([embedding for embedding, _ in pairs]),
            "input_ids": shifted.clamp(min=0),
            "labels": labels,
        }

    def token_counts(self, vocabulary: int) -> Tensor:
        """How often each token stands in the texts, (vocabulary,) int64."""
        return torch.bincount(torch.from_numpy(np.concatenate(self.tokens)).long(), minlength=vocabulary)


class LengthBuckets(Sampler[list[int]]):
    """Batches of texts of similar length, in a random order that (seed, epoch) decides.

    Padding a random batch of titles and abstracts wastes half of it. Texts are shuffled, cut into pools of 64
    batches, sorted inside a pool, and the batches of all pools shuffled again.
    """

    POOL = 64

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        pools = [
            order[start : start + self.POOL * self.batch_size]
            for start in range(0, len(order), self.POOL * self.batch_size)
        ]
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        for batch in rng.permutation(len(batches)):
            yield batches[batch].tolist()
