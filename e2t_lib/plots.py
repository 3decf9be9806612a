"""Every figure, in one style: each function takes data and returns a matplotlib Figure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, ACCENT, SECOND = "#22313f", "#c9d1d9", "#c1440e", "#1f77b4"


def use_style() -> None:
    """The style of all figures; call it once in a notebook."""
    sns.set_theme(style="ticks", context="notebook", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "axes.edgecolor": INK,
            "text.color": INK,
            "axes.labelcolor": INK,
            "legend.frameon": False,
        }
    )


def _map_axes(ax: "Axes") -> None:
    ax.set_aspect("equal")
    ax.set(xlabel="x", ylabel="y")


STAGES = {  # of the flow, with what each leaves
    "data checks": "sound files",
    "umap training": "a map that goes both ways",
    "vec2text training": "text of an embedding",
    "correction loop": "text that re-embeds there",
    "usage": "text of a place",
}


def where_we_are(number: int) -> "Figure":
    """The flow of the five notebooks, with one of them marked, 1 to 5."""
    figure, ax = plt.subplots(figsize=(10, 1.3))
    for place, (name, leaves) in enumerate(STAGES.items(), start=1):
        here = place == number
        box = {"boxstyle": "round,pad=0.45", "fc": ACCENT if here else "white", "ec": ACCENT if here else FAINT}
        ax.text(place, 0.62, f"{place}  {name}", ha="center", va="center", bbox=box, color="white" if here else INK)
        ax.text(place, 0.05, leaves, ha="center", va="center", fontsize=9, color=ACCENT if here else INK)
        if place > 1:
            arrow = {"arrowstyle": "->", "color": INK}
            ax.annotate("", (place - 0.43, 0.62), (place - 0.57, 0.62), arrowprops=arrow)
    ax.set(xlim=(0.45, 5.55), ylim=(-0.2, 1))
    ax.axis("off")
    return figure


def fields_of(categories: Sequence[Sequence[str]], keep: int = 8) -> list[str]:
    """One field a document: the archive of its first category, the rarer ones as "other"."""
    archives = [row[0].split(".")[0] if row else "unknown" for row in categories]
    common = {name for name, _ in Counter(archives).most_common(keep)}
    return [name if name in common else "other" for name in archives]


def map_of_documents(coordinates: np.ndarray, fields: Sequence[str], title: str = "The map") -> "Figure":
    """Documents at their layout coordinates, coloured and labelled by field."""
    figure, ax = plt.subplots(figsize=(8, 6.5))
    names = [name for name, _ in Counter(fields).most_common()]
    labels = np.asarray(fields)
    size = float(np.clip(12_000 / len(coordinates), 3, 30))
    for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        points = coordinates[labels == name]
        ax.scatter(
            points[:, 0], points[:, 1], s=size, color=colour, alpha=0.7, linewidths=0, label=f"{name} ({len(points)})"
        )
        ax.annotate(
            name,
            np.median(points, axis=0),
            ha="center",
            weight="bold",
            fontsize=9,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour, "alpha": 0.85},
        )
    _map_axes(ax)
    ax.set_title(title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2, title="field (documents)")
    return figure


def coverage(coordinates: np.ndarray, lonely: np.ndarray, title: str) -> "Figure":
    """How many documents lie where, in hexagons, and which of them, by row, lie far from all others."""
    figure, ax = plt.subplots(figsize=(8, 6))
    cells = ax.hexbin(coordinates[:, 0], coordinates[:, 1], gridsize=28, mincnt=1, cmap="viridis", linewidths=0.2)
    ax.scatter(
        coordinates[lonely, 0], coordinates[lonely, 1], s=70, facecolors="none", edgecolors=ACCENT, linewidths=1.8,
        label=f"the {len(lonely)} loneliest documents",
    )  # fmt: skip
    figure.colorbar(cells, ax=ax, label="documents in a cell")
    _map_axes(ax)
    ax.set_title(title)
    ax.legend(loc="upper right")
    return figure


def histogram(values: Mapping[str, np.ndarray], xlabel: str, title: str) -> "Figure":
    """Overlaid histograms of a few samples of the same quantity."""
    figure, ax = plt.subplots(figsize=(7, 3.5))
    for (name, sample), colour in zip(values.items(), sns.color_palette("colorblind"), strict=False):
        ax.hist(sample, bins=40, density=True, alpha=0.55, color=colour, label=name)
    ax.set(xlabel=xlabel, ylabel="density", title=title)
    if len(values) > 1:
        ax.legend()
    return figure


def loss_curves(history: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str = "loss") -> "Figure":
    """Training and held-out loss, one panel a step."""
    figure, axes = plt.subplots(1, len(history), figsize=(4.6 * len(history), 3.4), squeeze=False)
    for ax, (step, curves) in zip(axes[0], history.items(), strict=True):
        epochs = np.arange(1, len(curves["loss"]) + 1)
        marker = "o" if len(epochs) < 12 else None
        ax.plot(epochs, curves["loss"], color=SECOND, marker=marker, label="training")
        ax.plot(epochs, curves["val_loss"], color=ACCENT, marker=marker, label="held out")
        ax.set(title=step.replace("_", " "), xlabel="epoch", ylabel=ylabel)
        ax.set_xlim(0.5, len(epochs) + 0.5)  # a single epoch, too, is a whole number
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.legend()
    return figure


def loss_by_step(rounds: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str = "nats a token") -> "Figure":
    """Training loss at every step, its running mean, and the held-out loss at the end of each epoch; a panel a round."""
    figure, axes = plt.subplots(1, len(rounds), figsize=(4.6 * len(rounds), 3.4), squeeze=False)
    for ax, (name, history) in zip(axes[0], rounds.items(), strict=True):
        losses = np.asarray(history["step_loss"])
        steps, width = np.arange(1, len(losses) + 1), min(max(len(losses) // 12, 2), len(losses))
        ax.plot(steps, losses, color=FAINT, linewidth=1, label="training, each step")
        mean = np.convolve(losses, np.ones(width) / width, mode="valid")
        ax.plot(steps[width - 1 :], mean, color=SECOND, label=f"training, mean of {width}")
        ax.plot(history["step"], history["val_loss"], color=ACCENT, marker="o", label="held out")
        ax.set(title=name, xlabel="optimiser step", ylabel=ylabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=9)
    return figure


def layout_against_prediction(coordinates: np.ndarray, predicted: np.ndarray, title: str) -> "Figure":
    """Where documents stand on the layout, and where the encoder puts them: one short line each."""
    figure, ax = plt.subplots(figsize=(7.5, 6))
    for start, end in zip(coordinates, predicted, strict=True):
        ax.plot(*np.stack([start, end]).T, color=FAINT, linewidth=0.8, zorder=1)
    ax.scatter(coordinates[:, 0], coordinates[:, 1], s=14, color=SECOND, label="layout", zorder=2)
    ax.scatter(predicted[:, 0], predicted[:, 1], s=14, color=ACCENT, marker="x", label="encoder", zorder=2)
    _map_axes(ax)
    ax.set_title(title)
    ax.legend()
    return figure


def bars(
    values: Mapping[str, float], xlabel: str, title: str, highlight: str, errors: Mapping[str, float] | None = None
) -> "Figure":
    """A figure of merit and its baselines, one bar each, with the number at its end."""
    figure, ax = plt.subplots(figsize=(7, 0.45 * len(values) + 1.2))
    names = list(values)
    colours = [ACCENT if name == highlight else FAINT for name in names]
    spread = [errors.get(name, 0.0) for name in names] if errors else None
    ax.barh(names, [values[name] for name in names], color=colours, xerr=spread, ecolor=INK)
    for row, name in enumerate(names):
        ax.text(values[name] + (spread[row] if spread else 0), row, f" {values[name]:.2f}", va="center")
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set(xlabel=xlabel, title=title)
    return figure


def grid_over(coordinates: np.ndarray, steps: int = 80) -> tuple[np.ndarray, tuple[int, int]]:
    """Points of a regular grid over the map with a margin of 5 %, (steps * steps, 2), and the grid's shape."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = 0.05 * (high - low)
    axes = np.linspace(low - margin, high + margin, steps).T
    x, y = np.meshgrid(*axes)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32), x.shape


def confidence_field(
    coordinates: np.ndarray, grid: np.ndarray, confidence: np.ndarray, shape: tuple[int, int]
) -> "Figure":
    """How sure the decoder is over the map: the length of the conditional mean at each grid point; NaN is left white."""
    figure, ax = plt.subplots(figsize=(8, 6))
    mesh = ax.pcolormesh(
        grid[:, 0].reshape(shape),
        grid[:, 1].reshape(shape),
        confidence.reshape(shape),
        cmap="viridis",
        shading="auto",
        rasterized=True,
    )
    ax.scatter(coordinates[:, 0], coordinates[:, 1], s=2, color="white", alpha=0.7, linewidths=0)
    figure.colorbar(mesh, ax=ax, label="confidence, the length of the mean")
    _map_axes(ax)
    ax.set_title("Where the decoder is sure")
    return figure


def distance_by_step(steps: Sequence[Mapping[str, float]], levels: Mapping[str, float], tolerance: float) -> "Figure":
    """Mean distance of the best text so far after each correction step, with its standard error and baselines."""
    figure, ax = plt.subplots(figsize=(7, 4))
    means = [step["mean"] for step in steps]
    ax.errorbar(
        range(len(steps)),
        means,
        yerr=[step["standard_error"] for step in steps],
        color=ACCENT,
        marker="o",
        capsize=3,
        label="correction loop",
    )
    for (name, level), style in zip(levels.items(), ["--", "-.", ":"], strict=False):
        ax.axhline(level, color=INK, linestyle=style, linewidth=1)
        ax.annotate(name.replace("_", " "), (len(steps) - 1, level), va="bottom", ha="right", fontsize=9)
    ax.axhspan(0, tolerance, color="green", alpha=0.1)
    ax.annotate("within tolerance", (0, tolerance / 2), va="center", fontsize=9)
    ax.set(xlabel="correction step", ylabel="embedding distance, 1 - cosine", title="Each step brings the text nearer")
    ax.set_xticks(range(len(steps)))
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.12))
    return figure


def distance_by_width(
    curves: Mapping[str, Sequence[Mapping[str, float]]], title: str = "A wide beam or a narrow one"
) -> "Figure":
    """Mean distance of the best text so far after each correction step, a line for each width of beam or other trial."""
    figure, ax = plt.subplots(figsize=(7, 4))
    for (name, steps), colour in zip(curves.items(), sns.color_palette("colorblind"), strict=False):
        ax.plot([step["mean"] for step in steps], marker="o", color=colour, label=name)
    ax.set(xlabel="correction step", ylabel="embedding distance, 1 - cosine", title=title)
    ax.set_xticks(range(max(map(len, curves.values()))))
    ax.legend(fontsize=9)
    return figure


def traces(results: Sequence[Any], labels: Sequence[str]) -> "Figure":
    """Single texts improving: the best cosine so far and the beam behind it, one line a text."""
    figure, ax = plt.subplots(figsize=(7.5, 4))
    for result, label, colour in zip(results, labels, sns.color_palette("colorblind"), strict=False):
        ax.plot([step.best.cosine for step in result.trace], marker="o", color=colour, label=label)
        for step in result.trace:
            beam = [hypothesis.cosine for hypothesis in step.beam]
            ax.scatter([step.iteration] * len(beam), beam, s=10, color=colour, alpha=0.35)
    ax.set(xlabel="correction step", ylabel="cosine with the target", title="Best so far (line) and beam (dots)")
    ax.set_xticks(range(max(len(result.trace) for result in results)))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def gaps_of_the_map(coordinates: np.ndarray, gaps: Sequence[Any]) -> "Figure":
    """The emptiest places inside the map, with .x, .y and .radius, as circles that no document lies in."""
    figure, ax = plt.subplots(figsize=(8, 6))
    ax.scatter(coordinates[:, 0], coordinates[:, 1], s=8, color=FAINT, linewidths=0)
    for number, gap in enumerate(gaps, start=1):
        ax.add_patch(plt.Circle((gap.x, gap.y), gap.radius, facecolor=ACCENT, alpha=0.15, edgecolor=ACCENT))
        ax.annotate(str(number), (gap.x, gap.y), ha="center", va="center", weight="bold", fontsize=9, color=SECOND)
    _map_axes(ax)
    ax.set_title(f"The {len(gaps)} emptiest places inside the map")
    return figure


def placement(coordinates: np.ndarray, asked: np.ndarray, landed: np.ndarray, titles: Sequence[str]) -> "Figure":
    """Arrows from the points asked for to where the generated texts land, over the map of documents."""
    figure, ax = plt.subplots(figsize=(9, 6.5))
    ax.scatter(coordinates[:, 0], coordinates[:, 1], s=8, color=FAINT, linewidths=0)
    ax.scatter(asked[:, 0], asked[:, 1], s=70, color=SECOND, marker="+", linewidths=2, label="asked for")
    ax.scatter(landed[:, 0], landed[:, 1], s=25, color=ACCENT, label="the text lands")
    for number, (start, end) in enumerate(zip(asked, landed, strict=True), start=1):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": ACCENT, "shrinkA": 0, "shrinkB": 3})
        ax.annotate(str(number), start, textcoords="offset points", xytext=(6, 6), weight="bold", color=SECOND)
    _map_axes(ax)
    lines = [
        f"{number}  {shorten(title, 64, placeholder=' …', break_on_hyphens=False)}"
        for number, title in enumerate(titles, start=1)
    ]
    ax.set_title("Asked for, and where the text lands")
    ax.legend(loc="upper right")
    figure.supxlabel("\n".join(lines), fontsize=9, ha="left", x=0.08)
    return figure
