"""Tables, notebooks, histories, threads, posts, source trees and remote files: what becomes a document, and what bad input gives."""

import functools
import gzip
import http.server
import json
import os
import pickle
import subprocess
import threading
from dataclasses import replace

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
import zstandard
from licence_samples import MIT
from tiny_run import REPOSITORY

from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.corpus.prepare import prepare_recipe
from codemix_megatron.corpus.tokenizers import SENTINEL_FAMILIES, load_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.fill_in_the_middle import middle_filler
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.issue_threads import thread_text
from codemix_megatron.readers.source_languages import language_of
from codemix_megatron.readers.stack_exchange import text_of_html
from codemix_megatron.recipe.reading import build_recipe, read_recipe
from codemix_megatron.recipe.schema import CorpusSpec


def inputs(*documents, kind="code", **more):
    return find_inputs(CorpusSpec(kind=kind, documents=tuple(map(str, documents)), **more), where="corpora.x.documents")


def read(*documents, **more) -> list[Document | BadDocument]:
    return [document for file in inputs(*documents, **more) for document in file.read()]


def good(found) -> list[Document]:
    return [document for document in found if isinstance(document, Document)]


def reasons(found) -> list[str]:
    return [document.reason for document in found if isinstance(document, BadDocument)]


def check_parts(*documents, part_bytes: int, **more) -> int:
    """Assert that parts, pickled as for a worker, give the documents of the whole; return how many there were."""
    (file,) = inputs(*documents, **more)
    parts = pickle.loads(pickle.dumps(file.divide(part_bytes)))
    assert sum(part.num_bytes for part in parts) == file.num_bytes

    def told(documents):
        return [(getattr(d, "text", None), getattr(d, "reason", None), getattr(d, "language", None)) for d in documents]

    assert told(d for part in parts for d in part.read()) == told(file.read())
    return len(parts)


ROWS = [{"text": f"row {i}", "lang": ["python", "markdown", None][i % 3], "license": "MIT"} for i in range(1000)]
ROWS[5]["text"], ROWS[6]["text"] = None, "  "


def write_table(path, rows=ROWS, **more):
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, **{"row_group_size": 100, **more})
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path, chunksize=100)
    else:
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=300)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow"])
def test_rows_of_tables_are_documents_in_their_order(tmp_path, name):
    found = read(write_table(tmp_path / name))
    assert [d.text for d in good(found)] == [f"row {i}" for i in range(1000) if i not in (5, 6)]
    assert (found[0].language, found[0].licence, found[0].kind) == ("python", "MIT", None)
    assert found[1].kind == "markup", "markup inside a corpus of code is counted as markup"
    assert found[5] == BadDocument(f"{tmp_path / name}:6", "null text") and found[6].harmless
    assert len({d.identity for d in good(found)}) == 998


def test_parquet_is_read_in_parts_by_row_groups(tmp_path):
    path = write_table(tmp_path / "x.parquet")
    assert check_parts(path, part_bytes=path.stat().st_size // 4) >= 3
    assert check_parts(path, part_bytes=1) == 10


def test_the_stacks_columns_are_known_and_others_can_be_named(tmp_path):
    rows = [{"content": "x = 1", "lang": "Python", "max_stars_repo_licenses": ["MIT", "GPL-3.0"], "max_stars_repo_name": "a/b", "rank": 3}]
    write_table(tmp_path / "stack.parquet", rows)
    (document,) = read(tmp_path / "stack.parquet", text_key="content")
    assert (document.language, document.licence, document.origin) == ("Python", "MIT AND GPL-3.0", "a/b")
    (document,) = read(tmp_path / "stack.parquet", text_key="content", licence_key="lang", language_key="rank")
    assert (document.language, document.licence) == (None, "Python")
    with pytest.raises(CorpusError, match=r"no column 'text'; there are content, lang, .*; set corpora.NAME.text_key"):
        read(tmp_path / "stack.parquet")


def test_string_of_a_table_that_is_not_utf8_costs_its_row_only(tmp_path):
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"good", b"\xff\xfe"]).buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), tmp_path / "x.parquet")
    first, second = read(tmp_path / "x.parquet")
    assert (first.text, second) == ("good", BadDocument(f"{tmp_path / 'x.parquet'}:2", "invalid UTF-8"))


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-50], lambda data: b"not a table", lambda data: b"", lambda data: data[: len(data) // 2]]
)
def test_damaged_table_is_an_error_and_no_silent_end(tmp_path, name, damage):
    path = write_table(tmp_path / name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorpusError, match=rf"{name}: (damaged, or no|no Arrow file)"):
        [d for file in inputs(path) for part in file.divide(10**9) for d in part.read()]
    with pytest.raises(CorpusError):
        [d for file in inputs(path) for part in file.divide(1) for d in part.read()]


NOTEBOOK = {
    "nbformat": 4,
    "metadata": {"language_info": {"name": "julia"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Words."]},
        {"cell_type": "code", "source": "x = 1\nprint(x)\n", "outputs": [{"text": ["1\n"]}]},
        {"cell_type": "code", "source": []},
        {"cell_type": "raw", "source": "raw"},
        {"cell_type": "code", "source": 'd = """\n```\n"""'},
    ],
}


def test_notebook_is_prose_and_fenced_code_without_outputs(tmp_path):
    (tmp_path / "n.ipynb").write_text(json.dumps(NOTEBOOK))
    (document,) = read(tmp_path / "n.ipynb")
    assert document.text == '# Title\n\nWords.\n\n```julia\nx = 1\nprint(x)\n```\n\nraw\n\n````julia\nd = """\n```\n"""\n````\n'
    assert (document.language, document.kind) == ("notebook", "code_adjacent")


def test_notebook_of_the_third_format(tmp_path):
    sheet = {"cells": [{"cell_type": "heading", "level": 2, "source": "Head"}, {"cell_type": "code", "input": "y", "language": "python"}]}
    (tmp_path / "n.ipynb").write_text(json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [sheet]}))
    assert read(tmp_path / "n.ipynb")[0].text == "## Head\n\n```python\ny\n```\n"


def test_notebooks_made_again_from_real_ones_read_the_same(shared_data, tmp_path):
    """Text of notebooks beside the project, cut at its fences into cells again."""
    records = (json.loads(line) for line in (shared_data / "code/code_adjacent.jsonl").read_text().splitlines())
    texts = [record["text"].strip() + "\n" for record in records if record["lang"] == "notebook"][:5]
    for number, text in enumerate(texts):
        cells = []
        for i, piece in enumerate(text.split("```python\n")):
            code, _, prose = piece.partition("\n```") if i else ("", "", piece)
            cells += [{"cell_type": "code", "source": code.splitlines(True)}] if i else []
            cells += [{"cell_type": "markdown", "source": prose.strip("\n").splitlines(True)}]
        (tmp_path / f"{number}.ipynb").write_text(json.dumps({"metadata": {"kernelspec": {"language": "Python"}}, "cells": cells}))
    found = good(read(tmp_path, kind="code_adjacent"))
    assert len(found) == 5
    for document, text in zip(found, texts, strict=True):
        assert " ".join(document.text.split()) == " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "broken JSON"),
        (b"[]", "no Jupyter notebook"),
        (b'{"cells": [3]}', "no Jupyter notebook"),
        (b'{"a": 1}', "no Jupyter notebook"),
    ],
)
def test_malformed_notebook_is_reported(tmp_path, content, reason):
    (tmp_path / "n.ipynb").write_bytes(content)
    assert read(tmp_path / "n.ipynb") == [BadDocument(str(tmp_path / "n.ipynb"), reason)]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": []}))
    assert reasons(read(tmp_path / "n.ipynb")) == ["empty text"]


def git(folder, *words, **environment):
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "Jo"), ("EMAIL", "jo@x.org"))}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", str(folder), *words], env={**os.environ, **who, **quiet, **environment}, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Eight commits: two files, a change, an empty one, a merge, one not UTF-8, one too large, one of a binary."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q", "-b", "main")
    second = iter(range(1000))

    def commit(message: str, **files: bytes) -> None:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        git(folder, "add", "-A")
        at = f"2024-01-01T00:{next(second):02}:00Z"
        git(folder, "commit", "-q", "--allow-empty", "-m", message, GIT_AUTHOR_DATE=at, GIT_COMMITTER_DATE=at)

    commit("Add a\n\nWith two\nlines of reason.", a_py=b"x = 1\n", b_txt=b"b\n")
    commit("Change a", a_py=b"x = 2\n")
    commit("Nothing to see")
    git(folder, "checkout", "-q", "-b", "side", "HEAD~1")
    commit("Add c", c_c=b"int c;\n")
    git(folder, "checkout", "-q", "main")
    git(folder, "merge", "-q", "--no-edit", "side")
    commit("Latin", l_txt=b"caf\xe9\n")
    commit("Large", big_txt=b"line\n" * 300_000)
    commit("Picture", p_bin=bytes(range(256)))
    return folder


def test_commits_are_messages_with_diffs_oldest_first_without_people(repository):
    found = read(f"git:{repository}")
    texts = [d.text for d in good(found)]
    assert texts[0].startswith("Add a\n\nWith two\nlines of reason.\n\ndiff --git a/a.py b/a.py\nnew file mode 100644\n")
    assert "+x = 1\n" in texts[0] and "diff --git a/b.txt" in texts[0]
    assert [text.split("\n")[0] for text in texts] == ["Add a", "Change a", "Add c", "Picture"]
    assert "-x = 1\n+x = 2\n" in texts[1] and texts[3].endswith("Binary files /dev/null and b/p.bin differ\n")
    assert not any("jo@x.org" in text or "Jo" in text for text in texts)
    assert sorted(reasons(found)) == ["commit larger than 1 MiB", "commit that is not UTF-8", "commit without a diff"]
    assert all(bad.harmless for bad in found if isinstance(bad, BadDocument))
    assert {(d.language, d.kind, d.origin) for d in good(found)} == {("commit", "code_adjacent", f"git:{repository.name}")}


def test_history_is_read_in_parts_and_whatever_the_users_settings(repository, tmp_path, monkeypatch):
    before = [d.text for d in good(read(f"git:{repository}"))]
    (tmp_path / ".gitconfig").write_text(
        "[diff]\n noprefix = true\n external = false\n[log]\n showSignature = true\n[color]\n ui = always\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert [d.text for d in good(read(f"git:{repository}"))] == before
    (file,) = inputs(f"git:{repository}")
    assert check_parts(f"git:{repository}", part_bytes=file.num_bytes // 3) >= 3


def history(repository) -> list[str]:
    return [d.text for d in good(read(f"git:{repository}"))]


def test_history_depends_on_no_setting_attribute_replacement_and_packing(repository, tmp_path):
    """Judged by a fresh clone, which has none of them."""
    git(tmp_path, "clone", "-q", "--no-hardlinks", str(repository), "mine")
    mine = tmp_path / "mine"
    before, (file,) = history(mine), inputs(f"git:{mine}")
    settings = {
        "diff.noprefix": "true", "core.abbrev": "40", "diff.context": "10", "diff.interHunkContext": "20", "diff.algorithm": "patience",
        "diff.renames": "false", "diff.suppressBlankEmpty": "true", "diff.orderFile": str(mine / "order"), "log.showSignature": "true",
        "core.quotePath": "true", "diff.python.xfuncname": "^x", "diff.submodule": "log", "diff.mnemonicPrefix": "true", "diff.relative": "true",
    }  # fmt: skip
    for name, value in settings.items():
        git(mine, "config", name, value)
    (mine / "order").write_text("b.txt\na.py\n")
    (mine / ".gitattributes").write_text("*.py -diff\n*.txt diff=python\n")
    (mine / ".git/info").mkdir(exist_ok=True)
    (mine / ".git/info/attributes").write_text("*.py binary\n*.c -text diff=python\n")
    git(mine, "replace", "--graft", "HEAD~1")
    git(mine, "gc", "-q", "--aggressive")
    assert history(mine) == before
    (again,) = inputs(f"git:{mine}")
    assert (again.num_bytes, again.stamp) == (file.num_bytes, file.stamp)
    assert [part.name for part in again.divide(10_000)] == [part.name for part in file.divide(10_000)]


def test_trailers_of_people_are_left_out_of_messages(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("a\n")
    git(tmp_path, "add", "-A")
    trailers = "Signed-off-by: Jo Doe <jo@x.org>\nCo-authored-by: Ann <ann@y.de>\nCC: list@z.net\nReviewed-By: Bob\nAuthor: Eve <eve@x.org>\nFixes: #12"
    git(tmp_path, "commit", "-q", "-m", f"Add a\n\nReported to Jo <jo@x.org> by mail: see below.\n\n{trailers}")
    (text,) = history(tmp_path)
    assert text.startswith("Add a\n\nReported to Jo <EMAIL> by mail: see below.\n\nFixes: #12\n\ndiff --git a/a.txt")


def test_shallow_clone_gives_the_commits_whose_parents_it_has(repository, tmp_path):
    full = history(repository)
    git(tmp_path, "clone", "-q", "--depth", "3", f"file://{repository}", "shallow")
    found = read(f"git:{tmp_path / 'shallow'}")
    assert [d.text for d in good(found)] == full[-1:]
    assert "commit whose parent is missing in a shallow clone" in reasons(found)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "one")
    assert reasons(read(f"git:{tmp_path / 'one'}")) == ["commit whose parent is missing in a shallow clone"]


def test_repositories_may_be_globbed_and_found_beside_the_recipe(repository, tmp_path):
    assert len(inputs(f"git:{repository.parent}/repo*")) >= 1
    (tmp_path / "tiny").symlink_to(repository)
    from tiny_run import RECIPE

    corpora = {**RECIPE["corpora"], "snippets": {"kind": "code", "documents": ["git:tiny"]}}
    recipe = build_recipe({**RECIPE, "corpora": corpora}, directory=tmp_path)
    assert recipe.corpora["snippets"].documents == (f"git:{tmp_path / 'tiny'}",)
    spec = recipe.corpora["snippets"]
    before = fingerprint_inputs(spec, find_inputs(spec, where="x"))
    assert before != fingerprint_inputs(spec, [replace(file, stamp="0" * 40) for file in find_inputs(spec, where="x")])


def test_folder_without_a_history_is_an_error(tmp_path):
    with pytest.raises(
        CorpusError, match=r"corpora.x.documents\[0\]: git:.*: no git history can be read there \(fatal: not a git repository"
    ):
        read(f"git:{tmp_path}")
    git(tmp_path, "init", "-q")
    with pytest.raises(CorpusError, match="no git history can be read there"):
        read(f"git:{tmp_path}")
    with pytest.raises(CorpusError, match="nothing is there"):
        read(f"git:{tmp_path}/none")


def test_damaged_history_is_an_error_and_no_silent_end(repository, tmp_path):
    git(tmp_path, "clone", "-q", "--no-hardlinks", str(repository), "copy")
    for path in (tmp_path / "copy/.git/objects").rglob("*"):
        if path.is_file() and path.suffix != ".idx":
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-30] + b"\0" * 10)
    with pytest.raises(CorpusError, match="no git history can be read there|git gave"):
        read(f"git:{tmp_path / 'copy'}")


THREAD = {
    "title": "Crash on empty input",
    "user": {"login": "alice"},
    "body": "It crashes.\r\n\r\nCc @Bob",
    "comments": [{"author": {"login": "bob"}, "body": "@alice fixed, see @property"}, {"user": None, "body": "thanks"}, {"body": None}],
    "diff": "diff --git a/x b/x\n+fix\n",
}


def test_thread_numbers_its_speakers_and_shows_the_diff(tmp_path):
    assert thread_text(THREAD) == (
        "Title: Crash on empty input\n\nusername_0: It crashes.\n\nCc @username_1\n\ndiff --git a/x b/x\n+fix\n\n"
        "username_1: @username_0 fixed, see @property\n\nusername_2: thanks\n"
    )
    lines = [json.dumps(THREAD), '{"title": "T", "body": "b", "comments": 3}', '{"body": "no title"}', "{"]
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = read(f"issues:{tmp_path / 'x.jsonl.gz'}")
    assert [(d.language, d.kind) for d in good(found)] == [("pull request", "code_adjacent"), ("issue", "code_adjacent")]
    assert reasons(found) == ["no key 'title'", "broken JSON"]
    with pytest.raises(CorpusError, match="not JSON lines"):
        read(f"issues:{__file__}")


def test_bare_logins_and_names_of_those_who_speak_are_replaced_and_words_are_not():
    thread = {
        "title": "octocat broke it", "user": {"login": "JaneDoe42", "name": "Jane Doe"}, "body": "hi",
        "comments": [
            {"author": {"login": "octocat"}, "body": "Thanks Jane Doe! JaneDoe42, see /octocat/repo, octocat.py, not-octocat and @octocat."},
            {"author": {"login": "python"}, "body": "python 3 works, says Octocat: ask @python"},
        ],
    }  # fmt: skip
    assert thread_text(thread) == (
        "Title: username_1 broke it\n\nusername_0: hi\n\nusername_1: Thanks username_0! username_0, see /octocat/repo, octocat.py, not-octocat"
        " and @username_1.\n\nusername_2: python 3 works, says username_1: ask @username_2\n"
    )


def test_names_are_replaced_whatever_letters_stand_beside_them_and_however_a_forge_spells_logins():
    """A capital I with a dot has a small letter of two characters; GitLab's logins hold dots and underscores."""
    thread = {
        "title": "\u0130stanbul build", "user": {"login": "ilker.oz", "name": "\u0130lker \u00d6z"}, "body": "hi",
        "comments": [{"author": {"login": "max_foo"}, "body": "\u0130lker \u00d6z, @ilker.oz and @max_foo. See ilker.oz, @pytest.fixture"}],
    }  # fmt: skip
    assert thread_text(thread) == (
        "Title: \u0130stanbul build\n\nusername_0: hi\n\n"
        "username_1: username_0, @username_0 and @username_1. See username_0, @pytest.fixture\n"
    )


POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="4" PostTypeId="1" AcceptedAnswerId="9" Score="5" Body="&lt;p&gt;How do I sort&#xA;a list?&lt;/p&gt;&#xA;&lt;pre&gt;&lt;code&gt;a = [2,&#xA;     1]&lt;/code&gt;&lt;/pre&gt;" Title="Sort &amp;amp; more" Tags="&lt;python&gt;" ContentLicense="CC BY-SA 3.0" />
  <row Id="5" PostTypeId="2" ParentId="4" Score="7" Body="&lt;p&gt;Use &lt;code&gt;sorted&lt;/code&gt; &amp;amp; be happy.&lt;/p&gt;" />
  <row Id="6" PostTypeId="1" Score="0" Title="Nobody answers" Body="&lt;p&gt;Hello&lt;/p&gt;" />
  <row Id="7" PostTypeId="2" ParentId="4" Score="-1" Body="&lt;p&gt;Bad advice&lt;/p&gt;" />
  <row Id="8" PostTypeId="5" Score="0" Body="wiki" />
  <row Id="9" PostTypeId="2" ParentId="4" Score="1" Body="&lt;ul&gt;&lt;li&gt;one&lt;/li&gt;&lt;li&gt;two&lt;/li&gt;&lt;/ul&gt;" />
  <row Id="10" PostTypeId="1" Score="2" Title="Second" Body="&lt;p&gt;Q2&lt;/p&gt;" />
  <row Id="11" PostTypeId="2" ParentId="10" Score="0" Body="&lt;p&gt;A2&lt;/p&gt;" />
</posts>
"""  # noqa: E501


def test_question_comes_with_its_answers_the_accepted_first(tmp_path):
    (tmp_path / "Posts.xml").write_text(POSTS)
    found = read(f"stackexchange:{tmp_path}")
    first, second = good(found)
    assert first.text == (
        "Q: Sort &amp; more\n\nHow do I sort a list?\n\n```\na = [2,\n     1]\n```\n\nA: - one\n- two\n\nA: Use `sorted` & be happy.\n"
    )
    assert second.text == "Q: Second\n\nQ2\n\nA: A2\n"
    assert (first.licence, first.language, first.kind) == ("CC-BY-SA-3.0", "stackexchange", "code_adjacent")
    assert reasons(found) == ["question without answers"]


def test_posts_are_dealt_out_to_files_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("codemix_megatron.readers.stack_exchange.BYTES_PER_FILE", 1 << 10)
    rows = [f'<row Id="{i}" PostTypeId="1" Title="T{i}" Body="b" Score="1" />' for i in range(1, 101)]
    rows += [f'<row Id="{1000 + i}" PostTypeId="2" ParentId="{i}" Body="answer {i}" Score="1" />' for i in range(1, 101)]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "\n".join(rows) + "\n</posts>\n")
    found = good(read(f"stackexchange:{tmp_path / 'Posts.xml'}"))
    assert sorted(d.text for d in found) == sorted(f"Q: T{i}\n\nb\n\nA: answer {i}\n" for i in range(1, 101))
    assert [d.text for d in found] == [d.text for d in good(read(f"stackexchange:{tmp_path / 'Posts.xml'}"))]


def test_broken_posts_are_reported_and_a_cut_dump_is_an_error(tmp_path):
    path = tmp_path / "Posts.xml"
    path.write_text(POSTS.replace('Title="Second" Body', 'Title="Second Body').replace('ParentId="10" ', ""))
    found = read(f"stackexchange:{path}")
    assert reasons(found) == ["broken XML", "broken XML", "question without answers"]
    assert len(good(found)) == 1
    path.write_text(POSTS[:-20])
    with pytest.raises(CorpusError, match=r"Posts\.xml: ends before </posts>"):
        read(f"stackexchange:{path}")
    path.write_text("<html>")
    with pytest.raises(CorpusError, match="no Posts.xml of a StackExchange dump"):
        read(f"stackexchange:{path}")
    with pytest.raises(CorpusError, match="no Posts.xml in it"):
        read(f"stackexchange:{tmp_path.parent}")


def test_html_of_posts_becomes_markdown():
    assert text_of_html("<p>a <strong>b</strong> <code>c&lt;d</code></p>\n\n<blockquote>\n<p>q</p></blockquote>") == "a b `c<d`\n\n> q"


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("a.h", "int f(void);", "c"), ("a.h", "namespace x { class Y; }", "c++"), ("a.h", "@interface X : NSObject", "objective-c"),
        ("a.m", "function y = f(x)", "matlab"), ("a.m", "#import <Foundation/Foundation.h>", "objective-c"), ("a.ts", "let x = 1", "typescript"),
        ("a.ts", '<?xml version="1.0"?><!DOCTYPE TS>', "xml"), ("a.pl", "use strict;", "perl"), ("a.pl", ":- module(x, []).", "prolog"),
        ("a.v", "Lemma x : 1 = 1.\nProof. reflexivity. Qed.", "coq"), ("a.v", "module m(input a);\nendmodule", "verilog"),
        ("Makefile", "all:\n", "make"), ("tool", "#!/usr/bin/env python3\n", "python"), ("tool", "#!/bin/sh\n", "shell"), ("x", "words", None),
        ("a.jsx", "x", "jsx"), ("a.scss", "x", "scss"), ("a.tex", "x", "latex"), ("Dockerfile", "FROM x", "dockerfile"), ("a.vue", "x", "vue"),
    ],
)  # fmt: skip
def test_language_is_told_by_name_and_content(name, text, language):
    assert language_of(name, text) == language


def tree(root, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def test_source_tree_leaves_out_what_git_ignores(tmp_path):
    tree(
        tmp_path,
        {
            ".git/info/exclude": "secret.py\n", ".gitignore": "build/\n*.gen.py\n!keep.gen.py\n/top.py\n", "a.py": "a", "build/b.py": "no",
            "x.gen.py": "no", "keep.gen.py": "keep", "top.py": "no", "sub/top.py": "sub", "secret.py": "no", "sub/.gitignore": "local.py\n!x.gen.py\n",
            "sub/local.py": "no", "sub/x.gen.py": "again", "local.py": "local", "run": "#!/bin/bash\necho", "notes": "no", "Makefile": "all:",
        },
    )  # fmt: skip
    found = {d.origin: d.language for d in good(read(tmp_path))}
    assert found == {
        "Makefile": "make", "a.py": "python", "keep.gen.py": "python", "local.py": "python", "run": "shell", "sub/top.py": "python", "sub/x.gen.py": "python",
    }  # fmt: skip
    assert {d.origin for d in good(read(tmp_path / "sub"))} == {"top.py", "x.gen.py"}, "rules above a folder hold inside it"
    assert len(read(tmp_path / "build")) == 1, "a folder that is named is read"


def test_ignored_names_end_at_line_feeds_alone(tmp_path):
    """Judged by git: what Python besides takes for the end of a line is part of a name."""
    tree(tmp_path, {".gitignore": "a\u2028b.py\nc\x0cd.py\r\ne.py\r\n", **{f"{name}.py": f"x = '{name}'\n" for name in "abde"}})
    git(tmp_path, "init", "-q")
    listed = subprocess.check_output(["git", "-C", tmp_path, "ls-files", "--others", "--exclude-standard"], text=True).split()
    assert {d.origin for d in good(read(tmp_path))} == {name for name in listed if name.endswith(".py")} == {"a.py", "b.py", "d.py"}


def test_sources_carry_the_licence_of_their_folder_or_their_own(tmp_path):
    tree(
        tmp_path,
        {
            "LICENSE": MIT, "a.py": "x = 1", "sub/b.py": "y = 2", "other/COPYING": "The terms of our own",
            "other/c.c": "int c;", "d.rs": "// SPDX-License-Identifier: Apache-2.0 OR MIT\nfn main() {}",
        },
    )  # fmt: skip
    assert {d.origin: d.licence for d in good(read(tmp_path))} == {
        "a.py": "MIT", "d.rs": "Apache-2.0 OR MIT", "other/c.c": "LicenseRef-unknown", "sub/b.py": "MIT",
    }  # fmt: skip


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_text_files_are_one_document_or_one_per_line_or_paragraph(tmp_path, packed):
    data = b"first\nstill first\n\n\nsecond\n\nthird\r\n"
    path = tmp_path / f"t.txt{packed}"
    path.write_bytes(gzip.compress(data) if packed else data)
    text = functools.partial(read, path, kind="text")
    assert [d.text for d in text()] == [data.decode()]
    assert [d.text for d in text(text_documents="line")] == ["first", "still first", "second", "third"]
    assert [d.text for d in text(text_documents="paragraph")] == ["first\nstill first", "second", "third"]
    assert [d.identity.rpartition(":")[2] for d in text(text_documents="paragraph")] == ["1", "5", "7"]
    if not packed:
        assert check_parts(path, kind="text", text_documents="line", part_bytes=7) > 3


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder served over HTTP."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(2000)))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "packed"}\n'))
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(os.urandom(1000))[:-40])
    write_table(folder / "c.parquet")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

        def send_head(self):
            """Serve ranges, which the library's own handler does not."""
            path = self.translate_path(self.path)
            wanted = self.headers.get("Range")
            if wanted is None or not os.path.isfile(path):
                return super().send_head()
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            with open(path, "rb") as handle:
                data = handle.read()
            part = data[int(begin) : int(end or len(data)) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{int(begin) + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def test_remote_files_are_read_where_they_are(server):
    assert [d.text for d in read(f"{server}/a.jsonl", kind="text")] == [f"line {i}" for i in range(2000)]
    assert check_parts(f"{server}/a.jsonl", kind="text", part_bytes=10_000) > 2
    assert [d.text for d in read(f"{server}/b.jsonl.gz", kind="text")] == ["packed"]
    assert len(good(read(f"{server}/c.parquet", kind="text"))) == 998
    with pytest.raises(CorpusError, match=r"cut\.jsonl\.gz: damaged archive"):
        read(f"{server}/cut.jsonl.gz")


def test_remote_folders_and_globs_are_listed_in_order():
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, content in {"d/b.jsonl": '{"text": "b"}', "d/s/a.jsonl": '{"text": "a"}', "d/README.md": "about", "e/x.bin": "x"}.items():
        memory.pipe(f"/readers/{name}", content.encode())
    assert [d.text for d in read("memory://readers/d", kind="text")] == ["b", "a"]
    assert [d.text for d in read("memory://readers/d/**/*.jsonl", kind="text")] == ["b", "a"]
    assert [file.name for file in inputs("memory://readers/d", kind="text")] == ["b.jsonl", "s/a.jsonl"]
    with pytest.raises(CorpusError, match="no file of a known suffix|unknown suffix"):
        read("memory://readers/e/*", kind="text")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://readers/none.jsonl", "nothing is there"),
        ("nosuch://x/y.jsonl", "Protocol not known"),
        ("http://127.0.0.1:9/x.jsonl", "cannot be reached|nothing is there"),
    ],
)
def test_url_that_leads_nowhere_is_an_error_with_its_key(url, message):
    with pytest.raises(CorpusError, match=message) as caught:
        read(url)
    assert str(caught.value).startswith("corpora.x.documents[0]: ")


def test_example_recipe_prepares_every_kind_of_input(repository, tmp_path):
    """examples/corpora, whole: its documents made small, its tokenizer small too."""
    documents = tmp_path / "documents"
    many = [
        f"the {word} fox {i} jumps over {i * 7} lazy dogs and runs home again to sleep for {i} days" * 4
        for i in range(40)
        for word in ("quick", "red")
    ]
    many.append(f"{many[0]} indeed")
    for name in ("web", "books", "stack/python", "markup", "project", "stackexchange", "notebooks"):
        (documents / name).mkdir(parents=True)
    (documents / "web/a.jsonl.zst").write_bytes(zstandard.compress("\n".join(json.dumps({"text": text}) for text in many).encode()))
    (documents / "books/b.txt").write_text("A book about nobody@nowhere.net. " * 20)
    code = [
        {"content": f"def {name}_{i}():\n    return {i}\n", "lang": "Python", "license": "MIT"} for i in range(30) for name in ("f", "gg")
    ]
    write_table(documents / "stack/python/1.parquet", [*code, {"content": "x = 0xff\n", "lang": "Python", "license": "MIT"}])
    write_table(documents / "markup/1.arrow", [{"text": f"# Title {i}\n\nWords of page {i}.\n", "lang": "Markdown"} for i in range(20)])
    git(documents, "clone", "-q", str(repository), "project/.")
    (documents / "project/LICENSE").write_text(MIT)
    (documents / "issues.jsonl").write_text(json.dumps(THREAD))
    (documents / "stackexchange/Posts.xml").write_text(POSTS)
    (documents / "notebooks/n.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "eval").mkdir()
    for name in ("humaneval", "mbpp.test"):
        (tmp_path / f"eval/{name}.jsonl").write_text(json.dumps({"prompt": many[7][:200]}))
    (tmp_path / "recipe.yaml").write_text((REPOSITORY / "examples/corpora/recipe.yaml").read_text())
    manifests = prepare_recipe(read_recipe(tmp_path / "recipe.yaml", ["tokenizer.train_vocab_size=600"]))
    assert set(manifests["adjacent"].languages) == {"commit", "pull request", "stackexchange", "notebook"}
    assert manifests["web_code"].dropped["0x"] == 1 and manifests["text"].dropped["contaminated"] >= 1
    assert manifests["text"].rewritten["e-mail masked"] == 20 and "near duplicate" in manifests["text"].dropped
    assert manifests["own_code"].dropped == {"alphabet share": 1} and set(manifests["own_code"].languages) == {"c"}
    assert manifests["markup"].languages["Markdown"]["documents"] == 20
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert all(tokenizer.token_id(name) is not None for name in SENTINEL_FAMILIES[0])
    corpora = {name: manifests[name] for name in ("web_code", "own_code")}
    assert middle_filler(read_recipe(tmp_path / "recipe.yaml"), corpora) is not None


def test_folder_of_tables_is_a_folder_of_shards(tmp_path):
    write_table(tmp_path / "1.parquet", ROWS[:3])
    write_table(tmp_path / "2.parquet", ROWS[3:5])
    assert [d.text for d in read(tmp_path)] == [f"row {i}" for i in range(5)]
