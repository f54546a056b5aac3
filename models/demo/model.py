"""The network: qwen3moe as llama.cpp defines it, on rows of tokens packed without padding."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Shape of the model; the names follow the GGUF keys."""

    vocab: int
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    experts: int = 16
    top_k: int = 2
    expert_ffn: int = 128
    context: int = 1024
    eps: float = 1e-6
    theta: float = 10000.0


class _Take(torch.autograd.Function):
    """Rows of x in another order.  Knowing the inverse makes the backward a gather as well,
    which is far faster on a CPU than the scatter-add autograd would do."""

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Spread(torch.autograd.Function):
    """Packed rows into their places of a zeroed [slots, width] matrix."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(slots, x.shape[1]).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Collect(torch.autograd.Function):
    """The inverse of _Spread."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.slots = x.shape[0]
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        places, = ctx.saved_tensors
        return grad.new_zeros(ctx.slots, grad.shape[1]).index_copy_(0, places, grad), None


class Layout:
    """Where the packed tokens of several rows sit in a padded [rows, longest] rectangle."""

    def __init__(self, lengths: list[int]) -> None:
        self.rows, self.longest = len(lengths), max(lengths)
        self.position = torch.cat([torch.arange(n) for n in lengths])
        row = torch.repeat_interleave(torch.arange(self.rows), torch.tensor(lengths))
        self.places = row * self.longest + self.position
        self.mask = torch.full((self.longest, self.longest), float("-inf")).triu(1)


class RMSNorm(nn.Module):
    """Root mean square norm over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Grouped-query attention with a norm per head before NEOX rotary positions."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.q = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.output = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.q_norm = RMSNorm(c.head_dim, c.eps)
        self.k_norm = RMSNorm(c.head_dim, c.eps)
        inverse = c.theta ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
        angle = torch.arange(c.context)[:, None] * inverse
        self.register_buffer("cos", angle.cos()[:, None, :], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None, :], persistent=False)

    def _rotate(self, x: Tensor, position: Tensor) -> Tensor:
        cos, sin = self.cos[position], self.sin[position]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    def _padded(self, x: Tensor, layout: Layout, heads: int) -> Tensor:
        spread = _Spread.apply(x.reshape(x.shape[0], -1), layout.places,
                               layout.rows * layout.longest)
        return spread.view(layout.rows, layout.longest, heads, self.c.head_dim).transpose(1, 2)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        c, n, long = self.c, x.shape[0], layout.longest
        q = self._rotate(self.q_norm(self.q(x).view(n, c.heads, -1)), layout.position)
        k = self._rotate(self.k_norm(self.k(x).view(n, c.kv_heads, -1)), layout.position)
        group = c.heads // c.kv_heads
        # The query heads of a kv head are stacked, so that one product serves the whole group.
        q = self._padded(q, layout, c.heads).reshape(-1, group * long, c.head_dim)
        k = self._padded(k, layout, c.kv_heads).reshape(-1, long, c.head_dim)
        v = self._padded(self.v(x), layout, c.kv_heads).reshape(-1, long, c.head_dim)
        scores = torch.bmm(q * c.head_dim ** -0.5, k.transpose(1, 2)).view(-1, group, long, long)
        weights = (scores + layout.mask).softmax(-1).view(-1, group * long, long)
        out = torch.bmm(weights, v).view(layout.rows, c.heads, long, c.head_dim).transpose(1, 2)
        return self.output(_Collect.apply(out.reshape(layout.rows * long, -1), layout.places))


class Experts(nn.Module):
    """Softmax gate over SwiGLU experts: the best top_k run, their weights sum to one."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.router = nn.Linear(c.hidden, c.experts, bias=False)
        self.gate = nn.Parameter(torch.empty(c.experts, c.expert_ffn, c.hidden))
        self.up = nn.Parameter(torch.empty(c.experts, c.expert_ffn, c.hidden))
        self.down = nn.Parameter(torch.empty(c.experts, c.hidden, c.expert_ffn))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> output, the chosen experts [tokens, top_k] (best first), the balance loss"""
        c, n = self.c, x.shape[0]
        probs = self.router(x).softmax(-1)
        best, chosen = probs.topk(c.top_k, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        flat = chosen.reshape(-1)
        order = flat.argsort()
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.shape[0])
        load = torch.bincount(flat, minlength=c.experts)
        copies = x[:, None, :].expand(n, c.top_k, c.hidden).reshape(-1, c.hidden)
        parts = _Take.apply(copies, order, inverse).split(load.tolist())
        done = [F.linear(F.silu(F.linear(h, self.gate[e])) * F.linear(h, self.up[e]), self.down[e])
                for e, h in enumerate(parts)]
        y = _Take.apply(torch.cat(done), inverse, order).view(n, c.top_k, c.hidden)
        share = load / flat.shape[0]
        balance = c.experts * (share * probs.mean(0)).sum()
        return (y * best[:, :, None]).sum(1), chosen, balance


class Block(nn.Module):
    """One layer: attention, then experts, each behind a norm and added to the stream."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(c.hidden, c.eps)
        self.attn = Attention(c)
        self.ffn_norm = RMSNorm(c.hidden, c.eps)
        self.ffn = Experts(c)

    def forward(self, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        x = x + self.attn(self.attn_norm(x), layout)
        y, chosen, balance = self.ffn(self.ffn_norm(x))
        return x + y, chosen, balance


class Model(nn.Module):
    """The whole network; the embedding is also the output head."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.embd = nn.Embedding(c.vocab, c.hidden)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                into_stream = name.endswith(("attn.output.weight", "ffn.down"))
                scale = (2 * c.layers) ** -0.5 if into_stream else 1.0
                nn.init.normal_(p, std=0.5 * scale * p.shape[-1] ** -0.5)

    def forward(self, tokens: Tensor, layout: Layout,
                wanted: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """-> logits at the `wanted` packed places, the chosen experts per layer, balance loss"""
        x = self.embd(tokens)
        chosen, balance = [], x.new_zeros(())
        for block in self.blocks:
            x, ids, aux = block(x, layout)
            chosen.append(ids)
            balance = balance + aux
        # index_select's own backward is fine here: the places are few
        logits = F.linear(self.norm(x.index_select(0, wanted)), self.embd.weight)
        return logits, chosen, balance / self.c.layers
