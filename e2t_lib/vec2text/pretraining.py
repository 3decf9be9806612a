"""Pre-training the embedded base model: `e2t pretrain`.

Titles alone teach to invert an embedding word by word; titles with some or all of their abstract teach the rest.
Everything is kept in a work folder: the texts' embeddings, and the checkpoints of the training, so that a killed run
goes on where it stood. A finished model is a base like any other: the next run may start from it.
"""

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from e2t_lib.dataset.build import read_documents
from e2t_lib.dataset.records import text_of
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.estimator import Vec2Text
from e2t_lib.vec2text.recombination import sentences
from e2t_lib.vec2text.training import bf16_pays

BLOCK = 8_192  # texts embedded between two saves
MOST_SENTENCES = 3  # of an abstract that is cut
WHOLE = 0.4  # share of the abstracts that are not


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, and texts to judge by, which come from documents of their own."""

    training: list[str]
    held_out: list[str]


def read_corpus(paths: Sequence[Path], titles: int, documents: int, held_out: int, seed: int = 0) -> Corpus:
    """Titles of the first documents, titles with abstract of the next, the last ones held out.

    Args:
        paths: JSON Lines files of documents, plain, .gz or .xz.
        titles: documents of which the title alone is learned.
        documents: others, learned with abstract: whole, or cut after one to three sentences.
        held_out: documents at the end of the last file that nothing learns from: half of them titles.
        seed: of the cuts.

    Raises:
        E2TError: the files hold fewer documents.
    """
    last = list(read_documents(paths[-1]))
    if held_out >= len(last):
        raise E2TError(f"{paths[-1]}: holds {len(last)} documents, of which {held_out} are to be held out")
    stream = itertools.chain(*map(read_documents, paths[:-1]), last[: len(last) - held_out])
    chosen = list(itertools.islice(stream, titles + documents))
    if len(chosen) < titles + documents:
        raise E2TError(
            f"{len(chosen)} documents to learn from, but {titles} titles and {documents} documents are asked for"
        )
    rng = np.random.default_rng(seed)
    alone = [document["title"] for document in chosen[:titles]]
    outside = last[len(last) - held_out :]
    judged = [document["title"] for document in outside[::2]]
    return Corpus(alone + _with_abstracts(chosen[titles:], rng), judged + _with_abstracts(outside[1::2], rng))


def _with_abstracts(documents: Iterable[dict[str, str]], rng: np.random.Generator) -> list[str]:
    return [text_of(document["title"], _cut(document["content"], rng)) for document in documents]


def _cut(content: str, rng: np.random.Generator) -> str:
    count = int(rng.integers(1, MOST_SENTENCES + 1))
    whole = rng.random() < WHOLE
    return content if whole else " ".join(sentences(content)[:count])


def embed_once(texts: Sequence[str], embedder: Embedder, folder: Path) -> np.ndarray:
    """Embeddings of texts, (n, d) float32 of float16 precision, kept in `folder` block by block.

    In bf16 where that pays: 1.7 times as fast on two cores, at a mean cosine of .99996 to fp32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for block in tqdm(list(_blocks(texts)), desc="embedding", unit="block", disable=None):
        digest = hashlib.sha256("\0".join([embedder.name, *block]).encode()).hexdigest()[:24]
        path = folder / f"{digest}.npy"
        if not path.exists():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays()):
                vectors = embedder.encode(block).astype(np.float16)
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.save(file, vectors)
            temporary.replace(path)
        parts.append(np.load(path))
    vectors = np.concatenate(parts).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))


def pretrain(corpus: Corpus, embedder: Embedder, settings: Vec2TextSettings, work: Path) -> Path:
    """Train a base model, going on from what the work folder holds.

    Args:
        corpus: see `read_corpus`.
        embedder: whose embeddings it will invert.
        settings: `base_model` is what it starts from: minilm-decoder, or embedded to go on from the one that ships.
        work: gets embeddings/, checkpoint/ and model/.

    Returns:
        The model's folder, work/model: weights in half precision, half the size.
    """
    texts = corpus.training + corpus.held_out
    embeddings = embed_once(texts, embedder, work / "embeddings")
    model = Vec2Text.from_base(settings, embedder)
    rows = range(len(corpus.training), len(texts))
    model.fit(texts, embeddings, held_out=rows, checkpoint_dir=work / "checkpoint", resume=True)
    model.held_out = []  # rows of a corpus that nobody else has in this order
    model.model.half()
    model.save(work / "model")
    shutil.rmtree(work / "model" / "embedding_model")  # the embedder ships with the base
    return work / "model"


def install(model: Path, folder: Path) -> None:
    """Put a pre-trained model in the place of another, whose model card stays until somebody writes a new one."""
    with atomic_folder(folder) as new:
        shutil.copytree(model, new, dirs_exist_ok=True)
        if (folder / "README.md").exists():
            shutil.copy(folder / "README.md", new)
