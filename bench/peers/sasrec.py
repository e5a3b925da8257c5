"""SASRec (Kang and McAuley 2018) with a full softmax over the catalogue.

Usage: sasrec.py VALID TEST ITEMS CHECKPOINT OPTIONS

VALID and TEST are sequential atomic files, a row for each user: the history of
validation is what is trained on. OPTIONS is a JSON object of hyper-parameters and of
the number of threads.

Prints PyTorch's version and the number of parameters, the finished epochs and
whether training has ended. Then takes orders, a line each: "epoch" trains one,
validates and prints the seconds, the loss, NDCG@10, the epoch and whether training has
ended; "test PATH" writes the rank of each test target under the weights with the
best validation, one a line, and prints that validation's NDCG@10 and epoch. What is
in CHECKPOINT is gone on with, and it is written after every epoch.
"""

import json
import math
import os
import sys
import time

import peer
import torch
import torch.nn.functional as F
from torch import nn

PAD = 0  # items count from 1 inside


def read(path, items):
    """Returns histories and targets. Items are numbered by the file."""
    cases = []
    with open(path, encoding="utf-8") as file:
        next(file)
        for line in file:
            _, history, target = line.rstrip("\n").split("\t")
            cases.append(([1 + int(i) for i in history.split()], 1 + int(target)))
    if max(max(max(h, default=0), t) for h, t in cases) > items:
        sys.exit(f"{path} names an item beyond {items}")
    return cases


def padded(histories, events):
    """Returns the latest events of each history, filled up on the left, (B, T)."""
    width = min(max(len(h) for h in histories), events)
    rows = torch.full((len(histories), width), PAD)
    for row, h in zip(rows, histories):
        h = h[-width:]
        row[width - len(h) :] = torch.tensor(h)
    return rows


class Attention(nn.Module):
    """x + dropout(attend(norm(x))): causal, over what is no padding."""

    def __init__(self, dim, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = dropout
        self.drop = nn.Dropout(dropout)

    def forward(self, x, mask):
        y = self.norm(x)
        z = F.scaled_dot_product_attention(
            self.q(y), self.k(y), self.v(y), attn_mask=mask, dropout_p=self.dropout if self.training else 0
        )
        return x + self.drop(self.o(z))


class FeedForward(nn.Module):
    """x + dropout(down(dropout(relu(up(norm(x))))))."""

    def __init__(self, dim, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.drop(self.down(self.drop(F.relu(self.up(self.norm(x))))))


class SASRec(nn.Module):
    def __init__(self, items, events, dim, layers, dropout):
        super().__init__()
        self.items, self.positions = nn.Embedding(1 + items, dim), nn.Embedding(events, dim)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.attention = nn.ModuleList(Attention(dim, dropout) for _ in range(layers))
        self.feed_forward = nn.ModuleList(FeedForward(dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)
        self.scale = math.sqrt(dim)

    def forward(self, rows):
        """Returns the state behind each event of rows, (B, T, D)."""
        width = rows.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        # Padding attends to itself, or its softmax would be over nothing.
        mask = (causal & (rows != PAD)[:, None, :]) | torch.eye(width, dtype=torch.bool)
        x = self.drop(self.scale * self.items(rows) + self.positions.weight[-width:])
        for attend, feed in zip(self.attention, self.feed_forward):
            x = feed(attend(x, mask))
        return self.norm(x)

    def scores(self, states):
        """Returns the score of every item, (..., N)."""
        return states @ self.items.weight[1:].T


def batches(sequences, size, generator):
    """Yields the indices of sequences in batches of some size targets, each of
    sequences of about the same length, so that little of a batch is padding."""
    order = torch.randperm(len(sequences), generator=generator).tolist()
    made = []
    for lo in range(0, len(order), 4096):
        batch, targets = [], 0
        for i in sorted(order[lo : lo + 4096], key=lambda i: len(sequences[i])):
            batch.append(i)
            targets += len(sequences[i]) - 1
            if targets >= size:
                made.append(batch)
                batch, targets = [], 0
        if batch:
            made.append(batch)
    for i in torch.randperm(len(made), generator=generator).tolist():
        yield made[i]


@torch.no_grad()
def ranks(model, cases, events):
    """Returns for each case how many items outside of the history score strictly
    higher than the target."""
    model.eval()
    out = torch.empty(len(cases), dtype=torch.long)
    order = sorted(range(len(cases)), key=lambda i: len(cases[i][0]))
    for lo in range(0, len(order), 256):
        part = order[lo : lo + 256]
        histories = [cases[i][0] for i in part]
        scores = model.scores(model(padded(histories, events))[:, -1])
        targets = torch.tensor([cases[i][1] - 1 for i in part])[:, None]
        wanted = scores.gather(1, targets)
        for row, history in zip(scores, histories):
            row[torch.tensor(history) - 1] = -math.inf
        scores.scatter_(1, targets, wanted)
        out[part] = (scores > wanted).sum(1)
    return out


def ndcg(rank):
    gain = 1 / torch.log2(rank.double() + 2)
    return gain.where(rank < 10, 0).mean().item()


class Training:
    def __init__(self, valid, items, checkpoint, options):
        self.valid, self.checkpoint, self.options = valid, checkpoint, options
        # What a user did before validation; one event has no next one.
        self.sequences = [h for h, _ in valid if len(h) > 1]
        torch.manual_seed(options["seed"])
        self.model = SASRec(items, options["window"], options["dim"], options["layers"], options["dropout"])
        self.optimizer = peer.adamw(self.model, options["learning_rate"], options["weight_decay"])
        self.epoch, self.step, self.best, self.best_epoch, self.best_model = 0, 0, 0.0, 0, None
        if os.path.exists(checkpoint):
            self.resume()

    def resume(self):
        kept = torch.load(self.checkpoint)
        if kept["options"] != self.options:
            sys.exit(f"{self.checkpoint} is of other options; remove it to train anew")
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.best_model = kept["best_model"]
        self.epoch, self.step, self.best, self.best_epoch = kept["run"]
        torch.set_rng_state(kept["chance"])

    def save(self):
        kept = {
            "options": self.options,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_model": self.best_model,
            "run": (self.epoch, self.step, self.best, self.best_epoch),
            "chance": torch.get_rng_state(),
        }
        torch.save(kept, self.checkpoint + ".new")
        os.replace(self.checkpoint + ".new", self.checkpoint)

    def ended(self):
        return self.epoch >= self.options["epochs"] or self.epoch - self.best_epoch >= self.options["patience"]

    def loss(self, batch):
        rows = padded(batch, self.options["window"] + 1)
        inputs, targets = rows[:, :-1], rows[:, 1:]
        known = inputs != PAD
        logits = self.model.scores(self.model(inputs)[known])
        return F.cross_entropy(logits, targets[known] - 1, label_smoothing=self.options["smoothing"])

    def train(self):
        """Trains an epoch and returns its mean loss."""
        self.model.train()
        params = list(self.model.parameters())
        generator = torch.Generator().manual_seed(self.options["seed"] * 1000 + self.epoch)
        losses = []
        for batch in batches(self.sequences, self.options["batch"], generator):
            self.step += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.options["learning_rate"] * min(1, self.step / self.options["warmup"])
            self.optimizer.zero_grad(set_to_none=True)
            value = self.loss([self.sequences[i] for i in batch])
            value.backward()
            torch.nn.utils.clip_grad_norm_(params, self.options["clip_norm"])
            self.optimizer.step()
            losses.append(value.item())
        self.epoch += 1
        return sum(losses) / len(losses)

    def run_epoch(self):
        start = time.perf_counter()
        loss = self.train()
        if loss != loss:
            sys.exit("the loss is not a number")
        reached = ndcg(ranks(self.model, self.valid, self.options["window"]))
        seconds = time.perf_counter() - start
        if reached > self.best or self.best_epoch == 0:
            self.best, self.best_epoch = reached, self.epoch
            self.best_model = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.save()
        return seconds, loss, reached, self.epoch, int(self.ended())


def main():
    valid, test, items, checkpoint, options = sys.argv[1:]
    items, options = int(items), json.loads(options)
    torch.set_num_threads(options.pop("threads"))
    run = Training(read(valid, items), items, checkpoint, options)
    print(torch.__version__, sum(p.numel() for p in run.model.parameters()), flush=True)
    print(run.epoch, int(run.ended()), flush=True)
    for line in sys.stdin:
        order, _, path = line.strip().partition(" ")
        if order == "epoch":
            print(*run.run_epoch(), flush=True)
        elif order == "test":
            run.model.load_state_dict(run.best_model)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(f"{r}\n" for r in ranks(run.model, read(test, items), options["window"]).tolist())
            print(run.best, run.best_epoch, flush=True)
        else:
            sys.exit(f"unknown order {order!r}")


main()
