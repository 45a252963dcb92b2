"""Text files: lines with their numbers and offsets, and files written whole or not at all."""

import gzip
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmrankers_groupwise.errors import FileError, InputError
from llmrankers_groupwise.files.atomic import check_writable, write_atomically
from llmrankers_groupwise.files.text_files import json_object, lines

TEXT = "first\n\n  \nzweite Zeile: Größe\r\n日本語\tx\nlast without end"
EXPECTED = [(1, "first"), (4, "zweite Zeile: Größe"), (5, "日本語\tx"), (6, "last without end")]


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def error_of(reader, path: Path) -> FileError:
    with pytest.raises(FileError) as caught:
        list(reader(path))
    assert isinstance(caught.value, InputError)
    return caught.value


def json_lines(path: Path):
    return ((number, offset, json_object(text, path, number)) for number, offset, text in
            lines(path))  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


# --- Reading ----------------------------------------------------------------------------------


def test_lines_come_with_their_numbers_and_without_their_ends(tmp_path):
    path = written(tmp_path / "a.txt", TEXT)
    assert [(number, text) for number, _, text in lines(path)] == EXPECTED


def test_lines_takes_a_path_as_text_too(tmp_path):
    path = written(tmp_path / "a.txt", "one\n")
    assert list(lines(str(path))) == [(1, 0, "one")]


def test_seeking_to_an_offset_gives_the_line(tmp_path):
    path = written(tmp_path / "a.txt", TEXT)
    with path.open("rb") as file:
        for _, offset, text in lines(path):
            file.seek(offset)
            assert file.readline().decode().rstrip("\r\n") == text


def test_offsets_count_a_byte_order_mark(tmp_path):
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfone\ntwo\n")
    assert list(lines(path)) == [(1, 0, "one"), (2, 7, "two")]


def test_blanks_within_and_around_a_line_are_kept(tmp_path):
    path = written(tmp_path / "a.txt", "  one \t\r\n")
    assert [text for _, _, text in lines(path)] == ["  one \t"]


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1e"])
def test_only_line_feeds_end_a_line(tmp_path, separator):
    path = written(tmp_path / "a.txt", f"one{separator}more\ntwo\n")
    assert [text for _, _, text in lines(path)] == [f"one{separator}more", "two"]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt"])
def test_gzip_is_known_by_its_content_whatever_its_name(tmp_path, name):
    path = written(tmp_path / name, gzip.compress(TEXT.encode()))
    assert [(number, text) for number, _, text in lines(path)] == EXPECTED


def test_offsets_in_gzip_are_those_of_the_unpacked_text(tmp_path):
    plain = written(tmp_path / "a.txt", TEXT)
    packed = written(tmp_path / "a.txt.gz", gzip.compress(TEXT.encode()))
    assert list(lines(packed)) == list(lines(plain))


def test_gzip_of_several_members_is_read_to_its_end(tmp_path):
    path = written(tmp_path / "a.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert [text for _, _, text in lines(path)] == ["one", "two"]


def test_a_plain_file_with_a_gzip_name_is_read_as_plain(tmp_path):
    path = written(tmp_path / "a.gz", "one\n")
    assert [text for _, _, text in lines(path)] == ["one"]


LONG = gzip.compress("".join(f"line {number}\n" for number in range(9999)).encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LONG[: len(LONG) // 2], id="cut in the middle"),
        pytest.param(LONG[:-4], id="cut in the trailer"),
        pytest.param(LONG[:2], id="nothing but the first two bytes"),
        pytest.param(LONG[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(LONG[:10] + b"\xff" * 50 + LONG[60:], id="garbage in the middle"),
        pytest.param(LONG + b"garbage", id="garbage behind the end"),
    ],
)
def test_broken_gzip_is_named_with_what_to_do(tmp_path, content):
    path = written(tmp_path / "a.gz", content)
    message = str(error_of(lines, path))
    assert message.startswith(f"{path}: broken gzip file")
    assert "copy it again" in message


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        pytest.param(b"caf\xe9\n", 1, "byte 4 of the line is 0xe9", id="latin-1 in line 1"),
        pytest.param(b"a\n\nb\xff\n", 3, "byte 2 of the line is 0xff", id="line 3 after a blank"),
        pytest.param(b"ok\ncut \xe6\x97", 2, "byte 5 of the line is 0xe6", id="cut character"),
        pytest.param("run".encode("utf-16"), 1, "byte 1 of the line is 0xff", id="UTF-16"),
    ],
)
def test_text_that_is_not_utf8_is_named_with_file_line_byte_and_what_to_do(
    tmp_path, content, line, byte
):
    path = written(tmp_path / "a.txt", content)
    error = error_of(lines, path)
    assert str(error).startswith(f"{path}:{line}: not UTF-8")
    assert byte in str(error)
    assert "iconv" in str(error)
    assert (error.path, error.line) == (path, line)


def test_lines_before_a_bad_one_are_handed_out_first(tmp_path):
    path = written(tmp_path / "a.txt", b"good\n\xff\n")
    stream = lines(path)
    assert next(stream) == (1, 0, "good")
    with pytest.raises(FileError, match=":2: not UTF-8"):
        next(stream)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="no byte"),
        pytest.param(b"\n \n\t\r\n", id="blank lines only"),
        pytest.param(b"\xef\xbb\xbf", id="byte order mark only"),
        pytest.param(gzip.compress(b""), id="gzip of nothing"),
    ],
)
def test_a_file_without_a_line_is_an_error_with_what_to_do(tmp_path, content):
    path = written(tmp_path / "a.txt", content)
    error = error_of(lines, path)
    assert str(error).startswith(f"{path}: the file is empty")
    assert "at least one line" in str(error)
    assert error.line is None


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path):
    assert str(error_of(lines, tmp_path)).startswith(f"{tmp_path}: cannot be read: Is a directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_read_whole(tmp_path, pack):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = "".join(f"line {number}\n" for number in range(5000))
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(pipe.write_bytes, pack(content.encode()))
        assert [text for _, _, text in lines(pipe)] == content.splitlines()
        written.result()


def test_a_missing_file_is_an_error(tmp_path):
    path = tmp_path / "none.txt"
    assert str(error_of(lines, path)) == (
        f"{path}: cannot be read: No such file or directory; check the path"
    )


def test_json_lines_come_with_number_and_offset(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\n\n{"b": "ü"}\n{}\n')
    assert list(json_lines(path)) == [(1, 0, {"a": 1}), (3, 10, {"b": "ü"}), (4, 22, {})]


def test_seeking_to_the_offset_of_a_json_line_gives_the_object(tmp_path):
    records = [{"id": number, "text": "é" * number} for number in range(50)]
    content = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in records)
    path = written(tmp_path / "a.jsonl", content)
    with path.open("rb") as file:
        for number, offset, value in json_lines(path):
            file.seek(offset)
            assert json.loads(file.readline()) == value == records[number - 1]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param('{"a": 1', "not JSON", id="cut off"),
        pytest.param("1 Q0 d1 1 2.0 tag", "not JSON", id="a run line"),
        pytest.param("{'a': 1}", "not JSON", id="single quotes"),
        pytest.param('{"a": 1} {"b": 2}', "not JSON", id="two objects"),
        pytest.param("[" * 100_000, "not JSON", id="nested too deep"),
        pytest.param("[1, 2]", "not a JSON object", id="a list"),
        pytest.param('"text"', "not a JSON object", id="a string"),
        pytest.param("null", "not a JSON object", id="null"),
    ],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line, complaint):
    path = written(tmp_path / "a.jsonl", f'{{"fine": 1}}\n{line}\n')
    error = error_of(json_lines, path)
    assert str(error).startswith(f"{path}:2: {complaint}")
    assert error.line == 2


# --- Writing ----------------------------------------------------------------------------------


def test_a_file_written_atomically_holds_what_was_written(tmp_path):
    path = tmp_path / "out.txt"
    with write_atomically(path) as file:
        file.write("zeile\nÜ\n")
    assert path.read_bytes() == b"zeile\n\xc3\x9c\n"
    assert names(tmp_path) == ["out.txt"]


def test_the_old_file_stands_untouched_until_the_end(tmp_path):
    path = written(tmp_path / "out.txt", "old")
    with write_atomically(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["out.txt"]


def test_nothing_stands_at_the_path_before_the_end(tmp_path):
    path = tmp_path / "out.txt"
    with write_atomically(path) as file:
        file.write("new")
        file.flush()
        assert not path.exists()


def test_a_reader_of_the_old_file_never_sees_a_part_of_the_new_one(tmp_path):
    path = written(tmp_path / "out.txt", "old")
    with path.open() as reader:
        with write_atomically(path) as file:
            file.write("the new content")
        assert reader.read() == "old"
    assert path.read_text() == "the new content"


def write_half_and_raise(path: Path, error: type[BaseException]) -> None:
    with write_atomically(path) as file:
        file.write("half a file")
        file.flush()
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old\n", None], ids=["over an old file", "a new file"])
def test_an_exception_leaves_what_was_there_and_no_stray_file(tmp_path, error, old):
    path = tmp_path / "out.txt"
    if old is not None:
        path.write_bytes(old)
    before = names(tmp_path)
    with pytest.raises(error):
        write_half_and_raise(path, error)
    assert names(tmp_path) == before
    assert old is None or path.read_bytes() == old


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    path = written(tmp_path / "out.txt", "old")
    with pytest.raises(UnicodeEncodeError), write_atomically(path) as file:
        file.write("a lone surrogate: \ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_new_file_follows_the_umask(tmp_path, umask, mode):
    path = tmp_path / "out.txt"
    before = os.umask(umask)
    try:
        with write_atomically(path) as file:
            file.write("x")
        assert os.umask(umask) == umask, "the umask must be left as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_two_writers_of_one_path_do_not_mix(tmp_path):
    path = tmp_path / "out.txt"
    with write_atomically(path) as one, write_atomically(path) as other:
        one.write("one")
        other.write("other")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["out.txt"]


def test_a_file_name_of_one_letter_and_one_with_blanks_can_be_written(tmp_path):
    for name in ("r", "my run.trec", "größe"):
        with write_atomically(tmp_path / name) as file:
            file.write("x")
    assert names(tmp_path) == sorted(["r", "my run.trec", "größe"])


def test_a_relative_path_is_written_where_the_process_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable("out.txt")
    with write_atomically("out.txt") as file:
        file.write("x")
    assert names(tmp_path) == ["out.txt"]


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "none" / "out.txt"
    for enter in (check_writable, lambda path: write_atomically(path).__enter__()):
        with pytest.raises(FileError) as caught:
            enter(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: cannot be written (No such file or directory)")
        assert f"folder {path.parent} exists" in message
    assert names(tmp_path) == []


def test_a_name_longer_than_the_file_system_allows_is_an_error(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        check_writable(tmp_path / ("x" * 300))


def test_a_folder_as_the_file_to_write_is_an_error(tmp_path):
    with pytest.raises(FileError, match="is a folder; give a file name") as caught:
        check_writable(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert names(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    path = written(tmp_path / "file", "x") / "out.txt"
    with pytest.raises(FileError, match="cannot be written") as caught:
        check_writable(path)
    assert str(path) in str(caught.value)


def test_a_folder_without_permission_is_an_error(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user (root?) may write to read-only folders")
    with pytest.raises(FileError, match="cannot be written"):
        check_writable(folder / "out.txt")


def test_checking_leaves_an_old_file_and_the_folder_as_they_were(tmp_path):
    path = written(tmp_path / "out.txt", "old")
    before = path.stat()
    check_writable(path)
    check_writable(tmp_path / "new.txt")
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]
