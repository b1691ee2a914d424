"""Git histories: each commit's message and diff as one document, oldest first, without merges.

Names and addresses of authors and of trailers (Signed-off-by: ...) are left out. `git` itself writes the diffs, in an empty
repository that borrows the objects of the one that is read: settings, attributes, replaced commits and how objects are packed
have no say in them, so that equal histories give equal documents.
"""

import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, InputFile, Position, Span

__all__ = ["COMMIT", "divide_git_history", "git_input", "read_git_history"]

COMMIT = "commit"
LARGEST_COMMIT_BYTES = 1 << 20
MARK = re.compile(rb"\0([0-9a-f]{40,64})\n")  # messages hold no NUL, and no line of a diff is one and a hash
FORMAT = "--format=tformat:%x00%H%n%B"
BYTES_PER_COMMIT = 4096  # about; packed objects say less of a history than their number
# How diffs are written, whatever a version of git or a setting takes for usual.
DIFF_OPTIONS = (
    "--patch", "--no-color", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-notes", "--no-mailmap", "--no-decorate", "--full-index",
    "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/", "--diff-algorithm=myers", "--indent-heuristic", "--submodule=short",
    "--find-renames=50%", "-l1000", "--encoding=UTF-8",
)  # fmt: skip
FULL_INDEX = re.compile(r"^(index [0-9a-f]{10})[0-9a-f]{30,54}(\.\.[0-9a-f]{10})[0-9a-f]{30,54}(?=$| )", re.MULTILINE)
TRAILER = re.compile(
    r"^[ \t]{0,8}(?:[A-Za-z][A-Za-z-]{0,30}[Bb]y|(?:Cc|CC|cc)|[A-Z][A-Za-z-]{1,30}(?=:[^\n]{0,200}<[^<>\s@]{1,64}@)):[^\n]*(?:\n|\Z)",
    re.MULTILINE,
)
ADDRESS = re.compile(r"<[^<>\s@]{1,64}@[^<>\s@]{1,250}>")
SHALLOW = "commit whose parent is missing in a shallow clone"
SECONDS_TO_END = 10
# What a repository's own .git/config may name as a command, or as a file of attributes that name one.
RUNS_NOTHING = (
    "core.fsmonitor=false", f"core.hooksPath={os.devnull}", f"core.attributesFile={os.devnull}", "core.pager=cat", "core.sshCommand=false",
    "protocol.allow=never", "log.showSignature=false", "gpg.program=false", "diff.external=", "credential.helper=",
)  # fmt: skip


def git_input(repository: Path, kind: str | None) -> InputFile:
    """Return the history of a repository (or bare repository) as an input; raises CorpusError when there is none."""
    head = run_git(repository, "rev-parse", "--verify", "HEAD^{commit}").strip().decode()
    num_bytes = BYTES_PER_COMMIT * max(1, len(commits(repository)))
    reader = functools.partial(read_git_history, kind=kind, num_bytes=num_bytes)
    return InputFile(repository, f"git:{repository.name}", num_bytes, head, reader, divide_git_history)


def divide_git_history(path, num_bytes: int, part_bytes: int) -> list[Span]:
    """Return spans of commits, oldest first, of equal numbers."""
    count = len(commits(path))
    parts = max(1, min(count, -(-num_bytes // part_bytes)))
    edges = [count * i // parts for i in range(parts + 1)]
    sizes = [num_bytes * i // parts for i in range(parts + 1)]
    return [Span(edges[i], edges[i + 1], sizes[i + 1] - sizes[i]) for i in range(parts)]


def commits(repository) -> list[bytes]:
    """Return the hashes of all commits that HEAD comes from, parents first."""
    return run_git(repository, "rev-list", "--reverse", "--topo-order", "--no-merges", "HEAD").split()


def read_git_history(
    path, name: str, position: Position, *, kind: str | None = None, num_bytes: int = 0, span: Span | None = None
) -> Iterator[Document | BadDocument]:
    """Yield one document per commit: its message, a blank line, its diff. Commits that change no text are left out."""
    hashes = commits(path)
    hashes = hashes[span.begin : span.end] if span else hashes
    cut_off = shallow_commits(path)
    yield from (BadDocument(location_of(path, commit), SHALLOW, harmless=True) for commit in hashes if commit in cut_off)
    hashes = [commit for commit in hashes if commit not in cut_off]
    if not hashes:
        return
    done = 0
    with (
        borrowed_objects(path) as folder,
        piped_git(path, folder, hashes, "log", "--stdin", "--no-walk=unsorted", FORMAT, *DIFF_OPTIONS) as output,
    ):
        for commit, content in split_commits(output):
            done += 1
            position.bytes_read = (span.num_bytes if span else num_bytes) * done // len(hashes)
            yield commit_document(content, location_of(path, commit), name, kind)
    if done != len(hashes):
        raise CorpusError(f"{path}: git gave {done} of {len(hashes)} commits; `git fsck` says what is damaged", exit_code=MACHINE_FAULT)


def location_of(path, commit: bytes) -> str:
    """Return the location of a commit for messages."""
    return f"{path}:{commit.decode()[:12]}"


def shallow_commits(repository) -> frozenset[bytes]:
    """Return the commits whose parents a shallow clone lacks: without them a diff shows the whole tree as new."""
    try:
        return frozenset(git_path(repository, "shallow").read_bytes().split())
    except FileNotFoundError:
        return frozenset()


def git_path(repository, name: str) -> Path:
    """Return where git keeps something of a repository."""
    return Path(repository, os.fsdecode(run_git(repository, "rev-parse", "--git-path", name).rstrip(b"\n")))


@contextmanager
def borrowed_objects(repository) -> Iterator[str]:
    """Give the folder of an empty bare repository that finds the objects of another, and nothing else of it."""
    objects = git_path(repository, "objects").absolute()
    own_alternates = objects / "info/alternates"
    lines = own_alternates.read_text(encoding="utf-8", errors="surrogateescape").split("\n") if own_alternates.exists() else []
    form = run_git(repository, "rev-parse", "--show-object-format").decode().strip()
    with tempfile.TemporaryDirectory(prefix="codemix-git-") as folder:
        run_git(repository, "init", "--quiet", "--bare", "--template=", f"--object-format={form}", folder)
        found = [str(objects), *(os.path.normpath(objects / line) for line in lines if line and not line.startswith("#"))]
        Path(folder, "objects/info").mkdir(parents=True, exist_ok=True)
        Path(folder, "objects/info/alternates").write_text(
            "".join(f"{line}\n" for line in found), encoding="utf-8", errors="surrogateescape"
        )
        yield folder


def split_commits(output) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (hash, message and diff) from git's output; None instead of a content that is too large to keep."""
    commit: bytes | None = None
    lines: list[bytes] = []
    size = 0
    for line in output:
        if line.startswith(b"\0") and (mark := MARK.fullmatch(line)):
            if commit is not None:
                yield commit, b"".join(lines) if size <= LARGEST_COMMIT_BYTES else None
            commit, lines, size = mark[1], [], 0
        elif size <= LARGEST_COMMIT_BYTES:
            lines.append(line)
            size += len(line)
    if commit is not None:
        yield commit, b"".join(lines) if size <= LARGEST_COMMIT_BYTES else None


def commit_document(content: bytes | None, location: str, origin: str, kind: str | None) -> Document | BadDocument:
    """Return the document of one commit; what a history holds cannot be changed, so nothing of it is damage."""
    if content is None:
        return BadDocument(location, f"commit larger than {LARGEST_COMMIT_BYTES >> 20} MiB", harmless=True)
    message, has_diff, diff = content.partition(b"\ndiff --git ")
    if not has_diff:
        return BadDocument(location, "commit without a diff", harmless=True)
    try:
        changes = FULL_INDEX.sub(r"\1\2", diff.decode("utf-8"))
        text = f"{without_people(message.decode('utf-8'))}\n\ndiff --git {changes}".lstrip("\n")
    except UnicodeDecodeError:
        return BadDocument(location, "commit that is not UTF-8", harmless=True)
    if "\0" in text:
        return BadDocument(location, "binary file", harmless=True)
    return Document(text.rstrip("\n") + "\n", location, language=COMMIT, origin=origin, kind=kind)


def without_people(message: str) -> str:
    """Return a message without trailers that name people, and with addresses in angle brackets masked."""
    return ADDRESS.sub("<EMAIL>", TRAILER.sub("", f"{message}\n")).strip()


def command(repository, *words: str) -> list[str]:
    """Return the words of a git command that looks at this repository and at nobody's settings."""
    safe = f"safe.directory={Path(repository).absolute()}"
    settings = ("core.quotePath=false", "log.follow=false", safe, *RUNS_NOTHING)
    return ["git", *(word for setting in settings for word in ("-c", setting)), "-C", str(repository), *words]


def environment() -> dict[str, str]:
    """Return an environment without settings of user or machine, without a way to other repositories, and with nothing to steal."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
    nobody = {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull, "HOME": os.devnull,
    }  # fmt: skip
    # A missing object must not be fetched: the repository's own settings say with which command.
    alone = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    return {**kept, **nobody, **alone, "LC_ALL": "C"}


def run_git(repository, *words: str) -> bytes:
    """Return what a git command prints; raises CorpusError with its own words when it fails."""
    try:
        done = subprocess.run(command(repository, *words), env=environment(), capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise CorpusError(f"git:{repository}: the program git is not here; install it, or take the history out of `documents`") from None
    if done.returncode:
        raise failure(repository, done.stderr)
    return done.stdout


def failure(repository, stderr: bytes) -> CorpusError:
    """Return the error for a git command that failed."""
    said = stderr.decode("utf-8", "replace").strip().split("\n")[-1]
    return CorpusError(f"git:{repository}: no git history can be read there ({said}); give the folder of a repository with commits")


@contextmanager
def piped_git(repository, folder: str, hashes: list[bytes], *words: str):
    """Give the output of a git command that reads hashes, in `folder`; however the block is left, the command has ended."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as complaints:
        asked.write(b"\n".join(hashes) + b"\n")
        asked.seek(0)
        process = subprocess.Popen(
            command(repository, f"--git-dir={folder}", *words),
            env=environment(),
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=complaints,
            bufsize=1 << 20,
        )
        assert process.stdout is not None
        try:
            yield process.stdout
            process.stdout.close()
            if process.wait(SECONDS_TO_END):
                complaints.seek(0)
                raise failure(repository, complaints.read())
        finally:
            process.kill()
            process.stdout.close()
            process.wait(SECONDS_TO_END)
