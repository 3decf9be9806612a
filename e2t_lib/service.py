"""The service: a point on the map in, the text that belongs there out, with all that is known about it.

(x, y) ─inverse_transform─▶ target embedding ─correction loop─▶ text ─Embedder─▶ embedding ─transform─▶ (x', y')
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from e2t_lib.dataset import Dataset, load_dataset
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve
from e2t_lib.settings import CorrectionSettings, override
from e2t_lib.synthesis import LanguageModel, Prompt, candidates, language_model_from_environment

if TYPE_CHECKING:
    from e2t_lib.parametric_umap import ParametricUMAP
    from e2t_lib.vec2text import CorrectionResult, CorrectionStep, Vec2Text

Method = Literal["vec2text", "llm_synthesis"]
OFF_MAP = 10.0  # neighbour distances from the nearest document; in the sample corpus documents have theirs within 7.4


@dataclass(frozen=True)
class EmbeddingToTextRequest:
    """What text belongs at (x, y)?

    Attributes:
        x, y: the point, in the layout's own units.
        method: "vec2text": the trained model writes; "llm_synthesis": a language model writes from the neighbours.
        neighbors: nearest documents to return, and to show to the language model.
        seed: of the sampling.
        max_correction_iterations, embedding_tolerance: None: the service's.

    Raises:
        E2TError: a coordinate that is not finite, an unknown method, or no neighbours.
    """

    x: float
    y: float
    method: Method = "vec2text"
    neighbors: int = 5
    seed: int = 0
    max_correction_iterations: int | None = None
    embedding_tolerance: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.x, self.y]).all():
            raise E2TError(f"point ({self.x}, {self.y}): coordinates must be finite numbers")
        if self.method not in get_args(Method):
            raise E2TError(f"unknown method {self.method!r}; choose one of {', '.join(get_args(Method))}")
        if self.neighbors < 1:
            raise E2TError(f"neighbors: {self.neighbors}; ask for one at least")


@dataclass(frozen=True)
class TextGenerationResult:
    """The text, and its two parts: the first line, and the rest (which may be empty)."""

    text: str

    @property
    def title(self) -> str:
        """The first line."""
        return self.text.strip().split("\n", 1)[0].strip()

    @property
    def content(self) -> str:
        """All but the first line."""
        return self.text.strip().partition("\n")[2].strip()


@dataclass(frozen=True)
class NearbyDocument:
    """A document of the dataset; `distance` is from the point asked for, on the map."""

    document_id: str
    title: str
    coordinates: tuple[float, float]
    distance: float


@dataclass(frozen=True)
class EmbeddingToTextResponse:
    """The text of a point, where it landed, and how it got there.

    Attributes:
        request: what was asked.
        text_generation_result: .title, .content, .text
        target_embedding: (d,) float32, what the map expects at the point.
        confidence: length of that expectation before it is normalised: near 1 where the documents around agree.
        landing_coordinates: (x', y'), where the text lands on the map.
        placement_error: distance from (x, y) to (x', y') over the median distance between neighbouring documents.
        distance: 1 - cosine, from the text's embedding to the target embedding.
        iterations, converged, trace: of the correction loop; see `CorrectionResult`.
        nearest_documents: of the point, nearest first.
        warnings: what to know before trusting the text.
    """

    request: EmbeddingToTextRequest
    text_generation_result: TextGenerationResult
    target_embedding: np.ndarray = field(repr=False)
    confidence: float
    landing_coordinates: tuple[float, float]
    placement_error: float
    distance: float
    iterations: int
    converged: bool
    trace: "tuple[CorrectionStep, ...]" = field(repr=False)
    nearest_documents: tuple[NearbyDocument, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        result = self.text_generation_result
        plain = {name: getattr(self, name) for name in ("confidence", "placement_error", "distance")}
        return {
            "request": asdict(self.request),
            "text_generation_result": {"title": result.title, "content": result.content, "text": result.text},
            "landing_coordinates": list(self.landing_coordinates),
            **{name: float(value) for name, value in plain.items()},
            "iterations": self.iterations,
            "converged": self.converged,
            "nearest_documents": [asdict(document) for document in self.nearest_documents],
            "warnings": list(self.warnings),
            "trace": [asdict(step) for step in self.trace],
            "target_embedding": [round(float(value), 6) for value in self.target_embedding],
        }


class EmbeddingToTextService:
    """Answers what text belongs at a point of the map.

    Args:
        correction: settings of the correction loop; None: the guide's, at the model's own max_length.
        embedder: needed where Vec2Text was trained with a function as its embedder.
        language_model: for llm_synthesis; None: the one that the environment names, looked up when it is first asked.
    """

    umap: "ParametricUMAP"
    vec2text: "Vec2Text"
    dataset: Dataset

    def __init__(
        self,
        correction: CorrectionSettings | None = None,
        embedder: Embedder | None = None,
        language_model: LanguageModel | None = None,
    ):
        self.correction, self._embedder, self._language_model = correction, embedder, language_model

    def load_trained_model(
        self, models_dir: str | Path = "data/models", data_dir: str | Path | None = None
    ) -> "EmbeddingToTextService":
        """Load both models, and the documents that the map was trained on.

        Args:
            models_dir: with parametric_umap/ and vec2text/.
            data_dir: the dataset folder; None: the one that Vec2Text was trained on.

        Raises:
            E2TError: a model or the dataset is missing or unusable, or map and Vec2Text are of different embeddings.
        """
        from e2t_lib.parametric_umap import ParametricUMAP
        from e2t_lib.vec2text import Vec2Text

        folder = resolve(models_dir)
        for name in ("parametric_umap", "vec2text"):
            if not (folder / name).is_dir():
                raise E2TError(f"{folder}: holds no {name}/; train the models first, by `e2t run` or `e2t train`")
        self.umap = ParametricUMAP.load(folder / "parametric_umap")
        self.vec2text = Vec2Text.load(folder / "vec2text", embedder=self._embedder)
        data = data_dir or self.vec2text.trained_on
        if not data:
            raise E2TError(f"{folder}: does not say which documents it was trained on; pass data_dir")
        self.dataset = load_dataset(data)
        expected = self.umap.inverse_transform(self.dataset.coordinates[:1]).shape[1]
        if expected != self.vec2text.dimension:
            raise E2TError(
                f"{folder}: the map gives embeddings of {expected} dimensions, Vec2Text inverts {self.vec2text.dimension}; "
                "train both on one dataset"
            )
        return self

    def generate_text_from_coordinates(self, request: EmbeddingToTextRequest) -> EmbeddingToTextResponse:
        """The text that belongs at a point.

        Raises:
            E2TError: no models are loaded; for llm_synthesis, no language model, or none that answers.
        """
        return self.generate_texts([request])[0]

    def generate_texts(
        self, requests: Sequence[EmbeddingToTextRequest], *, progress: bool = False
    ) -> list[EmbeddingToTextResponse]:
        """One response a request, in order; requests of the same settings are answered together.

        Raises:
            E2TError: as for `generate_text_from_coordinates`.
        """
        if not hasattr(self, "dataset"):
            raise E2TError("no models are loaded; call load_trained_model(models_dir) first")
        if not requests:
            return []
        points = np.array([[request.x, request.y] for request in requests])
        targets, confidence = self.umap.inverse_transform(points, return_confidence=True)
        nearest = [self._nearest(request) for request in requests]
        results = self._results(requests, targets, nearest, progress)
        landed = self.umap.transform(np.stack([result.embedding for result in results]))
        misses = np.linalg.norm(landed - points, axis=1) / self.umap.neighbor_distance_
        outside = self.umap.distance_to_layout(points)
        return [
            EmbeddingToTextResponse(
                request=request,
                text_generation_result=TextGenerationResult(results[row].text),
                target_embedding=targets[row],
                confidence=float(confidence[row]),
                landing_coordinates=(float(landed[row, 0]), float(landed[row, 1])),
                placement_error=float(misses[row]),
                distance=float(results[row].distance),
                iterations=results[row].iterations,
                converged=results[row].converged,
                trace=results[row].trace,
                nearest_documents=tuple(nearest[row]),
                warnings=_warnings(request, float(outside[row])),
            )
            for row, request in enumerate(requests)
        ]

    def _results(
        self,
        requests: Sequence[EmbeddingToTextRequest],
        targets: np.ndarray,
        nearest: list[list[NearbyDocument]],
        progress: bool,
    ) -> "list[CorrectionResult]":
        groups: dict[tuple[str, CorrectionSettings], list[int]] = {}
        for row, request in enumerate(requests):
            groups.setdefault((request.method, self._settings(request)), []).append(row)
        results: dict[int, CorrectionResult] = {}
        for (method, settings), rows in groups.items():
            if method == "vec2text":
                found = self.vec2text.invert_embeddings(targets[rows], settings=settings, progress=progress)
            else:
                found = [self._synthesise(targets[row], nearest[row], settings) for row in rows]
            results |= dict(zip(rows, found, strict=True))
        return [results[row] for row in range(len(requests))]

    def _settings(self, request: EmbeddingToTextRequest) -> CorrectionSettings:
        return override(
            self.correction or CorrectionSettings(max_length=self.vec2text.settings.max_length),
            seed=request.seed,
            max_correction_iterations=request.max_correction_iterations,
            embedding_tolerance=request.embedding_tolerance,
        )

    def _synthesise(
        self, target: np.ndarray, nearest: list[NearbyDocument], settings: CorrectionSettings
    ) -> "CorrectionResult":
        """`num_beams` documents by the language model, ranked by the correction loop."""
        from e2t_lib.vec2text.correction import correct

        self._language_model = model = self._language_model or language_model_from_environment()
        texts = dict(zip(self.dataset.document_ids, self.dataset.contents, strict=True))
        prompt = Prompt.of([(document.title, texts[document.document_id]) for document in nearest])
        return correct(
            target[None],
            lambda targets, *_: candidates(
                model, prompt, len(targets), temperature=settings.temperature, seed=settings.seed
            ),
            self.vec2text.embedder.encode,
            replace(settings, proposals=1, max_correction_iterations=0),
        )[0]

    def _nearest(self, request: EmbeddingToTextRequest) -> list[NearbyDocument]:
        distances = np.linalg.norm(self.dataset.coordinates - [request.x, request.y], axis=1)
        return [
            NearbyDocument(
                document_id=self.dataset.document_ids[row],
                title=self.dataset.titles[row],
                coordinates=(float(self.dataset.coordinates[row, 0]), float(self.dataset.coordinates[row, 1])),
                distance=float(distances[row]),
            )
            for row in distances.argsort(kind="stable")[: request.neighbors].tolist()
        ]


def _warnings(request: EmbeddingToTextRequest, outside: float) -> tuple[str, ...]:
    if outside <= OFF_MAP:
        return ()
    return (
        f"({request.x:g}, {request.y:g}) is {outside:.0f} neighbour distances from the nearest document: "
        "off the map, where the text is a guess",
    )
