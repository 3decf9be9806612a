"""The two networks: embedding -> code (x, y) and (x, y) -> embedding."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

# At 8,000 documents an epoch takes 1.2 times as long with GELU, and a round trip is .50 neighbour distances long for .44.
ACTIVATION = "relu"
# Scores are so many times a cosine at first. 8,000 documents learn as much from 20; a thousand, with fewer steps to learn
# in, place new ones 2.9 neighbour distances off from 30, 3.3 from 20 and 4.2 from 12.
LIKENESS = 30.0


class FourierFeatures(layers.Layer):
    """(x, y) -> [x, y, sin 2 pi B(x, y), cos 2 pi B(x, y)], B random, fixed and stored with the weights.

    A network fed plain (x, y) learns slow variation first and fine structure hardly ever (Tancik et al., 2020,
    "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains").

    Args:
        features: rows of B; each gives a sine and a cosine.
        width: standard deviation of B, in cycles per unit of the input. Wider sees finer and overfits sooner.
        seed: of B.
    """

    def __init__(self, features: int, width: float, seed: int, **options: Any):
        super().__init__(**options)
        self.features, self.width, self.seed = features, width, seed

    def build(self, input_shape: Sequence[int]) -> None:
        initializer = keras.initializers.RandomNormal(stddev=self.width, seed=self.seed)
        self.frequencies = self.add_weight(
            name="frequencies", shape=(input_shape[-1], self.features), initializer=initializer, trainable=False
        )

    def call(self, xy: Any) -> Any:
        phase = 2 * math.pi * keras.ops.matmul(xy, self.frequencies)
        return keras.ops.concatenate([xy, keras.ops.sin(phase), keras.ops.cos(phase)], axis=-1)


class Choice(layers.Layer):
    """Scores (n, places) -> the mean of the places, (n, 2), weighted by the softmax of the scores.

    The product with the places is two sums, and what the weights add up to is divided by at the end: on a CPU, where XLA is
    slow at products two wide, a training step takes six sevenths of the time so.

    Args:
        seed: of the places at first.
    """

    def __init__(self, seed: int, **options: Any):
        super().__init__(**options)
        self.seed = seed

    def build(self, input_shape: Sequence[int]) -> None:
        initializer = keras.initializers.GlorotUniform(seed=self.seed)
        self.places = self.add_weight(name="places", shape=(input_shape[-1], 2), initializer=initializer)

    def call(self, scores: Any) -> Any:
        weights = keras.ops.exp(scores - keras.ops.stop_gradient(keras.ops.max(scores, axis=-1, keepdims=True)))
        sums = [keras.ops.sum(weights * self.places[:, axis], axis=-1) for axis in (0, 1)]
        return keras.ops.stack(sums, axis=-1) / keras.ops.sum(weights, axis=-1, keepdims=True)


def build_encoder(dimension: int, widths: Sequence[int], places: int, seed: int) -> keras.Model:
    """Embedding (n, dimension), rows of length about 1 -> scaled coordinates (n, 2).

    It chooses softly among places on the map: the answer is their mean, weighted by how likely each is. The layer `scores`
    tells that from the embedding itself, and from what hidden layers make of it where there are any.
    """
    embedding = keras.Input((dimension,))
    # Components of unit vectors are about 1 / sqrt(d): brought to 1, the same epochs learn 1.4 times more precisely.
    seen = layers.Rescaling(math.sqrt(dimension), name="components_to_one")(embedding)
    if widths:
        hidden = keras.Sequential(_hidden(widths, seed), name="hidden")
        seen = layers.Concatenate(name="seen")([seen, hidden(seen)])
    scores = _dense(places, seed, "scores")(seen)
    return keras.Model(embedding, Choice(seed, name="choice")(scores), name="encoder")


def start_from(encoder: keras.Model, embeddings: np.ndarray, places: np.ndarray) -> None:
    """Let the encoder begin as a kernel regression, which answers with the places of what an embedding is most like.

    The weights are softmax(30 cosine) (Nadaraya, 1964; Watson, 1964), from where every vector and place is learned.

    Args:
        encoder: see `build_encoder`.
        embeddings: (places, dimension), unit rows.
        places: (places, 2), where each of them belongs.
    """
    kernel, dimension = encoder.get_layer("scores").kernel, encoder.input_shape[-1]
    beside = np.asarray(kernel)[dimension:]  # of hidden layers
    kernel.assign(np.concatenate([LIKENESS / math.sqrt(dimension) * embeddings.T, beside]))
    encoder.get_layer("choice").places.assign(places)


def build_decoder(dimension: int, widths: Sequence[int], features: int, width: float, seed: int) -> keras.Sequential:
    """Scaled coordinates (n, 2) -> expected embedding (n, dimension), not normalised.

    The squared distance to unit vectors is least at their conditional mean E[embedding | x, y]. Its direction is
    the answer with the highest cosine, and its length, between 0 and 1, says how much the documents there agree.
    """
    stack = [FourierFeatures(features, width, seed, name="fourier"), *_hidden(widths, seed)]
    return keras.Sequential([keras.Input((2,)), *stack, _dense(dimension, seed, "embedding")], name="decoder")


def _hidden(widths: Sequence[int], seed: int) -> list[layers.Layer]:
    return [_dense(width, seed + i + 1, f"hidden_{i}", ACTIVATION) for i, width in enumerate(widths)]


def _dense(width: int, seed: int, name: str, activation: str | None = None) -> layers.Dense:
    # Seeded initialisers rather than keras.utils.set_random_seed, which would reseed the caller's numpy as well.
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return layers.Dense(width, activation=activation, kernel_initializer=initializer, name=name)
