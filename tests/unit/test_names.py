"""Names of models and files: readable, and safe in headers and on disks."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.model import MAX_FILENAME_BYTES, MAX_NAME_CHARACTERS, clean_filename, clean_name, stem_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mobilenet", "mobilenet"),
        ("  a \u3000 b  ", "a b"),
        ("模型 第二版", "模型 第二版"),
        ("e\u0301", "é"),
        ("x" * 200, "x" * 200),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("a\u202egpj.exe\u2066", "agpj.exe"),
        ("\ufeffa\u00adb\u200b", "ab"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("\u1100\u1161\u11a8" * 200, "각" * 200),
    ],
)
def test_a_display_name_is_trimmed_and_composed(text: str, name: str) -> None:
    assert clean_name(text) == name


@pytest.mark.parametrize(
    "text", ["", "   ", "x" * 201, "a\nb", "a\0", "\x7f", "\ud800", "\u202e", "\u200d \u200c", "a" + "\u0301" * 800]
)
def test_a_name_that_cannot_be_shown_is_not_a_display_name(text: str) -> None:
    assert clean_name(text) is None


@given(st.text(max_size=300))
def test_a_clean_name_stays_as_it_is(text: str) -> None:
    name = clean_name(text)
    if name is not None:
        assert 0 < len(name) <= MAX_NAME_CHARACTERS
        assert clean_name(name) == name


@pytest.mark.parametrize(
    ("text", "filename"),
    [
        ("m.onnx", "m.onnx"),
        ("../../etc/passwd", "passwd"),
        ("C:\\models\\m.onnx", "m.onnx"),
        ("a/b\\c.nef", "c.nef"),
        ('a"b\r\nX: y.nef', "abX y.nef"),
        ("模型 檔.onnx", "模型 檔.onnx"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("..hidden..", "file.hidden"),
        ("", "file"),
        ("...", "file"),
        ("/", "file"),
        ("a/..", "file"),
        (":*?", "file"),
        ("?.onnx", "file.onnx"),
        ("\u200d.onnx", "file.onnx"),
        ("می\u200cخواهم.onnx", "می\u200cخواهم.onnx"),
        ("e\u0301.onnx", "é.onnx"),
        ("e\u0301" * 200 + ".onnx", "é" * 125 + ".onnx"),
        (" \t ", "file"),
    ],
)
def test_a_file_name_is_its_last_segment_without_unsafe_characters(text: str, filename: str) -> None:
    assert clean_filename(text, "file") == filename


def test_a_long_file_name_keeps_its_suffix() -> None:
    assert clean_filename("模" * 200 + ".onnx", "file") == "模" * 83 + ".onnx"
    assert clean_filename("x" * 255, "file") == "x" * 255
    assert clean_filename("x" * 256, "file") == "x" * 255
    assert len(clean_filename("x." + "s" * 300, "file")) == 255


@given(st.text(max_size=400) | st.text(st.sampled_from('./\\"\r\n;= a模.'), max_size=400))
def test_every_file_name_is_safe_in_a_header_and_on_a_disk(text: str) -> None:
    filename = clean_filename(text, "file")
    assert filename
    assert filename not in {".", ".."}
    assert len(filename.encode()) <= MAX_FILENAME_BYTES
    assert not set(filename) & set('/\\:*?"<>|')
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in filename)


@pytest.mark.parametrize(
    ("filename", "stem"),
    [("m.onnx", "m"), ("a.b.nef", "a.b"), ("m", "m"), (".onnx", ".onnx"), ("", ""), ("m.", "m")],
)
def test_a_stem_is_what_precedes_the_last_suffix(filename: str, stem: str) -> None:
    assert stem_of(filename) == stem
