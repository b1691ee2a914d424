"""What is here: driver, CUDA, libraries, and `codemix doctor`."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys

from child import HERE, SIMULATED, answer
from measured import layers_here

PACKAGES = ("torch", "megatron-core", "transformer-engine", "transformer-engine-torch", "numpy", "transformers", "triton")


def version(package: str) -> str | None:
    """Return a package's version, None where it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Ask all of them; only a device that is not there is a fault."""
    import torch

    is_there = torch.cuda.is_available()
    device = torch.cuda.get_device_properties(0) if is_there else None
    program = shutil.which("nvidia-smi")
    driver = (
        subprocess.run([program, "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
        if program
        else None
    )
    doctor = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "codemix.py"), layers_here(), "doctor"], capture_output=True, text=True
    )
    print(doctor.stdout + doctor.stderr)
    failing = [line for line in doctor.stdout.splitlines() if " FAILS " in line]
    failing += [f"exit code {doctor.returncode}"] if doctor.returncode and not failing else []
    answer(
        ([] if is_there or SIMULATED else ["torch finds no CUDA device"]) + [f"codemix doctor: {line}" for line in failing],
        layers_here(),
        python=platform.python_version(),
        device=device
        and {"name": device.name, "memory_gib": round(device.total_memory / 2**30, 1), "capability": f"{device.major}.{device.minor}"},
        driver=driver and driver.stdout.strip(),
        cuda=torch.version.cuda,
        nccl=".".join(map(str, torch.cuda.nccl.version())) if is_there else None,
        packages={package: version(package) for package in PACKAGES},
        training=next((line for line in doctor.stdout.splitlines() if line.startswith("training ")), None),
    )


if __name__ == "__main__":
    main()
