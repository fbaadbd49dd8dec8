"""Messages of jsonargparse and Lightning, put into one line that names the flag and the remedy."""

import difflib
import re
from collections.abc import Iterable

GOT = r"(?:Got|Given) value: (?P<got>[^ ]+?)\.?(?: |$)"

# Pattern of a message, and the line to print, with the pattern's groups and {key}, the flag that the message is about.
# The first pattern found is taken. A line that ends in ? asks for what was meant by its last word.
EXPLANATIONS = (
    (r"unrecognized arguments: (?P<flag>-[^\s=]+)", "unknown flag {flag}?"),
    (r"unrecognized arguments: (?P<word>\S+)", "unknown argument {word}?"),
    (r"^Group '(?P<group>.+)' does not accept option '(?P<option>.+)'", "unknown key {group}.{option}?"),
    (r"^(?P<problem>.*backend found.*?)!?$", "{problem}: use --trainer.accelerator cpu or auto"),
    (r"Option '(?P<name>.+?)' is not accepted", "unknown flag --{key}.{name}: the chosen class has no such argument"),
    (
        r"arguments are required: (?P<names>[\w, ]+)\. Got",
        "--{key}: expected values for {names}, which the chosen class requires",
    ),
    (
        r"Multiple subclasses with name (?P<name>\S+)\. .*: (?P<paths>.+)\.$",
        "--{key}: expected the path of a class, got {name}, which may mean {paths}",
    ),
    (rf"Subtypes: \[(?P<types>.*?)\] Errors.*?{GOT}", "--{key}: expected {types}, got {got}"),
    (r"Expected a dot import path string: (?P<name>\S+)", "--{key}: expected the name or path of a class, got {name}?"),
    (r"No module named '(?P<name>.+?)'", "--{key}: expected a class or its path, but there is no module {name}"),
    (rf"Expected an? (?P<types><class '\w+'>|typing\.Literal\[.*?\]).*?{GOT}", "--{key}: expected {types}, got {got}"),
    (r"Parser key [^:]*: ?(?P<problem>.*)", "--{key}: {problem}"),
    (r"(?P<problem>.*)", "{problem}"),
)


def explain(message: str, known: Iterable[str] = ()) -> str:
    """One line for a message; `known` are names of flags (without dashes) and classes that may have been meant."""
    message = " ".join(message.split())
    key = ".".join(re.findall(r'Parser key "([^"]+)":', message))
    match, line = next((match, line) for pattern, line in EXPLANATIONS if (match := re.search(pattern, message)))
    groups = {**match.groupdict(), "types": _type_names(match.groupdict().get("types", "")), "key": key}
    said = line.removesuffix("?").format_map(groups)
    word = said.split()[-1] if line.endswith("?") else ""
    dashes = "--" if word.startswith("--") else ""
    close = difflib.get_close_matches(word.removeprefix("--"), known, n=1, cutoff=0.7) if word else []
    return f"{said}; did you mean {dashes}{close[0]}?" if close else said


def _type_names(types: str) -> str:
    """`int, null` for `<class 'int'>, <class 'NoneType'>`, and the choices of a Literal."""
    names = re.findall(r"<class '(?:\w+\.)*(\w+)'>|Literal\[(.*?)\]", types)
    return ", ".join(name or choices.replace("'", "") for name, choices in names).replace("NoneType", "null")
