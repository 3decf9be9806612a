"""Point at any place on a 2-D map of documents and read the text that belongs there.

The public names below are imported on first use: `import e2t_lib` loads neither TensorFlow nor torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2t_lib.dataset import Dataset, load_dataset
    from e2t_lib.embedder import Embedder
    from e2t_lib.errors import E2TError
    from e2t_lib.parametric_umap import ParametricUMAP
    from e2t_lib.service import EmbeddingToTextRequest, EmbeddingToTextResponse, EmbeddingToTextService
    from e2t_lib.vec2text import Vec2Text

__version__ = "0.1.0"

# Read by libraries when they are imported, by us or by others (umap-learn imports TensorFlow), hence here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else a page of notes on stderr where there is no GPU
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning at every fork
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # bars of the libraries below; ours stay
os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else two lines a retry where the hub cannot be reached

_HOME = {
    "Dataset": "dataset",
    "load_dataset": "dataset",
    "Embedder": "embedder",
    "E2TError": "errors",
    "ParametricUMAP": "parametric_umap",
    "Vec2Text": "vec2text",
    "EmbeddingToTextService": "service",
    "EmbeddingToTextRequest": "service",
    "EmbeddingToTextResponse": "service",
}

__all__ = [
    "Dataset",
    "E2TError",
    "Embedder",
    "EmbeddingToTextRequest",
    "EmbeddingToTextResponse",
    "EmbeddingToTextService",
    "ParametricUMAP",
    "Vec2Text",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'e2t_lib' has no attribute {name!r}")
    return getattr(import_module(f"e2t_lib.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
