"""One progress bar for each label, over what a command does."""

__all__ = ["progress_bars"]


def progress_bars(console):
    """Return a context whose value takes (label, done, total) and keeps one bar for each label."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    @contextmanager
    def showing():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
            known = {}

            def update(label: str, done: int, total: int) -> None:
                if label not in known:
                    known[label] = bars.add_task(label, total=total)
                bars.update(known[label], completed=done, total=total)

            yield update

    return showing()
