"""Pack what a bare machine with Python 3.12 and a CUDA build of torch lacks for gpu-check.

    python benchmarks/gpu_check/bundle.py --python VENV/bin/python --cuda /usr/local/cuda-13.0 [--arch 90] [--out FOLDER]

VENV is of the machine's Python and has its torch, with `wheel`, `ninja` and `setuptools<82`; nothing of it needs a GPU. Packages come from PyPI.
Written is FOLDER/gpu-check.tar.gz (a folder for PYTHONPATH) and FOLDER/gpu-check.sh, which unpacks it and runs all stages. Ends with its size,
and with exit code 1 above 64 MiB.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from device_code import keep_architecture

LARGEST_BYTES = 64 << 20
ENGINE = "2.11.0"
# What PyPI has as wheels; the rest of what gpu-check imports comes with the machine's image.
WHEELS = (
    f"transformer-engine=={ENGINE}",
    f"transformer-engine-cu13=={ENGINE}",
    "megatron-core==0.16.1",
    "orjson==3.13.0",
    "zstandard==0.25.0",
    "fastokens==0.3.5",
    "kitoken==0.11.1",
    "pydantic==2.14.4",
    "pydantic_core==2.50.5",
    "annotated-types==0.8.0",
    "typing-inspection==0.4.5",
    "importlib-metadata==10.2.0",
    "nvdlfw-inspect==0.2.2",
)
UNUSED = ("transformer_engine/jax", "transformer_engine/pytorch/csrc")
SCRIPT = """#!/bin/bash
# On the machine with the GPU, in the repository's root: bash FOLDER/gpu-check.sh RESULTS
set -e
here=$(cd "$(dirname "$0")" && pwd)
site=$(mktemp -d) && tar -C "$site" -xzf "$here/gpu-check.tar.gz"
export PYTHONPATH="$site" NVTE_FRAMEWORK=pytorch
[ -f /usr/local/cuda/include/cuda_runtime.h ] && export CUDA_HOME=/usr/local/cuda
exec python3 benchmarks/gpu_check --out "${1:-gpu-check}"
"""


def main() -> int:
    """Download, build, prune, pack, and weigh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of a virtual environment as the GPU machine's")
    parser.add_argument(
        "--cuda", type=Path, default=Path("/usr/local/cuda"), help="CUDA's toolkit, for its headers (default: /usr/local/cuda)"
    )
    parser.add_argument("--arch", type=int, default=90, help="architecture whose device code is kept (default: 90, Hopper)")
    parser.add_argument("--out", type=Path, default=Path("gpu-bundle"), metavar="FOLDER")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    wheels, site = out / "wheels", out / "site"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [str(arguments.python.absolute()), "-m", "pip", "--disable-pip-version-check"]
    download(pip, wheels)
    if not list(wheels.glob("transformer_engine_torch-*.whl")):
        build_extension(pip, arguments.python.absolute(), arguments.cuda, wheels, out / "build")
    shutil.rmtree(site, ignore_errors=True)
    run([*pip, "install", "--quiet", "--no-deps", "--no-compile", "--target", site, *sorted(wheels.glob("*.whl"))])
    kept = prune(site, arguments.arch)
    packed = pack(site, out / "gpu-check.tar.gz")
    (out / "gpu-check.sh").write_text(SCRIPT)
    size = packed.stat().st_size
    print(
        f"{packed}: {size / 2**20:.1f} MiB, at most {LARGEST_BYTES >> 20}; device code of sm_{arguments.arch}: {kept / 2**20:.0f} MiB unpacked"
    )
    return 0 if size <= LARGEST_BYTES else 1


def run(words: list, **named) -> None:
    """Run a command; its failure ends this program."""
    subprocess.run(list(map(str, words)), check=True, **named)


def download(pip: list[str], wheels: Path) -> None:
    """Get the wheels that are not there yet, each without what it needs itself."""
    run([*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", wheels, *WHEELS])


def build_extension(pip: list[str], python: Path, cuda: Path, wheels: Path, work: Path) -> None:
    """Build Transformer Engine's part for torch, for PyPI has its source alone; as one translation unit, so that headers are read once."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run([*pip, "download", "--quiet", "--no-deps", "--no-build-isolation", "--dest", work, f"transformer-engine-torch=={ENGINE}"])
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(work, filter="data")
    folder = work / archive.name.removesuffix(".tar.gz")
    join_sources(folder / "csrc")
    run(
        [*pip, "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", wheels, "."],
        cwd=folder,
        env=compiler_settings(python, cuda),
    )


def join_sources(csrc: Path) -> None:
    """Have one file include all others."""
    for path in csrc.rglob("*.cpp"):
        path.rename(path.with_suffix(".ipp"))
    included = sorted(path.relative_to(csrc).as_posix() for path in csrc.rglob("*.ipp"))
    (csrc / "all.cpp").write_text("".join(f'#include "{name}"\n' for name in included))


def compiler_settings(python: Path, cuda: Path) -> dict[str, str]:
    """Return variables with which the extension compiles on a machine without a GPU: headers of the libraries that torch brought."""
    asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = Path(subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True).stdout.strip())
    headers = [packages / "nvidia" / name / "include" for name in ("cu13", "cudnn", "nccl")]
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    build = {"NVTE_FRAMEWORK": "pytorch", "NVTE_PYTORCH_FORCE_BUILD": "TRUE", "MAX_JOBS": "1", "CUDA_HOME": str(cuda)}
    return {**os.environ, **build, "PATH": path, "CPATH": os.pathsep.join(map(str, headers))}


def prune(site: Path, arch: int) -> int:
    """Leave out what no GPU of this architecture runs; return the bytes of device code that stay."""
    for name in UNUSED:
        shutil.rmtree(site / name, ignore_errors=True)
    (library,) = site.rglob("libtransformer_engine.so")
    return keep_architecture(library, arch)


def pack(site: Path, packed: Path) -> Path:
    """Write the folder as an archive, the same bytes each time."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(packed, "w:gz", compresslevel=9) as archive:
        archive.add(site, ".", filter=plain)
    return packed


if __name__ == "__main__":
    sys.exit(main())
