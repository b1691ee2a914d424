"""Each score against a judge that is not ours: Python's tokenizer and parser, tree-sitter, hand-counted functions, scikit-learn."""

import ast
import io
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import pytest
from texts_to_score import documents_of

from codemix_megatron.recipe.languages import canonical_language
from codemix_megatron.scoring.complexity import FunctionComplexity
from codemix_megatron.scoring.linting import PythonLint
from codemix_megatron.scoring.parsing import ParseErrors, grammar_parser
from codemix_megatron.scoring.text_shape import CommentShares, TextShape

WAYS = """
def straight(a):
    return a


def branches(a, b):
    if a:
        return 1
    elif b:
        return 2
    for x in range(3):
        while x:
            x -= 1
    return 3
"""


def comment_bytes(text: bytes, language: str) -> int:
    """Bytes of comments, by what is tested."""
    return round(CommentShares().score(documents_of([(text.decode(), language)]))["comments"][0] * len(text))


def python_comments(text: str) -> int:
    """Bytes of comments, by Python's own tokenizer."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(len(token.string.encode()) for token in tokens if token.type == tokenize.COMMENT)


def test_comment_bytes_of_fifty_modules_are_those_of_pythons_tokenizer():
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:50]
    different = [
        (path.name, python_comments(text), comment_bytes(text.encode(), "python"))
        for path in paths
        if (text := path.read_text(encoding="utf-8")) and python_comments(text) != comment_bytes(text.encode(), "python")
    ]
    assert len(paths) == 50 and not different


def tree_sitter_comments(text: bytes, language: str) -> int:
    """Bytes of the nodes that a grammar calls comments."""
    waiting, found = [grammar_parser(language).parse(text).root_node], 0
    while waiting:
        node = waiting.pop()
        if "comment" in node.type and node.type != "comment_content":
            found += node.end_byte - node.start_byte - text[node.start_byte : node.end_byte].endswith(b"\n")
        else:
            waiting += node.children
    return found


@pytest.mark.parametrize("language", ["go", "rust", "java", "javascript", "typescript", "c"])
def test_comment_bytes_are_those_of_tree_sitter(language, shared_data, measured):
    import orjson

    pytest.importorskip("tree_sitter_language_pack")
    with open(shared_data / "code" / "web_code.jsonl", "rb") as lines:
        texts = [
            record["text"].encode() for record in map(orjson.loads, lines) if record["lang"] == language and len(record["text"]) < 8000
        ][:40]
    ours, theirs = ([count(text, language) for text in texts] for count in (comment_bytes, tree_sitter_comments))
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    measured(
        f"bytes of comments in {language}: equal to tree-sitter's in {equal} of {len(texts)} documents, {sum(ours)} and {sum(theirs)} in all"
    )
    assert len(texts) == 40 and equal >= 38 and abs(sum(ours) - sum(theirs)) <= 0.01 * sum(theirs)


def test_docstrings_are_the_strings_that_ast_finds_as_statements(scored_texts):
    text = '"""Module."""\n\n\ndef f():\n    r"""Says."""\n    x = """no docstring"""\n    return x\n'
    found = CommentShares().score(documents_of([(text, "python")]))
    assert found["docstrings"][0] == pytest.approx((len('"""Module."""') + len('"""Says."""')) / len(text))
    assert found["comments"][0] == 0
    for module, _ in scored_texts[:6]:
        nodes = [n.value for n in ast.walk(ast.parse(module)) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
        strings = [source for node in nodes if (source := ast.get_source_segment(module, node)).lstrip("rRuU")[:3] in ('"""', "'''")]
        counted = CommentShares().score(documents_of([(module, "python")]))["docstrings"][0] * len(module.encode())
        assert counted == pytest.approx(sum(len(source.lstrip("rRuU").encode()) for source in strings), rel=0.01)


def test_shape_is_what_plain_python_counts(scored_texts):
    columns = TextShape().score(documents_of(scored_texts))
    for index, (text, _) in enumerate(scored_texts):
        lines = [line.encode() for line in text.removesuffix("\n").split("\n")]
        assert columns["bytes"][index] == len(text.encode()) and columns["lines"][index] == len(lines)
        assert columns["longest_line"][index] == max(map(len, lines))
        assert columns["mean_line"][index] == pytest.approx(np.mean([len(line) for line in lines]))
        assert columns["letters"][index] == pytest.approx(sum(c.isascii() and c.isalpha() for c in text) / len(text.encode()))
    empty = TextShape().score(documents_of([("", "python")]))
    assert empty["lines"][0] == 0 and np.isnan(empty["letters"][0])


def test_ruff_says_what_parses_and_counts_the_ways_through_functions():
    broken, unused, hidden = "def f(:\n", "import os\nx = 1\n", "import os  # noqa\nx = 1\n"
    texts = [
        (WAYS, "python"),
        (broken, "python"),
        (unused, "python"),
        (hidden, "python"),
        (WAYS, "go"),
        ("# ruff: noqa\nimport os\n", "py"),
    ]
    columns = PythonLint().score(documents_of(texts))
    assert columns["ruff_parses"].tolist()[:4] == [1, 0, 1, 1] and np.isnan(columns["ruff_parses"][4])
    assert columns["complexity"][0] == (1 + 5) / 2 and columns["most_complex"][0] == 5, "McCabe: one and each branch"
    assert columns["lint"][2] == columns["lint"][3] == pytest.approx(100 / 3) and columns["lint"][5] > 0, "what hides findings is not heard"
    assert np.isnan(columns["lint"][1]) and np.isnan(columns["complexity"][2])


def test_ruff_and_pythons_parser_agree_on_what_parses(scored_texts):
    texts = [(text, "python") for text, language in scored_texts if language == "python"]
    found = PythonLint().score(documents_of(texts))["ruff_parses"]

    def parses(text):
        try:
            return bool(ast.parse(text))
        except SyntaxError:
            return False

    assert found.tolist() == [parses(text) for text, _ in texts] and 0 in found


def test_tree_sitter_says_what_does_not_parse():
    pytest.importorskip("tree_sitter_language_pack")
    good, bad = "func f() int { return 1 }\n", "func f( int return 1 }\n"
    texts = [(f"package a\n{good}", "go"), (f"package a\n{bad}", "go"), ("x = (1\n", "python"), ("prose", ""), ("anything", "brainfuck")]
    columns = ParseErrors().score(documents_of(texts))
    assert columns["parses"].tolist()[:3] == [1, 0, 0]
    assert columns["parse_errors"][0] == 0 and 0 < columns["parse_errors"][1] <= 1
    assert np.isnan(columns["parses"][3:]).all()
    assert grammar_parser("c++") and grammar_parser("c#") and grammar_parser("shell") and grammar_parser(canonical_language("tsx"))


def test_lizard_counts_what_a_reader_counts():
    pytest.importorskip("lizard")
    go = "package a\nfunc f(a, b int) int {\n\tif a > 0 && b > 0 {\n\t\treturn a\n\t}\n\treturn b\n}\nfunc g() int { return 1 }\n"
    columns = FunctionComplexity().score(documents_of([(go, "go"), (WAYS, "python"), ("x = 1\n", "python"), ("text", "")]))
    assert columns["most_cyclomatic"].tolist()[:2] == [3, 5] and columns["cyclomatic"].tolist()[:2] == [2, 3]
    assert np.isnan(columns["cyclomatic"][2:]).all()
