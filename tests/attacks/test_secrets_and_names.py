"""Secrets reach no record; names reach no shell and no other folder; text reaches the terminal as text."""

import json
import subprocess
import sys

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.cli.main import main
from codemix_megatron.errors import LaunchError, RecipeError
from codemix_megatron.evaluate.judging import filled
from codemix_megatron.launch.slurm.script import ARRAY_TASK, words_of
from codemix_megatron.launch.slurm.site import Site
from codemix_megatron.launch.slurm.training_job import render_training
from codemix_megatron.printable import printable
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.events import WarningEvent
from codemix_megatron.records.journal import Journal, read_lines
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.redaction import kept_environment, redact, redact_words

PLANTED = "pl4nted"
RECIPE = REPOSITORY / "examples" / "demo" / "recipe.yaml"
ADDRESSES = (
    f"https://user:{PLANTED}@host/file.jsonl",
    f"https://{PLANTED}@host/file.jsonl",
    f"s3://key:{PLANTED}@bucket/file",
    f"postgres://me:{PLANTED}%40x@db:5432/x",
    f"https://b.s3.amazonaws.com/f?X-Amz-Credential={PLANTED}&X-Amz-Signature={PLANTED}",
    f"https://a.blob.core.windows.net/c/f?sv=1&sig={PLANTED}%3D",
    f"https://host/f?access_token={PLANTED}",
    f"https://host/f?a=1&api_key={PLANTED}",
    f"https://hooks.slack.com/services/T0/{PLANTED}",
)
VARIABLES = (
    "HTTPS_PROXY", "DATABASE_URL", "SLURM_JWT", "GITHUB_PAT", "SLACK_WEBHOOK", "SENTRY_DSN", "WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY",
    "PGPASSWORD", "MYSQL_PWD", "DOCKER_AUTH_CONFIG", "KRB5CCNAME", "SSH_AUTH_SOCK", "NPM_CONFIG__AUTH", "CODEMIX_TOKEN", "CUDA_SECRET",
)  # fmt: skip
NAMES = (
    "a\nb",
    "../../evil",
    "",
    "..",
    "/etc/x",
    "a b",
    "$(touch x)",
    "a;b",
    "`id`",
    "a\x1b[31m",
    "-rf",
    "a\\b",
    "con\0",
    "é",
    "[/x]",
    "a$\\foo$b",
    "x" * 300,
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_written_without_its_secret(tmp_path, address):
    for text in (address, json.dumps({"documents": [address]}), f"read {address}, then more", f"<{address}>"):
        assert PLANTED not in redact(text) and "://" in redact(text)
    write_json(tmp_path / "a.json", {"from": address})
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(WarningEvent(step=0, text=address))
    journal.close()
    assert PLANTED not in (tmp_path / "a.json").read_text() + (tmp_path / "j.jsonl").read_text()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_recipe_that_holds_a_secret_is_refused_with_what_to_do(address):
    with pytest.raises(RecipeError, match=r"holds a secret.*\$\{NAME\}") as refused:
        read_recipe(RECIPE, [f"corpora.web.documents=[{json.dumps(address)}]"])
    assert PLANTED not in str(refused.value)


KEYS = (  # as issuers write them in their own manuals; none was ever valid
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "11ABCDEFG0" * 3,
    "glpat-" + "x-Yz" * 5,
    "hf_" + "aBcDeFgHiJ" * 3,
    "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
    "sk-" + "proj4-" * 6,
    "npm_" + "a1B2" * 9,
    "pypi-" + "AgEIcHlwaS5vcmc" * 4,
    "AIza" + "SyDdI0hCZtE6vySjMm-WEfRq3CPzqKqqsHI",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_known_issuer_reaches_no_record(tmp_path, key):
    for text in (key, f"found {key}, then more", json.dumps({"key": key}), f"KEY={key}"):
        assert key not in redact(text) and "***" in redact(text)
    write_json(tmp_path / "a.json", {"words": [key]})
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(WarningEvent(step=0, text=key))
    journal.close()
    assert key not in (tmp_path / "a.json").read_text() + (tmp_path / "j.jsonl").read_text()
    assert redact_words(["codemix", "train", key])[-1] == "***"


def test_addresses_without_secrets_stay_as_they_are():
    for text in (
        "https://host/a@b",
        "git://git@host/x",
        "https://${AUTH}@host/f?sig=${SIG}",
        "mail me@example.com",
        "s3://bucket/key=1/file",
        "a=b&c=d",
    ):
        assert redact(text) == text


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_may_hold_a_secret_keeps_no_value(name):
    assert kept_environment({name: PLANTED, "SLURM_JOB_ID": "7"}) == {name: "(left out)", "SLURM_JOB_ID": "7"}


def test_a_command_line_is_kept_without_secrets():
    words = ["codemix", "judge", "--api-key", PLANTED, f"--token={PLANTED}", ADDRESSES[0], "--solution-key", "answer", "a.tokens=5"]
    kept = redact_words(words)
    assert PLANTED not in " ".join(kept) and kept[-3:] == ["--solution-key", "answer", "a.tokens=5"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["name", "phase", "corpus"])
def test_a_name_that_is_more_than_a_name_is_refused(tmp_path, name, where):
    plain = yaml.safe_load(RECIPE.read_text())
    if where == "name":
        plain["name"] = name
    elif where == "phase":
        plain["phases"][0]["name"] = name
    else:
        plain["corpora"][name] = plain["corpora"].pop(next(iter(plain["corpora"])))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(RecipeError, match="name|key"):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("folder", ["a\ntouch ran\nb", "a\rb", "a\x1bb", "a\u2028b"])
def test_a_folder_cannot_end_the_line_of_an_option(tmp_path, folder):
    with pytest.raises(LaunchError, match="control character"):
        render_training("r.yaml", [], RunFolder(tmp_path / folder), Site(), 1)


@pytest.mark.parametrize(
    "folder", ["a b", "a'b", 'a"b', "a;touch ran", "$(touch ran)", "`touch ran`", "a&touch ran", "a|touch ran", "a>ran", "#a", "!!"]
)
def test_bash_runs_no_part_of_a_word(tmp_path, folder):
    for word in (folder, f"{folder}/{ARRAY_TASK}"):
        told = subprocess.run(["bash", "-c", f"printf %s {words_of([word])}"], cwd=tmp_path, env={"SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"},
                              capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout  # fmt: skip
        assert told == word.replace(ARRAY_TASK, "3") and not list(tmp_path.iterdir())


def test_answers_are_put_into_the_judge_prompt_as_they_are():
    assert filled("{prompt}|{a}|{b}", prompt="{a}{b}", a="{b}\\1", b="{prompt}") == "{a}{b}|{b}\\1|{prompt}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ (x|attr('__class__')) }}",
        "{{ x.append(1) }}",
        "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
        "{{ '%s'|format(x.__class__) }}{{ self.__init__.__globals__ }}",
    ],
)
def test_a_suites_template_runs_nothing(tmp_path, monkeypatch, template):
    from jinja2.exceptions import SecurityError, UndefinedError
    from lm_eval import utils

    from codemix_megatron.evaluate.harness import confine_templates

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "env", utils.env)
    confine_templates()
    with pytest.raises((SecurityError, UndefinedError)):
        utils.apply_template(template, {"x": [1]})
    assert utils.apply_template("{{ x[0] }} {{ y|regex_replace('a', 'b') }}", {"x": [1], "y": "a"}) == "1 b"
    assert not list(tmp_path.iterdir())


def test_text_that_utf_8_cannot_hold_is_written_and_read_back(tmp_path):
    text = "file-\udc80.py \ud800"
    write_json(tmp_path / "a.json", {text: [text]})
    assert read_json(tmp_path / "a.json") == {text: [text]}
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(WarningEvent(step=0, text=text))
    journal.close()
    assert read_lines(tmp_path / "j.jsonl")[0]["text"] == text


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\b\b", "\u202etxt.exe", "\x00", "\udc80"])
def test_a_terminal_gets_text_only(text):
    assert printable(f"a{text}b\n").replace("\n", "").isprintable()


def test_messages_spell_control_characters_out():
    done = subprocess.run(
        [sys.executable, "-m", "codemix_megatron", "plan", "no-\x1b[31m\udc80.yaml"],
        env=clean_environment(),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 2 and b"\x1b" not in done.stderr and b"\\x1b[31m\\udc80" in done.stderr


def test_language_that_looks_like_markup_is_printed(capsys):
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.inspect import counts_table

    Console(width=100).print(counts_table("language", {"[/x]": {"documents": 1, "bytes": 2, "tokens": 1}}, 1))
    assert "[/x]" in capsys.readouterr().out


def test_an_error_is_printed_without_secrets(capsys, tmp_path):
    assert main(["plan", str(tmp_path / f"https:/user:{PLANTED}")]) == 2
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.read_text().replace("name: demo", f"name: demo\nseeds: https://user:{PLANTED}@host/x"))
    assert main(["plan", str(recipe)]) == 2
    assert f":{PLANTED}@" not in capsys.readouterr().err
