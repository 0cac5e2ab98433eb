"""Translations of the nodes: whole, of the schema as it is now, and readable by every frontend's message format."""

import json
import re

import pytest

pytestmark = pytest.mark.comfyui
LANGUAGES = ("de", "es", "fr", "ja", "ko", "zh")
SUFFIX = re.compile(r"\s*[(\uff08].*[)\uff09]$")
# What vue-i18n reads as syntax. Older frontends compile every text, newer ones show tooltips as they are, so neither
# the plain characters nor their escaped form {'x'} are shown rightly by both.
SYNTAX = re.compile(r"[@${}|%\\]")
# ComfyUI's own words, which a plugin's file would replace for all of ComfyUI's nodes.
CORE_CATEGORIES = {"loaders", "training"}
# Words that are the same in every language: with an underscore, a capital behind the first letter, or a digit.
IDENTIFIER = re.compile(r"(?<![\w.])\.?\w*(?:_\w|[a-z][A-Z]|[A-Z]{2}|\d[A-Za-z]|[A-Za-z]\d)\w*")
TRANSLATED = {"KSampler"}
NUMBER = re.compile(r"\d+")


@pytest.fixture
def schemas(comfy):
    return {node_id: comfy.node(node_id).GET_SCHEMA() for node_id in comfy.own_node_ids()}


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture
def texts(repository, language):
    return read(repository, language, "nodeDefs")


def read(repository, language, kind):
    return json.loads((repository / "locales" / language / f"{kind}.json").read_text(encoding="utf-8"))


def leaves(texts):
    if isinstance(texts, str):
        return [texts]
    return [leaf for value in texts.values() for leaf in leaves(value)]


def pairs(schemas, texts):
    """(English, translated, options of the input) of every description and tooltip."""
    for node_id, schema in schemas.items():
        translated = texts[node_id]
        yield schema.description, translated["description"], ()
        for field in schema.inputs:
            options = [str(option) for option in getattr(field, "options", None) or ()]
            yield field.tooltip, translated["inputs"][field.id]["tooltip"], options
        for place, output in enumerate(schema.outputs):
            yield output.tooltip, translated["outputs"][str(place)]["tooltip"], ()


def test_the_languages_are_these(repository):
    """No English: ComfyUI takes it from the schema."""
    assert sorted(folder.name for folder in (repository / "locales").iterdir()) == list(LANGUAGES)
    for language in LANGUAGES:
        files = {file.name for file in (repository / "locales" / language).iterdir()}
        assert files == {"main.json", "nodeDefs.json"}, language


def test_the_keys_are_the_schemas(schemas, texts):
    assert texts.keys() == schemas.keys()
    for node_id, schema in schemas.items():
        node = texts[node_id]
        assert node.keys() == {"display_name", "description", "inputs", "outputs"}, node_id
        assert node["inputs"].keys() == {field.id for field in schema.inputs}, node_id
        assert node["outputs"].keys() == {str(place) for place in range(len(schema.outputs))}, node_id
        for entry in [*node["inputs"].values(), *node["outputs"].values()]:
            assert entry.keys() == {"name", "tooltip"}, node_id
    assert all(text.strip() == text != "" for text in leaves(texts))


def test_nothing_is_left_in_english(schemas, texts):
    for english, translated, _ in pairs(schemas, texts):
        assert translated != english
    for node_id in schemas:
        assert SUFFIX.search(texts[node_id]["display_name"]), "the plugin's name stands behind every node's"


def test_names_are_distinct(schemas, texts):
    names = [node["display_name"] for node in texts.values()]
    assert len(set(names)) == len(names) == len(schemas)
    for node_id, node in texts.items():
        for part in ("inputs", "outputs"):
            names = [entry["name"] for entry in node[part].values()]
            assert len(set(names)) == len(names), f"{node_id}: {part}"


def test_no_text_has_message_syntax(repository, language, texts):
    checked = leaves(texts) + leaves(read(repository, language, "main"))
    assert len(checked) > 200
    for text in checked:
        assert not SYNTAX.search(text), text


def names_option(english, option):
    """Whether a text speaks of an option; one of several words only where it is quoted or explained."""
    if " " in option:
        return f"'{option}'" in english or f"{option}:" in english
    return re.search(rf"\b{re.escape(option)}\b", english)


def test_options_numbers_and_identifiers_stay(schemas, texts):
    """A tooltip that explains options must name them as the widget shows them."""
    checked = 0
    for english, translated, options in pairs(schemas, texts):
        wanted = {option for option in options if names_option(english, option)}
        wanted |= {word.removesuffix("s") for word in IDENTIFIER.findall(english)} - TRANSLATED
        wanted |= set(re.findall(r"\{(\w+)\}", english)) | set(re.findall(r"`[^`]*`", english))
        for word in wanted:
            assert word in translated, f"{word!r} of {english!r} is not in {translated!r}"
        numbers = set(NUMBER.findall(english.replace('"x":12,"y":340', "")))
        assert numbers <= set(NUMBER.findall(translated)), f"numbers of {english!r} in {translated!r}"
        checked += len(wanted)
    assert checked > 100


def test_other_nodes_are_named_as_they_are_called(schemas, texts):
    names = {SUFFIX.sub("", schema.display_name): node_id for node_id, schema in schemas.items()}
    mention = re.compile("|".join(sorted((rf"\b{re.escape(name)}\b" for name in names), key=len, reverse=True)))
    checked = 0
    for english, translated, _ in pairs(schemas, texts):
        for name in mention.findall(english):
            called = SUFFIX.sub("", texts[names[name]]["display_name"])
            assert called in translated, f"{name} is called {called}, not so in {translated!r}"
            checked += 1
    assert checked > 30


def test_categories(repository, language, schemas):
    """The plugin's own categories, and none of ComfyUI's."""
    own = {part for schema in schemas.values() for part in schema.category.split("/")} - CORE_CATEGORIES
    assert read(repository, language, "main").keys() == {"nodeCategories"}
    assert read(repository, language, "main")["nodeCategories"].keys() == own
