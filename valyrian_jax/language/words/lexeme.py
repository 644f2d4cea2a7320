"""A word of the lexicon."""

from dataclasses import dataclass

NOMINAL_POS = ("noun", "name", "pron")  # parts of speech that decline
ADJECTIVAL_POS = ("adj", "det", "num")  # parts of speech that agree with a noun
RULE = "rule"  # the source of a word that only a rule forms


@dataclass(frozen=True, eq=False)  # Comparing by identity makes it a cheap dictionary key.
class Lexeme:
    """A word of the lexicon.

    Attributes:
        lemma: Dictionary form: nominative singular, lunar nominative singular, or infinitive.
        pos: Part of speech: noun, name, adj, det, num, verb, pron, adp, conj, adv or interj.
        paradigm: Classes in the ending tables, the usual one first; "" if unknown, "indecl" if the
            word has one form only.
        stem: Stem that the endings attach to.
        perfect_stem: Stem of the perfect tenses; "" if unknown, and then the verb has none.
        gender: lunar, solar, terrestrial, aquatic or "".
        senses: What a noun is, what an adjective may describe, or the kind of an adverb; the main
            sense comes first.
        frame: How the word combines with others, in the notation of the README.
        gloss: English meaning.
        source: Keys of the sources, which the README lists.
    """

    lemma: str
    pos: str
    paradigm: str = ""
    stem: str = ""
    perfect_stem: str = ""
    gender: str = ""
    senses: tuple[str, ...] = ()
    frame: str = ""
    gloss: str = ""
    source: str = ""

    @property
    def is_inferred(self) -> bool:
        """Whether only a rule forms the word, and no source attests it."""
        return RULE in self.source.split()
