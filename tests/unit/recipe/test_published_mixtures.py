"""Published mixtures: what their publishers wrote, and recipes that name them."""

import pytest
from tiny_run import RECIPE

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.published import PUBLISHED
from codemix_megatron.recipe.reading import build_recipe


def built(tmp_path, mixture: dict, **corpora):
    """Return the tiny recipe with another mixture in its first phase."""
    first, *others = RECIPE["phases"]
    plain = {**RECIPE, "corpora": {**RECIPE["corpora"], **corpora}, "phases": [{**first, "mixture": mixture}, *others]}
    return build_recipe(plain, directory=tmp_path)


@pytest.mark.parametrize("name, code", [
    ("smollm3/stage-1", 0.125), ("smollm3/stage-2", 0.163), ("smollm3/stage-3", 0.282), ("smollm3-blog/stage-3", 0.24),
    ("olmo3", 0.0689), ("nemotron-3-super", 0.14),
])  # fmt: skip
def test_share_of_code_is_the_published_one(name, code):
    assert PUBLISHED[name].shares["code"] == pytest.approx(code, abs=5e-4)


def test_paper_s_phases_have_the_tokens_of_its_table_2():
    """Table 2: balanced to text is 100B + 100B, then 180B + 20B; the cooldown 32B + 8B."""
    for phase, text, code in (("init", 100, 100), ("continue", 180, 20), ("cooldown", 32, 8)):
        published = PUBLISHED[f"paper/balanced-to-text/{phase}"]
        tokens = int(published.tokens.removesuffix("B"))
        share = sum(s for name, s in published.shares.items() if name in ("text", "cooldown_text"))
        assert tokens * share == pytest.approx(text) and tokens * (1 - share) == pytest.approx(code)


def test_every_published_mixture_adds_up_and_has_a_source():
    for name, published in PUBLISHED.items():
        assert sum(published.shares.values()) == pytest.approx(1), name
        assert "arXiv" in published.source or "huggingface.co" in published.source or "github.com" in published.source


def test_recipe_names_a_published_mixture_and_says_what_its_domains_are(tmp_path):
    recipe = built(tmp_path, {"preset": "smollm3/stage-3", "corpora": {"text": "prose", "code": "snippets"}})
    assert recipe.phases[0].mixture == {"prose": 0.718, "snippets": 0.282}
    summed = built(tmp_path, {"preset": "smollm3-blog/stage-3", "corpora": {"web": "prose", "math": "prose", "code": "snippets"}})
    assert summed.phases[0].mixture == pytest.approx({"prose": 0.76, "snippets": 0.24})
    tags = {"kind": "markup", "documents": ["tags.jsonl"]}
    nested = {"preset": "nemotron-3-super", "corpora": {"text": "prose", "code": {"snippets": 0.75, "tags": 0.25}}}
    grouped = flatten_mixture(built(tmp_path, nested, tags=tags).phases[0].mixture, 1, {})
    assert grouped == pytest.approx({"prose": 0.86, "snippets": 0.105, "tags": 0.035})


@pytest.mark.parametrize("mixture, message", [
    ({"preset": "smollm4"}, r"phases\[0\].mixture.preset: no mixture 'smollm4'; `codemix doctor --mixtures` lists"),
    ({"preset": "olmo3", "corpora": {"cod": "snippets"}}, r"corpora.cod: no domain of olmo3; it has web, pdf, code"),
    ({"preset": "olmo3", "share": 1}, r"mixture.share: no such key; beside preset, corpora is allowed"),
    ({"preset": "smollm3/stage-1"}, r"mixture.text: no such corpus; corpora are prose, snippets"),
    ({"preset": "smollm3/stage-1", "corpora": "prose"}, r"needs a mapping of the preset's domains \(text, code\)"),
])  # fmt: skip
def test_faults_of_a_named_mixture_are_told(tmp_path, mixture, message):
    with pytest.raises(RecipeError, match=message):
        built(tmp_path, mixture)


def test_command_lists_them_with_their_sources(capsys):
    assert main(["doctor", "--mixtures"]) == 0
    out = capsys.readouterr().out
    assert "smollm3/stage-3" in out and "arXiv 2604.12374" in out and "huggingface.co/blog/smollm3" in out
