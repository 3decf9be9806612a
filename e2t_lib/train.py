"""Both trainings without notebooks: `e2t train`, the training guide's doorway.

Everything a user can get wrong is looked at before the first epoch; the checks that other commands share stand here.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2t_lib.embedder import EMBEDDED, Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import read_json, resolve, write_json
from e2t_lib.settings import CheckSettings, CorrectionSettings, MapSettings, Vec2TextSettings

if TYPE_CHECKING:
    from e2t_lib.dataset import Dataset
    from e2t_lib.vec2text import Vec2Text

MAP_METRICS = ("coordinate_mse", "coordinate_mae", "embedding_mse", "embedding_mae", "avg_cosine_similarity")
VEC2TEXT_METRICS = ("average_embedding_distance", "average_iterations", "convergence_rate")
GUIDE_METRICS = (*MAP_METRICS, *VEC2TEXT_METRICS)
EVALUATED = 16  # held-out documents whose text is recovered at the end
SHIPPED_BASES = (EMBEDDED, "minilm-decoder")  # need neither cache nor network


def train_models(
    data_dir: str | Path = "data/arxiv_aug_sep",
    output_dir: str | Path = "data/models",
    *,
    map_settings: MapSettings | None = None,
    vec2text_settings: Vec2TextSettings | None = None,
    embedding_model: str | None = None,
    skip_umap: bool = False,
    skip_vec2text: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train Parametric UMAP and Vec2Text on a dataset folder, and evaluate both on held-out documents.

    Args:
        data_dir: the dataset folder.
        output_dir: gets parametric_umap/ and vec2text/; each is replaced as a whole once it is trained.
        map_settings, vec2text_settings: None: the guide's defaults.
        embedding_model: None: the one that dataset.json names, else the embedded one.
        skip_umap, skip_vec2text: leave one out, and its folder as it is.
        resume: go on from the checkpoints of a killed training with the same settings and data.

    Returns:
        {"parametric_umap": {"held_out", "training"}, "vec2text": figures of at most 16 held-out documents}; see
        `evaluate_map` and `evaluate_vec2text`.

    Raises:
        E2TError: before any training, if the dataset, the embedder, the base model or the output folder will not do.
    """
    if skip_umap and skip_vec2text:
        raise E2TError("nothing to train: both models are skipped")
    map_settings, vec2text_settings = map_settings or MapSettings(), vec2text_settings or Vec2TextSettings()
    output, checkpoints = resolve(output_dir), resolve(output_dir) / ".checkpoints"
    from e2t_lib.dataset import load_dataset

    dataset = load_dataset(data_dir)
    require_writable(output)
    embedder = Embedder(embedding_model or dataset.description.get("embedder") or EMBEDDED)
    _require_same_embedder(dataset, embedder)
    vec2text = None if skip_vec2text else _untrained(vec2text_settings, embedder, data_dir)
    _open_checkpoints(checkpoints, dataset, [map_settings, vec2text_settings], resume)

    metrics: dict[str, Any] = {}
    if not skip_umap:
        metrics["parametric_umap"] = _train_map(dataset, map_settings, output, checkpoints, resume)
    if vec2text is not None:
        metrics["vec2text"] = _train_vec2text(vec2text, dataset, output, checkpoints, resume)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return metrics


def guide_metrics(metrics: Any) -> dict[str, float]:
    """The guide's metrics in nested figures, in the guide's order; of several by one name the first: held out."""
    found = {name: _first(metrics, name) for name in GUIDE_METRICS}
    return {name: value for name, value in found.items() if value is not None}


def _first(metrics: Any, name: str) -> float | None:
    if not isinstance(metrics, dict):
        return None
    if name in metrics:
        return metrics[name]
    inner = (_first(value, name) for value in metrics.values())
    return next((value for value in inner if value is not None), None)


def require_writable(folder: Path) -> None:
    """Make the folder, and a file in it, before hours of work are meant to end there.

    Raises:
        E2TError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise E2TError(f"{folder}: cannot be written ({error.strerror or error}); name another folder") from None


def require_base_model(name: str) -> None:
    """Load a base model once, before the stages that need it.

    Raises:
        E2TError: it is neither a folder, nor cached, nor reachable.
    """
    if name in SHIPPED_BASES or (resolve(name) / "vec2text_config.json").is_file():
        return
    from e2t_lib.vec2text.bases import load_base

    load_base(name)


def _require_same_embedder(dataset: "Dataset", embedder: Embedder) -> None:
    from e2t_lib.dataset import check_folder

    problems = check_folder(dataset.folder, CheckSettings(), embedder).problems
    mismatches = [problem for problem in problems if problem.kind == "embedder"]
    if mismatches:
        raise E2TError(
            f"{dataset.folder}: {mismatches[0]} ({len(mismatches)} of a sample); "
            "pass the embedder that made the embeddings as --embedding-model"
        )
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)


def _untrained(settings: Vec2TextSettings, embedder: Embedder, data_dir: str | Path) -> "Vec2Text":
    from e2t_lib.vec2text import Vec2Text

    vec2text = Vec2Text.from_base(settings, embedder)
    vec2text.trained_on = str(data_dir)
    return vec2text


def _open_checkpoints(folder: Path, dataset: "Dataset", settings: list[Any], resume: bool) -> None:
    """Remove what an earlier training left, or see that it can be gone on from."""
    made_with = {"documents": dataset.document_ids, "settings": [asdict(one) for one in settings]}
    record = folder / "training.json"
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    elif record.exists() and read_json(record) != json.loads(json.dumps(made_with)):
        raise E2TError(f"{folder}: checkpoints of other settings or documents; train without --resume")
    write_json(record, made_with, indent=None)


def _train_map(
    dataset: "Dataset", settings: MapSettings, output: Path, checkpoints: Path, resume: bool
) -> dict[str, Any]:
    from e2t_lib.parametric_umap import ParametricUMAP, evaluate_map

    umap = ParametricUMAP(settings)
    umap.fit(dataset.embeddings, dataset.coordinates, checkpoint_dir=checkpoints / "parametric_umap", resume=resume)
    umap.metrics_ = evaluate_map(umap, dataset.embeddings, dataset.coordinates)
    umap.save(output / "parametric_umap")
    return umap.metrics_


def _train_vec2text(
    vec2text: "Vec2Text", dataset: "Dataset", output: Path, checkpoints: Path, resume: bool
) -> dict[str, Any]:
    embeddings = dataset.unit_embeddings
    vec2text.fit(dataset.texts, embeddings, checkpoint_dir=checkpoints / "vec2text", resume=resume)
    vec2text.save(output / "vec2text")
    return _evaluate(vec2text, dataset.texts, embeddings)


def _evaluate(vec2text: "Vec2Text", texts: list[str], embeddings: Any) -> dict[str, Any]:
    from e2t_lib.vec2text import evaluate_vec2text

    held_out = set(vec2text.held_out)
    rows, training = vec2text.held_out[:EVALUATED], [row for row in range(len(texts)) if row not in held_out]
    settings = CorrectionSettings(max_length=vec2text.settings.max_length, seed=vec2text.settings.seed)
    results = vec2text.invert_embeddings(embeddings[rows], settings=settings, progress=True)
    references, known = (vec2text.cut([texts[row] for row in part]) for part in (rows, training))
    return evaluate_vec2text(results, embeddings[rows], references, embeddings[training], known)
