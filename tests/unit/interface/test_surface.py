"""The surface of `import codemix_megatron`: what it names is there, cheap to import, and says what the files say."""

import json
import subprocess
import sys

import numpy as np
import pytest
from patience import PATIENCE_SECONDS

import codemix_megatron as cm


def test_every_name_is_there_and_is_what_the_type_checker_sees():
    assert sorted(cm.__all__) == sorted(cm.MODULES)
    for name in cm.__all__:
        assert getattr(cm, name).__name__ == name, name
        assert getattr(cm, name) is getattr(cm, name)  # no subpackage takes its place once it is imported


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(AttributeError, match="no attribute 'recipes'; it has .*read_recipe"):
        cm.recipes  # noqa: B018


def test_planning_loads_neither_torch_nor_pandas(tiny):
    code = (
        "import sys, codemix_megatron as cm; sizes = {'prose': '1M', 'snippets': '1M'}\n"
        f"plan = cm.plan_run(cm.read_recipe({str(tiny.recipe)!r}), sizes=sizes, vocab_size=512)\n"
        "print(plan.steps, [name for name in ('torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.stdout == "20 []\n", done.stderr  # 12 and 8 global batches of 512 tokens


def test_a_corpus_gives_documents_that_were_prepared(tiny):
    corpora = cm.prepare_corpora(tiny.recipe)
    texts = [json.loads(line)["text"] for line in (tiny.folder / "prose.jsonl").read_text().splitlines()]
    prose = corpora["prose"]
    assert len(prose) == len(texts)
    assert sorted(prose.text(number) for number in range(len(prose))) == sorted(texts)
    ids = np.memmap(f"{prose.manifest.prefix}.bin", dtype=prose.manifest.dtype)
    assert np.array_equal(np.concatenate([prose[number] for number in range(len(prose))]), ids)
    assert [d.is_held_out for d in prose.sample(3, held_out=True)] == [True] * 3
    with pytest.raises(IndexError):
        prose[len(prose)]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(cm.CodemixError, match="not a run folder"):
        cm.Run(tmp_path)
