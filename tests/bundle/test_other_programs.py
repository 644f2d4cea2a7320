"""`transformers` and CTranslate2 open a bundle as it is, and generate what we generate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bridge.generator import Generator
from tests.support.tiny import WORDS
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.tokenizer import train_bpe

CONFIG = ModelConfig(vocab_size=300, n_positions=24, n_embd=32, n_layer=2, n_head=4)
PROMPTS = ["the red dragon", "a", "a queen sees yesterday and the wolf loves"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    tensors = {
        name: (0.3 * rng.normal(size=shape) + (".ln_" in name and "weight" in name)).astype("f")
        for name, shape in parameter_shapes(CONFIG).items()
    }
    tensors["lm_head.weight"][299] = 0  # a text that never ends
    path = tmp_path_factory.mktemp("bundle") / "b"
    save_bundle(Bundle(CONFIG, tensors, train_bpe(WORDS * 9, 300)), path)
    return path


def generate_greedily(bundle: Bundle, prompt: str) -> list[int]:
    """Return the tokens of a prompt and its continuation up to the context."""
    ids = torch.tensor([bundle.tokenizer.encode(prompt)])
    count = CONFIG.n_positions - ids.shape[1]
    return Generator(bundle).generate(ids, count, 0.0, 0, 1.0, 0)[0].tolist()


def test_the_pipeline_generates_up_to_the_context(directory: Path) -> None:
    generate = transformers.pipeline("text-generation", model=str(directory))
    bundle = load_bundle(directory)
    for prompts in (PROMPTS[:1], PROMPTS):
        outputs = generate(prompts, batch_size=len(prompts), do_sample=False)
        for prompt, (output,) in zip(prompts, outputs, strict=True):
            expected = bundle.tokenizer.decode(generate_greedily(bundle, prompt))
            # a batch ends when its longest text does
            assert expected.startswith(output["generated_text"])
            assert len(output["generated_text"]) > len(prompt)


def test_a_batch_with_left_padding_generates_the_same_tokens(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    bundle = load_bundle(directory)
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    assert (batch["attention_mask"][:, -1] == 1).all()
    assert (batch["input_ids"][1, 0], batch["attention_mask"][1, 0]) == (299, 0)
    outputs = model.generate(**batch, do_sample=False)
    assert outputs.shape == (3, CONFIG.n_positions)
    for prompt, output, mask in zip(PROMPTS, outputs, batch["attention_mask"], strict=True):
        tokens = output[int((1 - mask).sum()) :].tolist()
        assert tokens == generate_greedily(bundle, prompt)[: len(tokens)]


def test_generation_past_the_context_fails_in_transformers(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    ids = tokenizer(PROMPTS[0], return_tensors="pt")
    assert model.generate(**ids, do_sample=False).shape == (1, CONFIG.n_positions)
    with pytest.raises(IndexError, match="index out of range"):
        model.generate(**ids, do_sample=False, max_new_tokens=CONFIG.n_positions)
    ids = tokenizer(WORDS, return_tensors="pt")
    with pytest.raises(ValueError, match="`max_length` is set to 24"):
        model.generate(**ids, do_sample=False)


@pytest.mark.filterwarnings("ignore")  # of its imports
def test_ctranslate2_converts_it_and_generates_the_same_tokens(
    directory: Path, tmp_path: Path
) -> None:
    ctranslate2: Any = pytest.importorskip("ctranslate2", reason="the bench extra has it")
    ctranslate2.converters.TransformersConverter(str(directory)).convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    bundle = load_bundle(directory)
    for prompt in PROMPTS:
        (result,) = generator.generate_batch(
            [tokenizer.tokenize(prompt)], max_length=CONFIG.n_positions, sampling_topk=1
        )
        tokens = result.sequences_ids[0][: CONFIG.n_positions]
        assert tokens == generate_greedily(bundle, prompt)
