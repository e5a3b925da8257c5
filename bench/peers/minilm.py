"""Fine-tuning of MiniLM on pairs of texts, as hostgpu.TextTrainer does it.

Usage: minilm.py FOLDER PAIRS TOKENS [DEVICE]
"""

import sys

import peer
import torch
import torch.nn.functional as F
from transformers import BertModel


def main():
    folder, pairs, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    # Dropout where ours has it: after the embeddings and after both halves of a
    # block, not on the attention's shares.
    model = BertModel.from_pretrained(
        folder,
        add_pooling_layer=False,
        dtype=torch.float32,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.0,
    ).to(device)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (2 * pairs, tokens), generator=generator).to(device)
    mask = torch.ones_like(ids)
    target = torch.arange(pairs, device=device)

    def loss():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).float()
        mean = (states * weight).sum(1) / weight.sum(1)
        v = F.normalize(mean, dim=-1)
        return F.cross_entropy(v[:pairs] @ v[pairs:].T / 0.05, target)

    peer.serve(model, 1e-5, loss)


main()
