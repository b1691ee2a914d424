"""Contexts read once, batches by length, generation in shrinking batches: all as if each text went through alone."""

import pytest
import torch

from codemix_megatron.errors import EvaluationError
from codemix_megatron.inference.generation import Sampling, cut_at_stop, generate
from codemix_megatron.inference.queries import Query, group_queries, log_likelihoods

PAIRS = [
    ((5, 6, 7, 8, 9, 10), (11, 12)), ((5, 6, 7, 8, 9, 10), (13,)), ((5, 6, 7, 8, 9, 10), (14, 15, 16)), ((20, 21), (22,)), ((20, 21), (23,)),
    ((30,), tuple(range(40, 70))), ((30,), tuple(range(50, 90))), ((5, 6, 7, 8, 9, 10), (11, 12)), (tuple(range(100, 160)), (9, 8, 7)),
]  # fmt: skip


def alone(exported, context, continuation):
    """Score one pair in a forward pass of its own, without mask, padding or branches."""
    ids = torch.tensor([(context + continuation)[-exported.max_length - 1 :]])
    with torch.no_grad():
        logits = exported.model(ids[:, :-1]).logits[0, -len(continuation) :].double()
    chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(continuation)[:, None])
    return float(chosen.sum()), bool((logits.argmax(-1) == torch.tensor(continuation)).all())


def test_shared_contexts_score_as_if_each_pair_went_alone(exported):
    told = []
    found = log_likelihoods(exported, PAIRS, told.append)
    for pair, value in zip(PAIRS, found, strict=True):
        nats, is_greedy = alone(exported, *pair)
        assert value.nats == pytest.approx(nats, abs=1e-4) and value.is_greedy == is_greedy
    assert sum(told) == len(PAIRS)


def test_contexts_are_grouped_but_long_continuations_stay_apart():
    queries, where = group_queries(PAIRS)
    assert Query((20, 21), ((22,), (23,))) in queries
    assert sum(query.context == (30,) for query in queries) == 2
    assert where[0] == where[7] and len(queries) == 5


def test_copies_of_a_model_share_the_work_and_agree(exported, monkeypatch):
    """Two copies in turn, each handing the other what it found."""
    from dataclasses import replace

    monkeypatch.setattr("codemix_megatron.inference.exported.LOGITS_BYTES", 1)  # one query per batch
    held = []
    for share in (0, 1):
        copy = replace(exported, share=share, shares=2)
        monkeypatch.setattr(type(copy), "gather", lambda self, values: held.append(values) or [values])
        with pytest.raises(KeyError):  # what the other copy was to score is not there
            log_likelihoods(copy, PAIRS)
    assert sorted([*held[0], *held[1]]) == [0, 1, 2, 3, 4] and not set(held[0]) & set(held[1])
    monkeypatch.setattr(type(exported), "gather", lambda self, values: held[:2])
    merged = log_likelihoods(replace(exported, share=0, shares=2), PAIRS)
    monkeypatch.undo()
    assert [v.nats for v in merged] == pytest.approx([v.nats for v in log_likelihoods(exported, PAIRS)], abs=1e-4)


def test_continuation_longer_than_the_model_is_refused(exported):
    with pytest.raises(EvaluationError, match="a continuation of 60 tokens does not fit into the 48"):
        log_likelihoods(exported, [((1,), tuple(range(60)))])


def greedy_alone(exported, prompt, steps):
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(exported.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == exported.end_id:
            ids.pop()
            break
    return exported.decode_without_end(ids)[len(exported.decode_without_end(prompt)) :]


def test_batched_greedy_generation_equals_one_at_a_time(exported):
    prompts = [exported.encode(text) for text in ("the word is", "return self value", "he was", "für süß")]
    texts = generate(exported, prompts, Sampling(max_tokens=12))
    assert texts == [greedy_alone(exported, prompt, 12) for prompt in prompts]


def test_generation_stops_at_the_first_stop_sequence_and_cuts_it_off(exported):
    prompts = [exported.encode(text) for text in ("the word is", "return self value", "he was")]
    whole = generate(exported, prompts, Sampling(max_tokens=20))
    stop = whole[0][3:5]
    cut = generate(exported, prompts, Sampling(max_tokens=20, stop=(stop,)))
    assert cut == [text.split(stop)[0] for text in whole] and len(cut[0]) <= 3


def test_samples_depend_on_the_seed_and_not_on_the_batch(exported, monkeypatch):
    prompts = [exported.encode("the word")] * 3
    sampling = Sampling(max_tokens=10, temperature=1.0, top_p=0.9, seed=5)
    together = generate(exported, prompts, sampling)
    assert len(set(together)) > 1 and together == generate(exported, prompts, sampling)
    monkeypatch.setattr("codemix_megatron.inference.exported.LOGITS_BYTES", 1)
    assert together == generate(exported, prompts, sampling)
    assert together != generate(exported, prompts, Sampling(max_tokens=10, temperature=1.0, top_p=0.9, seed=6))


def test_stop_sequence_may_wait_for_text():
    wait = Sampling(max_tokens=1, stop=("\ndef",), stop_after_text=True)
    assert cut_at_stop("\ndef f():\n    return 1\n\ndef g():", wait) == "\ndef f():\n    return 1\n"
    assert cut_at_stop("\ndef f()", Sampling(max_tokens=1, stop=("\ndef",))) == ""


def test_prompt_without_room_is_refused(exported):
    with pytest.raises(EvaluationError, match="60 new tokens leave no room for a prompt in the 48"):
        generate(exported, [[1]], Sampling(max_tokens=60))
