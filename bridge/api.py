"""The Python API without JAX: `import bridge` exports the names of this module.

A model has the methods of one from `valyrian_jax.load`, and gives the same texts and numbers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bridge.generator import Generator
from bridge.gpt import GPT
from bridge.inspection import attention_weights, lens_logits
from bridge.streaming import stream
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.lens import Attention, Lens, make_lens
from valyrian_jax.bundle.score import Score
from valyrian_jax.bundle.text_generation import TokenColumns
from valyrian_jax.config import PathLike, SampleConfig, check_input
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import locate_run, open_bundle

__all__ = ["Attention", "Lens", "Model", "Score", "UserError", "load"]


class Model(LanguageModel):
    """A trained model that computes with PyTorch; `load` makes it.

    >>> import bridge
    >>> model = bridge.load()
    >>> text = model.generate("Sīr vali", seed=7, max_new_tokens=20, temperature=0.5)
    >>> pieces = model.stream("Sīr vali", seed=7, max_new_tokens=20, temperature=0.5)
    >>> "Sīr vali" + "".join(pieces) == text
    True
    >>> len(model.generate(["Sīr vali", "Valar"], seeds=[1, 2], stop="."))
    2
    >>> ids = model.encode("Valar morghūlis.")
    >>> model.logits(ids).shape == (len(ids), model.config.vocab_size)
    True
    >>> import torch
    >>> model.module(torch.tensor([ids])).shape == (1, len(ids), model.config.vocab_size)
    True
    """

    def __init__(self, bundle: Bundle, directory: Path | None = None) -> None:
        super().__init__(bundle, directory)
        self.generator = Generator(bundle)

    @property
    def module(self) -> GPT:
        """The `torch.nn.Module`: int64 tokens [B, T] to logits [B, T, V]."""
        return self.generator.gpt

    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sample: SampleConfig
    ) -> TokenColumns:
        """Yield the next token of every row; see `bridge.streaming.stream`."""
        return stream(self.generator, prompts, seeds, sample)

    @pin_torch_settings()
    def _compute_logits(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return self.module(self._to_tensor(tokens))[0].float().cpu().numpy()

    @pin_torch_settings()
    def _compute_attention(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        layers = attention_weights(self.module, self._to_tensor(tokens))
        return torch.cat(list(layers)).float().cpu().numpy()

    @pin_torch_settings()
    def _compute_lens(self, tokens: npt.NDArray[np.int32], top: int) -> Lens:
        layers = lens_logits(self.module, self._to_tensor(tokens))
        arrays = (logits[0].float().cpu().numpy() for logits in layers)
        return make_lens(self.tokenizer, tokens.tolist(), arrays, top)

    def _to_tensor(self, tokens: npt.NDArray[np.int32]) -> torch.Tensor:
        device = self.module.transformer.wte.weight.device
        return torch.tensor(tokens[None], dtype=torch.int64, device=device)


def load(path: PathLike | None = None) -> Model:
    """Load a trained model.

    Args:
        path: Directory of a run or of a bundle, or "shipped": the model that comes with
            `valyrian_jax`. None: the newest run with weights under runs/; without one, that model.

    Raises:
        UserError: There is no model at the path, or it is damaged.
    """
    path = None if path is None else locate_run(check_input(path, "path"))
    if path is not None and path.suffix in (".pt", ".pt2") and path.is_file():
        raise UserError(
            f"cannot load a model: expected a run or a bundle, found the file {path}; open an "
            "exported file with torch.jit.load, or first import a checkpoint with `python -m "
            "bridge import`"
        )
    return Model(*open_bundle(path))
