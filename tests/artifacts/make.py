"""Write small files of this version that every later version must read.

python tests/artifacts/make.py

It makes a directory with the name of the version: a run with checkpoints and a bundle, its text,
its TorchScript file, and the expected logits and text. Run it when a format changes, after
raising `__version__`; it never changes an existing directory.
"""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from bridge import torchscript
from valyrian_jax import __version__
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.config import load_config
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.training.run import train

DIRECTORY = Path(__file__).parent
SETTINGS = {
    "model.vocab_size": 270,
    "model.n_positions": 16,
    "model.n_embd": 8,
    "model.n_layer": 1,
    "model.n_head": 2,
    "train.steps": 20,
    "train.batch_size": 4,
    "train.eval_every": 10,
    "train.checkpoint_every": 10,
    "train.sample_every": 20,
    "wandb.mode": "off",
    "sample.max_new_tokens": 20,
    "data.path": "text.txt",
}
PROMPT = "valar morghūlis"


def main() -> None:
    """Train, export, and write the logits and the greedy text of the prompt."""
    out = DIRECTORY / __version__
    out.mkdir()
    text = (DIRECTORY.parents[1] / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    (out / "text.txt").write_text(text[: text.rindex("\n\n", 0, 4000)] + "\n", encoding="utf-8")
    os.chdir(out)  # keeps the paths of this machine out of the files
    train(load_config(overrides=SETTINGS), Path("run"))
    for name in ("loss.png", "lock"):
        Path("run", name).unlink()
    shutil.rmtree("run/checkpoints/10")
    torchscript.write(Path("run/bundle"), Path("model.pt"))

    bundle = load_bundle("run/bundle")
    tokens = bundle.tokenizer.encode(PROMPT)
    logits = forward(from_tensors(bundle.tensors), jnp.asarray([tokens], jnp.int32), bundle.model)
    module, _ = torchscript.load(Path("model.pt"))
    expected = {
        "tokens": tokens,
        "logits": np.asarray(logits[0, -1, :8]).tolist(),
        "text": module.generate_text(PROMPT, 20, 0.0, 0, 1.0, 0),
    }
    Path("expected.json").write_text(
        json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
