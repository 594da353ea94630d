"""The names that users import: their signatures and docstrings, and the wheel that has them."""

from __future__ import annotations

import ast
import dataclasses
import email
import inspect
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

import sse_batching
import sse_batching.testing.httpx
import sse_batching.testing.httpx2
from sse_batching import (
    CancellationToken,
    CancelReason,
    ClientDisconnected,
    Registration,
    SSEBatchingError,
    SSEBatchingMiddleware,
    Stream,
    StreamCancelled,
    StreamReport,
)

OPTIONS: Final = (
    "(app, *, max_delay=0.05, max_batch_bytes=65536, media_types=('text/event-stream',), "
    "keepalive_interval=None, send_timeout=30.0, grace_period=5.0, record_bytes=0, "
    "merge=None, flush_on=(), max_merged_bytes=16384, enabled=None, on_close=None)"
)

PROJECT: Final = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    """`__all__` has the documented names, in order, and the package has each of them."""
    assert sse_batching.__all__ == [
        "CancelReason",
        "CancellationToken",
        "ClientDisconnected",
        "Registration",
        "SSEBatchingError",
        "SSEBatchingMiddleware",
        "Stream",
        "StreamCancelled",
        "StreamReport",
        "current_stream",
        "current_token",
        "get_token",
        "observe_token",
    ]
    assert sse_batching.__all__ == sorted(sse_batching.__all__)
    assert all(hasattr(sse_batching, name) for name in sse_batching.__all__)


def test_nothing_else_is_public() -> None:
    """A name that is not in `__all__` is a module, or begins with an underscore."""
    public = {name for name in vars(sse_batching) if not name.startswith("_")}
    others = public - set(sse_batching.__all__)

    assert {name for name in others if not inspect.ismodule(getattr(sse_batching, name))} <= {
        "annotations"
    }


def parameters(function: Callable[..., Any]) -> str:
    """Return a signature without its types, which the type checker tests (`typing_examples.py`)."""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    text = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return re.sub(r"<CancelReason\.(\w+): '\w+'>", r"\1", str(text))


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (SSEBatchingMiddleware, OPTIONS),
        (CancellationToken, "()"),
        (CancellationToken.cancel, "(self, reason=REQUESTED, message=None, error=None)"),
        (CancellationToken.raise_if_cancelled, "(self)"),
        (CancellationToken.wait, "(self, timeout=None)"),
        (CancellationToken.wait_async, "(self)"),
        (CancellationToken.register, "(self, callback, *args, **kwargs)"),
        (Registration.unregister, "(self)"),
        (Stream.flush, "(self)"),
        (Stream.configure, "(self, *, max_delay=None, enabled=None)"),
        (sse_batching.current_token, "()"),
        (sse_batching.current_stream, "()"),
        (sse_batching.get_token, "(scope_or_request)"),
        (sse_batching.observe_token, "(scope_or_request=None)"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_signatures_are_these(function: Callable[..., Any], signature: str) -> None:
    """The names, the order and the defaults of parameters are a part of the contract."""
    assert parameters(function) == signature


def test_only_methods_that_wait_in_a_task_are_coroutine_functions() -> None:
    """`cancel` in particular is synchronous, so that it can be called from anywhere."""
    coroutine_functions = [
        CancellationToken.wait_async,
        Stream.flush,
        SSEBatchingMiddleware.__call__,
    ]
    functions = [CancellationToken.cancel, CancellationToken.wait, CancellationToken.register]

    assert all(inspect.iscoroutinefunction(function) for function in coroutine_functions)
    assert not any(inspect.iscoroutinefunction(function) for function in functions)


def test_the_reasons_are_these() -> None:
    """The reasons are strings, for use in a log or a database."""
    assert [f"{reason.name}={reason}" for reason in CancelReason] == [
        "CLIENT_DISCONNECTED=client_disconnected",
        "SEND_FAILED=send_failed",
        "SEND_TIMEOUT=send_timeout",
        "SERVER_SHUTDOWN=server_shutdown",
        "REQUESTED=requested",
        "DEADLINE=deadline",
    ]


def test_the_report_has_these_fields_and_cannot_be_changed() -> None:
    """A report is frozen, so that several users can share it."""
    fields = {field.name for field in dataclasses.fields(StreamReport)}

    assert fields >= {
        "stream_id",
        "outcome",
        "reason",
        "error",
        "chunks",
        "bytes_in",
        "writes",
        "bytes_sent",
        "bytes_undelivered",
        "time_to_first_chunk",
        "duration",
        "longest_delay",
        "cancel_latency",
        "recorded",
        "recorded_all",
    }
    report = StreamReport(**dict.fromkeys(fields))  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.chunks = 1  # type: ignore[misc]


def test_the_exceptions_can_be_caught_by_their_base_classes() -> None:
    """All exceptions have one base class, and a disconnect is an `OSError`, as ASGI demands."""
    assert StreamCancelled.__mro__[1:3] == (SSEBatchingError, Exception)
    assert issubclass(ClientDisconnected, SSEBatchingError)
    assert issubclass(ClientDisconnected, OSError)
    assert not issubclass(StreamCancelled, OSError)


# Docstrings.


def public_members() -> Iterator[tuple[str, object]]:
    """Yield all that a user can call: public classes and functions, and their public methods."""
    testing = sse_batching.testing
    for module in (sse_batching, testing, testing.httpx, testing.httpx2):
        for name in module.__all__:
            member = getattr(module, name)
            yield name, member
            for key, value in vars(member).items() if inspect.isclass(member) else ():
                if not key.startswith("_") and (callable(value) or isinstance(value, property)):
                    yield f"{name}.{key}", value


@pytest.mark.parametrize(
    "member", [pytest.param(member, id=name) for name, member in public_members()]
)
def test_every_public_member_has_a_docstring(member: object) -> None:
    """Each public class, function, method and property is explained."""
    assert member.__doc__


@pytest.mark.parametrize("cls", [CancelReason, StreamReport], ids=lambda cls: cls.__name__)
def test_every_field_has_a_docstring(cls: type) -> None:
    """The string after each field of the report, and after each reason, says what it means."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    body = [*definition.body, ast.Pass()]
    fields = [
        (node, after)
        for node, after in pairwise(body)
        if isinstance(node, ast.Assign | ast.AnnAssign)
    ]

    assert fields
    assert not [
        ast.unparse(node)
        for node, after in fields
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]


# The wheel.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build the wheel that users install, and yield it."""
    folder = tmp_path_factory.mktemp("wheel")
    with_own_builder = ["--no-build-isolation"] if find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", *with_own_builder, "--wheel-dir", str(folder), str(PROJECT)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_has_the_marker_of_a_typed_package(wheel: zipfile.ZipFile) -> None:
    """Type checkers use the annotations of a package only if `py.typed` is installed."""
    assert "sse_batching/py.typed" in wheel.namelist()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every module is in the wheel; tests, examples and docs are not."""
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = PROJECT / "sse_batching"
    source = {str(path.relative_to(PROJECT)) for path in package.rglob("*.py")}

    assert inside == source | {"sse_batching/py.typed"}


def test_the_wheel_needs_three_packages(wheel: zipfile.ZipFile) -> None:
    """The package requires anyio, asgiref and starlette, and nothing else."""
    requirements = metadata(wheel).get_all("Requires-Dist") or []

    assert {re.split(r"\W", requirement)[0] for requirement in requirements} == {
        "anyio",
        "asgiref",
        "starlette",
    }


def test_the_wheel_has_the_version_of_the_package(wheel: zipfile.ZipFile) -> None:
    """The version is written in one place."""
    assert metadata(wheel)["Version"] == sse_batching.__version__
