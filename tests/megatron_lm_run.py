"""What Megatron-LM does with a printed command, in a process of its own: megatron_lm_run.py FOLDER OUT < script.

FOLDER is a copy of Megatron-LM, whose own parsing and validation then read the arguments, or - for megatron-core's classes alone.
In both cases the tokenizer and GPTDataset are built as pretrain_gpt.py builds them. OUT gets what they say, as JSON.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from megatron_lm_loads import without_triton


def arguments_of(script: str) -> tuple[list[str], int]:
    """Run the script up to torchrun, as a shell does, and return the words after pretrain_gpt.py and the number of ranks."""
    recorded = 'torchrun() { printf \'%s\\0\' "$CUDA_DEVICE_MAX_CONNECTIONS" "$@" > words; }\n' + script
    subprocess.run(["bash", "-c", recorded], check=True)
    connections, *words = Path("words").read_text().split("\0")[:-1]
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = connections  # what the command says, which Megatron-LM asks for
    at = words.index("pretrain_gpt.py")
    return words[at + 1 :], int(words[at - 1])


def parsed_here(words: list[str]) -> argparse.Namespace:
    """Return the arguments that datasets and tokenizers look at, with Megatron-LM's defaults for what is not said."""
    parser = argparse.ArgumentParser()
    for name in ("--tokenizer-type", "--tokenizer-model", "--split"):
        parser.add_argument(name)
    for name in ("--seed", "--seq-length", "--train-samples"):
        parser.add_argument(name, type=int)
    parser.add_argument("--data-path", nargs="+")
    parser.add_argument("--reset-attention-mask", action="store_true")
    found = parser.parse_known_args(words)[0]
    unsaid = ("vocab_file", "merge_file", "tokenizer_special_tokens", "tokenizer_metadata", "vocab_size")
    switches = ("tokenizer_hf_use_fast", "trust_remote_code", "tokenizer_hf_include_special_tokens", "tokenizer_sentencepiece_legacy")
    return argparse.Namespace(**vars(found), **dict.fromkeys(unsaid), **dict.fromkeys(switches, False))


def dataset_config(args: argparse.Namespace):
    """Return GPTDatasetConfig with megatron-core's own tokenizer."""
    from megatron.core.datasets.gpt_dataset import GPTDatasetConfig
    from megatron.core.datasets.utils import get_blend_from_list
    from megatron.core.tokenizers.text.utils.build_tokenizer import build_tokenizer

    return GPTDatasetConfig(
        random_seed=args.seed, sequence_length=args.seq_length, blend=get_blend_from_list(args.data_path), split=args.split,
        tokenizer=build_tokenizer(args), reset_position_ids=False, reset_attention_mask=args.reset_attention_mask, eod_mask_loss=False,
    )  # fmt: skip


def validated_there(folder: str, words: list[str], ranks: int):
    """Return Megatron-LM's own arguments, validated, and the dataset configuration of its pretrain_gpt.py."""
    helpers = Path(importlib.util.find_spec("megatron.core.datasets").origin).with_name("helpers_cpp*.so")
    sys.modules.pop("megatron", None)
    compiled = next(helpers.parent.glob(helpers.name))  # of the installed megatron-core: a copy of the sources has none
    for name in [name for name in sys.modules if name.startswith("megatron")]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("megatron.core.datasets.helpers_cpp", compiled)
    sys.modules["megatron.core.datasets.helpers_cpp"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.insert(0, folder)
    without_triton()
    sys.argv = ["pretrain_gpt.py", *words]
    os.environ |= {"WORLD_SIZE": str(ranks), "RANK": "0", "LOCAL_RANK": "0"}
    torch.cuda.get_device_properties = lambda *_: argparse.Namespace(major=9, minor=0)  # what validation asks of a GPU: an H100's
    from megatron.training.arguments import parse_args, validate_args

    args = validate_args(parse_args())
    import pretrain_gpt

    if hasattr(pretrain_gpt, "core_gpt_dataset_config_from_args"):
        return args, pretrain_gpt.core_gpt_dataset_config_from_args(args)
    return args, dataset_config(args)


def main(folder: str, out: str) -> None:
    """Build what training would read, and write down what it is."""
    words, ranks = arguments_of(sys.stdin.read())
    if folder == "-":
        args = parsed_here(words)
        config = dataset_config(args)
    else:
        args, config = validated_there(folder, words, ranks)
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset

    train = BlendedMegatronDatasetBuilder(GPTDataset, (args.train_samples, 8, 0), lambda *_: True, config).build()[0]
    parts = getattr(train, "datasets", [train])
    facts = {
        "eod": config.tokenizer.eod,
        "vocab_size": config.tokenizer.vocab_size,
        "samples": len(train),
        "first_tokens": train[0]["tokens"][:8].tolist(),
        "last_documents": [int(part.indices.max()) for part in parts],
        "last_tokens": [int(part.dataset[0][-1]) for part in parts],
    }
    Path(out).write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
