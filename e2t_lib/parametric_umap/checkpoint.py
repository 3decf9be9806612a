"""Checkpoints of a training run: one .npz file, replaced atomically, holding all that an exact resume needs."""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from e2t_lib.errors import E2TError
from e2t_lib.settings import MapSettings

FILE = "parametric_umap_checkpoint.npz"
History = dict[str, dict[str, list[float]]]


@dataclass
class Progress:
    """How far a run has come, beside its variables."""

    step: int = 0
    epoch: int = 0  # epochs done of that step
    history: History = field(default_factory=dict)
    best_loss: float = float("inf")
    best: list[np.ndarray] = field(default_factory=list)  # the step's weights at its best held-out loss


class Checkpoint:
    """Where a run saves itself; does nothing without a folder.

    Args:
        folder: made on the first save; None for a run that saves nothing.
        settings, embeddings, coordinates: what the run depends on; a checkpoint of other ones is refused.
    """

    def __init__(self, folder: Path | None, settings: MapSettings, embeddings: np.ndarray, coordinates: np.ndarray):
        self.path = folder / FILE if folder else None
        digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
        for array in (embeddings, coordinates):
            digest.update(np.ascontiguousarray(array).data)  # no copy: there may be gigabytes
        self.fingerprint = digest.hexdigest()

    def save(self, progress: Progress, variables: Sequence[Any]) -> None:
        """Write progress and the values of the variables (networks, then optimiser).

        Raises:
            E2TError: the file cannot be written.
        """
        if self.path is None:
            return
        described = {key: getattr(progress, key) for key in ("step", "epoch", "history", "best_loss")}
        arrays: dict[str, Any] = {f"variable_{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        arrays |= {f"best_{i}": array for i, array in enumerate(progress.best)}
        temporary = self.path.with_name(f".{FILE}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, described=json.dumps(described | {"fingerprint": self.fingerprint}), **arrays)
            temporary.replace(self.path)
        except OSError as error:
            raise E2TError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def load(self) -> tuple[Progress, list[np.ndarray]]:
        """What `save` wrote last: progress, and the variables' values; the start of a run if there is no file.

        Raises:
            E2TError: the file is damaged, or of other settings or data.
        """
        if self.path is None or not self.path.exists():
            return Progress(), []
        try:
            with np.load(self.path, allow_pickle=False) as file:
                described = json.loads(str(file["described"]))
                best = [file[f"best_{i}"] for i in range(sum(name.startswith("best_") for name in file.files))]
                values = [file[f"variable_{i}"] for i in range(len(file.files) - len(best) - 1)]
                matches = described.pop("fingerprint") == self.fingerprint
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise E2TError(f"{self.path}: damaged checkpoint ({error}); delete it to start again") from None
        if not matches:
            raise E2TError(f"{self.path}: of other settings or data; delete it, or fit without resume")
        return Progress(**described, best=best), values
