"""Bad input at the command line: one message, no traceback, exit code 2 for the user's fault."""

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "gone.yaml"], "gone.yaml: cannot be read (No such file or directory)"),
        (["plan", "recipe.yaml", "modle.x=1"], "modle: no such key; did you mean model?"),
        (
            ["plan", "recipe.yaml", "phases.0.mixture={prose: 0.6, snippets: 0.35}"],
            "shares add up to 0.95, not 1 (prose 0.60, snippets 0.35)",
        ),
        (["plan", "recipe.yaml", "corpora.prose.prefix=elsewhere"], "no prepared corpus there; run `codemix prepare RECIPE` first"),
        (["train", "recipe.yaml", "--nproc", "3", "parallel.tensor=2"], "3 ranks do not divide into copies of 2"),
        (["train", "recipe.yaml", "--nproc", "4", "parallel.data=1"], "use 1 ranks or change parallel.data"),
        (["train", "recipe.yaml", "--folder", "."], "there and not a run folder"),
        (["train", "recipe.yaml", "--folder", "recipe.yaml"], "recipe.yaml: is a file; give an empty or new --folder"),
        (["train", "recipe.yaml", "--folder", "/proc/run"], "/proc/run: cannot be made"),
        (["train", "recipe.yaml", "--nproc", "-1"], "--nproc: found -1, must be at least 1"),
        (["train", "recipe.yaml", "--nproc", "0"], "--nproc: found 0, must be at least 1"),
        (["train", "recipe.yaml", "--restarts", "-1"], "--restarts: found -1, must be at least 0"),
        (["train", "recipe.yaml", "--port", "80000"], "--port: found 80000, allowed are 0 (any free one) to 65535"),
        (["train", "recipe.yaml", "parallel.tensor=3"], "parallel.tensor: 3 does not divide model.num_attention_heads 4"),
        (["train", "recipe.yaml", "parallel.pipeline=3"], "does not divide model.num_layers 4"),
        (["prepare", "recipe.yaml", "corpora.prose.documents=gone.jsonl", "--force"], "gone.jsonl"),
        (["export", "nowhere"], "no checkpoint; there are steps none"),
        (["export", "nowhere@x"], "'x' after @ is no step"),
        (["report", "."], "not a run folder"),
        (["evaluate", "nowhere"], "not a run folder"),
        (["audit", "nowhere"], "not a run folder"),
        (["import", "nowhere", "imported"], "nowhere/config.json: cannot be read (No such file or directory)"),
        (["demo", "--text", "nowhere"], "--text nowhere: no such folder"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["plan", "recipe.yaml", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_message_and_exit_code(tiny, words, message):
    done = tiny.codemix_here(*words)
    assert message in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_empty_corpus_is_refused_and_leaves_nothing(tiny):
    (tiny.folder / "empty.jsonl").write_text("")
    words = ["corpora.prose.documents=empty.jsonl", "corpora.prose.prefix=empty/prose", "--only", "prose"]
    done = tiny.codemix_here("prepare", "recipe.yaml", *words)
    assert done.returncode == 2 and "corpora.prose" in done.stderr and "Traceback" not in done.stderr
    assert not list((tiny.folder / "empty").glob("*")) if (tiny.folder / "empty").exists() else True


def test_every_command_has_help_with_examples(tiny):
    from codemix_megatron.cli.commands import COMMANDS

    for command in COMMANDS:
        done = tiny.codemix_here(command, "--help")
        assert done.returncode == 0 and "examples:" in done.stdout, command
