"""A class that is named brings its own defaults, where jsonargparse keeps what it can of the class named before."""

import contextlib
import functools
import pkgutil
import threading
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace, _typehints

from fashion_lightning.errors import UserError

DISCARD = "discard_init_args_on_class_path_change"
REPLACING = threading.Lock()  # two commands may be run in threads of one process
Specs = dict[str, dict[str, Any]]  # key of a setting to the class and its arguments, as in YAML


def parse(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    """As `parser.parse_args`. Where a class is named, nothing is left of the arguments in the parser's default.

    Parses twice: to find the classes that are named, and starting from their own defaults.
    Raises UserError if an argument of a class precedes the flag that names the class.
    """
    _check_order(args)
    specs = {key: parser.get_default(key) for key, value in parser.get_defaults().items(True) if _is_class(value)}
    with _discarding_all():
        try:
            named = _named_classes(parser, args, specs)
            parser.set_defaults(named)
            own = parser.get_defaults()
        finally:
            parser.set_defaults(specs)
        start = Namespace()
        for key in named:
            start[key] = own[key]
        return parser.parse_args(args, namespace=start)


def _named_classes(parser: ArgumentParser, args: Sequence[str], specs: Specs) -> Specs:
    """The last class named for each of the keys that have one, without arguments. Changes the parser's defaults."""
    parser.set_defaults({key: {**spec, "class_path": _stand_in(spec["class_path"])} for key, spec in specs.items()})
    read = [arg for arg in args if not arg.startswith("--print_config")]
    try:
        found = parser.parse_args(read)
    except ArgumentError:
        parser.set_defaults(specs)
        parser.parse_args(read)  # the message should name the default's class, not one that stands for it
        raise
    paths = {key: found[key].class_path for key in specs if _is_class(found.get(key))}
    return {key: {"class_path": path} for key, path in paths.items() if not path.startswith(__name__)}


def _check_order(args: Sequence[str]) -> None:
    """An argument is one of the class that is named before it, if any."""
    flags = [arg.split("=")[0].removesuffix(".class_path") for arg in args if arg.startswith("--")]
    first: dict[str, str] = {}  # of the flags of a class: the one that names it, or one of an argument
    for flag in flags:
        if first.setdefault(flag, flag) != flag:
            raise UserError(f"{first[flag]}: expected after {flag}, which names its class")
        parts = flag.split(".")
        for count in range(2, len(parts)):
            first.setdefault(".".join(parts[:count]), flag)


def _is_class(value: Any) -> bool:
    return isinstance(value, Namespace) and "class_path" in value


@functools.cache
def _stand_in(class_path: str) -> str:
    """The path of a class like that of a default, which no user names: what still has it was not named."""
    default = pkgutil.resolve_name(class_path)
    name = f"_{default.__name__}"
    globals()[name] = type(name, (default,), {"__module__": __name__})
    return f"{__name__}.{name}"


@contextlib.contextmanager
def _discarding_all() -> Iterator[None]:
    with REPLACING:
        original = getattr(_typehints, DISCARD)
        setattr(_typehints, DISCARD, _discard_all)
        try:
            yield
        finally:
            setattr(_typehints, DISCARD, original)


def _discard_all(parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Where the class changes, nothing of the class before is left; jsonargparse's keeps what the new class accepts."""
    if prev_val and prev_val.get("class_path") not in (None, value["class_path"]):
        prev_val.pop("init_args", None)
        prev_val.pop("dict_kwargs", None)
