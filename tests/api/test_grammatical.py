"""Grammatical texts of the model that ships: the same in JAX and PyTorch, and right."""

import json
from types import ModuleType
from typing import Any

import click
import pytest

import bridge
import valyrian_jax as vx
from bridge.__main__ import main as bridge_main
from tests.support.commands import assert_one_line_error, call
from valyrian_jax.bundle.grammatical_text import SEED_STEP, draw_sentences
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.cli.main import main
from valyrian_jax.language.checker.verdict import check_without_diagnosis, split_sentences

HOT: Any = {"temperature": 1.5, "top_p": 0.98, "max_new_tokens": 60}  # many are drawn again
SEEDS = [*range(10), 2**32 - 2, 2**32 - 1]
PROMPTS = ["", "Sīr vali", "Valar morghūlis. Dārys"]
PROGRAMS = [(main, "sample"), (bridge_main, "generate")]


@pytest.fixture(scope="module")
def both() -> tuple[vx.Model, bridge.Model]:
    return vx.load(SHIPPED_MODEL), bridge.load(SHIPPED_MODEL)


def is_right(sentence: str) -> bool:
    return check_without_diagnosis(sentence).grammatical


def test_both_write_the_same_right_texts(both: tuple[vx.Model, bridge.Model]) -> None:
    redrawn = 0
    for seed in SEEDS:
        prompt = PROMPTS[seed % 3]
        result, other = (m.generate_grammatical(prompt, seed=seed, **HOT) for m in both)
        assert result == other
        text, counts = result
        plain = both[0].generate(prompt, seed=seed, **HOT)
        *finished, last = split_sentences(text)
        first_wrong = next((s for s in split_sentences(plain) if not is_right(s)), "")
        same = plain[: plain.index(first_wrong)] if first_wrong else plain
        assert text.startswith(same.rstrip())
        assert counts.right == counts.sentences >= counts.first_right
        assert all(map(is_right, finished))
        assert is_right(last) or last[-1] not in ".!?"
        assert len(both[0].encode(text)) <= 60 + len(both[0].encode(prompt))
        redrawn += counts.sentences - counts.first_right
    assert redrawn > 2


@pytest.mark.parametrize("index", [0, 1], ids=["jax", "torch"])
def test_streams_and_lists_are_the_texts(both: tuple[Any, Any], index: int) -> None:
    model, prompt = both[index], "Sīr vali"
    texts = [model.generate_grammatical(prompt, seed=seed, **HOT).text for seed in range(4)]
    assert [model.generate(prompt, seed=s, grammatical=True, **HOT) for s in range(4)] == texts
    assert model.generate([prompt] * 4, seeds=[*range(4)], grammatical=True, **HOT) == texts
    assert model.generate([prompt] * 3, seed=1, grammatical=True, **HOT) == texts[1:]
    assert model.generate([], grammatical=True) == []
    pieces = [*model.stream(prompt, seed=3, grammatical=True, **HOT)]
    assert prompt + "".join(pieces) == texts[3]
    assert "" not in pieces
    stop = texts[3][20:22]
    expected = texts[3][: texts[3].index(stop, len(prompt))]
    assert model.generate(prompt, seed=3, stop=stop, grammatical=True, **HOT) == expected


def test_a_redraw_is_a_text_of_its_seed(both: tuple[vx.Model, bridge.Model]) -> None:
    model = both[0]
    for seed in range(12):
        sample = resolve_sample_config(model.bundle, {**HOT, "seed": seed})
        first = next(draw_sentences(model.generate_tokens, model.tokenizer, sample))
        redraw = (seed + (first.draws - 1) * SEED_STEP) % 2**32
        assert model.generate(seed=redraw, **HOT).startswith(model.decode(first.ids))


@pytest.mark.parametrize(("program", "command"), PROGRAMS, ids=["sample", "generate"])
def test_commands_print_it_and_say_how_many_were_right(
    program: click.Command,
    command: str,
    both: tuple[vx.Model, bridge.Model],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = [both[0].generate_grammatical("Sīr vali", seed=seed, **HOT) for seed in range(3)]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in HOT.items()]
    options += ["--prompt", "Sīr vali", "--grammatical"]

    def run(*arguments: Any) -> tuple[int, str, str]:
        return call(program, capsys, monkeypatch, command, SHIPPED_MODEL, *options, *arguments)

    status, out, err = run("--seed", 1)
    assert (status, out) == (0, results[1].text + "\n")
    (line,) = err.splitlines()
    counts = results[1].counts
    assert line.startswith(f"{counts.first_right} of {counts.sentences} sentence")
    _, out, err = run("--seed", 1, "--show-tokens")
    assert out.replace("|", "") == results[1].text + "\n"
    _, out, err = run("--num-samples", 3)
    assert out == "".join(f"[seed {i}] {result.text}\n" for i, result in enumerate(results))
    first_right = sum(result.counts.first_right for result in results)
    sentences = sum(result.counts.sentences for result in results)
    assert err.startswith(f"{first_right} of {sentences} sentences were right when first drawn")
    _, out, err = run("--num-samples", 3, "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"seed": seed, "text": result.text, **vars(result.counts)}
        for seed, result in enumerate(results)
    ]
    assert err == ""


def test_other_models_are_refused(
    package: ModuleType,
    model: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for method in (model.generate, model.stream):
        with pytest.raises(package.UserError, match="need a model of High Valyrian"):
            method("the wolf", grammatical=True)
    with pytest.raises(package.UserError, match="need a model of High Valyrian"):
        model.generate_grammatical("the wolf")
    for program, command in PROGRAMS:
        arguments = command, model.directory, "--grammatical", "--num-samples", 2
        status, out, err = call(program, capsys, monkeypatch, *arguments)
        assert (status, out) == (2, "")
        assert_one_line_error(err, "need a model of High Valyrian")
