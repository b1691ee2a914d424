"""What is asked of a GPU, in the order in which it is: what everything else rests on first."""

from dataclasses import dataclass

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True)
class Stage:
    """A program of this folder with its words, and the seconds it may take on a GPU machine."""

    name: str
    program: str
    words: tuple[str, ...]
    limit_seconds: float
    claim: str


STAGES = (
    Stage("versions", "versions.py", (), 30, "which driver, CUDA, libraries and kernels are here, and what codemix doctor says of them"),
    Stage(
        "losses-torch",
        "losses.py",
        ("torch",),
        60,
        "without Transformer Engine five steps have the CPU's losses, both blocks, fp32 and bf16",
    ),
    Stage("adam-torch", "adam.py", ("torch",), 20, "the fused Adam without Transformer Engine is torch's AdamW"),
    Stage("losses-te", "losses.py", ("transformer-engine",), 60, "with Transformer Engine too; a run done twice has the same bits"),
    Stage("adam-te", "adam.py", ("transformer-engine",), 20, "Transformer Engine's Adam is torch's AdamW"),
    Stage(
        "checkpoints", "checkpoints.py", (), 60, "a CPU checkpoint goes on on the GPU and back; a save beside training goes on bit for bit"
    ),
    Stage("fp8", "losses.py", ("fp8",), 45, "both FP8 recipes have the losses of bf16"),
    Stage("scoring", "scoring.py", (), 35, "live scoring of odd lengths is that of each text alone, in bf16 and FP8"),
    Stage("speed-470m", "speed.py", ("470m", "1", "2", "4"), 55, "tokens/s, MFU and peak memory against the plan"),
    Stage("speed-2.8b", "speed.py", ("2.8b", "1", "2"), 90, "tokens/s, MFU and peak memory against the plan"),
    Stage("fusions", "fusions.py", (), 75, "what each fusion brings"),
    Stage(
        "stop-and-resume", "stopping.py", (), 45, "codemix train stops when asked and goes on with the losses of a run that was not stopped"
    ),
)
