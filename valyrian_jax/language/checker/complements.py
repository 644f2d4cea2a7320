"""The complements of verbs: those that a verb has, and those that a template requires."""

from functools import cache

from valyrian_jax.language.words.lexicon import Lexeme

# The complements that a kind of frame has; all other kinds have none.
_COMPLEMENTS = {
    "transitive": ("object",),
    "have": ("object",),
    "tool": ("object",),
    "benefit": ("object",),
    "give": ("dative and object", "object"),
    "likes": ("dative",),
    "wish": ("infinitive",),
    "copula": ("predicate",),
    "located": ("place",),
}
_NO_COMPLEMENT = ("nothing",)


@cache
def required_complements(kinds: str) -> frozenset[str]:
    """Return the complements of kinds of frames; `=kind`, infinitives and `any` are themselves."""
    return frozenset(
        kind
        if kind == "any" or kind[0] == "=" or kind.endswith("gon")
        else _COMPLEMENTS.get(kind, _NO_COMPLEMENT)[0]
        for kind in kinds.split("|")
    )


@cache
def complements_of(verb: Lexeme) -> frozenset[str]:
    """Return the complements of a verb in all its frames, and its exact kinds."""
    kinds = [frame.split()[0] for frame in verb.frame.split(";") if frame]
    complements = {c for kind in kinds for c in _COMPLEMENTS.get(kind, _NO_COMPLEMENT)}
    if not kinds:  # The complement of this verb is not known.
        complements = {"nothing", "object", "dative", "dative and object", "place"}
    if "speak" in kinds:
        complements.add("object")
    if "predicate" not in complements:
        complements.add("any")
    return frozenset((*complements, verb.lemma, *(f"={kind}" for kind in kinds)))
