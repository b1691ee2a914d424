"""The layouts that are simulated in shape, at which worlds, and those whose memory is compared with the plan."""

__all__ = ["memory_cases", "shape_cases"]

from models import BLOCKS

WORLDS = ((8, 0), (64, 31), (1024, 1023))  # the first rank, one in the middle, the last
LAYOUTS = {
    "data": {},
    "data, no overlap": {"overlap": False},
    "data, whole optimizer": {"distributed_optimizer": False},
    "tensor": {"tensor": 2},
    "tensor, sequence parallel": {"tensor": 4, "sequence_parallel": True},
    "pipeline": {"pipeline": 2},
    "virtual pipeline": {"pipeline": 2, "virtual_pipeline": 2},
    "tensor x pipeline, recomputed": {"tensor": 2, "pipeline": 4, "sequence_parallel": True, "recompute": "full"},
    "tensor x pipeline, recomputed attention": {"tensor": 2, "pipeline": 2, "recompute": "selective"},
}
# What Transformer Engine alone computes; without it these are refused by name.
ENGINE_LAYOUTS = {
    "context": ({"context": 2}, {}),
    "context x tensor, recomputed": ({"context": 4, "tensor": 2, "sequence_parallel": True, "recompute": "full"}, {}),
    "context x pipeline": ({"context": 2, "pipeline": 2}, {}),
    "FP8 tensorwise, tensor": ({"tensor": 2, "sequence_parallel": True}, {"fp8": "tensorwise"}),
    "FP8 delayed, pipeline": ({"pipeline": 2}, {"fp8": "delayed"}),
    "FP8 tensorwise, recomputed": ({"recompute": "full"}, {"fp8": "tensorwise"}),
    "FP8 delayed, context": ({"context": 2}, {"fp8": "delayed"}),
}
REFUSED = {"parallel": "parallel.context: .* needs Transformer Engine", "model": "model.fp8: .* needs Transformer Engine"}
# What `codemix plan` says of memory is held to these, one for the first or last rank of each layout, at both sizes of the paper.
MEMORY_LAYOUTS = {
    "one rank": (1, 0, {}),
    "one rank, recomputed": (1, 0, {"recompute": "full"}),
    "data 8": (8, 3, {}),
    "data 8, whole optimizer": (8, 3, {"distributed_optimizer": False}),
    "tensor 2, sequence parallel": (8, 3, {"tensor": 2, "sequence_parallel": True}),
    "tensor 4": (8, 3, {"tensor": 4}),
    "pipeline 4, first": (8, 0, {"pipeline": 4}),
    "pipeline 4, last": (8, 7, {"pipeline": 4}),
    "tensor 2 x pipeline 2, first": (8, 0, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}),
    "pipeline 2 x virtual 2, first": (8, 0, {"pipeline": 2, "virtual_pipeline": 2}),
    "pipeline 2 x virtual 2, last": (8, 7, {"pipeline": 2, "virtual_pipeline": 2}),
}
# Of layouts that Transformer Engine alone computes, at the smaller size.
ENGINE_MEMORY = {
    "context 2": (2, 1, {"context": 2}, {}),
    "FP8 delayed": (1, 0, {}, {"fp8": "delayed"}),
    "FP8 tensorwise": (1, 0, {}, {"fp8": "tensorwise"}),
}


def worlds(number: int, quick: bool) -> tuple[tuple[int, int], ...]:
    """Return the worlds and ranks of a layout; quickly one of them, in turns."""
    return WORLDS[number % 3 :][:1] if quick else WORLDS


def shape_cases(engine: str, quick: bool) -> list[dict]:
    """Return every layout at three worlds, blocks in turns; and what is refused without Transformer Engine, with how."""
    cases = []
    for number, (layout, parallel) in enumerate(LAYOUTS.items()):
        block = list(BLOCKS)[number % 2]
        for world, rank in worlds(number, quick):
            case = {"name": f"{layout}, {block}, rank {rank} of {world}", "world": world, "rank": rank, "save": True}
            cases.append({**case, "parallel": parallel, "model": BLOCKS[block], "batch": {"micro_batches": 4}})
    cases.append({"name": "one rank", "world": 1, "rank": 0, "save": True})
    documents = {"documents": True, "model": {"sequence_length": 64, "sliding_window": 48}, "batch": {"micro_sequences": 2}}
    cases.append({"name": "documents, rank 3 of 8", "world": 8, "rank": 3, "parallel": {"tensor": 2}, **documents})
    return cases + engine_cases(engine, quick)


def engine_cases(engine: str, quick: bool) -> list[dict]:
    """Return context parallelism and FP8: at three worlds on Transformer Engine, and once on local layers, which refuse them."""
    cases = []
    for number, (layout, (parallel, model)) in enumerate(ENGINE_LAYOUTS.items()):
        block = list(BLOCKS)[number % 2]
        common = {"parallel": parallel, "model": {**BLOCKS[block], **model, "sequence_length": 64}, "batch": {"micro_batches": 4}}
        for world, rank in worlds(number, quick or engine == "local"):
            case = {"name": f"{layout}, {block}, rank {rank} of {world}", "world": world, "rank": rank, "save": True, **common}
            refused = REFUSED["parallel" if "context" in parallel else "model"]
            cases.append({**case, "refused": refused} if engine == "local" else case)
    return cases


def memory_cases(engine: str) -> list[dict]:
    """Return both sizes at each layout, and what Transformer Engine alone computes."""
    cases = [
        {"name": f"{size}, {name}", "size": size, "world": world, "rank": rank, "parallel": parallel}
        for size in ("470m", "2.8b")
        for name, (world, rank, parallel) in MEMORY_LAYOUTS.items()
    ]
    if engine != "local":
        cases += [
            {"name": f"470m, {name}", "size": "470m", "world": world, "rank": rank, "parallel": parallel, "model": model}
            for name, (world, rank, parallel, model) in ENGINE_MEMORY.items()
        ]
    return [{**case, "vocabulary": 50257, "batch": batch_of(case)} for case in cases]


def batch_of(case: dict) -> dict:
    """Return the micro batches of a memory case: enough to fill a pipeline."""
    has_stages = "pipeline" in case["parallel"]
    return {"micro_sequences": 4 if case["size"] == "470m" and not has_stages else 1, "micro_batches": 8 if has_stages else 2}
