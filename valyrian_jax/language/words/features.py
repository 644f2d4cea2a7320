"""The features of a form, for people: abbreviated, in plain words, and by the Leipzig rules."""

from collections.abc import Iterable, Sequence

from valyrian_jax.language.words.analysis import FEATURES, Reading

FEATURE_NAMES = {
    "nom": "nominative",
    "acc": "accusative",
    "gen": "genitive",
    "dat": "dative",
    "loc": "locative",
    "ins": "instrumental",
    "com": "comitative",
    "voc": "vocative",
    "sg": "singular",
    "pl": "plural",
    "1": "first person",
    "2": "second person",
    "3": "third person",
    "full": "after the noun",
    "prepositive": "before the noun",
    "prevocalic": "before the noun and a vowel",
}
"""Words for the values of features that are abbreviated."""

# Most are from https://www.eva.mpg.de/lingua/resources/glossing-rules.php; our own are the genders,
# AOR (aorist), COLL (collective), HAB (habitual), PAUC (paucal) and PLUP (pluperfect).
LEIPZIG = {
    **{case: case.upper() for case in ("nom", "acc", "gen", "dat", "loc", "ins", "com", "voc")},
    **{"sg": "SG", "pl": "PL", "paucal": "PAUC", "collective": "COLL"},
    **{"lunar": "LUN", "solar": "SOL", "terrestrial": "TER", "aquatic": "AQ"},
    **{"present": "PRS", "aorist": "AOR", "future": "FUT", "imperfect": "IMPF"},
    **{"perfect": "PRF", "pluperfect": "PLUP", "past habitual": "PST.HAB"},
    **{"indicative": "", "subjunctive": "SBJV", "imperative": "IMP", "infinitive": "INF"},
    **{"participle": "PTCP", "passive": "PASS", "passive subjunctive": "PASS.SBJV"},
}
"""Abbreviations of values by the Leipzig Glossing Rules; the indicative is not marked."""

_SHOWN = {  # The features of each class of words, in the order of a description.
    "noun": ("case", "number"),
    "adjective": ("case", "number", "gender", "position"),
    "verb": ("person", "number", "tense", "mood"),
    "word": (),
}


def merge_readings(readings: Iterable[Reading]) -> list[tuple[Reading, str]]:
    """Return a reading of every word, and the features of all its readings: "gen/dat/loc pl"."""
    return [
        (group[0], ", ".join(map(_abbreviate, _merge_features(group, FEATURES))))
        for group in group_readings(readings)
    ]


def group_readings(readings: Iterable[Reading]) -> list[list[Reading]]:
    """Group the readings that differ only in their features."""
    groups: dict[tuple[object, ...], list[Reading]] = {}
    for reading in readings:
        key = reading.lexeme, reading.coordinated, reading.attested
        groups.setdefault(key, []).append(reading)
    return [*groups.values()]


def describe_features(readings: Sequence[Reading]) -> str:
    """Describe the features of readings of one word: "genitive, dative or locative plural"."""
    rows = _merge_features(readings, _SHOWN[readings[0].word_class])
    return "; ".join(filter(None, map(_describe_row, rows)))


def abbreviate_features(reading: Reading) -> str:
    """Return the features by the Leipzig Glossing Rules: "NOM.PL", "SBJV.PRS.3SG"."""
    if reading.word_class == "verb":
        number = LEIPZIG.get(reading.number, "")
        parts = [LEIPZIG[reading.mood], LEIPZIG[reading.tense], reading.person + number]
    else:
        gender = reading.gender if reading.word_class == "adjective" else ""
        parts = [LEIPZIG.get(value, "") for value in (reading.case, reading.number, gender)]
    return ".".join(filter(None, parts))


_Row = tuple[tuple[str, ...], ...]


def _merge_features(readings: Iterable[Reading], names: Sequence[str]) -> list[_Row]:
    """Merge rows of features that differ in one value: (nom, acc), (sg,).

    Gender and person of a noun are those of the word, and are left out.
    """
    rows = list(dict.fromkeys(_list_features(reading, names) for reading in readings))
    for index in range(len(names)):
        merged: dict[_Row, list[str]] = {}
        for row in rows:
            merged.setdefault((*row[:index], *row[index + 1 :]), []).extend(row[index])
        rows = [
            (*rest[:index], tuple(dict.fromkeys(values)), *rest[index:])
            for rest, values in merged.items()
        ]
    return rows


def _list_features(reading: Reading, names: Sequence[str]) -> _Row:
    hidden = ("gender", "person") if reading.word_class == "noun" else ()
    return tuple(() if name in hidden else (getattr(reading, name),) for name in names)


def _abbreviate(row: _Row) -> str:
    return " ".join(filter(None, ("/".join(filter(None, values)) for values in row)))


def _describe_row(row: _Row) -> str:
    parts = []
    for values in row:
        shown = [FEATURE_NAMES.get(value, value) for value in values if value]
        if "prepositive" in values:  # Before a vowel, too, is before the noun.
            shown = [] if "full" in values else [FEATURE_NAMES["prepositive"]]
        text = " or ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
        parts.append(text.replace(" person or", " or"))
    return " ".join(filter(None, parts))
