"""What each `e2t` command does. Each imports what it needs when it runs: `e2t --help` loads neither TensorFlow nor torch.

Every function takes the parsed arguments and returns the exit status.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2t_lib.errors import E2TError
from e2t_lib.files import resolve, write_json, write_text
from e2t_lib.settings import CorrectionSettings, MapSettings, Vec2TextSettings, override

if TYPE_CHECKING:
    from e2t_lib.service import EmbeddingToTextRequest, EmbeddingToTextResponse, EmbeddingToTextService


def build(asked: argparse.Namespace) -> int:
    """Documents to a dataset folder."""
    from e2t_lib.dataset.build import build_dataset
    from e2t_lib.embedder import Embedder

    description = {name: value for name in ("licence", "provenance") if (value := getattr(asked, name))}
    if asked.synthetic:
        description["synthetic"] = True
    folder = build_dataset(
        asked.input,
        asked.out,
        Embedder(asked.embedding_model),
        seed=asked.seed,
        neighbors=asked.neighbors,
        min_dist=asked.min_dist,
        description=description,
        limit=asked.limit,
    )
    print(folder)
    return 0


def check(asked: argparse.Namespace) -> int:
    """Every problem of a dataset folder."""
    from e2t_lib.dataset import check_folder
    from e2t_lib.embedder import Embedder

    if not resolve(asked.folder).is_dir():
        raise E2TError(f"{asked.folder}: no such dataset folder")
    report = check_folder(asked.folder, embedder=Embedder(asked.embedding_model) if asked.embedding_model else None)
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(problem)
    verdict = "all checks passed" if report.ok else f"{len(report.problems)} problems"
    print(f"{asked.folder}: {report.documents} documents, {report.dimension} dimensions: {verdict}")
    return 0 if report.ok else 1


def train(asked: argparse.Namespace) -> int:
    """Both models, without notebooks."""
    from e2t_lib.train import guide_metrics, train_models

    common = {"batch_size": asked.batch_size, "seed": asked.seed}
    metrics = train_models(
        asked.data_dir,
        asked.output_dir,
        map_settings=override(MapSettings(), epochs=asked.umap_epochs, **common),
        vec2text_settings=override(
            Vec2TextSettings(),
            base_model=asked.base_model,
            epochs=asked.vec2text_epochs,
            max_length=asked.max_length,
            **common,
        ),
        embedding_model=asked.embedding_model,
        skip_umap=asked.skip_umap,
        skip_vec2text=asked.skip_vec2text,
        resume=asked.resume,
    )
    if asked.metrics:
        write_json(Path(asked.metrics), metrics)
    for name, value in guide_metrics(metrics).items():
        print(f"{name}: {value:.4f}")
    print(f"models in {resolve(asked.output_dir)}")
    return 0


def pretrain(asked: argparse.Namespace) -> int:
    """A base model."""
    from e2t_lib.embedder import Embedder
    from e2t_lib.train import require_writable
    from e2t_lib.vec2text.pretraining import install, pretrain, read_corpus

    work = resolve(asked.work)
    require_writable(work)
    corpus = read_corpus(
        [Path(path) for path in asked.corpus], asked.titles, asked.documents, asked.held_out, asked.seed
    )
    settings = override(
        Vec2TextSettings(
            base_model=asked.base_model,
            batch_tokens=2_048,  # whole abstracts in batches of 8: as much work a step as some 100 titles
            learning_rate=8e-4,
            language_model_rate=0.4,
            lexical_width=2_048,
            lexical_epochs=3,
        ),
        max_length=asked.max_length,
        batch_size=asked.batch_size,
        epochs=asked.epochs,
        minutes=asked.minutes,
        corrector_epochs=asked.corrector_epochs,
        corrector_texts=asked.corrector_texts,
        corrector_minutes=asked.corrector_minutes,
        seed=asked.seed,
    )
    model = pretrain(corpus, Embedder(), settings, work)
    if asked.install:
        install(model, resolve(asked.install))
    print(resolve(asked.install) if asked.install else model)
    return 0


def run(asked: argparse.Namespace) -> int:
    """The five notebooks as a pipeline."""
    from e2t_lib.pipeline import run_pipeline

    result = run_pipeline(
        asked.profile,
        asked.data_dir,
        asked.run_id,
        dict(asked.parameter),
        models_dir=asked.models_dir,
        fresh=asked.fresh,
    )
    print(f"models: {result.models_dir}\nreport: {result.report}")
    return 0


def refresh(asked: argparse.Namespace) -> int:
    """The notebooks' committed outputs."""
    from e2t_lib.refresh import refresh_notebooks

    for path in refresh_notebooks(asked.notebooks_dir):
        print(path)
    return 0


def doctor(asked: argparse.Namespace) -> int:
    """What is there that a run needs, and what is not."""
    from e2t_lib.doctor import examine

    marks = set()
    for finding in examine(asked.base_model, asked.data_dir, asked.models):
        print(finding, flush=True)
        marks.add(finding.mark)
    return 1 if "FAIL" in marks else 0


def invert(asked: argparse.Namespace) -> int:
    """Texts to embeddings and back."""
    if bool(asked.text) == bool(asked.input):
        raise E2TError("give one text, or a file of texts as --input")
    texts = _lines(asked.input) if asked.input else [asked.text]
    from e2t_lib.vec2text import Vec2Text

    folder = asked.models if asked.models == "embedded" else resolve(asked.models)
    model = Vec2Text.load(
        folder / "vec2text" if isinstance(folder, Path) and (folder / "vec2text").is_dir() else folder
    )
    settings = override(
        CorrectionSettings(min_length=asked.min_length, max_length=model.settings.max_length),
        max_correction_iterations=asked.iterations,
        num_beams=asked.beam_width,
        batch_size=asked.batch_size,
        seed=asked.seed,
    )
    results = model.invert_strings(texts, settings=settings, progress=True)
    rows: list[dict[str, Any]] = [
        {"text": result.text, "target_text": text, "cosine": round(result.cosine, 6), "iterations": result.iterations}
        | {"distance": round(result.distance, 6), "converged": result.converged}
        for text, result in zip(texts, results, strict=True)
    ]
    if asked.trace:
        for row, result in zip(rows, results, strict=True):
            row["trace"] = [asdict(step) for step in result.trace]
    if asked.output:
        write_text(Path(asked.output), _json_lines(rows))
        print(f"{len(rows)} texts in {asked.output}")
    else:
        print(_json_lines(rows), end="")
    return 0


def generate(asked: argparse.Namespace) -> int:
    """The text that belongs at a point, or those of many."""
    given = [value is not None for value in (asked.x, asked.y, asked.input)]
    if given not in ([True, True, False], [False, False, True]):
        raise E2TError("give a point as --x and --y, or a file of points as --input")
    from e2t_lib.placement import read_points

    points = [(asked.x, asked.y)] if asked.input is None else read_points(asked.input).tolist()
    requests = _requests(points, asked)  # what is wrong with them is said before the models are loaded
    responses = _answers(_service(asked), requests)
    if asked.output:
        write_text(Path(asked.output), _json_lines(response.to_dict() for response in responses))
        print(f"{len(responses)} texts in {asked.output}")
    elif asked.json:
        print(_json_lines(response.to_dict() for response in responses), end="")
    else:
        print("\n\n---\n\n".join(response.text_generation_result.text for response in responses))
    return 0


def gaps(asked: argparse.Namespace) -> int:
    """The emptiest places inside the map, and what belongs there."""
    from e2t_lib.explorer import write_page
    from e2t_lib.placement import find_gaps

    if asked.empty and asked.page:
        raise E2TError("a page shows the texts of the gaps; leave out --empty or --page")
    service = _service(asked)
    found = find_gaps(service.dataset.coordinates, asked.count)
    if not found:
        raise E2TError(f"{service.dataset.folder}: documents surround no empty place on this map")
    requests = _requests([(gap.x, gap.y) for gap in found], asked)
    responses = [] if asked.empty else _answers(service, requests)
    titles = [response.text_generation_result.title for response in responses] or [""] * len(found)
    for number, (gap, title) in enumerate(zip(found, titles, strict=True), start=1):
        print(f"{number:3d}  ({gap.x:.3f}, {gap.y:.3f})  radius {gap.radius:.3f}  {title}".rstrip())
    if asked.output:
        filled = [response.to_dict() for response in responses] or [{}] * len(found)
        write_text(Path(asked.output), _json_lines(asdict(gap) | row for gap, row in zip(found, filled, strict=True)))
        print(f"{len(found)} gaps in {asked.output}")
    if asked.page:
        print(write_page(asked.page, service.dataset, responses))
    return 0


def _service(asked: argparse.Namespace) -> "EmbeddingToTextService":
    from e2t_lib.service import EmbeddingToTextService

    return EmbeddingToTextService().load_trained_model(asked.models, asked.data_dir)


def _requests(points: Iterable[Sequence[float]], asked: argparse.Namespace) -> "list[EmbeddingToTextRequest]":
    from e2t_lib.service import EmbeddingToTextRequest

    options = {name: getattr(asked, name) for name in ("method", "objective", "target", "seed", "off_map")}
    return [EmbeddingToTextRequest(x=x, y=y, **options) for x, y in points]


def _answers(
    service: "EmbeddingToTextService", requests: "Sequence[EmbeddingToTextRequest]"
) -> "list[EmbeddingToTextResponse]":
    """What the service says; its warnings go to stderr."""
    responses = service.generate_texts(requests, progress=len(requests) > 1)
    for warning in (warning for response in responses for warning in response.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    return responses


def _json_lines(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _lines(path: str) -> list[str]:
    try:
        texts = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise E2TError(f"{path}: cannot be read ({error})") from None
    if not texts:
        raise E2TError(f"{path}: holds no text; give one a line")
    return texts
