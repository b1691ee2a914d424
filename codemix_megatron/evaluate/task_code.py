"""No Python of a task's is run unless its user trusts it: functions that task files name, and metrics that are scripts.

A task file may say `!function module.name`, and lm-eval imports that module; a metric that lm-eval does not know it looks up with Hugging
Face's evaluate, which imports a script by the metric's name, and that may be a path.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from codemix_megatron.errors import EvaluationError
from codemix_megatron.trust import TASK_CODE

__all__ = ["without_task_code"]


@contextlib.contextmanager
def without_task_code() -> Iterator[None]:
    """Have lm-eval refuse tasks that name Python of their own."""
    import evaluate
    from lm_eval.api import registry, task
    from lm_eval.tasks import _yaml_loader

    known = registry.get_metric

    def get_metric(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in registry.METRIC_REGISTRY:
            refuse(f"the metric {name!r} is none of lm-eval's own, so a script of that name would be looked for and run")
        return known(name)

    with (
        replaced(_yaml_loader, "_import_func_in_yml", lambda name, folder: refuse(f"{folder}: a task file names the function {name!r}")),
        replaced(task, "get_metric", get_metric),
        replaced(evaluate, "load", lambda path, *_, **__: refuse(f"the metric {path!r} is a script")),
    ):
        yield


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Have a module's name mean something else; refuses a version of lm-eval in which it is not there, for nothing would be refused then."""
    if not hasattr(module, name):
        raise EvaluationError(f"this version of lm-eval has no {module.__name__}.{name}, so its tasks' code cannot be kept from running")
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, usual)


def refuse(what: str) -> Any:
    """Raise EvaluationError for code that nobody has said to trust."""
    raise EvaluationError(
        f"{what}; running it is running a program with your rights. Read it, then say --trust {TASK_CODE} (or evaluation.trust: [{TASK_CODE}])"
    )
