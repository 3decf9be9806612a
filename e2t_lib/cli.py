"""The `e2t` command: its options; what the commands do stands in commands.py."""

import argparse
import sys
from collections.abc import Callable, Sequence

from e2t_lib import __version__, commands
from e2t_lib.errors import E2TError
from e2t_lib.settings import PROFILES, CorrectionSettings, MapSettings, Vec2TextSettings

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
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(do: Callable[[argparse.Namespace], int], about: str) -> Callable[..., argparse.Action]:
        one = subparsers.add_parser(
            do.__name__, help=about, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        one.set_defaults(command=do)
        return one.add_argument

    add = command(commands.build, "make a dataset folder of a JSON Lines file of documents")
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

    add = command(commands.check, "look for every problem in a dataset folder; exit 1 if there is one")
    add("folder", help="the dataset folder")
    add("--embedding-model", help="what made the embeddings; None: as dataset.json says")

    add = command(commands.train, "train both models without notebooks")
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
        commands.pretrain, "train a base model that inverts the embedded embedder; hours, and it goes on where it stood"
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

    add = command(commands.run, "run the five notebooks as a pipeline into runs/<id>/, and go on where it stopped")
    add("--profile", default="quick", help=f"one of {', '.join(PROFILES)}")
    add("--data-dir", default="data/arxiv_aug_sep", help="the dataset folder")
    add("--run-id", help="name of the run's folder; None: profile and dataset")
    add("--models-dir", default="data/models", help="gets the models when all stages are finished")
    add("--fresh", action="store_true", help="start over")
    add("-p", "--parameter", nargs=2, metavar=("NAME", "VALUE"), action="append", default=[], help="of the notebooks")

    add = command(commands.refresh, "execute the notebooks in place in the smoke profile: the outputs to commit")
    add("--notebooks-dir", help="None: the project's")

    add = command(commands.doctor, "look whether everything is there that a run needs; exit 1 if something is not")
    add("--base-model", default="embedded", help="what a training would start from: hub name, folder, or embedded")
    add("--data-dir", default="data/arxiv_aug_sep", help="the dataset folder")
    add("--models", default="data/models", help="the models folder")

    add = command(commands.invert, "embed texts and recover them from their embeddings; one JSON object a line")
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

    add = command(commands.generate, "write the text that belongs at a point of the map, or at each point of a file")
    add("--x", type=float)
    add("--y", type=float)
    add("--input", metavar="FILE", help="of points instead, one a line: x,y or JSON with x and y")
    add("--json", action="store_true", help="print whole responses, one JSON object a line")
    _add_service_options(add)

    add = command(commands.gaps, "find the emptiest places inside the map, and write what belongs there")
    add("--count", type=_at_least(1), default=10, help="gaps at most, the emptiest first")
    add("--empty", action="store_true", help="say where they are and write nothing there")
    add("--page", metavar="FILE", help="write the map with the texts as a page to open in a browser")
    _add_service_options(add)
    return parser


def _add_service_options(add: Callable[..., argparse.Action]) -> None:
    add("--output", metavar="FILE", help="write whole responses there, one JSON object a line")
    add("--method", default="vec2text", help="vec2text or llm_synthesis")
    add("--objective", default="both", help="what texts are ranked by: embedding, placement or both")
    add("--target", default="sampled", help="the embedding they are written for: mean, blended or sampled")
    add("--off-map", default="warn", help="warn or error, where a point lies outside the map")
    add("--models", default="data/models", help="the models folder")
    add("--data-dir", help="the dataset folder; None: the one the models were trained on")
    add("--seed", type=_at_least(0), default=0)


if __name__ == "__main__":
    sys.exit(main())
