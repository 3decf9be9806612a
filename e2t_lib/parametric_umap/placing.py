"""The encoder for many rows at a time: its arithmetic in torch, which needs half of TensorFlow's time for it on a CPU."""

import keras
import numpy as np
import torch

from e2t_lib.hardware import processor_has_bf16

# What the winning place scores on a map of 8,000 documents, give or take 3. Scores with that taken off are near 0 where they
# count, and so lose little when they are rounded to bf16: new documents move by .02 neighbour distances, and .12 without.
SHIFT = 16.0


class Placing:
    """Embeddings (n, d) float32 -> scaled coordinates (n, 2) float32; see `build_encoder`.

    Where the processor has instructions for it, products are in bf16, but of an encoder with hidden layers, whose scores
    may be of any size. Sums, and what the weights are taken of, are in float32 everywhere.

    Args:
        encoder: what it computes.
        directions: (d, k) float32, along which the encoder sees embeddings.
        scale: what rows are divided by; None: by their own length.
    """

    def __init__(self, encoder: keras.Model, directions: np.ndarray, scale: float | None):
        named = {layer.name: layer for layer in encoder.layers}
        hidden = named["hidden"].layers if "hidden" in named else []
        self._hidden = [(_tensor(layer.kernel), _tensor(layer.bias)) for layer in hidden]
        self._type = torch.bfloat16 if processor_has_bf16() and not hidden else torch.float32
        self._directions = _tensor(directions).to(self._type)
        self._scale, self._to_one = scale, named["components_to_one"].scale
        kernel, bias = _tensor(named["scores"].kernel), _tensor(named["scores"].bias)[None] - SHIFT
        coarse = bias.to(self._type)  # two addends say in bf16 what one cannot
        self._scores = torch.cat([kernel, coarse, bias - coarse]).to(self._type)
        self._places = _tensor(named["choice"].places).T.contiguous()

    @torch.inference_mode()
    def __call__(self, rows: np.ndarray) -> np.ndarray:
        # Copied only where they are read-only, which torch warns of, or lie backwards, which it refuses.
        embeddings = torch.from_numpy(np.require(rows, requirements=["C", "W"]))
        whole = self._scale or torch.linalg.vector_norm(embeddings, dim=1, keepdim=True).clamp(min=1e-12)
        along = (embeddings.to(self._type) @ self._directions).float()
        first = above = along * (self._to_one / whole)
        for kernel, bias in self._hidden:
            above = torch.relu(torch.addmm(bias, above, kernel))
        seen = [first, above] if self._hidden else [first]
        scores = torch.cat([*seen, first.new_ones(len(first), 2)], dim=1).to(self._type) @ self._scores
        weights = torch.softmax(scores, dim=1, dtype=torch.float32)
        # As one product, two wide, it takes more than twice as long: .35 microseconds a row for .14.
        return torch.stack([weights @ axis for axis in self._places], dim=1).numpy()


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.asarray(values))
