"""What each part of Vec2Text is worth, and a GEIA-style decoder beside it: the same minutes and texts for all.

    python benchmarks/opponents.py TRAIN.jsonl.xz ... --minutes 8 --titles 60000

Every variant starts from the same layers and learns from the titles of the same documents, by the clock; all are judged
on titles that nothing trained on, at the end of the last file. Writes benchmarks/results/opponents.json.

GEIA (Li et al. 2023, arXiv:2305.03010) hands the embedding to the decoder through one linear layer, as one token, and
decodes once (here: "greedy"); it gets the same base, data and minutes, and beyond what was published, its best text is
chosen among as many samples as the others may try texts in the loop.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import measured_on

from e2t_lib.embedder import Embedder
from e2t_lib.settings import CorrectionSettings, Vec2TextSettings
from e2t_lib.vec2text import Sampling, Vec2Text
from e2t_lib.vec2text.metrics import distance_by_step, mean_and_error, text_overlap
from e2t_lib.vec2text.pretraining import embed_once, read_corpus

ROOT = Path(__file__).resolve().parents[1]
GEIA: dict[str, Any] = {
    "prefix_length": 1, "prefix_width": 0, "lexical_head": False, "length_head": False, "corrector": False,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "GEIA-style": GEIA,
    "no lexical head": {"lexical_head": False},
    "no length head": {"length_head": False},
    "no MiniLM initialisation": {},
    "no corrector": {"corrector": False},
}
CORRECTOR_SHARE = 0.2  # of the minutes, where there is one
LONGEST = 48  # tokens


def main() -> None:
    """Train and judge every variant; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="+")
    parser.add_argument("--titles", type=int, default=60_000)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, for each")
    parser.add_argument("--held-out", type=int, default=2_000, help="documents at the end of the last file")
    parser.add_argument("--judged", type=int, default=200, help="titles")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "opponents.json")
    asked = parser.parse_args()
    corpus = read_corpus(asked.corpus, asked.titles, 0, asked.held_out)
    embedder = Embedder()
    texts = corpus.training + corpus.held_out[: asked.judged]
    embeddings = embed_once(texts, embedder, ROOT / "build" / "opponents")
    figures: dict[str, Any] = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    common = {"measured": measured_on(), "titles": asked.titles, "minutes": asked.minutes}
    own = figures.setdefault(f"{asked.minutes:g}", {})
    for name in asked.only:
        model = trained(name, texts, embeddings, embedder, asked)
        loop = name != "GEIA-style"
        own[name] = common | judged(model, texts[asked.titles :], embeddings[asked.titles :], loop)
        print(name, json.dumps(own[name]), flush=True)
        if name == "ours":
            beam_of_one = judged(model, texts[asked.titles :], embeddings[asked.titles :], loop, beam=1)
            own["ours, beam 1"] = common | beam_of_one
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")


def trained(
    name: str, texts: list[str], embeddings: np.ndarray, embedder: Embedder, asked: argparse.Namespace
) -> Vec2Text:
    """A variant after its minutes."""
    settings = Vec2TextSettings(
        base_model="minilm-decoder", max_length=LONGEST, epochs=1_000, batch_size=64, minutes=asked.minutes,
        learning_rate=8e-4, language_model_rate=0.4, lexical_epochs=1, **VARIANTS[name],
    )  # fmt: skip
    if settings.corrector:
        spent = asked.minutes * CORRECTOR_SHARE
        settings = replace(
            settings,
            minutes=asked.minutes - spent,
            corrector_minutes=spent,
            corrector_epochs=1_000,
            corrector_texts=8_000,
        )
    model = Vec2Text.from_base(settings, embedder)
    if name == "no MiniLM initialisation":
        torch.manual_seed(0)
        model.model.language_model.apply(model.model.language_model._init_weights)
    with tempfile.TemporaryDirectory() as folder:
        return model.fit(
            texts, embeddings, held_out=range(asked.titles, len(texts)), checkpoint_dir=Path(folder) / "checkpoint"
        )


def judged(model: Vec2Text, texts: list[str], targets: np.ndarray, loop: bool, beam: int = 4) -> dict[str, Any]:
    """Greedy, and the best of as many texts for all: by the loop, or of plain samples."""
    settings = CorrectionSettings(max_length=LONGEST, embedding_tolerance=0.0, num_beams=beam, proposals=16 // beam)
    if not loop:
        settings = replace(settings, max_correction_iterations=0, proposals=settings.most_texts // settings.num_beams)
    greedy = model.write(targets, Sampling(temperature=0, max_length=LONGEST))
    results = model.invert_embeddings(targets, settings=settings)
    return {
        "loss": model.loss(texts, targets),
        "greedy": {
            "cosine": mean_and_error((model.embedder.encode(greedy) * targets).sum(axis=1)),
            **text_overlap(greedy, texts),
        },
        "cosine": mean_and_error([result.cosine for result in results]),
        "distance_by_step": distance_by_step(results),
        **text_overlap([result.text for result in results], texts),
    }


if __name__ == "__main__":
    main()
