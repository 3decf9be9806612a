"""The saved folder: config.pkl, scaler.pkl, encoder/ and decoder/ (config.json, model.safetensors), and a model card."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from e2t_lib.errors import E2TError
from e2t_lib.files import read_json, write_json

_ADMITTED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("sklearn.preprocessing._data", "StandardScaler"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def write_pickle(path: Path, value: Any) -> None:
    """Pickle plain data or a StandardScaler."""
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=5)


def read_pickle(path: Path, kind: type) -> Any:
    """A value of type `kind`, from a pickle that may hold plain data, numpy arrays and a StandardScaler only.

    Unpickling runs whatever the file names, so anything else is refused before it is looked up.

    Raises:
        E2TError: the file is missing, damaged, holds something else, or is not of that type.
    """
    try:
        with path.open("rb") as file:
            value = _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file; is this a saved Parametric UMAP?") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise E2TError(f"{path}: not a pickle of plain data and a StandardScaler ({error})") from None
    if not isinstance(value, kind):
        raise E2TError(f"{path}: holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def write_network(folder: Path, network: keras.Model, config: dict[str, Any]) -> None:
    """Write the arguments that build the network, and its weights by their paths."""
    folder.mkdir()
    write_json(folder / "config.json", config)
    save_file({weight.path: np.asarray(weight) for weight in network.weights}, folder / "model.safetensors")


def read_network(folder: Path, build: Callable[..., keras.Model]) -> keras.Model:
    """The network that `build(**config)` makes, with its saved weights.

    Raises:
        E2TError: a file is missing or damaged, or the weights do not fit the config.
    """
    config = read_json(folder / "config.json")
    path = folder / "model.safetensors"
    try:
        network = build(**config)
        weights = load_file(path)
        for weight in network.weights:
            weight.assign(weights[weight.path])
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise E2TError(f"{folder}: weights and config.json do not make a network ({error})") from None
    return network
