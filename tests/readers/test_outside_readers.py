"""What an export claims, read by libraries that did not write it: transformers 4, mlx-lm, CTranslate2. `make test-readers` installs them."""

import numpy as np
import pytest
import torch
from exported_models import ask, export_trained_here, export_without_parity
from family_models import FAMILIES, carry, make_model, train_sentencepiece

from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]

TOLERANCE = 1e-4  # largest difference of fp32 logits
READ_RIGHTLY = {"mlx": 7, "ctranslate2": 4}  # at least so many families, as at first
ROW = np.random.default_rng(0).integers(0, 256, 100).tolist()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every family as transformers 5 wrote it, imported and exported; and the logits that transformers 5 gives the original."""
    from transformers import AutoModelForCausalLM

    work, exported, expected, originals = tmp_path_factory.mktemp("readers"), {}, {}, {}
    for number, name in enumerate(FAMILIES):
        folder = work / str(number)
        make_model(name, folder / "theirs", spread=0.15)
        carry(folder / "theirs", folder / "run", parity=False)
        exported[name], originals[name] = export_without_parity(folder / "run", folder / "ours"), folder / "theirs"
        with torch.no_grad():
            expected[name] = AutoModelForCausalLM.from_pretrained(folder / "theirs", dtype=torch.float32)(torch.tensor([ROW])).logits[0]
    return work, exported, expected, originals


@pytest.fixture(scope="module")
def read_by_transformers_4(models):
    """What transformers 4 says of every export."""
    work, exported, *_ = models
    return ask("transformers", exported, work, row=ROW, texts=TOKENIZER_TEXTS)


def distance(answer: dict, expected: torch.Tensor) -> float | str:
    """Return how far a reader's logits are from those of transformers 5 of the original, or why it gave none."""
    return float((torch.tensor(answer["logits"]) - expected).abs().max()) if "logits" in answer else answer["fault"]


def is_right(apart: float | str) -> bool:
    """Say whether logits are those of transformers 5."""
    return isinstance(apart, float) and apart <= TOLERANCE


def compare_logits(reader: str, found: dict, expected: dict, originals: dict, measured) -> int:
    """Hold a reader's logits against those of transformers 5 of the original, print them, and return how many models it read rightly.

    What a reader cannot read, or reads otherwise, although it is given the untouched original, is its own affair.
    """
    wrong, right = [], 0
    for name, logits in expected.items():
        apart = distance(found[name], logits)
        right += is_right(apart)
        own = distance(originals[name], logits) if not is_right(apart) and name in originals else None
        if own is not None and not is_right(own):
            measured(
                f"{reader:<13} {name:<29} not compared: of the untouched original {own if isinstance(own, str) else f'{own:.1e} apart'}"
            )
            continue
        measured(f"{reader:<13} {name:<29} logits up to {float(logits.abs().max()):.1f}, {apart} apart")
        wrong += [] if is_right(apart) else [(name, apart)]
    assert not wrong
    return right


def test_transformers_4_gives_every_export_the_logits_of_the_original(read_by_transformers_4, models, measured):
    assert compare_logits("transformers 4", read_by_transformers_4, models[2], {}, measured) == len(FAMILIES)


@pytest.mark.parametrize("reader", ["mlx", "ctranslate2"])
def test_engines_that_are_not_transformers_give_the_logits_of_the_original(reader, models, measured):
    work, exported, expected, originals = models
    there = {f"original of {name}": folder for name, folder in originals.items()}
    found = ask(reader, exported | there, work, row=ROW)
    own = {name: found[f"original of {name}"] for name in originals}
    assert compare_logits(reader, found, expected, own, measured) >= READ_RIGHTLY[reader]


def test_every_family_keeps_its_own_ids_and_special_tokens_in_transformers_4(read_by_transformers_4, models):
    from tokenizers import Tokenizer

    for name, answer in read_by_transformers_4.items():
        ours = Tokenizer.from_file(str(models[1][name] / "tokenizer.json"))
        assert answer["ids"] == [ours.encode(text, add_special_tokens=False).ids for text in TOKENIZER_TEXTS], name
        assert answer["special"] == {"bos": 257, "eos": 256, "pad": 258}, name


def test_sentencepiece_model_alone_gives_its_ids_in_transformers_4_and_invents_no_special_token(tmp_path):
    from sentencepiece import SentencePieceProcessor

    path = train_sentencepiece(tmp_path / "tokenizer.model", 500)
    make_model("llama", tmp_path / "theirs", vocab_size=500)
    carry(tmp_path / "theirs", tmp_path / "run", parity=False)
    exported = export_trained_here(tmp_path / "run", tmp_path / "ours", path)
    answer = ask("transformers", {"it": exported}, tmp_path, texts=TOKENIZER_TEXTS)["it"]
    ours = SentencePieceProcessor(model_file=str(path))
    assert answer["ids"] == ours.encode(list(TOKENIZER_TEXTS))
    assert answer["decoded"][3] == TOKENIZER_TEXTS[3]
    assert answer["special"] == {"bos": None, "eos": ours.eos_id(), "pad": None}
