"""Files of one repository with what they import first: Python's imports, relative imports of JavaScript and TypeScript, quoted includes of C."""

import posixpath
import re
from collections.abc import Iterator, Mapping

__all__ = ["imports_first"]

PYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([\w \t,*]*))|import[ \t]+([\w., \t]+))", re.MULTILINE
)
SCRIPT = re.compile(r"""(?:\bfrom|\brequire\(|\bimport\(|^[ \t]*import)[ \t]*["'](\.{1,2}/[^"'\n]+)["']""", re.MULTILINE)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)
SCRIPT_SUFFIXES = (".js", ".jsx", ".mjs", ".ts", ".tsx", ".svelte", ".vue")
C_SUFFIXES = (".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".m", ".mm")
SOURCE_ROOTS = ("", "src/", "lib/", "python/")


def imports_first(files: Mapping[str, str]) -> list[str]:
    """Return the paths of files (path -> text), each behind those it imports; by path where nothing decides, also in a cycle.

    >>> imports_first({"a.py": "import b", "b.py": "", "c.py": ""})
    ['b.py', 'a.py', 'c.py']
    """
    wanted = {path: sorted(set(imported(path, text, files)) - {path}) for path, text in files.items()}
    order: dict[str, None] = {}
    entered: set[str] = set()
    for start in sorted(files):
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(wanted[start]))] if start not in entered else []
        entered.add(start)
        while stack:  # depth first without recursion, for chains of imports may be long
            path, rest = stack[-1]
            following = next((other for other in rest if other not in entered), None)
            if following is None:
                order[path] = None
                stack.pop()
            else:
                entered.add(following)
                stack.append((following, iter(wanted[following])))
    return list(order)


def imported(path: str, text: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of the repository that one of them imports."""
    lower = path.lower()
    if lower.endswith((".py", ".pyi")):
        yield from python_imports(path, text, files)
    elif lower.endswith(SCRIPT_SUFFIXES):
        for name in SCRIPT.findall(text):
            base = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            yield from first_there((base, *(f"{base}{s}" for s in SCRIPT_SUFFIXES), *(f"{base}/index{s}" for s in SCRIPT_SUFFIXES)), files)
    elif lower.endswith(C_SUFFIXES):
        for name in INCLUDE.findall(text):
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            yield from first_there((beside, name, f"include/{name}", f"src/{name}"), files)


def python_imports(path: str, text: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the files of the modules that a Python file imports, absolute from the top, `src` or `lib`, or relative."""
    package = posixpath.dirname(path)
    for module, inside, beside, plain in PYTHON.findall(text):
        names = inside or beside
        for name in (word.split()[0] for word in plain.split(",") if word.strip()):
            yield from module_files(name.replace(".", "/"), SOURCE_ROOTS, files)
        if not module:
            continue
        dots = len(module) - len(module.lstrip("."))
        roots: tuple[str, ...] = SOURCE_ROOTS
        if dots:
            above = package.split("/") if package else []
            above = above[: len(above) - dots + 1]
            roots = ("/".join(above) + "/" if above else "",)
        base = module.lstrip(".").replace(".", "/")
        for name in (word.split()[0] for word in names.split(",") if word.strip()):
            yield from module_files(f"{base}/{name}" if base else name, roots, files)
        if base:
            yield from module_files(base, roots, files)


def module_files(module: str, roots: tuple[str, ...], files: Mapping[str, str]) -> Iterator[str]:
    """Yield the file of a module, or of a package, below the first root that has it."""
    yield from first_there(tuple(f"{root}{module}{end}" for root in roots for end in (".py", ".pyi", "/__init__.py")), files)


def first_there(candidates: tuple[str, ...], files: Mapping[str, str]) -> Iterator[str]:
    """Yield the first of some paths that is a file of the repository."""
    found = next((path for path in candidates if path in files), None)
    if found is not None:
        yield found
