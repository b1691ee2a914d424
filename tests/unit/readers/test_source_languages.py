"""Languages of sources: told by content outside comments, and by names that pygments gives the same suffixes."""

import time

import pytest

from codemix_megatron.readers.source_languages import BY_CONTENT, language_of
from codemix_megatron.recipe.languages import PROGRAMMING, by_suffix, canonical_language


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        # what a comment says is not what a file is
        ("a.h", "/* class Foo, namespace bar:\n   template <T>\n   @interface */\nint f(void);\n", "c"), ("a.h", "// std::vector\nstruct a;\n", "c"),
        ("a.h", '#define A "std::x"\nint x;\n', "c"), ("a.h", "/*" + " licence\n" * 600 + "*/\nclass X {\n", "c++"),
        ("a.h", "// #import\nclass Foo : public Bar\n{\n", "c++"), ("a.h", "/* C */\n@protocol P;\n", "objective-c"),
        ("a.m", "% #import is Objective-C's\n% f[x_] := 2\nfunction y = f(x)\ny = [[1 2]; [3 4]];\nend\n", "matlab"),
        ("a.m", "/* (* not Mathematica *) */\n#import <X.h>\n", "objective-c"), ("a.m", "// only a header\n@implementation X\n@end\n", "objective-c"),
        ("a.m", "(* a package *)\nf[x_] := x^2\n", "mathematica"), ("a.m", "f[x_] := x^2\n", "mathematica"), ("a.m", "x = a(1,:);\n", "matlab"),
        ("a.pl", "# facts like foo(x). and a :- b\nmy $x = 1;\n", "perl"), ("a.pl", "% use strict;\nlikes(ann, bob).\nhappy(X) :- likes(X, _).\n", "prolog"),
        ("a.pl", "#!/usr/bin/perl\nprint 1;\n", "perl"), ("a.pl", "/* use strict; */\n:- module(a, []).\n", "prolog"), ("a.pl", "print 'x';\n", "perl"),
        ("a.ts", "// <?xml is what Qt writes\nlet x = 1\n", "typescript"), ("a.ts", "<!-- a comment -->\n<!DOCTYPE TS><TS></TS>", "xml"),
        ("a.v", "// Definition of the bus.\n/* Module top.\n Lemma */\nmodule top(input a);\nendmodule\n", "verilog"),
        ("a.v", "(* module x; endmodule *)\nRequire Import Arith.\nLemma a : 1 = 1.\n", "coq"), ("a.v", "module main\nfn main() {\n}\n", "v"),
        ("a.d", "module x;\nimport std.stdio;\n", "d"), ("a.d", "main.o: main.c main.h\n", "make"), ("a.mm", "@end", "objective-c++"),
        ("a.svelte", "<script>", "svelte"), ("a.vb", "Module X", "visual basic"), ("a.bat", "@echo off", "batch"), ("a.nix", "{}", "nix"),
        ("a.bzl", "x", "starlark"), ("a.lean", "x", "lean"), ("a.proto", "x", "protobuf"), ("a.cmd", "x", "batch"),
    ],
)  # fmt: skip
def test_language_is_told_by_what_stands_outside_comments(name, text, language):
    assert language_of(name, text) == language


# Suffixes for which pygments knows several lexers, or gives a dialect or an older language the name of its family.
OTHER_IN_PYGMENTS = {".sol", ".st", ".v", ".m", ".pl", ".pro", ".fs", ".ts", ".h", ".s", ".cls", ".sc", ".r", ".d"}


def test_suffixes_mean_what_they_mean_to_pygments(measured):
    pygments = pytest.importorskip("pygments.lexers")
    from pygments.util import ClassNotFound

    same, other, unknown = 0, [], []
    for suffix, language in by_suffix(PROGRAMMING).items():
        if suffix in OTHER_IN_PYGMENTS:
            continue
        try:
            lexer = pygments.get_lexer_for_filename(f"a{suffix}")
        except ClassNotFound:
            unknown.append(suffix)
            continue
        names = {canonical_language(name) for name in (lexer.name, *lexer.aliases)}
        if language in names or any(language in name or name in language for name in names):
            same += 1
        else:
            other.append((suffix, language, lexer.name))
    measured(f"languages: {same} suffixes mean the same to pygments, unknown to it {unknown}, others {other}")
    assert same >= 10 * len(other) and same >= 90


@pytest.mark.parametrize(
    "attack", ["/*", "(*", "//", "%", '"', "\n", " ", "a(", "x_]", "f[", "class x ", "module ", "#", "std::", "fn ", "a:"]
)
def test_languages_are_told_in_time_whatever_stands_in_a_file(attack):
    text = attack * (200_000 // len(attack))
    began = time.process_time()
    for suffix in BY_CONTENT:
        language_of(f"a{suffix}", text)
    assert time.process_time() - began < 2
