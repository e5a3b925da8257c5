"""What the peers share: PyTorch on two threads, and steps run on demand."""

import os
import sys
import time

# PyPI's PyTorch is linked with CUDA libraries that a run on the CPU never calls.
# Bound lazily, it loads without their functions.
sys.setdlopenflags(os.RTLD_LAZY)

import torch

torch.set_num_threads(2)


def adamw(model, rate, decay=0.01):
    """AdamW as ours: only matrices decay. The fused one is PyTorch's fastest."""
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-8, fused=True)


def serve(model, rate, loss):
    """Prints PyTorch's version and the number of parameters. Then, for each
    number read, takes one step that does not count and as many that do, and
    prints the seconds that those took. loss() makes the loss of a batch."""
    model.train()
    params = list(model.parameters())
    optimizer = adamw(model, rate)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        return value.item()

    print(torch.__version__, sum(p.numel() for p in params), flush=True)
    for line in sys.stdin:
        step()
        start = time.perf_counter()
        for _ in range(int(line)):
            last = step()
        seconds = time.perf_counter() - start
        if last != last:
            sys.exit("the loss is not a number")
        print(seconds, flush=True)
