"""make check-cuda: the CUDA path without a GPU, in shapes and in values; ends with one line of JSON.

    python check.py [commands] [shapes] [memory] [values] [keys] [carried] [fp8] [lines]       all of them without words

`lines` counts which lines of CUDA branches the other parts ran. With --quick shapes are looked at as one rank for each layout. Needs a CUDA
build of torch, megatron-core, and TE_SOURCE: the wheel of transformer_engine 2.11, unpacked. No GPU, no driver, no compiled Transformer
Engine. Exit code 1 where anything differs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from check_commands import check_commands  # noqa: E402
from check_lines import check_lines  # noqa: E402
from check_shapes import check_memory, check_shapes  # noqa: E402
from check_values import check_carried, check_fp8, check_keys, check_values  # noqa: E402
from processes import count_lines_in  # noqa: E402

from codemix_megatron.cores import available_cores  # noqa: E402

MOST_AT_ONCE = 4  # parts; each is a process or two of one thread, of about a gigabyte

PARTS = {
    "commands": check_commands,
    "shapes": check_shapes,
    "memory": check_memory,
    "values": check_values,
    "keys": check_keys,
    "carried": check_carried,
    "fp8": check_fp8,
    "lines": check_lines,
}


def do_part(name: str, folder: Path) -> dict:
    """Do one part in a folder of its own, print what it gave and return it; one that breaks off keeps no other from being done."""
    began, own = time.monotonic(), folder / name
    own.mkdir()
    try:
        found = PARTS[name](own)
    except (SystemExit, subprocess.TimeoutExpired) as end:
        found = {"faults": [str(end)]}
    found["seconds"] = round(time.monotonic() - began)
    print(json.dumps({name: found}), flush=True)
    return found


def main() -> int:
    """Do what is asked; return the exit code."""
    import torch

    wanted = [word for word in sys.argv[1:] if word != "--quick"] or list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        sys.exit(f"{', '.join(unknown)}: no part of this check; there are {', '.join(PARTS)}")
    if not (Path(os.environ.get("TE_SOURCE", "")) / "transformer_engine").is_dir():
        sys.exit(f"TE_SOURCE={os.environ.get('TE_SOURCE')}: no folder transformer_engine in it; name where the wheel of 2.11 is unpacked")
    with tempfile.TemporaryDirectory() as folder:
        if "lines" in wanted:
            count_lines_in(Path(folder) / "counted")
        with ThreadPoolExecutor(min(available_cores(), MOST_AT_ONCE)) as parts:
            started = {name: parts.submit(do_part, name, Path(folder)) for name in wanted if name != "lines"}
        figures = {name: part.result() for name, part in started.items()}
        if "lines" in wanted:
            figures["lines"] = do_part("lines", Path(folder))
    faults = [fault for found in figures.values() for fault in found["faults"]]
    print(json.dumps({"check": "cuda", "simulated": True, "torch": torch.__version__, **figures, "ok": not faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
