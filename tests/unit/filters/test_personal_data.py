"""Masks of personal data: what is masked in text and programs, what is left, how often each is right, and in which time."""

import json
import random
import re
import time

import pytest
from made_personal_data import KEYS, LOOKALIKES, PLACES, made_keys, made_personal_data

from codemix_megatron.errors import RecipeError
from codemix_megatron.filters import account_numbers, email_addresses, ip_addresses, secret_keys
from codemix_megatron.filters.filters import load_filters
from codemix_megatron.filters.personal_data import FORMS, find_personal_data, mask_personal_data, masked
from codemix_megatron.readers.documents import Document
from codemix_megatron.recipe.filtering import FilterSpec, PersonalPattern
from codemix_megatron.recipe.reading import build_recipe, write_recipe
from codemix_megatron.recipe.schema import CorpusSpec

ALL = ("email", "ip", "key", "phone", "iban")
MASKED = {
    "mail bob.smith+x@mail.company.org now": ("mail <EMAIL> now", "e-mail"),
    "a@b.de,c@d.fr": ("<EMAIL>,<EMAIL>", "e-mail"),
    "Ren\u00e9 <ren\u00e9.m\u00fcller@b\u00fccher.de>": ("Ren\u00e9 <<EMAIL>>", "e-mail"),
    "\u8054\u7cfb\u6211zhang.wei@qq.com\u8c22\u8c22": ("\u8054\u7cfb\u6211<EMAIL>\u8c22\u8c22", "e-mail"),
    "\u7528\u6237@\u4f8b\u5b50.\u4e2d\u56fd": ("<EMAIL>", "e-mail"),
    "\u0438\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444": ("<EMAIL>", "e-mail"),
    "JOE@COMPANY.COM (or mailto:ann@firm.email)": ("<EMAIL> (or mailto:<EMAIL>)", "e-mail"),
    "host 8.8.8.8:53": ("host <IP_ADDRESS>:53", "IP address"),
    "84.17.52.201 - - [10/Oct/2020] GET /": ("<IP_ADDRESS> - - [10/Oct/2020] GET /", "IP address"),
    "dns 2606:4700:4700::1111 ok": ("dns <IP_ADDRESS> ok", "IP address"),
    "AWS AKIAIOSFODNN7EXAMPLQ": ("AWS <KEY>", "key"),
    "t=ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6": ("t=<KEY>", "key"),
    'apiKey: "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"': ('apiKey: "<KEY>"', "key"),
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY\n": ("aws_secret_access_key = <KEY>\n", "key"),
    'api_token = "d41d8cd98f00b204e9800998ecf8427e"': ('api_token = "<KEY>"', "key"),
    "password = \"hunter2!\"": ('password = "<KEY>"', "key"),
    '{"user": "x", "Password": "S3cure-pass"}': ('{"user": "x", "Password": "<KEY>"}', "key"),
    "\u00e9\u00e9 password='tr0ub4dor'": ("\u00e9\u00e9 password='<KEY>'", "key"),
    "postgres://admin:s3cr3tpw@db/x": ("postgres://admin:<KEY>@db/x", "key"),
    "https://hooks.slack.com/services/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": ("https://hooks.slack.com/services/<KEY>", "key"),
    "https://discord.com/api/webhooks/908172635449182736/aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2": ("https://discord.com/api/webhooks/<KEY>", "key"),
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc123DEF456\nxyz\n-----END RSA PRIVATE KEY-----": (
        "-----BEGIN RSA PRIVATE KEY-----\n<KEY>\n-----END RSA PRIVATE KEY-----", "key",
    ),
    "call +1 415-867-5309 or +49 30 901820": ("call <PHONE> or <PHONE>", "phone number"),
    "Phone: (718) 575-1816.": ("Phone: <PHONE>.", "phone number"),
    "IBAN DE89 3704 0044 0532 0130 00 BIC": ("IBAN <IBAN> BIC", "IBAN"),
    "GB29NWBK60161331926819": ("<IBAN>", "IBAN"),
}  # fmt: skip
NOBODYS = [
    "git@github.com:x/y.git",
    "user@example.com",
    "@decorator",
    "x @ y.T",
    "127.0.0.1 10.0.0.1 192.168.1.1 0.0.0.0",
    "version 12.3.4.5",
    "typing==3.10.0.0",
    "1.2.3.4.5",
    "std::vector<int> a::b",
    "12:30:45",
    "api_key = os.environ['KEY_FOR_THE_SERVICE_X']",
    'password = "xxxxxxxxxxxxxxxxxxxxxxxx"',
    "https://user@host.com/x",
    "http://a:{password}@b",
    "999.1.2.3",
    "skip sk-learn",
    "2001:db8::1",
    # what was masked once
    "X@beta.reshape(-1)",
    "y = X@beta.dot(w) + L@D.data",
    "this@MainActivity.finish()",
    "return@Foo.name",
    "logo@2x.png",
    "getty@tty1.service",
    "user@1000.target",
    '__version__ = "1.2.3.4"',
    "<version>1.2.3.4</version>",
    'version="81.0.4.17"',
    '{"2.5.29.15": "keyUsage"}',
    "oid 2.5.4.3",
    "10:20:30:40:50:60:70:80",
    "de:ad:be:ef:00:11:22:33",
    "sk-toggleable__content-fitted-label-2f8a1b3c4d5e6f70",
    "actions/checkout@v1.io",
    "Chrome/49.0.2.87",
    "section 4.10.22.7",
    "libfoo.so.81.2.3.4",
    "$Id: elf.h,v 1.150.8.1 2005",
    "from 81.2.69.142-beta",
    "react@18.2.0-beta.dev",
    'password = "password"',
    '"password": "Enter your password 1"',
    "password: 'required|min:8'",
    "api_key = get_key_of_service_number_12(settings)",
    'secret_key = "projects/p/secrets/s1/versions/2"',
    "git+https://user:password@host",
    "+1.4249322787E-1f",
    "x +1234567890",
    "555-123-4567",
    "1e+4915112345678",
    "DE89370400440532013001",
    "api_key: sha256-and-other-words-that-are-a-name-22",
    "password = passwords['db1']",
    "call +1 212-555-0123",
]


@pytest.mark.parametrize("text", MASKED)
def test_personal_data_are_masked_and_counted(text):
    result = load_filters(FilterSpec(personal_data=ALL)).apply(Document(text, "here"))
    expected, what = MASKED[text]
    assert result.text == expected
    assert set(result.rewritten) == {f"{what} masked"}


@pytest.mark.parametrize("text", NOBODYS)
def test_what_is_nobodys_stays(text):
    assert mask_personal_data(text, ALL) == (text, ())


def test_only_what_was_asked_for_is_masked():
    text = "joe@x.org 84.17.52.201 +49 30 901820"
    assert mask_personal_data(text, ("ip",)) == ("joe@x.org <IP_ADDRESS> +49 30 901820", ("IP address masked",))
    assert mask_personal_data(text, ()) == (text, ())


@pytest.mark.parametrize("kind", ALL)
def test_nearly_all_made_personal_data_are_found_and_nearly_nothing_else(kind, measured):
    """Made by another program than the one that looks: names, numbers and keys drawn, in places of logs, settings and sources."""
    draw = random.Random(7)
    found = made = wrong = 0
    for _ in range(400):
        value, text = made_personal_data(kind, draw)
        spans = [text[begin:end] for begin, end in find_personal_data(text, kind)]
        made, found = made + 1, found + (value in spans)
        wrong += len([span for span in spans if span != value])
    wrong += sum(1 for text in LOOKALIKES for _ in find_personal_data(text, kind))
    precision, recall = found / max(1, found + wrong), found / made
    measured(f"personal data, made, {kind}: precision {precision:.3f}, recall {recall:.3f}")
    assert precision >= 0.95 and recall >= 0.95
    assert len(PLACES[kind]) >= 5


def test_every_issuers_keys_are_found(measured):
    missed = [
        name
        for name, key in made_keys(random.Random(3))
        if key not in [f"x = {key} "[b:e] for b, e in find_personal_data(f"x = {key} ", "key")]
    ]
    measured(f"keys of {len(KEYS)} issuers, missed: {missed}")
    assert not missed


def test_patterns_of_ones_own_are_masked_and_counted(tmp_path):
    from tiny_run import RECIPE

    filters = {"personal_data": ["email", {"name": "employee", "pattern": r"\bE-\d{5}\b"}]}
    plain = {**RECIPE, "corpora": {**RECIPE["corpora"], "snippets": {**RECIPE["corpora"]["snippets"], "filters": filters}}}
    recipe = build_recipe(plain, directory=tmp_path)
    spec: CorpusSpec = recipe.corpora["snippets"]
    assert spec.filters.personal_data == ("email", PersonalPattern(name="employee", pattern=r"\bE-\d{5}\b"))
    result = load_filters(spec.filters).apply(Document("caf\u00e9 E-12345, joe@x.org, E-123456", "here"))
    assert (result.text, result.rewritten) == ("caf\u00e9 <EMPLOYEE>, <EMAIL>, E-123456", ("e-mail masked", "employee masked"))
    import yaml

    assert build_recipe(yaml.safe_load(write_recipe(recipe)), directory=tmp_path) == recipe
    filters["personal_data"][1]["pattern"] = "(?<=x)y"
    with pytest.raises(RecipeError, match=r"personal_data\[1\]\.pattern: found '\(\?<=x\)y', which RE2 cannot read"):
        build_recipe(plain, directory=tmp_path)


def compiled_patterns() -> dict[str, re.Pattern]:
    """Every expression of the rooms that mask, and of the forms they build when first used."""
    patterns = {}
    for module in (account_numbers, email_addresses, ip_addresses, secret_keys):
        patterns |= {f"{module.__name__}.{name}": value for name, value in vars(module).items() if isinstance(value, re.Pattern)}
    return patterns | {form.pattern: form for form, _ in secret_keys.key_forms()[1]}


ATTACKS = {
    "colons": ":",
    "hex and colons": "2001:",
    "dots": ".",
    "octets": "1.1.1.",
    "at": "@",
    "user": "a",
    "labels": "a@a.",
    "dashes": "-",
    "letters of domains": "a-",
    "long domain": "@aaaa-",
    "keys": "sk-",
    "tokens": "eyJ-",
    "more tokens": "eyJaaaaaaaaaa.",
    "pem": "-----BEGIN PRIVATE KEY-----",
    "pem of dashes": "-----BEGIN PRIVATE KEY-----a-b",
    "names": "api_key",
    "names and spaces": "api_key =    ",
    "open values": "api_key='",
    "urls": "://a:",
    "urls without end": "://a",
    "plus": "+1 ",
    "digits": "1",
    "digits and dashes": "1-",
    "iban": "AA00",
    "iban groups": "AA00 AAAA ",
    "webhooks": "/api/webhooks/1",
    "spaces": " ",
    "quotes": "password='a",
    "wide": "\u00e9@\u00e9.",
    "chinese": "\u4f8b",
    "hex": "0a",
    "telephones": "+4915112345678 ",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_masking_takes_time_in_proportion_to_the_text_whatever_it_holds(attack):
    """The text four times as long may take no more than nine times as long, unless that is nothing: 40,000 colons took 50 s."""

    def seconds(characters: int) -> float:
        text = (ATTACKS[attack] * (characters // len(ATTACKS[attack]) + 1))[:characters] + "\x00!"
        began = time.process_time()
        mask_personal_data(text, ALL)
        return time.process_time() - began

    seconds(1000)
    short = min(seconds(20_000) for _ in range(2))
    long = seconds(80_000)
    assert long < 0.5 or long < 9 * short, f"{short:.3f} s for 20,000 characters, {long:.3f} s for 80,000"


def test_every_expression_alone_is_linear_too():
    slow = []
    for name, pattern in compiled_patterns().items():
        for attack in ("colons", "labels", "dashes", "tokens", "spaces", "digits", "iban groups", "letters of domains", "user"):
            text = (ATTACKS[attack] * 20_000)[:20_000] + "\x00!"
            began = time.process_time()
            for _ in pattern.finditer(text):
                pass
            if (taken := time.process_time() - began) > 0.5:
                slow.append((name, attack, round(taken, 2)))
    assert not slow


def test_names_of_forms_are_those_of_the_recipe():
    assert set(FORMS) == set(ALL)
    assert json.dumps(load_filters(FilterSpec(personal_data=("ip", PersonalPattern(name="x", pattern="y")))).settings())


def test_masks_that_overlap_leave_the_end_of_none():
    """A recogniser that finds a name and the first word of it: what the second says beyond the first was left."""
    done: list[str] = []
    assert (
        masked("Anna Smith and Bo Smith-Lee wrote", [(0, 4), (0, 10), (15, 23), (18, 27)], "<NAME>", "name", done)
        == "<NAME> and <NAME> wrote"
    )
    assert done == ["name masked"] * 2
