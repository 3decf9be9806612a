"""The `e2t` command. Each command imports what it needs when it runs: `e2t --help` loads neither TensorFlow nor torch."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2t_lib import __version__
from e2t_lib.errors import E2TError
from e2t_lib.files import resolve, write_json, write_text
from e2t_lib.settings import PROFILES, CorrectionSettings, MapSettings, Vec2TextSettings, override

MAP, VEC2TEXT, CORRECTION = MapSettings(), Vec2TextSettings(), CorrectionSettings()  # the guide's defaults


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what is wrong goes to stderr in one line.

    Returns:
        0: done. 1: the data have problems, or a stage failed. 2: what the user can mend.
    """
    asked = _parser().parse_args(arguments)
    try:
        return asked.command(asked)
    except E2TError as error:
        print(f"e2t: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("e2t: interrupted", file=sys.stderr)
        return 130


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
        map_settings=override(MAP, epochs=asked.umap_epochs, **common),
        vec2text_settings=override(
            VEC2TEXT,
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
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if asked.output:
        write_text(Path(asked.output), lines)
        print(f"{len(rows)} texts in {asked.output}")
    else:
        print(lines, end="")
    return 0


def generate(asked: argparse.Namespace) -> int:
    """The text that belongs at a point."""
    from e2t_lib.service import EmbeddingToTextRequest, EmbeddingToTextService

    request = EmbeddingToTextRequest(x=asked.x, y=asked.y, method=asked.method, seed=asked.seed)
    service = EmbeddingToTextService().load_trained_model(asked.models, asked.data_dir)
    response = service.generate_text_from_coordinates(request)
    for warning in response.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if asked.json:
        print(json.dumps(response.to_dict(), ensure_ascii=False))
    else:
        print(response.text_generation_result.text)
    return 0


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


def _at_least(least: int) -> Callable[[str], int]:
    def integer(value: str) -> int:
        if int(value) < least:
            raise argparse.ArgumentTypeError(f"{value}: give {least} or more")
        return int(value)

    return integer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2t", description="Point at any place on a 2-D map of documents and read the text that belongs there."
    )
    parser.add_argument("--version", action="version", version=f"e2t {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(do: Callable[[argparse.Namespace], int], about: str) -> Callable[..., argparse.Action]:
        one = commands.add_parser(
            do.__name__, help=about, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        one.set_defaults(command=do)
        return one.add_argument

    add = command(build, "make a dataset folder of a JSON Lines file of documents")
    add("--input", required=True, help=".jsonl, .jsonl.gz or .jsonl.xz with document_id, title and content")
    add("--out", required=True, help="the dataset folder to make")
    add("--embedding-model", default="embedded", help="a sentence-transformers model, by name or folder")
    add("--neighbors", type=int, default=15, help="of UMAP")
    add("--min-dist", type=float, default=0.1, help="of UMAP")
    add("--limit", type=_at_least(0), default=0, help="read the first so many documents; 0: all")
    add("--seed", type=_at_least(0), default=0)
    add("--licence", help="for dataset.json")
    add("--provenance", help="for dataset.json")
    add("--synthetic", action="store_true", help="say in dataset.json that the documents are invented")

    add = command(check, "look for every problem in a dataset folder; exit 1 if there is one")
    add("folder", help="the dataset folder")
    add("--embedding-model", help="what made the embeddings; None: as dataset.json says")

    add = command(train, "train both models without notebooks")
    add("--data-dir", default="data/arxiv_aug_sep", help="path to training data directory")
    add("--output-dir", default="data/models", help="path to save trained models")
    add("--umap-epochs", type=_at_least(1), default=MAP.epochs, help="epochs of Parametric UMAP")
    add("--vec2text-epochs", type=_at_least(1), default=VEC2TEXT.epochs, help="epochs of Vec2Text")
    add("--batch-size", type=_at_least(1), default=MAP.batch_size, help="of both trainings")
    add("--skip-vec2text", action="store_true", help="skip Vec2Text training")
    add("--skip-umap", action="store_true", help="skip Parametric UMAP training")
    add("--base-model", default=VEC2TEXT.base_model, help="causal language model: hub name, folder, or embedded")
    add("--max-length", type=_at_least(1), default=VEC2TEXT.max_length, help="tokens of a text")
    add("--embedding-model", help="what made the embeddings; None: as dataset.json says")
    add("--seed", type=_at_least(0), default=0)
    add("--resume", action="store_true", help="go on from the checkpoints of a killed training")
    add("--metrics", metavar="FILE", help="write all figures there as JSON")

    add = command(
        pretrain, "train a base model that inverts the embedded embedder; hours, and it goes on where it stood"
    )
    add("--corpus", nargs="+", required=True, metavar="FILE", help=".jsonl, .jsonl.gz or .jsonl.xz documents")
    add("--base-model", default="minilm-decoder", help="what to start from; embedded: the base that ships")
    add("--titles", type=_at_least(0), default=262_000, help="documents whose title alone is learned")
    add("--documents", type=_at_least(0), default=18_000, help="other documents, learned with abstract")
    add("--held-out", type=_at_least(2), default=2_000, help="documents at the end that nothing learns from")
    add("--epochs", type=_at_least(1), default=1, help="passes over the texts")
    add("--minutes", type=float, default=0.0, help="of training at most; 0: all epochs")
    add("--corrector-epochs", type=_at_least(0), default=1, help="passes with hypotheses to correct, afterwards")
    add("--corrector-texts", type=_at_least(0), default=20_000, help="texts that hypotheses are written for; 0: all")
    add("--corrector-minutes", type=float, default=0.0, help="as --minutes, for the corrector")
    add("--max-length", type=_at_least(1), default=256, help="tokens kept of a text")
    add("--batch-size", type=_at_least(1), default=64)
    add("--seed", type=_at_least(0), default=0)
    add("--work", default="build/pretrain", help="embeddings, checkpoints and the finished model")
    add("--install", metavar="DIR", help="put the finished model there, such as data/base_model")

    add = command(run, "run the five notebooks as a pipeline into runs/<id>/, and go on where it stopped")
    add("--profile", default="quick", help=f"one of {', '.join(PROFILES)}")
    add("--data-dir", default="data/arxiv_aug_sep", help="the dataset folder")
    add("--run-id", help="name of the run's folder; None: profile and dataset")
    add("--models-dir", default="data/models", help="gets the models when all stages are finished")
    add("--fresh", action="store_true", help="start over")
    add("-p", "--parameter", nargs=2, metavar=("NAME", "VALUE"), action="append", default=[], help="of the notebooks")

    add = command(refresh, "execute the notebooks in place in the smoke profile: the outputs to commit")
    add("--notebooks-dir", help="None: the project's")

    add = command(invert, "embed texts and recover them from their embeddings; one JSON object a line")
    add("text", nargs="?", help="one text; or give --input")
    add("--input", help="a file with one text a line")
    add("--output", help="None: the terminal")
    add("--models", default="embedded", help="a models folder, or embedded: the base model as it ships")
    add("--iterations", type=_at_least(0), default=5, help="correction steps at most; 0: the inverter alone")
    add("--beam-width", type=_at_least(1), default=4, help="hypotheses kept a text")
    add("--min-length", type=_at_least(1), default=1, help="tokens; 64: a title alone will not do")
    add("--batch-size", type=_at_least(1), default=CORRECTION.batch_size, help="texts at a time")
    add("--trace", action="store_true", help="with the beam and the best text after every step")
    add("--seed", type=_at_least(0), default=0)

    add = command(generate, "write the text that belongs at a point of the map")
    add("--x", type=float, required=True)
    add("--y", type=float, required=True)
    add("--method", default="vec2text", help="vec2text or llm_synthesis")
    add("--models", default="data/models", help="the models folder")
    add("--data-dir", help="the dataset folder; None: the one the models were trained on")
    add("--json", action="store_true", help="print the whole response as JSON")
    add("--seed", type=_at_least(0), default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
