"""Run by the peer's interpreter: a transformer with TTT layers in plain PyTorch, trained, timed.

Tokens and inner steps go by Python loops, gradients of the inner loss are written out, and the
outer loss goes back through all of them. Each line read is answered by the seconds of one training
step. Arguments: vocabulary, width, layers, TTT layers from, to, hidden of the fast mlp, K, batch,
tokens.
"""

import sys
import time

import torch
import torch.nn.functional as F

HEAD, RATE = 64, 0.1


class Fast(torch.nn.Module):
    """A TTT layer with mlp fast weights: K steps on each token, then its answer."""

    def __init__(self, width: int, hidden: int, steps: int):
        super().__init__()
        self.heads, self.steps = width // HEAD, steps
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width, bias=False)
        shapes = [(HEAD, hidden), (1, hidden), (hidden, HEAD), (1, HEAD)]
        self.fast = torch.nn.ParameterList(
            torch.nn.Parameter(0.02 * torch.randn(self.heads, *shape)) for shape in shapes
        )

    def forward(self, x):
        b, t, width = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, 1, HEAD).unbind(2)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        fast = [w[None].expand(b, *w.shape) for w in self.fast]
        outs = []
        for i in range(t):
            for _ in range(self.steps):
                fast = self.step(fast, k[:, i], v[:, i])
            w1, b1, w2, b2 = fast
            outs.append(F.gelu(q[:, i] @ w1 + b1, approximate="tanh") @ w2 + b2)
        return self.out(torch.stack(outs, dim=1).reshape(b, t, width))

    def step(self, fast, k, v):
        w1, b1, w2, b2 = fast
        z = k @ w1 + b1
        th = torch.tanh(0.79788456 * z * (1 + 0.044715 * z * z))
        x = 0.5 * z * (1 + th)
        slope = 0.5 * z * (1 - th * th) * (0.79788456 + 0.1070322243 * z * z) + 0.5 * (1 + th)
        g2 = x @ w2 + b2 - v
        g1 = g2 @ w2.transpose(-2, -1) * slope
        return [
            w1 - RATE * k.transpose(-2, -1) @ g1, b1 - RATE * g1,
            w2 - RATE * x.transpose(-2, -1) @ g2, b2 - RATE * g2,
        ]  # fmt: skip


class Attention(torch.nn.Module):
    """Causal attention."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width, bias=False)

    def forward(self, x):
        b, t, width = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(out.transpose(1, 2).reshape(b, t, width))


class Model(torch.nn.Module):
    """Pre-norm blocks of a mixer and a squared-ReLU network, tied head."""

    def __init__(self, vocabulary, width, layers, first, last, hidden, steps, length):
        super().__init__()
        self.embedding = torch.nn.Parameter(0.02 * torch.randn(vocabulary, width))
        self.positions = torch.nn.Parameter(0.02 * torch.randn(length, width))
        self.mixers = torch.nn.ModuleList(
            Fast(width, hidden, steps) if first <= i < last else Attention(width)
            for i in range(layers)
        )
        self.wide = torch.nn.ModuleList(
            torch.nn.Linear(width, 4 * width, bias=False) for _ in range(layers)
        )
        self.narrow = torch.nn.ModuleList(
            torch.nn.Linear(4 * width, width, bias=False) for _ in range(layers)
        )

    def forward(self, ids):
        width = self.embedding.shape[1]
        h = (self.embedding[ids] + self.positions[None]) * width**0.5
        for mixer, wide, narrow in zip(self.mixers, self.wide, self.narrow, strict=True):
            h = h + mixer(F.rms_norm(h, (width,)))
            h = h + narrow(F.relu(wide(F.rms_norm(h, (width,)))) ** 2)
        return F.rms_norm(h, (width,)) @ self.embedding.T


def serve(vocabulary, width, layers, first, last, hidden, steps, batch, length) -> None:
    """Seconds of one training step, printed for each line read."""
    model = Model(vocabulary, width, layers, first, last, hidden, steps, length)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(0, vocabulary, (batch, length))
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.roll(-1, 1).flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
