"""A causal language model that writes the text of an embedding, or corrects a text that missed it.

`Conditioning` brings the embedding in. A correction is the same model with more before its text: the hypothesis, and
soft tokens of the residual e - e_hyp, which say what the hypothesis lacks; the lexical head hears of the residual, too.

      [hypothesis] [residual prefix] [prefix] BOS text

Without a hypothesis the first two are absent, so that inverter and corrector share every weight and train together.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from e2t_lib.errors import E2TError
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.conditioning import Conditioning, Hypotheses, LexicalHead
from e2t_lib.vec2text.writing import Sampling, choose, sample, search

IGNORE = -100  # the label of padding: no loss
NEGATIVES = 3_072  # tokens beside the right ones that a training step chooses among


class BagOfTokens(nn.Module):
    """The lexical head's first lesson: which tokens a text has, whatever their order.

    Args:
        lexical: the head that learns.
    """

    def __init__(self, lexical: LexicalHead):
        super().__init__()
        self.lexical = lexical

    def forward(self, embeddings: Tensor, input_ids: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Mean negative log-likelihood of a token, in nats, of a model that draws each token by itself.

        Arguments as for `ConditionedLM.forward`.
        """
        likelihood = self.lexical.words(self.lexical.features(embeddings)).float().log_softmax(dim=1)
        wanted = self.lexical.groups[labels.clamp(min=0)]
        return -likelihood.gather(1, wanted)[labels != IGNORE].mean()

    def parameter_groups(self, _settings: Vec2TextSettings) -> list[dict[str, Any]]:
        """See `ConditionedLM.parameter_groups`."""
        return [{"params": list(self.lexical.parameters()), "rate": 1.0}]


class Output(NamedTuple):
    """The output layer over some of the vocabulary.

    Attributes:
        weight: (c, h), bias: (c,), the language model's own.
        words: (c, rank), word_bias: (c,), the lexical head's; None without one.
    """

    weight: Tensor
    bias: Tensor | None
    words: Tensor | None
    word_bias: Tensor | None


class ConditionedLM(nn.Module):
    """Any transformers causal LM, with `Conditioning` in front of it and beside its output layer.

    The language model's own output layer is made to pass hidden states through, in this object and not in what is
    saved: logits are computed here, with the lexical head's, and in training over a part of the vocabulary.
    """

    def __init__(self, language_model: Any, conditioning: Conditioning, *, bos: int, eos: int):
        super().__init__()
        self.language_model = language_model
        self.conditioning = conditioning
        self.bos, self.eos = bos, eos
        language_model.get_output_embeddings().forward = _identity

    def parameter_groups(self, settings: Vec2TextSettings) -> list[dict[str, Any]]:
        """For the optimiser: parameters, and their share of the learning rate."""
        return [
            {"params": list(self.conditioning.parameters()), "rate": 1.0},
            {"params": list(self.language_model.parameters()), "rate": settings.language_model_rate},
        ]

    def room(self, length: int) -> int:
        """Tokens of a hypothesis that the language model has positions for, before a text of `length` tokens.

        Raises:
            E2TError: there are none left.
        """
        positions = getattr(self.language_model.config, "max_position_embeddings", None) or 2 * length + 1_000
        left = positions - 2 * self.conditioning.prefix.length - length
        if left < 1:
            raise E2TError(f"max_length {length}: the base model has room for {length + left - 1} tokens at most")
        return min(length, left)

    def begin(
        self, embeddings: Tensor, input_ids: Tensor, lengths: Tensor, hypotheses: Hypotheses | None
    ) -> dict[str, Any]:
        """The language model's arguments for all that stands before and in texts of so many tokens, (n,).

        Rows of hypotheses differ in length: padded on the left, they need a mask and positions of their own. Causal
        attention alone keeps padding on the right away from every position that counts.
        """
        embed = self.language_model.get_input_embeddings()
        tokens = self.tokens(input_ids, lengths)
        parts = [self.conditioning.prefix(embeddings).to(tokens.dtype), tokens]
        if hypotheses is None:
            return {"inputs_embeds": torch.cat(parts, dim=1)}
        assert self.conditioning.residual_prefix is not None, "trained without a corrector"
        present = hypotheses.present
        soft = self.conditioning.residual_prefix(embeddings - hypotheses.embeddings).to(tokens.dtype)
        inputs = torch.cat([embed(hypotheses.input_ids), soft, *parts], dim=1)
        after = present.new_ones(len(inputs), parts[0].shape[1] + input_ids.shape[1])
        mask = torch.cat([hypotheses.mask, present.expand(-1, soft.shape[1]), after], dim=1)
        return {"inputs_embeds": inputs, "attention_mask": mask, "position_ids": _positions(mask)}

    def tokens(self, input_ids: Tensor, left: Tensor) -> Tensor:
        """Input embeddings of a text's next tokens, (n, t, h), with so many left to write after the first, (n,)."""
        tokens = self.language_model.get_input_embeddings()(input_ids)
        if self.conditioning.length is None:
            return tokens
        return tokens + self.conditioning.length(left[:, None] - torch.arange(input_ids.shape[1], device=left.device))

    def hidden(self, arguments: dict[str, Any], length: int, cache: Any = None) -> Tensor:
        """(n, length, h): what the output layer is given at the last positions."""
        kept = {"logits_to_keep": length, "use_cache": cache is not None, "past_key_values": cache}
        mask = arguments.get("attention_mask")
        if mask is not None and mask.shape[1] == arguments["inputs_embeds"].shape[1]:  # nothing is in the cache yet
            arguments = arguments | {"attention_mask": _causal(mask)}
        return self.language_model(**arguments, **kept).logits

    def output(self, tokens: Tensor | None = None) -> Output:
        """The output layer over some tokens, (c,), or all."""
        layer, lexical = self.language_model.get_output_embeddings(), self.conditioning.lexical
        part = slice(None) if tokens is None else tokens
        bias = None if layer.bias is None else layer.bias[part]
        if lexical is None:
            return Output(layer.weight[part], bias, None, None)
        rows = lexical.groups[part]
        return Output(layer.weight[part], bias, lexical.words.weight[rows], lexical.words.bias[rows])

    def logits(self, hidden: Tensor, features: Tensor | None, output: Output) -> Tensor:
        """(..., h) and lexical features (..., rank) -> (..., c)."""
        own = nn.functional.linear(hidden, output.weight, output.bias)
        if features is None:
            return own
        assert self.conditioning.lexical is not None and output.words is not None and output.word_bias is not None
        gate = torch.sigmoid(self.conditioning.lexical.gate(hidden))
        return own + nn.functional.linear(gate * features, output.words) + gate * output.word_bias

    def features(self, embeddings: Tensor, input_ids: Tensor, hypotheses: Hypotheses | None) -> Tensor | None:
        """Of the lexical head at each position of a text, (n, t, rank), or None without one."""
        lexical = self.conditioning.lexical
        if lexical is None:
            return None
        return lexical.features(embeddings, hypotheses)[:, None] - lexical.explained(input_ids).cumsum(dim=1)

    def forward(
        self,
        embeddings: Tensor,
        input_ids: Tensor,
        labels: Tensor,
        lengths: Tensor,
        hypotheses: Hypotheses | None = None,
    ) -> Tensor:
        """Mean negative log-likelihood a token, in nats; in training estimated from a part of the vocabulary.

        That of a text is that of its length and of its tokens, knowing it.

        Args:
            embeddings: (n, d) float, unit rows.
            input_ids: (n, t) int64: BOS and the text, padded on the right with anything.
            labels: (n, t) int64: the text and EOS; `IGNORE` where padded.
            lengths: (n,) int64, tokens of the whole texts with EOS, of which t may be a part.
            hypotheses: the texts to correct; None: there are none.
        """
        kept = labels != IGNORE
        hidden = self.hidden(self.begin(embeddings, input_ids, lengths, hypotheses), input_ids.shape[1])[kept]
        features = self.features(embeddings, input_ids, hypotheses)
        features = None if features is None else features[kept]
        tokens, stands_for, wanted = None, torch.ones((), device=hidden.device), labels[kept]
        if self.training:
            vocabulary = len(self.language_model.get_output_embeddings().weight)
            tokens, stands_for, wanted = candidates(wanted, vocabulary)
        logits = self.logits(hidden, features, self.output(tokens)).float() + stands_for.log()
        loss = nn.functional.cross_entropy(logits, wanted)
        if self.conditioning.length is None:
            return loss
        return loss + self.conditioning.length.loss(embeddings, lengths).sum() / kept.sum()

    @torch.inference_mode()
    def write(
        self,
        embeddings: Tensor,
        sampling: Sampling,
        generator: torch.Generator,
        hypotheses: Hypotheses | None = None,
        temperatures: Tensor | None = None,
    ) -> Tensor:
        """Token ids of one text an embedding, (n, t) int64, ended by EOS and padded with it.

        Args:
            embeddings: (n, d) float, unit rows.
            sampling: how to write.
            generator: of the noise of sampling.
            hypotheses: the texts to correct; None: there are none.
            temperatures: (n,) float, a temperature for each text; None: that of `sampling`.
        """
        beams = sampling.num_beams > 1
        if temperatures is None or beams:
            temperature = 0.0 if beams else sampling.temperature
            temperatures = torch.full((len(embeddings),), temperature, device=embeddings.device)
        lengths = torch.zeros(len(embeddings), dtype=torch.long, device=embeddings.device)  # nobody listens
        if self.conditioning.length is not None:
            lengths = self.conditioning.length.draw(embeddings, temperatures, generator, sampling.min_length)
            if sampling.whole:
                lengths = lengths.clamp(max=sampling.max_length)
        if beams:
            return search(self, embeddings, lengths, hypotheses, sampling)
        return sample(self, embeddings, lengths, hypotheses, sampling, temperatures, generator)

    def scores(
        self,
        embeddings: Tensor,
        input_ids: Tensor,
        lengths: Tensor,
        hypotheses: Hypotheses | None = None,
        among: Tensor | None = None,
    ) -> Tensor:
        """Logits of what follows each token, (n, t, V) float32; of some tokens only, `among`, (c,): (n, t, c).

        Other arguments as for `forward`.
        """
        hidden = self.hidden(self.begin(embeddings, input_ids, lengths, hypotheses), input_ids.shape[1])
        return self.logits(hidden, self.features(embeddings, input_ids, hypotheses), self.output(among)).float()

    def likelihood(
        self, embeddings: Tensor, input_ids: Tensor, labels: Tensor, lengths: Tensor, among: Tensor | None = None
    ) -> Tensor:
        """Log-likelihood of each whole text, its length included, (n,), in nats; arguments as for `forward`.

        Args:
            among: (c,) token ids in rising order, all of the texts among them: the likelihood where there are no others.
        """
        kept = labels != IGNORE
        wanted = labels.clamp(min=0) if among is None else torch.searchsorted(among, labels).clamp(max=len(among) - 1)
        scores = self.scores(embeddings, input_ids, lengths, among=among)
        chosen = scores.gather(2, wanted[:, :, None])[:, :, 0] - scores.logsumexp(dim=2)
        total = (chosen * kept).sum(dim=1)
        if self.conditioning.length is None:
            return total
        return total - self.conditioning.length.loss(embeddings, lengths)

    @torch.inference_mode()
    def echo(
        self,
        embeddings: Tensor,
        input_ids: Tensor,
        labels: Tensor,
        lengths: Tensor,
        share: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Texts with a share of their tokens, (n,), drawn anew, each given the true ones before it: near misses.

        They cost one pass. Other arguments as for `forward`. Token ids, (n, t) int64, EOS where a text has ended.
        """
        scores = self.scores(embeddings, input_ids, lengths)
        scores[:, :, self.eos] = -torch.inf  # a near miss ends where the text does
        # At temperature 1 the cosine of texts drawn anew altogether is .74, below that of written ones, .80.
        heat = scores.new_full((labels.numel(),), Sampling.temperature)
        drawn = choose(scores.flatten(0, 1), heat, Sampling.top_k, generator)
        ended = (labels == IGNORE) | (labels == self.eos)
        chance = torch.rand(labels.shape, generator=generator, device=generator.device).to(labels.device)
        stays = chance >= share[:, None]
        return torch.where(stays, labels, drawn.view_as(labels)).masked_fill(ended, self.eos)


def candidates(wanted: Tensor, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """A part of the vocabulary to choose the wanted tokens from: sampled softmax (Jean et al. 2015, arXiv:1412.2007).

    A softmax over all of 16,384 tokens was half the time of a training step on two cores.

    Args:
        wanted: (m,) int64, the right tokens.
        vocabulary: V, how many tokens there are.

    Returns:
        tokens: (c,) int64, all that are wanted by any position, and `NEGATIVES` of the others, drawn evenly.
        stands_for: (c,) float, how many tokens each stands for in the sum over the vocabulary.
        numbers: (m,) int64, where in `tokens` the wanted ones are.
    """
    present = torch.zeros(vocabulary, dtype=torch.bool, device=wanted.device).index_fill(0, wanted, True)
    others = (~present).nonzero()[:, 0]
    drawn = others[torch.randperm(len(others), device=wanted.device)[:NEGATIVES]]
    own = present.nonzero()[:, 0]
    tokens = torch.cat([own, drawn])
    stands_for = torch.ones(len(tokens), device=wanted.device)
    stands_for[len(own) :] = len(others) / max(len(drawn), 1)
    numbers = torch.empty(vocabulary, dtype=torch.long, device=wanted.device)
    numbers[tokens] = torch.arange(len(tokens), device=wanted.device)
    return tokens, stands_for, numbers[wanted]


def _identity(hidden: Tensor) -> Tensor:
    return hidden


def _causal(mask: Tensor) -> Tensor:
    """(n, t) -> (n, 1, t, t), what to add to attention scores: each position sees the tokens up to it.

    Padding sees itself. In the mask that transformers makes it sees nothing, and kernels may answer NaN: a training of
    the corrector in bf16 on an H100 was lost to NaN, which no CPU has shown.
    """
    own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    before = torch.ones_like(own).tril()
    seen = (mask[:, None, None, :].bool() & before) | own
    return torch.zeros(seen.shape, device=mask.device).masked_fill(~seen, torch.finfo(torch.float32).min)


def _positions(mask: Tensor) -> Tensor:
    """(n, t): how many tokens stand before each; 0 for padding on the left."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
