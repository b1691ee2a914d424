"""Items per second of the evaluator beside plain lm-eval: the same model, tasks and items in one run, one line of JSON at the end.

    python benchmarks/evaluate.py [--model FOLDER] [--data DIR] [--items 40]

Without --model, a random Llama of 8M parameters with SmolLM2's tokenizer; its speed is that of a trained one.
Plain lm-eval is its own Hugging Face model at the batch size it does best at among 8 and 32. Loading models and data is not timed.
Rates are per CPU-second of this process (machines are shared); wall-clock rates stand beside them.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from codemix_megatron.cores import available_cores
from codemix_megatron.evaluate.adapter import harness_model
from codemix_megatron.evaluate.harness import at_work, load_task
from codemix_megatron.evaluate.suite_data import dataset_of
from codemix_megatron.evaluate.suites import find_data, read_suite
from codemix_megatron.inference.exported import load_exported

REPOSITORY = Path(__file__).resolve().parents[1]
TASKS = ("piqa", "arc_easy", "hellaswag", "social_iqa", "winogrande", "copa", "boolq")
TARGET = 1.0


def random_llama(folder: Path):
    """Save a random model of 8M parameters with SmolLM2's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    file = REPOSITORY.parent / "shared" / "data" / "tokenizers" / "smollm2" / "tokenizer.json"
    PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)), hidden_size=128, intermediate_size=384, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def timed(model, tasks, data: Path, items: int) -> tuple[float, float, dict]:
    """Return CPU-seconds and seconds of lm_eval.evaluate over all tasks, and accuracies."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    loaded = {}
    for task in tasks:
        definition = {**task.lm_eval, **dataset_of(task, find_data(task, data)), "num_fewshot": 0, "task": task.name}
        loaded |= load_task(TaskManager(include_defaults=False), definition, task.name, "suite")["tasks"]
    began, cpu_began = time.perf_counter(), time.process_time()
    results = lm_eval.evaluate(lm=model, task_dict={"tasks": loaded}, limit=items, bootstrap_iters=0, log_samples=True)
    return (
        time.process_time() - cpu_began,
        time.perf_counter() - began,
        {name: values["acc,none"] for name, values in results["results"].items()},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "eval")
    parser.add_argument("--items", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.model or random_llama(Path(scratch))
        exported = load_exported(folder, "cpu")
    tasks = [task for task in read_suite("paper").tasks if task.name in TASKS and find_data(task, arguments.data)]
    rates, walls, accuracies = {}, {}, {}
    with at_work(lambda *_: None):
        from lm_eval.models.huggingface import HFLM

        plain = {
            f"lm-eval, batch {size}": HFLM(
                pretrained=exported.model, tokenizer=exported.tokenizer, backend="causal", batch_size=size, softmax_dtype="float32"
            )
            for size in (8, 32)
        }
        for name, model in {"ours": harness_model(exported), **plain, "ours again": harness_model(exported)}.items():
            cpu, wall, accuracies[name] = timed(model, tasks, arguments.data, arguments.items)
            rates[name], walls[name] = (arguments.items * len(tasks) / seconds for seconds in (cpu, wall))
            sys.__stdout__.write(f"{name:>20}: {rates[name]:7.2f} items per CPU-second, {walls[name]:7.2f} items/s\n")
            sys.__stdout__.flush()
    best = max(rate for name, rate in rates.items() if name in plain)
    ours = (rates["ours"] + rates["ours again"]) / 2
    equal = all(accuracies["ours"] == accuracies[name] for name in plain)
    print(json.dumps({
        "bench": "evaluate", "model": str(arguments.model or "random Llama, 8M"), "tasks": len(tasks), "items_per_task": arguments.items,
        "items_per_cpu_second": round(ours, 2), "lm_eval_items_per_cpu_second": round(best, 2),
        "wall_ratio": round((walls["ours"] + walls["ours again"]) / 2 / max(walls[name] for name in plain), 2),
        "ratio": round(ours / best, 2), "target": TARGET,
        "met": ours / best >= TARGET, "same_accuracies": equal,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
