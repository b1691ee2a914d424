"""The report of what was masked in a corpus. Judge: what the input is known to hold."""

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.corpus import parts
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.recipe.filtering import FilterSpec, NearDuplicates, PersonalPattern


@pytest.fixture
def prepared(write_lines, spec_for, tokenizer, monkeypatch):
    """A corpus of several parts: 60 documents, each third with two addresses and each fifth with a number of an employee."""
    monkeypatch.setattr(parts, "PART_BYTES", 2048)
    rows = []
    for i in range(60):
        text = f"document {i} of the archive, written about the harbour and its ships."
        text += f" Write to anna.{i}@harbour.de or bob{i}@ships.org (phone +49 89 636-48018)." if i % 3 == 0 else ""
        text += f" E-{20000 + i} signed." if i % 5 == 0 else ""
        rows.append({"text": text})
    path = write_lines(rows)
    filters = FilterSpec(personal_data=("email", PersonalPattern(name="employee", pattern=r"\bE-\d{5}\b")))
    return path, prepare_corpus("x", spec_for(path, filters=filters), tokenizer, HowToPrepare())


def test_masks_and_documents_are_counted_by_form_with_samples(prepared):
    path, manifest = prepared
    found = manifest.redactions
    assert {form: (one["masked"], one["documents"]) for form, one in found.items()} == {
        "e-mail masked": (40, 20),
        "employee masked": (12, 12),
    }
    assert {form: one["masked"] for form, one in found.items()} == manifest.rewritten
    assert [location for location, _ in found["e-mail masked"]["samples"]] == [f"{path}:{line}" for line in (1, 4, 7, 10, 13)]
    assert [location for location, _ in found["employee masked"]["samples"]] == [f"{path}:{line}" for line in (1, 6, 11, 16, 21)]


def test_samples_show_no_personal_data_of_any_form(prepared, capsys):
    """Telephone numbers were not asked to be masked in the corpus, yet no report quotes one."""
    _, manifest = prepared
    assert main(["inspect", manifest.prefix, "--redactions"]) == 0
    out = capsys.readouterr().out
    assert "e-mail masked: 40 in 20 of 60 documents" in out and "its ships. Write to <EMAIL> or <EMAIL> (phone <PHONE>)." in out
    assert "@" not in out and "636" not in out and "<EMPLOYEE> signed." in out
    assert main(["inspect", manifest.prefix, "--samples", "0"]) == 0
    assert "e-mail masked: 40 in 20 documents" in capsys.readouterr().out


def test_where_nothing_was_asked_for_it_says_so(hundred_texts, spec_for, tokenizer, capsys):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare())
    assert manifest.redactions == {} and main(["inspect", manifest.prefix, "--redactions"]) == 0
    assert "nothing was asked to be masked" in capsys.readouterr().out


def test_where_copies_were_left_out_after_masking_the_report_says_so(write_lines, spec_for, tokenizer, capsys):
    """A near copy of a masked document is masked too before it is found to be one."""
    text = "Write to ada@initech.co about the engine and all the wheels of it that turn and turn and never come to rest"
    path = write_lines([{"text": text}, {"text": f"{text} again"}])
    spec = spec_for(path, filters=FilterSpec(personal_data=("email",), near_duplicates=NearDuplicates(similarity=0.5)))
    made = prepare_corpus("x", spec, tokenizer, HowToPrepare())
    assert made.num_documents == 1 and main(["inspect", made.prefix, "--redactions"]) == 0
    assert "e-mail masked: 2 in 2 documents, before 1 copies were left out; the corpus holds 1" in capsys.readouterr().out
