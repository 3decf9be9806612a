"""Write the README's figures from benchmarks/results/, between its markers; `--check` exits 1 where they differ.

python benchmarks/readme.py
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORPORA = {"clean_clone": "sample corpus", "aug_sep_2024": "real arXiv"}


def main() -> int:
    """Fill in, or compare."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before, {name: read(name) for name in CORPORA})
    if "--check" in sys.argv:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    executed = ROOT / "build" / "clean_clone" / "notebooks" / "05_usage.ipynb"
    if executed.exists():  # else the map of an earlier run stays
        save_map(executed, ROOT / "docs" / "map.png")
    return 0


def save_map(notebook: Path, target: Path) -> None:
    """The last figure of an executed notebook: where the texts land."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    images = [
        output["data"]["image/png"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(base64.b64decode(images[-1]))


def read(name: str) -> dict[str, Any]:
    """One file of results."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def filled(text: str, results: dict[str, dict[str, Any]]) -> str:
    """`text` with the lines between <!-- name --> and <!-- /name --> made anew."""
    clone = results["clean_clone"]
    blocks = {"text": first_texts(clone), "timings": timings(clone), "figures": figures(results)}
    blocks |= {
        "inversion": inversion(),
        "opponents": opponents(),
        "placement": placement(),
        "map": parametric_umap(),
        "scale": scale(),
    }
    for name, block in blocks.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        kept = block.replace("\\", r"\\")  # a text may hold a backslash
        text = marked.sub(rf"\g<1>{kept}\n\g<2>", text)
    return text


def first_texts(clone: dict[str, Any]) -> str:
    """The texts of the first three points that notebook 05 asks about, whatever they are."""
    texts = clone["metrics"]["05_usage"]["texts"][:3]
    lines = [line for number, text in enumerate(texts, start=1) for line in f"**{number}** {text}\n".split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines[:-1])


def timings(clone: dict[str, Any]) -> str:
    """Minutes of the two commands, and seconds of a notebook."""
    install, run, test = (clone.get(f"make_{target}_seconds", 0) / 60 for target in ("install", "run", "test"))
    memory = clone.get("stage_memory_gb", {})
    stages = ", ".join(
        f"{name[:2]} {seconds:.0f} s" + (f" and {memory[name]:.1f} GB" if name in memory else "")
        for name, seconds in clone["stage_seconds"].items()
    )
    return (
        f"On a clean clone with an empty home directory, `make run` takes {install + run:.1f} minutes, of which the "
        f"installation takes {install:.1f}{f'; `make test` takes {test:.1f} more' if test else ''}. The notebooks take {stages}; trained "
        f"models load in {clone['load_seconds']:.0f} s, `import e2t_lib` takes {clone['import_seconds']:.2f} s. "
        f"({stamp(clone)}; `benchmarks/clean_clone.py`)"
    )


def figures(results: dict[str, dict[str, Any]]) -> str:
    """One column a corpus, one row a figure."""
    names = list(results)
    rows = [["documents", *(str(results[name]["metrics"]["01_data_checks"]["documents"]) for name in names)]]
    for label, *path in FIGURES:
        rows.append([label, *(f"{at(results[name]['metrics'], path):.3g}" for name in names)])
    stamps = "; ".join(f"{CORPORA[name]}: {stamp(results[name])}" for name in names)
    shown = table(["held-out documents, quick profile", *(CORPORA[name] for name in names)], rows)
    return f"{shown}\n\n({stamps}; `benchmarks/clean_clone.py`, `benchmarks/real_corpus.py`)"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown; all columns but the first hold numbers."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def inversion() -> str:
    """The shipped base on texts it has not seen."""
    found = read("inversion")
    rows = []
    for kind, name in {"titles": "titles", "documents": "titles with abstract"}.items():
        own = found[kind]
        nearest = own["baselines"]["nearest_neighbor"]
        rows += [
            [
                f"{own['documents']} {name}",
                *scores(own),
                f"{own['within_tolerance']:.0%}",
                f"{own['seconds_a_text']:.1f}",
            ],
            ["— greedy, without correction", *scores(own["greedy"]), "", ""],
            [f"— nearest of {own['known_texts']:,} training texts", *scores(nearest), "", ""],
        ]
    header = ["", "cosine", "BLEU", "token F1", "exact match", "within tolerance", "seconds a text"]
    stamps = "; ".join(f"{kind}: {stamp(found[kind])}" for kind in ("titles", "documents"))
    return f"{table(header, rows)}\n\n({stamps}; `benchmarks/inversion.py`)"


def scores(figures: dict[str, Any]) -> list[str]:
    """Cosine, BLEU, token F1 and exact match."""
    cosine, bleu, f1, exact = (figures[name]["mean"] for name in ("cosine", "bleu", "token_f1", "exact_match"))
    return [f"{cosine:.3f}", f"{bleu:.1f}", f"{f1:.2f}", f"{exact:.1%}"]


def opponents() -> str:
    """What each part of Vec2Text is worth, and a GEIA-style decoder, all after the same minutes."""
    found = read("opponents")
    rows = [
        [
            name,
            minutes,
            f"{own['greedy']['cosine']['mean']:.3f}",
            f"{own['greedy']['bleu']['mean']:.1f}",
            f"{own['cosine']['mean']:.3f} ± {own['cosine']['standard_error']:.3f}",
            f"{own['bleu']['mean']:.1f} ± {own['bleu']['standard_error']:.1f}",
            f"{own['token_f1']['mean']:.2f}",
        ]
        for minutes, variants in found.items()
        for name, own in variants.items()
    ]
    header = [
        "",
        "minutes",
        "cosine of the greedy text",
        "its BLEU",
        "cosine, best of 96 texts",
        "its BLEU",
        "its token F1",
    ]
    stamps = "; ".join(f"{minutes} minutes: {stamp(next(iter(own.values())))}" for minutes, own in found.items())
    return f"{table(header, rows)}\n\n({stamps}; `benchmarks/opponents.py`)"


def placement() -> str:
    """Texts for places of a map of real documents."""
    found = read("placement")
    measures = ("placement_error", "judge_error", "longest_shared_run", "coherence")
    rows = []
    for kind, name in {"own": "documents' own places", "between": "between documents", "gaps": "gaps"}.items():
        ways = {f"{found[kind]['points']} {name}": found[kind], "— iteration 0": found[kind]["iteration_0"]}
        ways["— the nearest document's text"] = found[kind]["nearest_document"]
        rows += [[way, *(f"{figures[measure]:.2f}" for measure in measures)] for way, figures in ways.items()]
        rows.append(["— the target embeddings themselves", *errors(found[kind]["target"])])
    rows.append(["real documents, held out", *errors(found["real_documents"])])
    rows.append(["— the fifth of them that lies most alone", *errors(found["real_documents_alone"])])
    names = {"all": "real documents, each held out once", "as gaps": "— those as far from any other as gaps are"}
    for part, name in names.items():
        apart = found["real_documents_apart"][part]
        rows.append([f"{name} ({apart['documents']:,})", "", f"{apart['judge_error']:.2f}", "", ""])
    header = ["median placement error, in neighbour distances", "encoder", "judge", "longest shared run", "coherence"]
    click, stamped = found["click"], stamp(found)
    return (
        f"{table(header, rows)}\n\nA click shows a first text after {click['first_text_seconds']:.1f} s and the last after "
        f"{click['last_text_seconds']:.1f} s: no step is begun that would end after ten. ({stamped}; `benchmarks/placement.py`)"
    )


def errors(figures: dict[str, float]) -> list[str]:
    """By encoder and judge, of embeddings without a text."""
    return [f"{figures['placement_error']:.2f}", f"{figures['judge_error']:.2f}", "", ""]


def parametric_umap() -> str:
    """The map beside other ways, the mean of all splits."""
    found = read("parametric_umap")
    measures = {
        "coordinate_rmse": ".3f",
        "coordinate_error_median": ".1f",
        "neighbor_recall": ".2f",
        "inverse_cosine": ".3f",
        "round_trip_error": ".1f",
        "fit_seconds": ",.0f",
    }
    measures |= {"place_microseconds": ",.1f", "decode_microseconds": ",.1f"}
    rows = []
    for name, runs in found["ways"].items():
        means = (sum(run[measure] for run in runs) / len(runs) for measure in measures)
        formatted = (format(mean, how) for mean, how in zip(means, measures.values(), strict=True))
        rows.append([name, *formatted, str(len(runs)), found["dates"][name]])
    header = [
        "",
        "RMSE",
        "median error",
        "neighbours kept",
        "cosine of the inverse",
        "round trip",
        "seconds to fit",
        "µs to place",
        "µs to decode",
        "splits",
        "measured",
    ]
    return f"{table(header, rows)}\n\n({stamp(found)}; `benchmarks/parametric_umap.py`)"


def scale() -> str:
    """Minutes and gigabytes of training maps of any size."""
    found = read("scale")
    rows = [
        [f"{size['rows']:,}", f"{size['fit_seconds'] / 60:.1f}", f"{size['gigabytes_peak']:.1f}"]
        for size in found["sizes"]
    ]
    shown = table([f"rows of {found['dimension']} dimensions", "minutes to train", "peak gigabytes"], rows)
    return f"{shown}\n\n({stamp(found)}; `benchmarks/scale.py`)"


MAP, TEXT = ("02_umap_training", "held_out"), ("04_correction_loop_evaluation",)
FIGURES = [
    ("map: `coordinate_mse`", *MAP, "coordinate_mse"),
    ("map: `coordinate_mae`", *MAP, "coordinate_mae"),
    ("map: `embedding_mse`", *MAP, "embedding_mse"),
    ("map: `embedding_mae`", *MAP, "embedding_mae"),
    ("map: `avg_cosine_similarity`", *MAP, "avg_cosine_similarity"),
    ("— kNN regression", *MAP, "knn_cosine"),
    ("— estimated ceiling of any inverse of two dimensions", *MAP, "ceiling"),
    ("text: `average_embedding_distance`", *TEXT, "average_embedding_distance"),
    ("text: `average_iterations`", *TEXT, "average_iterations"),
    ("text: `convergence_rate`", *TEXT, "convergence_rate"),
    ("text: cosine with the target", *TEXT, "cosine", "mean"),
    ("— nearest training document", *TEXT, "baselines", "nearest_neighbor", "cosine", "mean"),
    ("— mean vector", *TEXT, "baselines", "mean_vector", "cosine", "mean"),
    ("— random pair", *TEXT, "baselines", "random_pair", "cosine", "mean"),
    ("text: BLEU", *TEXT, "bleu", "mean"),
    ("— nearest training document", *TEXT, "baselines", "nearest_neighbor", "bleu", "mean"),
    ("text: token F1", *TEXT, "token_f1", "mean"),
    ("— nearest training document", *TEXT, "baselines", "nearest_neighbor", "token_f1", "mean"),
]


def at(figures: Any, path: list[str]) -> float:
    """The figure at the end of a path of keys."""
    for key in path:
        figures = figures[key]
    return figures


def stamp(result: dict[str, Any]) -> str:
    """Date and machine."""
    on = result["measured"]
    return f"{on['date']}, {on['cores']} cores of {on['processor']}, {on['memory_gb']} GB"


if __name__ == "__main__":
    sys.exit(main())
