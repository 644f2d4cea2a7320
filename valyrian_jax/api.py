"""The Python API: use a trained model, and train one, in a script or a notebook.

`import valyrian_jax as vx` gives the names of this module; `bridge.api` has the same ones without
JAX.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.lens import Attention, Lens, make_lens
from valyrian_jax.bundle.score import Score
from valyrian_jax.bundle.text_generation import TokenColumns
from valyrian_jax.config import Config, PathLike, SampleConfig, to_plain
from valyrian_jax.errors import UserError
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.inspection.logit_lens import lens
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params, from_tensors
from valyrian_jax.run_directory import open_bundle
from valyrian_jax.training.start_options import resolve_start

__all__ = ["Attention", "Lens", "Model", "Score", "TrainedRun", "UserError", "load", "train"]

_jit_forward = jax.jit(forward, static_argnames="config")


class Model(LanguageModel):
    """A trained model that computes with JAX; `load` makes it.

    >>> import valyrian_jax as vx
    >>> model = vx.load()
    >>> text = model.generate("Sīr vali", seed=7, max_new_tokens=20, temperature=0.5)
    >>> pieces = model.stream("Sīr vali", seed=7, max_new_tokens=20, temperature=0.5)
    >>> "Sīr vali" + "".join(pieces) == text
    True
    >>> len(model.generate(["Sīr vali", "Valar"], seeds=[1, 2], stop="."))
    2
    >>> ids = model.encode("Valar morghūlis.")
    >>> model.decode(ids)
    'Valar morghūlis.'
    >>> model.logits(ids).shape == (len(ids), model.config.vocab_size)
    True
    >>> score = model.score("Valar morghūlis.")
    >>> len(score.log_probabilities) == len(score.tokens) == len(ids)
    True
    >>> tokens, weights = model.attention("Valar morghūlis.")
    >>> weights[0, 0].sum(-1).round(3).tolist() == [1.0] * len(tokens)
    True
    >>> len(model.lens("Valar morghūlis.").predictions) == 1 + model.config.n_layer
    True
    """

    @cached_property
    def params(self) -> Params:
        """The weights as a nested dict of JAX arrays; its keys are the parts of GPT-2's names."""
        return from_tensors(self.bundle.tensors)

    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sample: SampleConfig
    ) -> TokenColumns:
        """Yield the next token of every row; see `valyrian_jax.generation.generate`."""
        end_of_text = self.tokenizer.end_of_text
        return stream_tokens(self.params, self.config, prompts, seeds, sample, end_of_text)

    @pin_jax_settings()
    def _compute_logits(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        # JAX compiles a program for each length, so pad to a power of two; later tokens change no
        # logits before them.
        length = min(1 << (len(tokens) - 1).bit_length(), self.config.n_positions)
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(tokens)] = tokens
        return np.array(_jit_forward(self.params, padded, config=self.config)[0, : len(tokens)])

    def _compute_attention(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return np.array(attention_weights(self.params, tokens[None], self.config)[:, 0])

    def _compute_lens(self, tokens: npt.NDArray[np.int32], top: int) -> Lens:
        layers = lens(self.params, tokens[None], self.config)
        arrays = (np.asarray(logits[0]) for logits in layers)
        return make_lens(self.tokenizer, tokens.tolist(), arrays, top)


def load(path: PathLike | None = None) -> Model:
    """Load a trained model.

    Args:
        path: Directory of a run or of a bundle, or "shipped": the model that comes with this
            package. None: the newest run with weights under runs/; without one, that model.

    Raises:
        UserError: There is no model at this path, or it is damaged.
    """
    return Model(*open_bundle(path))


class TrainedRun(NamedTuple):
    """The result of `train`.

    Attributes:
        directory: Directory of the run; `valyrian_jax.run_directory` lists its files.
        steps: Number of steps that the run has taken.
        best_step: Step with the lowest held-out loss; `load` reads its weights.
        held_out_loss: Loss on the held-out text at that step, in nats per token.
        bits_per_byte: The same loss in bits per byte.
    """

    directory: Path
    steps: int
    best_step: int
    held_out_loss: float
    bits_per_byte: float

    def load(self) -> Model:
        """Load the best weights."""
        return load(self.directory)


def train(
    config: Config | PathLike | None = None,
    out: PathLike | None = None,
    *,
    init: PathLike | None = None,
    resume: PathLike | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train a model, like `python -m valyrian_jax train`, and show the progress.

    >>> import valyrian_jax as vx
    >>> result = vx.train("configs/tiny.toml", out="runs/mine", **{"train.steps": 20})
    run       runs/mine
    ...
    >>> result.steps, result.load().config.n_layer
    (20, 2)

    A signal such as Ctrl-C, or the interruption of a notebook, saves the run first.

    Args:
        config: TOML file, or its contents as a `valyrian_jax.config.Config`. None: the defaults.
        out: Directory of the run. None: a new one under runs/.
        init: Bundle, or run, whose weights, tokenizer and model the run starts from; "shipped" is
            the model that comes with this package.
        resume: Directory of a run to continue, in place of `config`, `out` and `init`. "auto":
            continue the run in `out`, or start it there.
        settings: Settings that take precedence over `config`: **{"optim.lr": 1e-3}, or a section
            as optim={"lr": 1e-3}.

    Raises:
        UserError: A setting is wrong, or a file cannot be read or written.
        StoppedError: A signal stopped the run; `resume` continues it.
    """
    start = resolve_start(_flatten(settings), config, out, init, resume)
    # Not above, because a model that is only used does not need orbax and the other libraries.
    from valyrian_jax.training import run

    result = run.train(*start)
    best = result.progress
    return TrainedRun(
        result.directory, result.steps, best.best_step, best.best_loss, best.best_bits_per_byte
    )


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name, with plain values: paths as text, numbers as Python's."""
    flat = {}
    for name, value in settings.items():
        for key, item in value.items() if isinstance(value, Mapping) else [("", value)]:
            dotted = f"{name}.{key}" if key else name
            flat[dotted] = os.fspath(item) if isinstance(item, os.PathLike) else to_plain(item)
    return flat
