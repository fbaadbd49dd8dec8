"""What a user can mend, said in one line. Knows messages, not what they are about."""

import contextlib
import difflib
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """Bad input. The message is one line: what was expected, what was got, what to do.

    Attributes:
        status: The process's exit status.
    """

    status = 2


class Stopped(BaseException):
    """A signal ended the work; not an Exception, so that nobody takes it for a failure.

    Attributes:
        status: The process's exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Ends the process with one line on stderr, and not a traceback, where a user can mend or did mean it."""
    try:
        yield
    except UserError as error:
        # Of what all processes of a run find, one speaks; of what one finds, that one.
        if error.status != UserError.status or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.status) from error
    except Stopped as stopped:
        if stopped.status:
            print(stopped, file=sys.stderr)
        raise SystemExit(stopped.status) from None
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def explain(message: str, known: Iterable[str]) -> str:
    """One line for a message of jsonargparse or Lightning.

    Args:
        known: Names of flags (without dashes) and classes, to find what was meant.
    """
    message = " ".join(message.split())
    if match := re.search(r"unrecognized arguments: (-*)([^\s=]+)", message):
        meant = _did_you_mean(match[2], known, dashes=match[1])
        return f"unknown {'flag' if match[1] else 'argument'} {match[1]}{match[2]}{meant}"
    if match := re.match(r"Group '(.+)' does not accept option '(.+)'", message):
        key = f"{match[1]}.{match[2]}"
        return f"unknown key {key}{_did_you_mean(key, known)}"
    if "backend found" in message:  # Lightning names the accelerator that is not there, but not the way out
        return f"{message.rstrip('!')}: use --trainer.accelerator cpu or auto"
    keys = re.findall(r'Parser key "([^"]+)":', message)
    if not keys:
        return message
    key = ".".join(keys)
    if match := re.search(r"Option '(.+?)' is not accepted", message):
        return f"unknown flag --{key}.{match[1]}: the class chosen for --{key} has no such argument"
    if match := re.search(r"Multiple subclasses with name (\S+)\. .*: (.+)\.$", message):
        return f"--{key}: expected the path of a class, got {match[1]}, which may mean {match[2]}"
    types = re.search(r"Subtypes: \[(.*?)\] Errors", message)
    if not types and (match := re.search(r"Expected a dot import path string: (\S+)", message)):
        return f"--{key}: expected the name or path of a class, got {match[1]}{_did_you_mean(match[1], known)}"
    if match := re.search(r"No module named '(.+?)'", message):
        return f"--{key}: expected the name or path of a class, but there is no module {match[1]}"
    got = re.search(r"(?:Got|Given) value: ([^ ]+?)\.?(?: |$)", message)
    types = types or re.search(r"Expected an? (<class '\w+'>|typing\.Literal\[.*?\])", message)
    if not got or not types:
        return f"--{key}: {message.split(':', 1)[1].strip()}"
    names = re.findall(r"<class '(?:\w+\.)*(\w+)'>|Literal\[(.*?)\]", types[1])
    expected = ", ".join(name or choices.replace("'", "") for name, choices in names).replace("NoneType", "null")
    return f"--{key}: expected {expected}, got {got[1]}"


def _did_you_mean(word: str, known: Iterable[str], dashes: str = "") -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {dashes}{close[0]}?" if close else ""
