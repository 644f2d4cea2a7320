"""The grammatical categories of High Valyrian, and the number of words that agree."""

CASES = ("nom", "acc", "gen", "dat", "loc", "ins", "com", "voc")
NUMBERS = ("sg", "pl", "paucal", "collective")
GENDERS = ("lunar", "solar", "terrestrial", "aquatic")
# An adjective comes after its noun, before it, or before it and before a vowel.
POSITIONS = ("full", "prepositive", "prevocalic")
PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p")
TENSES = ("present", "aorist", "future", "imperfect", "perfect", "pluperfect", "past habitual")
MOODS = (
    "indicative",
    "subjunctive",
    "passive",
    "passive subjunctive",
    "imperative",
    "infinitive",
    "participle",
)
NO_PERSON = "invariable"  # the person of infinitives and participles


def concord_number(number: str) -> str:
    """Return the number of agreeing words: "sg" for collectives, "pl" for paucals.

    Source: Najahho, "Number".
    """
    return "sg" if number in ("sg", "collective") else "pl"
