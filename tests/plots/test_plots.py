"""Figures show the logged values."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps

from tests.support.commands import call
from valyrian_jax.bundle.lens import Lens
from valyrian_jax.cli.main import main
from valyrian_jax.errors import UserError
from valyrian_jax.plots.attention import draw_attention
from valyrian_jax.plots.curves import draw_curves, read_curves, thin_points
from valyrian_jax.plots.lens import draw_lens
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.tokenizer.display import token_label

ROOT = Path(__file__).parents[2]


def write_run(
    directory: Path, bits: float | None = 0.6, entropy: float | None = 0.8, steps: int = 40
) -> Path:
    """Write a run with a loss of 5 - step / 10 nats per token, `bits` times that per byte."""
    directory.mkdir()
    (directory / "config.toml").touch()
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 5 - step / 10
        lines.append(
            {
                "step": step,
                "train/loss": loss,
                "train/learning_rate": 1e-3,
                "train/tokens_per_second": 2e4,
            }
        )
        if step % 10 == 0 and bits:
            lines[-1] |= {"held_out/nats_per_token": loss, "held_out/bits_per_byte": bits * loss}
            if entropy:
                lines[-1] |= {"held_out/entropy_bits_per_byte": entropy}
            lines.append({"step": step, "samples": ["text"]})
            lines.append({"step": step, "samples/grammatical": step / 100})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def lines_by_label(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_one_run_is_drawn_above_the_entropy_of_its_source(tmp_path: Path) -> None:
    figure = draw_curves([read_curves(write_run(tmp_path / "one_$run_🐉"))])
    assert figure.get_suptitle() == r"one_$run_\U0001f409"  # the font lacks it
    losses, *panels = figure.axes
    drawn = lines_by_label(losses)
    assert drawn.keys() == {"training", "held out", "entropy of the source, 0.8000 bits per byte"}
    np.testing.assert_allclose(
        drawn["held out"].get_xydata(), [(s, 0.6 * (5 - s / 10)) for s in (10, 20, 30, 40)]
    )
    np.testing.assert_allclose(
        drawn["training"].get_ydata(), [0.6 * (5 - s / 10) for s in range(1, 41)]
    )
    assert {*drawn["entropy of the source, 0.8000 bits per byte"].get_ydata()} == {0.8}
    assert losses.get_ylim()[0] < 0.6 * 1.0 < 0.6 * 4 < losses.get_ylim()[1]
    assert losses.get_ylabel() == "loss (bits per byte)"
    (right,) = losses.child_axes
    assert right.get_ylabel() == "nats per token"
    figure.draw_without_rendering()  # sets the limits of the second axis
    assert right.get_ylim()[0] == pytest.approx(losses.get_ylim()[0] / 0.6)
    assert [axes.get_title() for axes in panels] == [
        "learning rate",
        "thousand tokens/s",
        "grammatical sentences (%)",
    ]
    np.testing.assert_allclose(panels[2].get_lines()[0].get_ydata(), [10, 20, 30, 40])
    np.testing.assert_allclose(panels[1].get_lines()[0].get_ydata(), [20] * 40)
    assert all(axes.get_xlabel() == "step" for axes in figure.axes)


def test_several_runs_differ_in_colour_and_marker_and_share_the_entropy_line(
    tmp_path: Path,
) -> None:
    names = [f"_run{i}" for i in range(9)]
    losses = draw_curves([read_curves(write_run(tmp_path / name)) for name in names]).axes[0]
    held_out = [
        line for label, line in lines_by_label(losses).items() if label.startswith("held out")
    ]
    assert len({(line.get_color(), line.get_marker()) for line in held_out[:7]}) == 7
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == [
        *(f"held out, {name}" for name in names),
        "entropy of the source, 0.8000 bits per byte",
    ]


def test_losses_are_in_nats_if_a_run_has_no_evaluation(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "evaluated"), write_run(tmp_path / "new", bits=None)]
    losses = draw_curves([read_curves(run) for run in runs]).axes[0]
    assert losses.get_ylabel() == "loss (nats per token)"
    np.testing.assert_allclose(
        lines_by_label(losses)["held out, evaluated"].get_ydata(), [4, 3, 2, 1]
    )
    assert not losses.child_axes
    assert {"held out, evaluated", "training, new"} < lines_by_label(losses).keys()


def test_short_lines_have_markers_and_a_spike_does_not_hide_the_rest(tmp_path: Path) -> None:
    one = lines_by_label(draw_curves([read_curves(write_run(tmp_path / "one", steps=1))]).axes[0])[
        "training"
    ]
    assert one.get_marker() == "o"
    run = write_run(tmp_path / "spike", steps=400)
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 401, "train/loss": 1e4}\n')
    assert draw_curves([read_curves(run)]).axes[0].get_ylim()[1] < 10


def test_long_runs_are_drawn_as_means_of_neighbours() -> None:
    steps = np.arange(1234.0)
    thin_steps, thin_values = thin_points((steps, 2 * steps))
    assert 250 <= len(thin_steps) <= 500
    np.testing.assert_allclose(thin_values, 2 * thin_steps)
    np.testing.assert_allclose(thin_steps[:2], [1, 4])  # means of three
    assert thin_points((steps[:500], steps[:500]))[1] is not None
    assert len(thin_points((steps[:500], steps[:500]))[0]) == 500


def test_the_command_draws_one_run_or_compares_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("a"))
    write_run(Path("b"))
    assert call(main, capsys, monkeypatch, "plot", "a") == (0, "a/loss.png\na/loss.svg\n", "")
    first = Path("a/loss.png").read_bytes(), Path("a/loss.svg").read_bytes()
    assert (
        call(main, capsys, monkeypatch, "plot", "a", "-o", "again.v2")[1]
        == "again.v2.png\nagain.v2.svg\n"
    )
    assert (
        Path("again.v2.png").read_bytes(),
        Path("again.v2.svg").read_bytes(),
    ) == first  # the same run gives the same files
    assert call(main, capsys, monkeypatch, "plot", "a", "b") == (
        0,
        "a/comparison.png\na/comparison.svg\n",
        "",
    )
    for arguments, message in (
        (["a", "--attention"], "--attention and --prompt TEXT go together"),
        (["a", "--lens"], "--lens and --prompt TEXT go together"),
        (["a", "--prompt", "x"], "--attention or --lens and --prompt TEXT go together"),
        (["a", "--lens", "--attention", "--prompt", "x"], "--attention and --lens are two"),
        (["a", "b", "--lens", "--prompt", "x"], "--lens takes one RUN"),
        (["a", "b", "--attention", "--prompt", "x"], "--attention takes one RUN"),
        (["a", "-o", "no/such/place"], "No such file or directory"),
        (["a", "-o", "."], "cannot write .: it is a directory; expected the name of a file in it"),
        (
            ["a", "-o", ".."],
            "cannot write ..: it is a directory; expected the name of a file in it",
        ),
        (["a", "--attention", "--prompt", "x"], "a has no bundle yet"),
        (["nowhere"], "nowhere is not a run directory"),
    ):
        status, out, err = call(main, capsys, monkeypatch, "plot", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err


def test_labels_show_invisible_characters() -> None:
    tokenizer = train_bpe("ab ab 夜", 258)
    tokens = [*tokenizer.encode(" a\n夜"), tokenizer.end_of_text]
    labels = [token_label(tokenizer, token) for token in tokens]
    assert labels == ["␣", "a", r"\n", r"\xe5", r"\xa4", r"\x9c", "<|endoftext|>"]


def test_every_layer_and_head_has_a_triangular_map() -> None:
    rng = np.random.default_rng(0)
    weights = np.tril(rng.dirichlet(np.ones(5), (2, 3, 5))).astype(np.float32)
    figure = draw_attention(["a", "夜", "$x$", "␣d", "e"], weights)
    axes = figure.axes[0]
    image = axes.images[0].get_array()
    assert image.shape == (5 + 1 + 5, 5 + 1 + 5 + 1 + 5, 4)
    future = np.triu(np.ones((5, 5), bool), 1)
    for layer, head in np.ndindex(2, 3):
        colours = image[6 * layer : 6 * layer + 5, 6 * head : 6 * head + 5]
        np.testing.assert_allclose(
            colours[~future], colormaps["Blues"](weights[layer, head], bytes=True)[~future]
        )
        assert len(np.unique(colours[future], axis=0)) == 1
        # No weight has the grey of the future.
        assert not (colours[~future][:, None] == colours[future][None]).all(-1).any()
    names = ["a", r"\u591c", "$x$", "␣d", "e"]
    assert [text.get_text() for text in axes.get_yticklabels()] == names * 2
    assert [text.get_text() for text in axes.get_xticklabels()] == names * 3
    heads, layers = axes.child_axes
    assert [text.get_text() for text in heads.get_xticklabels()] == ["head 0", "head 1", "head 2"]
    assert [text.get_text() for text in layers.get_yticklabels()] == ["layer 0", "layer 1"]
    figure.draw_without_rendering()  # a missing glyph would be a warning
    with pytest.raises(UserError, match="the prompt has 49 tokens, but a map shows at most 48"):
        draw_attention(["a"] * 49, np.zeros((1, 1, 49, 49), np.float32))


def test_a_lens_names_the_best_prediction_and_frames_those_that_come_true() -> None:
    predictions = [["b", "<|endoftext|>", "a"], ["夜", "c", "x" * 20]]
    probabilities = np.array([[[0.9], [0.1], [0.2]], [[0.3], [1.0], [0.0]]], np.float32)
    lens = Lens(["a", "b", "c"], predictions, np.zeros((2, 3, 1), np.int64), probabilities)
    figure = draw_lens(lens)
    axes = figure.axes[0]
    names = ["b", "<|endoftext|>", "a", r"\u591c", "c", "x" * 13 + "…"]
    assert [text.get_text() for text in axes.texts] == names
    np.testing.assert_array_equal(axes.images[0].get_array(), probabilities[..., 0])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["embedding", "layer 0"]
    corners = [patch.get_xy() for patch in axes.patches]
    assert np.round(corners).tolist() == [[0, 0], [1, 1]]  # a then b, and b then c
    figure.draw_without_rendering()
    long = lens._replace(tokens=["a"] * 49)
    with pytest.raises(UserError, match="the prompt has 49 tokens, but a lens shows at most 48"):
        draw_lens(long)


@pytest.mark.parametrize("kind", ["attention", "lens"])
def test_a_prompt_is_drawn_in_the_run_or_for_a_bundle_in_the_working_directory(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "tests" / "artifacts" / "0.1.0" / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    options = [f"--{kind}", "--prompt", "Vala ēdrus."]
    assert (
        call(main, capsys, monkeypatch, "plot", "run", *options)[1]
        == f"run/{kind}.png\nrun/{kind}.svg\n"
    )
    shutil.copytree("run/bundle", "gpt2")
    assert (
        call(main, capsys, monkeypatch, "plot", "gpt2", *options)[1] == f"{kind}.png\n{kind}.svg\n"
    )
    assert Path(f"{kind}.svg").read_bytes() == Path(f"run/{kind}.svg").read_bytes()
    long = [f"--{kind}", "--prompt", "Vala ēdrus. " * 9]
    status, _, err = call(main, capsys, monkeypatch, "plot", "gpt2", *long)
    assert (status, err.count("\n")) == (2, 1)
    assert "tokens, but the context of the model is" in err
