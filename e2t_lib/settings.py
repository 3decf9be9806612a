"""Settings of every stage: one frozen dataclass each, with the training guide's defaults, and three profiles.

A profile is a complete set of settings for one size of machine. One parameter moves between them:

- `smoke`: seconds. The notebooks' committed outputs and the regression tests.
- `quick`: minutes on a laptop CPU, offline, from the embedded base model.
- `full`: the training guide's own settings, on a GPU, from microsoft/DialoGPT-medium.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from e2t_lib.errors import E2TError

Settings = TypeVar("Settings")
Objective = Literal["embedding", "placement", "both"]  # what texts for a point of the map are ranked by
Target = Literal["mean", "blended", "sampled"]  # which embedding they are written for


@dataclass(frozen=True)
class CheckSettings:
    """Stage 01. How closely to look at a dataset folder."""

    sample: int = 32  # documents re-embedded to see whether the embedder reproduces the stored embeddings
    minimum_cosine: float = 0.98  # below it a stored and a fresh embedding are not of the same embedder
    outlier_distance: float = 10.0  # median absolute deviations at which a place is far outside; more, among few


@dataclass(frozen=True)
class MapSettings:
    """Stage 02. Parametric UMAP (embedding <-> x, y)."""

    # Hidden layers beside the encoder's look at the embedding itself, and of the decoder. The training guide's (256, 128, 64)
    # and (64, 128, 256) take longer and are no better (benchmarks/parametric_umap_log.md).
    encoder_layers: tuple[int, ...] = ()
    decoder_layers: tuple[int, ...] = (64,)
    epochs: int = 100  # step 1, the autoencoder
    fine_tune_epochs: int = 50  # step 2, on the layout
    batch_size: int = 32
    learning_rate: float = 7e-4
    held_out: float = 0.1  # share of the documents that no step trains on
    projection: int = 144  # directions along which both networks see embeddings: those that local means vary along most
    places: int = 608  # the encoder's answer is a weighted mean of so many places on the map, learned too
    fourier_features: int = 48  # sines and cosines of (x, y) at the decoder's door: 2-D inputs suffer spectral bias
    fourier_width: float = 0.0  # their spread, in cycles per layout standard deviation; 0: as `smoothing` asks for
    dropout: float = 0.4  # share of an embedding's components hidden from the encoder while it learns
    smoothing: int = 0  # documents whose mean the decoder learns at each place; 0: as many as suit; 1: no mean
    surface: float = 0.7  # share of the local means themselves in what the map answers; 0: the decoder alone
    weight_decay: float = 0.022
    patience: int = 10  # epochs without a better held-out loss after which a step ends; 0: it never ends early
    encoder_only: bool = False  # the guide's literal step 2, which leaves the decoder behind (notebook 02 shows it)
    seed: int = 0


@dataclass(frozen=True)
class Vec2TextSettings:
    """Stage 03. Vec2Text (embedding -> text)."""

    base_model: str = "microsoft/DialoGPT-medium"
    max_length: int = 300  # tokens of a training text and of a generated one
    epochs: int = 3
    batch_size: int = 32
    batch_tokens: int = 0  # long texts come in smaller batches, of about so many tokens at most; 0: no limit
    learning_rate: float = 5e-4  # of the new parts
    language_model_rate: float = 0.5  # of the language model's own layers, times the above
    weight_decay: float = 0.01
    warmup: float = 0.05  # share of the steps
    held_out: float = 0.1
    prefix_length: int = 4  # prefix tokens made from the embedding
    prefix_width: int = 1024  # hidden width of the projection to them; 0: one linear layer
    lexical_head: bool = True  # scores for the words of an embedding, beside the language model's
    length_head: bool = True  # guess the length of a text first, and count down to its end
    lexical_width: int = 1024
    lexical_rank: int = 256
    lexical_epochs: int = 4  # passes over the bags of tokens that a new lexical head makes alone first
    corrector: bool = True  # learn to correct hypotheses, too
    corrector_epochs: int = 1  # after the others: passes over the texts, each with a hypothesis that missed it
    corrector_texts: int = 0  # a seeded choice of so many texts for it; 0: all
    corrector_minutes: float = 0.0  # as `minutes`, for the corrector
    dropout: float = 0.1  # on the embedding at the lexical head's door, which overfits first
    max_steps: int = 0  # stop after this many optimiser steps; 0: all of them
    minutes: float = 0.0  # stop after this long, the learning rate falling with the clock; 0: all steps
    seed: int = 0


@dataclass(frozen=True)
class CorrectionSettings:
    """Stage 04. The correction loop."""

    num_beams: int = 4  # hypotheses kept a target
    proposals: int = 4  # texts proposed a hypothesis and step
    edits: float = 0.5  # share of them that change the hypothesis here and there; the others write it anew
    temperature: float = 0.7
    max_correction_iterations: int = 5
    embedding_tolerance: float = 0.1  # of 1 - cosine
    min_length: int = 1  # tokens; a model that writes titles and documents cannot tell which of them are wanted
    max_length: int = 300
    whole: bool = False  # a guessed length beyond max_length is brought down to it; else the text breaks off there
    batch_size: int = 16  # targets written at a time
    seed: int = 0

    @property
    def most_texts(self) -> int:
        """Texts tried for a target at most."""
        return self.num_beams * self.proposals * (self.max_correction_iterations + 1)


@dataclass(frozen=True)
class Profile:
    """Every stage's settings under one name."""

    name: str
    check: CheckSettings = field(default_factory=CheckSettings)
    map: MapSettings = field(default_factory=MapSettings)
    vec2text: Vec2TextSettings = field(default_factory=Vec2TextSettings)
    correction: CorrectionSettings = field(default_factory=CorrectionSettings)
    evaluation_documents: int = 200  # held-out documents whose text notebook 04 recovers
    map_points: int = 12  # points notebook 05 asks about


_FULL = Profile("full")
_QUICK = Profile(
    "quick",
    # The base has learned already: at 5e-4 the held-out loss of the sample corpus ends at 5.10, at 1.5e-4 at 5.05.
    vec2text=Vec2TextSettings(
        base_model="embedded", max_length=80, epochs=2, batch_size=16, corrector_texts=640, learning_rate=1.5e-4
    ),
    correction=CorrectionSettings(max_length=80, max_correction_iterations=3),
    evaluation_documents=20,
    map_points=6,
)
_SMOKE = Profile(
    "smoke",
    check=CheckSettings(sample=8),
    map=MapSettings(epochs=20, fine_tune_epochs=40, learning_rate=1e-3),
    vec2text=Vec2TextSettings(
        base_model="embedded",
        max_length=40,
        batch_size=16,
        max_steps=16,
        corrector_texts=48,
        learning_rate=1.5e-4,
        held_out=0.05,
    ),
    correction=CorrectionSettings(max_length=40, proposals=3, max_correction_iterations=2),
    evaluation_documents=6,
    map_points=3,
)
PROFILES = {profile.name: profile for profile in (_SMOKE, _QUICK, _FULL)}


def load_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        E2TError: there is none.
    """
    if name not in PROFILES:
        raise E2TError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def override(settings: Settings, **values: Any) -> Settings:
    """`settings` with the given fields changed; a value of None leaves its field as it is."""
    return replace(settings, **{key: value for key, value in values.items() if value is not None})  # type: ignore[type-var]
