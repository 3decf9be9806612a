"""Vec2Text: conditioning, training, saving, on a tiny GPT-2 checkpoint and on the MiniLM decoder."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.settings import CorrectionSettings, Vec2TextSettings
from e2t_lib.vec2text import Sampling, Vec2Text
from e2t_lib.vec2text import model as vec2text_model
from e2t_lib.vec2text.batches import LengthBuckets, PairDataset, ended, tokenise
from e2t_lib.vec2text.conditioning import Length
from e2t_lib.vec2text.model import IGNORE, candidates
from e2t_lib.vec2text.near_misses import echoes, with_near_misses
from e2t_lib.vec2text.writing import search

WORDS = ["red", "blue", "green", "tall", "small", "old", "cat", "dog", "tree", "house", "river", "stone"]
TEXTS = [f"{a} {b} {c}" for a in WORDS[:6] for b in WORDS[6:] for c in ("sleeps", "falls")]


def hashed(texts: list[str]) -> np.ndarray:
    """An embedder of 32 dimensions, not 384: the mean of fixed random word vectors."""
    vectors = {word: np.random.default_rng(i).normal(size=32) for i, word in enumerate([*WORDS, "sleeps", "falls"])}
    other = np.random.default_rng(99).normal(size=32)
    return np.array([np.mean([vectors.get(w, other) for w in t.lower().split()] or [other], axis=0) for t in texts])


def settings(base: Path, **overrides) -> Vec2TextSettings:
    values = {"epochs": 12, "batch_size": 8, "max_length": 12, "learning_rate": 5e-3, "dropout": 0.0, **overrides}
    return Vec2TextSettings(base_model=str(base), prefix_width=64, lexical_width=64, lexical_rank=16, **values)


@pytest.fixture(scope="module")
def trained(gpt2_folder):
    embedder = Embedder(hashed)
    model = Vec2Text.from_base(settings(gpt2_folder), embedder)
    return model.fit(TEXTS, embedder.encode(TEXTS))


def test_training_lowers_both_losses(trained):
    history = trained.history
    assert len(history.loss) == len(history.val_loss) == 12
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.val_loss[-1] < 0.5 * history.val_loss[0]


def test_the_text_depends_on_the_embedding(trained):
    embeddings = trained.embedder.encode(TEXTS)
    right = trained.loss(TEXTS, embeddings)
    assert right < trained.loss(TEXTS, np.roll(embeddings, 7, axis=0)) - 1.0


def test_greedy_text_of_a_known_embedding_has_its_words(trained):
    rows = [row for row in range(len(TEXTS)) if row not in trained.held_out][:12]
    written = trained.write(
        trained.embedder.encode([TEXTS[row] for row in rows]), Sampling(temperature=0, max_length=8)
    )
    shared = [len(set(text.split()) & set(TEXTS[row].split())) for text, row in zip(written, rows, strict=True)]
    assert np.mean(shared) > 2


def test_beam_search_writes_too(trained):
    texts = trained.write(trained.embedder.encode(TEXTS[:3]), Sampling(num_beams=4, max_length=8))
    assert len(texts) == 3 and all(texts)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_no_text_is_shorter_than_asked(trained, num_beams):
    embeddings = torch.from_numpy(trained.embedder.encode(TEXTS[:6]))
    for shortest in (1, 6):
        sampling = Sampling(num_beams=num_beams, min_length=shortest, max_length=8)
        written = trained.model.write(embeddings, sampling, torch.Generator().manual_seed(0))
        lengths = (written != trained.model.eos).sum(dim=1)
        assert (lengths >= shortest).all() and (shortest == 6 or lengths.min() < 6)


@pytest.mark.parametrize("shortest", [0, 13])
def test_a_least_length_that_no_text_can_have_is_refused(trained, shortest):
    with pytest.raises(E2TError, match=f"min_length {shortest}: give 1 to max_length, 12"):
        trained.invert_embeddings(np.ones((1, 32)), settings=CorrectionSettings(min_length=shortest, max_length=12))


def test_the_guess_of_a_length_heeds_the_shortest(trained):
    embeddings, noise = torch.from_numpy(trained.embedder.encode(TEXTS[:6])), torch.Generator().manual_seed(0)
    for heat in (0.0, 1.0):
        drawn = trained.model.conditioning.length.draw(embeddings, torch.full((6,), heat), noise, least=64)
        assert (drawn > 64).all()


def test_a_whole_text_is_guessed_no_longer_than_it_may_be(trained, monkeypatch):
    told = []
    heard = trained.model.tokens

    def listen(ids, left):
        told.append(int(left.max()))
        return heard(ids, left)

    monkeypatch.setattr(trained.model, "tokens", listen)
    monkeypatch.setattr(trained.model.conditioning.length, "draw", lambda *_: torch.full((6,), 50))
    embeddings = torch.from_numpy(trained.embedder.encode(TEXTS[:6]))
    for whole, guessed in ((False, 50), (True, 8)):
        told.clear()
        trained.model.write(embeddings, Sampling(max_length=8, whole=whole), torch.Generator())
        assert told[0] == guessed


def test_a_base_cannot_have_another_architecture_than_its_own():
    with pytest.raises(E2TError, match="its lexical_head is True, not False; leave that setting alone"):
        Vec2Text.from_base(Vec2TextSettings(base_model="embedded", lexical_head=False), Embedder())


def test_a_seed_decides_sampled_texts(trained):
    embeddings = trained.embedder.encode(TEXTS[:6])
    first, second = (trained.write(embeddings, Sampling(max_length=8), seed=3) for _ in range(2))
    assert first == second
    assert first != trained.write(embeddings, Sampling(max_length=8, temperature=2.0), seed=4)


def test_saved_and_loaded_model_has_the_tree_and_writes_the_same(trained, tmp_path):
    trained.save(tmp_path / "vec2text")
    names = sorted(path.name for path in (tmp_path / "vec2text").iterdir())
    assert names == ["README.md", "embedding_model", "language_model", "tokenizer", "vec2text_config.json"]
    again = Vec2Text.load(tmp_path / "vec2text", embedder=hashed)
    embeddings = trained.embedder.encode(TEXTS[:5])
    assert again.write(embeddings, seed=0) == trained.write(embeddings, seed=0)
    assert again.held_out == trained.held_out and again.history == trained.history
    with pytest.raises(E2TError, match="hashed"):
        Vec2Text.load(tmp_path / "vec2text")


def test_the_card_says_what_the_model_derives_from_and_no_path_of_the_machine(trained, gpt2_folder, tmp_path):
    model = copy.copy(trained)
    model.trained_on = str(tmp_path / "my_corpus")
    model.save(tmp_path / "vec2text")
    card = (tmp_path / "vec2text" / "README.md").read_text()
    assert "base_model:" not in card  # a folder is no name on the hub
    assert (
        f"**Derives from** the model `{gpt2_folder.name}`. **Inverts** the embeddings of `hashed`, 32 numbers" in card
    )
    learned = len(TEXTS) - len(trained.held_out)
    assert f"{learned} texts of the dataset `my_corpus`" in card
    assert f"{len(trained.held_out)} others were held out" in card
    for epoch, loss, val_loss in zip(*map(vars(trained.history).get, ("epoch", "loss", "val_loss")), strict=True):
        assert f"| inverter | {epoch} | {loss:.4g} | {val_loss:.4g} |" in card
    assert str(tmp_path) not in card and str(gpt2_folder) not in card
    assert Vec2Text.load(tmp_path / "vec2text", embedder=hashed).documents == learned


def test_the_card_of_a_shipped_base_names_where_it_comes_from(tmp_path):
    Vec2Text.load("embedded").save(tmp_path / "vec2text")
    card = (tmp_path / "vec2text" / "README.md").read_text()
    assert card.startswith('---\nbase_model: "sentence-transformers/all-MiniLM-L6-v2"\n')
    assert "**Not trained** on any text since." in card and "embeddings of all-MiniLM-L6-v2, 384 numbers" in card


def test_a_trained_model_serves_as_base_for_further_training(trained, tmp_path):
    trained.save(tmp_path / "vec2text")
    embeddings = trained.embedder.encode(TEXTS)
    again = Vec2Text.from_base(settings(tmp_path / "vec2text", epochs=1), trained.embedder)
    assert again.loss(TEXTS, embeddings) == pytest.approx(trained.loss(TEXTS, embeddings), abs=1e-5)
    with pytest.raises(E2TError, match="was trained for embedder 'hashed'"):
        Vec2Text.from_base(settings(tmp_path / "vec2text"), Embedder(lambda texts: hashed(texts)))


def test_padding_is_masked_out_of_the_loss(trained):
    short, long = "red cat", "red cat sleeps falls tree house river"
    embeddings = trained.embedder.encode([short, long])
    alone = PairDataset(embeddings[:1], [short], trained.tokenizer, 12)
    both = PairDataset(embeddings, [short, long], trained.tokenizer, 12)
    padded = both.collate([0, 1])
    row = {key: value[:1] for key, value in padded.items()}
    assert (row["labels"] == IGNORE).any()
    with torch.inference_mode():
        expected = trained.model(**alone.collate([0]))
        assert trained.model(**row).item() == pytest.approx(expected.item(), abs=1e-5)


def corrections(trained, hypotheses: list[str]) -> PairDataset:
    """Pairs of the first texts with these hypotheses, "" where there is none."""
    texts = TEXTS[: len(hypotheses)]
    landed = trained.embedder.encode([hypothesis or "nothing" for hypothesis in hypotheses])
    return PairDataset(trained.embedder.encode(texts), texts, trained.tokenizer, 12).suggest(hypotheses, landed, 12)


def test_a_pair_costs_the_same_in_any_company(trained):
    """Hypotheses of other lengths, and none at all, beside it: masks and positions keep the rows apart."""
    pairs = corrections(trained, ["blue dog", "", "green tree falls river stone house"])
    plain = PairDataset(trained.embedder.encode(TEXTS[1:2]), TEXTS[1:2], trained.tokenizer, 12)
    with torch.inference_mode():
        alone = [trained.model(**pairs.collate([row])).item() for row in range(3)]
        together = trained.model(**pairs.collate([0, 1, 2])).item()
        assert alone[1] == pytest.approx(trained.model(**plain.collate([0])).item(), abs=1e-5)
    counts = [len(tokens) for tokens in pairs.tokens]
    assert together == pytest.approx(np.average(alone, weights=counts), abs=1e-4)


def test_the_corrector_listens_to_its_hypothesis(trained):
    embeddings = trained.embedder.encode(TEXTS)
    helpful, useless = (
        PairDataset(embeddings, TEXTS, trained.tokenizer, 12).suggest(
            hypotheses, trained.embedder.encode(hypotheses), 12
        )
        for hypotheses in (TEXTS, [*TEXTS[7:], *TEXTS[:7]])
    )
    with torch.inference_mode():
        losses = [trained.model(**pairs.collate(range(len(TEXTS)))).item() for pairs in (helpful, useless)]
    assert losses[0] != pytest.approx(losses[1], abs=1e-6)
    assert len(trained.corrector_history.loss) == 1 and trained.corrector_history.val_loss[0] < 2


def test_writing_is_the_same_in_any_company(trained):
    targets = trained.embedder.encode(TEXTS[:5])
    hypotheses = (["", "red cat", "blue dog tree falls", "stone", ""], trained.embedder.encode(TEXTS[5:10]))
    greedy = Sampling(temperature=0, max_length=8)
    together = trained.write(targets, greedy, hypotheses=hypotheses)
    alone = [
        trained.write(targets[i : i + 1], greedy, hypotheses=(hypotheses[0][i : i + 1], hypotheses[1][i : i + 1]))[0]
        for i in range(5)
    ]
    assert together == alone
    assert [together[0], together[4]] == trained.write(targets[[0, 4]], greedy)


def likelihood(model, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each token of (n, t) ids of median length, by one pass over the whole text: (n, t, V)."""
    lengths = model.conditioning.length.draw(embeddings, torch.zeros(len(embeddings)), torch.Generator())
    before = torch.cat([torch.full_like(ids[:, :1], model.bos), ids[:, :-1]], dim=1)
    hidden = model.hidden(model.begin(embeddings, before, lengths, None), ids.shape[1])
    return model.logits(hidden, model.features(embeddings, before, None), model.output()).log_softmax(dim=-1)


@torch.inference_mode()
def test_token_by_token_is_as_the_whole_text_at_once(trained):
    model = copy.deepcopy(trained.model)
    torch.nn.init.normal_(model.conditioning.lexical.said.weight, std=0.1)  # explaining away, noticeably
    torch.nn.init.normal_(model.conditioning.length.countdown.weight, std=0.1)
    targets = torch.from_numpy(trained.embedder.encode(TEXTS[:5])).float()
    ids = model.write(targets, Sampling(temperature=0, max_length=8), torch.Generator())
    scores = likelihood(model, targets, ids)
    scores[:, 0, model.eos] = -torch.inf
    ended = (ids == model.eos).cumsum(dim=1) > 1
    assert torch.equal(scores.argmax(dim=-1)[~ended], ids[~ended])


@torch.inference_mode()
def test_beam_search_finds_likelier_texts_than_greedy_and_a_beam_of_one_is_greedy(gpt2_folder):
    model = Vec2Text.from_base(settings(gpt2_folder), Embedder(hashed)).model  # untrained: greedy is seldom likeliest
    targets = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))

    def likelihood_a_token(ids):
        scores = likelihood(model, targets, ids).gather(2, ids[:, :, None])[:, :, 0]
        ended = (ids == model.eos).cumsum(dim=1) - (ids == model.eos).int() > 0
        return scores.masked_fill(ended, 0.0).sum(dim=1) / (~ended).sum(dim=1)

    greedy = model.write(targets, Sampling(temperature=0, max_length=6), torch.Generator())
    lengths = model.conditioning.length.draw(targets, torch.zeros(8), torch.Generator())
    assert torch.equal(search(model, targets, lengths, None, Sampling(num_beams=1, max_length=6)), greedy)
    found = likelihood_a_token(search(model, targets, lengths, None, Sampling(num_beams=100, max_length=6)))
    assert (found >= likelihood_a_token(greedy) - 1e-5).all()
    assert found.mean() > likelihood_a_token(greedy).mean() + 1e-3


def test_a_part_of_the_vocabulary_stands_for_all_of_it(monkeypatch):
    monkeypatch.setattr(vec2text_model, "NEGATIVES", 50)
    wanted = torch.tensor([7, 3, 7, 199])
    weights = torch.rand(200, generator=torch.Generator().manual_seed(0))
    sums = []
    for seed in range(200):
        torch.manual_seed(seed)
        tokens, stands_for, numbers = candidates(wanted, 200)
        assert tokens[numbers].tolist() == wanted.tolist() and len(set(tokens.tolist())) == len(tokens) == 53
        sums.append(float(weights[tokens] @ stands_for))
    assert np.mean(sums) == pytest.approx(float(weights.sum()), rel=0.01)
    tokens, stands_for, _ = candidates(wanted, 40 + 160)
    assert stands_for.sum() == pytest.approx(200)


@torch.inference_mode()
def test_a_guess_of_length_is_a_distribution_and_its_draws_follow_it():
    torch.manual_seed(0)
    length = Length(8, 4)
    embeddings = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    every = torch.arange(1, 2049)
    for row in embeddings:
        likelihood = (-length.loss(row.expand(len(every), -1), every)).exp()
        assert likelihood.sum() == pytest.approx(1.0, abs=1e-4)
        drawn = length.draw(row.expand(4000, -1), torch.ones(4000), torch.Generator().manual_seed(1))
        assert (drawn <= 32).float().mean() == pytest.approx(float(likelihood[:32].sum()), abs=0.03)
        median = int(length.draw(row[None], torch.zeros(1), torch.Generator()))
        assert likelihood[: length.last[length.band(torch.tensor(median))]].sum() >= 0.5 - 1e-4
    assert length.band(torch.tensor([1, 32, 33, 40, 41, 2048, 9999, -3])).tolist() == [0, 31, 32, 32, 33, 55, 55, 0]


def test_the_length_of_texts_that_have_one_length_is_known(trained):
    model, targets = trained.model, torch.from_numpy(trained.embedder.encode(TEXTS[:12])).float()
    guessed = model.conditioning.length.draw(targets, torch.zeros(12), torch.Generator())
    lengths = [len(ids) + 1 for ids in trained.tokenizer(TEXTS[:12], add_special_tokens=False)["input_ids"]]
    assert guessed.tolist() == lengths


PHRASE = st.lists(st.sampled_from([*WORDS, "0.3"]), min_size=1, max_size=6).map(" ".join)


@hypothesis.settings(max_examples=60, deadline=None)
@given(title=PHRASE, content=st.lists(PHRASE, min_size=1, max_size=5), room=st.integers(3, 40))
def test_a_text_that_is_too_long_ends_with_its_last_sentence_that_fits(trained, title, content, room):
    starts = [f"{title}\n\n{'. '.join(content[:count])}." for count in range(1, len(content) + 1)]
    fit = [start for start in starts if len(tokenise([start], trained.tokenizer, end=True)[0]) <= room]
    assert ended(starts[-1], trained.tokenizer, room) == (fit[-1] if fit else starts[-1])


def test_a_model_learns_and_is_judged_by_texts_that_end(trained):
    model, text = copy.copy(trained), "red cat\n\nA tree falls. The old house by the river sleeps."
    model.settings = replace(trained.settings, max_length=16)
    assert model.cut([text]) == ["red cat\n\nA tree falls."]
    other = text.replace("river", "stone")
    assert model.loss([text] * 2, np.ones((2, 32))) == model.loss([other] * 2, np.ones((2, 32)))
    model.settings = replace(trained.settings, max_length=6)
    [broken] = model.cut([text])
    assert text.startswith(broken) and not broken.endswith(".")


def test_long_texts_come_in_smaller_batches():
    lengths = np.random.default_rng(0).integers(1, 300, size=700)
    buckets = LengthBuckets(lengths, 16, seed=1, most_tokens=1024)
    batches = list(buckets)
    assert sorted(row for batch in batches for row in batch) == list(range(700)) and len(batches) == len(buckets)
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 1024
    assert max(map(len, batches)) == 16
    assert all(len(batch) == 1 for batch in LengthBuckets([5000, 9, 5000], 16, seed=0, most_tokens=1024))


def test_length_buckets_give_every_row_once_and_similar_lengths_together():
    lengths = np.random.default_rng(0).integers(1, 200, size=500)
    buckets = LengthBuckets(lengths, 16, seed=1)
    batches = list(buckets)
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    assert len(batches) == len(buckets)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.1 * np.ptp(lengths)
    assert list(buckets) == batches
    buckets.set_epoch(1)
    assert list(buckets) != batches


@pytest.mark.parametrize(("killed_at", "phase"), [(2, "lexical"), (10, "inverter"), (24, "corrector")])
def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(
    killed_at, phase, gpt2_folder, tmp_path, monkeypatch
):
    from e2t_lib.vec2text import training

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    embedder = Embedder(hashed)
    embeddings = embedder.encode(TEXTS)
    chosen = settings(gpt2_folder, epochs=2)
    whole = Vec2Text.from_base(chosen, embedder).fit(TEXTS, embeddings)

    killed = Vec2Text.from_base(chosen, embedder)
    set_rates, calls = training._set_learning_rates, []

    def die(*arguments):
        calls.append(arguments)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        set_rates(*arguments)

    monkeypatch.setattr(training, "_set_learning_rates", die)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(TEXTS, embeddings, checkpoint_dir=tmp_path / "checkpoint")
    batches = len(LengthBuckets(range(len(TEXTS) - len(whole.held_out)), 8, 0))
    progress = json.loads((tmp_path / "checkpoint" / phase / "progress.json").read_text())
    lexical = 4  # passes of the lexical head alone, a batch each
    before = {"lexical": 0, "inverter": lexical, "corrector": lexical + 2 * batches}
    assert progress["step"] == killed_at - before[phase]

    steps = []
    monkeypatch.setattr(training, "_set_learning_rates", lambda *a: (steps.append(a), set_rates(*a)))
    resumed = Vec2Text.from_base(chosen, embedder)
    resumed.fit(TEXTS, embeddings, checkpoint_dir=tmp_path / "checkpoint", resume=True)
    assert len(steps) == lexical + 3 * batches - killed_at  # two passes of the inverter, one of the corrector
    for key, value in whole.model.state_dict().items():
        assert torch.allclose(value, resumed.model.state_dict()[key], atol=1e-6), key
    assert resumed.history.val_loss == pytest.approx(whole.history.val_loss)
    assert resumed.corrector_history.val_loss == pytest.approx(whole.corrector_history.val_loss)
    assert not (tmp_path / "checkpoint").exists()


def test_the_minilm_decoder_starts_from_minilm_and_spells_case_and_spaces():
    from e2t_lib.vec2text.bases import load_base

    model, tokenizer = load_base("minilm-decoder")
    text = "Transmon qubits in (2+1)-D: a Case Study\n\nWe measure $T_1$ for IBM's chip, twice."
    assert tokenizer.decode(tokenizer(text)["input_ids"]).strip() == text
    rows = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach(), dim=1)
    token = {word: tokenizer.convert_tokens_to_ids("▁" + word) for word in ("quantum", "Quantum", "learning", "the")}
    assert 0.8 < rows[token["quantum"]] @ rows[token["Quantum"]] < 0.99
    assert rows[token["quantum"]] @ rows[token["learning"]] < 0.8


def test_an_unreachable_base_model_is_one_clear_error(gpt2_folder):
    with pytest.raises(E2TError, match=r"base model 'nobody/nothing'.*--base-model embedded"):
        Vec2Text.from_base(Vec2TextSettings(base_model="nobody/nothing"), Embedder(hashed))


def test_embeddings_that_do_not_fit_are_named(trained):
    with pytest.raises(E2TError, match="7 dimensions; this model inverts 32"):
        trained.invert_embeddings(np.ones((2, 7)))
    with pytest.raises(E2TError, match="embedding 1 is zero or not finite"):
        trained.invert_embeddings(np.stack([np.ones(32), np.zeros(32)]))
    with pytest.raises(E2TError, match="3 texts and 2 embeddings"):
        trained.fit(TEXTS[:3], np.ones((2, 32)))


def test_interpolation_starts_and_ends_at_the_texts(trained):
    a, b = trained.embedder.encode([TEXTS[0], TEXTS[-1]])
    results = trained.interpolate(a, b, 3, settings=CorrectionSettings(max_length=8, max_correction_iterations=1))
    assert len(results) == 3
    first, last = results[0].embedding, results[-1].embedding
    assert first @ a > first @ b and last @ b > last @ a


def test_arithmetic_lands_at_the_sum(trained):
    quick = CorrectionSettings(max_length=8, max_correction_iterations=1)
    a, b, c = trained.embedder.encode([TEXTS[0], TEXTS[30], TEXTS[-1]])
    assert trained.arithmetic([a, b], [b], settings=quick).text == trained.invert_embeddings(a, settings=quick)[0].text
    mixed = trained.arithmetic([a, c], settings=quick)
    total = (a + c) / np.linalg.norm(a + c)
    assert mixed.cosine == pytest.approx(float(mixed.embedding @ total), abs=1e-5)
    with pytest.raises(E2TError, match="zero or not finite"):
        trained.arithmetic([a], [a])


def test_bf16_is_left_alone_where_avx512_is():
    code = "from e2t_lib.vec2text.training import bf16_pays; print(bf16_pays())"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "CUDA_VISIBLE_DEVICES": ""}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "False"


def test_training_runs_in_two_processes(gpt2_folder, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_vec2text import TEXTS, hashed, settings\n"
        "from e2t_lib.embedder import Embedder\n"
        "from e2t_lib.vec2text import Vec2Text\n"
        "embedder = Embedder(hashed)\n"
        "model = Vec2Text.from_base(settings(sys.argv[2], epochs=2), embedder)\n"
        "model.fit(TEXTS, embedder.encode(TEXTS))\n"
        "sys.stdout.write(f'LOSSES {model.history.val_loss}\\n')\n"  # at once: the other writes to the same pipe
    )
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [sys.executable, *launch, str(script)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    out = subprocess.run(
        [*command, str(Path(__file__).parent), str(gpt2_folder)],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
    )
    assert out.returncode == 0, out.stderr[-2000:]
    losses = [line for line in out.stdout.splitlines() if line.startswith("LOSSES")]
    assert len(losses) == 2 and losses[0] == losses[1]


def test_weights_of_another_version_are_one_clear_error(trained, tmp_path):
    trained.save(tmp_path / "vec2text")
    weights = tmp_path / "vec2text" / "language_model" / "conditioning.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if not name.startswith("length.")}
    save_file(kept, weights)
    config = tmp_path / "vec2text" / "vec2text_config.json"
    record = json.loads(config.read_text())
    del record["settings"]["length_head"]  # as a version before it wrote
    config.write_text(json.dumps(record))
    with pytest.raises(E2TError, match="of another version of e2t, or damaged"):
        Vec2Text.load(tmp_path / "vec2text", embedder=hashed)
    with pytest.raises(E2TError, match="of another version of e2t, or damaged"):
        Vec2Text.from_base(settings(tmp_path / "vec2text"), trained.embedder)


def test_a_training_that_diverges_is_one_clear_error_and_leaves_its_checkpoint_sound(
    gpt2_folder, tmp_path, monkeypatch
):
    from e2t_lib.vec2text import training

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    embedder = Embedder(hashed)
    model = Vec2Text.from_base(settings(gpt2_folder, lexical_epochs=0, learning_rate=1e30), embedder)
    with pytest.raises(
        E2TError, match=r"inverter: the gradient of step \d+ is not finite .* lower learning_rate, now 1e\+30"
    ):
        model.fit(TEXTS, embedder.encode(TEXTS), checkpoint_dir=tmp_path / "checkpoint")
    weights = load_file(tmp_path / "checkpoint" / "inverter" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_every_position_sees_something_and_a_texts_own_only_what_stands_before_it():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    seen = vec2text_model._causal(mask)[:, 0] == 0
    assert seen.any(dim=2).all()
    assert seen[0].tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, True, True],
    ]
    assert torch.equal(seen[1], torch.ones(4, 4, dtype=torch.bool).tril())


def test_text_and_hypothesis_share_the_positions_of_the_base(gpt2_folder):
    embedder = Embedder(hashed)
    positions = Vec2Text.from_base(settings(gpt2_folder), embedder).model.language_model.config.max_position_embeddings
    most = positions - 9  # two prefixes of four, and a token of a hypothesis
    model = Vec2Text.from_base(settings(gpt2_folder, max_length=most), embedder)
    assert model.model.room(most) == 1 and model.model.room(12) == 12
    targets = embedder.encode(TEXTS[:2])
    long = Sampling(temperature=2.0, max_length=most)
    assert len(model.write(targets, long, hypotheses=(["red cat " * positions] * 2, targets))) == 2
    with pytest.raises(E2TError, match=f"max_length {most + 1}: the base model has room for {most} tokens at most"):
        Vec2Text.from_base(settings(gpt2_folder, max_length=most + 1), embedder)


def test_an_echo_is_as_long_as_its_text_and_near_it(trained):
    embeddings = trained.embedder.encode(TEXTS)
    echoed = echoes(trained, PairDataset(embeddings, TEXTS, trained.tokenizer, 12), range(len(TEXTS)))
    ids = [trained.tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (TEXTS, echoed)]
    assert [len(row) for row in ids[1]] == [len(row) for row in ids[0]]
    assert any(echo != text for echo, text in zip(echoed, TEXTS, strict=True))
    nearer = (trained.embedder.encode(echoed) * embeddings).sum(axis=1).mean()
    assert nearer > (np.roll(trained.embedder.encode(echoed), 7, axis=0) * embeddings).sum(axis=1).mean() + 0.1


def test_near_misses_are_written_echoed_or_none(trained):
    embeddings = trained.embedder.encode(TEXTS)
    pairs = with_near_misses(trained, TEXTS, embeddings)
    without = [row for row, ids in enumerate(pairs.hypotheses) if not len(ids)]
    assert 0.1 < len(without) / len(TEXTS) < 0.4
    again = with_near_misses(trained, TEXTS, embeddings)
    assert all(np.array_equal(*two) for two in zip(pairs.hypotheses, again.hypotheses, strict=True))
    hypotheses = trained.tokenizer.batch_decode(pairs.hypotheses)
    landed = trained.embedder.encode([text or "-" for text in hypotheses])
    rows = [row for row in range(len(TEXTS)) if row not in without]
    assert np.allclose(pairs.hypothesis_embeddings[rows], landed[rows], atol=1e-5)
