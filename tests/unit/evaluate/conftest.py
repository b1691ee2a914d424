"""A tiny random model and documents to score, made once."""

import numpy as np
import pytest
import torch
from tiny_export import make_text, save_export

from codemix_megatron.corpus.tokenizers import train_tokenizer
from codemix_megatron.inference.exported import ExportedModel, load_exported
from codemix_megatron.inference.offline import go_offline

go_offline()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for their threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Thirty texts from 3 to 290 words."""
    return [make_text(seed, 3 + 7 * (seed % 9) ** 2 // 2 + 2 * seed) for seed in range(30)]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory, texts):
    """A byte-level BPE of 320 ids."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(texts, 320, path)
    return path


@pytest.fixture(scope="session")
def export_folder(tmp_path_factory, tokenizer_file):
    """Folder of a random model that sees 48 tokens."""
    folder = tmp_path_factory.mktemp("export") / "step-7"
    save_export(folder, tokenizer_file)
    return folder


@pytest.fixture(scope="session")
def exported(export_folder) -> ExportedModel:
    """The random model, loaded on the CPU."""
    return load_exported(export_folder, "cpu")


@pytest.fixture(scope="session")
def documents(exported, texts) -> list[np.ndarray]:
    """Token ids of the texts, each with the end-of-document token."""
    return [np.array([*exported.tokenizer.encode(text, add_special_tokens=False), 0], dtype=np.uint16) for text in texts]
