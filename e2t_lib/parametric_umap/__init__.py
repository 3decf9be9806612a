"""Parametric UMAP: two networks that make a 2-D layout of embeddings go both ways.

The only part of the package that imports TensorFlow.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN may change the order of sums from run to run
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # leave room on the card for torch
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C++ writes to stderr: on a machine without a GPU, TensorFlow says so before it reads any log level."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _silent_stderr():
    import tensorflow

tensorflow.get_logger().setLevel("ERROR")  # fitting several maps in a row is no misuse of tf.function

from e2t_lib.parametric_umap.estimator import ParametricUMAP  # noqa: E402
from e2t_lib.parametric_umap.metrics import evaluate_map  # noqa: E402

__all__ = ["ParametricUMAP", "evaluate_map"]
