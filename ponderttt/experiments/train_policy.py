"""Train a policy that decides how many steps each unit of text gets, under a budget.

`python -m ponderttt.experiments.train_policy --model_scale 125m --num_iterations 10 --output_dir D`
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from ponderttt.experiments.command import TextCommand, run_module, write_results
from ponderttt.experiments.live_policy.config import LivePolicyConfig
from ponderttt.storage import writable_folder


@dataclass(frozen=True)
class TrainPolicyConfig(LivePolicyConfig, TextCommand):
    """PPO with a PID-Lagrangian: spend the budget where updating gains most on what follows."""

    output_dir: Path = Path("outputs/policy")
    """Where <model_scale>/results.json and the policies go."""


def run(config: TrainPolicyConfig) -> dict:
    """Train, printing as it goes; writes the results and one policy file a seed."""
    import numpy as np

    from ponderttt.experiments.live_policy.run import train
    from ponderttt.policies.actor_critic import save_policy
    from ponderttt.types import CHUNK_ACTIONS

    folder, lm = writable_folder(config.output_dir / config.model_scale), config.load()
    trainer, world, result = train(lm, config.text, config)
    histories = {}
    for s, seed in enumerate(config.seeds):
        fields = result.history._asdict().items()
        history = {name: np.asarray(values[s]).round(6).tolist() for name, values in fields}
        for i in range(config.num_iterations):
            print(
                f"Seed {seed}, iteration {i + 1}/{config.num_iterations}: "
                f"reward={history['reward'][i]:+.4f} cost={history['cost'][i]:.3f} "
                f"multiplier={history['multiplier'][i]:.4f}"
            )
        save_policy(
            folder / f"policy-{seed}.safetensors", trainer.policy(result, s), world.extractor
        )
        histories[str(seed)] = history
    rate, clip = (x if x is None else float(x) for x in (world.adapter.rate, world.adapter.clip))
    used = {
        "model": lm.name,
        "dtype": lm.dtype,
        "budget": config.budget,
        "rate": rate,
        "clip": clip,
    }
    content = {
        "config": asdict(config) | {"output_dir": None} | used,
        "actions": list(CHUNK_ACTIONS.names),
        "seeds": histories,
    }
    write_results(folder, content)
    return content


if __name__ == "__main__":
    run_module(run, __doc__)
