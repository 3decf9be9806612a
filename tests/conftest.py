"""Shared by all tests: quiet, offline, two threads."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory):
    """A small GPT-2 checkpoint with a byte-level tokenizer: what a hub name such as DialoGPT's resolves to."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("gpt2")
    corpus = ["red blue green tall small old cat dog tree house river stone sleeps falls"] * 50
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    set_seed(0)
    eos = fast.eos_token_id
    config = GPT2Config(
        vocab_size=len(fast), n_positions=2048, n_embd=48, n_layer=2, n_head=4, bos_token_id=eos, eos_token_id=eos
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(gpt2_folder, tmp_path_factory):
    """(models folder, metrics): both models, trained for moments on the ten documents from a small GPT-2."""
    from e2t_lib.settings import MapSettings, Vec2TextSettings
    from e2t_lib.train import train_models

    folder = tmp_path_factory.mktemp("trained") / "models"
    metrics = train_models(
        "data/arxiv_test",
        folder,
        map_settings=MapSettings(epochs=5, fine_tune_epochs=20, batch_size=4),
        vec2text_settings=Vec2TextSettings(
            base_model=str(gpt2_folder), max_length=40, batch_size=4, epochs=2, held_out=0.2, prefix_width=32
        ),
    )
    return folder, metrics
