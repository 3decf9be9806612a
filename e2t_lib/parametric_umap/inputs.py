"""What a caller gives: settings and rows, checked before anything is done with them."""

from dataclasses import replace
from typing import Any

import numpy as np

from e2t_lib.errors import E2TError
from e2t_lib.settings import MapSettings


def checked(settings: MapSettings) -> MapSettings:
    """Settings with tuples for lists (papermill has no tuples).

    Raises:
        E2TError: a field that no network or training run can have.
    """
    for name in ("encoder_layers", "decoder_layers"):
        widths = getattr(settings, name)
        least = int(name == "decoder_layers")
        if (
            not isinstance(widths, list | tuple)
            or len(widths) < least
            or not all(isinstance(width, int) and width > 0 for width in widths)
        ):
            raise E2TError(f"{name} must be {'one' if least else 'none'} or more positive widths, not {widths!r}")
    for name, low, high in (
        ("epochs", 0, None), ("fine_tune_epochs", 0, None), ("batch_size", 1, None), ("learning_rate", 0, None),
        ("held_out", 0, 0.5), ("dropout", 0, 0.9), ("smoothing", 0, None), ("surface", 0, 1), ("weight_decay", 0, None), ("patience", 0, None), ("projection", 1, None), ("places", 1, None), ("fourier_features", 1, None), ("fourier_width", 0, None),
    ):  # fmt: skip
        value = getattr(settings, name)
        kind = int if isinstance(getattr(MapSettings, name), int) else int | float
        if not isinstance(value, kind) or value < low or (high is not None and value > high):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            number = "whole number" if kind is int else "number"
            raise E2TError(f"{name} must be a {number} {wanted}, not {value!r}")
    return replace(
        settings, encoder_layers=tuple(settings.encoder_layers), decoder_layers=tuple(settings.decoder_layers)
    )


def matrix(values: Any, name: str, columns: int | None = None) -> np.ndarray:
    """Checked rows: coordinates in float64, for they may be far from 0, embeddings in float32."""
    try:
        rows = np.asarray(values, dtype=np.float64 if columns == 2 else np.float32)
    except (TypeError, ValueError):
        raise E2TError(f"{name}: not an array of numbers") from None
    if rows.ndim != 2 or not rows.size or (columns and rows.shape[1] != columns):
        raise E2TError(f"{name}: shape {rows.shape}; give (rows, {columns or 'dimension'})")
    if not np.isfinite(rows.sum(axis=1)).all():  # a sum of finite values may overflow: look closely
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise E2TError(f"{name}: row {bad[0]} holds a value that is not finite; mend or leave out that document")
    return rows
