"""One command of codemix, in a process that computes on the GPU, on its simulation or on the CPU.

python codemix.py LAYERS WORDS...       `train` is this process alone, as its only rank
"""

import os
import sys
import threading
import time
from pathlib import Path

from child import prepare

__all__ = ["lines_of"]

STOP_AFTER = 6  # steps of the run called `stopped`


def main() -> None:
    """Be `codemix WORDS`; a run called `stopped` is asked to stop once it has done some steps, the first time."""
    layers, words = sys.argv[1], sys.argv[2:]
    if words[0] == "train":
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    prepare(layers)
    from codemix_megatron.cli.main import main as codemix

    if words[-1] == "stopped" and not Path("stopped").exists():
        threading.Thread(target=ask_to_stop, args=(Path("stopped"),), daemon=True).start()
    code = codemix(words)
    sys.exit(0 if code in (0, None, 75) else code)  # 75: stopped early and saved


def ask_to_stop(run: Path) -> None:
    """Wait for some steps, and ask."""
    while sum('"step"' in line for line in lines_of(run / "journal.jsonl")) < STOP_AFTER:
        time.sleep(0.05)
    (run / "stop").touch()


def lines_of(journal: Path) -> list[str]:
    """Return the lines of a journal, none where there is none yet."""
    return journal.read_text().splitlines() if journal.exists() else []


if __name__ == "__main__":
    main()
