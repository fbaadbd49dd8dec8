"""Messages of jsonargparse and Lightning, put into one line that names the flag and the remedy."""

import difflib
import re
from collections.abc import Iterable

GOT = r"(?:Got|Given) value: (?P<got>\[.*?\]|[^ ]+?)\.?(?: |$)"
ARGUMENT_OF_A_CLASS = r"given class_path '[^']+': Parser key \"[^\"]+\": "
UNION = r"Subtypes: \[(?P<types>.*?)\] Errors.*?"

# Pattern of a message, and the line to print, with the pattern's groups; {key} is the flag that the message is about,
# {chosen} the class that was chosen, {flags} are those of its missing arguments.
# The first pattern found is taken. A line that ends in ? asks for what was meant by its last word.
EXPLANATIONS = (
    (r"^argument (?:-\w/)?(?P<flag>--\S+): expected one argument", "{flag}: expected a value after it: {flag} VALUE"),
    (
        r"^Problems parsing config: (?P<problem>.+?),? in \"<[^>]*>\", (?P<place>(?:line|position) \d+)",
        "{place} is not YAML: {problem}",
    ),
    (r"codec can't decode byte", "expected a YAML file, got bytes that are no text"),
    (r"^Unexpected config: (?P<text>.{1,60})", "expected settings as --print_config prints them, got {text}"),
    (r"^Unexpected config:", "expected settings as --print_config prints them, got an empty file"),
    (
        r"^Parser key \"config\": (?:File|Path) (?P<problem>.+?): '(?P<path>.+)'",
        "--config: expected a YAML file, but {path} {problem}",
    ),
    (r"unrecognized arguments: (?P<flag>-[^\s=]+)", "unknown flag {flag}?"),
    (r"unrecognized arguments: (?P<word>\S+)", "unknown argument {word}?"),
    (r"^Group '(?P<group>.+)' does not accept option '(?P<option>.+)'", "unknown key {group}.{option}?"),
    (
        r"invalid strategy name: `strategy='(?P<got>.+?)'`.*Example choices: (?P<choices>[\w, ]+?),? \.\.\.",
        "--trainer.strategy: expected one like {choices}, got {got}",
    ),
    (r"^(?P<problem>.*backend found.*?)!?$", "{problem}: use --trainer.accelerator cpu or auto"),
    (
        r"^Requirement '(?P<name>[^']+)' not met|^No module named '(?P<module>[^']+)'",
        "{name}{module} is not installed, which the chosen settings need",
    ),
    (r"arguments are required: (?P<missing>\w+(?:, \w+)*)", "--{key}: {chosen} needs {missing}: add {flags}"),
    (rf"{ARGUMENT_OF_A_CLASS}Expected an? (?P<types><class '\w+'>)\. {GOT}", "--{key}: expected {types}, got {got}"),
    (rf"{ARGUMENT_OF_A_CLASS}Does not validate .*?{UNION}{GOT}", "--{key}: expected {types}, got {got}"),
    (r"^Option '(?P<option>.+?)' is not accepted", "unknown key {option}?"),
    (r"Option '(?P<name>.+?)' is not accepted", "unknown flag --{key}.{name}: the chosen class has no such argument"),
    (
        r"Multiple subclasses with name (?P<name>\S+)\. .*: (?P<paths>.+)\.$",
        "--{key}: expected the path of a class, got {name}, which may mean {paths}",
    ),
    (rf"{UNION}{GOT}", "--{key}: expected {types}, got {got}"),
    (r"Expected a dot import path string: (?P<name>\S+)", "--{key}: expected the name or path of a class, got {name}?"),
    (r"No module named '(?P<name>.+?)'", "--{key}: expected a class or its path, but there is no module {name}"),
    (rf"Expected an? (?P<types><class '\w+'>|typing\.Literal\[.*?\]).*?{GOT}", "--{key}: expected {types}, got {got}"),
    (rf"Expected (?P<what>a tuple with \d+ elements)\. {GOT}", "--{key}: expected {what}, got {got}"),
    (r"Parser key [^:]*: ?(?P<problem>.*)", "--{key}: {problem}"),
    (r"(?P<problem>.*)", "{problem}"),
)


def explain(message: str, known: Iterable[str] = ()) -> str:
    """One line for a message; `known` are names of flags (without dashes) and classes that may have been meant."""
    message = " ".join(message.split())
    key = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)":', message)))  # one argument may be tried twice
    match, line = next((match, line) for pattern, line in EXPLANATIONS if (match := re.search(pattern, message)))
    groups = {**match.groupdict(""), "types": _type_names(match.groupdict().get("types", "")), "key": key}
    groups["chosen"] = next(iter(re.findall(r"class_path[ =]'(?:\w+\.)*(\w+)'", message)), "")
    groups["flags"] = " ".join(f"--{key}.{name} VALUE" for name in groups.get("missing", "").split(", "))
    said = line.removesuffix("?").format_map(groups)
    word = said.split()[-1] if line.endswith("?") else ""
    dashes = "--" if word.startswith("--") else ""
    close = difflib.get_close_matches(word.removeprefix("--"), known, n=1, cutoff=0.7) if word else []
    return f"{said}; did you mean {dashes}{close[0]}?" if close else said


def _type_names(types: str) -> str:
    """`int, null` for `<class 'int'>, <class 'NoneType'>`, and the choices of a Literal."""
    names = re.findall(r"<class '(?:\w+\.)*(\w+)'>|Literal\[(.*?)\]", types)
    alternatives = ", ".join(name or choices.replace("'", "") for name, choices in names).replace("NoneType", "null")
    return ", ".join(dict.fromkeys(alternatives.split(", ")))
