"""Copies that look otherwise: numbered and escaped ones of evaluation items, short items, text without spaces between words."""

import hashlib
import html
import json
import random
import time

import numpy as np
import pytest

from codemix_megatron.filters.contamination import ContaminationIndex, build_contamination_index
from codemix_megatron.filters.copied_forms import forms_of
from codemix_megatron.filters.filters import load_filters
from codemix_megatron.filters.near_duplicates import document_signature, find_near_duplicates
from codemix_megatron.filters.word_hashes import normalized, word_hashes
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.recipe.filtering import Decontamination, FilterSpec, NearDuplicates

CODE = """def below(numbers: list, limit: int) -> bool:

    \"\"\" Say whether every number of the list, however many there are, is < limit && not "none" \"\"\"
    for number in numbers:
        if number >= limit:
            return False
    return True
"""
QUESTION = "when was the last time anyone was on the moon"
STYLES = ("{} {}", "{:>4}  {}", "{}: {}", "{:04}| {}", "[{}] {}", " {}.\t{}", "L{} {}")


@pytest.fixture
def items(tmp_path):
    """An evaluation set of code, a short question, a shorter one, and one in Chinese."""
    path = tmp_path / "items.jsonl"
    chinese = "登上月球的最后一个人是在什么时候离开那里并返回地球的呢"
    texts = [CODE, QUESTION, "who wrote it", "one two 3 4 5 6 7 8 9", chinese]
    path.write_text("".join(json.dumps({"q": text}, ensure_ascii=False) + "\n" for text in texts))
    return path


def numbered(text: str, style: str = "{} {}", first: int = 1) -> str:
    return "\n".join(style.format(number, line) for number, line in enumerate(text.split("\n"), first))


def dropped(filters, text: str) -> bool:
    return isinstance(filters.apply(Document(text, "x")), BadDocument)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("first", [1, 118])
def test_numbered_copies_are_found(items, style, first):
    filters = load_filters(FilterSpec(decontamination=Decontamination(against=(str(items),))))
    assert dropped(filters, "Listing:\n" + numbered(CODE, style, first))
    assert dropped(filters, "Listing:\n" + html.escape(numbered(CODE, style, first)))


@pytest.mark.parametrize("escape", [html.escape, lambda text: "".join(f"&#{ord(c)};" if c in "<>&\"'_" else c for c in text)])
def test_escaped_copies_are_found(items, escape):
    filters = load_filters(FilterSpec(decontamination=Decontamination(against=(str(items),))))
    assert dropped(filters, f"<pre>{escape(CODE)}</pre>")


def test_what_is_no_numbered_copy_stays_what_it_is():
    for text in ("1 one\n2 two\nthree", "10 print\n20 goto 10\n30 end\n40 x", "a & b &c; AT&T", "x = 1\n2\n", CODE):
        assert forms_of(text)[0] == text and all("print" not in form or form == text for form in forms_of(text))
    assert forms_of("10 print\n20 goto 10\n30 end\n40 x") == ["10 print\n20 goto 10\n30 end\n40 x"]


@pytest.mark.parametrize("text", ["&" * 200_000, "&a" * 100_000, "\n" + " " * 200_000, "\n1" * 100_000, "\n[((L" * 60_000, "&#12" * 60_000])
def test_adversarial_text_takes_time_that_grows_with_its_length(text):
    began = time.process_time()
    forms_of(text)
    assert time.process_time() - began < 2


def test_copies_of_humaneval_numbered_or_escaped_are_found_like_plain_ones(shared_data, measured):
    path = shared_data / "eval/humaneval.jsonl"
    filters = load_filters(FilterSpec(decontamination=Decontamination(against=(str(path),))))
    prompts = [json.loads(line)["prompt"] for line in path.read_text().splitlines()]
    passing = {
        name: sum(not dropped(filters, form(prompt)) for prompt in prompts)
        for name, form in {"plain": str, "numbered": numbered, "escaped": html.escape}.items()
    }
    measured(f"decontamination: of 164 copies of HumanEval pass {passing}")
    assert passing["numbered"] <= passing["plain"] and passing["escaped"] <= passing["plain"] <= 4


def test_short_items_are_looked_for_whole_and_counted(items, tmp_path):
    index = build_contamination_index([items])
    assert index.suites() == {"items.jsonl": {"items": 5, "by_runs": 2, "as_a_whole": 1, "not_looked_for": 2}}
    assert index.num_items_without_runs == 2
    index.write(tmp_path / "index.npz")
    for known in (index, ContaminationIndex.read(tmp_path / "index.npz")):
        assert known.sha256 == index.sha256
        assert known.contaminated_items([f"Q: {QUESTION.title()}? A: December 1972"]) == ["items.jsonl:2"]
        assert known.contaminated_items([QUESTION.replace("anyone", "someone"), "who wrote it", "one two 3 4 5 6 7 8 9"]) == []
        assert known.contaminated_items([QUESTION.rsplit(" ", 1)[0]]) == []
    without = load_filters(FilterSpec(decontamination=Decontamination(against=(str(items),), short_words=0)))
    assert not dropped(without, QUESTION) and len(without.notes()) == 1
    filters = load_filters(FilterSpec(decontamination=Decontamination(against=(str(items),))))
    assert filters.apply(Document(f"x {QUESTION} y", "x")).example.startswith("1 n-grams, the first of items.jsonl:2: x when")
    assert filters.notes() == [
        "decontamination: 2 of 5 items of items.jsonl cannot be looked for: fewer than 8 words that distinguish them from others"
    ]
    assert filters.settings()["decontamination"]["suites"]["items.jsonl"]["not_looked_for"] == 2


def test_an_index_of_before_short_items_is_read(items, tmp_path):
    build_contamination_index([items]).write(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as stored:
        np.savez(tmp_path / "old.npz", **{name: stored[name] for name in stored if not name.startswith("short")})
    old = ContaminationIndex.read(tmp_path / "old.npz")
    assert old.contaminated_items([CODE, QUESTION]) == ["items.jsonl:1"]


def test_nq_open_says_how_many_of_its_items_can_be_looked_for(shared_data, measured):
    index = build_contamination_index([shared_data / "eval/nq_open.validation.jsonl"])
    (counts,) = index.suites().values()
    measured(f"decontamination: nq_open: {counts}")
    assert counts["items"] == 3610 and counts["not_looked_for"] < 600 < 2400 < counts["as_a_whole"]


def shingles(text: str, length: int = 5) -> set[str]:
    return {text[i : i + length] for i in range(len(text) - length + 1)}


@pytest.mark.parametrize("first", [0x4E00, 0x0E01, 0x3041])
def test_near_copies_without_spaces_are_found(first, measured):
    draw, spec = random.Random(2), NearDuplicates()
    texts, similarities = [], []
    for _ in range(100):
        text = [chr(first + draw.randrange(40 if first < 0x4E00 else 3000)) for _ in range(1000)]
        copy = text.copy()
        for index in draw.sample(range(1000), 3):
            copy[index] = chr(first + 41)
        texts += ["".join(text), "".join(copy)]
        one, other = shingles(texts[-2]), shingles(texts[-1])
        similarities.append(len(one & other) / len(one | other))
    signatures = np.frombuffer(b"".join(document_signature(text, spec) for text in texts), np.uint8)
    original = find_near_duplicates(signatures, spec)
    found = int((original[1::2] == np.arange(0, 200, 2)).sum())
    measured(f"near duplicates without spaces, Jaccard {np.mean(similarities):.2f}: {found} of 100 found")
    assert found == 100 and (original[0::2] == -1).all()


def test_copies_of_items_without_spaces_are_found(items):
    filters = load_filters(FilterSpec(decontamination=Decontamination(against=(str(items),))))
    assert dropped(filters, "他问:登上月球的最后一个人是在什么时候离开那里并返回地球。")
    assert not dropped(filters, "他问:谁在什么时候离开了那里,又是怎样返回地球的。")


def test_words_of_other_scripts_are_what_they_were():
    text = "Straße, naïve Foo_Bar 12 x — «Привет мир» 한국어 문장 عربي שלום हिन्दी λx ✓"
    assert hashlib.sha256(word_hashes(text).tobytes()).hexdigest()[:16] == "ad8ef6555dabe23f"
    assert normalized("月球moon 月x").decode().split() == ["月", "球", "moon", "月", "x"]
