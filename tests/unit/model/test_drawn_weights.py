"""Initial weights are a function of seed and name: however many threads draw them."""

import torch
from many_layouts import VOCABULARY, recipe_of

from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.ranks import one_rank


def test_weights_drawn_on_several_threads_are_those_of_one():
    found = []
    for threads in (1, 3):
        with one_rank(device="cpu"):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                (chunk,) = build_model(recipe_of({"qkv_bias": True}, {}, {}), VOCABULARY, torch.device("cpu"))
            finally:
                torch.set_num_threads(before)
            found.append(dict(chunk.named_parameters()))
    one, several = found
    assert one.keys() == several.keys()
    assert all(torch.equal(one[name], several[name]) for name in one)
