"""Train a policy that decides how many steps each unit of text gets, under a budget.

`python -m ponderttt.experiments.train_policy --model_scale 125m --num_iterations 10 --output_dir D`
"""

from dataclasses import dataclass
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
    """Train, printing as it goes; writes the results and one policy file a seed.

    Where rewards cease to be finite, what was before is written and a `NotFinite` says where.
    """
    from ponderttt.experiments.live_policy.run import first_failure, histories, inner_rate, train
    from ponderttt.experiments.scales import Work
    from ponderttt.policies.actor_critic import save_policy
    from ponderttt.prepare.recipes import Recipe
    from ponderttt.types import CHUNK_ACTIONS

    folder, said = writable_folder(config.output_dir / config.model_scale), config.show_source()
    rollouts = config.num_iterations * len(config.seeds)
    work = Work(
        rollouts * config.rollout_length * config.chunk_size, CHUNK_ACTIONS.max_steps,
        config.at_once, config.documents * config.units * config.chunk_size,
    )  # fmt: skip
    lm = config.load(Recipe("sgd", 1.0, 0, cadence=config.chunk_size), work)
    trained = train(lm, config.text, config)
    found = dict(zip(config.seeds, histories(trained), strict=True))
    failure = first_failure(trained, config.seeds)
    kept = failure.place[0] if failure else config.num_iterations
    for s, (seed, history) in enumerate(found.items()):
        for i in range(kept):
            print(
                f"Seed {seed}, iteration {i + 1}/{config.num_iterations}: "
                f"reward={history['reward'][i]:+.4f} cost={history['cost'][i]:.3f} "
                f"multiplier={history['multiplier'][i]:.4f}"
            )
        if failure is None:
            policy = trained.trainer.policy(trained.result, s)
            save_policy(folder / f"policy-{seed}.safetensors", policy, trained.extractor)
    used = {"output_dir": None, "budget": config.budget} | inner_rate(trained)
    content = {
        "config": config.stated(lm) | used,
        "read": said,
        "actions": list(CHUNK_ACTIONS.names),
        "seeds": {
            str(seed): {name: values[:kept] for name, values in history.items()}
            for seed, history in found.items()
        },
    }
    if kept:
        write_results(folder, content)
    if failure:
        raise failure
    return content


if __name__ == "__main__":
    run_module(run, __doc__)
