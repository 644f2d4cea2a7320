"""With the settings that version 0.1 did not have turned off, texts are those of version 0.1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.text_generation import encode_prompt, generate_texts, seed_range
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator

BUNDLE = load_bundle(Path(__file__).parents[1] / "artifacts" / "0.1.0" / "run" / "bundle")
TABLE = json.loads(Path(__file__).with_name("texts_0.1.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row['prompt'][:9]!r}-{row['seed']}")
def test_texts_are_those_of_version_0_1(row: dict[str, Any]) -> None:
    tokens, texts = row["tokens"], row["texts"]
    sample = SampleConfig(**{k: v for k, v in row.items() if k not in ("tokens", "texts")})
    generate, seeds = make_generator(BUNDLE), seed_range(sample.seed, len(texts))
    prompts = [encode_prompt(BUNDLE.tokenizer, sample.prompt)] * len(texts)
    assert np.stack([*generate(prompts, seeds, sample)]).T.tolist() == tokens
    prompts = [sample.prompt] * len(texts)
    assert generate_texts(generate, BUNDLE.tokenizer, prompts, seeds, sample) == texts
