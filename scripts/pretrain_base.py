"""Pre-train the embedded base model on JSONL documents: titles alone, and titles with the start of their abstract.

    python scripts/pretrain_base.py CORPUS.jsonl.xz [CORPUS ...] --titles 100000 --documents 16000

Embeddings are kept beside the checkpoint, so that a killed run goes on where it stood.
"""

import argparse
import itertools
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from e2t_lib.embedder import Embedder
from e2t_lib.files import atomic_folder
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.bases import MINILM_DECODER
from e2t_lib.vec2text.estimator import Vec2Text


def read_documents(paths: list[Path]) -> Iterator[dict[str, str]]:
    """The documents of .jsonl.xz files, file after file."""
    for path in paths:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def read_texts(paths: list[Path], titles: int, documents: int) -> list[str]:
    """`titles` titles, then `documents` other documents whole."""
    stream = read_documents(paths)
    alone = [document["title"] for document in itertools.islice(stream, titles)]
    whole = [document["title"] + "\n\n" + document["content"] for document in itertools.islice(stream, documents)]
    return alone + whole


def main() -> None:
    """Read, embed, train, save in half precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path, help=".jsonl.xz files with title and content")
    parser.add_argument("--base", default=MINILM_DECODER, help="embedded: go on from the base that ships")
    parser.add_argument("--titles", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=16_000)
    parser.add_argument("--max-length", type=int, default=64, help="tokens kept of a text")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/pretrain"), help="embeddings and checkpoint")
    arguments = parser.parse_args()

    settings = Vec2TextSettings(
        base_model=arguments.base,
        max_length=arguments.max_length,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        held_out=0.005,
    )
    embedder = Embedder()
    texts = read_texts(arguments.corpus, arguments.titles, arguments.documents)
    cache = arguments.work / f"embeddings-{len(texts)}.npy"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, embedder.encode(texts, progress=True).astype(np.float16))
    embeddings = np.load(cache).astype(np.float32)

    model = Vec2Text.from_base(settings, embedder)
    model.fit(texts, embeddings, checkpoint_dir=arguments.work / "checkpoint", resume=True)
    model.held_out = []  # rows of a corpus that nobody else has in this order
    with atomic_folder(arguments.work / "model") as new:
        model.model.half()  # 48 MB instead of 97: the weights are committed
        model.save(new)
    print(f"{arguments.work / 'model'}: losses {model.history}")
    print("copy vec2text_config.json, tokenizer/ and language_model/ to data/base_model when it is better")


if __name__ == "__main__":
    main()
