"""Run by the peer's interpreter: the published TTT layers in plain PyTorch, timed.

A transcription of the layer of ttt-lm-pytorch (dual form, Transformer backbone): a Python loop
over mini-batches. Each line read is `linear forward`, `mlp backward` and so on; the answer is the
seconds of one pass over all tokens. Arguments: width, head width, mini-batch, tokens.
"""

import sys
import time

import torch
import torch.nn.functional as F


class Layer(torch.nn.Module):
    """The slow weights, and one pass over a text [B, T, D]."""

    def __init__(self, kind: str, width: int, head: int, batch: int):
        super().__init__()
        self.kind, self.d, self.heads, self.b = kind, head, width // head, batch
        self.q, self.k, self.v, self.o = (
            torch.nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.rate = torch.nn.Linear(width, self.heads)
        self.token = torch.nn.Parameter(torch.zeros(batch))
        self.gamma = torch.nn.Parameter(torch.ones(self.heads, 1, head))
        self.beta = torch.nn.Parameter(torch.zeros(self.heads, 1, head))
        self.post = torch.nn.LayerNorm(width, eps=1e-6)
        shapes = [(head, head), (1, head)]
        if kind == "mlp":
            shapes = [(head, 4 * head), (1, 4 * head), (4 * head, head), (1, head)]
        self.fast = torch.nn.ParameterList(
            torch.nn.Parameter(0.02 * torch.randn(self.heads, *shape)) for shape in shapes
        )
        powers = torch.arange(0, head, 2) / head
        angles = torch.arange(batch)[:, None] * 10_000.0 ** -powers[None]
        self.cos, self.sin = angles.cos(), angles.sin()

    def rotate(self, x):
        even, odd = x[..., ::2], x[..., 1::2]
        turned = (even * self.cos - odd * self.sin, even * self.sin + odd * self.cos)
        return torch.stack(turned, dim=-1).reshape(x.shape)

    def split(self, x):
        documents, length, _ = x.shape
        x = x.reshape(documents, length // self.b, self.b, self.heads, self.d)
        return x.permute(0, 3, 1, 2, 4)  # B H M b d

    def forward(self, x):
        q, k, v = (self.split(project(x)) for project in (self.q, self.k, self.v))
        q, k = self.rotate(q), self.rotate(k)
        rate = torch.sigmoid(self.rate(x))
        rate = rate.reshape(len(x), -1, self.b, self.heads).permute(0, 3, 1, 2)
        token = torch.clamp(1 / torch.arange(1, self.b + 1) + self.token, min=0)
        base = 1.0 if self.kind == "linear" else 0.1
        eta = base / self.d * token[:, None] * rate[..., None, :]  # B H M b b
        fast = [w[None].expand(len(x), *w.shape) for w in self.fast]
        step, outs = getattr(self, self.kind), []
        for m in range(q.shape[2]):
            out, fast = step(fast, q[:, :, m], k[:, :, m], v[:, :, m], eta[:, :, m])
            outs.append(out)
        z = torch.stack(outs, dim=2).permute(0, 2, 3, 1, 4).reshape(x.shape)
        return self.o(self.post(z))

    def norm(self, x):
        return F.layer_norm(x, (self.d,), eps=1e-6) * self.gamma + self.beta

    def norm_pull(self, x, target):
        mean, std = (
            x.mean(-1, keepdim=True),
            (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt(),
        )
        hat = (x - mean) / std
        g = (self.gamma * hat + self.beta - target) * self.gamma
        inner = g.sum(-1, keepdim=True) + hat * (g * hat).sum(-1, keepdim=True)
        return (g - inner / self.d) / std

    def linear(self, fast, q, k, v, eta):
        w, b = fast
        g = self.norm_pull(k @ w + b, v - k)
        low = torch.tril(eta)
        z = q @ w - (low * (q @ k.transpose(-2, -1))) @ g + b - low @ g
        last = eta[..., -1, :, None]
        moved = [w - (last * k).transpose(-2, -1) @ g, b - (last * g).sum(-2, keepdim=True)]
        return q + self.norm(z), moved

    def mlp(self, fast, q, k, v, eta):
        w1, b1, w2, b2 = fast
        z1 = k @ w1 + b1
        x2 = F.gelu(z1, approximate="tanh")
        g2 = self.norm_pull(x2 @ w2 + b2, v - k)
        t = torch.tanh(0.79788456 * z1 * (1 + 0.044715 * z1 * z1))
        slope = 0.5 * z1 * (1 - t * t) * (0.79788456 + 0.1070322243 * z1 * z1) + 0.5 * (1 + t)
        g1 = g2 @ w2.transpose(-2, -1) * slope
        low = torch.tril(eta)
        y1 = q @ w1 - (low * (q @ k.transpose(-2, -1))) @ g1 + b1 - low @ g1
        y2 = F.gelu(y1, approximate="tanh")
        z = y2 @ w2 - (low * (y2 @ x2.transpose(-2, -1))) @ g2 + b2 - low @ g2
        last = eta[..., -1, :, None]
        moved = [
            w1 - (last * k).transpose(-2, -1) @ g1, b1 - (last * g1).sum(-2, keepdim=True),
            w2 - (last * x2).transpose(-2, -1) @ g2, b2 - (last * g2).sum(-2, keepdim=True),
        ]  # fmt: skip
        return q + self.norm(z), moved


def serve(width: int, head: int, batch: int, length: int) -> None:
    """Seconds of one pass, printed for each line read."""
    layers = {kind: Layer(kind, width, head, batch) for kind in ("linear", "mlp")}
    x = torch.randn(1, length, width)
    for line in sys.stdin:
        kind, what = line.split()
        start = time.perf_counter()
        if what == "forward":
            with torch.inference_mode():
                layers[kind](x).sum().item()
        else:
            layers[kind](x).square().sum().backward()
            layers[kind].zero_grad()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
