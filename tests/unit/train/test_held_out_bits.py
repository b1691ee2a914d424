"""Held-out bits per byte: nats of all text over bytes of all text, or nothing."""

import math
from types import SimpleNamespace

import pytest

from codemix_megatron.records.events import ValidationEvent
from codemix_megatron.train.console import validation_line
from codemix_megatron.train.held_out_bits import held_out_bits


def test_a_corpus_of_which_answers_alone_are_learned_has_no_bits_per_byte():
    """Its loss is that of answers; over the bytes of prompts and answers together it would look far too good."""
    manifests = {
        "text": SimpleNamespace(held_out_tokens=300, held_out_bytes=1000, loss_mask_sha256=""),
        "chat": SimpleNamespace(held_out_tokens=300, held_out_bytes=1000, loss_mask_sha256="ab"),
    }
    losses = {"text": 2.0, "chat": 2.0}
    bits = held_out_bits(losses, manifests)
    assert bits == {"text": pytest.approx(2.0 / math.log(2) * 0.3)}
    event = ValidationEvent(step=1, phase="all", tokens=10, loss_per_source=losses, bits_per_byte=bits)
    assert validation_line(event) == "held out, bits per byte: text 0.866; nats per learned token: chat 2.000"
    assert validation_line(ValidationEvent(step=1, phase="all", tokens=10, loss_per_source={}, bits_per_byte={})) is None
