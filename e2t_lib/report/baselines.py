"""The main figures of a run, each beside what one would get without the models."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from e2t_lib.report.html import Html, html, section, table

MAP, TEXT, USAGE = "02_umap_training", "04_correction_loop_evaluation", "05_usage"  # the stages that wrote them

Measured = tuple[float, float]  # a mean and its standard error; 0 where the stage knows none


@dataclass(frozen=True)
class Figure:
    """A figure, where it stands in its stage's metrics, and what it is compared with.

    Attributes:
        name, reading: what it is, in a few words and in one sentence.
        stage: whose metrics hold it and its baselines.
        path: the keys that lead to it.
        beside: the same of each baseline, by name.
        ceiling: the same of what no model of its kind can be expected to pass.
        less_is_better: of errors.
    """

    name: str
    reading: str
    stage: str
    path: tuple[str, ...]
    beside: Mapping[str, tuple[str, ...]]
    ceiling: tuple[str, ...] = ()
    less_is_better: bool = False


def _of_the_map(name: str, reading: str, key: str, beside: dict[str, tuple[str, ...]], **options: Any) -> Figure:
    beside = beside | {
        "the same after the guide's literal recipe": ("encoder_only", "held_out", key),
        "the documents that it was trained on": ("training", key),
    }
    return Figure(name, reading, MAP, ("held_out", key), beside, **options)


def _of_texts(name: str, reading: str, key: str, beside: dict[str, str]) -> Figure:
    paths = {name: ("baselines", baseline, key) for name, baseline in beside.items()}
    return Figure(name, reading, TEXT, (key,), paths)


def _of_points(name: str, reading: str, key: str, **options: Any) -> Figure:
    others = {"the nearest document's text": "nearest document", "real documents, held out": "real, held out"}
    paths = {name: ("measured", other, key) for name, other in others.items()}
    return Figure(name, reading, USAGE, ("measured", "generated", key), paths, **options)


NEAREST = {"the nearest training document": "nearest_neighbor"}
FIGURES = (
    _of_the_map(
        "Map: embedding expected at a place",
        "Mean cosine between what the decoder expects where a held-out document lies and that document's own embedding: "
        "1 if they were the same; the ceiling is what any function of two dimensions can be expected to reach.",
        "avg_cosine_similarity",
        {"kNN regression": ("held_out", "knn_cosine"), "the mean vector": ("held_out", "mean_vector_cosine")},
        ceiling=("held_out", "ceiling"),
    ),
    _of_the_map(
        "Map: place of an embedding",
        "Median distance between where the encoder puts a held-out document and where the layout has it, in distances "
        "between neighbouring documents.",
        "coordinate_error_median",
        {},
        less_is_better=True,
    ),
    _of_the_map(
        "Map: neighbours kept",
        "Of the ten training documents nearest to a held-out document's place, the share that are still among the ten "
        "nearest where the encoder puts it.",
        "neighbor_recall",
        {},
    ),
    _of_texts(
        "Text: cosine with the target",
        "Mean cosine between the embedding that a text was asked for and that of the text written: 1 if they were the "
        "same.",
        "cosine",
        NEAREST | {"the mean vector": "mean_vector", "a random pair": "random_pair"},
    ),
    _of_texts(
        "Text: BLEU",
        "How many runs of one to four words the text shares with the document that the embedding was made of, from 0 to "
        "100: few, for an embedding keeps the subject and not the wording.",
        "bleu",
        NEAREST,
    ),
    _of_texts(
        "Text: token F1",
        "How many words the text shares with the document that the embedding was made of, from 0 to 1.",
        "token_f1",
        NEAREST,
    ),
    _of_points(
        "Placement, by the encoder",
        "Median distance from a point of the map to where the text written for it lands, in distances between "
        "neighbouring documents; it flatters texts that were aimed at this encoder.",
        "placement_error",
        less_is_better=True,
    ),
    _of_points(
        "Placement, by umap-learn",
        "The same distance by a judge that no text was aimed at: umap-learn's own transform.",
        "judge_error",
        less_is_better=True,
    ),
)


def against_baselines(metrics: dict[str, Any]) -> str:
    """Each main figure that the stages wrote, with better or worse than each of its baselines; "" if they wrote none.

    Args:
        metrics: stage name -> its figures.
    """
    articles = [_article(figure, metrics.get(figure.stage, {})) for figure in FIGURES]
    if not any(articles):
        return ""
    note = (
        "Of documents that no training learned from, and of points of the map. About the same: no farther apart than "
        "twice their standard error. Where none is given, a small difference may be chance."
    )
    body = f'<p class="note">{note}</p><div class="comparisons">{"".join(articles)}</div>'
    return section("Against baselines", body)


def _article(figure: Figure, figures: dict[str, Any]) -> str:
    own = _found(figures, figure.path)
    if own is None:
        return ""
    sense = "less is better" if figure.less_is_better else "more is better"
    head = f"<h3><span>{html(figure.name)}</span><span>{_shown(own)}</span></h3>"
    reading = f'<p class="note">{html(figure.reading)} ({sense.capitalize()}.)</p>'
    rows = list(_compared(figure, own, figures))
    return f"<article>{head}{reading}{table(rows, ('beside', '', 'this run is')) if rows else ''}</article>\n"


def _compared(figure: Figure, own: Measured, figures: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for name, path in figure.beside.items():
        if (other := _found(figures, path)) is not None:
            words = verdict(own, other, figure.less_is_better)
            yield name, _shown(other), Html(f'<span class="{words.split()[-1]}">{words}</span>')
    ceiling = _found(figures, figure.ceiling) if figure.ceiling else None
    if ceiling and ceiling[0] > 0:
        yield "the estimated ceiling", _shown(ceiling), f"{own[0] / ceiling[0]:.0%} of it"


def verdict(own: Measured, other: Measured, less_is_better: bool = False) -> str:
    """better, worse or about the same: no farther apart than twice the standard error of the difference."""
    gain = other[0] - own[0] if less_is_better else own[0] - other[0]
    if abs(gain) <= 2 * math.hypot(own[1], other[1]):
        return "about the same"
    return "better" if gain > 0 else "worse"


def _found(figures: Any, path: tuple[str, ...]) -> Measured | None:
    """The figure at the end of a path; None where a stage has not written it."""
    for key in path:
        figures = figures.get(key) if isinstance(figures, dict) else None
    if isinstance(figures, dict):
        return figures["mean"], figures["standard_error"]
    return None if figures is None else (figures, 0.0)


def _shown(measured: Measured) -> str:
    mean, error = measured
    return f"{mean:.3g} ± {error:.1g}" if error else f"{mean:.3g}"
