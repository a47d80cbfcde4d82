"""A stand-in for nanoGPT's model.py where that cannot be had: a GPT-2 of PyTorch's parts, written anew, with the names its script asks for.

Pre-norm blocks with a fused causal attention, GELU, no biases, tied output weights, all positions scored in training and the last alone in
generation, which reads everything anew for each token. AdamW decays matrices alone, and is not fused on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class GPTConfig:
    """As nanoGPT's."""

    block_size: int = 1024
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True


class Layer(nn.Module):
    """Attention and feed-forward, a norm before each."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        size, bias = config.n_embd, config.bias
        self.heads = config.n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(size, bias=bias), nn.LayerNorm(size, bias=bias)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(size, 3 * size, bias=bias), "c_proj": nn.Linear(size, size, bias=bias)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(size, 4 * size, bias=bias), "c_proj": nn.Linear(4 * size, size, bias=bias)})

    def forward(self, x: Tensor) -> Tensor:
        rows, length, size = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.attn["c_proj"](mixed.transpose(1, 2).reshape(rows, length, size))
        inner: Tensor = self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return x + inner


class GPT(nn.Module):
    """ids (B, T) → (logits, loss or None)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.vocab_size, config.n_embd),
            "wpe": nn.Embedding(config.block_size, config.n_embd),
            "h": nn.ModuleList(Layer(config) for _ in range(config.n_layer)),
            "ln_f": nn.LayerNorm(config.n_embd, bias=config.bias),
        }
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 0.02)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.transformer["wte"](idx) + self.transformer["wpe"](torch.arange(idx.shape[1], device=idx.device))
        for layer in self.transformer["h"]:  # type: ignore[attr-defined]
            x = layer(x)
        x = self.transformer["ln_f"](x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self, weight_decay: float, learning_rate: float, betas: tuple[float, float], device_type: str) -> Any:
        matrices = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.dim() < 2]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

    @torch.no_grad()
    def generate(self, idx: Tensor, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        for _ in range(max_new_tokens):
            scores = self(idx[:, -self.config.block_size :])[0][:, -1] / temperature
            if top_k is not None:
                least = scores.topk(min(top_k, scores.shape[1])).values[:, -1:]
                scores = scores.masked_fill(scores < least, -math.inf)
            idx = torch.cat([idx, torch.multinomial(scores.softmax(-1), 1)], 1)
        return idx
