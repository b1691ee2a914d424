"""codemix judge: whose answers a judge prefers, asked in both orders."""

import json
import sys
from pathlib import Path

from codemix_megatron.cli.asked_model import asked_model_fault, least_fault
from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

SHOWN = 300  # characters of a reply

EPILOG = """examples:
  codemix judge runs/balanced runs/text-only --prompts dolly.jsonl --endpoint http://localhost:8000/v1 --model judge
  codemix judge ours.jsonl theirs.jsonl --prompts prompts.jsonl --judge-folder ~/models/judge --output judged/ours-theirs

OURS and THEIRS are run folders (their newest export answers, greedily), Hugging Face folders, or JSON lines with `prompt` and
`answer`. Prompts are JSON lines with `prompt`, or `instruction` and `context` as in Dolly. Every pair is judged in both orders; a
judge that changes its mind gives a tie. A stopped judging goes on where it was. An API's key is read from OPENAI_API_KEY."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("ours", metavar="OURS", help="run, Hugging Face folder or answers.jsonl")
    parser.add_argument("theirs", metavar="THEIRS", help="what it is compared with")
    parser.add_argument("--prompts", required=True, metavar="FILE", help="JSON lines of prompts")
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server, up to and with /v1")
    parser.add_argument("--model", metavar="NAME", help="the judge's name there")
    parser.add_argument("--judge-folder", metavar="DIR", help="or a judge in a Hugging Face folder")
    parser.add_argument("--items", type=int, metavar="N", help="most prompts (default: all)")
    parser.add_argument(
        "--template", default="{prompt}\n", help="how a prompt is put to the two models (default: the prompt and a line break)"
    )
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N", help="longest answer (default: 256)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="questions asked of the endpoint at once (default: 4)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for one reply (default: 60)")
    parser.add_argument("--retries", type=int, default=5, metavar="N", help="tries after one that failed (default: 5)")
    parser.add_argument("--output", metavar="DIR", help="where replies and result go (default: RUN/scores/win-rates/NAME of THEIRS)")


def run(arguments) -> int:
    """Answer, judge, count, and print the result."""
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.evaluate.judging import Pair, judge_pairs, read_prompts, summarize

    check(arguments)
    prompts = read_prompts(arguments.prompts, arguments.items)
    folder = output_of(arguments)
    with progress_bars(Console(file=sys.stderr)) as progress:
        ours, theirs = (answers_of(side, prompts, folder, arguments, progress) for side in (arguments.ours, arguments.theirs))
        judge = judge_of(arguments)
        pairs = [Pair(prompt=p, ours=a, theirs=b) for p, a, b in zip(prompts, ours, theirs, strict=True)]
        threads = 1 if arguments.judge_folder else arguments.threads
        verdicts = judge_pairs(pairs, judge.ask, judge.name, folder, threads=threads, on_done=lambda *at: progress("judging", *at))
    result = summarize(verdicts, ours=arguments.ours, theirs=arguments.theirs, judge=judge.name, prompts=len(prompts), pairs=pairs)
    if result.unreadable:
        refuse_or_show(result, folder)
    path = result.write(folder / "win-rate.json")
    print_result(result)
    sys.stdout.write(f"{path}\n")
    return 0


def refuse_or_show(result, folder: Path) -> None:
    """Show a reply that could not be read; raise EvaluationError where none could: no verdicts are no tie."""
    from codemix_megatron.evaluate.judging import unreadable_reply

    shown = f"one of them: {(unreadable_reply(folder) or '')[:SHOWN]!r}"
    if not result.counted:
        raise EvaluationError(
            f"{folder}: none of {result.prompts} prompts has a readable verdict in both orders, {shown}; name another judge."
            " The same command asks again"
        )
    sys.stderr.write(f"{result.unreadable} of {result.prompts} prompts without a readable verdict, {shown}; the same command asks again\n")


def check(arguments) -> None:
    """Raise EvaluationError unless exactly one judge is named and numbers make sense."""
    least = {"items": 1, "max_tokens": 1, "threads": 1, "retries": 0}
    if fault := asked_model_fault(arguments, "judge") or least_fault(arguments, least):
        raise EvaluationError(fault)
    if arguments.timeout <= 0:
        raise EvaluationError(f"--timeout: found {arguments.timeout}, must be above 0")
    if "{prompt}" not in arguments.template:
        raise EvaluationError(f"--template: found {arguments.template!r}, needs {{prompt}} in it")


def output_of(arguments) -> Path:
    """Return the folder of a judging."""
    if arguments.output:
        return Path(arguments.output)
    run_folder = RunFolder(arguments.ours)
    base = run_folder.scores / "win-rates" if run_folder.recipe.is_file() else Path("win-rates")
    return base / Path(arguments.theirs).absolute().stem


def judge_of(arguments):
    """Return the judge that was asked for."""
    from codemix_megatron.inference.endpoints import EndpointJudge, FolderJudge

    if arguments.judge_folder:
        return FolderJudge(arguments.judge_folder)
    return EndpointJudge(arguments.endpoint, arguments.model, timeout_seconds=arguments.timeout, retries=arguments.retries)


def answers_of(side: str, prompts: list[str], folder: Path, arguments, progress) -> list[str]:
    """Return one side's answers: read, or made by its model and kept by the model's digest."""
    from codemix_megatron.evaluate.digests import folder_digest, task_digest
    from codemix_megatron.evaluate.judging import read_answers
    from codemix_megatron.records.atomic import replace_text

    path = Path(side)
    if path.is_file():
        return read_answers(path, prompts)
    model_folder = path if (path / "config.json").is_file() else newest_export(path)
    digest = task_digest(folder_digest(model_folder), template=arguments.template, max_tokens=arguments.max_tokens, prompts=prompts)
    kept = folder / f"answers-{digest[:16]}.jsonl"
    if not kept.is_file():
        answers = make_answers(model_folder, prompts, arguments, lambda *at: progress(f"answers of {path.name}", *at))
        lines = (json.dumps({"prompt": p, "answer": a}, ensure_ascii=False) for p, a in zip(prompts, answers, strict=True))
        replace_text(kept, "".join(line + "\n" for line in lines))
    return read_answers(kept, prompts)


def newest_export(path: Path) -> Path:
    """Return the newest export of a run, or raise EvaluationError."""
    export = RunFolder.existing(path).latest_export()
    if export is None:
        raise EvaluationError(f"{path}: no export to answer with; run `codemix export {path}` first")
    return export


def make_answers(folder: Path, prompts: list[str], arguments, on_done) -> list[str]:
    """Let a model answer every prompt greedily."""
    from codemix_megatron.inference.exported import load_exported
    from codemix_megatron.inference.generation import Sampling, generate

    model, done = load_exported(folder), 0

    def count(number: int) -> None:
        nonlocal done
        done = min(len(prompts), done + number)
        on_done(done, len(prompts))

    put = [model.encode(arguments.template.replace("{prompt}", prompt)) for prompt in prompts]
    sampling = Sampling(max_tokens=min(arguments.max_tokens, model.max_length // 2))
    return [answer.strip() for answer in generate(model, put, sampling, count)]


def print_result(result) -> None:
    """Print a win rate with its test."""
    rate = "none" if result.win_rate is None else f"{100 * result.win_rate:.1f} %"
    first = (
        ""
        if result.first_preferred is None
        else f"; the answer that stood first was preferred in {100 * result.first_preferred:.0f} % of the verdicts"
    )
    unreadable = f", {result.unreadable} without a readable verdict" if result.unreadable else ""
    sys.stdout.write(
        f"{result.ours} against {result.theirs}: {result.wins} wins, {result.losses} losses, {result.ties} ties"
        f" over {result.counted} prompts{unreadable}\n"
        f"win rate {rate}{interval_text(result.low, result.high)} (ties half), sign test p = {result.p_value:.3g}: {result.words}{first}\n"
    )
    if result.length_controlled is not None:
        controlled = f"{100 * result.length_controlled:.1f} %{interval_text(result.length_controlled_low, result.length_controlled_high)}"
        sys.stdout.write(f"at equal lengths {controlled}; answers of {result.ours} are {result.longer_by:+.0f} characters longer\n")


def interval_text(low: float | None, high: float | None) -> str:
    """Return a 95 % interval over prompts, nothing where there is none."""
    return "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
