"""Vec2Text: a conditioned language model and its correction loop (torch and transformers)."""

from e2t_lib.vec2text.batches import held_out_rows
from e2t_lib.vec2text.correction import CorrectionResult, CorrectionStep, Hypothesis
from e2t_lib.vec2text.estimator import Vec2Text
from e2t_lib.vec2text.metrics import evaluate_vec2text
from e2t_lib.vec2text.writing import Sampling

__all__ = [
    "CorrectionResult",
    "CorrectionStep",
    "Hypothesis",
    "Sampling",
    "Vec2Text",
    "evaluate_vec2text",
    "held_out_rows",
]
