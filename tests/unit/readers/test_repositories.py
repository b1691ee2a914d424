"""Whole repositories: files of one document in the order Python itself would import them, with paths that the tokenizer's tokens part."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from licence_samples import GPL_NOTICE, MIT

from codemix_megatron.corpus.corpus_check import check_corpus
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.fill_in_the_middle import documents_of
from codemix_megatron.readers.import_order import imports_first
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.licences import licence_allowed
from codemix_megatron.recipe.schema import CorpusSpec, Repositories

FILES = {
    "app.py": "import tools.deep as deep\nfrom tools import first, second\n\n",
    "tools/__init__.py": "",
    "tools/first.py": "from . import second\nfrom .deep import leaf\nNAME = '<file_sep>'\n",
    "tools/second.py": "import json\nVALUE = json.dumps(1)\n",
    "tools/deep/__init__.py": "from tools.second import VALUE\n",
    "tools/deep/leaf.py": "from ..second import (\n    VALUE,\n)\n",
    "alone.py": "ALONE = 1\n",
}


@pytest.fixture
def repository(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "src" / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "src" / "project" / "data.bin").write_bytes(b"\0\1")
    return tmp_path / "src" / "project"


@pytest.fixture
def prepared(tmp_path, spec_for):
    def prepare(*special, named="repositories:{}/src/*", **more):
        folder = tmp_path / "_".join(name.strip("<>") for name in special or ("plain",))
        train_tokenizer([json.dumps(FILES)] * 3, 300, folder / "tokenizer.json", special_tokens=special)
        spec = spec_for(named.format(tmp_path), kind="code", prefix=str(folder / "code"), **more)
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        return prepare_corpus("code", spec, tokenizer, HowToPrepare()), tokenizer

    return prepare


def test_order_is_that_in_which_python_finishes_its_imports(repository):
    """Judged by the interpreter: modules in the order in which their bodies have been run."""
    script = (
        "import importlib.machinery as m, sys\nsys.path.insert(0, sys.argv[1])\ndone = []\nreal = m.SourceFileLoader.exec_module\n"
        "def run(self, module):\n    real(self, module)\n    done.append(self.path)\nm.SourceFileLoader.exec_module = run\nimport app\n"
        "print('\\n'.join(p for p in done if p.startswith(sys.argv[1])))"
    )
    printed = subprocess.run([sys.executable, "-c", script, str(repository)], capture_output=True, text=True, check=True).stdout.split()
    finished = [path.removeprefix(f"{repository}/") for path in printed]
    assert set(finished) == set(FILES) - {"alone.py"}
    order = imports_first(FILES)
    assert set(order) == set(FILES)
    for importer, module in [
        ("app.py", "tools/first.py"), ("app.py", "tools/deep/__init__.py"), ("tools/first.py", "tools/second.py"),
        ("tools/first.py", "tools/deep/leaf.py"), ("tools/deep/__init__.py", "tools/second.py"), ("tools/deep/leaf.py", "tools/second.py"),
    ]:  # fmt: skip
        assert finished.index(module) < finished.index(importer) and order.index(module) < order.index(importer), (importer, module)


def test_other_languages_and_cycles():
    scripts = {
        "a.ts": "import x from './lib/b'",
        "lib/b.ts": "require('../c.js')",
        "c.js": "",
        "lib/index.ts": "",
        "z.ts": "import './lib'",
    }
    assert imports_first(scripts) == ["c.js", "lib/b.ts", "a.ts", "lib/index.ts", "z.ts"]
    assert imports_first({"main.c": '#include "part.h"\n#include <stdio.h>', "part.h": "", "src/x.c": '#include "y.h"', "src/y.h": ""}) == [
        "part.h", "main.c", "src/y.h", "src/x.c",
    ]  # fmt: skip
    assert imports_first({"a.py": "import b", "b.py": "import a", "c.py": ""}) == ["b.py", "a.py", "c.py"]
    chain = {f"m{i:05}.py": f"import m{i + 1:05}" for i in range(5000)}
    assert imports_first(chain)[0] == "m04999.py"


def test_a_repository_is_one_document_whose_files_are_parted_by_tokens(repository, prepared):
    manifest, tokenizer = prepared("<repo_name>", "<file_sep>")
    ids = IndexedReader(manifest.prefix).document(0)
    assert manifest.num_documents == 1 and not manifest.loss_mask_sha256 and list(manifest.languages) == ["python"]
    separator = tokenizer.token_id("<file_sep>")
    order = imports_first({name: text for name, text in FILES.items() if text})
    assert (ids == separator).sum() == len(order) and ids[0] == tokenizer.token_id("<repo_name>")
    files = [tokenizer.decode(part) for part in np.split(ids[:-1], np.flatnonzero(ids[:-1] == separator))]
    assert files[0] == "<repo_name>project\n"
    assert files[1:] == [f"<file_sep>{name}\n{FILES[name]}" for name in order], "a file that spells the token out holds text"
    assert len(documents_of(ids, tokenizer.end_of_document_id, separator)) == len(order) + 1, "infilling stays inside files"
    assert not check_corpus(manifest.prefix).differences


def test_without_such_tokens_comments_carry_the_paths_and_length_divides(repository, prepared):
    manifest, tokenizer = prepared(repositories=Repositories(order="path", longest_bytes=130))
    reader = IndexedReader(manifest.prefix)
    texts = [tokenizer.decode(tokenizer.without_ends(reader.document(i))) for i in range(len(reader))]
    assert len(texts) > 1 and all(text.startswith("# repository: project\n\n# file: ") for text in texts)
    paths = [line.removeprefix("# file: ") for text in texts for line in text.splitlines() if line.startswith("# file: ")]
    assert paths == sorted(name for name, text in FILES.items() if text)
    assert not check_corpus(manifest.prefix).differences


def test_the_licences_of_all_files_hold_and_a_file_without_one_makes_them_unknown(tmp_path):
    """Files of a repository in one document count as the same files read one by one do."""

    def licence(*files):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        for name, text in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (inputs,) = find_inputs(CorpusSpec(kind="code", documents=(f"repositories:{folder}",)), where="x")
        (document,) = inputs.read()
        return document.licence

    tagged = [(f"{n}.py", f"# SPDX-License-Identifier: {name}\n") for n, name in enumerate(("MIT OR GPL-2.0-only", "Proprietary-1.0"))]
    assert licence(*tagged) == "(MIT OR GPL-2.0-only) AND Proprietary-1.0"
    assert not licence_allowed(licence(*tagged), ("permissive",)), "the choice of one file is none of the other"
    assert licence(tagged[0], ("bare.py", "x = 1\n")) == "LicenseRef-unknown AND (MIT OR GPL-2.0-only)"
    assert licence(("bare.py", "x = 1\n")) is None
    vendored = [("LICENSE", MIT), ("a.py", "x = 1\n"), ("vendor/COPYING", GPL_NOTICE), ("vendor/b.py", "y = 2\n")]
    assert licence(*vendored) == "GPL-3.0-or-later AND MIT", "a folder's own licence counts for what is in it"
    assert licence(*vendored[:2], vendored[3]) == "MIT"


def test_another_repository_of_the_same_names_sizes_and_times_is_another(repository, prepared):
    """As archives that can be made again give all files one time, and as `cp -p` keeps it."""
    source = repository / "alone.py"
    os.utime(source, (1, 1))
    first, _ = prepared("<repo_name>", "<file_sep>")
    source.write_text("ALONE = 2\n")
    os.utime(source, (1, 1))
    second, tokenizer = prepared("<repo_name>", "<file_sep>")
    assert "ALONE = 2\n" in tokenizer.decode(IndexedReader(second.prefix).document(0)) and second.bin_sha256 != first.bin_sha256
    os.utime(source)
    (repository / "picture.png").write_bytes(b"\x89PNG")
    third, _ = prepared("<repo_name>", "<file_sep>")
    assert third.created_at == second.created_at, "a time alone and a file nobody reads change nothing"


def test_a_changed_repository_prepares_again_and_what_is_none_is_refused(repository, prepared, tmp_path):
    first, _ = prepared("<repo_name>", "<file_sep>")
    again, _ = prepared("<repo_name>", "<file_sep>")
    assert again.created_at == first.created_at and again.bin_sha256 == first.bin_sha256
    (repository / "alone.py").write_text("ALONE = 2222\n")
    changed, _ = prepared("<repo_name>", "<file_sep>")
    assert changed.bin_sha256 != first.bin_sha256
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no file of kind code"):
        prepared(named="repositories:{}/empty")
    with pytest.raises(CorpusError, match="nothing is there"):
        prepared(named="repositories:{}/none/*")
