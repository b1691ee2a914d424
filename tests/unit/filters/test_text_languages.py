"""Natural languages of documents, as a field and as a filter. Judge: whoever speaks them."""

import pytest

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import load_filters
from codemix_megatron.filters.text_languages import identify_language, text_language
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.recipe.filtering import FilterSpec, filter_faults

SENTENCES = {
    "ar": "يذهب الأطفال إلى المدرسة كل صباح ويعودون إلى البيت بعد الظهر لتناول الغداء مع أسرهم.",
    "cs": "Děti chodí každé ráno do školy a odpoledne se vracejí domů, kde na ně čeká oběd.",
    "de": "Die Kinder gehen jeden Morgen zur Schule und kommen am Nachmittag zum Mittagessen nach Hause.",
    "el": "Τα παιδιά πηγαίνουν κάθε πρωί στο σχολείο και γυρίζουν το απόγευμα στο σπίτι για φαγητό.",
    "en": "The children walk to school every morning and come home in the afternoon to have their lunch.",
    "es": "Los niños van a la escuela todas las mañanas y vuelven a casa por la tarde para comer.",
    "fi": "Lapset menevät joka aamu kouluun ja palaavat iltapäivällä kotiin syömään lounasta.",
    "fr": "Les enfants vont à l'école tous les matins et rentrent à la maison l'après-midi pour déjeuner.",
    "hi": "बच्चे हर सुबह स्कूल जाते हैं और दोपहर में खाना खाने के लिए घर लौटते हैं।",
    "it": "I bambini vanno a scuola ogni mattina e tornano a casa nel pomeriggio per il pranzo.",
    "ja": "子どもたちは毎朝学校へ行き、午後には昼ご飯を食べに家へ帰ります。",
    "ko": "아이들은 매일 아침 학교에 가고 오후에는 점심을 먹으러 집에 돌아옵니다.",
    "nl": "De kinderen gaan elke ochtend naar school en komen 's middags thuis om te eten.",
    "pl": "Dzieci codziennie rano chodzą do szkoły, a po południu wracają do domu na obiad.",
    "pt": "As crianças vão à escola todas as manhãs e voltam para casa à tarde para almoçar.",
    "ru": "Дети каждое утро ходят в школу, а днём возвращаются домой, чтобы пообедать.",
    "sv": "Barnen går till skolan varje morgon och kommer hem på eftermiddagen för att äta lunch.",
    "th": "เด็ก ๆ ไปโรงเรียนทุกเช้าและกลับบ้านในตอนบ่ายเพื่อกินอาหารกลางวัน",
    "tr": "Çocuklar her sabah okula gider ve öğleden sonra yemek yemek için eve dönerler.",
    "zh": "孩子们每天早上去上学，下午回家吃午饭。",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_are_in_the_language_they_are_in(language):
    assert identify_language(SENTENCES[language]) == language
    assert identify_language(SENTENCES[language] * 40) == language


@pytest.mark.parametrize(("said", "found"), [("en", "en"), ("EN-us", "en"), ("pt_BR", "pt"), ("python", None), ("C++", None), (None, "de")])
def test_a_document_that_names_its_language_is_believed_and_programs_are_no_text(said, found):
    assert text_language(Document(SENTENCES["de"], "x", language=said)) == found


@pytest.mark.parametrize("text", ["", " ", "4711", "x = 1", "\0", "😀", "a" * 5000])
def test_what_is_in_no_language_raises_nothing(text):
    assert isinstance(identify_language(text), str)


def test_other_languages_are_dropped_and_counted_and_the_field_is_written(write_lines, spec_for, tokenizer):
    path = write_lines([{"text": f"{text} {i}"} for text in SENTENCES.values() for i in range(2)])
    kept = prepare_corpus("x", spec_for(path, filters=FilterSpec(text_languages=("de", "fr", "zh"))), tokenizer, HowToPrepare())
    assert {name: counted["documents"] for name, counted in kept.languages.items()} == {"de": 2, "fr": 2, "zh": 2}
    assert kept.dropped == {"text language": 2 * (len(SENTENCES) - 3)} and kept.dropped_examples["text language"][0].startswith("ar: ")
    spec = spec_for(path, prefix="out/all", filters=FilterSpec(text_languages=("any",)))
    named = prepare_corpus("x", spec, tokenizer, HowToPrepare())
    assert {name: counted["documents"] for name, counted in named.languages.items()} == dict.fromkeys(SENTENCES, 2)


def test_programs_pass_a_filter_of_text_languages():
    filters = load_filters(FilterSpec(text_languages=("en",)))
    assert filters.apply(Document("x = 1", "x", language="python")) == Document("x = 1", "x", language="python")
    assert isinstance(filters.apply(Document(SENTENCES["fr"], "x")), BadDocument)


def test_codes_that_are_none_are_named():
    with pytest.raises(CorpusError, match="filters.text_languages: found 'german', allowed are any and codes of ISO 639"):
        load_filters(FilterSpec(text_languages=("german",)))
    assert filter_faults(FilterSpec(text_languages=("any", "en")), "f") == ["f.text_languages: found any, en; `any` stands alone"]
