"""The whole pipeline on real documents: build a dataset folder of a JSONL file, run the quick profile, keep the figures.

    python benchmarks/real_corpus.py aug_sep_2024.jsonl.xz

Writes benchmarks/results/<name>.json: seconds of each stage, and every stage's metrics. No text of the corpus is kept.
"""

import argparse
import json
import time
from pathlib import Path

from machine import measured_on

from e2t_lib.dataset.build import build_dataset
from e2t_lib.embedder import Embedder
from e2t_lib.pipeline import run_pipeline

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Build, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help=".jsonl, .jsonl.gz or .jsonl.xz")
    parser.add_argument("--profile", default="quick")
    asked = parser.parse_args()
    name = asked.corpus.name.partition(".")[0]
    folder = ROOT / "build" / "real_corpus" / name

    began = time.perf_counter()
    if not (folder / "dataset.json").exists():
        build_dataset(asked.corpus, folder, Embedder(), description={"synthetic": False})
    seconds = {"build": round(time.perf_counter() - began, 1)}
    result = run_pipeline(asked.profile, folder, f"real-{name}", models_dir=ROOT / "build" / "real_corpus" / "models")
    stages = json.loads((result.run_dir / "run.json").read_text())["stages"]
    metrics = {path.stem: json.loads(path.read_text()) for path in sorted(result.run_dir.glob("metrics/*.json"))}
    metrics["05_usage"].pop("texts")
    figures = {
        "measured": measured_on(),
        "profile": asked.profile,
        "documents": metrics["01_data_checks"]["documents"],
        "seconds": seconds | {stage: record["seconds"] for stage, record in stages.items()},
        "metrics": metrics,
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
