"""Training of the user tower over a full softmax, as hostgpu.Trainer does it.

Usage: tower.py ITEMS ROWS EVENTS DIM LAYERS TYPES GAPS
"""

import math
import sys

import peer
import torch
import torch.nn.functional as F
from torch import nn

DROPOUT = 0.4
SMOOTHING = 0.1


class Attention(nn.Module):
    """x + dropout(attend(norm(x))): causal, with a bias for each distance."""

    def __init__(self, dim, window):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.distance = nn.Parameter(torch.zeros(1, window))
        i = torch.arange(window)
        back = i[:, None] - i[None, :]
        self.register_buffer("back", back.clamp(min=0))
        self.register_buffer("hidden", back < 0)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x):
        y = self.norm(x)
        bias = self.distance[0][self.back].masked_fill(self.hidden, -math.inf)
        scores = torch.baddbmm(bias, self.q(y), self.k(y).transpose(1, 2), alpha=1 / math.sqrt(x.shape[-1]))
        return x + self.drop(self.o(scores.softmax(-1) @ self.v(y)))


class FeedForward(nn.Module):
    """x + dropout(down(relu(up(norm(x)))))."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x):
        return x + self.drop(self.down(F.relu(self.up(self.norm(x)))))


class Tower(nn.Module):
    def __init__(self, items, events, dim, layers, types, gaps):
        super().__init__()
        self.items, self.types, self.gaps = nn.Embedding(items, dim), nn.Embedding(types, dim), nn.Embedding(gaps, dim)
        for table in (self.items, self.types, self.gaps):
            nn.init.normal_(table.weight, std=0.02)
        blocks = []
        for _ in range(layers):
            blocks += [Attention(dim, events), FeedForward(dim)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(DROPOUT)
        self.scale = math.sqrt(dim)

    def forward(self, items, types, gaps):
        x = self.drop(self.scale * self.items(items) + self.types(types) + self.gaps(gaps))
        return self.norm(self.blocks(x)) @ self.items.weight.T


def main():
    items, rows, events, dim, layers, types, gaps = map(int, sys.argv[1:])
    model = Tower(items, events, dim, layers, types, gaps)
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        return torch.randint(n, (rows, events), generator=generator)

    inputs, targets = (draw(items), draw(types), draw(gaps)), draw(items).flatten()

    def loss():
        return F.cross_entropy(model(*inputs).flatten(0, 1), targets, label_smoothing=SMOOTHING)

    peer.serve(model, 0.002, loss)


main()
