"""Documents drawn by buckets of a score: exact epochs, whole documents, nothing of buckets that are not read; judged by plain counting."""

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from pyarrow import parquet

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.score_table import write_scores
from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.mixture.audit import count_buckets
from codemix_megatron.mixture.buckets import Round, bucket_windows, documents_in_buckets
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import pack_documents
from codemix_megatron.mixture.read_documents import documents_read
from codemix_megatron.mixture.recipe_reader import recipe_packings, recipe_reader, sequences_of_buckets
from codemix_megatron.plan.branch import branch_from, data_order
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.recipe.sources import Source
from codemix_megatron.records.manifest import CorpusManifest

LENGTH = 16
BUCKETED = {"code": {"by": "quality", "buckets": [0.25, 0.5, 0.75], "epochs": [0, 1, 3, 7]}}


@pytest.fixture
def scored(tmp_path, tokenizer, tokenizer_path):
    """A corpus of 120 documents with a quality each, one without buckets, and what reads a recipe over both."""
    draw = np.random.default_rng(3)
    for name in ("code", "text"):
        lines = [json.dumps({"text": f"{name} {i} " + "quick brown fox " * int(draw.integers(1, 9))}) for i in range(120)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        spec = CorpusSpec(kind=name, documents=(str(tmp_path / f"{name}.jsonl"),), prefix=str(tmp_path / "corpora" / name))
        manifest = prepare_corpus(name, spec, tokenizer, HowToPrepare(held_out_share=0.1))
        write_scores(manifest, {"quality": draw.random(manifest.num_documents)}, {"quality": {"by": "chance"}})

    def recipe(tokens=200 * LENGTH, sources=BUCKETED, **more):
        plain = {
            "name": "bucketed", "seed": 5,
            "model": {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "sequence_length": LENGTH},
            "batch": {"global_sequences": 4, "micro_sequences": 4}, "tokenizer": {"path": str(tokenizer_path)},
            "corpora": {n: {"kind": n, "documents": [f"{n}.jsonl"], "max_epochs": 50} for n in ("code", "text")},
            "phases": [
                {"name": n, "tokens": tokens // 2, "mixture": {"code": 0.5, "text": 0.5}, "learning_rate": {"peak": 1e-3}} for n in ("a", "b")
            ],
            "evaluation": {"held_out_share": 0.1}, "sources": sources, **more,
        }  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(plain))
        return read_recipe(path)

    return recipe


def planned(recipe):
    """A recipe's plan, over what is prepared."""
    return make_plan(recipe, read_manifests(recipe))


def round_sequences(recipe) -> int:
    """Sequences of a round of code."""
    return sum(planned(recipe).sources["code"]["buckets"]["round"])


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_after_a_round_every_sequence_of_a_bucket_was_read_as_often_as_its_epochs_say(scored, packing):
    more = {"sequences": {"packing": packing}}
    whole = round_sequences(scored(**more))
    recipe = scored(tokens=(2 * whole + 7) // 8 * 8 * LENGTH, **more)  # shares of a half: a round of code within a batch or so
    plan = planned(recipe)
    order = plan.mixture()
    located = order.locate(np.arange(len(order)))
    code = located.sequence[located.source == 0][:whole]
    assert len(code) == whole, "the run is as long as a round"
    buckets, counts = plan.sources["code"]["buckets"], Counter(code.tolist())
    starts = np.cumsum([0, *buckets["sequences"]])
    for bucket, epochs in enumerate([0, 1, 3, 7, 0]):
        of_bucket = [counts[i] for i in range(starts[bucket], starts[bucket + 1])]
        assert of_bucket == [epochs] * len(of_bucket)
    assert sum(n > 3 for n in buckets["sequences"][:4]) == 4, "each bucket has some"


def plain_sequences(manifest, borders) -> list[int]:
    """Windows that the documents of each bucket make, laid end to end, counted from the scores' own file and the lengths alone."""
    scores = parquet.read_table(f"{manifest.prefix}.scores.parquet")["quality"].to_numpy()[: manifest.train_documents]
    lengths = np.diff(np.append(IndexedReader(manifest.prefix).sequence_offsets, manifest.num_tokens * 2))[: manifest.train_documents] // 2
    edges = [-np.inf, *borders, np.inf]
    return [int((lengths[(scores >= low) & (scores < high)].sum() - 1) // LENGTH) for low, high in pairwise(edges)]


@pytest.mark.parametrize("share", [0.5, 0.3, 0.11])
def test_part_of_a_corpus_that_stands_for_all_of_it_reads_each_bucket_as_often(scored, share):
    """Buckets and `corpus_share` together, against a plain count: which sequences, how often, and what plan, run and audit say of it."""
    more = {
        "sequences": {"corpus_share": share},
        "corpora": {n: {"kind": n, "documents": [f"{n}.jsonl"], "max_epochs": 900, "beyond_max_epochs": "warn"} for n in ("code", "text")},
    }
    recipe = scored(**more)
    stored = plain_sequences(read_manifests(recipe)["code"], BUCKETED["code"]["buckets"])
    wanted = [math.ceil(count * share) for count in stored]
    whole = sum(epochs * count for epochs, count in zip([0, 1, 3, 7], wanted, strict=True))
    recipe = scored(tokens=(2 * whole + 16) // 8 * 8 * LENGTH, **more)
    plan = planned(recipe)
    order, source = plan.mixture(), plan.sources["code"]
    buckets = source["buckets"]
    assert (buckets["stored"][:4], buckets["sequences"][:4], buckets["round"][:4]) == (
        stored,
        wanted,
        [0, wanted[1], 3 * wanted[2], 7 * wanted[3]],
    )
    assert source["sequences_per_epoch"] == sum(wanted[1:]) and source["stored_sequences"] == sum(stored[1:])

    located = order.locate(np.arange(len(order)))
    code, starts = located.sequence[located.source == 0], np.cumsum([0, *stored])
    read = [code[(code >= low) & (code < high)] - low for low, high in pairwise(starts.tolist())]
    a_round = [
        Counter((code[:whole][(code[:whole] >= low) & (code[:whole] < high)] - low).tolist()) for low, high in pairwise(starts.tolist())
    ]
    for epochs, counts, count, inside in zip([0, 1, 3, 7], a_round, wanted, stored, strict=True):
        spread = {i * inside // count for i in range(count)}  # evenly over all that the bucket holds
        assert counts == ({} if not epochs else dict.fromkeys(spread, epochs)), "after a round each was read as often as was said"

    drawn = [len(sequences) for sequences in read]
    assert buckets["drawn"] == [*drawn, 0] and buckets["realised"][:4] == pytest.approx([n / w for n, w in zip(drawn, wanted, strict=True)])
    assert source["share_seen"] == pytest.approx(sum(len(set(s.tolist())) for s in read) / sum(wanted[1:]))
    for seen in (0, 7, len(order) // 2, len(order)):  # as the journal counts after a step, and as the audit counts by walking
        by_step = order.bucket_sequences(order.consumed(seen))["code"].tolist()
        walked = count_buckets(order, seen).get("code", np.zeros(5, np.int64)).tolist()
        first = code[: int((located.source[:seen] == 0).sum())]
        counted = np.bincount(np.searchsorted(starts[1:], first, side="right"), minlength=5).tolist()
        assert by_step == walked == counted
    assert (data_order(json.loads(json.dumps(plan.as_json()))).locate(np.arange(len(order))).sequence == located.sequence).all()


def test_a_bucket_too_small_to_be_read_is_told(scored):
    """Half an epoch of one sequence rounds to none: its documents would be missing from the run without a word."""
    sources = {"code": {**BUCKETED["code"], "epochs": [0.001, 1, 3, 7]}}
    (warning,) = [line for line in planned(scored(sources=sources)).warnings if "never read" in line]
    assert "sources.code: quality below 0.25 is never read: 0.001 epochs of " in warning
    assert not any("never read" in line for line in planned(scored()).warnings)


def test_every_prefix_holds_buckets_within_the_depth_of_the_tree_and_phases_read_on(scored):
    plan = planned(scored())
    order, buckets = plan.mixture(), plan.sources["code"]["buckets"]
    located = order.locate(np.arange(len(order)))
    ends = np.cumsum(buckets["stored"])
    bucket = np.searchsorted(ends, located.sequence[located.source == 0], side="right")
    shares = np.asarray(buckets["round"]) / sum(buckets["round"])
    for length in range(1, len(bucket) + 1):
        assert np.abs(np.bincount(bucket[:length], minlength=5) - length * shares).max() <= 3
    for number in range(4):
        drawn = located.sequence[located.source == 0][bucket == number]
        first = drawn[: buckets["sequences"][number]]
        assert len(set(first.tolist())) == len(first), "nothing of a bucket comes twice before all of it came"
    seen = {name: counts.tolist() for name, counts in order.bucket_sequences(order.consumed(len(order))).items()}
    assert seen == {"code": buckets["drawn"]} == {name: c.tolist() for name, c in count_buckets(order, len(order)).items()}


def test_a_source_without_buckets_is_drawn_as_if_there_were_none(scored):
    with_buckets, without = planned(scored()).mixture(), planned(scored(sources={})).mixture()
    at = np.arange(len(without))
    one, other = with_buckets.locate(at), without.locate(at)
    assert (one.source == other.source).all() and (one.phase == other.phase).all()
    assert (one.sequence[one.source == 1] == other.sequence[other.source == 1]).all()


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_rows_hold_documents_of_their_bucket_alone_and_all_of_its_tokens(scored, packing):
    recipe = scored(sequences={"packing": packing})
    manifests = read_manifests(recipe)
    manifest = manifests["code"]
    reader, buckets = recipe_reader(recipe, manifests), documents_in_buckets(manifest, recipe.sources["code"], "sources.code")
    documents = [IndexedReader(manifest.prefix).document(i).tolist() for i in range(manifest.train_documents)]
    _, per_bucket, _ = sequences_of_buckets(recipe, "code", manifest)
    starts = np.cumsum([0, *per_bucket])
    for bucket in range(4):
        numbers = np.arange(starts[bucket], starts[bucket + 1])
        rows = reader.read(np.zeros(len(numbers), np.int64), numbers)
        of_bucket = [ids for ids, its in zip(documents, buckets, strict=True) if its == bucket]
        if packing == "concatenate":
            stream = [token for ids in of_bucket for token in ids]
            wanted = [stream[i * LENGTH : i * LENGTH + LENGTH + 1] for i in range((len(stream) - 1) // LENGTH)]
            assert rows.tolist() == wanted
        else:
            found = Counter(token for row in rows.tolist() for token in row if token >= 0)
            repeated = sum(-(-(len(ids) - 1) // LENGTH) - 1 for ids in of_bucket)  # windows of one document overlap by a token
            assert found.total() == sum(map(len, of_bucket)) + repeated
    windows = reader.read(np.ones(3, np.int64), np.arange(3))
    assert windows.shape == (3, LENGTH + 1) and (windows >= 0).all()


def test_documents_read_are_those_whose_bucket_is_read(scored):
    recipe = scored(tokens=2000 * LENGTH, sources={"code": {**BUCKETED["code"], "epochs": [0, 0, 0, 100]}})
    manifests, plan = read_manifests(recipe), planned(recipe)
    read = documents_read(plan.mixture(), list(manifests.values()), LENGTH, len(plan.mixture()), recipe_packings(recipe, manifests))
    buckets = documents_in_buckets(manifests["code"], recipe.sources["code"], "")
    missed = (buckets == 3) & ~read[0]
    assert not read[0][buckets < 3].any() and missed.sum() <= 1, "the end of the last document may be too short for a sequence"


@settings(max_examples=60, deadline=None)
@given(
    lengths=some.lists(some.integers(1, 40), min_size=1, max_size=30),
    seed=some.integers(0, 99), length=some.integers(1, 20),
)  # fmt: skip
def test_windows_of_any_choice_of_documents_are_those_of_the_documents_laid_end_to_end(lengths, seed, length):
    chosen, ends = np.random.default_rng(seed).random(len(lengths)) < 0.5, np.cumsum(lengths)
    stream = [t for end, size, is_chosen in zip(ends, lengths, chosen, strict=True) if is_chosen for t in range(end - size, end)]
    packing = bucket_windows(np.asarray(lengths), chosen, length)
    assert packing.num_sequences == max(0, (len(stream) - 1) // length)
    for i in range(packing.num_sequences):
        pieces = range(packing.first[i], packing.first[i + 1])
        tokens = [t for p in pieces for t in range(packing.start[p], packing.start[p] + packing.length[p])]
        assert tokens == stream[i * length : i * length + length + 1]


@given(counts=some.lists(some.integers(0, 50), min_size=1, max_size=6).filter(any), draws=some.integers(0, 500))
def test_what_was_drawn_of_each_bucket_is_what_walking_the_draws_counts(counts, draws):
    of_source = Round(counts, [max(1, n) for n in counts])
    bucket, index = of_source.locate(np.arange(draws))
    assert of_source.drawn(draws).tolist() == np.bincount(bucket, minlength=len(counts)).tolist()
    for number in range(len(counts)):
        assert index[bucket == number].tolist() == list(range(int((bucket == number).sum())))


def test_a_branch_reads_buckets_on_where_its_trunk_stopped_and_refuses_others(scored, tmp_path):
    recipe = scored()
    whole = planned(recipe)
    trunk = make_plan(
        scored(phases=[{"name": "a", "tokens": 100 * LENGTH, "mixture": {"code": 0.5, "text": 0.5}, "learning_rate": {"peak": 1e-3}}]),
        read_manifests(recipe),
    )
    (tmp_path / "trunk").mkdir()
    (tmp_path / "trunk" / "plan.json").write_text(json.dumps(trunk.as_json()))
    phase = [{"name": "b", "tokens": 100 * LENGTH, "mixture": {"code": 0.5, "text": 0.5}, "learning_rate": {"peak": 1e-3}}]
    going_on = {"phases": phase, "branch": {"run": str(tmp_path / "trunk")}}
    branched = planned(scored(**going_on))
    at = np.arange(branched.mixture().first, len(branched.mixture()))
    assert (branched.mixture().locate(at).sequence == whole.mixture().locate(at).sequence).all()
    assert branched.sources["code"]["buckets"]["drawn"] == whole.sources["code"]["buckets"]["drawn"]
    assert branch_from(trunk.as_json(), "trunk", None).consumed["code"] == trunk.sources["code"]["sequences"]
    with pytest.raises(RecipeError, match="sources.code draws on other buckets than the parent"):
        planned(scored(sources={"code": {**BUCKETED["code"], "epochs": [1, 1, 1, 1]}}, **going_on))


def test_plan_json_gives_the_same_order_again(scored):
    plan = planned(scored())
    again, order = data_order(json.loads(json.dumps(plan.as_json()))), plan.mixture()
    at = np.arange(len(order))
    assert (again.locate(at).sequence == order.locate(at).sequence).all()


def test_more_than_a_round_is_refused_with_the_bucket_or_told(scored):
    with pytest.raises(
        RecipeError, match=r"sources\.code: \d+ tokens are asked for .* a round of its buckets has \d+: .*quality from 0.75 would be"
    ):
        planned(scored(tokens=20_000 * LENGTH))
    corpora = {
        "code": {"kind": "code", "documents": ["code.jsonl"], "beyond_max_epochs": "warn"},
        "text": {"documents": ["text.jsonl"], "max_epochs": 999},
    }
    assert any("code (quality from 0.75): read" in warning for warning in planned(scored(tokens=20_000 * LENGTH, corpora=corpora)).warnings)


def test_documents_without_a_score_are_refused_unless_it_is_said_how_often_they_are_read(scored):
    recipe = scored()
    manifest = CorpusManifest.read(recipe.prefix("code"))
    scores = np.linspace(0, 1, manifest.num_documents)
    scores[[4, 9]] = np.nan
    write_scores(manifest, {"quality": scores}, {"quality": {"by": "hand"}})
    with pytest.raises(
        CorpusError, match=r"sources\.code: 2 of \d+ documents have no quality \(document 4 is the first\); say in sources\.code\.unscored"
    ):
        planned(recipe)
    counted = planned(scored(sources={"code": {**BUCKETED["code"], "unscored": 2}})).sources["code"]["buckets"]
    assert counted["documents"][4] == 2 and counted["names"][4] == "no quality"
    with pytest.raises(CorpusError, match="no column worth; there are quality"):
        planned(scored(sources={"code": {**BUCKETED["code"], "by": "worth"}}))


def test_quantiles_part_tokens_and_keep_equal_scores_together(scored):
    recipe = scored(sources={"code": {"by": "quality", "quantiles": [0.5, 0.9], "epochs": [1, 2, 4]}})
    manifest = read_manifests(recipe)["code"]
    buckets = documents_in_buckets(manifest, recipe.sources["code"], "")
    lengths = np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents])
    shares = np.bincount(buckets, weights=lengths) / lengths.sum()
    assert np.abs(shares - [0.5, 0.4, 0.1]).max() < lengths.max() / lengths.sum()
    write_scores(manifest, {"quality": np.full(manifest.num_documents, 0.5)}, {"quality": {"by": "hand"}})
    same = documents_in_buckets(CorpusManifest.read(manifest.prefix), Source(by="quality", quantiles=(0.5,), epochs=(1, 2)), "")
    assert len(set(same.tolist())) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epochs": [1, 2]}, "sources.code.epochs: found 2 numbers, 3 borders part 4 buckets"),
        ({"buckets": [0.5, 0.5, 0.7]}, "sources.code.buckets: found 0.5, 0.5, 0.7; each must be above the one before"),
        ({"buckets": []}, "sources.code: needs the borders of its buckets: either buckets (scores) or quantiles"),
        ({"epochs": [0, 0, -1, 2]}, "sources.code.epochs: found 0, 0, -1, 2; must be 0 or more"),
        ({"buckets": [], "quantiles": [0.5, 1.5, 2]}, "sources.code.quantiles: found 0.5, 1.5, 2; must lie between 0 and 1"),
    ],
)
def test_faults_of_the_block_are_named(scored, changed, said):
    with pytest.raises(RecipeError) as raised:
        scored(sources={"code": {**BUCKETED["code"], **changed}})
    assert said in str(raised.value)
    with pytest.raises(RecipeError, match=r"sources\.cod: no such corpus; corpora are code, text"):
        scored(sources={"cod": BUCKETED["code"]})


def test_an_order_of_2_to_the_40_sequences_is_located_exactly():
    counts = [2**38, 2**39, 3 * 2**38]
    of_source = Round(counts, [2**37, 2**37, 2**36])
    order = Mixture(1, ["a", "b"], [2**38, 10], [[sum(counts), 5]], rounds={0: of_source})
    at = np.array([0, 1, 2**39, len(order) - 1])
    assert (order.locate(at).sequence[order.locate(at).source == 0] < sum([2**37, 2**37, 2**36])).all()
    assert order.bucket_sequences(order.consumed(len(order)))["a"].tolist() == counts


def test_plan_prints_buckets(scored, tmp_path, capsys):
    scored()
    assert main(["plan", str(tmp_path / "recipe.yaml")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "quality from" in printed and "of it drawn" in printed


def test_packed_reader_of_one_bucket_is_that_of_a_corpus_of_its_documents():
    lengths = np.array([5, 30, 7, 12, 3])
    chosen = np.array([True, False, True, True, False])
    alone, part = pack_documents(lengths[chosen], np.ones(3, bool), 10), pack_documents(lengths, chosen, 10)
    assert part.length.tolist() == alone.length.tolist() and part.first.tolist() == alone.first.tolist()
