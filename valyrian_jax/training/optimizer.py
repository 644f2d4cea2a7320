"""The update rule: clip, optimizer, decay by parameter path, warm-up and cosine."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from valyrian_jax.config import OptimConfig
from valyrian_jax.model.parameters import Params


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """The optax chain of a run.

    `adamw` decays weights apart from the gradient (Loshchilov and Hutter 2019); `adam_l2` adds the decay to the
    gradient, as Adam with weight decay was first used; `muon` orthogonalises the momentum of the block matrices
    (Jordan et al. 2024) at Adam's update size, and leaves embeddings, head, biases and norms to Adam. In all of them
    the momentum is Nesterov's (Dozat 2016) unless the configuration says otherwise.

    Args:
        config: the update rule.
        steps: length of the schedule.

    Returns:
        (init, update) over parameter trees.
    """
    rate = make_schedule(config, steps)
    decay = optax.add_decayed_weights(config.weight_decay, mask=decay_mask)
    adam = optax.scale_by_adam(config.beta1, config.beta2, nesterov=config.nesterov)
    descent = optax.scale_by_learning_rate(rate)
    match config.name:
        case "adamw":
            rule = optax.adamw(
                rate,
                config.beta1,
                config.beta2,
                weight_decay=config.weight_decay,
                mask=decay_mask,
                nesterov=config.nesterov,
            )
        case "adam_l2":
            rule = optax.chain(decay, adam, descent)
        case "muon":
            muon = optax.contrib.muon(
                -1.0,  # leaves the plain direction; decay and rate follow as for Adam
                adam_b1=config.beta1,
                adam_b2=config.beta2,
                nesterov=config.nesterov,
                consistent_rms=0.2,  # updates of Adam's size, so that one rate serves both (Liu et al. 2025)
                muon_weight_dimension_numbers=_block_matrices,
            )
            rule = optax.chain(muon, decay, descent)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Step -> learning rate: linear from 0 to lr, then half a cosine down to lr x min_lr_ratio at the last step."""
    warmup = round(config.warmup * steps)
    rise = optax.linear_schedule(config.lr / max(warmup, 1), config.lr, warmup - 1)
    fall = optax.cosine_decay_schedule(config.lr, max(steps - warmup - 1, 1), config.min_lr_ratio)
    return optax.join_schedules([rise, fall], [warmup])


def decay_mask(params: Params) -> PyTree[bool]:
    """True for the parameters that weight decay shrinks: matrices and embeddings, not biases and LayerNorm."""

    def decays(path: tuple[jax.tree_util.DictKey, ...], _: Array) -> bool:
        names = [part.key for part in path]
        return names[-1] != "bias" and not any(name.startswith("ln_") for name in names)

    return jax.tree_util.tree_map_with_path(decays, params)


def _block_matrices(params: Params) -> PyTree[optax.contrib.MuonDimensionNumbers | None]:
    """The matrices inside the blocks, which Muon updates."""

    def dimensions(
        path: tuple[jax.tree_util.DictKey, ...], array: Array
    ) -> optax.contrib.MuonDimensionNumbers | None:
        inside = any(part.key == "h" for part in path) and array.ndim == 2
        return optax.contrib.MuonDimensionNumbers() if inside else None

    return jax.tree_util.tree_map_with_path(dimensions, params)
