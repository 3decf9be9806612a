"""The ways from an embedding into a language model.

Three paths lead from the target embedding e into the model (d: embedding length, h: hidden size, V: vocabulary):

- *prefix*: a two-layer MLP turns it into `prefix_length` soft tokens before the text (Morris et al. 2023,
  arXiv:2310.06816).
- *lexical head*: an MLP says straight which words the text has, and so which are still to be written. Its logits are
  added to the language model's own through a gate computed from the hidden state:

      logits_t = W h_t + sigmoid(g . h_t) * (L (f(e) - sum over tokens w so far of A L_w) + b)

  An embedding says *which* words rather than their order; asking six small layers to carry that through
  attention wastes them. The head is worth more than a nat a token at equal training time. Words once written are
  explained away: what they asked for is taken off, by one matrix A for all words, so that rare words profit from
  what frequent ones teach. In a correction, f(e) + r(e - e_hyp) + sum over tokens w of the hypothesis of B L_w stands
  in the place of f(e): what it lacks, and what of it to keep.

  It says one thing of tokens that differ in case only, since few embedders can tell them apart, and it first learns
  alone, from the bags of tokens of the texts (`BagOfTokens`): in 45 s it has 61 % of a held-out title's tokens among
  its first 20, where 20 minutes of training with the language model had brought it to 30 %.

- *length*: how many tokens the text has is guessed first, and a countdown to its end is added to the token
  embeddings. A mean over tokens barely tells how many they were; a model that must find out while it writes goes on
  asking for the words it missed, twice as long as the text was.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.writing import choose

LENGTH_WIDTH = 256  # hidden units behind the guess of a length


class Hypotheses(NamedTuple):
    """Texts to correct, one a target; a target without one has an empty mask.

    Attributes:
        input_ids: (n, k) int64, padded on the left with anything.
        mask: (n, k) int64, 1 where there is a token.
        embeddings: (n, d) float, of the texts; anything where there is none.
    """

    input_ids: Tensor
    mask: Tensor
    embeddings: Tensor

    @property
    def present(self) -> Tensor:
        """(n, 1) int64: 1 where there is a hypothesis."""
        return self.mask[:, -1:]


class Conditioning(nn.Module):
    """Soft tokens and lexical head of an embedding.

    Args:
        dimension: d, length of an embedding.
        hidden_size: h, of the language model.
        groups: (V,) int64, for each row of its output layer the number of its group of tokens that differ in case only.
        settings: widths, prefix length, dropout, and whether there is a lexical head.
        token_scale: standard deviation of the model's token embeddings, which the prefix starts from.
    """

    def __init__(
        self, dimension: int, hidden_size: int, groups: Tensor, settings: Vec2TextSettings, token_scale: float = 1.0
    ):
        super().__init__()
        self.prefix = SoftTokens(dimension, hidden_size, settings, token_scale)
        self.residual_prefix = SoftTokens(dimension, hidden_size, settings, token_scale) if settings.corrector else None
        self.lexical = LexicalHead(dimension, hidden_size, groups, settings) if settings.lexical_head else None
        self.length = Length(dimension, hidden_size) if settings.length_head else None


class SoftTokens(nn.Module):
    """Vectors to stand among a language model's token embeddings; arguments as for `Conditioning`."""

    def __init__(self, dimension: int, hidden_size: int, settings: Vec2TextSettings, token_scale: float):
        super().__init__()
        out = settings.prefix_length * hidden_size
        width = settings.prefix_width
        self.scale = _scale(dimension)
        self.length = settings.prefix_length
        self.project = (
            nn.Sequential(nn.Linear(dimension, width), nn.GELU(), nn.Linear(width, out))
            if width
            else nn.Linear(dimension, out)
        )
        self.norm = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.norm.weight, token_scale)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, prefix_length, h)."""
        return self.norm(self.project(embeddings * self.scale).view(len(embeddings), self.length, -1))


class LexicalHead(nn.Module):
    """Which words an embedding asks for, less those that are written; arguments as for `Conditioning`.

    It speaks in `lexical_rank` features, of which the logits of all words are linear.
    """

    groups: Tensor

    def __init__(self, dimension: int, hidden_size: int, groups: Tensor, settings: Vec2TextSettings):
        super().__init__()
        rank = settings.lexical_rank
        self.scale = _scale(dimension)
        self.asked = _mlp(dimension, settings)
        self.words = nn.Linear(rank, int(groups.max()) + 1)  # low rank: 13M, not 51M weights for DialoGPT
        self.said = nn.Linear(rank, rank, bias=False)  # A
        self.gate = nn.Linear(hidden_size, 1)
        self.register_buffer("groups", groups, persistent=False)
        nn.init.zeros_(self.said.weight)  # says nothing before it has learned; so the residual's
        if settings.corrector:
            self.missed = _mlp(dimension, settings)
            self.kept = nn.Linear(rank, rank, bias=False)  # B
            for weights in (*self.missed[-1].parameters(), self.kept.weight):
                nn.init.zeros_(weights)

    def start_from_counts(self, counts: Tensor) -> None:
        """Start from unigrams: bias each word with the log of its frequency, of the counts of all tokens, (V,)."""
        grouped = torch.zeros_like(self.words.bias).index_add_(0, self.groups, counts.float())
        frequency = (grouped + 1) / (grouped.sum() + len(grouped))
        with torch.no_grad():
            self.words.bias.copy_(frequency.log() - frequency.log().mean())

    def features(self, embeddings: Tensor, hypotheses: Hypotheses | None = None) -> Tensor:
        """What is asked for before anything is written: (n, d), and what is to be corrected -> (n, rank)."""
        features = self.asked(embeddings * self.scale)
        if hypotheses is not None:
            residuals = embeddings - hypotheses.embeddings
            written = (self._words(hypotheses.input_ids) * hypotheses.mask[:, :, None]).sum(dim=1)
            features = features + hypotheses.present * (self.missed(residuals * self.scale) + self.kept(written))
        return features

    def explained(self, tokens: Tensor) -> Tensor:
        """What each token takes off: (...) int64 -> (..., rank)."""
        return self.said(self._words(tokens))

    def _words(self, tokens: Tensor) -> Tensor:
        return nn.functional.embedding(self.groups[tokens], self.words.weight)

    def logits(self, embeddings: Tensor) -> Tensor:
        """What an embedding asks for, of the whole vocabulary: (n, d) -> (n, V)."""
        return self.words(self.features(embeddings))[:, self.groups]


class Length(nn.Module):
    """How many tokens a text has, EOS included, and the countdown to its end.

    Lengths fall into bands: single ones to 32, then four an octave.

    Args:
        dimension: d, length of an embedding.
        hidden_size: h, of the language model.
    """

    last: Tensor

    def __init__(self, dimension: int, hidden_size: int):
        super().__init__()
        octaves = [32 * 2**octave * quarter // 4 for octave in range(6) for quarter in (5, 6, 7, 8)]
        self.register_buffer("last", torch.tensor([*range(1, 33), *octaves]), persistent=False)  # of each band
        self.scale = _scale(dimension)
        self.guess = nn.Sequential(
            nn.Linear(dimension, LENGTH_WIDTH), nn.GELU(), nn.Linear(LENGTH_WIDTH, len(self.last))
        )
        self.countdown = nn.Embedding(len(self.last), hidden_size)
        nn.init.zeros_(self.countdown.weight)

    @property
    def widths(self) -> Tensor:
        """(bands,) int64: how many lengths each band holds."""
        return self.last.diff(prepend=self.last.new_zeros(1))

    def band(self, lengths: Tensor) -> Tensor:
        """The band of each length, (...) int64."""
        return torch.bucketize(lengths.clamp(1, int(self.last[-1])), self.last)

    def forward(self, left: Tensor) -> Tensor:
        """What to add to a token's embedding where so many tokens are left to write: (...) int64 -> (..., h)."""
        return self.countdown(self.band(left))

    def loss(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """Negative log-likelihood of each length, (n,), in nats; those of a band are equally likely."""
        bands = self.band(lengths)
        likelihood = self.guess(embeddings * self.scale).float().log_softmax(dim=1)
        return self.widths[bands].float().log() - likelihood.gather(1, bands[:, None])[:, 0]

    def draw(self, embeddings: Tensor, temperatures: Tensor, generator: torch.Generator, least: int = 1) -> Tensor:
        """A length for each embedding, (n,) int64, drawn at its temperature, (n,): at 0 the median; EOS counts.

        None is below the band that `least` tokens and EOS fall into.
        """
        scores = self.guess(embeddings * self.scale).float()
        scores[:, : int(self.band(self.last.new_tensor(least + 1)))] = -torch.inf
        median = (scores.softmax(dim=1).cumsum(dim=1) < 0.5).sum(dim=1)
        drawn = choose(scores, temperatures, scores.shape[1], generator)
        bands = torch.where(temperatures > 0, drawn, median)
        return self.last[bands] - self.widths[bands] // 2


def _scale(dimension: int) -> float:
    return dimension**0.5  # a unit vector has components of 1/sqrt(d); layers start well on components of 1


def _mlp(dimension: int, settings: Vec2TextSettings) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(settings.dropout),
        nn.Linear(dimension, settings.lexical_width),
        nn.GELU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.lexical_width, settings.lexical_rank),
    )


def token_groups(tokenizer: Any, vocabulary: int) -> Tensor:
    """(vocabulary,) int64: one number for all tokens that differ in case only; rows past the tokenizer's are alone."""
    numbers: dict[str, int] = {}
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), vocabulary))))
    names = [*tokens, *(f"unused {row}" for row in range(len(tokens), vocabulary))]
    return torch.tensor([numbers.setdefault(str(name).casefold(), len(numbers)) for name in names])
