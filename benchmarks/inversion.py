"""How well a base model inverts embeddings of documents that nothing trained on: titles, and titles with abstract.

    python benchmarks/inversion.py TRAIN_3.jsonl.xz --known TRAIN_*.jsonl.xz

Reads the last documents of the file; writes benchmarks/results/inversion.json. The nearest-neighbour baseline answers
with the nearest of the texts in --known, which the base model was trained on: all their titles, or the first documents.
No text of the corpora is kept.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import measured_on

from e2t_lib.dataset.build import read_documents
from e2t_lib.dataset.records import text_of
from e2t_lib.settings import CorrectionSettings
from e2t_lib.vec2text import CorrectionResult, Sampling, Vec2Text
from e2t_lib.vec2text.metrics import evaluate_vec2text, mean_and_error, text_overlap
from e2t_lib.vec2text.pretraining import embed_once

ROOT = Path(__file__).resolve().parents[1]
# The whole budget for every text: no tolerance. A title with its abstract has 64 tokens or more; writing it takes most of
# the time, and exchanging its sentences little: with half of the proposals edits, 1.5 times the time for .007 of cosine.
SETTINGS = {
    "titles": CorrectionSettings(max_length=48, embedding_tolerance=0.0),
    "documents": CorrectionSettings(min_length=64, max_length=256, edits=0.75, embedding_tolerance=0.0),
}


def main() -> None:
    """Read, invert, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--last", type=int, default=2_000, help="documents at the end of the file that were held out")
    parser.add_argument("--titles", type=int, default=500)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--plain", type=int, default=500, help="texts of each kind that plain samples are drawn for")
    parser.add_argument("--known", type=Path, nargs="*", default=[], help="what the base was trained on")
    parser.add_argument("--known-documents", type=int, default=20_000, help="of those, with abstract")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "inversion.json")
    asked = parser.parse_args()
    documents = read_documents(asked.corpus)[-asked.last :]
    held_out = {document["document_id"] for document in documents}
    known = [d for path in asked.known for d in read_documents(path) if d["document_id"] not in held_out]
    model = Vec2Text.load(asked.model)
    known_texts = {
        "titles": [document["title"] for document in known],
        "documents": [text_of(d["title"], d["content"]) for d in known[: asked.known_documents]],
    }
    texts = {
        "titles": [document["title"] for document in documents[: asked.titles]],
        "documents": [text_of(d["title"], d["content"]) for d in documents[len(documents) - asked.documents :]],
    }
    figures: dict[str, Any] = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    for kind, chosen in texts.items():
        if chosen:
            nearby = known_texts[kind] or ["no text is known"]
            nearest = embed_once(nearby, model.embedder, ROOT / "build" / "inversion"), nearby
            figures[kind] = {"measured": measured_on(), **measure(model, chosen, SETTINGS[kind], nearest, asked.plain)}
            print(kind, json.dumps(figures[kind], indent=2), flush=True)
            asked.output.write_text(json.dumps(figures, indent=2) + "\n")


def measure(
    model: Vec2Text, texts: list[str], settings: CorrectionSettings, nearest: tuple[np.ndarray, list[str]], plain: int
) -> dict[str, Any]:
    """Greedy, the best of plain samples, and the loop, with all figures of `evaluate_vec2text`.

    As many samples are drawn as texts are tried by the loop, for the first `plain` texts.
    """
    targets = model.embedder.encode(texts)
    texts = model.cut(texts)
    greedy = model.write(
        targets, Sampling(temperature=0, min_length=settings.min_length, max_length=settings.max_length)
    )
    cosine = (model.embedder.encode(greedy) * targets).sum(axis=1)
    figures: dict[str, Any] = {"greedy": {"cosine": mean_and_error(cosine), **text_overlap(greedy, texts)}}
    began = time.perf_counter()
    results = model.invert_embeddings(targets, settings=settings, progress=True)
    figures["seconds_a_text"] = (time.perf_counter() - began) / len(texts)

    samples = replace(settings, max_correction_iterations=0, proposals=settings.most_texts // settings.num_beams)
    best = model.invert_embeddings(targets[:plain], settings=samples, progress=True)
    figures[f"first_{len(best)}"] = {
        "loop": scored(results[: len(best)], texts),
        f"best_of_{settings.most_texts}": scored(best, texts),
    }
    figures["texts_tried_at_most"] = settings.most_texts
    figures["within_tolerance"] = within(results)
    real, written = perplexity(model, texts), perplexity(model, [result.text for result in results])
    figures["cosine_by_length"] = by_length(model, texts, results)
    figures["perplexity"] = {"real": real, "written": written, "ratio": written / real}
    figures["known_texts"] = len(nearest[1])
    return figures | evaluate_vec2text(results, targets, texts, *nearest)


def scored(results: list[CorrectionResult], texts: list[str]) -> dict[str, Any]:
    """What the loop and plain samples are compared by."""
    return {
        "cosine": mean_and_error([result.cosine for result in results]),
        "within_tolerance": within(results),
        **text_overlap([result.text for result in results], texts[: len(results)]),
    }


def within(results: list[CorrectionResult]) -> float:
    """Share of the texts within the guide's tolerance."""
    return float(np.mean([result.distance <= CorrectionSettings().embedding_tolerance for result in results]))


def by_length(model: Vec2Text, texts: list[str], results: list[CorrectionResult]) -> list[dict[str, Any]]:
    """Cosine of the shortest quarter of the texts, and so on to the longest, in tokens."""
    lengths = np.array([len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts])
    cosines = np.array([result.cosine for result in results])
    quarters = np.array_split(lengths.argsort(kind="stable"), 4)
    return [{"longest": int(lengths[rows].max()), "cosine": mean_and_error(cosines[rows])} for rows in quarters]


def perplexity(model: Vec2Text, texts: list[str]) -> float:
    """Of texts given their own embeddings: what is well put is likely for what it says; babble is not."""
    return float(np.exp(model.loss(texts, model.embedder.encode(texts))))


if __name__ == "__main__":
    main()
