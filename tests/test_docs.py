"""Docs that can lie are tested: every command, option, field, setting, unit and wall that they name, and no other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from flytectl import cli
from flyted.contract import errors
from flyted.contract.answers.apps import AppStatus
from flyted.contract.answers.codec import Answer, json_fields
from flyted.contract.answers.data import DataFolder
from flyted.contract.answers.events import LogLine
from flyted.contract.answers.gpus import GpuStatus
from flyted.contract.answers.images import ImageEntry
from flyted.contract.answers.machine import Check
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.secrets import SecretStatus
from flyted.contract.answers.tokens import TokenStatus
from flyted.contract.answers.volumes import VolumeStatus
from flyted.contract.status import AppState
from flyted.contract.version import VERSION
from flyted.daemon.settings import SETTINGS, Settings
from tests.flytectl.words import command
from tests.walls import walls_table

ROOT = Path(__file__).parent.parent
MAN = ROOT / "packaging/man"
DOCS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md")
HELP = {"-h", "--help"}


def commands() -> dict[str, click.Command]:
    """The rows of the table in our own word order, each with its command."""
    first: dict[str, str] = {}
    for row, place in cli.COMMANDS.items():
        first.setdefault(place, row)
    for row in first.values():
        command(row)  # its words lead there
    return {row: cli.load_command(row) for row in first.values()}


def options(command: click.Command) -> set[str]:
    """All spellings of all its options but help's."""
    return {
        text for p in command.params if isinstance(p, click.Option) for text in (*p.opts, *p.secondary_opts)
    } - HELP


def section(page: str, title: str) -> str:
    """The text below ``.Sh title``."""
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def described() -> dict[str, tuple[str, set[str]]]:
    """Command → (its arguments, its options) as flytectl(1) has them."""
    found = {}
    page = section((MAN / "flytectl.1").read_text(), "COMMANDS")
    for part in re.split(r"^\.Ss flytectl ", page, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        words = [w for w in heading.split(" ") if not re.fullmatch(r"\[?[A-Z.]+\]?", w)]
        said = set()
        for item in re.findall(r"^\.It (Fl .*)$", body, re.MULTILINE):
            said |= {f"-{name}" for name in re.findall(r"Fl (\S+)", item)}
        found[" ".join(words)] = (heading.removeprefix(" ".join(words)).strip(), said)
    return found


def test_every_command_and_option_is_in_the_man_page() -> None:
    """flytectl(1) names each command, argument and option of the program, and nothing that is gone."""
    have = {
        row: (" ".join(command.collect_usage_pieces(click.Context(command))[1:]), options(command))
        for row, command in commands().items()
    }
    assert described() == have


def test_both_word_orders_are_in_the_man_page() -> None:
    """Each second spelling of a command is named."""
    page = (MAN / "flytectl.1").read_text()
    missing = [row for row in cli.COMMANDS if row not in commands() and f".Ql flytectl {row}" not in page]
    assert missing == []


KINDS: dict[str, type[Answer]] = {
    "APP": AppStatus,
    "SECRET": SecretStatus,
    "TOKEN": TokenStatus,
    "LOG": LogLine,
    "GPU": GpuStatus,
    "FOLDER": DataFolder,
    "VOLUME": VolumeStatus,
    "MODEL": ModelStatus,
    "IMAGE": ImageEntry,
    "CHECK": Check,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_json_field_is_in_the_man_page(name: str) -> None:
    """The JSON schema that flytectl(1) promises is the one that is printed, in the same order."""
    wanted = json_fields(KINDS[name])
    page = (MAN / "flytectl.1").read_text()
    item = re.search(rf"^\.It Em {name}\n(.*?)^\.(?:It|El)", page, re.MULTILINE | re.DOTALL)
    assert item is not None
    said = [
        word
        for line in item[1].split("\n")
        if line.startswith(".Em ")
        for word in re.findall(r"[a-z_]+", line.removeprefix(".Em "))
    ]
    assert tuple(said) == wanted


def test_every_state_is_in_the_man_page() -> None:
    """A user can look up each word of the STATE column."""
    said = re.findall(r"^\.It Em (\w+)$", section((MAN / "flytectl.1").read_text(), "STATES"), re.MULTILINE)
    assert said == [state.value for state in AppState]


def test_every_exit_status_is_in_the_man_page() -> None:
    """Each status that an error class, Ctrl-C or a fault gives has a line, and no other has."""
    have = {c.exit_status for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.FlytedError)}
    have |= {0, 1, 70, cli.INTERRUPTED, cli.PIPE_CLOSED}
    said = re.findall(r"^\.It (\d+)$", section((MAN / "flytectl.1").read_text(), "EXIT STATUS"), re.MULTILINE)
    assert [int(number) for number in said] == sorted(have)


def test_every_environment_variable_is_in_the_man_page() -> None:
    """What flytectl itself reads from the environment is written down."""
    source = "".join(p.read_text() for p in (ROOT / "flytectl").rglob("*.py") if "loader" not in p.parts)
    read = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source)) - {"TERM", "SUDO_UID", "PATH"}
    said = set(re.findall(r"^\.It Ev (\w+)$", section((MAN / "flytectl.1").read_text(), "ENVIRONMENT"), re.MULTILINE))
    assert read <= said
    assert all(name in source for name in said)


def test_every_setting_is_in_the_man_page() -> None:
    """flyted.toml(5) names each setting in its table, with its real default, and no other."""
    page = (MAN / "flyted.toml.5").read_text().replace(r"\(dq", '"').replace("\\ ", " ")
    said, table = {}, ""
    for line in page.split("\n"):
        if line.startswith(".Ss ["):
            table = line.removeprefix(".Ss [").rstrip("]")
        elif found := re.fullmatch(r"\.It Va (\w+) No = (.*)", line):
            said[table, found[1]] = found[2]
    defaults = Settings()
    have = {(row.table, row.key): _toml(getattr(defaults, row.field)) for row in SETTINGS}
    assert said == have


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_the_example_settings_are_valid(tmp_path: Path) -> None:
    """What flyted.toml(5) shows as an example is accepted by the daemon."""
    from flyted.daemon.settings import read

    page = section((MAN / "flyted.toml.5").read_text(), "EXAMPLES")
    example = re.search(r"\.Bd -literal\n(.*?)\.Ed", page, re.DOTALL)
    assert example is not None
    (tmp_path / "flyted.toml").write_text(example[1])
    assert read(tmp_path / "flyted.toml") != Settings()


def test_every_unit_is_in_the_man_page() -> None:
    """flyted(8) names each unit that is installed."""
    listed = re.findall(r"^\.It Pa ((?:run-)?flyted\S*\.\w+)$", (MAN / "flyted.8").read_text(), re.MULTILINE)
    kinds = (".service", ".socket", ".slice", ".mount", ".path")
    said = {name for name in listed if name.endswith(kinds) and name.islower()}
    assert said == {path.name for path in (ROOT / "units").iterdir() if path.suffix in kinds}


@pytest.mark.parametrize("page", sorted(MAN.iterdir()), ids=lambda p: p.name)
def test_a_man_page_renders_without_a_warning(page: Path) -> None:
    """groff finds nothing to complain about, and no line is wider than a terminal."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-mdoc", "-ww", "-Tutf8", "-P-c", "-P-b", "-P-o", "-P-u", str(page)],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert max(len(line) for line in done.stdout.split("\n")) <= 80


COMMAND = re.compile(r"(?:^|sudo |\$\(|\$ |\| )(flytectl .*?)(?:\)|\||>|;|&&|$)")


def shown_commands(text: str) -> tuple[list[str], list[str]]:
    """Every ``flytectl …`` that a document shows: lines of its code blocks, and code spans."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line.split("#", 1)[0].strip() for block in blocks for line in block.split("\n")]
    return [m[1] for line in lines if (m := COMMAND.search(line))], [m[1] for s in spans if (m := COMMAND.search(s))]


def understood(line: str, *, whole: bool = True) -> None:
    """Raises a usage error of click when ``flytectl`` would not take the words; not ``whole``: more may follow."""
    words = shlex.split(line)[1:]
    found: click.Command = cli.cli
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        step = found.get_command(click.Context(found), words[0])
        assert step is not None, f"there is no command: {line}"
        found, words = step, words[1:]
    if isinstance(found, click.Group) or HELP & set(words):
        return
    try:
        found.make_context(found.name or "", words)
    except click.MissingParameter:
        if whole:
            raise


@pytest.mark.parametrize("name", DOCS)
def test_commands_in_documents_exist(name: str) -> None:
    """Every flytectl command line that a document shows is one that the program takes."""
    blocks, spans = shown_commands((ROOT / name).read_text())
    assert blocks + spans
    for line in blocks:
        understood(line)
    for line in spans:
        understood(line, whole=False)


@pytest.mark.parametrize("line", ["flytectl frobnicate", "flytectl app ls --frobnicate", "flytectl logs"])
def test_the_check_of_command_lines_can_fail(line: str) -> None:
    """A command, an option and a missing argument that are wrong are found."""
    with pytest.raises((click.UsageError, AssertionError)):
        understood(line)


@pytest.mark.parametrize("name", [*DOCS, "CONTRIBUTING.md"])
def test_files_named_in_documents_exist(name: str) -> None:
    """A path of this repository in a document's code spans and links is there."""
    text = (ROOT / name).read_text()
    tops = r"flyted|flytectl|units|packaging|tests|benchmarks|examples|\.ci"
    spans = re.findall(rf"`((?:{tops})/[\w./-]*)`", text) + re.findall(rf"\]\(((?:{tops}|[A-Z])[\w./-]+)\)", text)
    assert [span for span in spans if not (ROOT / span).exists()] == []


def test_the_two_commands_are_in_the_readme() -> None:
    """A newcomer finds how to see it work and how to test it, and both programs exist."""
    text = (ROOT / "README.md").read_text()
    for program in ("packaging/demo", "tests/run"):
        assert f"sudo {program}" in text
        assert (ROOT / program).stat().st_mode & 0o111


def test_the_architecture_prints_the_walls() -> None:
    """ARCHITECTURE.md has the very import table that is enforced."""
    assert walls_table() in (ROOT / "ARCHITECTURE.md").read_text()


def test_the_architecture_is_read_in_ten_minutes() -> None:
    """A page of at most 2,800 words: what is longer belongs into the docstring of the folder that it is about."""
    assert 2_000 < len((ROOT / "ARCHITECTURE.md").read_text().split()) <= 2_800


def test_every_module_says_what_it_is_for() -> None:
    """The first line of each file stands for the file list that ARCHITECTURE.md does not have."""
    for top in ("flyted", "flytectl"):
        for path in (ROOT / top).rglob("*.py"):
            text = path.read_text()
            assert not text or re.match(r'r?"""\S[^\n]{10,}', text), path


def test_the_version_is_told_once() -> None:
    """The changelog's newest entry is the program's version."""
    entries = re.findall(r"^## \[?([\w.]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(entry for entry in entries if entry != "Unreleased") == VERSION


def test_security_rules_name_their_tests() -> None:
    """Each promise of SECURITY.md that names a test names one that exists."""
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert len(named) >= 5
    assert [path for path in named if not (ROOT / path).is_file()] == []
