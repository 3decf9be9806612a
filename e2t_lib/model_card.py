"""The README.md beside each saved model: what it is, what it learned from, how to load it, and its limits.

A card says what is known when the model is saved, and no path of the machine that it was trained on.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2t_lib.files import resolve

CARD = "README.md"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SHIPPED_BASES = {
    "embedded": "the base model that ships with e2t, which derives from all-MiniLM-L6-v2 (Apache-2.0)",
    "minilm-decoder": "all-MiniLM-L6-v2 (Apache-2.0), whose layers it started from as a decoder",
}

MAP = """# Parametric UMAP: embedding ↔ place on a map

Two networks that carry a finished 2-D layout of documents both ways, also for documents and places that it does not
hold: an encoder (an embedding of {dimension} numbers to x, y) and a decoder (x, y to the embedding expected there).

**Derives from** no other model: both networks started from seeded weights. It reads the embeddings of the embedder that
it was trained with, and of no other; the dataset's `dataset.json` names it.

**Trained on** {documents:,} documents with their embeddings and places, seed {seed}. {held_out:,} others were held out;
they chose each step's best epoch, so figures on them flatter slightly.

## Losses

Each step has a loss of its own; compare within a row.

{losses}{figures}
## Loading

```python
from e2t_lib import ParametricUMAP

umap = ParametricUMAP.load("parametric_umap")  # this folder
embedding, confidence = umap.inverse_transform([[0.5, -0.3]], return_confidence=True)
place = umap.transform(embedding)
```

## Limits

Two dimensions hold a part of an embedding only: what is expected at a place is the mean of what lies around it, and no
document's own. Off the map the decoder extrapolates, and its confidence means nothing: ask `umap.on_map(places)` first.

## Settings

{settings}"""

VEC2TEXT = """# Vec2Text: embedding → text

A causal language model that is conditioned on an embedding, and a correction loop: its texts are embedded again, and
written anew, given how far they missed, until they lie near the embedding.

**Derives from** {base}. **Inverts** the embeddings of {embedder}, {dimension} numbers each, and of no other embedder.

{trained}

## Losses

In nats a token; the inverter writes from an embedding alone, the corrector is also given a text that missed.

{losses}
## Loading

```python
from e2t_lib import Vec2Text

model = Vec2Text.load("vec2text")  # this folder; embedder=... where it holds no embedding_model/
result = model.invert_strings(["A title and an abstract."])[0]
result.text, result.cosine
```

## Limits

It writes what is likely, not what is true: names, numbers and claims are made up, and no such document need exist. It
knows the language and the subjects of the texts that it and its base learned from, and was trained on their first
{max_length} tokens only. Texts that lie near an embedding may differ from the one it was made of in every word.

## Settings

{settings}"""


def map_card(config: dict[str, Any]) -> str:
    """The card of a Parametric UMAP.

    Args:
        config: what its config.pkl holds: the settings and the estimator's attributes by name.
    """
    losses = [
        (step, len(curves["val_loss"]), min(curves["loss"]), min(curves["val_loss"]))
        for step, curves in config["history_"].items()
        if curves["val_loss"]
    ]
    held_out = config["metrics_"].get("held_out", {})
    about = "\n## Figures\n\nOf the held-out documents, as `e2t_lib.parametric_umap.evaluate_map` measures them.\n\n"
    figures = about + _table(("figure", "value"), held_out.items()) if held_out else ""
    body = MAP.format(
        dimension=config["_dimension"],
        documents=len(config["train_"]),
        held_out=len(config["held_out_"]),
        seed=config["settings"]["seed"],
        losses=_table(("step", "epochs", "lowest loss in training", "lowest held-out loss"), losses),
        figures=figures,
        settings=_table(("setting", "value"), config["settings"].items()),
    )
    return _front_matter(library_name="e2t", tags=["umap", "embeddings", "dimensionality-reduction"]) + body


def vec2text_card(record: dict[str, Any]) -> str:
    """The card of a Vec2Text model.

    Args:
        record: what its vec2text_config.json holds.
    """
    base, embedder = _public(record["base_model"]), _public(record["embedder"])
    losses = [
        (part, epoch, loss, val_loss)
        for part, history in (("inverter", record["history"]), ("corrector", record["corrector_history"]))
        for epoch, loss, val_loss in zip(history["epoch"], history["loss"], history["val_loss"], strict=True)
    ]
    body = VEC2TEXT.format(
        base=SHIPPED_BASES.get(base, f"the model `{base}`"),
        embedder="all-MiniLM-L6-v2" if embedder == "embedded" else f"`{embedder}`",
        dimension=record["dimension"],
        trained=_training(record),
        max_length=record["settings"]["max_length"],
        losses=_table(("", "epoch", "training", "held out"), losses),
        settings=_table(("setting", "value"), (record["settings"] | {"base_model": base}).items()),
    )
    # The hub takes base_model for one of its own names, which a folder has not.
    of_the_hub = {} if _is_folder(record["base_model"]) else {"base_model": MINILM if base in SHIPPED_BASES else base}
    tags = ["vec2text", "embeddings", "embedding-inversion"]
    return _front_matter(**of_the_hub, library_name="e2t", pipeline_tag="text-generation", tags=tags) + body


def _training(record: dict[str, Any]) -> str:
    if not record["documents"]:
        return "**Not trained** on any text since."
    of_dataset = f" of the dataset `{Path(record['trained_on']).name}`" if record["trained_on"] else ""
    settings, others = record["settings"], len(record["held_out"])
    return (
        f"**Trained on** {record['documents']:,} texts{of_dataset}, the first {settings['max_length']} tokens of each, "
        f"seed {settings['seed']}." + (f" {others:,} others were held out." if others else "")
    )


def _public(name: str) -> str:
    """A model's name; of a folder the last part, for the others are this machine's."""
    return Path(name).name if _is_folder(name) else name


def _is_folder(name: str) -> bool:
    return Path(name).is_absolute() or resolve(name).is_dir()


def _front_matter(**values: Any) -> str:
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]  # JSON is YAML, quotes and all
    return "\n".join(["---", *lines, "---", "", ""])


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
