import gzip
import struct
import zlib

import pytest
from kvc_eval import texts
from kvc_eval.r_data import read_strings
from kvc_eval.texts import join_paragraphs

HEADER = b"X\n" + struct.pack(">3i", 3, 0x040201, 0x030500) + struct.pack(">i", 5) + b"UTF-8"


def characters(text: str) -> bytes:
    return struct.pack(">2i", 9 | 1 << 18, len(text.encode())) + text.encode()


def strings(*texts: str) -> bytes:
    return struct.pack(">2i", 16, len(texts)) + b"".join(map(characters, texts))


def names(*texts: str) -> bytes:
    """The attribute list (names = texts): a pair with a tag, and nil."""
    return struct.pack(">2i", 2 | 1 << 10, 1) + characters("names") + strings(*texts) + struct.pack(">i", 254)


def data_base(folder, entry: bytes):
    body = struct.pack(">i", len(entry)) + zlib.compress(entry)
    place = struct.pack(">4i", 13, 2, 7, len(body))
    variables = struct.pack(">2i", 19 | 1 << 9, 1) + place + names("novel")
    (folder / "Rdata.rdx").write_bytes(gzip.compress(HEADER + struct.pack(">2i", 19 | 1 << 9, 1) + variables + names("variables")))
    (folder / "Rdata.rdb").write_bytes(b"other.." + body)


def test_strings_of_an_r_data_base(tmp_path):
    data_base(tmp_path, HEADER + strings("Emma", "", "naïve"))
    assert read_strings(tmp_path, "novel") == ["Emma", "", "naïve"]
    with pytest.raises(KeyError, match="novel"):
        read_strings(tmp_path, "poem")


def test_damaged_r_data_is_refused(tmp_path):
    data_base(tmp_path, (HEADER + strings("Emma"))[:-2])
    with pytest.raises(ValueError):
        read_strings(tmp_path, "novel")
    data_base(tmp_path, b"A\n" + HEADER[2:] + strings("Emma"))
    with pytest.raises(ValueError):
        read_strings(tmp_path, "novel")


def test_paragraphs_become_lines():
    assert join_paragraphs(["", "One", "two.", "", " ", "Three.", ""]) == "One two.\n\nThree."
    assert join_paragraphs([]) == ""


def test_nothing_is_downloaded_where_nothing_may_be_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "download_folder", lambda: tmp_path)
    monkeypatch.setattr(texts, "_apt", lambda *_: pytest.fail("apt-get was called"))
    monkeypatch.setenv("NO_INSTALL", "1")
    with pytest.raises(RuntimeError, match=r"(?s)apt-get download.*--text FILE"):
        texts.novel(texts.READ)
