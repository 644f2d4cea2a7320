"""The words of the language: lexicon, inflection, analysis, spelling and paradigms."""
