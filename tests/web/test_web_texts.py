"""The trajectory editor's texts in all languages, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_web_editor_state import REFUSED, SIZE

ROOT = Path(__file__).resolve().parents[2]
TRANSLATIONS = ("de", "es", "fr", "ja", "ko", "zh")
PLACE = re.compile(r"\{(\w+)\}")
QUOTED = re.compile(r'"(\w+)"')
KEY = re.compile(r"[(\uff08](?:\w+\+)?([A-Z0])(?:\s?[:\uff1a].*)?[)\uff09]$")
USED = re.compile(r'(?:words\(|DocumentError\(|say\(|key: )"(\w+)"')


@pytest.fixture
def texts(ask):
    """`texts[language][key]`"""
    languages = ["en", *TRANSLATIONS]
    return dict(zip(languages, ask("texts", languages), strict=True))


def test_the_languages_are_those_of_the_nodes_and_english(ask):
    folders = {folder.name for folder in (ROOT / "locales").iterdir()}
    assert set(ask("languages", [None])[0]) == folders | {"en"} == {*TRANSLATIONS, "en"}


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_language_has_every_text(texts, language):
    english, translated = texts["en"], texts[language]
    assert list(translated) == list(english), "the same keys, in the same order"
    assert len(english) > 50
    for key, text in english.items():
        other = translated[key]
        assert other.strip() == other != "", key
        assert sorted(PLACE.findall(other)) == sorted(PLACE.findall(text)), key
        assert set(QUOTED.findall(text)) <= set(QUOTED.findall(other)), f"{key}: keys of the file stay as they are"
        if text.count(" ") > 1:
            assert other != text, key


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_keys_of_the_keyboard_stay(texts, language):
    checked = 0
    for key, text in texts["en"].items():
        if pressed := KEY.search(text):
            assert KEY.search(texts[language][key])[1] == pressed[1], key
            checked += 1
    assert checked == 13


def test_every_text_is_used_and_every_used_text_is_there(texts):
    sources = [*(ROOT / "web" / "editor").glob("*.js"), ROOT / "web" / "trajectory_editor.js"]
    used = {key for source in sources for key in USED.findall(source.read_text(encoding="utf-8"))}
    assert used == set(texts["en"])


def test_english_where_a_language_is_not_there(ask):
    locales = ["ja", "en", None, "", "zh-TW", "toString", "ru"]
    said = ask("words", [{"locale": locale, "key": "pathName"} for locale in locales])
    assert said == ["\u7d4c\u8def\u306e\u540d\u524d", *["Name of the path"] * 6]


def test_what_is_filled_in_is_shown_as_it_is(ask):
    values = {"name": "{count} $& <b>", "count": 1, "width": 2, "height": 3}
    (said,) = ask("words", [{"locale": "en", "key": "statusPath", "values": values}])
    assert said == "{count} $& <b>: points: 1, on 2 × 3 px"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_problems_say_where_in_every_language(ask, language):
    """All numbers of the English message, and no English, other than what stands in the file."""
    cases = [(text, locale) for text, _ in REFUSED for locale in ("en", language)]
    said = ask("problem", [{"text": text, "size": SIZE, "locale": locale} for text, locale in cases])
    for english, translated in zip(said[::2], said[1::2], strict=True):
        assert english != translated
        assert sorted(re.findall(r"\d+", english)) == sorted(re.findall(r"\d+", translated))
        assert "undefined" not in translated and not PLACE.search(translated)
        assert not re.search(r"\b(must|got|line|unexpected|the)\b", translated)
