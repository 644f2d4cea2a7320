"""Commands for words of the language: the dictionary and interlinear glosses."""

from collections import Counter

import click

from valyrian_jax.cli.language_commands import read_sentences
from valyrian_jax.cli.options import decode_argument, json_option, text_key_option
from valyrian_jax.tokenizer.display import print_text, print_words, to_json


@click.command(epilog="Example: python -m valyrian_jax word zaldrizoti dragon")
@click.argument("queries", metavar="WORD...", nargs=-1, required=True)
@json_option
def word(queries: tuple[str, ...], as_json: bool) -> int:
    """Look up words in the dictionary, from High Valyrian or from English.

    A WORD of High Valyrian can have any form; macrons and capitals may be missing. The answer says
    what the form is, what the word means, and how it inflects. It includes a sentence with the word
    if a source has one.

    The exit status is 3 if a word is not found.
    """
    from valyrian_jax.cli.entries import choose_shown, format_look_up
    from valyrian_jax.language.dictionary import look_up, look_up_record
    from valyrian_jax.language.words.lexicon import Lexeme

    if not all(query.strip() for query in queries):
        raise click.UsageError("a WORD is empty; expected at least one letter")
    results = [look_up(decode_argument(query)) for query in queries]
    printed = list[Lexeme]()
    for index, result in enumerate(results):
        if as_json:
            print_text(to_json(look_up_record(result)))
        else:
            print_words(["\n" * (index > 0), *format_look_up(result, printed)])
            printed += [entry.lexeme for entry in choose_shown(result.entries)]
    return 0 if all(result.entries for result in results) else 3


@click.command(epilog="Example: python -m valyrian_jax language --table zaldrīzes")
@click.option("--table", "query", required=True, metavar="WORD", help="Word in any form.")
@json_option
def language(query: str, as_json: bool) -> None:
    """Print all forms of a word, as `word` does."""
    from valyrian_jax.cli.entries import find_entries, format_entry
    from valyrian_jax.language.words.paradigm import paradigm_record

    for index, entry in enumerate(find_entries(decode_argument(query))):
        if as_json:
            print_text(to_json(paradigm_record(entry.lexeme)))
        else:
            print_words(["\n" * (index > 0), format_entry(entry)])


@click.command(epilog='Example: python -m valyrian_jax gloss "Sīr vali kari issi."')
@click.argument("inputs", metavar="[FILE|-|SENTENCE]", nargs=-1)
@click.option("--all", "with_others", is_flag=True, help="List the other analyses of each word.")
@text_key_option
@json_option
def gloss(inputs: tuple[str, ...], with_others: bool, text_key: str, as_json: bool) -> int:
    """Print under every word of a text what it is and what it means.

    The second line has the analysis by the Leipzig Glossing Rules, such as man-NOM.PL; the third
    has the meanings of the dictionary. The grammar decides between several analyses if it accepts
    the sentence; otherwise the first one is printed. FILE is read as `check` reads it.

    The exit status is 3 if a word is unknown.
    """
    from valyrian_jax.cli.glosses import format_glosses

    counts = Counter[str]()
    for lines in format_glosses(read_sentences(inputs, text_key), as_json, with_others, counts):
        print_text(lines)
    return 3 if counts["unknown"] else 0
