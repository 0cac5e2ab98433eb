"""Texts from anywhere: encodings, JSON lines, CSV, and prompts longer than their encoder."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from support.data_files import config_of, lines_of, plain, write_frames
from support.small_world import config_for
from support.tiny_flux2 import TEXT_TOKENS, write_tiny_flux2
from training.cache.values import cut_prompts
from training.cache.write import cache
from training.data.prepare import prepare
from training.data.sources import open_source
from training.errors import TrainingError
from training.files import read_json, read_json_lines, read_text
from training.model.bases.registry import base_of_folder

TEXTS = [
    "put the red cube down",
    "zürich",
    "\u628a\u7ea2\u8272\u65b9\u5757\u653e\u5230\u76d8\u5b50\u91cc",
    "\u041f\u043e\u0441\u0442\u0430\u0432\u044c \u043a\u0443\u0431\u0438\u043a",
    "\U0001f916 push",
    "a\u2028b",
]
ENCODINGS = {
    "utf-8": b"", "utf-8-sig": b"", "utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff",
}  # fmt: skip


def encoded(text, name):
    return ENCODINGS[name] + text.encode(name)


def instructions(folder, name, data, episodes=("a", "b")):
    """Instructions of a folder of frames whose file holds `data`."""
    for episode in episodes:
        if not (folder / episode).exists():
            write_frames(folder / episode, [plain(step) for step in range(3)])
    for old in folder.glob("instructions.*"):
        old.unlink()
    (folder / name).write_bytes(data)
    return [entry.instruction for entry in open_source(folder).entries]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_text_is_the_same_in_every_encoding(tmp_path, name, text):
    (tmp_path / "a.txt").write_bytes(encoded(text, name))
    assert read_text(tmp_path / "a.txt", "text") == text
    (tmp_path / "a.json").write_bytes(encoded(json.dumps({"text": text}, ensure_ascii=False), name))
    assert read_json(tmp_path / "a.json", "record") == {"text": text}
    lines = "".join(json.dumps({"text": text, "n": n}, ensure_ascii=False) + "\r\n" for n in range(2))
    (tmp_path / "a.jsonl").write_bytes(encoded(lines, name))
    assert read_json_lines(tmp_path / "a.jsonl", "rows") == [(n + 1, {"text": text, "n": n}) for n in range(2)]


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_instructions_in_every_encoding_and_form(tmp_path, suffix, name):
    words = ["\u62ff\u8d77\u676f\u5b50", "ö, then push"]
    forms = {
        "csv": 'file,instruction\r\na,\u62ff\u8d77\u676f\u5b50\r\nb,"ö, then push"\r\n',
        "jsonl": "".join(
            json.dumps({"file": f, "text": t}, ensure_ascii=False) + "\n" for f, t in zip("ab", words, strict=True)
        ),
        "txt": "a\t\u62ff\u8d77\u676f\u5b50\nb\tö, then push",
    }
    assert instructions(tmp_path, f"instructions.{suffix}", encoded(forms[suffix], name)) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [("füge", "cp1252"), ("\u62ff\u8d77\u676f\u5b50", "gbk"), ("\u62ff\u8d77\u676f\u5b50", "shift_jis"),
     ("\u043a\u0443\u0431", "cp1251"), ("é", "latin-1"), ("push the cube", "utf-32"), ("push", "utf-16-le")],
)  # fmt: skip
@pytest.mark.parametrize("file", ["instructions.txt", "instructions.csv", "instructions.jsonl"])
def test_another_encoding_is_one_line_with_the_files_name(tmp_path, file, text, name):
    with pytest.raises(TrainingError, match=file.replace(".", r"\.")) as caught:
        instructions(tmp_path, file, f'file,instruction\na,"{text}"\n'.encode(name))
    assert str(caught.value).isprintable()


def test_any_bytes_are_a_text_or_one_line(tmp_path):
    random = np.random.default_rng(0)
    starts = [b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"file,instruction\n", b'{"file": "a"}\n']
    file = tmp_path / "instructions.csv"
    for number in range(400):
        count = int(random.integers(0, 40))
        file.write_bytes(starts[number % len(starts)] + random.integers(0, 256, count, np.uint8).tobytes())
        for read in (read_text, read_json, read_json_lines):
            try:
                read(file, "words")
            except TrainingError as error:
                assert str(error).isprintable() and str(file) in str(error)


def test_lines_end_where_json_says(tmp_path):
    """U+2028, U+0085 and form feeds are letters of a text, and an empty line is none."""
    words = ["a\u2028b", "a\u0085b", "a\u2029b", "x"]
    rows = [json.dumps({"file": n, "text": t}, ensure_ascii=False) for n, t in zip("abcd", words, strict=True)]
    data = "\n\n".join(rows).encode()
    assert [row["text"] for _, row in read_json_lines_of(tmp_path, data)] == words
    seen = instructions(tmp_path / "set", "instructions.jsonl", data, "abcd")
    assert seen == ["a b", "a b", "a b", "x"]


def read_json_lines_of(folder, data):
    (folder / "rows.jsonl").write_bytes(data)
    return read_json_lines(folder / "rows.jsonl", "rows")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_what_the_library_writes(tmp_path, delimiter, end):
    words = ['take "it", then\npush; wait', "put the cup\r\nthen go"]
    stream = io.StringIO()
    rows = [("File", "Instruction", "note"), *((n, w, "") for n, w in zip("ab", words, strict=True))]
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows(rows)
    seen = instructions(tmp_path, "instructions.csv", stream.getvalue().encode())
    assert seen == ['take "it", then push; wait', "put the cup then go"]


@pytest.mark.parametrize(
    "data",
    [
        "\ufefffile;instruction\r\na;pick up, then place\r\nb;push\r\n".encode(),
        "file\tinstruction\r\na\tpick up, then place\r\nb\tpush\r\n".encode("utf-16"),
        b'file,instruction\ra,"pick up, then place"\rb,push\r',
        b'\n\nfile,instruction\n\na,"pick up, then place"\n\nb,push\n\n',
        b'FILE, Instruction\na, "pick up, then place"\nb, push\n',
        b'file,instruction,\na,"pick up, then place",\nb,push,\n',
    ],
    ids=["Excel, semicolons", "Excel, Unicode text", "old Mac", "empty lines", "spaces", "a comma at the end"],
)
def test_tables_of_spreadsheets_are_read(tmp_path, data):
    assert instructions(tmp_path, "instructions.csv", data) == ["pick up, then place", "push"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,instruction\na,push, then pull\nb,x\n", "line 2 must have 2 cells as the heading has, got 3"),
        ("file;instruction\na;push; then pull\n", "line 2 must have 2 cells"),
        ('file,instruction\na,"push\nb,pull\n', "cannot be read as CSV"),
        ("name,words\na,push\n", "must have a name .* and a text"),
        ("file,instruction\na\n", "must have a name .* and a text"),
        ("file,instruction\na,x\na,y\n", "line 3 names 'a' a second time"),
    ],
)
def test_a_csv_that_loses_words_is_refused(tmp_path, text, message):
    with pytest.raises(TrainingError, match=rf"instructions\.csv.*{message}"):
        instructions(tmp_path, "instructions.csv", text.encode())


@pytest.mark.parametrize("value", [3, 1.5, True, ["push"], {"en": "push"}, "\ud800"])
def test_what_is_no_text_never_becomes_words(tmp_path, value):
    lines = json.dumps({"file": "a", "instruction": value}) + "\n"
    with pytest.raises(TrainingError, match="line 1 must have a text as instruction"):
        instructions(tmp_path, "instructions.jsonl", lines.encode())


def test_an_instruction_reaches_the_pairs(tmp_path):
    for name, text in (("a", TEXTS[2]), ("b", TEXTS[3])):
        write_frames(tmp_path / "set" / name, [plain(20 * step) for step in range(9)])
        (tmp_path / "set" / name / "instruction.txt").write_bytes(encoded(text + "\r\n", "utf-16"))
    prepare(config_of(tmp_path, tmp_path / "set"))
    assert all(text.lower() in line["text"].lower() for line, text in zip(lines_of(tmp_path), TEXTS[2:4], strict=True))


def test_prompts_longer_than_flux1s_encoders_are_counted(world):
    from training.model.text import TextEncoders

    encoders = TextEncoders.load(world / "base", tokens=100)
    prompts = ["push", "red cube " * 60, "red cube " * 200]
    counts = encoders.token_counts(prompts)
    assert {name: limit for name, (limit, _) in counts.items()} == {"T5": 100, "CLIP": 77}
    for name, tokenizer in (("T5", encoders.t5_tokenizer), ("CLIP", encoders.clip_tokenizer)):
        limit, lengths = counts[name]
        assert lengths == [len(tokenizer(prompt, verbose=False).input_ids) for prompt in prompts]
        over = [length - limit for length in lengths if length > limit]
        lines = [line for line in cut_prompts(counts) if f"tokens of {name}," in line]
        assert over and lines == [
            f"{len(over)} of 3 prompts are longer than the {limit} tokens of {name}, by up to {max(over)}: "
            "their ends are not encoded"
        ]
    assert cut_prompts(encoders.token_counts(["push", ""])) == []


def test_prompts_longer_than_flux2s_encoder_are_counted(tmp_path):
    folder = write_tiny_flux2(tmp_path)
    encoder = base_of_folder(folder).load_text(folder, 0, torch.float32)
    prompts = ["push", "red cube " * TEXT_TOKENS]
    (limit, (short, long)) = encoder.token_counts(prompts)["Qwen3"]
    ids, mask = encoder.tokenize(prompts)
    assert limit == TEXT_TOKENS == ids.shape[1] < long
    assert mask.sum(dim=1).tolist() == [short, limit]
    assert [line.split(",")[0] for line in cut_prompts(encoder.token_counts(prompts))] == [
        f"1 of 2 prompts are longer than the {limit} tokens of Qwen3"
    ]


def test_the_cache_warns_of_prompts_that_are_cut(world, tmp_path, capsys):
    config = config_for(world)
    section = config.cache.model_copy(update={"out": tmp_path / "cache", "text_tokens": 6})
    cache(config.model_copy(update={"cache": section}))
    lines = [line for line in capsys.readouterr().err.split("\n") if line.startswith("warning: ")]
    assert len(lines) == 1 and "prompts are longer than the 6 tokens of T5, by up to" in lines[0]
