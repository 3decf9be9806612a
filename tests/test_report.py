"""The report's comparison with baselines: the words must be those of the figures."""

import re
from html import unescape

import pytest

from e2t_lib.report.baselines import FIGURES, MAP, TEXT, USAGE, against_baselines, verdict


@pytest.mark.parametrize(
    ("own", "other", "less_is_better", "words"),
    [
        ((0.6, 0.0), (0.5, 0.0), False, "better"),
        ((0.6, 0.0), (0.5, 0.0), True, "worse"),
        ((0.4, 0.01), (0.5, 0.01), False, "worse"),
        ((0.4, 0.01), (0.5, 0.01), True, "better"),
        ((0.49, 0.01), (0.5, 0.0), False, "about the same"),
        ((0.5, 0.0), (0.5, 0.0), True, "about the same"),
    ],
)
def test_a_verdict_says_which_is_better_and_when_nobody_can_tell(own, other, less_is_better, words):
    assert verdict(own, other, less_is_better) == words


def rows(page: str) -> dict[str, list[tuple[str, str, str]]]:
    """{figure: [(baseline, its value, verdict)]} as a reader sees them."""
    shown = {}
    for article in re.findall(r"<article>.*?</article>", page, re.DOTALL):
        cells = [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", article)]
        shown[re.search(r"<h3><span>(.*?)</span>", article)[1]] = list(zip(*[iter(cells)] * 3, strict=True))
    return shown


def test_what_the_stages_measure_is_compared_baseline_by_baseline(trained):
    """Of real models, so that a figure that changes its name is missed here."""
    measured = trained[1]
    recipe = {"encoder_only": {"held_out": measured["parametric_umap"]["held_out"]}}
    placement = {
        "generated": {"placement_error": 1.0, "judge_error": 4.0},
        "nearest document": {"placement_error": 2.0, "judge_error": 3.5},
        "real, held out": {"placement_error": 3.0, "judge_error": 4.0},
    }
    metrics = {MAP: measured["parametric_umap"] | recipe, TEXT: measured["vec2text"], USAGE: {"measured": placement}}
    shown = rows(against_baselines(metrics))
    assert list(shown) == [figure.name for figure in FIGURES]
    for figure in FIGURES:
        names = [*figure.beside, "the estimated ceiling"] if figure.ceiling else list(figure.beside)
        assert [name for name, _, _ in shown[figure.name]] == names
    held_out = measured["parametric_umap"]["held_out"]
    of_it, knn = shown[FIGURES[0].name][-1], shown[FIGURES[0].name][0]
    assert of_it[2] == f"{held_out['fraction_of_ceiling']:.0%} of it" and knn[1] == f"{held_out['knn_cosine']:.3g}"
    assert (knn[2] == "better") == (held_out["avg_cosine_similarity"] > held_out["knn_cosine"])
    assert [row[2] for row in shown["Placement, by the encoder"]] == ["better", "better"]
    assert [row[2] for row in shown["Placement, by umap-learn"]] == ["worse", "about the same"]


def test_what_no_stage_wrote_is_left_out():
    assert against_baselines({"01_count": {"step": 1.0}}) == ""
    shown = rows(against_baselines({MAP: {"held_out": {"avg_cosine_similarity": 0.5, "knn_cosine": 0.6}}}))
    assert shown == {FIGURES[0].name: [("kNN regression", "0.6", "worse")]}
