"""Published prompts: what they convert to, and every way in which fetching one goes wrong."""

import ast
import hashlib
import json
import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.errors import (
    DownloadError,
    FileError,
    PromptError,
    SettingsError,
)
from llmrankers_groupwise.prompting.conversion import (
    from_grouprank,
    from_rank_llm,
    from_toml,
    toml_text,
)
from llmrankers_groupwise.prompting.prompt_file import (
    PULLABLE,
    bundled_prompts,
    load_prompt,
    prompt_folder,
    pulled_prompts,
)
from llmrankers_groupwise.prompting.published import SOURCES, Source, find_source, pull
from llmrankers_groupwise.prompting.render import render

SYSTEM = "Score every document.\nBe fair.\n"
USER = '{TOPK} for {QUERY}:\n{PASSAGES}\nAs {{"[1]": 5}} for all {TOPK}.\n'
TEMPLATE = r"""
method: "singleturn_listwise"
system_message: "You rank."
prefix: |
  Here are {num} for {query}.
body: |
  [{rank}] {candidate}
suffix: |-
  Query: {query}.
  Rank all {num}, as [2] > [1].
output_validation_regex: r"^\[\d+\]$"
output_extraction_regex: r"\[(\d+)\]"
"""
SIMPLE = 'prompt_user = "{query}: {docs}"\n'


def python_source(system: str = SYSTEM, user: str = USER, before: str = "") -> bytes:
    return (
        f"import not_a_module\n{before}\n"
        "class GroupReranker:\n"
        "    def __init__(self, model_path) -> None:\n"
        "        self.llm = not_a_module.LLM(model_path)\n"
        f"        self.group_system_prompt = {system!r}\n"
        f"        self.group_user_prompt = {user!r}\n"
    ).encode()


# --- A site that publishes prompts ------------------------------------------------------------


class Site(ThreadingHTTPServer):
    """Serves the files of `files` by path; of those in `halves` only a half; counts requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.halves: set[str] = set()
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site = self.server
        assert isinstance(site, Site)
        site.requests.append(self.path)
        content = site.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in site.halves else content)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Site() as site:
        thread = Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of pulled prompts of this test; not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "llmrankers-groupwise" / "prompts"


@pytest.fixture
def publish(site, monkeypatch) -> Callable[..., Source]:
    """Publishes a file as the source of a name, known to the command too."""

    def at_the_site(content: bytes, name: str = "grouprank", **changed: object) -> Source:
        settings = {"site": site.url, "sha256": hashlib.sha256(content).hexdigest(), **changed}
        source = replace(SOURCES[name], **settings)
        site.files[source.url.removeprefix(source.site)] = content
        monkeypatch.setitem(SOURCES, name, source)
        return source

    return at_the_site


@pytest.fixture
def command(capsys) -> Callable[..., tuple[int, str, str]]:
    """The exit code, output and errors of `run-groupwise prompts ...`."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        try:
            code = main(["prompts", *map(str, words)])
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


# --- The table of sources ---------------------------------------------------------------------


def test_the_names_that_prompts_knows_are_those_of_the_sources():
    assert tuple(SOURCES) == PULLABLE
    assert not set(SOURCES) & set(bundled_prompts())


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_source_is_pinned(source):
    assert re.fullmatch("[0-9a-f]{40}", source.commit)
    assert re.fullmatch("[0-9a-f]{64}", source.sha256)
    assert source.url == (
        f"https://raw.githubusercontent.com/{source.repository}/{source.commit}/{source.path}"
    )
    assert source.method in {"groupwise", "setwise", "listwise"}
    assert find_source(source.name) is source


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("rank-r1", "prompt_setwise-R1.toml"),
        ("rank-r1-v0.2", "prompt_setwise-R1-v0.2.toml"),
        ("rankzephyr", "prompt_listwise_rankzephyr.toml"),
        ("setwise", "prompt_setwise.toml"),
        ("reasonrank", "reasonrank_template.yaml"),
    ],
)
def test_a_real_file_is_pulled_and_loads_by_name(shared, name, file):
    published = shared / "upstream-prompts" / file
    path = pull(SOURCES[name], from_file=published)
    prompt = load_prompt(name)
    assert prompt == load_prompt(path)
    request = render("what is a flea?", ["first text", "second text"], prompt)
    assert "first text" in request.messages[-1]["content"]
    if published.suffix == ".toml":
        assert path.read_text(encoding="utf-8").endswith(published.read_text(encoding="utf-8"))
        assert replace(load_prompt(published), name=name, sha256=prompt.sha256) == prompt


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "grouprnk",
            "no published prompt 'grouprnk'; did you mean grouprank? (there are grouprank",
        ),
        ("xyz", "no published prompt 'xyz' (there are grouprank, rank-r1, rank-r1-v0.2, "),
        ("groupwise", "the prompt groupwise comes with this package"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name, hint):
    with pytest.raises(SettingsError, match=re.escape(hint)):
        find_source(name)


# --- GroupRank: Python ------------------------------------------------------------------------


def test_the_pulled_prompt_renders_as_the_authors_code_does(shared, publish):
    upstream = shared / "upstream-prompts"
    texts = json.loads((upstream / "grouprank_prompts.json").read_text(encoding="utf-8"))
    system, user = texts["group_system_prompt"], texts["group_user_prompt"]
    pull(publish(python_source(system, user)))
    prompt = load_prompt("grouprank")
    golden = (upstream / "grouprank_rendered_golden.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in golden.splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert list(render(row["query"], row["docs"], prompt).messages) == row["messages"]


def test_a_prompt_of_python_constants_is_converted(publish):
    prompt = load_prompt(pull(publish(python_source())))
    assert prompt.prompt_system == SYSTEM
    long = "a\n\nb" + "c" * 4000
    request = render("flea", [long, "two"], prompt)
    assert request.messages[-1]["content"] == (
        f'2 for flea:\n[1]. a b{"c" * 2997}\n\n[2]. two\n\n\nAs {{"[1]": 5}} for all 2.\n'
    )
    assert request.answer_start == "<answer>\n```json\n"
    assert prompt.pattern is not None


def test_published_code_is_not_executed(publish, tmp_path):
    trap = tmp_path / "executed"
    act = f"open({str(trap)!r}, 'w').close()\n"
    content = python_source(before=act) + f"        {act}{act}".encode()
    compile(content, "hostile", "exec")
    assert load_prompt(pull(publish(content))).prompt_system == SYSTEM
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"x = (", "not Python: ", id="no-python"),
        pytest.param(b"\0", "not Python: ", id="null-byte"),
        pytest.param(b"", "sets no plain text self.group_system_prompt", id="empty"),
        pytest.param(
            python_source().replace(b"GroupReranker", b"Other"),
            "sets no plain text self.group_system_prompt",
            id="another-class",
        ),
        pytest.param(
            python_source().replace(b"__init__", b"other"),
            "sets no plain text self.group_system_prompt",
            id="another-function",
        ),
        pytest.param(
            python_source().replace(b"self.group_user_prompt", b"group_user_prompt"),
            "sets no plain text self.group_user_prompt",
            id="not-of-self",
        ),
        pytest.param(
            python_source().replace(b"group_user_prompt = ", b"group_user_prompt = f"),
            "sets no plain text self.group_user_prompt",
            id="computed",
        ),
        pytest.param(python_source(user="{QUERY}"), "lacks the placeholder {docs}", id="no-docs"),
        pytest.param(python_source(user="{QUERY} {X}"), "unknown placeholder {X}", id="unknown"),
        pytest.param(
            python_source(user="{QUERY!r} {PASSAGES}"), "unknown placeholder {QUERY}", id="repr"
        ),
        pytest.param(python_source(user="{QUERY} {"), "unbalanced brace", id="open-brace"),
    ],
)
def test_another_code_than_expected_makes_no_prompt_file(publish, folder, content, message):
    source = publish(content)
    with pytest.raises(PromptError) as caught:
        pull(source)
    assert str(caught.value).startswith(f"{source.url}: makes no prompt file: ")
    assert message in str(caught.value)
    assert list(folder.iterdir()) == []


# --- rank_llm: YAML ---------------------------------------------------------------------------


def test_a_template_of_rank_llm_is_converted():
    values = tomllib.loads(from_rank_llm(TEMPLATE.encode()))
    assert values == {
        "prompt_system": "You rank.",
        "prompt_user": "Here are {num} for {query}.\n{docs}\n"
        "Query: {query}.\nRank all {num}, as [2] > [1].",
        "doc_prefix": "[{num}] ",
        "doc_separator": "\n",
        "passage_in_a_line": True,
        "answer_start": "<answer>",
        "pattern": r"\[(\d+)\]",
    }


def test_a_pattern_that_is_not_in_quotes_stays():
    content = TEMPLATE.replace(r'extraction_regex: r"\[(\d+)\]"', r"extraction_regex: '\d+'")
    assert tomllib.loads(from_rank_llm(content.encode()))["pattern"] == r"\d+"


def test_the_real_template_renders_as_rank_llm_joins_it(shared):
    """Prefix, bodies and suffix, formatted one by one and joined without anything between."""
    yaml = pytest.importorskip("yaml")
    published = shared / "upstream-prompts" / "reasonrank_template.yaml"
    parts = yaml.safe_load(published.read_bytes())
    texts = ["first text", "second {text}", "third"]
    bodies = [parts["body"].format(rank=i, candidate=t) for i, t in enumerate(texts, start=1)]
    ends = {key: parts[key].format(num=3, query="a {query}") for key in ("prefix", "suffix")}
    pull(SOURCES["reasonrank"], from_file=published)
    messages = render("a {query}", texts, load_prompt("reasonrank")).messages
    assert messages == (
        {"role": "system", "content": parts["system_message"]},
        {"role": "user", "content": ends["prefix"] + "".join(bodies) + ends["suffix"]},
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a: [", "not YAML: ", id="no-yaml"),
        pytest.param("- a", "not a template of method singleturn_listwise", id="list"),
        pytest.param("method: pointwise", "not a template of method", id="another-method"),
        pytest.param(TEMPLATE.replace("prefix:", "pre:"), "the text prefix is missing", id="key"),
        pytest.param(
            TEMPLATE.replace('"You rank."', "3"), "the text system_message is missing", id="number"
        ),
        pytest.param(TEMPLATE.replace("{candidate}", "x"), "body lacks {candidate}", id="body"),
        pytest.param(
            TEMPLATE.replace("{candidate}", "{candidate} {rank}"), "unknown placeholder {rank}",
            id="behind-the-candidate",
        ),
        pytest.param(TEMPLATE.replace("all {num}", "{psg_ids}"), "unknown placeholder {psg_ids}",
                     id="unknown"),
        pytest.param(TEMPLATE.replace("all {num}", "all {"), "unbalanced brace", id="brace"),
    ],
)  # fmt: skip
def test_another_template_than_expected_is_refused(content, message):
    with pytest.raises(PromptError, match=re.escape(message)):
        from_rank_llm(content.encode())


def test_a_template_cannot_make_objects():
    content = TEMPLATE.replace('"You rank."', "!!python/object/apply:os.getcwd []")
    with pytest.raises(PromptError, match="not YAML"):
        from_rank_llm(content.encode())


# --- TOML -------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text makes a table of Unicode
@given(st.dictionaries(st.sampled_from("abc"), st.text() | st.integers(-9, 9) | st.booleans()))
def test_toml_reads_back_the_same(values):
    read = tomllib.loads(toml_text(values))
    assert read == values
    assert [type(value) for value in read.values()] == [type(value) for value in values.values()]


quoting = st.lists(st.sampled_from(['"', "\\", "\n", "\r", "\t", "\0", "\x7f", "a", " ", "'"]))


@given(quoting.map("".join))
def test_quotes_backslashes_and_control_characters_read_back_the_same(text):
    assert tomllib.loads(toml_text({"key": text})) == {"key": text}


@pytest.mark.parametrize("text", [SYSTEM, "\n", "\n\na\n\n", 'a\n"', 'a\n""""""\n"""', "a\r\nb\n"])
def test_newlines_at_the_ends_and_quotes_in_rows_read_back_the_same(text):
    assert tomllib.loads(toml_text({"key": text})) == {"key": text}


def test_a_long_text_stays_readable():
    assert toml_text({"key": 'one "two"\nthree\n'}) == 'key = """\none "two"\nthree\n"""\n'


def test_a_published_toml_file_is_kept_as_it_is(publish):
    content = f"# made by hand\n{SIMPLE}pattern = 'a'".encode()
    source = publish(content, "setwise")
    text = pull(source).read_text(encoding="utf-8")
    comments, _, rest = text.partition("\n\n")
    assert rest == content.decode()
    assert all(line.startswith("# ") for line in comments.splitlines())
    for fact in (source.url, source.commit, source.sha256, source.licence, source.checkpoint):
        assert fact in comments


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"a = ", "not a TOML file"),
        (b"a = 1", "unknown key 'a'"),
        (b'prompt_user = "{query}"', "lacks the placeholder {docs}"),
    ],
)
def test_a_published_toml_file_that_is_no_prompt_file_is_refused(publish, folder, content, message):
    source = publish(content, "setwise")
    with pytest.raises(PromptError, match=re.escape(message)) as caught:
        pull(source)
    assert ".partial" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_toml_text_is_only_decoded():
    assert from_toml(SIMPLE.encode()) == SIMPLE


def test_the_text_of_a_constant_may_be_anything_that_python_writes():
    system = 'é "\\" \t \x01 """ \n end\n'
    content = python_source(system)
    assert ast.parse(content)
    assert tomllib.loads(from_grouprank(content))["prompt_system"] == system


# --- Fetching ---------------------------------------------------------------------------------


def test_a_prompt_is_saved_in_the_users_folder_and_found_there(publish, folder):
    path = pull(publish(python_source()))
    assert path == folder / "grouprank.toml" == prompt_folder() / "grouprank.toml"
    assert pulled_prompts() == {"grouprank": path}
    assert load_prompt("grouprank") == load_prompt(path)
    assert [entry.name for entry in folder.iterdir()] == ["grouprank.toml"]


@pytest.mark.parametrize("value", ["", "relative/data"])
def test_without_a_folder_for_data_it_is_in_the_home(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_DATA_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prompt_folder() == tmp_path / ".local/share/llmrankers-groupwise/prompts"


def test_a_bundled_prompt_goes_before_a_file_of_its_name_in_the_folder(folder):
    folder.mkdir(parents=True)
    (folder / "groupwise.toml").write_text(SIMPLE)
    assert load_prompt("groupwise").prompt_user != "{query}: {docs}"


def test_the_same_source_makes_the_same_bytes(publish, tmp_path):
    source = publish(python_source())
    one, two = (pull(source, save_path=tmp_path / name) for name in ("one.toml", "two.toml"))
    assert one.read_bytes() == two.read_bytes()


def test_a_file_downloaded_by_hand_is_as_good(publish, site, tmp_path):
    content = python_source()
    source = publish(content)
    by_hand = tmp_path / "any name"
    by_hand.write_bytes(content)
    path = pull(source, from_file=by_hand)
    assert site.requests == []
    assert path.read_bytes() == pull(source, save_path=tmp_path / "downloaded").read_bytes()


def test_another_file_by_hand_is_refused_with_both_hashes(publish, folder, tmp_path):
    source = publish(python_source())
    by_hand = tmp_path / "other.py"
    by_hand.write_bytes(b"other")
    with pytest.raises(FileError, match=f"is not the file of {source.url}") as caught:
        pull(source, from_file=by_hand)
    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)
    assert source.sha256 in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_by_hand_that_cannot_be_read_is_refused(publish, tmp_path, name):
    with pytest.raises(FileError, match=r"cannot be read: .*; check the path"):
        pull(publish(python_source()), from_file=tmp_path / name)


def test_a_changed_file_is_refused_with_both_hashes(publish, folder):
    source = publish(python_source(), sha256="0" * 64)
    with pytest.raises(DownloadError) as caught:
        pull(source)
    found = hashlib.sha256(python_source()).hexdigest()
    assert f"its SHA-256 is {found}, not {'0' * 64}; nothing was saved" in str(caught.value)
    assert list(folder.iterdir()) == []


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_network_it_says_what_to_do_by_hand(monkeypatch, folder):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = replace(SOURCES["grouprank"], site=f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(DownloadError) as caught:
        pull(source)
    message = str(caught.value)
    assert message.startswith(f"cannot download {source.url} (")
    assert "Connection refused" in message
    assert message.endswith(
        f"By hand: download {source.url} on a machine with a network, copy the file here, and run: "
        "run-groupwise prompts pull grouprank --from rerank_groupwise.py"
    )
    assert list(folder.iterdir()) == []


def test_a_file_that_is_not_there_any_more_is_an_error(publish, site):
    source = publish(python_source())
    site.files.clear()
    with pytest.raises(DownloadError, match="HTTP Error 404: Not Found"):
        pull(source)


def test_half_a_file_is_an_error(publish, site, folder):
    source = publish(python_source())
    site.halves.update(site.files)
    with pytest.raises(DownloadError, match="IncompleteRead"):
        pull(source)
    assert list(folder.iterdir()) == []


# --- Where it is saved ------------------------------------------------------------------------


def test_pulling_again_changes_nothing(publish):
    source = publish(python_source())
    path = pull(source)
    before = path.stat()
    assert pull(source) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_file_of_the_name_is_replaced_only_by_force(publish, tmp_path):
    source = publish(python_source())
    mine = tmp_path / "mine.toml"
    mine.write_text(SIMPLE)
    with pytest.raises(FileError, match="is there already, with another content"):
        pull(source, save_path=mine)
    assert mine.read_text() == SIMPLE
    assert pull(source, save_path=mine, force=True) == mine
    assert load_prompt(mine).prompt_system == SYSTEM


@pytest.mark.parametrize("place", ["none/x.toml", ".", "/proc/x.toml"])
def test_a_place_that_cannot_be_written_is_found_out_before_the_download(
    publish, site, tmp_path, place
):
    with pytest.raises(FileError):
        pull(publish(python_source()), save_path=tmp_path / place)
    assert site.requests == []


def test_a_folder_that_cannot_be_made_is_named_with_the_ways_out(publish, site, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(FileError, match="use --save_path, or set XDG_DATA_HOME"):
        pull(publish(python_source()))
    assert site.requests == []


# --- Loading by name --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PULLABLE)
def test_a_prompt_that_is_not_pulled_is_an_error_with_the_command(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setwise").mkdir()  # as for the runs of a method
    with pytest.raises(PromptError) as caught:
        load_prompt(name)
    assert str(caught.value).endswith(f"fetch it with: run-groupwise prompts pull {name}")


def test_a_pulled_prompt_is_among_the_known_names(folder, publish):
    pull(publish(SIMPLE.encode(), "setwise"))
    with pytest.raises(PromptError, match=r"give a path, or one of groupwise, .*, setwise$"):
        load_prompt("none")


# --- The command ------------------------------------------------------------------------------


def test_the_list_says_of_every_prompt_where_it_is(command, publish, folder):
    publish(SIMPLE.encode(), "setwise")
    assert command("pull", "setwise")[0] == 0
    (folder / "mine.toml").write_text(SIMPLE)
    code, out, err = command("list")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert list(rows) == ["name", *bundled_prompts(), *SOURCES, "mine"]
    assert rows["groupwise"].endswith("bundled")
    methods = {name: rows[name].split()[1] for name in bundled_prompts()}
    assert methods == {
        "groupwise": "groupwise",
        "groupwise_scores": "groupwise",
        "listwise": "listwise",
        "pointwise_graded": "pointwise",
        "pointwise_yes_no": "pointwise",
        "rationalise": "rationalise",
        "setwise_best": "setwise",
        "setwise_think": "setwise",
    }
    assert rows["grouprank"].split()[1:3] == ["groupwise", "AQ-MedAI/Diver-GroupRank-{7B,32B}"]
    assert rows["grouprank"].endswith("AQ-MedAI/Diver@95b111b0adad      not pulled")
    assert rows["setwise"].endswith(str(folder / "setwise.toml"))
    assert rows["mine"].endswith(str(folder / "mine.toml"))


def test_a_prompt_is_pulled_by_the_command(command, publish, folder):
    publish(python_source())
    code, out, err = command("pull", "grouprank")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"grouprank: {folder / 'grouprank.toml'}",
        "for AQ-MedAI/Diver-GroupRank-{7B,32B} (groupwise): --prompt_file grouprank",
    ]


def test_all_options_of_the_command_are_used(command, publish, site, tmp_path):
    content = python_source()
    publish(content)
    by_hand, mine = tmp_path / "published.py", tmp_path / "mine.toml"
    by_hand.write_bytes(content)
    mine.write_text(SIMPLE)
    words = ("pull", "grouprank", "--from", by_hand, "--save_path", mine)
    code, _, err = command(*words)
    assert (code, mine.read_text()) == (2, SIMPLE)
    assert err.startswith(f"run-groupwise: {mine}: is there already")
    code, out, _ = command(*words, "--force")
    assert code == 0
    assert out.endswith(f"--prompt_file {mine}\n")
    assert load_prompt(mine).prompt_system == SYSTEM
    assert site.requests == []


def test_bad_input_ends_with_2_and_a_failed_download_with_1(command, publish, site, tmp_path):
    publish(python_source())
    site.files.clear()
    code, _, err = command("pull", "grouprank")
    assert code == 1
    assert err.startswith("run-groupwise: cannot download http://127.0.0.1:")
    assert "--from rerank_groupwise.py" in err
    code, _, err = command("pull", "grouprnk")
    assert code == 2
    assert "did you mean grouprank?" in err
    code, _, err = command("pull", "grouprank", "--from", tmp_path / "none")
    assert code == 2
    assert "cannot be read" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: ACTION"),
        (["pull"], "the following arguments are required: NAME"),
        (["pull", "--force"], "the following arguments are required: NAME"),
        (["pull", "grouprank", "--forse"], "unknown option --forse; did you mean --force?"),
        (["list", "--force"], "--force is an option of pull, not of list"),
        (["list", "--hits", "3"], "unknown option --hits"),
    ],
)
def test_a_wrong_word_of_the_command_is_named(command, words, message):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("words", [(), ("list",), ("pull",)])
def test_help_is_printed(command, words):
    code, out, err = command(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: run-groupwise prompts")
