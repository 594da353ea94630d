"""What the server was given: the bytes and their order. See `oracle.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from tests.fuzz.meaning import between_events, meaning, unfinished
from tests.fuzz.plan import Settings
from tests.fuzz.seen import Seen, Sent, Taken

COMMENT = b":\n"
END = b"\x00end\x00"
"""Stands for the end of the response among the bytes."""


def is_batched(seen: Seen) -> bool:
    """Return True if the middleware has to batch this response."""
    return seen.request.enabled and seen.request.app.media_type == "text/event-stream"


def faults(settings: Settings, seen: Seen) -> Iterator[str]:
    """Yield what is wrong in what the server was given."""
    yield from _order(seen)
    if any(sent.changed for sent in seen.sent):
        yield "mutated: the middleware has changed a message of the app's"
    if not is_batched(seen):
        yield from _untouched(seen)
        return
    yield from _comments(settings, seen)
    yield from _after_loss(seen)
    order = delivered_order(seen)
    if settings.merge:
        yield from _merged(settings.merge, seen)
    elif order is None:
        yield f"bytes: {delivered(seen)!r} is not what the app sent"


def _order(seen: Seen) -> Iterator[str]:
    """The start comes first, and the last message last."""
    started = ended = False
    for taken in seen.taken:
        kind = taken.message["type"]
        if kind == "http.response.start":
            if started:
                yield "order: a second start message"
            started = True
        elif not started and not taken.by_app:
            yield f"order: {kind} before the start message"
        elif ended and not taken.by_app:
            yield "order: a message behind the last one"
        if kind == "http.response.body" and not taken.message.get("more_body", False):
            ended = ended or taken.result == "taken"


def _untouched(seen: Seen) -> Iterator[str]:
    """Each message of a response that is not batched goes to the server as it is."""
    sent = [one.message for one in seen.sent]
    taken = [one.message for one in seen.taken]
    if taken != sent[: len(taken)] and len(seen.request.app.producers) < 2:
        yield f"untouched: {taken} is not {sent}"


def _comments(settings: Settings, seen: Seen) -> Iterator[str]:
    """A keep-alive comment stands between two events, and only where it was asked for."""
    before = b""
    for taken in seen.taken:
        body = taken.message.get("body", b"")
        if body == COMMENT:
            if settings.keepalive_interval is None:
                yield "comment: nobody has asked for one"
            elif not between_events(before):
                yield f"comment: inside of the event {unfinished(before)!r}"
        elif taken.result == "taken":
            before += body


def _after_loss(seen: Seen) -> Iterator[str]:
    """Nothing is written after a write was cancelled, or has found the client gone; nor after the
    client has left, except for the last message."""
    last_called = min(
        (sent.order for sent in seen.sent if not sent.message.get("more_body", True)), default=0
    )
    lost: Taken | None = None
    for taken in seen.taken:
        if taken.by_app:
            continue
        if lost is not None:
            yield f"after a loss: a write follows one that has {lost.result}"
            return
        if (
            0 < seen.disconnect_order < taken.order
            and not seen.receive_errors
            and not (last_called and last_called < taken.order)
            and taken.order < (seen.ended_order or taken.order + 1)
            and _knew(seen)
        ):
            yield "after the disconnect: a write begins"
            return
        if seen.ended_order and taken.order > seen.ended_order:
            yield "after the end: a write begins when the middleware has returned"
            return
        if taken.cancellations and not seen.cancels:  # it could not be cancelled
            lost = taken
        if taken.result == "cancelled" or (taken.result == "failed" and is_gone(taken)):
            lost = taken


def _knew(seen: Seen) -> bool:
    """Return True if the disconnect came while the middleware watched a batched response."""
    return any(
        taken.order < seen.disconnect_order
        for taken in seen.taken
        if taken.message["type"] == "http.response.start"
    )


def is_gone(taken: Taken) -> bool:
    """Return True if this write has found the client gone."""
    return isinstance(taken.error, OSError)


State: TypeAlias = tuple[tuple[int, ...], int]
"""How many calls of each task are done, and how many of the delivered bytes they account for."""

# The bytes, with marks for what is not a chunk.


def mark(message: object) -> bytes:
    """Return what stands for a message among the bytes."""
    assert isinstance(message, dict)
    kind, body = message["type"], bytes(message.get("body", b""))
    if kind == "http.response.start":
        return b""
    if kind != "http.response.body":
        return f"\x00{kind}\x00".encode()
    if not message.get("more_body", False):
        return body + END
    return b"\x00extra\x00" + body if "x-unknown" in message else body


def delivered(seen: Seen) -> bytes:
    """Return what the server has taken, without comments."""
    return b"".join(
        mark(taken.message)
        for taken in seen.taken
        if taken.result == "taken" and taken.message.get("body") != COMMENT
    )


def optional(seen: Seen, sent: Sent) -> bool:
    """Return True if what this call has sent may be missing, though more follows."""
    return (
        sent.returned is None
        or sent.in_background
        or (seen.app_ended is not None and sent.called >= seen.app_ended)
    )


def delivered_order(seen: Seen) -> list[Sent] | None:
    """Return the calls of `send` whose bytes the server has taken, in the order in which it took
    them. None if there is no such order: something was lost, doubled or exchanged."""
    whole = delivered(seen)
    lanes = _lanes(seen)
    start: State = (tuple(0 for _ in lanes), 0)
    before: dict[State, tuple[State | None, Sent | None]] = {start: (None, None)}
    stack = [start]
    while stack:
        state = stack.pop()
        done, at = state
        if at == len(whole):
            return _path(before, state)
        for number, lane in enumerate(lanes):
            if done[number] == len(lane):
                continue
            sent = lane[done[number]]
            after = (*done[:number], done[number] + 1, *done[number + 1 :])
            steps = [(after, at)] if optional(seen, sent) else []
            body = mark(sent.message)
            if whole.startswith(body, at) and not _overtakes(seen, sent, lanes, done):
                steps.append((after, at + len(body)))
            for step in steps:
                if step not in before:
                    before[step] = (state, sent if step[1] > at else None)
                    stack.append(step)
    return None


def _lanes(seen: Seen) -> list[list[Sent]]:
    """Return the calls of each task of the app that sends, in order."""
    lanes: dict[tuple[int, bool], list[Sent]] = {}
    for sent in seen.sent:
        if mark(sent.message):
            lanes.setdefault((sent.producer, sent.in_background), []).append(sent)
    return list(lanes.values())


def _overtakes(seen: Seen, sent: Sent, lanes: list[list[Sent]], done: tuple[int, ...]) -> bool:
    """Return True if a call of another producer returned before this one began, and is still to
    come."""
    for lane, begun in zip(lanes, done, strict=True):
        for other in lane[begun:]:
            if other is not sent and not optional(seen, other):
                if other.return_order < sent.order:
                    return True
                break
    return False


def _path(before: dict[State, tuple[State | None, Sent | None]], state: State | None) -> list[Sent]:
    found: list[Sent] = []
    while state is not None:
        state, sent = before[state]
        if sent is not None:
            found.append(sent)
    return found[::-1]


# With merging.


def _merged(merge: str, seen: Seen) -> Iterator[str]:
    """The delivered stream means the same as the first so many chunks of the app's."""
    got = _bytes(taken.message for taken in seen.taken if taken.result == "taken")
    result = meaning(merge, got), unfinished(got)
    for chunks in _candidates(seen):
        stream = _bytes(sent.message for sent in chunks)
        if (meaning(merge, stream), unfinished(stream)) == result:
            return
    yield f"merged: {got!r} does not mean what the app has sent"


def _bytes(messages: Iterator[object]) -> bytes:
    bodies = (bytes(one.get("body", b"")) for one in messages if isinstance(one, dict))
    return b"".join(body for body in bodies if body != COMMENT)


def _candidates(seen: Seen) -> Iterator[list[Sent]]:
    """Yield what the app may have had accepted, longest first."""
    every = [sent for sent in seen.sent if sent.message.get("body")]
    certain = [sent for sent in every if not optional(seen, sent)]
    for chunks in (every, certain):
        for count in range(len(chunks), -1, -1):
            yield chunks[:count]
    for left_out in every:
        if optional(seen, left_out):
            chunks = [sent for sent in every if sent is not left_out]
            for count in range(len(chunks), -1, -1):
                yield chunks[:count]
