"""One command of codemix as one rank, on CPU tensors that stand for CUDA ones.

python commands.py cuda|transformer-engine WORDS...       the launcher's variables say which rank this is, of how many
"""

import sys

from values import prepare


def ask_for_less() -> None:
    """Measure with small matrices and messages: those for a GPU keep a CPU busy for minutes."""
    from codemix_megatron.parallel import exchange, probe

    probe.WIDTH["cuda"], probe.REPEATS["cuda"], exchange.EXCHANGED_BYTES["cuda"] = 64, 1, 1 << 16


def main() -> None:
    """Be `codemix WORDS`."""
    prepare(sys.argv[1])
    ask_for_less()
    from codemix_megatron.cli.main import main as codemix

    code = codemix(sys.argv[2:])
    sys.exit(0 if code in (0, None, 75) else code)  # 75: stopped early and saved


if __name__ == "__main__":
    main()
