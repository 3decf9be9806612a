"""The embedded base's vocabulary: MiniLM's word pieces, but cased, and with the space before a word as part of it.

MiniLM reads `▁Gallium`, `▁gallium` and `▁GALLIUM` as one piece. A decoder that wants to start from MiniLM's token
embeddings needs tokens that are its pieces; a decoder that wants to write for people needs their case and spacing.
So each token here is a word piece as it stands in running text. A byte-level BPE of the same size splits elsewhere,
and half of what the embeddings know is lost.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from e2t_lib.embedder import embedded_model_path

SPACE = "▁"  # stands for the space before a word
END = "<|end|>"  # begins, ends and pads
BREAK = "\n\n"  # between title and content
BLOCK = 4_000  # texts tokenised at a time


def train_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A tokenizer whose tokens are the commonest cased word pieces of `texts`.

    It is a unigram model (Kudo 2018): a text is cut where the product of its tokens' frequencies is largest. What
    has no token is written in bytes, so that every text comes back as it was, up to runs of white space.

    Args:
        texts: any number of texts.
        size: tokens in all, the 256 bytes and the two marks included.

    Returns:
        A `PreTrainedTokenizerFast`, with one token for BOS, EOS and padding.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    counts = count_pieces(texts)
    alphabet = Counter(character for piece in counts for character in piece if character != SPACE)
    words = [SPACE, *(character for character, _ in alphabet.most_common(256))]
    own = [END, BREAK, *(f"<0x{byte:02X}>" for byte in range(256))]
    taken = {*words, *own}
    words += itertools.islice((p for p, _ in counts.most_common() if p not in taken), size - len(own) - len(words))
    total = sum(counts.values())
    scores = [(word, math.log(max(counts[word], 0.01) / total)) for word in words]
    rare = min(score for _, score in scores) - 5.0
    model = models.Unigram([(name, rare) for name in own] + scores, unk_id=0, byte_fallback=True)

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"[^\S\n]+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement=SPACE, prepend_scheme="always"),
            decoders.Fuse(),
            decoders.Replace(BREAK + " ", BREAK),
        ]
    )
    tokenizer.add_tokens([AddedToken(BREAK, normalized=False)])
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """How often each of MiniLM's pieces stands in the texts: as written there, marked where a space precedes it."""
    from tokenizers import Tokenizer

    pieces = Tokenizer.from_file(str(Path(embedded_model_path()) / "tokenizer.json"))
    pieces.no_truncation()
    pieces.no_padding()
    counts: Counter[str] = Counter()
    for block in _blocks(texts):
        for text, encoding in zip(block, pieces.encode_batch(block, add_special_tokens=False), strict=True):
            for start, end in encoding.offsets:
                follows_space = start == 0 or text[start - 1].isspace()
                counts[(SPACE if follows_space else "") + text[start:end]] += 1
    return counts


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while block := list(itertools.islice(stream, BLOCK)):
        yield block
