"""One command of codemix as one rank, on CPU tensors that stand for CUDA ones.

python commands.py cuda|transformer-engine WORDS...       the launcher's variables say which rank this is, of how many
"""

import sys

from values import prepare


def main() -> None:
    """Be `codemix WORDS`."""
    prepare(sys.argv[1])
    from codemix_megatron.cli.main import main as codemix

    code = codemix(sys.argv[2:])
    sys.exit(0 if code in (0, None, 75) else code)  # 75: stopped early and saved


if __name__ == "__main__":
    main()
