"""Edits of a hypothesis: of its sentences where it has several (see recombination.py), of its words where it has not.

A word edit leaves a text as it stands but for one token replaced, put in, left out or moved. A rewritten text changes
much at once; near its target, little should. The inverter, asked for an embedding beyond the target as seen from the
text, says of each token of the text what it would rather have there. (The corrector, which reads the text, says it less
well: on 80 held-out titles, in the same time, it ends at cosine .937, the inverter at .948.) What is favoured most becomes
edited texts, and the inverter's likelihood of each whole text, which keeps the language sound, decides their order
before any is embedded. Very near its target a text may lack but the order of its words: its reorderings (see
reordering.py) are ranked in the same way, and come first.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from e2t_lib.settings import CorrectionSettings
from e2t_lib.vec2text.batches import PairDataset, tokenise
from e2t_lib.vec2text.correction import Draft
from e2t_lib.vec2text.model import IGNORE
from e2t_lib.vec2text.recombination import Sentence, sentence_edits, sentences
from e2t_lib.vec2text.reordering import reorderings
from e2t_lib.vec2text.training import bf16_pays

if TYPE_CHECKING:
    from e2t_lib.vec2text.estimator import Vec2Text

SEVERAL = 3  # sentences
EDITS = 32  # of sentences, to choose untried ones from
CHANGES = 6  # places and tokens of a text that are tried; each is a few edits
NEAR = 0.95  # the cosine from which a hypothesis may lack but the order of its words
WORDS = 12  # of a text that is reordered: 306 ways; of 20 words there are 1,000
FIRST = 5  # of them, the likeliest, are tried in a step, before other edits
STEP = 2.0  # residuals beyond the target; 120 held-out titles end at cosine .950 with half a one, .956 with two
TOKENS = 2_048  # scored at a time: each has scores for the whole vocabulary


class Editor:
    """Edits the hypotheses of one correction loop.

    Args:
        model: whose inverter says which words, and in which order edits come.
        settings: how many tokens a text may have.
    """

    def __init__(self, model: "Vec2Text", settings: CorrectionSettings):
        self.model, self.settings = model, settings
        self.sentences: dict[str, Sentence] = {}  # of the targets that are being searched for
        self.orders: dict[tuple[bytes, str], list[str]] = {}  # of the words of the best drafts, likeliest first

    def __call__(self, beams: Sequence[Sequence[Draft]]) -> list[list[str]]:
        """Edits for each search: new orders of its best draft, the best edit of each draft, the second best, and so on."""
        drafts = list(itertools.chain(*beams))
        long = [draft for draft in drafts if len(sentences(draft.text)) >= SEVERAL]
        short = [draft for draft in drafts if len(sentences(draft.text)) < SEVERAL]
        lengths = range(self.settings.min_length, self.settings.max_length)
        self._read(long)
        edits = {id(draft): sentence_edits(draft, self.sentences, lengths, EDITS) for draft in long}
        if short:
            edits |= dict(zip(map(id, short), word_edits(self.model, short, lengths), strict=True))
        turns = [itertools.zip_longest(*(edits.get(id(draft), []) for draft in beam)) for beam in beams]
        in_turn = [[text for turn in own for text in turn if text] for own in turns]
        best = [beam[0] for beam in beams]
        self.orders = {_key(draft): self._orders(draft) for draft in best}
        return [self._untried(draft) + edited for draft, edited in zip(best, in_turn, strict=True)]

    def _orders(self, draft: Draft) -> list[str]:
        """All orders of a draft's words, the likeliest first; of a text that is long, or off its target, none."""
        if _key(draft) in self.orders:
            return self.orders[_key(draft)]
        line = "\n" not in draft.text and len(draft.text.split()) <= WORDS
        orders = reorderings(draft.text) if line and draft.target @ draft.embedding >= NEAR else []
        if not orders:
            return []
        targets = np.repeat(draft.target[None], len(orders), axis=0)
        likelihoods = _likelihoods(self.model, orders, targets, self.settings.max_length, own_tokens=True)
        return [orders[number] for number in np.argsort(-likelihoods, kind="stable")]

    def _untried(self, draft: Draft) -> list[str]:
        tried = {text.casefold() for text in draft.tried}
        untried = (text for text in self.orders[_key(draft)] if text.casefold() not in tried)
        return list(itertools.islice(untried, FIRST))

    def _read(self, drafts: list[Draft]) -> None:
        """Embed the sentences that are new, and forget those of targets that are done."""
        texts = dict.fromkeys(text for draft in drafts for text in draft.tried)
        needed = dict.fromkeys(part for text in texts for part in sentences(text))
        fresh = [part for part in needed if part not in self.sentences]
        if fresh:
            counts = [len(ids) for ids in tokenise(fresh, self.model.tokenizer)]
            self.sentences |= dict(zip(fresh, map(Sentence, self.model.embedder.encode(fresh), counts), strict=True))
        self.sentences = {part: self.sentences[part] for part in needed}


def beyond(targets: np.ndarray, landed: np.ndarray, step: float) -> np.ndarray:
    """Embeddings so many residuals past the targets, (n, d), as seen from where texts landed, (n, d)."""
    aimed = targets + step * (targets - landed)
    return aimed / np.linalg.norm(aimed, axis=1, keepdims=True)


def _key(draft: Draft) -> tuple[bytes, str]:
    return draft.target.tobytes(), draft.text


def word_edits(model: "Vec2Text", drafts: Sequence[Draft], lengths: range) -> list[list[str]]:
    """Edits of each draft, the likeliest first.

    Args:
        model: whose inverter says what is wanted.
        drafts: of any length, of which the first `lengths.stop` tokens are read.
        lengths: how many tokens an edited text may have; one more where one is put in.
    """
    targets, texts = np.stack([draft.target for draft in drafts]), [draft.text for draft in drafts]
    landed = np.stack([draft.embedding for draft in drafts])
    pairs = PairDataset(beyond(targets, landed, STEP), texts, model.tokenizer, lengths.stop)
    edited, owners = [], []
    for rows in _batches(pairs.lengths):
        batch = send_to_device(pairs.collate(rows), model.device)
        for row, wanted in zip(rows, _wanted(model, batch), strict=True):
            own = _edits(pairs.tokens[row].tolist(), wanted, model.model.eos)
            own = [ids for ids in own if len(ids) > lengths.start]  # EOS is one of them
            edited += own
            owners += [row] * len(own)
    written = [text.strip() for text in model.tokenizer.batch_decode(edited, skip_special_tokens=True)]
    likelihoods = _likelihoods(model, written, targets[owners], lengths.stop)
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
    """For each text the places and tokens that the inverter favours most over what stands there."""
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
    """A text, (t,) token ids, with each wanted token in its place: put in, or for what stands there.

    Where the text has the token elsewhere, it is moved from there, or the two change places.
    """
    out = []
    for place, token in wanted:
        here, ended = ids[place], ids[place] == eos
        out.append([*ids[:place], token, *ids[place:]])
        if not ended:
            out.append([*ids[:place], token, *ids[place + 1 :]])
        for other in (number for number, own in enumerate(ids) if own == token):
            rest, at = ids[:other] + ids[other + 1 :], place - (other < place)
            out.append([*rest[:at], token, *rest[at:]])
            if not ended:
                out.append([token if n == place else here if n == other else own for n, own in enumerate(ids)])
            if other == place + 1:
                out.append(ids[:place] + ids[other:])
    return [list(edited) for edited in dict.fromkeys(map(tuple, out)) if edited != tuple(ids)]


@torch.inference_mode()
def _likelihoods(
    model: "Vec2Text", texts: Sequence[str], targets: np.ndarray, max_length: int, *, own_tokens: bool = False
) -> np.ndarray:
    """Log-likelihood of each whole text by the inverter, (n,); of texts of the same tokens, where there are no others."""
    pairs = PairDataset(targets, texts, model.tokenizer, max_length)
    among = pairs.token_counts(0).nonzero()[:, 0].to(model.device) if own_tokens else None
    out = np.zeros(len(texts))
    for rows in _batches(pairs.lengths):
        batch = send_to_device(pairs.collate(rows), model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16_pays()):
            out[rows] = model.model.likelihood(**batch, among=among).cpu().numpy()
    return out
