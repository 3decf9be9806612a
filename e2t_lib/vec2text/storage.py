"""The saved folder: vec2text_config.json, tokenizer/, language_model/ and embedding_model/, and a model card."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from e2t_lib.embedder import Embedder
from e2t_lib.errors import E2TError
from e2t_lib.files import atomic_folder, write_json, write_text
from e2t_lib.model_card import CARD, vec2text_card
from e2t_lib.settings import Vec2TextSettings
from e2t_lib.vec2text.bases import load_language_model, load_tokenizer
from e2t_lib.vec2text.conditioning import Conditioning, token_groups
from e2t_lib.vec2text.model import ConditionedLM

CONFIG = "vec2text_config.json"
CONDITIONING = "language_model/conditioning.safetensors"


def save_model(folder: Path, model: ConditionedLM, tokenizer: Any, embedder: Embedder, record: dict[str, Any]) -> None:
    """Write the folder atomically.

    Raises:
        E2TError: the place cannot be written.
    """
    with atomic_folder(folder) as new:
        tokenizer.save_pretrained(new / "tokenizer")
        model.language_model.save_pretrained(new / "language_model")
        save_file(model.conditioning.state_dict(), new / CONDITIONING)
        embedder.save(new / "embedding_model")
        write_json(new / CONFIG, record)
        write_text(new / CARD, vec2text_card(record))


def load_model(folder: Path, settings: Vec2TextSettings, dimension: int) -> tuple[ConditionedLM, Any]:
    """The conditioned language model of a folder, in fp32, and its tokenizer.

    Raises:
        E2TError: its weights are not those of this version's conditioning.
    """
    language_model = load_language_model(folder / "language_model")
    tokenizer = load_tokenizer(folder / "tokenizer")
    tokens = language_model.get_input_embeddings().weight
    conditioning = Conditioning(dimension, tokens.shape[1], token_groups(tokenizer, len(tokens)), settings)
    try:
        conditioning.load_state_dict(load_file(folder / CONDITIONING))
    except RuntimeError:  # torch's message lists every weight
        raise E2TError(
            f"{folder / CONDITIONING}: of another version of e2t, or damaged; train the model anew"
        ) from None
    model = ConditionedLM(language_model, conditioning, bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id)
    return model, tokenizer
