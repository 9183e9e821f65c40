"""A CloudFormation template as CloudFormation would fill it in, for what no local server applies.

Only the functions that the template uses; a resource's own values stand as `Name` and `Name.Attribute`.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from zendesk_pipeline_tests.root import ROOT

PATH = ROOT / "deploy" / "aws" / "zendesk-to-secops.yaml"

AWS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::NoValue": None,
}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _short_form(loader: _Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # pyright: ignore[reportArgumentType]  # no short form of ours has a mapping
    return {name if name in {"Ref", "Condition"} else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _short_form)  # pyright: ignore[reportUnknownMemberType]  # untyped in its stubs


@cache
def template(path: Path = PATH) -> dict[str, Any]:
    """The template as it is written."""
    return yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader, which makes plain values only


def filled_in(path: Path = PATH, /, **parameters: str) -> dict[str, Any]:
    """Resources and outputs that a deployment has, with `Refused`: the sentences of the rules that stop it.

    Args:
        path: The template.
        parameters: Those of the template; or what a resource's own value is, by `Name` or `Name.Attribute`.
    """
    source = template(path)
    values = {name: str(said["Default"]) for name, said in source["Parameters"].items() if "Default" in said}
    given = Scope(AWS | values | parameters)
    conditions = source.get("Conditions", {})
    scope = replace(given, conditions={name: _value(said, given) for name, said in conditions.items()})
    made = {
        part: {
            name: _value({key: value for key, value in said.items() if key != "Condition"}, scope)
            for name, said in source[part].items()
            if scope.conditions.get(said.get("Condition"), True)
        }
        for part in ("Resources", "Outputs")
    }
    refused = [
        assertion["AssertDescription"]
        for rule in source.get("Rules", {}).values()
        if _value(rule.get("RuleCondition", True), given)
        for assertion in rule["Assertions"]
        if not _value(assertion["Assert"], given)
    ]
    return {**made, "Refused": refused}


@dataclass(frozen=True, slots=True)
class Scope:
    """What names stand for, and which conditions hold."""

    names: Mapping[str, Any]
    conditions: Mapping[str, bool] = field(default_factory=dict[str, bool])


def _value(node: Any, scope: Scope) -> Any:
    if isinstance(node, list):
        filled = [_value(inner, scope) for inner in cast("list[Any]", node)]
        return [inner for inner in filled if inner is not None]
    if not isinstance(node, dict):
        return node
    parts = cast("dict[str, Any]", node)
    name = next(iter(parts), "")
    if name == "Ref" or name.startswith("Fn::"):
        return _FUNCTIONS[name](parts[name], scope)
    values = {key: _value(inner, scope) for key, inner in parts.items()}
    return {key: inner for key, inner in values.items() if inner is not None}


def _if(said: Any, scope: Scope) -> Any:
    condition, yes, no = said
    return _value(yes if scope.conditions[condition] else no, scope)


def _equals(said: Any, scope: Scope) -> bool:
    left, right = (_value(side, scope) for side in said)
    return str(left) == str(right)


def _substituted(said: Any, scope: Scope) -> str:
    text, more = (said, dict[str, Any]()) if isinstance(said, str) else said
    names = {**scope.names, **_value(more, scope)}
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(names.get(found[1], found[1])), text)


_FUNCTIONS: dict[str, Callable[[Any, Scope], Any]] = {
    "Ref": lambda name, scope: scope.names.get(name, name),
    "Fn::GetAtt": lambda path, scope: scope.names.get(path, path),
    "Fn::If": _if,
    "Fn::Equals": _equals,
    "Fn::Not": lambda said, scope: not _value(said[0], scope),
    "Fn::Select": lambda said, scope: _value(said[1], scope)[said[0]],
    "Fn::Split": lambda said, scope: str(_value(said[1], scope)).split(said[0]),
    "Fn::Sub": _substituted,
}
