"""codemix demo: from documents to a report, as the commands a user would type."""

import shlex
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

from codemix_megatron.errors import STOPPED_EARLY, CodemixError, LaunchError
from codemix_megatron.extras import require
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import StepEvent, StopEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

STOP_SHARE = 0.55  # where in the run the demo stops it once

EPILOG = """examples:
  codemix demo
  codemix demo --directory /tmp/mine --text ~/notes --code ~/src

It writes DIRECTORY/recipe.yaml, corpora, a run folder and the report, and prints every command it runs.
Called again, it resumes where it was; edit the recipe or remove the directory to start again."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the demo's recipe, as a.b=c")
    parser.add_argument("--directory", default="runs/demo", help="where everything goes (default: runs/demo)")
    parser.add_argument("--text", metavar="DIR", help="folder of text files; default: this Python's documentation and docstrings")
    parser.add_argument("--code", metavar="DIR", help="folder of source files; default: this Python's standard library")


def run(arguments) -> int:
    """Run the commands in order; each is skipped when it was done before."""
    for module in ("lm_eval", "tensorboard"):  # before minutes of training, not behind them
        require(module, "codemix demo")
    began = time.monotonic()
    directory = Path(arguments.directory).absolute()
    recipe, folder = directory / "recipe.yaml", directory / "run"
    if not recipe.exists():
        replace_text(recipe, resources.files("codemix_megatron.cli").joinpath("demo.yaml").read_text(encoding="utf-8"))
    overrides = [*own_documents(arguments), *arguments.overrides]
    call("prepare", recipe, *overrides)
    call("plan", recipe, *overrides, "--output", directory / "plan.json")
    train_with_a_stop(recipe, overrides, folder)
    if RunFolder(folder).latest_export() is None:
        call("export", folder)
    call("evaluate", folder)
    call("report", folder)
    say(f"all steps took {time.monotonic() - began:.0f} s; open file://{folder / 'report' / 'index.html'}")
    return 0


def own_documents(arguments) -> list[str]:
    """Return overrides for --text and --code; raises CodemixError when one is no folder."""
    overrides = []
    for corpus in ("text", "code"):
        path = getattr(arguments, corpus)
        if path and not Path(path).is_dir():
            raise CodemixError(f"--{corpus} {path}: no such folder")
        if path:
            overrides.append(f"corpora.{corpus}.documents={Path(path).absolute()}")
    return overrides


def say(text: str) -> None:
    """Print a line of the demo's own."""
    sys.stdout.write(f"\n▸ {text}\n")
    sys.stdout.flush()


def call(*parts) -> None:
    """Print a codemix command and run it in this process; a failure ends the demo with its message."""
    from codemix_megatron.cli.main import dispatch

    words = [str(part) for part in parts]
    say("codemix " + shlex.join(words))
    dispatch(words)


def train_with_a_stop(recipe: Path, overrides: list[str], folder: Path) -> None:
    """Train; in mid-run send SIGTERM as a scheduler would, see it save and leave, and start it again."""
    resolved = read_recipe(recipe, overrides)
    stop_step = int(STOP_SHARE * make_plan(resolved, read_manifests(resolved)).steps)
    words = ["train", str(recipe), *overrides, "--folder", str(folder)]
    stopped_before = bool(of_kind(read_events(RunFolder(folder).journal), StopEvent))
    for is_first in [True, False] if not stopped_before else [False]:
        say("codemix " + shlex.join(words))
        code = start(words, folder, stop_step if is_first else None)
        if code == 0:
            return
        if code != STOPPED_EARLY or not is_first:
            raise LaunchError(f"training ended with exit code {code}; the error is above")
        say("that was a SIGTERM, as a scheduler sends before it takes the machine; the same command resumes")


def start(words: list[str], folder: Path, stop_step: int | None) -> int:
    """Run one codemix command as a process; send SIGTERM once its journal has reached `stop_step`."""
    process = subprocess.Popen([sys.executable, "-m", "codemix_megatron", *words])
    try:
        while process.poll() is None:
            time.sleep(0.5)
            if stop_step is not None and last_step(folder) >= stop_step:
                process.send_signal(signal.SIGTERM)
                stop_step = None
    except KeyboardInterrupt:
        pass  # the terminal sent it to the process too, which saves and leaves
    return process.wait()


def last_step(folder: Path) -> int:
    """Return the last step in the run's journal."""
    return max((event.step for event in of_kind(read_events(RunFolder(folder).journal), StepEvent)), default=0)
