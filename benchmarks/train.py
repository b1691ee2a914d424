"""Training beside a plain PyTorch loop over Hugging Face's Llama: same shape, weights, batches, dtype and threads, in one run.

    python benchmarks/train.py                     on CPU: 10m and 50m against the plain loop, blocks at tensor 2, saving
    python benchmarks/train.py --device cuda       on one GPU: 470m and 2.8b in bf16, and in FP8 where it can be; prints MFU

Contenders take turns step by step; ratios are medians over the turns, of seconds on the wall and of seconds of the
processor, which other work on the machine disturbs less. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from codemix_megatron.cores import available_cores
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.megatron.upstream_warnings import hide_upstream_warnings
from codemix_megatron.parallel.ranks import join_ranks, leave_ranks, one_rank
from codemix_megatron.plan.cost import count_parameters, training_flops_per_token
from codemix_megatron.plan.devices import DEVICES
from codemix_megatron.ports import reserve_port
from codemix_megatron.recipe.schema import Batch, LearningRate, Model, Optimizer, Parallel, Phase, Recipe
from codemix_megatron.recipe.shapes import SHAPES
from codemix_megatron.records.manifest import TokenizerMetadata

RATE = 3e-4
VOCABULARIES = {"10m": 8192, "50m": 16384, "470m": 256_000, "2.8b": 256_000}
LLAMA = {"block": "sequential", "normalization": "rmsnorm", "rotary_interleaved": False}
COUNTING = "6 per matrix entry, output layer included, and causal attention once; recomputation not counted"
TARGETS = {"tokens_per_second_over_plain_loop": 1.0, "largest_loss_difference": 1e-4}


def main() -> None:
    """Run what the device is for, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", nargs="+", choices=tuple(SHAPES), help="default: 10m 50m on CPU, 470m 2.8b on CUDA")
    parser.add_argument("--steps", type=int, default=24, help="measured steps of each contender (default: 24; 50m takes half)")
    parser.add_argument("--rows", type=int, default=4, help="sequences of a global batch (default: 4)")
    parser.add_argument("--length", type=int, help="tokens of a sequence (default: 256 on CPU, 8192 on CUDA)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="CPU threads of both contenders")
    parser.add_argument("--peak", default="h100", choices=tuple(DEVICES), help="device whose peak MFU is taken of (default: h100)")
    parser.add_argument("--only", choices=("plain-loop", "blocks", "saving"), help="one part of the CPU benchmark")
    arguments = parser.parse_args()
    start_as_ranks_do()
    print(json.dumps(on_cuda(arguments) if arguments.device == "cuda" else on_cpu(arguments)))


def start_as_ranks_do() -> None:
    """Import megatron-core as `codemix train` does, which leaves out what slows a start or a step."""
    hide_upstream_warnings()
    import_megatron()


def on_cpu(arguments) -> dict:
    """Compare with the plain loop, blocks with each other, and ways to save."""
    figures = {"bench": "train", "device": "cpu", "threads": arguments.threads, "torch": torch.__version__}
    if arguments.only in (None, "plain-loop"):
        figures["plain_loop"] = {size: beside_plain_loop(size, arguments) for size in arguments.sizes or ("10m", "50m")}
    if arguments.only in (None, "blocks"):
        figures["blocks_at_tensor_2"] = blocks_at_tensor_2(arguments)
    if arguments.only in (None, "saving"):
        figures["saving"] = saving()
    met = figures.get("saving", {}).get("met", True)
    for found in figures.get("plain_loop", {}).values():
        met &= found["ratio"] >= TARGETS["tokens_per_second_over_plain_loop"] and found["largest_loss_difference"] <= 1e-4
    return {**figures, "targets": TARGETS, "met": met}


def recipe_for(size: str, arguments, model: dict, parallel: dict | None = None, precision: str = "fp32") -> Recipe:
    """Return a recipe with a model of that size."""
    from codemix_megatron.conversion.parity import model_recipe

    length = arguments.length or (8192 if arguments.device == "cuda" else 256)
    base = model_recipe(Model(**{**SHAPES[size], **model, "sequence_length": length}))
    return replace(
        base,
        model=replace(base.model, precision=precision),
        phases=(Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=RATE)),),
        parallel=Parallel(**{"device": arguments.device, **(parallel or {})}),
        batch=Batch(global_sequences=arguments.rows, micro_sequences=max(1, arguments.rows // 2)),
        optimizer=Optimizer(),
    )


def make_engine(recipe: Recipe, vocabulary: int, ranks):
    """Return an engine for one source."""
    from codemix_megatron.train.engine import Engine

    return Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=vocabulary, end_of_document_id=0), 1, ranks)


def batches(recipe: Recipe, vocabulary: int, count: int, device) -> list[torch.Tensor]:
    """Return global batches of random walks through the vocabulary, which a model can learn."""
    draw = np.random.default_rng(0)
    shape = (count, recipe.batch.global_sequences, recipe.model.sequence_length + 1)
    return list(torch.from_numpy(draw.integers(0, 3, shape).cumsum(axis=2) % vocabulary).to(device))


def engine_step(engine, rows: torch.Tensor) -> float:
    """Train one step through the engine; returns the loss."""
    from codemix_megatron.train.batches import Batch as Share

    return engine.train_step(Share(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device)), RATE, False).losses.mean


class PlainLoop:
    """What one writes without a framework: LlamaForCausalLM, fused AdamW, gradient clipping, micro batches."""

    def __init__(self, recipe: Recipe, vocabulary: int, weights: dict[str, torch.Tensor]):
        from transformers import LlamaConfig, LlamaForCausalLM

        model = recipe.model
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=model.hidden_size,
            intermediate_size=model.ffn_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_attention_heads,
            num_key_value_heads=model.query_groups,
            max_position_embeddings=model.sequence_length,
            rms_norm_eps=model.normalization_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": model.rope_base},
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            use_cache=False,
        )
        self.recipe, self.model = recipe, LlamaForCausalLM(config)
        self.model.load_state_dict(llama_names(weights, model), strict=False)
        decay = recipe.optimizer.weight_decay
        groups = [{"params": [p for p in self.model.parameters() if p.ndim == n], "weight_decay": d} for n, d in ((2, decay), (1, 0.0))]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, betas=recipe.optimizer.betas, eps=recipe.optimizer.epsilon, fused=True)

    def step(self, rows: torch.Tensor) -> float:
        """Train one step; returns the loss."""
        self.optimizer.zero_grad()
        micro_batches, total = rows.split(self.recipe.batch.micro_sequences), 0.0
        for ids in micro_batches:
            logits = self.model(ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()) / len(micro_batches)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.gradient_clip)
        self.optimizer.step()
        return total


def llama_names(weights: dict[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    """Return Megatron's weights under Llama's names."""
    named = {"model.embed_tokens.weight": weights["embedding.word_embeddings.weight"]}
    named["model.norm.weight"] = weights["decoder.final_layernorm.weight"]
    for n in range(model.num_layers):
        prefix = f"decoder.layers.{n}."
        ours = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        groups = ours["self_attention.linear_qkv.weight"].reshape(model.query_groups, -1, model.head_size, model.hidden_size)
        gate, up = ours["mlp.linear_fc1.weight"].chunk(2)
        theirs = {
            "input_layernorm": ours["input_layernorm.weight"],
            "post_attention_layernorm": ours["pre_mlp_layernorm.weight"],
            "self_attn.q_proj": groups[:, :-2].reshape(-1, model.hidden_size),
            "self_attn.k_proj": groups[:, -2].reshape(-1, model.hidden_size),
            "self_attn.v_proj": groups[:, -1].reshape(-1, model.hidden_size),
            "self_attn.o_proj": ours["self_attention.linear_proj.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": ours["mlp.linear_fc2.weight"],
        }
        named |= {f"model.layers.{n}.{name}.weight": weight for name, weight in theirs.items()}
    return named


def beside_plain_loop(size: str, arguments) -> dict:
    """Train the same weights on the same batches in both, turn by turn."""
    vocabulary, recipe = VOCABULARIES[size], recipe_for(size, arguments, LLAMA)
    steps = arguments.steps if size == "10m" else max(3, arguments.steps // 2)
    with one_rank(device="cpu") as ranks:
        torch.set_num_threads(arguments.threads)
        engine = make_engine(recipe, vocabulary, ranks)
        weights = {name: p.detach().clone() for name, p in engine.chunks[0].module.named_parameters()}
        plain = PlainLoop(recipe, vocabulary, weights)
        runners = {"ours": lambda rows: engine_step(engine, rows), "plain": plain.step}
        losses, seconds = take_turns(runners, batches(recipe, vocabulary, steps + 2, ranks.device))
    tokens = recipe.batch.global_sequences * recipe.model.sequence_length
    found = {
        "parameters": count_parameters(recipe.model, vocabulary).total,
        "tokens_per_second": {name: round(tokens / median, 1) for name, median in medians(seconds).items()},
        "ratio": ratio_of(seconds, "plain", "ours", 0),
        "ratio_of_processor_seconds": ratio_of(seconds, "plain", "ours", 1),
        "largest_loss_difference": float(f"{max(abs(a - b) for a, b in zip(losses['ours'], losses['plain'], strict=True)):.1e}"),
        "losses_first_and_last": [round(losses["ours"][i], 4) for i in (0, -1)],
        "steps": steps,
    }
    print(f"{size:<6} {found}")
    return found


def take_turns(runners: dict, rows: list[torch.Tensor]) -> tuple[dict, dict]:
    """Run every contender on each batch, in changing order; returns losses and seconds."""
    losses, seconds = {name: [] for name in runners}, {name: [] for name in runners}
    for turn, batch in enumerate(rows):
        for name in list(runners)[:: 1 if turn % 2 else -1]:
            began = time.perf_counter(), time.process_time()
            losses[name].append(runners[name](batch))
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return losses, seconds


def medians(seconds: dict, warm_up: int = 2) -> dict[str, float]:
    """Return contender -> median seconds on the wall."""
    return {name: statistics.median(wall for wall, _ in times[warm_up:]) for name, times in seconds.items()}


def ratio_of(seconds: dict, slow: str, fast: str, clock: int, warm_up: int = 2) -> float:
    """Return the median over turns of one contender's seconds over another's; clock 0 is the wall's, 1 the processor's."""
    pairs = zip(seconds[slow][warm_up:], seconds[fast][warm_up:], strict=True)
    return round(statistics.median(a[clock] / b[clock] for a, b in pairs), 3)


def blocks_at_tensor_2(arguments) -> dict:
    """Measure the sequential and the parallel block on two tensor ranks."""
    import torch.multiprocessing

    with tempfile.TemporaryDirectory() as folder, reserve_port() as held:
        port = held.getsockname()[1]
        out = Path(folder) / "found.json"
        torch.multiprocessing.spawn(block_rank, (port, arguments, str(out)), nprocs=2)
        found = json.loads(out.read_text())
    print(f"blocks {found}")
    return found


def block_rank(rank: int, port: int, arguments, out: str) -> None:
    """Be one of two tensor ranks: both blocks take turns; every collective is counted."""
    import torch.distributed as dist

    start_as_ranks_do()
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    recipes = {
        block: recipe_for("10m", arguments, {"block": block}, {"tensor": 2, "threads_per_rank": 1}) for block in ("sequential", "parallel")
    }
    ranks = join_ranks(recipes["parallel"].parallel, 1)
    engines = {block: make_engine(recipe, VOCABULARIES["10m"], ranks) for block, recipe in recipes.items()}
    counts, real = dict.fromkeys(engines, 0), dist.all_reduce

    def run(block, rows):
        def counted(*words, **named):
            counts[block] += 1
            return real(*words, **named)

        counts[block], dist.all_reduce = 0, counted
        try:
            return engine_step(engines[block], rows)
        finally:
            dist.all_reduce = real

    runners = {block: lambda rows, block=block: run(block, rows) for block in engines}
    _, seconds = take_turns(runners, batches(recipes["parallel"], VOCABULARIES["10m"], arguments.steps + 2, ranks.device))
    if ranks.is_main:
        times = {block: round(median, 4) for block, median in medians(seconds).items()}
        ratio = ratio_of(seconds, "sequential", "parallel", 0)
        Path(out).write_text(json.dumps({"all_reduces_per_step": counts, "seconds_per_step": times, "speed_ratio": ratio}))
    leave_ranks()


def saving() -> dict:
    """Measure what saving costs the loop: benchmarks/saving.py, in a process of its own."""
    done = subprocess.run([sys.executable, str(Path(__file__).parent / "saving.py")], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"benchmarks/saving.py failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def on_cuda(arguments) -> dict:
    """Measure tokens per second and MFU on one GPU, in bf16 and, where Transformer Engine is, in FP8."""
    from codemix_megatron.parallel.device import active_engines, active_kernels

    device = torch.device("cuda")
    figures = {"bench": "train", "device": torch.cuda.get_device_name(), "torch": torch.__version__, "kernels": active_kernels(device)}
    figures |= {"counting": COUNTING, "peak_teraflops": DEVICES[arguments.peak].teraflops, "runs": []}
    kinds = ["off", "tensorwise", "delayed"] if active_engines()["transformer_engine"] else ["off"]
    for size in arguments.sizes or ("470m", "2.8b"):
        for fp8 in kinds:
            torch.cuda.reset_peak_memory_stats()  # of the run before
            try:
                figures["runs"].append(one_gpu(size, fp8, arguments))
            except torch.cuda.OutOfMemoryError as fault:
                figures["runs"].append({"size": size, "fp8": fp8, "out_of_memory": str(fault).splitlines()[0]})
            torch.cuda.empty_cache()
            print(figures["runs"][-1])
    return figures


def one_gpu(size: str, fp8: str, arguments) -> dict:
    """Train one size on one GPU; returns medians."""
    recipe, vocabulary = recipe_for(size, arguments, {"fp8": fp8}, precision="bf16"), VOCABULARIES[size]
    with one_rank(device="cuda") as ranks:
        engine = make_engine(recipe, vocabulary, ranks)
        rows = batches(recipe, vocabulary, arguments.steps + 3, ranks.device)
        losses, seconds = take_turns({"ours": lambda batch: engine_step(engine, batch)}, rows)
    median = medians(seconds, warm_up=3)["ours"]
    tokens = recipe.batch.global_sequences * recipe.model.sequence_length
    flops = training_flops_per_token(recipe.model, vocabulary) * tokens / median
    return {
        "size": size,
        "fp8": fp8,
        "parameters": count_parameters(recipe.model, vocabulary).total,
        "tokens_per_second": round(tokens / median),
        "model_teraflops_per_second": round(flops / 1e12, 1),
        "mfu": round(flops / (DEVICES[arguments.peak].teraflops * 1e12), 3),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
        "losses_first_and_last": [round(losses["ours"][i], 4) for i in (0, -1)],
    }


if __name__ == "__main__":
    main()
