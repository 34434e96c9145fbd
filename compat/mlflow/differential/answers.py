"""Answers in a form in which those of both servers can be compared."""

import math
import re
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from .sides import Side

# Times that clients give in this test lie before this one; those of the servers lie after it.
FIRST_SERVER_TIME_MS = 1_700_000_000_000
HEX_ID = re.compile(r"\bm-[0-9a-f]{32}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
EXPERIMENT_URI = re.compile(r"(?<=mlflow-artifacts:/)\d+(?=/|$)")
INVENTED_NAME = re.compile(r"^[a-z]+-[a-z]+-\d+$")
# Lists that neither server promises an order of.
UNORDERED = {
    "tags",
    "params",
    "aliases",
    "dataset_inputs",
    "model_inputs",
    "model_outputs",
    "latest_versions",
    "dataset_summaries",
    "events",
}


def plain(value: Any) -> Any:
    """An entity as dictionaries and lists."""
    if isinstance(value, PagedList):
        return {"items": [plain(item) for item in value], "has_next_page": bool(value.token)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if type(value).__module__.startswith("mlflow.entities"):
        names = [name for name in dir(type(value)) if isinstance(getattr(type(value), name), property)]
        fields = names or [name for name in vars(value) if not name.startswith("_")]
        if hasattr(type(value), "__dataclass_fields__"):
            fields = list(type(value).__dataclass_fields__)
        return str(value) if not fields else {name: plain(getattr(value, name)) for name in fields}
    return value


def comparable(side: Side, value: Any, key: str = "", parent: str = "") -> Any:
    """The value with symbols for ids, `<time>` for times of the server, and sorted where no order is promised."""
    if isinstance(value, dict):
        value = dict(value)
        if "next_page_token" in value:
            value["next_page_token"] = "<token>"
        leave_out_what_only_fishy_tells(value, key)
        return {name: comparable(side, item, name, key) for name, item in value.items()}
    if isinstance(value, list):
        items = [comparable(side, item, key, parent) for item in value]
        of_one_thing = key == "metrics" and (parent == "data" or any("model_id" in item for item in items))
        if key in UNORDERED or of_one_thing:
            items.sort(key=repr)
        elif key == "metrics":
            # Runs come in the order of their ids, which are random.
            items.sort(key=lambda item: item.get("run_id") or "")
        return items
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, int) and value > FIRST_SERVER_TIME_MS:
        return "<time>"
    if isinstance(value, str):
        return text(side, value, key)
    return value


def leave_out_what_only_fishy_tells(value: dict[str, Any], key: str) -> None:
    """Takes out what MLflow leaves empty: see docs/reference/mlflow-differences.md."""
    if "latest_versions" in value or "creation_timestamp" in value:
        value.pop("user_id", None)
    if "current_stage" in value:
        value.pop("model_id", None)
        if key in ("latest_versions", "model_versions", "items"):
            value.pop("aliases", None)
    if "info" in value and "data" in value and key in ("runs", "items"):
        value.pop("inputs", None)
        value.pop("outputs", None)


def text(side: Side, value: str, key: str) -> str:
    if key == "experiment_id":
        return side.symbols.get(value, value)
    if INVENTED_NAME.match(value):
        return "<invented name>"
    value = HEX_ID.sub(lambda found: side.symbols.get(found.group(0), "<unknown id>"), value)
    return EXPERIMENT_URI.sub(lambda found: side.symbols.get(found.group(0), found.group(0)), value)


def ask(side: Side, operation: Any) -> tuple[Any, Any]:
    """What a side answers: as it came (`None` for an error), and in the form that can be compared."""
    try:
        answer = operation.on(side)
    except MlflowException as error:
        return None, {"error_code": error.error_code}
    if isinstance(answer, dict) and answer.keys() == {"status", "error_code"}:
        return None, answer
    return answer, comparable(side, plain(answer))


def is_refused_more_clearly(ours: Any, theirs: Any) -> bool:
    """Where MLflow fails by accident, or a constraint of its database refuses, fishy says what is wrong."""
    clearer = {
        "INTERNAL_ERROR": ["INVALID_PARAMETER_VALUE"],
        "BAD_REQUEST": ["INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"],
    }
    if not isinstance(ours, dict) or not isinstance(theirs, dict) or "items" in ours:
        return False
    return ours.get("status", 400) == 400 and ours.get("error_code") in clearer.get(theirs.get("error_code"), [])


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two answers differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted({*ours, *theirs}):
            if key not in theirs:
                found.append(f"{path}.{key}: only fishy has it: {ours[key]!r}")
            elif key not in ours:
                found.append(f"{path}.{key}: only mlflow has it: {theirs[key]!r}")
            else:
                found += differences(ours[key], theirs[key], f"{path}.{key}")
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [text for at, (one, other) in pairs for text in differences(one, other, f"{path}[{at}]")]
    if ours == theirs:
        return []
    return [f"{path}: mlflow {str(theirs)[:300]!r}, fishy {str(ours)[:300]!r}"]
