"""Pre-training the embedded base on one GPU, in minutes: the model and the loss of `e2t pretrain`, all data on the GPU.

    python benchmarks/gpu_pretraining.py prepare TRAIN_*.jsonl.xz HELD_OUT.jsonl.xz --embedder FOLDER --work WORK &
    python benchmarks/gpu_pretraining.py embed TRAIN_*.jsonl.xz HELD_OUT.jsonl.xz --embedder FOLDER --work WORK
    python benchmarks/gpu_pretraining.py train TRAIN_*.jsonl.xz HELD_OUT.jsonl.xz --embedder FOLDER --work WORK --minutes 9

`prepare` turns each document, a line with title and content, into texts of five kinds (the title; the parts of a title
with a colon; each sentence of the abstract; the title and the first sentences; title and abstract), and those into tokens;
`embed` embeds them, file by file, as they become ready. `train` goes on from `--base`: the inverter on all kinds, then
inverter and corrector together, on near misses that it writes itself. The last file is judged by, not learned. FOLDER is
that of all-MiniLM-L6-v2. The weights end in WORK/out, in pieces of 14 MB: `cat model.* > model.safetensors`.
"""

import argparse
import copy
import json
import lzma
import math
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2t_lib.dataset.records import text_of
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.conditioning import Hypotheses
from e2t_lib.vec2text.model import IGNORE, ConditionedLM
from e2t_lib.vec2text.near_misses import PLAIN
from e2t_lib.vec2text.recombination import sentences
from e2t_lib.vec2text.storage import CONFIG, load_model
from e2t_lib.vec2text.writing import Sampling

KINDS = ("title", "part", "sentence", "opening", "document")
LONGEST, PIECES = 256, 256  # tokens of a text with EOS; word pieces that the embedder reads
STEP_TOKENS = 32_768  # of a step on a GPU; 2,048 on a CPU
MOST_TEXTS = {"title": 1_536, "part": 1_536, "sentence": 1_024, "opening": 512, "document": 256}
INVERTER = {"title": 0.22, "part": 0.03, "sentence": 0.35, "opening": 0.10, "document": 0.30}
CORRECTOR = {"title": 0.42, "part": 0.04, "sentence": 0.16, "opening": 0.10, "document": 0.28}
RATE = 1.2e-3  # of the conditioning, in steps of so many tokens
LANGUAGE_MODEL_RATE = 0.5  # times that, of the layers

STARTED = time.time()
OWN: Any = None  # the base's tokenizer and the embedder's, in each process
PIECE: Any = None


def say(*words: object) -> None:
    print(f"{time.time() - STARTED:6.1f}", *words, flush=True)


# --- texts to tokens ------------------------------------------------------------------------------------------------


def load_tokenizers(base: str, embedder: str) -> None:
    global OWN, PIECE
    from tokenizers import Tokenizer

    OWN = Tokenizer.from_file(f"{base}/tokenizer.json")
    PIECE = Tokenizer.from_file(f"{embedder}/tokenizer.json")
    for tokenizer in (OWN, PIECE):
        tokenizer.no_padding()
        tokenizer.no_truncation()
    PIECE.enable_truncation(PIECES)


def texts_of(line: str) -> list[tuple[int, str]]:
    document = json.loads(line)
    title, abstract = document["title"], document["content"]
    parts = sentences(abstract)
    lengths = np.cumsum([len(ids) for ids in tokens_of([title, *parts])]) + 3
    fitting = int(np.searchsorted(lengths, LONGEST - 2))  # of the title and the sentences
    out = [(0, title)]
    pieces = [part.strip() for part in title.split(": ")]
    if len(pieces) == 2:
        out += [(1, piece) for piece in pieces if len(piece.split()) >= 3]
    out += [(2, part) for part in parts if 4 <= len(part.split()) <= 70]
    if fitting >= 3:
        rng = np.random.default_rng(len(abstract))
        out.append((3, text_of(title, " ".join(parts[: int(rng.integers(1, min(4, fitting)))]))))
    if fitting >= 2:
        out.append((4, text_of(title, " ".join(parts[: fitting - 1]))))
    return out


def tokens_of(texts: list[str]) -> list[list[int]]:
    return [encoded.ids for encoded in OWN.encode_batch_fast(texts, add_special_tokens=False)]


def encode(texts: list[str]) -> tuple[list, list]:
    """Token ids in our vocabulary and in the embedder's."""
    return tokens_of(texts), [encoded.ids for encoded in PIECE.encode_batch_fast(texts)]


def flat(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.array(row, dtype=np.uint16) for row in ids]), np.array([len(row) for row in ids])


def encode_lines(lines: list[str]) -> tuple[np.ndarray, ...]:
    found = [one for line in lines for one in texts_of(line)]
    kinds, texts = zip(*found, strict=True)
    own, pieces = encode(list(texts))
    short = [row for row, ids in enumerate(own) if len(ids) < LONGEST]
    return (
        np.array(kinds, dtype=np.uint8)[short],
        *flat([own[row] for row in short]),
        *flat([pieces[row] for row in short]),
    )


def decode_and_encode(ids: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    texts = OWN.decode_batch([row.tolist() for row in ids], skip_special_tokens=True)
    own, pieces = encode([text.strip() or "." for text in texts])
    return flat(own) + flat(pieces)


def join(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def blocks(items: Any, size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


# --- embeddings -----------------------------------------------------------------------------------------------------


class Embedder:
    def __init__(self, folder: str, device: str):
        from transformers import AutoModel

        dtype = torch.float16 if device == "cuda" else torch.float32
        self.model = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device).eval()
        self.device = device

    @torch.no_grad()
    def __call__(self, pieces: np.ndarray, lengths: np.ndarray) -> Tensor:
        """(n, d) float16 unit rows on the device, by mean pooling."""
        flat, starts = torch.from_numpy(pieces.astype(np.int32)).to(self.device), first(lengths)
        out = torch.empty(len(lengths), self.model.config.hidden_size, dtype=torch.float16, device=self.device)
        order, start = np.argsort(lengths, kind="stable"), 0
        while start < len(order):
            size = max(
                1,
                int((262_144 if self.device == "cuda" else 8_192) // lengths[order[min(start + 1024, len(order) - 1)]]),
            )
            rows = order[start : start + size]
            ids, mask = gather(flat, starts[rows], lengths[rows], self.device)
            hidden = self.model(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state.float()
            pooled = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            out[torch.from_numpy(rows).to(self.device)] = torch.nn.functional.normalize(pooled, dim=1).half()
            start += size
        return out


def first(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]])


def gather(flat: Tensor, starts: np.ndarray, lengths: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Rows of a flat tensor, (n, longest), padded on the right with what follows, and which are there."""
    begin, count = (torch.from_numpy(np.ascontiguousarray(x)).to(device)[:, None] for x in (starts, lengths))
    offsets = torch.arange(int(lengths.max()), device=device)
    return flat[(begin + offsets).clamp(max=len(flat) - 1)], offsets < count


def prepare(args: argparse.Namespace) -> None:
    work = Path(args.work)
    with Pool(args.processes, load_tokenizers, (f"{args.base}/tokenizer", args.embedder)) as pool:
        for path in map(Path, args.texts):
            with lzma.open(path, "rt") as file:
                lines = file.read().splitlines()
            arrays = join(pool.map(encode_lines, blocks(lines, 500), chunksize=1))
            np.savez(work / f"{path.name}.npz", *arrays)
            (work / f"{path.name}.ready").touch()
            say(path.name, len(lines), "documents", np.bincount(arrays[0]), "texts", len(arrays[1]), "tokens")


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.2)


def embed(args: argparse.Namespace) -> None:
    work, embedder = Path(args.work), Embedder(args.embedder, args.device)
    for name in (Path(path).name for path in args.texts):
        wait_for(work / f"{name}.ready")
        arrays = np.load(work / f"{name}.npz")
        torch.save(embedder(arrays["arr_3"], arrays["arr_4"]).cpu(), work / f"{name}.pt")
        (work / f"{name}.done").touch()
        say("embedded", name, len(arrays["arr_4"]))


# --- pairs ----------------------------------------------------------------------------------------------------------


class Pairs:
    """Texts of all kinds with their embeddings, on the device; some with a hypothesis."""

    def __init__(self, kinds: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, embeddings: Tensor, device: str):
        self.kinds, self.lengths, self.starts, self.device = kinds, lengths, first(lengths), device
        self.flat, self.embeddings = torch.from_numpy(tokens.astype(np.int32)).to(device), embeddings.to(device)
        self.hypothesis = np.full(len(kinds), -1)  # its number
        self.suggested: tuple[Tensor, np.ndarray, np.ndarray, Tensor] | None = None

    def suggest(self, rows: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, embeddings: Tensor, room: int) -> None:
        flat = torch.from_numpy(tokens.astype(np.int32)).to(self.device)
        self.suggested = (flat, first(lengths), np.minimum(lengths, room), embeddings)
        self.hypothesis[rows] = np.arange(len(rows))

    def batch(self, rows: np.ndarray, eos: int, correct: bool = False) -> dict:
        lengths = self.lengths[rows]
        ids, _ = gather(self.flat, self.starts[rows], lengths, self.device)
        end = torch.full((len(rows), 1), eos, device=self.device)  # BOS is EOS
        ids = torch.cat([end, ids.long()], dim=1)
        offsets = torch.arange(ids.shape[1], device=self.device)
        count = torch.from_numpy(lengths).to(self.device)[:, None]
        labels = torch.cat([ids[:, 1:], end], dim=1)
        labels = torch.where(offsets < count, labels, torch.where(offsets == count, eos, IGNORE))
        where = torch.from_numpy(rows).to(self.device)
        batch: dict[str, Any] = {"embeddings": self.embeddings[where].float(), "input_ids": ids, "labels": labels}
        batch["lengths"] = count[:, 0] + 1
        if correct and self.suggested is not None:
            flat, starts, lengths, vectors = self.suggested
            number = self.hypothesis[rows]
            size = np.where(number >= 0, lengths[number], 0)
            width = max(int(size.max()), 1)
            begin, count = (torch.from_numpy(x).to(self.device)[:, None] for x in (starts[number], size))
            behind = torch.arange(width, device=self.device) - width + count  # padded on the left
            ids = flat[(begin + behind.clamp(min=0)).clamp(max=len(flat) - 1)].long()
            mask = (behind >= 0).long()
            batch["hypotheses"] = Hypotheses(
                ids * mask, mask, vectors[torch.from_numpy(number).to(self.device)].float()
            )
        return batch

    def batches(self, kind: int, share: np.ndarray | None = None, most: int = STEP_TOKENS, seed: int = 0):
        """Endless batches of one kind, of texts alike in length; of some rows only, `share`."""
        rng = np.random.default_rng([seed, kind])
        rows = np.flatnonzero(self.kinds == kind) if share is None else share
        cost = self.lengths.copy()
        if self.suggested is not None:
            has = self.hypothesis >= 0
            cost[has] += self.suggested[2][self.hypothesis[has]] + 4
        while True:
            order = rng.permutation(rows)
            out = []
            for pool in blocks(order, 65_536):
                pool = pool[np.argsort(cost[pool], kind="stable")]
                start = 0
                while start < len(pool):
                    size = min(MOST_TEXTS[KINDS[kind]], max(1, most // int(cost[pool[start]] + 6)))
                    size = min(size, max(1, most // int(cost[pool[min(start + size, len(pool)) - 1]] + 6)))
                    out.append(pool[start : start + size])
                    start += size
            for number in rng.permutation(len(out)):
                yield out[number]


def load_pairs(paths: list[Path], device: str) -> Pairs:
    arrays = [np.load(path) for path in paths]
    kinds, tokens, lengths = (np.concatenate([a[f"arr_{n}"] for a in arrays]) for n in range(3))
    return Pairs(kinds, tokens, lengths, torch.cat([torch.load(path.with_suffix(".pt")) for path in paths]), device)


# --- training -------------------------------------------------------------------------------------------------------


def learn(
    model: ConditionedLM,
    optimiser: torch.optim.Optimizer,
    pairs: Pairs,
    held: Pairs,
    shares: dict,
    until: float,
    rates: tuple,
    args,
    correct: bool,
) -> None:
    """Steps until a time, the learning rate going from one share of `RATE` to another by half a cosine."""
    rng = np.random.default_rng(int(correct))
    streams = [pairs.batches(kind, seed=int(correct)) for kind in range(len(KINDS))]
    begun, step, texts, tokens, losses = time.time(), 0, 0, 0, torch.zeros(len(KINDS), 2, device=pairs.device)
    last = last_saved = begun
    while (now := time.time()) < until:
        done = (now - begun) / (until - begun)
        factor = rates[1] + (rates[0] - rates[1]) * 0.5 * (1 + math.cos(math.pi * done))
        factor *= min(1.0, (step + 1) / 150)
        for group in optimiser.param_groups:
            group["lr"] = RATE * group["rate"] * factor
        kind = int(rng.choice(len(KINDS), p=[shares[name] for name in KINDS]))
        rows = next(streams[kind])
        model.train()
        with torch.autocast(pairs.device, torch.bfloat16):
            loss = model(**pairs.batch(rows, model.eos, correct))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not norm.isfinite():
            raise FloatingPointError(f"step {step}, {KINDS[kind]}: loss {loss.item()}, gradient {norm.item()}")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses[kind] += torch.stack([loss.detach(), torch.ones_like(loss)])
        step, texts, tokens = step + 1, texts + len(rows), tokens + int(pairs.lengths[rows].sum())
        if now - last > 30:
            last = time.time()
            mean = (losses[:, 0] / losses[:, 1]).tolist()
            losses.zero_()
            say(
                f"step {step} texts {texts:,} tokens {tokens:,}",
                " ".join(f"{k} {m:.3f}" for k, m in zip(KINDS, mean, strict=True)),
                "| held out",
                judge(model, held),
            )
        if now - last_saved > 100:
            last_saved = time.time()
            keep(model, args)
    say(
        f"end: step {step} texts {texts:,} tokens {tokens:,}, {time.time() - begun:.0f} s; held out", judge(model, held)
    )


@torch.no_grad()
def judge(model: ConditionedLM, held: Pairs) -> str:
    model.eval()
    out = []
    for kind in (0, 4):
        rows, total, count = np.flatnonzero(held.kinds == kind)[:600], 0.0, 0
        rows = rows[np.argsort(held.lengths[rows])]
        for part in blocks(rows, 100):
            size = int((held.lengths[part] + 1).sum())
            with torch.autocast(held.device, torch.bfloat16):
                total, count = total + model(**held.batch(part, model.eos)).item() * size, count + size
        out.append(f"{KINDS[kind]} {total / count:.3f}")
    return " ".join(out)


# --- near misses ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def echoed(model: ConditionedLM, pairs: Pairs, rows: np.ndarray, generator: torch.Generator) -> tuple[np.ndarray, list]:
    kind = int(pairs.kinds[rows[0]])
    stream, seen, done, out = pairs.batches(kind, rows, STEP_TOKENS), 0, [], []
    while seen < len(rows):
        part = next(stream)
        seen += len(part)
        share = 0.15 + 0.85 * torch.rand(len(part), generator=generator, device=generator.device).to(pairs.device)
        with torch.autocast(pairs.device, torch.bfloat16):
            ids = model.echo(**pairs.batch(part, model.eos), share=share, generator=generator)
        done.append(part)
        out += list(ids.cpu().numpy().astype(np.uint16))
    return np.concatenate(done), out


@torch.no_grad()
def written(
    model: ConditionedLM, pairs: Pairs, rows: np.ndarray, generator: torch.Generator
) -> tuple[np.ndarray, list]:
    rows, out = rows[np.argsort(pairs.lengths[rows], kind="stable")], []
    for part in blocks(rows, 4_096):
        longest = min(LONGEST, int(pairs.lengths[part].max()) + 16)
        targets = pairs.embeddings[torch.from_numpy(part).to(pairs.device)].float()
        with torch.autocast(pairs.device, torch.bfloat16):
            ids = model.write(targets, Sampling(max_length=longest), generator)
        out += list(ids.cpu().numpy().astype(np.uint16))
    return rows, out


def near_misses(model: ConditionedLM, pairs: Pairs, embedder: Embedder, pool: Any, share: float) -> None:
    """A hypothesis for three texts in four of those chosen; of written ones the closest of several."""
    model.eval()
    generator = torch.Generator(pairs.device).manual_seed(0)
    rng = np.random.default_rng(0)
    found: list[tuple[np.ndarray, list]] = []
    for kind, (echoes, writes, best_of) in enumerate([(170, 36, 4), (20, 4, 4), (60, 8, 2), (12, 3, 2), (32, 6, 1)]):
        rows = rng.permutation(np.flatnonzero(pairs.kinds == kind))
        echoes, writes = (int(1_000 * n * share) for n in (echoes, writes))
        echoes, writes = min(echoes, len(rows) // 2), min(writes, len(rows) // 4)
        found.append(echoed(model, pairs, rows[:echoes], generator))
        found.append(written(model, pairs, rows[echoes : echoes + writes].repeat(best_of), generator))
        say("near misses of", KINDS[kind], echoes, writes)
    rows, ids = np.concatenate([part for part, _ in found]), [row for _, part in found for row in part]
    own, lengths, pieces, sizes = join(pool.map(decode_and_encode, blocks(ids, 1_000), chunksize=1))
    vectors = embedder(pieces, sizes)
    say("near misses embedded")
    where = torch.from_numpy(rows).to(pairs.device)
    nearness = (vectors.float() * pairs.embeddings[where].float()).sum(dim=1).cpu().numpy()
    for kind in range(len(KINDS)):
        chosen = nearness[pairs.kinds[rows] == kind]
        say("  cosine", KINDS[kind], np.quantile(chosen, [0.05, 0.25, 0.5, 0.75, 0.95]).round(3))
    order = np.lexsort([-nearness, rows])
    best = order[np.unique(rows[order], return_index=True)[1]]
    starts = first(lengths)
    chosen_tokens = np.concatenate([own[starts[n] : starts[n] + lengths[n]] for n in best])
    chosen = vectors[torch.from_numpy(best).to(pairs.device)]
    pairs.suggest(rows[best], chosen_tokens, lengths[best], chosen, model.room(LONGEST))


def rehearse(model: ConditionedLM, held: Pairs, embedder: Embedder, pool: Any) -> None:
    """What comes last, tried first: the gradient of a batch with near misses, without a step.

    A training that turned to NaN here after ten minutes is why.
    """
    near_misses(model, held, embedder, pool, 0.001)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(held.hypothesis >= 0))[:32]  # of all kinds and lengths
    model.train()
    with torch.autocast(held.device, torch.bfloat16):
        model(**held.batch(rows, model.eos, True)).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise FloatingPointError(f"rehearsal: the gradient of {name} is not finite")
    model.zero_grad(set_to_none=True)
    say("rehearsed")


def keep(model: ConditionedLM, args: argparse.Namespace) -> None:
    """The weights in half precision, in pieces of 14 MB."""
    from safetensors.torch import save

    half = {name: value.detach().half().cpu().contiguous() for name, value in model.conditioning.state_dict().items()}
    language = copy.deepcopy(model.language_model).cpu().half()
    language.save_pretrained(Path(args.work) / "language_model")
    parts = {"conditioning": save(half), "model": (Path(args.work) / "language_model/model.safetensors").read_bytes()}
    for name, data in parts.items():
        for number, start in enumerate(range(0, len(data), 14_000_000)):
            (Path(args.work) / "out" / f"{name}.{number}").write_bytes(data[start : start + 14_000_000])
    say("kept")


def train(args: argparse.Namespace) -> None:
    base, work, device = Path(args.base), Path(args.work), args.device
    end = STARTED + 60 * args.minutes
    pool = Pool(args.processes, load_tokenizers, (str(base / "tokenizer"), args.embedder))
    settings = Vec2TextSettings(**json.loads((base / CONFIG).read_text())["settings"])
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(args.seed)
    model, _ = load_model(base, settings, 384)
    model.to(device)
    groups = model.parameter_groups(settings)
    groups[1]["rate"] = LANGUAGE_MODEL_RATE
    optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.02, betas=(0.9, 0.98), fused=device == "cuda")
    with pool:
        embedder = Embedder(args.embedder, device)
        names = [Path(path).name for path in args.texts]
        for name in names:
            wait_for(work / f"{name}.done")
        *files, last = (work / f"{name}.npz" for name in names)
        pairs, held = load_pairs(files, device), load_pairs([last], device)
        rehearse(model, held, embedder, pool)
        say("loaded", np.bincount(pairs.kinds), "held out before", judge(model, held))
        left = end - time.time()
        learn(model, optimiser, pairs, held, INVERTER, time.time() + args.inverter * left, (1.0, 0.45), args, False)
        keep(model, args)
        near_misses(model, pairs, embedder, pool, args.share)
        chosen = pairs.hypothesis >= 0
        counts = [np.bincount(pairs.kinds[part], minlength=len(KINDS)) for part in (chosen, ~chosen)]
        share = PLAIN / (1 - PLAIN) * counts[0] / counts[1]  # of the pairs without, that the inverter goes on with
        shown = np.random.default_rng(1).random(len(chosen)) < share[pairs.kinds]
        pairs.kinds = np.where(chosen | shown, pairs.kinds, 255)
        say("corrector learns on", counts[0], "and without", np.bincount(pairs.kinds[shown & ~chosen]))
        learn(model, optimiser, pairs, held, CORRECTOR, end, (0.5, 0.02), args, True)
        keep(model, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "embed", "train"])
    parser.add_argument("texts", nargs="+", help="JSON Lines of documents, .xz")
    parser.add_argument("--base", default="data/base_model", help="what to go on from, and whose tokenizer")
    parser.add_argument("--embedder", required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="of train, its waiting included")
    parser.add_argument("--inverter", type=float, default=0.6, help="share of them for the inverter alone")
    parser.add_argument("--share", type=float, default=0.5, help="of the near misses, 350,000 in all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (Path(args.work) / "out").mkdir(parents=True, exist_ok=True)
    {"prepare": prepare, "embed": embed, "train": train}[args.what](args)


if __name__ == "__main__":
    main()
