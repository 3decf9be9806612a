"""Base models: where the language model and its tokenizer come from.

- `embedded`: `data/base_model`, which ships with the project: a `minilm-decoder` pre-trained on arXiv titles and
  abstracts by `e2t pretrain`, conditioning included.
- `minilm-decoder`: a small decoder whose layers start as those of all-MiniLM-L6-v2: the very weights that made
  the embedding already know what its directions mean.
- anything else: a causal LM of transformers, by folder or hub name.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2t_lib.embedder import EMBEDDED, embedded_model_path
from e2t_lib.errors import E2TError
from e2t_lib.files import project_root, resolve
from e2t_lib.vec2text.vocabulary import SPACE

MINILM_DECODER = "minilm-decoder"


def base_model_folder() -> Path:
    """`data/base_model`, which ships with the project."""
    return project_root() / "data" / "base_model"


def load_base(name: str) -> tuple[Any, Any]:
    """The causal LM and the tokenizer of a base model.

    Args:
        name: "minilm-decoder", a folder, or a hub name such as "microsoft/DialoGPT-medium".

    Raises:
        E2TError: it is neither a folder, nor cached, nor reachable.
    """
    if name in (EMBEDDED, MINILM_DECODER):
        tokenizer = load_tokenizer(base_model_folder() / "tokenizer")
        return minilm_decoder(tokenizer), tokenizer
    remedy = "pass --base-model embedded, which needs no network, or the folder of a downloaded model"
    return load_by_name(name, "base model", remedy)


def load_by_name(name: str, role: str, remedy: str) -> tuple[Any, Any]:
    """The causal LM and the tokenizer of a folder or hub name.

    Args:
        name: of either.
        role, remedy: what the error calls it, and what it says to do.

    Raises:
        E2TError: it is neither a folder, nor cached, nor reachable.
    """
    source = str(resolve(name)) if resolve(name).is_dir() else name
    try:
        return load_language_model(source), load_tokenizer(source)
    except Exception as error:  # the hub client raises a dozen kinds, all meaning the same to the user
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise E2TError(
            f"{role} {name!r}: neither a folder with a causal language model, nor cached, nor reachable ({reason}); {remedy}"
        ) from None


def default_device() -> str:
    """The first of cuda, mps and cpu that is there."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_language_model(source: str | Path) -> Any:
    """The causal LM of a folder or hub name, in fp32: AdamW's small steps are lost in bf16 weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32, attn_implementation=_attention())


def _attention() -> str:
    """torch's fused attention on a CPU spends 16 % of a training step of short texts walking back; plain products 3 %."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer of a folder or hub name, with BOS and EOS settled.

    GPT-2 and its kin have an EOS only, which serves as BOS too; padding is masked out, so any token may pad.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source))
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def minilm_decoder(tokenizer: Any) -> Any:
    """A causal `BertLMHeadModel` over `tokenizer`, initialised from all-MiniLM-L6-v2 (6 layers, 384 wide).

    Layers and position embeddings are copied as they are. The vocabulary is transferred (see `_transferred`).

    Args:
        tokenizer: of `train_tokenizer`.
    """
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertLMHeadModel

    encoder = AutoModel.from_pretrained(str(embedded_model_path()))
    pieces = AutoTokenizer.from_pretrained(str(embedded_model_path()))
    config: Any = BertConfig.from_dict(copy.deepcopy(encoder.config.to_dict()))
    config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})  # one pass over many texts
    config.update({"is_decoder": True, "vocab_size": len(tokenizer), "tie_word_embeddings": True})
    config.update({"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id})
    config.update({"pad_token_id": tokenizer.pad_token_id, "architectures": ["BertLMHeadModel"]})
    config._attn_implementation = _attention()
    decoder: Any = BertLMHeadModel(config)
    weights = encoder.state_dict()
    rows: Tensor = weights.pop("embeddings.word_embeddings.weight")
    decoder.bert.load_state_dict(weights, strict=False)
    with torch.no_grad():
        decoder.get_input_embeddings().weight.copy_(_transferred(tokenizer, pieces, rows))
        decoder.cls.predictions.transform.dense.weight.copy_(torch.eye(config.hidden_size))
        decoder.cls.predictions.transform.dense.bias.zero_()
    return decoder


def _transferred(tokenizer: Any, pieces: Any, rows: Tensor) -> Tensor:
    """A starting embedding for each token, (V, h), from those of MiniLM's pieces, (pieces, h).

    A token starts as the mean of its pieces' rows, of one row nearly always. MiniLM cannot tell "The" from "the",
    which must be told apart: one direction, the same for all tokens, marks a capital, another all capitals, so that
    case is learned once and not once a word.
    """
    vocabulary = pieces.get_vocab()
    generator = torch.Generator().manual_seed(0)
    size = 0.5 * rows.norm(dim=1).mean()
    capital, capitals = (
        size * torch.nn.functional.normalize(torch.randn(rows.shape[1], generator=generator), dim=0) for _ in range(2)
    )
    out = torch.empty(len(tokenizer), rows.shape[1])
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        word = token.removeprefix(SPACE)
        continuing = vocabulary.get(f"##{word.lower()}") if word == token else None
        ids = [continuing] if continuing is not None else pieces.encode(word, add_special_tokens=False)
        out[number] = rows[ids or [pieces.unk_token_id]].mean(dim=0)
        if word[:1].isupper():
            out[number] += capitals if len(word) > 1 and word.isupper() else capital
    return out
