"""Natural languages of texts as codes of ISO 639, which py3langid tells from 600 characters of each: beginning, middle and end."""

import functools
from typing import Any

from codemix_megatron.readers.documents import Document

__all__ = ["UNDETERMINED", "identify_language", "known_text_languages", "text_language"]

UNDETERMINED = "und"  # ISO 639's code for it; "zxx", no linguistic content, is py3langid's own finding
STRETCHES, STRETCH_CHARACTERS = 3, 200
LEAST_CONFIDENCE = 0.5


def text_language(document: Document) -> str | None:
    """Return the natural language of a document: what it says itself, else what it reads like; None where it says a language of programs."""
    if document.language is None:
        return identify_language(document.text)
    said = document.language.lower().replace("_", "-").partition("-")[0]
    return said if said in known_text_languages() else None


def identify_language(text: str) -> str:
    """Return the code of a text's language.

    >>> identify_language("Die Katze schläft den ganzen Tag auf dem Sofa."), identify_language("猫は一日中ソファで寝ている。")
    ('de', 'ja')
    """
    step = max(0, len(text) - STRETCH_CHARACTERS) // (STRETCHES - 1)
    numbers = range(STRETCHES) if step > STRETCH_CHARACTERS else ()
    sample = " ".join(text[number * step : number * step + STRETCH_CHARACTERS] for number in numbers)
    language, confidence = identifier().classify(sample or text[: STRETCHES * STRETCH_CHARACTERS])
    return language if confidence >= LEAST_CONFIDENCE else UNDETERMINED


@functools.cache
def known_text_languages() -> frozenset[str]:
    """Return every code there is."""
    return frozenset([*identifier().labels, UNDETERMINED])


@functools.cache
def identifier() -> Any:
    """Return the library's model, which takes 0.1 to 1 second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
