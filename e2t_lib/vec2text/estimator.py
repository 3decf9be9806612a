"""Vec2Text: the face of the package; fit, invert, save, load."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from tqdm import tqdm

from e2t_lib.embedder import EMBEDDED, Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import read_json, resolve
from e2t_lib.settings import CorrectionSettings, Vec2TextSettings, override
from e2t_lib.vec2text.bases import base_model_folder, default_device, load_base
from e2t_lib.vec2text.batches import PairDataset, as_hypotheses, corrected_rows, ended, held_out_rows, tokenise
from e2t_lib.vec2text.conditioning import Conditioning, token_groups
from e2t_lib.vec2text.correction import CorrectionResult
from e2t_lib.vec2text.inversion import invert
from e2t_lib.vec2text.model import BagOfTokens, ConditionedLM
from e2t_lib.vec2text.near_misses import with_near_misses
from e2t_lib.vec2text.storage import CONFIG, load_model, save_model
from e2t_lib.vec2text.training import History, Learner, bf16_pays, remove_checkpoint, train, validation_loss
from e2t_lib.vec2text.writing import Sampling

ARCHITECTURE = (
    "prefix_length", "prefix_width", "lexical_head", "lexical_width", "lexical_rank", "length_head", "corrector",
)  # fmt: skip
LEXICAL_BATCH, LEXICAL_RATE = 256, 3e-3  # of 512 and 256 texts, 1e-3, 3e-3 and 6e-3, the best in equal time
WHOLE_WORD = "[▁Ġ][a-zA-Z]+"  # a token that begins with a space, as ▁ or as GPT-2 writes it
WRITE_BATCH, WRITE_TOKENS = 256, 16_384  # texts written at a time, and tokens of all: short ones go side by side


class Vec2Text:
    """Embeddings to text, with a correction loop.

    Args:
        model: the conditioned language model.
        tokenizer: its tokenizer.
        embedder: makes and judges embeddings.
        settings: those it was or will be trained with.
        dimension: d, length of an embedding.
    """

    def __init__(
        self, model: ConditionedLM, tokenizer: Any, embedder: Embedder, settings: Vec2TextSettings, dimension: int
    ):
        model.room(settings.max_length)  # raises where there is none
        self.model, self.tokenizer, self.embedder = model, tokenizer, embedder
        self.settings, self.dimension = settings, dimension
        self.noise = torch.Generator()
        self._fresh = False  # conditioning that has seen no text yet
        self.history, self.corrector_history = History(), History()
        self.held_out: list[int] = []
        self.documents = 0  # that training learned from
        self.trained_on = ""  # the dataset folder, which the service reads the nearest documents from

    @classmethod
    def from_base(cls, settings: Vec2TextSettings, embedder: Embedder) -> "Vec2Text":
        """An untrained model: the language model of `settings.base_model` with fresh conditioning, seeded.

        Raises:
            E2TError: the base model is neither a folder, nor cached, nor reachable, or its conditioning is another than
                the settings ask for.
        """
        folder = base_model_folder() if settings.base_model == EMBEDDED else resolve(settings.base_model)
        if (folder / CONFIG).exists():
            return cls._from_conditioned(folder, settings, embedder)
        language_model, tokenizer = load_base(settings.base_model)
        torch.manual_seed(settings.seed)
        dimension = embedder.dimension
        tokens = language_model.get_input_embeddings().weight
        groups = token_groups(tokenizer, len(tokens))
        conditioning = Conditioning(dimension, tokens.shape[1], groups, settings, tokens.std().item())
        model = ConditionedLM(language_model, conditioning, bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id)
        self = cls(model.eval(), tokenizer, embedder, settings, dimension)
        self._fresh = True
        return self

    @classmethod
    def _from_conditioned(cls, folder: Path, settings: Vec2TextSettings, embedder: Embedder) -> "Vec2Text":
        """Start from a vec2text model: its conditioning is kept, and with it the embedder it was trained for."""
        record = read_json(folder / CONFIG)
        if record["embedder"] != embedder.name:
            raise E2TError(
                f"base model {settings.base_model!r} was trained for embedder {record['embedder']!r}, not {embedder.name!r}; "
                "pass a plain language model as the base, such as minilm-decoder, or embed with the former"
            )
        architecture = {key: record["settings"].get(key, getattr(settings, key)) for key in ARCHITECTURE}
        for key, value in architecture.items():
            if (asked := getattr(settings, key)) not in (value, getattr(Vec2TextSettings(), key)):
                raise E2TError(
                    f"base model {settings.base_model!r}: its {key} is {value}, not {asked}; leave that setting alone, or "
                    "start from a plain language model, such as minilm-decoder"
                )
        settings = replace(settings, **architecture)
        model, tokenizer = load_model(folder, settings, record["dimension"])
        return cls(model.eval(), tokenizer, embedder, settings, record["dimension"])

    def fit(
        self,
        texts: Sequence[str],
        embeddings: np.ndarray,
        *,
        held_out: Sequence[int] | None = None,
        checkpoint_dir: Path | None = None,
        resume: bool = False,
    ) -> "Vec2Text":
        """Train on (embedding, text) pairs.

        Args:
            texts: n texts.
            embeddings: (n, d) float32, unit rows, of the texts.
            held_out: rows no step trains on; None: a seeded share of `settings.held_out`, at least one.
            checkpoint_dir: where a killed run finds its state again; removed when training ends.
            resume: go on from the checkpoint there, if there is one.

        Raises:
            E2TError: fewer than two pairs, or texts and embeddings that do not match.
        """
        self._check_pairs(texts, embeddings)
        self.held_out = sorted(held_out) if held_out is not None else held_out_rows(len(texts), self.settings)
        out = set(self.held_out)
        rows = [row for row in range(len(texts)) if row not in out]
        texts = self._ended(texts)
        self.documents = len(rows)
        training, validation = (self._pairs(texts, embeddings, part) for part in (rows, self.held_out))
        lexical = self.model.conditioning.lexical
        if self._fresh and lexical is not None:
            lexical.start_from_counts(training.token_counts(len(lexical.groups)))
            if self.settings.lexical_epochs:
                bags = BagOfTokens(lexical)
                self._train(bags, training, validation, self._lexical_settings(), checkpoint_dir, "lexical", resume)
        self.history = self._train(self.model, training, validation, self.settings, checkpoint_dir, "inverter", resume)
        if self.settings.corrector and self.settings.corrector_epochs:
            training, validation = (
                with_near_misses(self, [texts[row] for row in part], embeddings[part])
                for part in (corrected_rows(rows, self.settings), self.held_out)
            )
            settings = replace(
                self.settings, epochs=self.settings.corrector_epochs, minutes=self.settings.corrector_minutes
            )
            self.corrector_history = self._train(
                self.model, training, validation, settings, checkpoint_dir, "corrector", resume
            )
        if checkpoint_dir is not None:
            remove_checkpoint(checkpoint_dir)
        return self

    def _lexical_settings(self) -> Vec2TextSettings:
        """A bag is cheap and its gradient noisy: large batches, a high rate."""
        return replace(
            self.settings,
            epochs=self.settings.lexical_epochs,
            batch_size=LEXICAL_BATCH,
            batch_tokens=0,
            learning_rate=LEXICAL_RATE,
            minutes=0.0,
        )

    def _train(
        self,
        model: Learner,
        training: PairDataset,
        validation: PairDataset,
        settings: Vec2TextSettings,
        checkpoints: Path | None,
        name: str,
        resume: bool,
    ) -> History:
        folder = checkpoints / name if checkpoints else None
        return train(model, training, validation, settings, name=name, checkpoint_dir=folder, resume=resume)

    def _pairs(self, texts: Sequence[str], embeddings: np.ndarray, rows: Sequence[int]) -> PairDataset:
        chosen = [texts[row] for row in rows]
        return PairDataset(embeddings[list(rows)], chosen, self.tokenizer, self.settings.max_length)

    def _check_pairs(self, texts: Sequence[str], embeddings: np.ndarray) -> None:
        if len(texts) != len(embeddings) or len(texts) < 2:
            raise E2TError(f"{len(texts)} texts and {len(embeddings)} embeddings: training needs two pairs or more")
        if embeddings.shape[1] != self.dimension:
            raise E2TError(
                f"embeddings of {embeddings.shape[1]} dimensions, but embedder {self.embedder.name} makes {self.dimension}"
            )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def loss(self, texts: Sequence[str], embeddings: np.ndarray) -> float:
        """Mean negative log-likelihood of texts given embeddings, in nats a token."""
        self._check_pairs(texts, embeddings)
        pairs = self._pairs(self._ended(texts), embeddings, range(len(texts)))
        return validation_loss(self.model, pairs, self.settings.batch_size)

    def unigram_loss(self, texts: Sequence[str]) -> float:
        """Nats a token of a model that knows the tokens' frequencies and nothing else: their entropy."""
        counts = np.bincount(np.concatenate(list(map(self._ids, self._ended(texts)))))
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def likely_words(self, embedding: np.ndarray, count: int) -> list[str]:
        """The whole-word tokens that the lexical head raises most for an embedding, (d,), beyond their frequency."""
        lexical = self.model.conditioning.lexical
        if lexical is None:
            raise E2TError("this model has no lexical head")
        with torch.inference_mode():
            logits = lexical.logits(torch.from_numpy(self._targets(embedding)).to(self.device))
        raised = logits[0] - lexical.words.bias[lexical.groups]
        tokens = self.tokenizer.convert_ids_to_tokens(raised.argsort(descending=True).tolist())
        words = (token[1:].lower() for token in tokens if re.fullmatch(WHOLE_WORD, token) and len(token) > 3)
        return list(itertools.islice(dict.fromkeys(words), count))

    @cached_property
    def words(self) -> frozenset[str]:
        """The words, casefolded, that are one token."""
        return frozenset(
            token[1:].casefold() for token in self.tokenizer.get_vocab() if re.fullmatch(WHOLE_WORD, token)
        )

    def cut(self, texts: Sequence[str]) -> list[str]:
        """Texts as far as this model reads and writes: at most `max_length` tokens, and whole sentences of the content.

        A text is cut inside a sentence only where not one sentence after its first line fits.
        """
        tokens = map(self._ids, self._ended(texts))
        return [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokens]

    def _ended(self, texts: Sequence[str]) -> list[str]:
        return [ended(text, self.tokenizer, self.settings.max_length) for text in texts]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.settings.max_length]

    def write(
        self,
        embeddings: np.ndarray,
        sampling: Sampling | None = None,
        *,
        temperatures: np.ndarray | None = None,
        hypotheses: tuple[Sequence[str], np.ndarray] | None = None,
        seed: int | None = None,
        progress: bool = False,
    ) -> list[str]:
        """One text an embedding: written from it alone, or as the correction of another.

        Args:
            embeddings: (n, d) float32, unit rows.
            sampling: temperature, beams, length; None: the defaults, at this model's max_length.
            temperatures: (n,) float, one for each text; None: that of `sampling`.
            hypotheses: n texts to correct, and their embeddings (n, d); None: there are none.
            seed: starts the noise of sampling anew; None goes on from the call before.
            progress: show a progress bar.
        """
        sampling = sampling or Sampling(max_length=self.settings.max_length)
        if seed is not None:
            self.noise.manual_seed(seed)
        texts: list[str] = []
        batch_size = max(min(WRITE_BATCH, WRITE_TOKENS // sampling.max_length), 1)
        starts = range(0, len(embeddings), batch_size)
        for start in tqdm(starts, desc="writing", unit="batch", disable=None if progress else True):
            part = slice(start, start + batch_size)
            batch = torch.from_numpy(np.ascontiguousarray(embeddings[part], dtype=np.float32))
            known = None
            if hypotheses and any(hypotheses[0][part]):
                room = self.model.room(sampling.max_length)
                tokens = [ids[:room] for ids in tokenise(hypotheses[0][part], self.tokenizer)]
                known = send_to_device(as_hypotheses(tokens, hypotheses[1][part]), self.device)
            heat = None if temperatures is None else torch.tensor(temperatures[part], device=self.device).float()
            # 158 texts a second on two cores; in fp32, 64 at a time, 55.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16_pays()):
                ids = self.model.write(batch.to(self.device), sampling, self.noise, known, heat)
            texts += [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return texts

    def invert_embeddings(
        self,
        embeddings: np.ndarray,
        *,
        max_correction_iterations: int | None = None,
        beam_width: int | None = None,
        seed: int | None = None,
        settings: CorrectionSettings | None = None,
        progress: bool = False,
    ) -> list[CorrectionResult]:
        """The text of each embedding, by the correction loop.

        Args:
            embeddings: (n, d) float; rows are normalised.
            max_correction_iterations, beam_width, seed: override the settings' own.
            settings: everything else of the loop; None: the guide's defaults, at this model's max_length.
            progress: show a progress bar.

        Raises:
            E2TError: embeddings of another length than this model's, or not finite, or zero.
        """
        targets = self._targets(embeddings)
        settings = override(
            settings or CorrectionSettings(max_length=self.settings.max_length),
            max_correction_iterations=max_correction_iterations,
            num_beams=beam_width,
            seed=seed,
        )
        return invert(self, targets, settings, progress=progress)

    def _targets(self, embeddings: np.ndarray) -> np.ndarray:
        embeddings = np.atleast_2d(np.asarray(embeddings, dtype=np.float32))
        if embeddings.shape[1] != self.dimension:
            raise E2TError(f"embeddings of {embeddings.shape[1]} dimensions; this model inverts {self.dimension}")
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
        if len(bad):
            raise E2TError(f"embedding {bad[0]} is zero or not finite: it points nowhere")
        return embeddings / norms

    def invert_strings(self, texts: Sequence[str], **options: Any) -> list[CorrectionResult]:
        """Embed texts and recover them from their embeddings; options as for `invert_embeddings`."""
        return self.invert_embeddings(self.embedder.encode(texts), **options)

    def interpolate(self, a: np.ndarray, b: np.ndarray, steps: int, **options: Any) -> list[CorrectionResult]:
        """Texts on the great circle from embedding a to embedding b, both (d,), ends included (slerp)."""
        a, b = self._targets(np.stack([a, b]))
        angle = np.arccos(np.clip(a @ b, -1.0, 1.0))
        shares = np.linspace(0.0, 1.0, steps)[:, None]
        if angle < 1e-4:  # slerp divides by its sine
            return self.invert_embeddings(np.repeat(a[None], steps, axis=0), **options)
        return self.invert_embeddings(np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b, **options)

    def arithmetic(
        self, plus: Sequence[np.ndarray], minus: Sequence[np.ndarray] = (), **options: Any
    ) -> CorrectionResult:
        """The text of a sum of embeddings, each (d,), less others; options as for `invert_embeddings`.

        Raises:
            E2TError: they cancel out.
        """
        total = self._targets(np.stack(plus)).sum(axis=0)
        if len(minus):
            total = total - self._targets(np.stack(minus)).sum(axis=0)
        return self.invert_embeddings(total, **options)[0]

    def save(self, folder: str | Path) -> None:
        """Write vec2text_config.json, tokenizer/, language_model/, embedding_model/ and a model card, atomically.

        The conditioning's weights stand in language_model/conditioning.safetensors.
        """
        record = {
            "base_model": self.settings.base_model,
            "embedder": self.embedder.name,
            "dimension": self.dimension,
            "trained_on": self.trained_on,
            "documents": self.documents,
            "settings": asdict(self.settings),
            "history": vars(self.history),
            "corrector_history": vars(self.corrector_history),
            "held_out": self.held_out,
        }
        save_model(Path(folder), self.model, self.tokenizer, self.embedder, record)

    @classmethod
    def load(
        cls, folder: str | Path, *, embedder: Embedder | Callable | None = None, device: str | None = None
    ) -> "Vec2Text":
        """Read what `save` wrote, ready for use.

        Args:
            folder: a vec2text model folder; "embedded": the embedded base model as it ships.
            embedder: needed where the model was trained with a function as its embedder.
            device: None: a GPU where there is one.

        Raises:
            E2TError: the folder is no vec2text model; what is missing is named.
        """
        if str(folder) == EMBEDDED:
            return cls.from_base(Vec2TextSettings(base_model=EMBEDDED), Embedder(device=device))
        folder = resolve(folder)
        record = read_json(folder / CONFIG)
        known = {field.name for field in fields(Vec2TextSettings)}
        settings = Vec2TextSettings(**{key: value for key, value in record["settings"].items() if key in known})
        if embedder is None:
            embedder = Embedder.load(folder / "embedding_model", device=device)
        elif not isinstance(embedder, Embedder):
            embedder = Embedder(embedder)
        model, tokenizer = load_model(folder, settings, record["dimension"])
        self = cls(model.to(device or default_device()).eval(), tokenizer, embedder, settings, record["dimension"])
        self.history, self.corrector_history = History(**record["history"]), History(**record["corrector_history"])
        self.held_out, self.documents = record["held_out"], record.get("documents", 0)
        self.trained_on = record["trained_on"]
        return self
