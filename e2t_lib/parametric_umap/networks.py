"""The two networks: embedding -> code (x, y) and (x, y) -> embedding."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from threadpoolctl import threadpool_limits

ACTIVATION = "gelu"
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


def build_encoder(
    dimension: int, widths: Sequence[int], projection: int | None, places: int, seed: int
) -> keras.Sequential:
    """Embedding (n, dimension), rows of length about 1 -> scaled coordinates (n, 2).

    The last two layers choose softly among places on the map, the rows of the layer `code`: the answer is the mean of
    the places, weighted by how likely each is. The layer `choice` scores them from a linear projection of the embedding
    itself, and of what the hidden layers make of it where there are any; or from all of it where `projection` is None.
    """
    embedding = keras.Input((dimension,))
    # Components of unit vectors are about 1 / sqrt(d): brought to 1, the same epochs learn 1.4 times more precisely.
    seen = layers.Rescaling(math.sqrt(dimension), name="components_to_one")(embedding)
    if widths:
        hidden = keras.Sequential(_hidden(widths, seed), name="hidden")
        seen = layers.Concatenate(name="seen")([seen, hidden(seen)])
    if projection:
        seen = _dense(projection, seed, "projection", use_bias=False)(seen)
    chosen = _dense(places, seed, "choice", "softmax")(seen)
    return keras.Model(embedding, _dense(2, seed, "code", use_bias=False)(chosen), name="encoder")


def start_from(encoder: keras.Model, embeddings: Any, places: Any) -> None:
    """Let the encoder begin as a kernel regression, which answers with the places of what an embedding is most like.

    The weights are softmax(30 cosine) (Nadaraya, 1964; Watson, 1964), from where every vector and place is learned; the
    projection begins as the singular vectors that keep most of the cosines.

    Args:
        encoder: see `build_encoder`, with a projection no wider than an embedding, or than there are places.
        embeddings: (places, dimension), unit rows.
        places: (places, 2), where each of them belongs.
    """
    projection, choice, code = (encoder.get_layer(name).kernel for name in ("projection", "choice", "code"))
    dimension = encoder.input_shape[-1]
    with threadpool_limits(1):  # for the order of sums depends on their number, and a seed must give one map
        left, values, right = np.linalg.svd(LIKENESS / math.sqrt(dimension) * embeddings.T, full_matrices=False)
    kept = slice(projection.shape[1])
    scale = np.sqrt(values[kept])
    projection.assign(np.concatenate([left[:, kept] * scale, np.asarray(projection)[dimension:]]))
    choice.assign(scale[:, None] * right[kept])
    code.assign(places)


def build_decoder(dimension: int, widths: Sequence[int], features: int, width: float, seed: int) -> keras.Sequential:
    """Scaled coordinates (n, 2) -> expected embedding (n, dimension), not normalised.

    The squared distance to unit vectors is least at their conditional mean E[embedding | x, y]. Its direction is
    the answer with the highest cosine, and its length, between 0 and 1, says how much the documents there agree.
    """
    stack = [FourierFeatures(features, width, seed, name="fourier"), *_hidden(widths, seed)]
    return keras.Sequential([keras.Input((2,)), *stack, _dense(dimension, seed, "embedding")], name="decoder")


def _hidden(widths: Sequence[int], seed: int) -> list[layers.Layer]:
    return [_dense(width, seed + i + 1, f"hidden_{i}", ACTIVATION) for i, width in enumerate(widths)]


def _dense(width: int, seed: int, name: str, activation: str | None = None, use_bias: bool = True) -> layers.Dense:
    # Seeded initialisers rather than keras.utils.set_random_seed, which would reseed the caller's numpy as well.
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return layers.Dense(width, activation=activation, use_bias=use_bias, kernel_initializer=initializer, name=name)
