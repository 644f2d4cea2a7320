"""Vocabularies that differ from the token tables are cut, extended or refused."""

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from bridge.importers.gpt2 import read_gpt2
from bridge.importers.vocabulary import set_end_of_text
from tests.support.gpt2 import TOKENS, assert_equal, edit_json, get_logits, make_gpt2
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer


def test_padded_rows_are_cut_and_a_note_says_whether_they_were_trained(
    gpt2_directory: Path, tokenizer: Tokenizer
) -> None:
    for tied in (True, False):
        model = make_gpt2(vocab_size=384, tie_word_embeddings=tied)
        with torch.no_grad():
            model.transformer.wte.weight[301:] = model.transformer.wte.weight[301:302].clone()
            model.lm_head.weight[301:] = 0.01 * model.lm_head.weight[301:302].clone()
        model.save_pretrained(gpt2_directory)
        bundle, notes = read_gpt2(gpt2_directory)
        assert bundle.model.vocab_size == tokenizer.vocab_size == 301
        assert_equal(bundle, model)
        assert "cut 83 rows of padding" in notes[0]
        assert "never the target of any token" in notes[0]
    make_gpt2(vocab_size=304).save_pretrained(gpt2_directory)
    _, notes = read_gpt2(gpt2_directory)
    assert "cut 3 rows of padding" in notes[0]
    assert "do not tell whether they were trained" in notes[0]


@pytest.mark.parametrize("size", [300, 303, 1400])
def test_tokenizers_of_other_models_are_refused(size: int, gpt2_directory: Path) -> None:
    make_gpt2(vocab_size=size).save_pretrained(gpt2_directory)
    with pytest.raises(UserError, match=f"tokenizer has 301 tokens, the model {size}"):
        read_gpt2(gpt2_directory)


def rename_end(directory: Path, name: str) -> None:
    path = directory / "tokenizer.json"
    path.write_text(path.read_text().replace("<|endoftext|>", name))


@pytest.mark.usefixtures("reference")
def test_a_token_that_ends_a_text_has_one_name(gpt2_directory: Path, tokenizer: Tokenizer) -> None:
    rename_end(gpt2_directory, "</s>")
    for file, value in (("tokenizer_config", "</s>"), ("special_tokens_map", {"content": "</s>"})):
        path = gpt2_directory / f"{file}.json"
        path.write_text(json.dumps({"eos_token": value}))
        bundle, notes = read_gpt2(gpt2_directory)
        assert notes == ("</s>, which ends a text, is now called <|endoftext|>",)
        assert bundle.tokenizer == tokenizer
        path.unlink()


def test_a_token_that_ends_a_text_is_added(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rename_end(gpt2_directory, "<|other|>")
    bundle, notes = read_gpt2(gpt2_directory)
    assert "added <|endoftext|> to the tokenizer" in notes[0]
    assert "mean of all other rows" in notes[1]
    assert bundle.tokenizer.end_of_text == 301
    with torch.no_grad():
        expected = reference(TOKENS).logits
    logits = get_logits(bundle)
    assert (logits[..., :301] - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (logits[..., 301] - expected.mean(-1)).abs().max() <= 1e-5 * expected.abs().max()
    save_bundle(bundle, tmp_path / "b")
    assert load_bundle(tmp_path / "b").tokenizer.special == {"<|other|>": 300, "<|endoftext|>": 301}
    # a padded row takes the token
    padded = make_gpt2(vocab_size=302)
    padded.save_pretrained(gpt2_directory)
    bundle, notes = read_gpt2(gpt2_directory)
    assert len(notes) == 1
    assert_equal(bundle, padded)


@pytest.mark.usefixtures("reference")
def test_a_vocabulary_may_hold_the_end_without_saying_that_it_is_special(
    gpt2_directory: Path, tokenizer: Tokenizer
) -> None:
    edit_json(gpt2_directory / "tokenizer.json", added_tokens=[])
    bundle, notes = read_gpt2(gpt2_directory)
    assert (bundle.tokenizer, notes) == (tokenizer, ())


def test_an_end_that_merges_can_make_is_refused() -> None:
    tokens, merges, name = [bytes([b]) for b in range(256)], [], b"<|endoftext|>"
    last = name[0]
    for byte in name[1:]:
        merges.append((last, byte))
        last = len(tokens)
        tokens.append(tokens[merges[-1][0]] + bytes([byte]))
    for special, end in (({}, None), ({"</s>": len(tokens)}, "</s>")):
        ordinary = Tokenizer((*tokens, *map(str.encode, special)), tuple(merges), special)
        with pytest.raises(UserError, match=r"has <\|endoftext\|> as a token of ordinary text"):
            set_end_of_text(ordinary, end)
