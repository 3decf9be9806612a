"""The training loop, and the recipe: autoencoder, then the layout in both directions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from e2t_lib.parametric_umap.checkpoint import Checkpoint, History, Progress
from e2t_lib.parametric_umap.surface import MeanSurface
from e2t_lib.settings import MapSettings

CHECKPOINT_EVERY = 10  # epochs
PIECE = 65_536  # rows that are copied and hidden in part at a time: a million at once would take 2 GB
# (embeddings, their scaled coordinates, mask or None, places, embeddings expected there) -> scalar
Loss = Callable[[Any, Any, Any, Any, Any], Any]
# (generator, rows) -> (rows, width); or places (rows, 2), and the embeddings expected there (rows, d)
Mask = Callable[[np.random.Generator, int], np.ndarray]
Sample = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def no_places(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """None."""
    return np.empty((rows, 0), np.float32), np.empty((rows, 0), np.float32)


@dataclass(frozen=True)
class Step:
    """One step of the recipe: which networks learn, from what, behind what mask, at what places, for how many epochs."""

    name: str
    networks: tuple[keras.Model, ...]
    loss: Loss
    epochs: int
    mask: Mask
    sample: Sample = no_places

    @property
    def trainable(self) -> list[Any]:
        return [variable for network in self.networks for variable in network.trainable_variables]


@dataclass(frozen=True)
class Rows:
    """Embeddings along the map's directions, (n, k), and scaled coordinates (n, 2), float32.

    Both stay in numpy, and each piece of an epoch carries its own rows into the compiled program: held there as
    variables, a million rows stood in memory three times over, and an epoch was no faster.
    """

    embeddings: np.ndarray
    coordinates: np.ndarray

    def __len__(self) -> int:
        return len(self.coordinates)


def recipe(
    encoder: keras.Model, decoder: keras.Model, surface: MeanSurface, settings: MapSettings, *, unit: bool
) -> list[Step]:
    """The training guide's steps, with the decoder not left behind.

    1. autoencoder: ||decoder(encoder(x)) - x||^2, its codes held to the layout, too: 10 ||encoder(x) - xy||.
    2. fine-tuning on the layout: the encoder's ||encoder(x) - xy||, the decoder's ||decoder(p) - m||^2, and the round trip's
       8.5 ||encoder(answer(p)) - p||, for which each goes to meet the other. p is any place between documents, new ones every
       epoch, m the local mean of the embeddings there, which a document's own embedding is a noisy sample of, and the answer
       the decoder's output averaged with m, which it cannot move. Not squared: between clusters the mean of two guesses is
       nowhere, their median is in one.

    `encoder_only` is the guide's literal recipe: an encoder that knows nothing of the layout at first, its codes held to
    mean 0 and variance 1 in the first step, and ||encoder(x) - xy|| alone in the second.

    A random part of each embedding is hidden from the encoder, so that a few hundred rows generalise. Held-out rows of
    8,000 documents, first split: a round trip closed at documents' own places only is .85 neighbour distances long
    instead of .42, and a step of the decoder alone before the second changes nothing.

    Args:
        encoder, decoder: trained in place.
        surface: the local means.
        settings: see `MapSettings`.
        unit: embeddings are unit vectors, so the encoder meets the answer normalised.
    """

    hidden = round(256 * settings.dropout)  # of 256: bytes are drawn five times as fast as floats

    def autoencoder_loss(x: Any, xy: Any, kept: Any, places: Any, expected: Any) -> Any:
        code = encoder(masked(x, kept))
        anchor = distance_from_standard(code) if settings.encoder_only else 10 * mean_length(code - xy)
        return mean_square(decoder(code) - x) + anchor

    def encoder_loss(x: Any, xy: Any, kept: Any, places: Any, expected: Any) -> Any:
        return mean_length(encoder(masked(x, kept)) - xy)

    def layout_loss(x: Any, xy: Any, kept: Any, places: Any, expected: Any) -> Any:
        decoded = decoder(places)
        answer = averaged(decoded, expected, settings.surface)
        back = encoder(tf.math.l2_normalize(answer, axis=-1) if unit else answer)
        miss = encoder_loss(x, xy, kept, places, expected)
        return mean_square(decoded - expected) + miss + 8.5 * mean_length(back - places)

    def masked(x: Any, kept: Any) -> Any:
        return x if kept is None else x * tf.cast(kept, x.dtype) / (1 - hidden / 256)

    def mask(random: np.random.Generator, rows: int) -> np.ndarray:
        return random.integers(0, 256, (rows, encoder.input_shape[-1]), dtype=np.uint8) >= hidden

    joint = Step("autoencoder", (encoder, decoder), autoencoder_loss, settings.epochs, mask)
    if settings.encoder_only:
        return [joint, Step("encoder", (encoder,), encoder_loss, settings.fine_tune_epochs, mask)]
    return [joint, Step("layout", (encoder, decoder), layout_loss, settings.fine_tune_epochs, mask, surface.sample)]


def averaged(decoded: Any, expected: Any, share: float) -> Any:
    """What the map answers: the decoder's output, and to a share what is expected there by the documents around."""
    return (1 - share) * decoded + share * expected


def mean_square(difference: Any) -> Any:
    """Mean over rows of the squared length."""
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=-1))


def mean_length(difference: Any) -> Any:
    """Mean over rows of the length, rounded off at 0, where it has no gradient."""
    return tf.reduce_mean(tf.sqrt(tf.reduce_sum(tf.square(difference), axis=-1) + 1e-6))


def distance_from_standard(code: Any) -> Any:
    """Sum over both axes of mean^2 + (variance - 1)^2: keeps an autoencoder's codes where the layout's will be."""
    mean, variance = tf.nn.moments(code, axes=[0])
    return tf.reduce_sum(tf.square(mean) + tf.square(variance - 1))


def train(
    encoder: keras.Model,
    decoder: keras.Model,
    training: Rows,
    held_out: Rows,
    surface: MeanSurface,
    settings: MapSettings,
    checkpoint: Checkpoint,
    *,
    unit: bool,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Run the `recipe` on the two networks, in place; each step ends on its best held-out weights.

    Returns:
        step name -> {"loss": one value an epoch, masked; "val_loss": on the held-out rows and their places, not masked}.
    """
    done, values = checkpoint.load() if resume else (Progress(), [])
    expected = surface(held_out.coordinates)
    for index, step in enumerate(recipe(encoder, decoder, surface, settings, unit=unit)):
        if index < done.step:
            continue
        optimizer = _optimizer(step, len(training), settings)
        variables = [*encoder.variables, *decoder.variables, *optimizer.variables]
        if values:
            _assign(variables, values)
            values = []
        else:
            done = Progress(step=index, history=done.history | {step.name: {"loss": [], "val_loss": []}})
        run_batches, evaluate = _compiled(step, optimizer)
        curves = done.history[step.name]
        bar = tqdm(desc=f"map: {step.name}", total=step.epochs, initial=done.epoch, disable=None if progress else True)
        while not _ended(curves["val_loss"], step.epochs, settings.patience):
            losses = [float(run_batches(*piece)) for piece in _epoch(step, training, settings, done)]
            curves["loss"].append(float(np.mean(losses)))
            curves["val_loss"].append(float(evaluate(held_out.embeddings, held_out.coordinates, expected)))
            done.epoch += 1
            if curves["val_loss"][-1] < done.best_loss:
                done.best_loss = curves["val_loss"][-1]
                done.best = [np.asarray(variable) for variable in step.trainable]
            if done.epoch % CHECKPOINT_EVERY == 0 or _ended(curves["val_loss"], step.epochs, settings.patience):
                checkpoint.save(done, variables)
            bar.set_postfix(loss=curves["loss"][-1], held_out=curves["val_loss"][-1], refresh=False)
            bar.update()
        bar.close()
        if done.best:
            _assign(step.trainable, done.best)
    return done.history


def _compiled(step: Step, optimizer: Any) -> tuple[Any, Any]:
    # Keras turns XLA off on a CPU unless asked, and many batches a call leave no Python between them: .8 ms a step
    # against 1.0 without XLA. Random numbers come from outside, since XLA draws them slowly on a CPU: Keras Dropout
    # inside made it 8 ms.
    @tf.function(jit_compile=True)
    def run_batches(embeddings: Any, coordinates: Any, masks: Any, places: Any, expected: Any) -> Any:
        total = tf.constant(0.0)
        for i in tf.range(tf.shape(embeddings)[0]):
            with tf.GradientTape() as tape:
                loss = step.loss(embeddings[i], coordinates[i], masks[i], places[i], expected[i])
            optimizer.apply(tape.gradient(loss, step.trainable), step.trainable)
            total += loss
        return total / tf.cast(tf.shape(embeddings)[0], tf.float32)

    @tf.function
    def evaluate(embeddings: Any, coordinates: Any, expected: Any) -> Any:
        return step.loss(embeddings, coordinates, None, coordinates, expected)

    return run_batches, evaluate


def _optimizer(step: Step, rows: int, settings: MapSettings) -> Any:
    batches = -(-rows // settings.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, max(1, batches * step.epochs))
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    optimizer.build(step.trainable)
    return optimizer


def _ended(val_losses: list[float], epochs: int, patience: int) -> bool:
    """Whether all epochs are done, or the best one lies `patience` epochs back; 0: no patience is ever lost."""
    stalled = patience and val_losses and len(val_losses) - 1 - int(np.argmin(val_losses)) >= patience
    return len(val_losses) >= epochs or bool(stalled)


def _epoch(step: Step, rows: Rows, settings: MapSettings, done: Progress) -> Iterator[tuple[np.ndarray, ...]]:
    """The next epoch in pieces: embeddings, coordinates, masks, places and what is expected there.

    Each is (batches, batch size, width).

    Every row comes once; the last batches are filled up from the start of the shuffle, so that all pieces are alike
    and their program is compiled once. Seeded by (seed, step, epoch), so that a resumed run sees what an
    uninterrupted one does.
    """
    random = np.random.default_rng([settings.seed, done.step, done.epoch])
    size = min(settings.batch_size, len(rows))
    batches = -(-len(rows) // size)
    pieces = -(-batches // max(PIECE // size, 1))
    order = np.resize(random.permutation(len(rows)), (pieces, -(-batches // pieces), size))
    for piece in order:
        drawn = step.mask(random, piece.size), *step.sample(random, piece.size)
        masks, places, expected = (one.reshape(*piece.shape, one.shape[1]) for one in drawn)
        yield rows.embeddings[piece], rows.coordinates[piece], masks, places, expected


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
