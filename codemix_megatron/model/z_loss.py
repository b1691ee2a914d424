"""z-loss beside the loss of a language model: the squared logarithm of softmax's denominator, which keeps logits from drifting."""

import torch
from megatron.core import parallel_state
from megatron.core.models.common.language_module.language_module import LanguageModule
from megatron.core.tensor_parallel import reduce_from_tensor_model_parallel_region

__all__ = ["WithZLoss", "label_logits"]


class WithZLoss(LanguageModule):
    """A language model of megatron-core whose loss may have z-loss beside it; stands before its class among the bases."""

    z_loss = 0.0

    def compute_language_model_loss(self, labels, logits):
        """Return losses [batch, length]; while training with z-loss, [batch, length, 2] with that second."""
        if not (self.z_loss and self.training):
            return super().compute_language_model_loss(labels, logits)
        wanted = label_logits(labels, logits)  # first: the loss is computed in the logits' place
        losses = super().compute_language_model_loss(labels, logits)
        return torch.stack([losses, self.z_loss * (losses + wanted) ** 2], dim=-1)


class Picked(torch.autograd.Function):
    """torch.gather along the last dimension, which keeps no logits: Megatron's cross entropy overwrites them."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return logits[..., ids]."""
        ctx.save_for_backward(ids)
        ctx.size = logits.size(-1)
        return logits.gather(-1, ids[..., None])[..., 0]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Return the gradient of the logits."""
        (ids,) = ctx.saved_tensors
        return gradient.new_zeros(*ids.shape, ctx.size).scatter_(-1, ids[..., None], gradient[..., None]), None


def label_logits(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the logit of each label, float32 [batch, length], of logits [length, batch, vocabulary / tensor ranks].

    A loss is log Z less this, so that the two make up log Z, the logarithm of softmax's denominator, without another pass over the logits.
    """
    own = logits.size(-1)
    ids = labels.transpose(0, 1) - parallel_state.get_tensor_model_parallel_rank() * own
    is_here = (ids >= 0) & (ids < own)
    found = Picked.apply(logits, ids.clamp(0, own - 1)).float() * is_here
    return reduce_from_tensor_model_parallel_region(found).transpose(0, 1)
