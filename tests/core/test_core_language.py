"""The glossary's words hold in every text that a person reads, and Markdown has one sentence a line."""

import re
from typing import NamedTuple

import pytest

from support.imports import ROOT
from support.texts import KINDS, markdown_files, prose, without_code

# Far fewer texts than these means that the search looks in the wrong place.
LEAST = {"markdown": 400, "python": 3000, "javascript": 200, "settings": 30, "workflows": 20}
ABBREVIATIONS = ("e.g.", "i.e.", "vs.", "et al.")
ENDING = re.compile(r"[.!?:;…]['\")*_`\]]*$")
NEXT_SENTENCE = re.compile(r"[.!?]['\")*_]* +(?=[*_\"'(\[]*[A-Z])")


class Entry(NamedTuple):
    """One line of the glossary's table of words to avoid."""

    avoid: re.Pattern[str]
    write: str
    fine: re.Pattern[str] | None


def phrases(cell: str) -> re.Pattern[str] | None:
    """A pattern for phrases with commas between them; `*` stands for any ending."""
    words = [re.escape(part.strip()).replace(r"\*", r"\w*").replace(r"\ ", r"\s+") for part in cell.split(",")]
    found = "|".join(word for word in words if word)
    return re.compile(rf"(?<![\w-])(?:{found})(?![\w-])", re.IGNORECASE) if found else None


def entries() -> list[Entry]:
    """The table in docs/glossary.md."""
    table = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").partition("## Words to avoid")[2]
    rows = [line.strip("| ").split("|") for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in (*row, "")[:3]] for row in rows if len(row) >= 2]
    return [Entry(phrases(avoid), write, phrases(fine)) for avoid, write, fine in cells if avoid != "avoid"]


ENTRIES = entries()


def faults(text: str) -> list[tuple[int, str, str]]:
    """(line within the text, word, what to write instead) of every word to avoid."""
    text = without_code(text)
    found = []
    for entry in ENTRIES:
        rest = entry.fine.sub(lambda match: "x" * len(match[0]), text) if entry.fine else text
        found += [
            (rest[: m.start()].count("\n"), " ".join(m[0].split()), entry.write) for m in entry.avoid.finditer(rest)
        ]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_a_word_to_avoid(kind):
    texts = list(KINDS[kind]())
    assert len(texts) >= LEAST[kind]
    bad = [
        f'{text.path.relative_to(ROOT)}:{text.line + line}: "{word}", write: {write}'
        for text in texts
        for line, word, write in faults(text.text)
    ]
    assert not bad, "\n".join([f"{len(bad)} words of docs/glossary.md's list to avoid:", *bad])


def test_the_list_is_the_glossarys():
    assert len(ENTRIES) >= 20
    assert all(entry.write for entry in ENTRIES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The hand is kept on the path.", ["hand"]),
        ("Averaged weights, in another number\ntype", ["number type", "Averaged weights"]),
        ("written by hand; a handle; `hand`; **wordings**; --wordings; see [this](a/hand/b)", []),
        ("the model card on a card of 24 GB", ["card"]),
        ("it was carried\nout anew", ["carried out", "anew"]),
        ("Shall it?", ["Shall"]),
    ],
)
def test_words_are_found(text, words):
    assert [word for _, word, _ in faults(text)] == words


def sentences(lines):
    """(number, fault) of prose lines that hold two sentences, or a part of one."""
    for (number, line), (after, following) in zip(lines, [*lines[1:], (0, "")], strict=True):
        text = re.sub(r"^\s*(?:[-*>]|\d+\.)\s+", "", line)
        if not text.strip() or text.lstrip().startswith(("|", "#", "![", "<")):
            continue
        plain = re.sub(r"`[^`]*`", "`x`", text)
        for short in ABBREVIATIONS:
            plain = plain.replace(short, short.replace(".", ""))
        if NEXT_SENTENCE.search(plain):
            yield number, "two sentences"
        goes_on = after == number + 1 and following.strip() and not re.match(r"\s*(?:[-*>|#!<]|\d+\.)", following)
        if goes_on and not ENDING.search(plain.rstrip()):
            yield number, "a sentence goes on in the next line"


def test_markdown_has_one_sentence_a_line():
    files = markdown_files()
    assert len(files) >= 50
    bad = [f"{file.relative_to(ROOT)}:{number}: {fault}" for file in files for number, fault in sentences(prose(file))]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (["One. Two."], 1),
        (["Half a", "sentence."], 1),
        (["- One, e.g. This.", "- Two."], 0),
        (["| a. B | c |", "", "`a. B` is code."], 0),
    ],
)
def test_sentences_are_told_apart(lines, count):
    assert len(list(sentences(list(enumerate(lines, start=1))))) == count
