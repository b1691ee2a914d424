"""Which sequences Megatron-LM's own pretrain_gpt.py gets from our dataset provider, in a process of its own.

    python tests/megatron_lm_reads.py FOLDER RECIPE OUT CONSUMED OVERRIDE ... < script

FOLDER is a copy of Megatron-LM, `script` what `codemix plan --megatron-args` prints. Its parsing, its data loader from CONSUMED samples on, and
pretrain_gpt.get_batch run as they are; what they ask of a GPU is answered by the CPU. OUT.npy gets the rows, [samples, length + 1].
"""

import sys

import numpy as np
import torch
from megatron_lm_run import arguments_of, validated_there

ASKED = [
    "--eval-iters", "0", "--eval-interval", "1000", "--dataloader-type", "single", "--num-workers", "0", "--transformer-impl", "local",
    "--no-rope-fusion", "--no-persist-layer-norm", "--no-gradient-accumulation-fusion", "--no-masked-softmax-fusion", "--no-bias-dropout-fusion",
    "--no-bias-swiglu-fusion",
]  # fmt: skip


def on_cpu() -> None:
    """Have what says cuda mean the CPU."""
    real = {name: getattr(torch, name) for name in ("tensor", "empty", "zeros")}
    for name, make in real.items():
        setattr(
            torch, name, lambda *words, make=make, **named: make(*words, **{**named, **({"device": "cpu"} if "device" in named else {})})
        )
    torch.Tensor.cuda = lambda tensor, *words, **named: tensor
    torch.cuda.current_device = lambda: "cpu"


def main(folder: str, recipe: str, out: str, consumed: str, *overrides: str) -> None:
    """Read all samples that are left."""
    from codemix_megatron.train.dataset import megatron_provider

    words, ranks = arguments_of(sys.stdin.read())
    args, _ = validated_there(folder, [*words, *ASKED], ranks)
    from megatron.core import parallel_state
    from megatron.core.num_microbatches_calculator import init_num_microbatches_calculator
    from megatron.training import global_vars
    from megatron.training.training import build_train_valid_test_data_iterators

    on_cpu()
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    global_vars.set_args(args)
    init_num_microbatches_calculator(0, None, args.global_batch_size, args.micro_batch_size, 1)
    args.iteration, args.consumed_train_samples = int(consumed) // args.global_batch_size, int(consumed)
    args.train_iters = args.train_samples // args.global_batch_size
    args.perform_rl_step = False  # some versions ask whether it is there
    args.do_train = args.do_valid = args.do_test = False
    import pretrain_gpt

    iterator, _, _ = build_train_valid_test_data_iterators(megatron_provider(recipe, overrides))
    rows = []
    for _ in range((args.train_samples - int(consumed)) // args.micro_batch_size):
        tokens, labels, loss_mask, *_ = pretrain_gpt.get_batch(iterator)
        assert bool(loss_mask.all())
        rows.append(torch.cat([tokens, labels[:, -1:]], dim=1).numpy())
        assert np.array_equal(rows[-1][:, 1:], labels.numpy())
    np.save(out, np.concatenate(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
