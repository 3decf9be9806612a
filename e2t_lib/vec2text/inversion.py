"""Vec2Text in the correction loop: what it proposes for a target, and how its texts are edited."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from e2t_lib.settings import CorrectionSettings
from e2t_lib.vec2text.correction import Aim, CorrectionResult, Propose, correct, correction_steps
from e2t_lib.vec2text.editing import Editor, beyond
from e2t_lib.vec2text.writing import Sampling

if TYPE_CHECKING:
    from e2t_lib.vec2text.estimator import Vec2Text

STEP = 0.5  # residuals past the target that texts are written for without a corrector: .01 to .02 of cosine a step at first


def invert(
    model: "Vec2Text",
    targets: np.ndarray,
    settings: CorrectionSettings,
    *,
    aims: Sequence[Aim] | None = None,
    progress: bool = False,
) -> list[CorrectionResult]:
    """A text for each of n targets, or of n times several; see `correct`. Seeded by the settings."""
    propose = _proposals(model, settings)
    edit = Editor(model, settings)
    return correct(targets, propose, model.embedder.encode, settings, edit=edit, aims=aims, progress=progress)


def inversion_steps(
    model: "Vec2Text", targets: np.ndarray, settings: CorrectionSettings, *, aims: Sequence[Aim]
) -> Iterator[list[CorrectionResult]]:
    """As `invert`, for a few texts: the results after each correction step."""
    propose = _proposals(model, settings)
    edit = Editor(model, settings)
    yield from correction_steps(targets, propose, model.embedder.encode, settings, edit=edit, aims=aims)


def _proposals(model: "Vec2Text", settings: CorrectionSettings) -> Propose:
    """Texts for targets: from nothing, by the corrector, or, without one, aimed past the target by the residual."""
    sampling = Sampling(
        settings.temperature, min_length=settings.min_length, max_length=settings.max_length, whole=settings.whole
    )
    model.noise.manual_seed(settings.seed)

    def propose(targets: np.ndarray, temperatures: np.ndarray, known: tuple[list[str], np.ndarray] | None) -> list[str]:
        if known is None or model.settings.corrector:
            return model.write(targets, sampling, temperatures=temperatures, hypotheses=known)
        return model.write(beyond(targets, known[1], STEP), sampling, temperatures=temperatures)

    return propose
