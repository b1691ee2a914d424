"""codemix report: the records of one or several runs as one page."""

import sys
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.run_folder import RunFolder, is_run_folder
from codemix_megatron.study.folder import StudyFolder

__all__ = ["add_arguments", "add_choices", "choices_of", "run"]

EPILOG = """examples:
  codemix report runs/demo
  codemix report runs/text-only runs/balanced --output runs/comparison
  codemix report --study runs/grid                     all runs in a folder, or all variants of a study; the report goes to runs/grid/report

Runs that differ in their seed alone are one variant, compared over seeds with the variant without code, else the first; with one
seed nothing is concluded. Sweeps over the share of code, kinds of code, cooldowns, seeds and cost are recognised by what the runs
consumed and where they started from.
One HTML file with its figures inside, and index.md with PNGs beside it. It can be written at any time,
also while a run trains."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folders", metavar="RUN", nargs="*", help="run folders; several are compared")
    parser.add_argument("--study", metavar="DIR", help="a folder of run folders, compared with each other")
    add_choices(parser)
    parser.add_argument("--output", help="folder to write into (default: RUN/report)")


def add_choices(parser) -> None:
    """Declare what a reader may choose in a report of several runs."""
    lend = "judge variants without seeds by published noise of seeds; it is called assumed wherever it is used"
    parser.add_argument("--lend-noise", action="store_true", help=lend)
    above = "add the means over tasks that every run is above chance in, as the paper does"
    parser.add_argument("--above-chance", action="store_true", help=above)
    parser.add_argument("--device", metavar="NAME", help="say what a run would take on this accelerator, such as h100")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of its peak that the models reach (default: 0.4)")
    parser.add_argument("--price-per-hour", type=float, metavar="PRICE", help="and what that would cost")
    parser.add_argument(
        "--at-parameters", metavar="N", help="estimate both for a model of this size, such as 7B, in the place of the study's own"
    )
    parser.add_argument("--at-tokens", metavar="N", help="and for this many tokens, such as 1T")
    parser.add_argument("--law", metavar="DIR", help="show what `codemix law --output DIR` proposes (default: law/ of the study)")
    parser.add_argument(
        "--pdf", action="store_true", help="print decision.html, the page to decide by, as PDF by the browser that is there"
    )


def choices_of(arguments):
    """Return what was chosen."""
    from codemix_megatron.report.choices import Choices

    def number(option: str) -> int | None:
        from codemix_megatron.recipe.quantity import parse_tokens

        text = getattr(arguments, option)
        try:
            return None if text is None else parse_tokens(text)
        except ValueError as fault:
            raise CodemixError(f"--{option.replace('_', '-')}: {fault}") from None

    return Choices(
        lend_noise=arguments.lend_noise,
        above_chance=arguments.above_chance,
        device=arguments.device,
        mfu=arguments.mfu,
        price_per_hour=arguments.price_per_hour,
        at_parameters=number("at_parameters"),
        at_tokens=number("at_tokens"),
        law=Path(arguments.law) if arguments.law else None,
        pdf=arguments.pdf,
    )


def run(arguments) -> int:
    """Write the report and print where it is."""
    from codemix_megatron.report.run_report import write_report

    folders = [RunFolder.existing(path) for path in arguments.run_folders]
    output = Path(arguments.output) if arguments.output else None
    if arguments.study and StudyFolder(arguments.study).state.is_file():
        if folders:
            raise CodemixError(f"--study {arguments.study}: has its own runs; name no others")
        from codemix_megatron.study.reporting import write_study_report

        sys.stdout.write(f"file://{write_study_report(StudyFolder.existing(arguments.study), output, choices_of(arguments))}\n")
        return 0
    if arguments.study:
        folders += runs_in(Path(arguments.study))
        output = output or Path(arguments.study) / "report"
    if not folders:
        raise CodemixError("name a run folder, or a folder of them with --study")
    path = write_report(folders, output, choices_of(arguments))
    sys.stdout.write(f"file://{path}\n")
    return 0


def runs_in(study: Path) -> list[RunFolder]:
    """Return the run folders directly in a folder, by name."""
    found = [RunFolder(path) for path in sorted(study.iterdir())] if study.is_dir() else []
    found = [folder for folder in found if is_run_folder(folder)]
    if not found:
        raise CodemixError(f"--study {study}: no run folders in it")
    return found
