"""What pages say of flags, keys, messages and tutorials is so."""

import re
import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY
from tutorial_pages import follow, lines_not_printed

DOCS = REPOSITORY / "docs"
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "codemix_megatron").rglob("*.py"))


def test_every_flag_that_a_plan_prints_for_megatron_has_its_key_on_the_page():
    source = (REPOSITORY / "codemix_megatron" / "plan" / "megatron_arguments.py").read_text(encoding="utf-8")
    flags = set(re.findall(r'"(--[a-z0-9-]+)"', source)) - {"--phase"}
    page = (DOCS / "tutorials" / "from-megatron.md").read_text(encoding="utf-8")
    assert len(flags) > 50 and not sorted(flag for flag in flags if not re.search(rf"{flag}(?![a-z-])", page))


def test_every_key_on_the_page_is_one_of_a_recipe():
    said = subprocess.run(
        [sys.executable, "-m", "codemix_megatron", "doctor", "--recipe-keys"], capture_output=True, text=True, timeout=PATIENCE_SECONDS
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


COMPARISON = (DOCS / "comparison.md").read_text(encoding="utf-8")
WITHOUT_A_LINK = r"none found( here| in training)?|not checked|no phases|as Megatron-LM"


def compared_cells() -> list[str]:
    """Return the cells of the tables that have a question in each row."""
    rows = [
        row for table in re.findall(r"^\| question \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", COMPARISON, re.MULTILINE) for row in table.splitlines()
    ]
    return [cell for row in rows for cell in re.split(r" \| ", row.strip("| "))[1:]]


def test_every_cell_of_the_comparison_can_be_checked():
    """By a link, or it says that nothing was found or nobody looked."""
    cells = compared_cells()
    assert len(cells) > 200 and not [
        cell for cell in cells if "](" not in cell and "][" not in cell and not re.fullmatch(WITHOUT_A_LINK, cell)
    ]
    named = re.findall(r"`(tests/[a-z_/.]+)`", COMPARISON)
    assert len(named) > 10 and not [name for name in named if not (REPOSITORY / name).exists()]


def test_links_of_the_comparison_stay_what_they_are():
    """A page of a branch changes under its link; one of a commit does not, and all are of the commit that the page says was looked at."""
    links = dict(re.findall(r"^\[([a-z0-9-]+)\]: (\S+)$", COMPARISON, re.MULTILINE))
    assert set(links) == set(re.findall(r"\]\[([a-z0-9-]+)\]", COMPARISON))
    looked_at = dict(re.findall(r"https://github.com/([\w-]+/[\w-]+)/tree/([0-9a-f]{40})\)", COMPARISON))
    pinned = [re.match(r"https://github.com/([\w-]+/[\w-]+)/(?:blob|tree)/([0-9a-f]{40})/", link) for link in links.values()]
    assert {match[1] for match in pinned if match} == {*looked_at, "marin-community/marin"}
    assert not [match[0] for match in pinned if match and looked_at.get(match[1], match[2]) != match[2]]
    loose = [link for link, match in zip(links.values(), pinned, strict=True) if not match]
    assert not [
        link for link in loose if not re.match(r"https://github.com/[\w-]+/[\w-]+/(pull|issues)/\d+$|https://docs\.nvidia\.com/", link)
    ]


def headings(page: str) -> set[str]:
    """Return the anchors of a page's headings, as Python-Markdown makes them."""
    without_code = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    said = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in said}


def test_links_between_pages_lead_to_a_page_and_a_heading():
    missing = []
    for page in [*DOCS.rglob("*.md"), REPOSITORY / "README.md"]:
        for target, anchor in re.findall(r"\]\(([^)\s:#]*\.md)?(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
            there = page.parent / target if target else page
            if not there.is_file() or (anchor and anchor not in headings(there.read_text(encoding="utf-8"))):
                missing.append(f"{page.name}: {target}#{anchor}")
    assert not missing


@pytest.mark.timeout(1500)
def test_repositories_become_the_corpus_that_the_page_shows(tmp_path):
    assert not lines_not_printed("repositories", follow("repositories", tmp_path))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1500)
def test_first_study_does_what_its_page_says(tmp_path):
    follow("first-study", tmp_path)
    assert (tmp_path / "first" / "study" / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.timeout(1500)
def test_a_law_over_a_table_finds_what_the_page_says(tmp_path):
    printed = follow("swarm", tmp_path)
    assert not lines_not_printed("swarm", printed)
    share, spread = re.search(r"better than the mixture proposed: (\S+) % of [\d,]+ mixtures, by (\S+) of a spread", printed).groups()
    assert float(share) < 5 and float(spread) < 0.1


@pytest.mark.timeout(1500)
def test_synthetic_code_is_kept_and_left_out_as_the_page_says(tmp_path):
    from codemix_megatron.errors import SandboxError
    from codemix_megatron.sandbox.running import find_sandbox

    try:
        find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))
    assert not lines_not_printed("synthetic-code", follow("synthetic-code", tmp_path))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1500)
def test_a_checkpoint_is_moved_as_the_page_says(tmp_path):
    assert not lines_not_printed("checkpoint", follow("checkpoint", tmp_path))
    assert {path.name for path in (tmp_path / "megatron").iterdir()} >= {"release", "tokenizer", "arguments.txt"}


def test_every_test_that_the_page_of_promises_names_is_there():
    page, path = (DOCS / "checked.md").read_text(encoding="utf-8"), ""
    named = re.findall(r"`([\w/]+\.py)?::(test_\w+)`", page)
    missing = []
    for file, function in named:
        path = file or path
        source = REPOSITORY / "tests" / path
        if not source.is_file() or f"def {function}(" not in source.read_text(encoding="utf-8"):
            missing.append(f"{path}::{function}")
    assert len(named) > 60 and not missing
