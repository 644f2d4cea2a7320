"""The update rule: clipping, the optimizer, weight decay by parameter path, and the schedule."""

import functools

import jax
import optax
from jaxtyping import Array, PyTree

from valyrian_jax.config import OptimConfig
from valyrian_jax.model.compute_options import MAX_PROGRAMS
from valyrian_jax.model.parameters import Params
from valyrian_jax.training.muon import label_parameters, scale_by_muon


@functools.lru_cache(MAX_PROGRAMS)  # JAX compiles equal functions once only if they are the same.
def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Return the optimizer of a run.

    `adamw` decays the weights apart from the gradient (Loshchilov and Hutter 2019). `adam_l2` adds
    the decay to the gradient. `muon` orthogonalises the momentum of the block matrices (Jordan et
    al. 2024) and uses AdamW for embeddings, output matrix, biases and norms. All three use Nesterov
    momentum (Dozat 2016) unless the configuration turns it off.
    """
    learning_rate = make_schedule(config, steps)
    add_decay = optax.add_decayed_weights(config.weight_decay, mask=decay_mask)
    descend = optax.scale_by_learning_rate(learning_rate)
    match config.name:
        case "adamw":
            rule = optax.adamw(
                learning_rate,
                config.beta1,
                config.beta2,
                weight_decay=config.weight_decay,
                mask=decay_mask,
                nesterov=config.nesterov,
            )
        case "adam_l2":
            adam = optax.scale_by_adam(config.beta1, config.beta2, nesterov=config.nesterov)
            rule = optax.chain(add_decay, adam, descend)
        case "muon":
            adam = optax.scale_by_adam(config.beta1, config.beta2, nesterov=config.nesterov)
            rules = {"muon": scale_by_muon(config.nesterov), "adam": adam}
            rule = optax.chain(optax.partition(rules, label_parameters), add_decay, descend)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


@functools.lru_cache(MAX_PROGRAMS)
def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step.

    It rises linearly from lr / W at step 0 to lr at step W - 1, where W is the number of warm-up
    steps, then falls along half a cosine from lr at step W to lr * min_lr_ratio at the last step.
    """
    warmup = round(config.warmup * steps)
    rise = optax.linear_schedule(config.lr / max(warmup, 1), config.lr, warmup - 1)
    fall = optax.cosine_decay_schedule(config.lr, max(steps - warmup - 1, 1), config.min_lr_ratio)
    return optax.join_schedules([rise, fall], [warmup])


def decay_mask(params: Params) -> PyTree[bool]:
    """Return True for matrices and embeddings, which decay, and False for biases and LayerNorm."""

    def decays(path: tuple[jax.tree_util.DictKey, ...], _: Array) -> bool:
        names = [entry.key for entry in path]
        return names[-1] != "bias" and not any(name.startswith("ln_") for name in names)

    return jax.tree_util.tree_map_with_path(decays, params)
