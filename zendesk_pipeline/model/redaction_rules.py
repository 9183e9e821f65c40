"""The file of redaction rules: read, checked, and turned into what `redaction` applies.

audit_logs: whole               # a stream whose records are sent as they are; one that is not here is refused
incremental_tickets:
  - keep: [status, via.channel] # nothing else of the record
  - hash: requester_id
  - keep: [id]                  # nothing else of each item
    in: custom_fields[*]
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path as File
from typing import NamedTuple, get_args

import msgspec
import yaml

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.redaction import Action, Path, Redaction, RedactionRule, Step, written
from zendesk_pipeline.model.streams import STREAMS, Stream

KEY = "REDACTION_KEY"
SHORTEST_KEY = 32
"""Characters: whoever could guess the key could find out whose hash is whose."""
BUILTIN = "builtin:"
WHOLE = "whole"
"""In the place of rules: the stream's records are sent as they are."""
MOST_FILES = 16
"""Contents of files that are held as they were read: many accounts may go by one."""
ACTIONS = get_args(Action)
FOLDER = File(__file__).parent / "rule_sets"
"""Of the rules that come with the package."""

_STEP = re.compile(r"""\.?(?P<name>[\w-]+)|\.?(?P<any>\*)|(?P<item>\[\*\])|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]""")

RulesOf = Mapping[str, Sequence[RedactionRule]]
"""By the stream's name; of one that is `whole`, none. Of a stream that is not in it, nothing is said."""


class _Node(NamedTuple):
    """Where a wrong thing stands."""

    line: int
    text: str


def builtin() -> list[str]:
    """The names of the rules that come with the package."""
    return sorted(each.stem for each in FOLDER.glob("*.yaml"))


def load(setting: str) -> RulesOf:
    """The rules that REDACTION_RULES names: a file's path, or `builtin:` and a name.

    Raises ValueError that tells all that is wrong, each with its line.
    """
    return parsed(_content(setting))


def unnamed(rules: RulesOf, streams: Iterable[str]) -> str:
    """What is wrong where the rules say nothing of a collected stream; empty if they speak of each."""
    missing = [name for name in streams if name not in rules]
    if not missing:
        return ""
    each, them = ("each of them", "them") if len(missing) > 1 else ("it", "it")
    return (
        f"REDACTION_RULES says nothing of {', '.join(missing)}, whose records would be stored as Zendesk sent them."
        f" Give {each} rules, or write `{missing[0]}: {WHOLE}` if that is meant (docs/redaction.md), or take {them} out"
        " of RESOURCES"
    )


@lru_cache(MOST_FILES)
def parsed(content: str) -> RulesOf:
    """The rules of a file's content; raises ValueError that tells all that is wrong, each with its line."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        at = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise ValueError(f"line {at}: this is no YAML ({problem.problem})") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("it is no YAML") from None
    wrong: list[_Node] = []
    rules: dict[str, list[RedactionRule]] = {}
    for key, value in _members(root, "names of streams, each with a list of rules, are", wrong):
        stream = STREAMS.get(key.value)
        if stream is None:
            wrong.append(_at(key, f"there is no stream {key.value}; there are {', '.join(STREAMS)}"))
        elif isinstance(value, yaml.ScalarNode) and value.value == WHOLE:
            rules[stream.name] = []
        elif isinstance(value, yaml.SequenceNode) and value.value:
            rules[stream.name] = list(_rules(stream, value, wrong))
        else:
            wrong.append(_at(key, f"a list of rules is wanted for {key.value}, or `{WHOLE}`"))
    if wrong:
        raise ValueError("; ".join(f"line {each.line}: {each.text}" for each in sorted(wrong)))
    return rules


def redaction(stream: Stream, setting: str, key: str) -> Redaction | None:
    """What is to be applied to a stream's records; None where they are sent as they are, as the rules say or for none.

    Args:
        stream: Whose records.
        setting: REDACTION_RULES; nothing where it is not set.
        key: REDACTION_KEY, or a reference to it.

    Raises SettingsError, also where the rules say nothing of the stream, and SecretStoreError where the key is not
    where it is said to be.
    """
    if not setting:
        return None
    try:
        rules = load(setting)
    except ValueError as wrong:
        raise SettingsError(f"REDACTION_RULES is wrong: {wrong}.") from None
    if problem := unnamed(rules, [stream.name]):
        raise SettingsError(f"{problem}.")
    chosen = rules[stream.name]
    if not chosen:
        return None
    secret = _key(key) if any(rule.action == "hash" for rule in chosen) else b""
    return Redaction(chosen, always=always(stream), key=secret)


def always(stream: Stream) -> tuple[str, ...]:
    """The fields that no rule may touch: what says which record it is, and when."""
    return tuple(dict.fromkeys((*stream.identity, stream.event_time)))


def path(text: str) -> Path:
    """A path such as `via.source.from.address`, `custom_fields[*].value`, `fields.*` or `["odd name"]`.

    Raises ValueError where it is none.
    """
    steps: list[Step] = []
    end = 0
    text = text.removeprefix("$")
    for found in _STEP.finditer(text):
        bare = found["name"] is not None or found["any"] is not None
        if found.start() != end or (bare and end and not found[0].startswith(".")):
            break
        if found["item"] or found["any"]:
            steps.append("[*]" if found["item"] else "*")
        else:
            name = found["name"] if found["quoted"] is None else msgspec.json.decode(found["quoted"], type=str)
            steps.append(name.encode())
        end = found.end()
    if not steps or end != len(text):
        raise ValueError(f"{text or 'nothing'} is no path; one is written like via.source.from.address or tags[*]")
    return tuple(steps)


def _content(setting: str) -> str:
    if setting.startswith(BUILTIN):
        name = setting.removeprefix(BUILTIN)
        if name not in builtin():
            raise ValueError(f"there are no such rules in the package; there are {', '.join(builtin())}")
        return (FOLDER / f"{name}.yaml").read_text("utf-8")
    try:
        return File(setting).read_text("utf-8")
    except OSError as problem:
        raise ValueError(f"the file cannot be read ({problem.strerror})") from None
    except ValueError:
        raise ValueError("the file is no text in UTF-8") from None


def _rules(stream: Stream, node: yaml.SequenceNode, wrong: list[_Node]) -> Iterator[RedactionRule]:
    seen: dict[Path, int] = {}
    for item in node.value:
        members = {key.value: (key, value) for key, value in _members(item, "an action and its paths are", wrong)}
        within = _within(stream, members.pop("in", None), wrong)
        if "keep" not in members and within:
            wrong.append(_at(item, "`in` stands beside `keep` alone"))
        for name, (key, value) in members.items():
            if name not in ACTIONS:
                wrong.append(_at(key, f"there is no action {name}; there are {', '.join(ACTIONS)}"))
                continue
            for each, where in _paths(value, wrong):
                rule = RedactionRule(action=name, path=each, within=within if name == "keep" else ())
                problem = _problem(stream, rule, seen)
                if problem:
                    wrong.append(_at(where, problem))
                else:
                    seen[rule.whole] = where.start_mark.line + 1
                    yield rule


def _problem(stream: Stream, rule: RedactionRule, seen: Mapping[Path, int]) -> str:
    if rule.whole in seen:
        return f"{written(rule.whole)} has a rule already, in line {seen[rule.whole]}"
    return "" if rule.action == "keep" else _untouchable(stream, rule.path)


def _untouchable(stream: Stream, touched: Path) -> str:
    names = always(stream)
    if touched[0] not in {name.encode() for name in names} and touched != ("*",):
        return ""
    return f"{written(touched)} takes in {' or '.join(names)}, which say which record it is and when, and have to stay"


def _within(stream: Stream, member: tuple[yaml.Node, yaml.Node] | None, wrong: list[_Node]) -> Path:
    if member is None:
        return ()
    for within, where in _paths(member[1], wrong):
        if problem := _untouchable(stream, within):
            wrong.append(_at(where, problem))
        return within
    return ()


def _paths(node: yaml.Node, wrong: list[_Node]) -> Iterator[tuple[Path, yaml.Node]]:
    """The paths of a rule: one, or a list of them."""
    items: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not items:
        wrong.append(_at(node, "the list of paths is empty"))
    for item in items:
        if not isinstance(item, yaml.ScalarNode):
            wrong.append(_at(item, "a path is wanted here"))
            continue
        try:
            yield path(item.value), item
        except (ValueError, msgspec.MsgspecError) as problem:
            wrong.append(_at(item, str(problem)))


def _members(node: yaml.Node | None, wanted: str, wrong: list[_Node]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The members of a mapping, each key once."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        wrong.append(_Node(node.start_mark.line + 1 if node else 1, f"{wanted} wanted here"))
        return
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            wrong.append(_at(key, "a name is wanted here"))
        elif key.value in seen:
            wrong.append(_at(key, f"{key.value} stands here twice"))
        else:
            seen.add(key.value)
            yield key, value


def _at(node: yaml.Node, text: str) -> _Node:
    return _Node(node.start_mark.line + 1, text)


def _key(key: str) -> bytes:
    """The key of hashes; raises SettingsError where there is none that protects."""
    if not key:
        raise SettingsError(
            f"{KEY} is not set, and the redaction rules hash: make one with `openssl rand -hex 32`, and keep it."
        )
    if key != key.strip() or not key.isprintable() or len(key) < SHORTEST_KEY:
        raise SettingsError(
            f"{KEY} is shorter than {SHORTEST_KEY} characters, begins or ends with a blank, or holds a line end:"
            " make one with `openssl rand -hex 32`."
        )
    return key.encode()
