"""Each fault of a recipe in its whole line, alone, and what lies just on the allowed side of it without one."""

import copy

import pytest
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe import evaluation_checks
from codemix_megatron.recipe.layout_checks import ranks_fault, share_faults
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import Parallel
from codemix_megatron.recipe.yaml_text import apply_overrides, parse_yaml


def faults_of(*overrides: str) -> list[str]:
    """Return the faults of the tiny recipe with overrides."""
    try:
        build_recipe(apply_overrides(copy.deepcopy(RECIPE), overrides), directory="/nowhere")
    except RecipeError as error:
        return error.faults
    return []


LONG = "{kind: longrope, factor: 4, original_sequence_length: 32, short_factors: [1, 1, 1, 1, 1, 1, 1, 1], long_factors: [1, 1, 1, 1, 1, 1, 1, 1]}"
MIDDLE = "corpora.snippets.fill_in_the_middle"
REFUSED = {
    "model.num_experts=4": ["model.experts_per_token: missing; say how many of the experts each token goes through"],
    "model.experts_per_token=2": ["model.experts_per_token: there are no experts; set num_experts or leave it out"],
    "model.normalize_experts=true": ["model.normalize_experts: there are no experts; set num_experts or leave it out"],
    "model.num_experts=4 model.experts_per_token=5": ["model.experts_per_token: 5, there are 4 experts (model.num_experts)"],
    "model.num_experts=4 model.experts_per_token=1 model.normalize_experts=true": [
        "model.normalize_experts: the weight of one expert would always be 1, and the router learn nothing; set it to false"
    ],
    "model.num_experts=4 model.experts_per_token=2 model.expert_balance=-0.1": ["model.expert_balance: found -0.1, must be at least 0"],
    "model.num_experts=4 model.experts_per_token=2 model.fp8=delayed model.precision=bf16": [
        "model.fp8: not there with num_experts; set one of the two back"
    ],
    "model.num_experts=4 model.experts_per_token=2 model.precision=bf16 parallel.context=2": [
        "parallel.context: not there with model.num_experts; set it to 1"
    ],
    "parallel.context=2 model.sequence_length=66 model.precision=bf16": [
        "parallel.context: 2 x 2 does not divide model.sequence_length 66"
    ],
    "model.fp8=delayed model.precision=bf16 parallel.tensor=2 model.ffn_hidden_size=144": [
        "model.fp8: ffn_hidden_size 144 is not a multiple of 16 x parallel.tensor 2"
    ],
    "parallel.tensor=3 model.num_attention_heads=6 model.num_query_groups=6 model.hidden_size=96 model.ffn_hidden_size=128 parallel.sequence_parallel=false": [
        "parallel.tensor: 3 does not divide model.ffn_hidden_size 128; [1, 2, 4, 8, 16, 32] would",
        "parallel.tensor: 3 does not divide model.vocab_padding_multiple 128; [1, 2, 4, 8, 16, 32] would",
    ],
    "model.rope_scaling={kind: yarn, factor: 0, original_sequence_length: 32}": ["model.rope_scaling.factor: found 0.0, must be above 0"],
    "model.rope_scaling={kind: yarn, factor: 2}": ["model.rope_scaling.original_sequence_length: missing; kind yarn needs it"],
    "model.rope_scaling={kind: yarn, factor: 2, original_sequence_length: 32, slow_rotations: 4, fast_rotations: 4}": [
        "model.rope_scaling.fast_rotations: 4.0 is not above slow_rotations 4.0"
    ],
    "name=a/b": ["name: the name 'a/b' has to begin with a letter or digit; after it letters, digits, '.', '_', '+' and '-' are allowed"],
    "optimizer.algorithm=muon": [
        "optimizer.algorithm: muon is not there: megatron-core 0.16.1 makes its Muon of the package emerging_optimizers, which this package does not"
        " install and never ran; use adamw"
    ],
    "phases.0.mixture={prose: {share: 0.5, mixture: {a: x}}, snippets: 0.5}": [
        "phases[0].mixture.prose.mixture.a: found 'x', needs a number"
    ],
    "phases.0.mixture={prose: {share: x, mixture: {prose: 1}}, snippets: 0.5}": [
        "phases[0].mixture.prose.share: found 'x', needs a number"
    ],
    "phases.0.mixture={prose: {tokens: 3K}, snippets: {tokens: 1K}}": [
        "phases[0].mixture: shares add up to 0.651042, not 1 (prose 0.4883, snippets 0.1628)"
    ],
    "phases.0.mixture={prose: {tokens: no}, snippets: {tokens: 6K}}": [
        "phases[0].mixture.prose.tokens: False is not a count; write 40000, 40_000, 1.5M or 200B"
    ],
    "model.num_experts=4 model.experts_per_token=2 model.linear_bias=true": [
        "model.linear_bias: not there with num_experts; set one of the two back"
    ],
    "model.num_experts=4 model.experts_per_token=2 model.norm_position=after": [
        "model.norm_position: not there with num_experts; set one of the two back"
    ],
    "model.num_experts=4 model.experts_per_token=2 optimizer.transfer=mup optimizer.base_width=64": [
        "optimizer.transfer: mup has no rule for a router; set it to none"
    ],
    "model.hidden_size=60": ["model.hidden_size: heads of 15 are odd, rotary positions need an even size"],
    "model.head_dim=15": ["model.head_dim: heads of 15 are odd, rotary positions need an even size"],
    "model.num_layers=0": ["model.num_layers: found 0, must be at least 1"],
    "model.dropout=-0.1": ["model.dropout: found -0.1, must be at least 0 and below 1"],
    "model.qk_norm_width=all": ["model.qk_norm_width: all, but there is no qk_norm; set qk_norm: true or leave it out"],
    "model.block=parallel model.qkv_bias=true": ["model.qkv_bias: not there in a parallel block; set one of the two back"],
    "model.rope_scaling={kind: llama3, factor: 2, low_frequency_factor: 4, high_frequency_factor: 4, original_sequence_length: 32}": [
        "model.rope_scaling.high_frequency_factor: 4.0 is not above low_frequency_factor"
    ],
    "optimizer.weight_decay=-0.1": ["optimizer.weight_decay: found -0.1, must be at least 0"],
    "optimizer.gradient_clip=-1": ["optimizer.gradient_clip: found -1.0, must be at least 0"],
    "optimizer.z_loss=-1": ["optimizer.z_loss: found -1.0, must be at least 0"],
    "optimizer.average_decay=1": ["optimizer.average_decay: found 1.0, must be at least 0 and below 1; 0.999 is usual"],
    "optimizer.betas=[-0.1, 0.9]": ["optimizer.betas[0]: found -0.1, must be at least 0 and below 1"],
    "optimizer.base_width=64": ["optimizer.base_width: belongs to transfer: mup; set that, or leave it out"],
    "optimizer.transfer=mup": ["optimizer.base_width: missing; transfer: mup needs the hidden_size of the model whose rates these are"],
    "optimizer.transfer=mup optimizer.base_width=0": ["optimizer.base_width: found 0, must be at least 1"],
    "phases.1.data_seed=-1": ["phases[1].data_seed: found -1, allowed are 0 to 4611686018427387903"],
    "branch={run: trunk, step: 0}": ["branch.step: found 0, must be at least 1"],
    "branch={run: trunk} initial_weights=trunk": [
        "branch: initial_weights is given too; a branch carries weights, Adam's state and data order, so remove one of them"
    ],
    "corpora.prose.max_epochs=0": ["corpora.prose.max_epochs: found 0.0, must be above 0"],
    "corpora.prose.repositories.longest_bytes=0": ["corpora.prose.repositories.longest_bytes: found 0, must be at least 1"],
    "sequences.corpus_share=0": ["sequences.corpus_share: found 0.0, allowed are above 0 to 1"],
    "sequences.corpus_share=1.01": ["sequences.corpus_share: found 1.01, allowed are above 0 to 1"],
    "tokenizer.train_vocab_size=259": ["tokenizer.train_vocab_size: found 259, allowed are 260 to 1000000"],
    "tokenizer.train_vocab_size=1000001": ["tokenizer.train_vocab_size: found 1000001, allowed are 260 to 1000000"],
    f"{MIDDLE}={{rate: 1.1, sentinels: [a, b, c]}}": [f"{MIDDLE}.rate: found 1.1, allowed are 0 to 1"],
    f"{MIDDLE}={{rate: 0.5, spm_share: -0.1, sentinels: [a, b, c]}}": [f"{MIDDLE}.spm_share: found -0.1, allowed are 0 to 1"],
    f"{MIDDLE}={{rate: 0.5, languages: {{rust: 2}}, sentinels: [a, b, c]}}": [f"{MIDDLE}.languages.rust: found 2.0, allowed are 0 to 1"],
    f"{MIDDLE}={{rate: 0.5, sentinels: [a, b, a]}}": [
        f"{MIDDLE}.sentinels: found a, b, a; needs three names: before prefix, middle, suffix"
    ],
    "evaluation.held_out_share=0.5": ["evaluation.held_out_share: found 0.5, allowed are 0 to 0.5"],
    "evaluation.items=0": ["evaluation.items: found 0, must be at least 1"],
    "checkpoint.keep_last=0": ["checkpoint.keep_last: found 0, must be at least 1"],
    "faults.spike_window=0": ["faults.spike_window: found 0, must be at least 1"],
    "faults.max_rollbacks=-1": ["faults.max_rollbacks: found -1, must be at least 0"],
    "faults.skip_bad_batches=-1": ["faults.skip_bad_batches: found -1, must be at least 0"],
    "faults.spike_nats=-0.5": ["faults.spike_nats: found -0.5, must be at least 0"],
    "observers.console_every_steps=0": ["observers.console_every_steps: found 0, must be at least 1"],
    "observers.straggler_every_steps=-1": ["observers.straggler_every_steps: found -1, must be at least 0, which is never"],
    "observers.gradient_norms_every_steps=-1": ["observers.gradient_norms_every_steps: found -1, must be at least 0, which is never"],
    "observers.straggler_factor=1": ["observers.straggler_factor: found 1.0, must be above 1, which is as fast as the others"],
    "evaluation.tasks=[mine]": ["evaluation.tasks_directory: missing; it is the folder that holds the files of evaluation.tasks"],
    "evaluation.while_training={suites: [bits_per_byte], at_steps: [3, 0]}": [
        "evaluation.while_training.at_steps[1]: found 0, must be at least 1"
    ],
    "parallel.tensor=0": ["parallel.tensor: found 0, must be at least 1"],
    "parallel.pipeline=2 parallel.virtual_pipeline=3": [
        "parallel.pipeline: pipeline x virtual_pipeline = 6 does not divide model.num_layers 4"
    ],
    "parallel.overlap=true parallel.distributed_optimizer=false": ["parallel.overlap: needs distributed_optimizer: true"],
    "parallel.context=2 model.precision=bf16 sequences.attention_within_documents=true": [
        "parallel.context: sequences.attention_within_documents is not there with it; set one of them back"
    ],
    "parallel.tensor=4 parallel.sequence_parallel=true model.num_query_groups=4 model.sequence_length=62": [
        "parallel.sequence_parallel: tensor 4 does not divide model.sequence_length 62"
    ],
    "model.fp8=delayed model.precision=bf16 model.head_dim=6": [
        "model.fp8: head size x query groups 12 is not a multiple of 16 x parallel.tensor 1"
    ],
    "model.fp8=delayed model.precision=bf16 batch.micro_sequences=1 model.sequence_length=60": [
        "model.fp8: 60 tokens of a micro batch are not a multiple of 8 on each of 1 ranks"
    ],
    "batch.global_sequences=4 parallel.data=4": ["batch.global_sequences: 4 is not a multiple of micro_sequences 2 x data parallel 4 = 8"],
    "parallel.pipeline=2 parallel.virtual_pipeline=2 batch.global_sequences=6": [
        "batch.global_sequences: 3 micro batches are not a multiple of pipeline 2, as virtual_pipeline needs"
    ],
    "phases.0.learning_rate.final=-1": ["phases[0].learning_rate.final: found -1.0, must be at least 0"],
    "phases.0.learning_rate.start=-1": ["phases[0].learning_rate.start: found -1.0, must be at least 0"],
    "phases.0.learning_rate.decay_share=0": ["phases[0].learning_rate.decay_share: found 0.0, must be above 0 and at most 1"],
    "phases.0.learning_rate.decay_share=1.1": ["phases[0].learning_rate.decay_share: found 1.1, must be above 0 and at most 1"],
    "phases.0.sequence_length=48": [
        "phases[0].sequence_length: found 48, which does not divide model.sequence_length 64; [32, 16, 8, 4] would"
    ],
    "phases.0.sequence_length=128": [
        "phases[0].sequence_length: found 128, which does not divide model.sequence_length 64; [32, 16, 8, 4] would;"
        " model.sequence_length is that of the longest sequences, of any phase or branch"
    ],
    "phases.0.sequence_length=32 sequences.packing=best_fit": [
        "phases[0].sequence_length: 32 would cut the documents that packing best_fit keeps whole; set one of them back"
    ],
    "phases.0.sequence_length=2 parallel.tensor=2 parallel.context=2 model.precision=bf16": [
        "phases[0].sequence_length: found 2, not a multiple of 2 x parallel.context 2"
    ],
    "phases.0.sequence_length=1 parallel.tensor=2 parallel.sequence_parallel=true": [
        "phases[0].sequence_length: found 1, which sequence_parallel cannot split over 2 tensor ranks"
    ],
    "phases.0.mixture={proportional: tokens, corpora: []}": ["phases[0].mixture.corpora: empty; list the corpora to share among"],
    "phases.0.mixture={proportional: tokens, corpora: [prose, prose]}": ["phases[0].mixture.corpora: 'prose' is listed twice"],
    "phases.0.mixture={proportional: tokens, corpora: [prose, prosa]}": [
        "phases[0].mixture.corpora[1]: no such corpus 'prosa'; corpora are prose, snippets"
    ],
    "phases.0.mixture={proportional: tokens, corpora: [prose], temperature: 0}": [
        "phases[0].mixture.temperature: found 0.0, must be above 0"
    ],
    "phases.0.mixture={proportional: bytes, corpora: [prose]}": ["phases[0].mixture.proportional: found 'bytes', allowed is tokens"],
    "phases.0.mixture={proportional: tokens, corpora: [prose], temprature: 2}": [
        "phases[0].mixture.temprature: no such key; did you mean temperature?"
    ],
    "phases.0.mixture={prose: {share: 1}}": [
        "phases[0].mixture.prose: found the keys share; allowed are a share, {tokens}, {share, mixture} or {tokens, mixture}"
    ],
    "phases.0.mixture={prose: {}}": [
        "phases[0].mixture.prose: found the keys none; allowed are a share, {tokens}, {share, mixture} or {tokens, mixture}"
    ],
    "phases.0.mixture={prose: {tokens: -1}}": [
        "phases[0].mixture.prose.tokens: -1 is not a positive count; write 40000, 40_000, 1.5M or 200B"
    ],
    "phases.0.mixture={prose: 0.666667, snippets: 0.333}": [
        "phases[0].mixture: shares add up to 0.999667, not 1 (prose 0.6667, snippets 0.333)"
    ],
    "phases.0.mixture=[prose]": ["phases[0].mixture: found a list of 1, needs a mapping corpus -> share"],
    "phases=[]": ["phases: found a list of 0, needs a list of at least one phase"],
    "corpora={}": ["corpora: found an empty mapping, needs a mapping of corpus names"],
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 0.9}}": ["phases[0].mixture.to: shares add up to 0.9, not 1 (snippets 0.90)"],
    "phases.0.mixture={from: {prose: 0.9}, to: {snippets: 1}}": ["phases[0].mixture.from: shares add up to 0.9, not 1 (prose 0.90)"],
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}, stages: 1}": [
        "phases[0].mixture.stages: found 1, must be at least 2; leave it out for shares that move linearly"
    ],
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}, stages: x}": ["phases[0].mixture.stages: found 'x', needs a whole number"],
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}, stage: 2}": ["phases[0].mixture.stage: no such key; did you mean stages?"],
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}, form: 2}": ["phases[0].mixture.form: no such key; did you mean from?"],
    "phases.0.mixture={from: {prose: x}, to: {snippets: 1}}": ["phases[0].mixture.from.prose: found 'x', needs a number"],
    f"model.no_rope_interval=2 model.rope_scaling={LONG}": [
        "model.no_rope_interval: longrope changes attention in every layer; leave one of the two out"
    ],
    "corpora.prose.documents=[https://me:correcthorse9@example.org/x.jsonl]": [
        "corpora.prose.documents[0]: https://***@example.org/x.jsonl holds a secret (shown as ***), which would be published with the run;"
        " put it into a variable of the environment and write ${NAME} in its place"
    ],
    "parallel.context=2": ["parallel.context: needs model.precision bf16, found fp32; Transformer Engine has no kernel for it there"],
    "seed=4611686018427387904": ["seed: found 4611686018427387904, allowed are 0 to 4611686018427387903"],
    "evaluation.trust=[program]": ["evaluation.trust[0]: no line 'program'; there are programs, task-code"],
    "model.num_experts=4 model.experts_per_token=2 model.block=parallel": [
        "model.block: not there with num_experts; set one of the two back"
    ],
    "model.num_experts=4 model.experts_per_token=2 model.activation=geglu": [
        "model.activation: not there with num_experts; set one of the two back"
    ],
    "model.fp8=delayed model.precision=bf16 model.ffn_hidden_size=120": [
        "model.fp8: ffn_hidden_size 120 is not a multiple of 16 x parallel.tensor 1"
    ],
    "parallel.tensor=2 model.ffn_hidden_size=127": ["parallel.tensor: 2 does not divide model.ffn_hidden_size 127; [1, 127] would"],
    "parallel.tensor=2 model.vocab_padding_multiple=3": ["parallel.tensor: 2 does not divide model.vocab_padding_multiple 3; [1, 3] would"],
    "parallel.tensor=4": ["parallel.tensor: 4 does not divide model.num_query_groups 2; [1, 2] would"],
    "model.sequence_length=1 phases.0.sequence_length=2": [
        "phases[0].sequence_length: found 2, which does not divide model.sequence_length 1; [] would;"
        " model.sequence_length is that of the longest sequences, of any phase or branch"
    ],
    "phases.0.mixture={proportional: tokens, corpora: [prose], proportionel: 2}": [
        "phases[0].mixture.proportionel: no such key; did you mean proportional?"
    ],
    "phases.0.mixture={proportional: tokens, corpora: [prose], temperature: hot}": [
        "phases[0].mixture.temperature: found 'hot', needs a number"
    ],
    f"{MIDDLE}={{rate: 0.5, languages: {{rust: fast}}, sentinels: [a, b, c]}}": [f"{MIDDLE}.languages.rust: found 'fast', needs a number"],
    f"{MIDDLE}={{rate: 0.5, languages: [rust], sentinels: [a, b, c]}}": [
        f"{MIDDLE}.languages: found a list of 1, needs a mapping such as {{python: 0.5}}"
    ],
    "corpora.prose.documents=7": ["corpora.prose.documents: found 7, needs a list"],
    "corpora.wi/ki={documents: [x.jsonl]}": [
        "corpora.wi/ki: the name 'wi/ki' has to begin with a letter or digit; after it letters, digits, '.', '_', '+' and '-' are allowed"
    ],
    "sources=[prose]": ["sources: found a list of 1, needs a mapping such as {code: {by: quality, buckets: [0.5], epochs: [0, 2]}}"],
}
ALLOWED = [
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}, stages: 2}",
    "phases.0.mixture={from: {prose: 1}, to: {snippets: 1}}",
    f"model.rope_scaling={LONG}",
    f"model.rope_scaling={LONG.replace('factor: 4', 'factor: 1.984375')}",  # 63.5 tokens, rounded as transformers does
    "seed=4611686018427387903",
    "model.num_experts=4 model.experts_per_token=4 model.expert_balance=0",
    "model.num_experts=4 model.experts_per_token=2 model.normalize_experts=true parallel.tensor=2 parallel.sequence_parallel=true",
    "model.dropout=0",
    "optimizer.weight_decay=0 optimizer.gradient_clip=0 optimizer.z_loss=0 optimizer.average_decay=0",
    "optimizer.betas=[0, 0]",
    "optimizer.transfer=mup optimizer.base_width=1",
    "seed=0 phases.0.data_seed=4611686018427387903",
    "branch={run: trunk, step: 1}",
    "corpora.prose.repositories.longest_bytes=1 corpora.prose.max_epochs=0.1",
    "sequences.corpus_share=1",
    "tokenizer.train_vocab_size=260",
    "tokenizer.train_vocab_size=1000000",
    f"{MIDDLE}={{rate: 0, spm_share: 1, sentinels: [a, b, c]}}",
    "evaluation.held_out_share=0 evaluation.items=1",
    "faults.skip_bad_batches=0 faults.max_rollbacks=0 faults.spike_nats=0",
    "observers.straggler_every_steps=0 observers.gradient_norms_every_steps=0 observers.straggler_factor=1.01",
    "parallel.context=2 model.precision=bf16",
    "parallel.pipeline=2 parallel.virtual_pipeline=2",
    "phases.0.learning_rate.final=0 phases.0.learning_rate.start=0 phases.0.learning_rate.decay_share=1",
    "phases.0.learning_rate.warmup_tokens=6144 phases.0.tokens=6144",
    "phases.0.sequence_length=64 sequences.packing=best_fit",
    "phases.0.sequence_length=32 parallel.context=2 model.precision=bf16",
    "phases.0.mixture={prose: 0.6666666, snippets: 0.3333333}",
    "phases.0.mixture={prose: 1, snippets: 0}",
    "phases.0.mixture={proportional: tokens, corpora: [prose, snippets], temperature: 0.1}",
]


@pytest.mark.parametrize("changes", REFUSED)
def test_fault_is_said_alone_and_in_full(changes):
    assert faults_of(*split(changes)) == REFUSED[changes]


@pytest.mark.parametrize("changes", ALLOWED)
def test_last_value_that_is_allowed_is_no_fault(changes):
    assert faults_of(*split(changes)) == []


def split(changes: str) -> list[str]:
    """Return overrides that stand in one line; their values may hold spaces within brackets."""
    parts: list[str] = []
    for word in changes.split(" "):
        if parts and sum(map(parts[-1].count, "[{")) > sum(map(parts[-1].count, "]}")):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts


def test_sizes_of_a_growing_batch_are_each_held_against_the_ranks():
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), ["batch.global_sequences=[[0, 8], [2K, 12]]"]), directory="/nowhere")
    assert share_faults(recipe, 2) == []
    assert share_faults(recipe, 4) == ["batch.global_sequences: 12 is not a multiple of micro_sequences 2 x data parallel 4 = 8"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "while parsing|expected"),
        ("[1]", "^here: holds a list of 1, not a mapping of keys$"),
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("? [1, 2]\n: 3", r"key \(1, 2\) is not a name|key \[1, 2\] is not a name"),
        ("a: 010", "line 1, column 4: 010: YAML would read another number; write it without a colon and leading zeros"),
        ("a: 1:30", "line 1, column 4: 1:30: YAML would read another number; write it without a colon and leading zeros"),
    ],
)
def test_text_that_is_no_mapping_says_where(text, said):
    with pytest.raises(RecipeError, match=said):
        parse_yaml(text, where="here")


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("phases.2.name=x", "override 'phases.2.name=x': '2' is not an index; there are 2 entries, from 0"),
        ("phases.one.name=x", "override 'phases.one.name=x': 'one' is not an index; there are 2 entries, from 0"),
        ("seed.more=1", "override 'seed.more=1': 'more' cannot be set inside 7"),
        ("seed", "override 'seed' is not of the form key.key=value"),
        ("=7", "override '=7' is not of the form key.key=value"),
    ],
)
def test_override_that_fits_nowhere_is_said_with_what_is_there(override, fault):
    assert faults_of(override) == [fault]


@pytest.mark.parametrize(
    ("parallel", "ranks", "fault"),
    [
        (Parallel(context=2), 3, "3 ranks do not divide into copies of 2 (tensor 1 x pipeline 1 x context 2); use a multiple of 2"),
        (Parallel(tensor=2, pipeline=2), 6, "6 ranks do not divide into copies of 4 (tensor 2 x pipeline 2); use a multiple of 4"),
        (
            Parallel(data=2),
            3,
            "3 ranks asked for, the recipe spreads the model over 2 (tensor 1 x pipeline 1 x data 2); use 2 ranks or change parallel.data",
        ),
        (Parallel(tensor=2, data=2), 4, None),
        (Parallel(tensor=2), 4, None),
    ],
)
def test_ranks_that_do_not_form_the_layout_are_counted_out(parallel, ranks, fault):
    assert ranks_fault(parallel, ranks) == fault


def test_suite_of_a_plugin_is_one(monkeypatch):
    monkeypatch.setattr(evaluation_checks, "find_plugin", lambda group, name: True if (group, name) == ("suites", "mine") else None)
    assert faults_of("evaluation.suites=[mine, own.yaml, own.yml, paper]") == []
    (fault,) = faults_of("evaluation.suites=[mine, other]")
    assert fault.startswith("evaluation.suites[1]: no suite 'other'; built in are bits_per_byte,")


def test_count_that_is_too_large_is_said_without_all_its_digits():
    with pytest.raises(ValueError) as caught:
        parse_tokens("1" * 50)
    assert str(caught.value) == f"{'1' * 40!r} is more than 1e+18 tokens, the most that is counted"
    assert parse_tokens("40_000") == 40_000 and parse_tokens("1e18") == 10**18
