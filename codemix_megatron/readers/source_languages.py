"""Which language a source is in: by its name and, where several languages share a suffix, by what stands in it outside comments."""

import re
from pathlib import Path

from codemix_megatron.recipe.languages import ADJACENT, FILE_NAMES, INTERPRETERS, MARKUP, PROGRAMMING, by_suffix

__all__ = ["LANGUAGES", "language_of"]

PROSE = ".txt .md .rst"
# What a folder of each kind is searched for; a file named by itself may be of any of these languages.
LANGUAGES = {
    "text": by_suffix({"": f"{PROSE} .py"}),
    "code": by_suffix(PROGRAMMING, {"latex": MARKUP["latex"], "make": ADJACENT["make"]}),
    "synthetic": by_suffix(PROGRAMMING),
    "markup": by_suffix(MARKUP),
    "code_adjacent": by_suffix(ADJACENT, MARKUP, PROGRAMMING),
}
READ_CHARACTERS, HEAD_CHARACTERS = 1 << 15, 4096  # the head is what is left of the first when comments are taken out
# Comments and strings of families of languages; one that does not end goes to the end of the text.
BLOCK = r"/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/|\Z)"
ML_BLOCK = r"\(\*[^*]*+(?:\*(?!\))[^*]*+)*+(?:\*\)|\Z)"
STRING = r"\"(?:[^\"\\\n]|\\.)*+\"?"
C_LIKE = re.compile(rf"{BLOCK}|//[^\n]*|{STRING}")
MATLAB_LIKE = re.compile(rf"{BLOCK}|//[^\n]*|(?<![\w\"'])%[^\n]*|(?<=@){STRING}")
ML_LIKE = re.compile(rf"{BLOCK}|//[^\n]*|{ML_BLOCK}|{STRING}")
HASH_LIKE = re.compile(rf"{BLOCK}|[#%][^\n]*|{STRING}")
LINE = r"^[ \t]*"


def sign(pattern: str) -> re.Pattern:
    """Return an expression that is looked for at the beginnings of lines."""
    return re.compile(pattern, re.MULTILINE)


Signs = tuple[tuple[str, re.Pattern], ...]
# suffix -> (comments, signs of languages in the order they are looked for); none found, it is the suffix's usual one.
BY_CONTENT: dict[str, tuple[re.Pattern, Signs]] = {
    ".h": (C_LIKE, (
        ("objective-c", sign(rf"{LINE}(?:@interface|@protocol|@class|@end|@property|#import)\b")),
        ("c++", sign(rf"{LINE}(?:class[ \t]+\w+[^;\n(]{{0,200}}$|class[ \t]+\w+[ \t]*[;{{:]|namespace\b|template[ \t]*<|using[ \t]+\w"
                     rf"|(?:public|private|protected)[ \t]*:)|\bstd::\w|\bnullptr\b|\bconstexpr\b|\bvirtual[ \t]")),
    )),
    ".m": (MATLAB_LIKE, (
        ("objective-c", sign(rf"{LINE}(?:@interface|@implementation|@protocol|@end|@import|#import|#include|#define|#if)\b"
                             r"|\[\[?[A-Za-z]\w{0,60} [A-Za-z]\w{0,60}[\]:]")),
        ("mercury", sign(r"^:- module\b")),
        ("mathematica", sign(r"\A\s{0,999}\(\*")),
        ("mathematica", sign(r"[A-Za-z]\w{0,40}\[[^\]\n]{0,200}_[^\]\n]{0,200}\][ \t]*:?=|BeginPackage\[|:>|/@")),
    )),
    ".pl": (HASH_LIKE, (
        ("perl", sign(rf"{LINE}(?:use[ \t]+[\w:.]+[^\n]{{0,200}};|my[ \t]*[$@%(]|sub[ \t]+\w+|package[ \t]+[\w:]+;|require[ \t])")),
        ("prolog", sign(r"^:-|^[a-z]\w{0,60}(?:\([^\n]{0,300}\))?[ \t]*(?::-|-->)|^[a-z]\w{0,60}\([^()\n]{0,200}\)\.[ \t]*$")),
    )),
    ".ts": (C_LIKE, (("xml", re.compile(r"\A\s{0,999}<(?:\?xml|!DOCTYPE|!--|TS\b)")),)),
    ".v": (ML_LIKE, (
        ("v", sign(rf"{LINE}(?:pub[ \t]+)?fn[ \t]+[\w(]")),
        ("verilog", sign(rf"{LINE}(?:module[ \t]+\w+[ \t]*(?:[(#;]|$)|endmodule\b|`(?:timescale|define|include)\b)")),
        ("coq", sign(rf"{LINE}(?:Require|Import|From|Lemma|Theorem|Definition|Fixpoint|Proof|Inductive|Module|Section|Notation)\b[^\n]{{0,400}}"
                     rf"(?:\.|:=|:)[ \t]*$")),
    )),
    ".fs": (C_LIKE, (("glsl", sign(rf"{LINE}#version[ \t]+\d|gl_FragColor")), ("forth", sign(r"^:[ \t]+\S+[ \t]")))),
    ".sc": (C_LIKE, (("supercollider", re.compile(r"\bSynthDef\b|\|\w{1,60}\|")),)),
    ".r": (HASH_LIKE, (("rebol", re.compile(r"\A\s{0,999}REBOL\b", re.IGNORECASE)),)),
    ".d": (HASH_LIKE, (("make", sign(r"^[\w./-]{1,300}\.[do][ \t]*:[ \t]")), ("dtrace", sign(r"^(?:[\w*$]*:){3}[\w*-]*[ \t]*$")))),
    ".pro": (HASH_LIKE, (("qmake", sign(r"^(?:TEMPLATE|QT|SOURCES|HEADERS|CONFIG|TARGET)[ \t]*[+-]?=")),
                         ("idl", sign(rf"(?i){LINE}(?:pro|function)[ \t]+\w+[ \t]*,|{LINE}endfor\b")))),
}  # fmt: skip
FIRST_LINES = (
    ("php", re.compile(r"\A<\?php")),
    ("xml", re.compile(r"\A<\?xml")),
    ("html", re.compile(r"\A\s{0,999}<!doctype html", re.IGNORECASE)),
)
SHEBANG = re.compile(r"\A#!\s{0,9}(?:\S{0,200}/)?(?:env\s{1,9}(?:-S\s{1,9})?)?([A-Za-z_-]{1,40})")


def language_of(path, text: str) -> str | None:
    """Return the language of a source file, by its name and, where that leaves a choice, by its content outside comments."""
    path = Path(str(path))
    suffix, shebang = path.suffix.lower(), SHEBANG.match(text)
    by_name = FILE_NAMES.get(path.name.lower()) or LANGUAGES["code_adjacent"].get(suffix)
    if suffix in BY_CONTENT and not shebang:
        comments, signs = BY_CONTENT[suffix]
        return first_sign(text, comments, signs) or by_name
    if by_name is not None:
        return by_name
    if shebang:
        return INTERPRETERS.get(shebang[1].lower().rstrip("-"))
    return next((language for language, first in FIRST_LINES if first.search(text[:HEAD_CHARACTERS])), None)


def first_sign(text: str, comments: re.Pattern, signs: Signs) -> str | None:
    """Return the first language whose sign stands in a text; signs at its very beginning may be comments themselves."""
    start = text[:READ_CHARACTERS]
    kept = comments.sub(blank, start)[:HEAD_CHARACTERS]
    return next((language for language, found in signs if found.search(start if found.pattern.startswith(r"\A") else kept)), None)


def blank(match: re.Match) -> str:
    """Return what stands for a comment: its line ends, or a space."""
    return "\n" * match[0].count("\n") or " "
