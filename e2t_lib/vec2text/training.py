"""The one training loop of Vec2Text: evaluate, checkpoint, step, log.

Hugging Face Accelerate owns devices, processes and mixed precision, so that the same loop runs on two CPU
cores, on a GPU, and under `accelerate launch`.
"""

import json
import logging
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, write_json
from e2t_lib.hardware import processor_has_bf16
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.batches import LengthBuckets, PairDataset
from e2t_lib.vec2text.model import BagOfTokens, ConditionedLM

CHECKPOINT_SECONDS = 30.0  # a killed run loses at most this; 0.3 s a checkpoint for the embedded base


Learner = ConditionedLM | BagOfTokens


@dataclass
class History:
    """Losses in nats a token.

    Attributes:
        epoch: 1, 2 and so on.
        loss: of training, averaged over each epoch.
        val_loss: of held-out texts, at the end of each epoch.
        step: optimiser steps taken by the end of each epoch.
        step_loss: of training, one a step.
    """

    epoch: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)


@dataclass
class _Progress:
    """Where a run stands; what a checkpoint must know beside the weights."""

    epoch: int = 0
    batch: int = 0  # of the epoch
    step: int = 0  # of the run
    seconds: float = 0.0  # of the run
    loss_sum: float = 0.0  # of the epoch so far
    history: History = field(default_factory=History)


def train(
    model: Learner,
    training: PairDataset,
    validation: PairDataset,
    settings: Vec2TextSettings,
    *,
    name: str = "vec2text",
    checkpoint_dir: Path | None = None,
    resume: bool = False,
) -> History:
    """Fit `model` in place.

    Args:
        model: starts as given; ends with the weights of the last step.
        training: pairs to learn from.
        validation: held-out pairs, whose loss is measured at the end of every epoch.
        settings: epochs, batch size, learning rates, seed; an end by steps or by the clock.
        name: of the progress bar.
        checkpoint_dir: where to keep the state; None keeps none.
        resume: go on from the checkpoint there, if there is one. A resumed run takes the steps that the
            uninterrupted one would have taken.

    Returns:
        The loss curves, with one entry an epoch, and one a step.

    Raises:
        E2TError: a gradient that is not finite.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.utils import set_seed

    set_seed(settings.seed)
    unused = DistributedDataParallelKwargs(
        find_unused_parameters=True
    )  # the corrector's, in a batch without hypotheses
    accelerator = Accelerator(mixed_precision="bf16" if bf16_pays() else "no", kwargs_handlers=[unused])
    buckets = LengthBuckets(training.lengths, settings.batch_size, settings.seed, settings.batch_tokens)
    optimiser = _optimiser(model, settings)
    # Its own generator: else the start of an epoch draws from the global one, and a resumed run's dropout differs.
    loader = DataLoader(training, batch_sampler=buckets, collate_fn=training.collate, generator=torch.Generator())
    model, optimiser, loader = accelerator.prepare(model, optimiser, loader)
    if settings.minutes and accelerator.num_processes > 1:
        raise E2TError("minutes: several processes do not stop at the same step; give epochs or max_steps")
    steps = min(settings.epochs * len(loader), settings.max_steps or settings.epochs * len(loader))
    progress = _Progress()
    if resume and checkpoint_dir and (checkpoint_dir / "progress.json").exists():
        progress = _restore(accelerator, checkpoint_dir)

    clock = last_checkpoint = time.monotonic()
    bar = tqdm(total=steps, initial=progress.step, desc=name, unit="step", disable=None)
    while not (done := _share_done(progress, settings, steps)) >= 1:
        model.train()
        buckets.set_epoch(progress.epoch)
        for batch in accelerator.skip_first_batches(loader, progress.batch):
            _set_learning_rates(optimiser, settings, done, steps)
            loss = model(**batch)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
            if not math.isfinite(norm):  # before the step: one makes every weight NaN, and then the checkpoint's
                raise E2TError(
                    f"{name}: the gradient of step {progress.step + 1} is not finite (loss {loss.item()}), and the step was "
                    f"not taken; lower learning_rate, now {settings.learning_rate}"
                )
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            progress.step, progress.batch = progress.step + 1, progress.batch + 1
            clock, progress.seconds = time.monotonic(), progress.seconds + time.monotonic() - clock
            progress.loss_sum += loss.item()
            progress.history.step_loss.append(round(loss.item(), 4))
            bar.update()
            bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.3f}", refresh=False)
            if (done := _share_done(progress, settings, steps)) >= 1:
                break
            if checkpoint_dir and time.monotonic() - last_checkpoint > CHECKPOINT_SECONDS:
                _checkpoint(accelerator, checkpoint_dir, progress)
                last_checkpoint = time.monotonic()
        _close_epoch(progress, validation_loss(accelerator.unwrap_model(model), validation, settings.batch_size))
        if checkpoint_dir:
            _checkpoint(accelerator, checkpoint_dir, progress)
    bar.close()
    # Accelerate has put autocast around `forward`; what is used and saved computes in full precision.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False).eval()
    return progress.history


@torch.inference_mode()
def validation_loss(model: Learner, pairs: PairDataset, batch_size: int) -> float:
    """Mean loss of held-out pairs, in nats a token."""
    from accelerate.utils import send_to_device

    model.eval()
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    order = sorted(range(len(pairs)), key=lambda row: len(pairs.tokens[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        count = sum(len(pairs.tokens[row]) for row in rows)
        batch = send_to_device(pairs.collate(rows), device)
        total, tokens = total + model(**batch).item() * count, tokens + count
    return total / tokens


def bf16_pays() -> bool:
    """True where training and writing are faster in bf16: on a GPU or a processor with instructions for it.

    A training step of the embedded base takes two cores with AVX-512 BF16 (Zen 4) 1 / 1.7 of the time; where it is
    emulated, more than ten seconds.
    """
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else processor_has_bf16()


def _optimiser(model: Learner, settings: Vec2TextSettings) -> torch.optim.Optimizer:
    groups = model.parameter_groups(settings)
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True
    )


def _share_done(progress: _Progress, settings: Vec2TextSettings, steps: int) -> float:
    """How much of the run lies behind, by steps or by the clock, whichever ends first."""
    by_clock = progress.seconds / (60 * settings.minutes) if settings.minutes else 0.0
    return max(progress.step / steps, by_clock)


def _set_learning_rates(optimiser: Any, settings: Vec2TextSettings, done: float, steps: int) -> None:
    """Linear warm-up, then cosine decay to a tenth."""
    warmup = max(settings.warmup, 1 / steps)
    if done < warmup:
        factor = (done + 1 / steps) / warmup
    else:
        factor = 0.1 + 0.45 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * group["rate"] * min(factor, 1.0)


def _close_epoch(progress: _Progress, val_loss: float) -> None:
    progress.history.epoch.append(progress.epoch + 1)
    progress.history.loss.append(progress.loss_sum / max(progress.batch, 1))
    progress.history.val_loss.append(val_loss)
    progress.history.step.append(progress.step)
    progress.epoch, progress.batch, progress.loss_sum = progress.epoch + 1, 0, 0.0


def _checkpoint(accelerator: Any, folder: Path, progress: _Progress) -> None:
    if not accelerator.is_main_process:
        return
    record = {**vars(progress), "history": vars(progress.history)}
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights, which are meant
    with atomic_folder(folder) as new:
        accelerator.save_state(str(new))
        write_json(new / "progress.json", record)


def _restore(accelerator: Any, folder: Path) -> _Progress:
    accelerator.load_state(str(folder))
    record = json.loads((folder / "progress.json").read_text())
    return _Progress(**{**record, "history": History(**record["history"])})


def remove_checkpoint(folder: Path) -> None:
    """Forget a run: what it leaves is the saved model."""
    shutil.rmtree(folder, ignore_errors=True)
