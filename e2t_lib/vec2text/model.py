"""A causal language model that writes the text of an embedding.

Two paths lead from the embedding into the model (d: embedding length, h: hidden size, V: vocabulary):

- *prefix*: a two-layer MLP turns it into `prefix_length` soft tokens before the text (Morris et al. 2023,
  arXiv:2310.06816).
- *lexical head*: an MLP turns it straight into logits over the vocabulary, added to the language model's own
  through a gate computed from the hidden state:

      logits_t = W h_t + sigmoid(g . h_t) * Lexical(e)

  An embedding says *which* words rather than their order; asking six small layers to carry that through
  attention wastes them. The head is worth more than a nat a token at equal training time.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from e2t_lib.settings import Vec2TextSettings

IGNORE = -100  # the label of padding: no loss


class Conditioning(nn.Module):
    """The two paths from an embedding into a language model.

    Args:
        dimension: d, length of an embedding.
        hidden_size: h, of the language model.
        vocabulary: V, rows of its output layer.
        settings: widths, prefix length, dropout, and whether there is a lexical head.
        token_scale: standard deviation of the model's token embeddings, which the prefix starts from.
    """

    def __init__(
        self, dimension: int, hidden_size: int, vocabulary: int, settings: Vec2TextSettings, token_scale: float = 1.0
    ):
        super().__init__()
        self.scale = dimension**0.5  # a unit vector has components of 1/sqrt(d); layers start well on components of 1
        self.prefix_length = settings.prefix_length
        self.prefix = nn.Sequential(
            nn.Linear(dimension, settings.prefix_width),
            nn.GELU(),
            nn.Linear(settings.prefix_width, settings.prefix_length * hidden_size),
        )
        self.prefix_norm = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.prefix_norm.weight, token_scale)
        self.lexical: nn.Sequential | None = None
        if settings.lexical_head:
            self.lexical = nn.Sequential(
                nn.Dropout(settings.dropout),
                nn.Linear(dimension, settings.lexical_width),
                nn.GELU(),
                nn.Dropout(settings.dropout),
                nn.Linear(settings.lexical_width, settings.lexical_rank),
                nn.Linear(settings.lexical_rank, vocabulary),  # low rank: 13M instead of 51M weights for DialoGPT
            )
            self.gate = nn.Linear(hidden_size, 1)

    def start_from_counts(self, counts: Tensor) -> None:
        """Bias the lexical head with the log frequency of each token, (V,), so that training starts from unigrams."""
        if self.lexical is not None:
            frequency = (counts.float() + 1) / (counts.sum() + len(counts))
            with torch.no_grad():
                self.word_bias.copy_(frequency.log() - frequency.log().mean())

    @property
    def word_bias(self) -> Tensor:
        """(V,): what the lexical head says of each token whatever the embedding."""
        assert self.lexical is not None
        return cast(nn.Linear, self.lexical[-1]).bias

    def prefix_tokens(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, prefix_length, h)."""
        flat = self.prefix(embeddings * self.scale)
        return self.prefix_norm(flat.view(len(embeddings), self.prefix_length, -1))

    def lexical_logits(self, embeddings: Tensor) -> Tensor | None:
        """(n, d) -> (n, V), or None without a lexical head."""
        return None if self.lexical is None else self.lexical(embeddings * self.scale)


@dataclass(frozen=True)
class Sampling:
    """How to write: sampling at a temperature; greedy at temperature 0; beam search where `num_beams` > 1."""

    temperature: float = 0.7
    top_k: int = 40
    num_beams: int = 1
    max_length: int = 300


class ConditionedLM(nn.Module):
    """Any transformers causal LM, with `Conditioning` in front of it and beside its output layer."""

    def __init__(self, language_model: Any, conditioning: Conditioning, *, bos: int, eos: int):
        super().__init__()
        self.language_model = language_model
        self.conditioning = conditioning
        self.bos, self.eos = bos, eos
        self._lexical: Tensor | None = None
        # A hook on the output layer sees the hidden state of every causal LM alike, in training and in `generate`.
        language_model.get_output_embeddings().register_forward_hook(self._add_lexical_logits)

    def _add_lexical_logits(self, _layer: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        if self._lexical is None:
            return logits
        gate = torch.sigmoid(self.conditioning.gate(inputs[0]))
        copies = logits.shape[0] // len(self._lexical)  # beam search repeats each target for its beams
        return logits + gate * self._lexical.repeat_interleave(copies, dim=0).unsqueeze(1)

    def _inputs(self, embeddings: Tensor, input_ids: Tensor) -> Tensor:
        tokens = self.language_model.get_input_embeddings()(input_ids)
        return torch.cat([self.conditioning.prefix_tokens(embeddings).to(tokens.dtype), tokens], dim=1)

    def forward(self, embeddings: Tensor, input_ids: Tensor, labels: Tensor) -> Tensor:
        """Mean negative log-likelihood a token, in nats.

        Args:
            embeddings: (n, d) float, unit rows.
            input_ids: (n, t) int64: BOS and the text, padded on the right with anything.
            labels: (n, t) int64: the text and EOS; `IGNORE` where padded. Causal attention keeps the padding,
                which stands on the right, out of every position that has a label: no attention mask is needed.
        """
        self._lexical = self.conditioning.lexical_logits(embeddings)
        try:
            hidden = self._inputs(embeddings, input_ids)
            logits = self.language_model(inputs_embeds=hidden, logits_to_keep=input_ids.shape[1]).logits
        finally:
            self._lexical = None
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE)

    @torch.inference_mode()
    def write(self, embeddings: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
        """Token ids of one text an embedding, (n, t) int64, ended by EOS and padded with it."""
        self._lexical = self.conditioning.lexical_logits(embeddings)
        start = torch.full((len(embeddings), 1), self.bos, device=embeddings.device)
        inputs = self._inputs(embeddings, start)
        samples = sampling.num_beams == 1 and sampling.temperature > 0
        try:
            return self.language_model.generate(
                inputs_embeds=inputs,
                attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device),
                max_new_tokens=sampling.max_length,
                do_sample=False,
                num_beams=sampling.num_beams,
                logits_processor=[GumbelTopK(sampling, generator)] if samples else [],
                eos_token_id=self.eos,
                pad_token_id=self.eos,
            )
        finally:
            self._lexical = None


class GumbelTopK(LogitsProcessor):
    """Sampling as an argmax: temperature and top-k, then Gumbel noise on what is left (Gumbel 1954).

    The noise comes from its own generator, so that a seed decides the texts whatever else draws random numbers.
    `torch.multinomial` over a vocabulary of 16,384 took 40 % of the writing time on two cores; this takes 4 %.
    """

    def __init__(self, sampling: Sampling, generator: torch.Generator):
        self.temperature, self.top_k, self.generator = sampling.temperature, sampling.top_k, generator

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        top, tokens = scores.topk(min(self.top_k, scores.shape[1]))
        noise = -torch.empty(top.shape).exponential_(generator=self.generator).log().to(top.device)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, top / self.temperature + noise)
