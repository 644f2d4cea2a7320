"""Between a bundle's tensors and the module's parameters: one table, both ways.

The names and shapes are those of `valyrian_jax.bundle.names` on both sides, and so is the layout: GPT-2's
matrices are [in, out], and `bridge.model` keeps them so. What is left to do is to hold both sides to that table.
"""

import torch

from valyrian_jax.bundle.bundle import Bundle, check_bundle
from valyrian_jax.bundle.names import Tensors
from valyrian_jax.config import ModelConfig

from .model import GPT


def to_module(source: Bundle) -> GPT:
    """A module with the weights of a bundle, ready for use: evaluation mode, no gradients.

    Raises:
        UserError: the weights do not fit the model; all names in one line.
    """
    check_bundle(source.model, source.tensors)
    with torch.device("meta"):  # the module's own weights take neither memory nor time
        module = GPT(source.model)
    parameters = {name: torch.tensor(tensor) for name, tensor in source.tensors.items()}
    module.load_state_dict(parameters, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def to_tensors(module: GPT, config: ModelConfig) -> Tensors:
    """The inverse: the module's weights under the names of a bundle, float32.

    Raises:
        UserError: the module does not fit the configuration; all names in one line.
    """
    tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in module.state_dict().items()}
    check_bundle(config, tensors)
    return tensors
