"""What pages say of flags, keys, messages and tutorials is so."""

import re
import subprocess
import sys

import pytest
from tiny_run import REPOSITORY

DOCS = REPOSITORY / "docs"
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "codemix_megatron").rglob("*.py"))


def test_every_flag_that_a_plan_prints_for_megatron_has_its_key_on_the_page():
    source = (REPOSITORY / "codemix_megatron" / "plan" / "megatron_arguments.py").read_text(encoding="utf-8")
    flags = set(re.findall(r'"(--[a-z0-9-]+)"', source)) - {"--phase"}
    page = (DOCS / "tutorials" / "from-megatron.md").read_text(encoding="utf-8")
    assert len(flags) > 50 and not sorted(flag for flag in flags if not re.search(rf"{flag}(?![a-z-])", page))


def test_every_key_on_the_page_is_one_of_a_recipe():
    said = subprocess.run(
        [sys.executable, "-m", "codemix_megatron", "doctor", "--recipe-keys"], capture_output=True, text=True, timeout=120
    )
    page = (DOCS / "tutorials" / "from-megatron.md").read_text(encoding="utf-8")
    keys = re.findall(r"`((?:model|parallel|batch|optimizer|evaluation|sequences)\.[a-z0-9_]+)", page)
    assert len(keys) > 25 and not sorted(
        {key.rpartition(".")[2] for key in keys if not re.search(rf"\b{key.rpartition('.')[2]}\b", said.stdout)}
    )


def test_every_message_of_the_questions_page_is_one_of_the_program():
    rows = (DOCS / "faq.md").read_text(encoding="utf-8").partition("| the message says |")[2]
    messages = re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE)
    joined = re.sub(r'"\s*f?"', "", SOURCES)
    assert len(messages) >= 8 and not [message for message in messages if message not in joined]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1500)
def test_first_study_does_what_its_page_says(tmp_path):
    page = (DOCS / "tutorials" / "first-study.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("codemix ", f"{sys.executable} -m codemix_megatron ")
    done = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "first" / "study" / "report" / "index.html").stat().st_size > 10_000
