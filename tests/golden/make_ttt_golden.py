"""Makes ttt_linear.npz and ttt_mlp.npz: the published TTT layers, transcribed in float64 NumPy.

From the equations of Sun et al. (2407.04620) and the code of ttt-lm-jax, token by token, with the
weights of every token formed outright and no dual form anywhere:

python tests/golden/make_ttt_golden.py
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
DOCUMENTS, TOKENS, WIDTH, HEADS, MINI_BATCH = 2, 21, 16, 2, 4
HEAD_DIM = WIDTH // HEADS
HIDDEN = 4 * HEAD_DIM


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x, h=1e-6):
    return (gelu(x + h) - gelu(x - h)) / (2 * h)


def layer_norm(x, gamma, beta):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * gamma + beta


def layer_norm_pull(x, gamma, g):
    """The Jacobian of the layer norm, transposed, times g."""
    n, std = x.size, np.sqrt(x.var() + 1e-6)
    y = (x - x.mean()) / std
    jacobian = (np.eye(n) - 1 / n - np.outer(y, y) / n) / std * gamma[:, None]
    return jacobian.T @ g


def rotate(x, index):
    angles = index * 10_000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    z = (x[::2] + 1j * x[1::2]) * np.exp(1j * angles)
    out = np.empty_like(x)
    out[::2], out[1::2] = z.real, z.imag
    return out


def apply(model, w, x):
    if model == "linear":
        return x @ w["w"] + w["b"]
    return gelu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]


def token_gradient(model, w, k, v, gamma, beta):
    """d/dW of 1/2 |LN(f(k)) - (v - k)|^2."""
    z = apply(model, w, k)
    g = layer_norm_pull(z, gamma, layer_norm(z, gamma, beta) - (v - k))
    if model == "linear":
        return {"w": np.outer(k, g), "b": g}
    inner = k @ w["w1"] + w["b1"]
    g1 = (w["w2"] @ g) * gelu_slope(inner)
    return {"w1": np.outer(k, g1), "b1": g1, "w2": np.outer(gelu(inner), g), "b2": g}


def layer(model, p, x, base_rate):
    """One document x [T, D] -> [T, D]."""
    z = np.zeros((len(x), HEADS, HEAD_DIM))
    for h in range(HEADS):
        w = {name: p[f"initial_{name}"][h] for name in ("w", "b", "w1", "b1", "w2", "b2")
             if f"initial_{name}" in p}  # fmt: skip
        gamma, beta = p["gamma"][h], p["beta"][h]
        for start in range(0, len(x), MINI_BATCH):
            grads, rates = [], []
            for i in range(min(MINI_BATCH, len(x) - start)):
                row = x[start + i]
                q, k = (rotate(row @ p[name][:, h], i) for name in ("wq", "wk"))
                v = row @ p["wv"][:, h]
                grads.append(token_gradient(model, w, k, v, gamma, beta))
                rates.append(1 / (1 + np.exp(-(row @ p["rate_weight"][:, h] + p["rate_bias"][h]))))
                here = max(0.0, 1 / (i + 1) + p["learned_position"][i]) * base_rate / HEAD_DIM
                moved = {
                    name: w[name]
                    - sum(here * r * g[name] for r, g in zip(rates, grads, strict=True))
                    for name in w
                }
                z[start + i, h] = q + layer_norm(apply(model, moved, q), gamma, beta)
            if len(grads) == MINI_BATCH:
                w = moved
    flat = z.reshape(len(x), WIDTH)
    return np.stack([layer_norm(row, p["post_gamma"], p["post_beta"]) for row in flat]) @ p["wo"]


def parameters(model, rng):
    shapes = {
        "wq": (WIDTH, HEADS, HEAD_DIM), "wk": (WIDTH, HEADS, HEAD_DIM),
        "wv": (WIDTH, HEADS, HEAD_DIM), "wo": (WIDTH, WIDTH), "rate_weight": (WIDTH, HEADS),
        "rate_bias": (HEADS,), "learned_position": (MINI_BATCH,), "gamma": (HEADS, HEAD_DIM),
        "beta": (HEADS, HEAD_DIM), "post_gamma": (WIDTH,), "post_beta": (WIDTH,),
    }  # fmt: skip
    inner = {"w": (HEAD_DIM, HEAD_DIM), "b": (HEAD_DIM,)}
    if model == "mlp":
        inner = {"w1": (HEAD_DIM, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, HEAD_DIM),
                 "b2": (HEAD_DIM,)}  # fmt: skip
    shapes |= {f"initial_{name}": (HEADS, *shape) for name, shape in inner.items()}
    values = {name: rng.normal(size=shape) * 0.4 for name, shape in shapes.items()}
    for name in ("gamma", "post_gamma"):
        values[name] = 1 + 0.3 * values[name]
    # What is stored is float32, so that both sides start from the same numbers.
    return {name: value.astype(np.float32) for name, value in values.items()}


for model, base_rate in (("linear", 1.0), ("mlp", 0.1)):
    rng = np.random.default_rng(0)
    stored = parameters(model, rng)
    hidden = rng.normal(size=(DOCUMENTS, TOKENS, WIDTH)).astype(np.float32)
    exact = {name: value.astype(np.float64) for name, value in stored.items()}
    out = np.stack([layer(model, exact, x.astype(np.float64), base_rate) for x in hidden])
    np.savez_compressed(
        HERE / f"ttt_{model}.npz", hidden=hidden, out=out, base_rate=base_rate, **stored
    )
