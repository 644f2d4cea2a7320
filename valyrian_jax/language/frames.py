"""Frames and forms: the product of what a verb combines with and of what the verb is used for.

A [[frame]] of `grammar.toml` lists the arguments and adjuncts of a verb in any order; a [[form]] is
a statement, a command, a relative clause ... Every frame in every form becomes a part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Table = Mapping[str, Any]


def expand_frames(frames: Sequence[Table], forms: Sequence[Table]) -> Iterator[dict[str, Any]]:
    """Yield the table of every frame in every form that it can have."""
    for frame in frames:
        for form in forms:
            if _fits(frame, form):
                yield _combine(frame, form)


def _fits(frame: Table, form: Table) -> bool:
    """Test whether a frame allows a form, and has the letters that the form leaves out."""
    letters = {_find_letter(word) for word in frame["words"].split()}
    is_named = form["name"] in frame.get("forms", [form["name"]])
    return (
        is_named
        and form["name"] not in frame.get("never", ())
        and letters >= {*_read_omitted(form)}
    )


def _combine(frame: Table, form: Table) -> dict[str, Any]:
    words = [
        form["verb"] if word == "V" else word
        for word in frame["words"].split()
        if _find_letter(word) not in _read_omitted(form)
    ]
    if "adds" in form:
        words.insert(words.index("{") + 1, form["adds"])
    roles = {key: value for key, value in {**frame, **form}.items() if len(key) == 1}
    return {
        # A second verb is like the first one.
        **{letter: roles["V"] if role == "=V" else role for letter, role in roles.items()},
        "template": f"{frame['name']}, {form['name']}",
        "weight": frame["weight"] * form["weight"],
        "words": " ".join([form.get("before", ""), *words]),
        "part": form["part"] + frame.get("suffix", ""),
        "head": form.get("head", "x"),
        "tense": form.get("tense", []),
    }


def _find_letter(word: str) -> str:
    return word.strip("()*").partition(":")[0]


def _read_omitted(form: Table) -> str:
    return str(form.get("without", ""))
