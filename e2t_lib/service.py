"""The service: a point on the map in, the text that belongs there out, with all that is known about it.

(x, y) ─inverse_transform─▶ target embedding ─correction loop─▶ text ─Embedder─▶ embedding ─transform─▶ (x', y')
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from e2t_lib.dataset import Dataset, load_dataset
from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve
from e2t_lib.language_models import LanguageModel, language_model_from_environment
from e2t_lib.settings import CorrectionSettings, Objective, Target, override
from e2t_lib.synthesis import Prompt, candidates

if TYPE_CHECKING:
    from e2t_lib.parametric_umap import ParametricUMAP
    from e2t_lib.vec2text import CorrectionResult, CorrectionStep, Vec2Text
    from e2t_lib.vec2text.correction import Aim

Method = Literal["vec2text", "llm_synthesis"]
OffMap = Literal["warn", "error"]


@dataclass(frozen=True)
class EmbeddingToTextRequest:
    """What text belongs at (x, y)?

    Attributes:
        x, y: the point, in the layout's own units.
        method: "vec2text": the trained model writes; "llm_synthesis": a language model writes from the neighbours.
        objective: what texts are ranked by. "embedding": the distance to the target embedding; "placement": the
            distance on the map, from the point to where encoder and documents alike put the text; "both": one and the
            other.
        target: which embedding the text is written for. "mean": the map's expectation at the point; "blended": half
            way from there to the nearest document; "sampled": some that are as far from the expectation as documents
            are, and land where the point is.
        neighbors: nearest documents to return, and to show to the language model.
        seed: of the sampling.
        max_correction_iterations, embedding_tolerance: None: the service's.
        off_map: "warn" or "error", where the point lies outside the map.

    Raises:
        E2TError: a coordinate that is not finite, an unknown method, objective, target or off_map, or no neighbours.
    """

    x: float
    y: float
    method: Method = "vec2text"
    objective: Objective = "both"
    target: Target = "sampled"
    neighbors: int = 5
    seed: int = 0
    max_correction_iterations: int | None = None
    embedding_tolerance: float | None = None
    off_map: OffMap = "warn"

    def __post_init__(self) -> None:
        if not np.isfinite([self.x, self.y]).all():
            raise E2TError(f"point ({self.x}, {self.y}): coordinates must be finite numbers")
        for name, kind in (("method", Method), ("objective", Objective), ("target", Target), ("off_map", OffMap)):
            value = getattr(self, name)
            if value not in get_args(kind):
                raise E2TError(f"unknown {name} {value!r}; choose one of {', '.join(get_args(kind))}")
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
        target_embedding: (d,) float32, unit, what the text was written for.
        confidence: length of the map's expectation at the point: near 1 where the documents around agree.
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
        self.correction, self._embedder, self.language_model = correction, embedder, language_model

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
        if not requests:
            return []
        self._require_answerable(requests)
        return self._responses(requests, self._results(requests, progress))

    def generate_text_steps(
        self, request: EmbeddingToTextRequest, within: float | None = None
    ) -> Iterator[EmbeddingToTextResponse]:
        """The answer to a request as it comes into being: a response after each correction step, the last one final.

        Args:
            request: what text belongs where?
            within: seconds; no step is begun that would end later, were it as long as the longest so far. None: all
                steps are taken. The first text comes whatever it takes.

        Raises:
            E2TError: as for `generate_text_from_coordinates`.
        """
        from e2t_lib.vec2text.inversion import inversion_steps

        self._require_answerable([request])
        if request.method == "llm_synthesis":
            yield self.generate_text_from_coordinates(request)
            return
        began = ended = time.perf_counter()
        longest = 0.0
        targets, aims, settings = self._search([request])
        for found in inversion_steps(self.vec2text, targets, settings, aims=aims):
            yield self._responses([request], found)[0]
            now = time.perf_counter()
            longest, ended = max(longest, now - ended), now
            if within is not None and now + longest > began + within:
                return

    def _require_answerable(self, requests: Sequence[EmbeddingToTextRequest]) -> None:
        if not hasattr(self, "dataset"):
            raise E2TError("no models are loaded; call load_trained_model(models_dir) first")
        strict = [request for request in requests if request.off_map == "error"]
        outside = [warning for own in self._warnings(_points(strict)) for warning in own] if strict else []
        if outside:
            raise E2TError(outside[0])

    def _warnings(self, points: np.ndarray) -> list[tuple[str, ...]]:
        """What to know about each point, (m, 2)."""
        return [
            () if inside else (self._off_map(point),)
            for point, inside in zip(points, self.umap.on_map(points), strict=True)
        ]

    def _off_map(self, point: np.ndarray) -> str:
        [distance], [percentile] = self.umap.distance_to_layout([point]), self.umap.density_percentile([point])
        return (
            f"({point[0]:g}, {point[1]:g}) is {distance:.0f} neighbour distances from the nearest document, at density "
            f"percentile {percentile:.1f}: off the map, where the text is a guess"
        )

    def _responses(
        self, requests: Sequence[EmbeddingToTextRequest], written: "Sequence[CorrectionResult]"
    ) -> list[EmbeddingToTextResponse]:
        """Texts with all that is known about them."""
        points = _points(requests)
        confidence = self.umap.inverse_transform(points, return_confidence=True)[1]
        landed = self.umap.transform(np.stack([result.embedding for result in written]))
        misses = np.linalg.norm(landed - points, axis=1) / self.umap.neighbor_distance_
        warnings = self._warnings(points)
        return [
            EmbeddingToTextResponse(
                request=request,
                text_generation_result=TextGenerationResult(result.text),
                target_embedding=result.target,
                confidence=float(confidence[row]),
                landing_coordinates=(float(landed[row, 0]), float(landed[row, 1])),
                placement_error=float(misses[row]),
                distance=float(result.distance),
                iterations=result.iterations,
                converged=result.converged,
                trace=result.trace,
                nearest_documents=tuple(self._nearest(request)),
                warnings=warnings[row],
            )
            for row, (request, result) in enumerate(zip(requests, written, strict=True))
        ]

    def _results(self, requests: Sequence[EmbeddingToTextRequest], progress: bool) -> "list[CorrectionResult]":
        """A text for each request; those alike but for place and objective go together."""
        from e2t_lib.vec2text.inversion import invert

        groups: dict[EmbeddingToTextRequest, list[int]] = {}
        for row, request in enumerate(requests):
            groups.setdefault(replace(request, x=0.0, y=0.0, objective="both"), []).append(row)
        results: dict[int, CorrectionResult] = {}
        for common, rows in groups.items():
            group = [requests[row] for row in rows]
            if common.method == "llm_synthesis":
                found = [self._synthesise(request) for request in group]
            else:
                targets, aims, settings = self._search(group)
                found = invert(self.vec2text, targets, settings, aims=aims, progress=progress)
            results |= dict(zip(rows, found, strict=True))
        return [results[row] for row in range(len(requests))]

    def _search(self, requests: Sequence[EmbeddingToTextRequest]) -> "tuple[np.ndarray, list[Aim], CorrectionSettings]":
        """Target embeddings, (n, k, d), and aims for n requests of the same settings but for place and objective."""
        from e2t_lib.placement import Aiming, novelty_of

        first, settings = requests[0], self._settings(requests[0])
        points = _points(requests)
        each = min(settings.num_beams, len(self.dataset) - 2) if first.target == "sampled" else 1
        documents = self.dataset.unit_embeddings, self.dataset.coordinates
        aiming = Aiming(self.umap, *documents, novelty_of(self.dataset), self.vec2text.words)
        targets = aiming.targets(points, first.target, each)
        aims = [
            aiming.at(point, own, request.objective, settings.embedding_tolerance)
            for request, point, own in zip(requests, points, targets, strict=True)
        ]
        return targets, aims, settings

    def _settings(self, request: EmbeddingToTextRequest) -> CorrectionSettings:
        return override(
            self.correction or CorrectionSettings(max_length=self.vec2text.settings.max_length),
            whole=True,
            seed=request.seed,
            max_correction_iterations=request.max_correction_iterations,
            embedding_tolerance=request.embedding_tolerance,
        )

    def _synthesise(self, request: EmbeddingToTextRequest) -> "CorrectionResult":
        """`num_beams` documents by the language model, ranked by the correction loop."""
        from e2t_lib.vec2text.correction import correct

        self.language_model = model = self.language_model or language_model_from_environment()
        texts = dict(zip(self.dataset.document_ids, self.dataset.contents, strict=True))
        prompt = Prompt.of([(document.title, texts[document.document_id]) for document in self._nearest(request)])
        targets, aims, _ = self._search([replace(request, target="mean")])
        settings = replace(self._settings(request), proposals=1, max_correction_iterations=0)

        def propose(goals: np.ndarray, *_: Any) -> list[str]:
            return candidates(model, prompt, len(goals), temperature=settings.temperature, seed=settings.seed)

        return correct(targets, propose, self.vec2text.embedder.encode, settings, aims=aims)[0]

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


def _points(requests: Sequence[EmbeddingToTextRequest]) -> np.ndarray:
    return np.array([[request.x, request.y] for request in requests])
