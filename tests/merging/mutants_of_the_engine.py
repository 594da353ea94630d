"""Mutants of the engine: for each file, the broken rule, the old text and the new text."""

from __future__ import annotations

from typing import Final

OF_THE_ENGINE: Final[dict[str, list[tuple[str, str, str]]]] = {
    "_sse.py": [
        ("a CRLF is one line end", r'rb"(?:\r\n|\n|\r(?!\n))"', r'rb"(?:\r\n|\n|\r)"'),
        (
            "a blank line may come in two chunks",
            "max(0, len(held) - self._end_length)",
            "len(held)",
        ),
        ("one space after the colon is no data", "(?:: ?(.*))?", "(?:: *(.*))?"),
        (
            "a byte order mark is no part of the first line",
            "if not block.startswith(BYTE_ORDER_MARK):",
            "if True:",
        ),
        ("an event with two ids is not plain", "and field not in seen", "and True"),
        (
            "an event with retry is not plain",
            'field in {b"event", b"id"}',
            'field in {b"event", b"id", b"retry"}',
        ),
        (
            "an event with a comment is not plain",
            'field in {b"event", b"id"}',
            'field in {b"event", b"id", b""}',
        ),
        (
            "a block without data is no event",
            "identifier, plain) if data else None",
            "identifier, plain) if data or name else None",
        ),
    ],
    "_merging/_values.py": [
        (
            "a number and a flag say something",
            "or (isinstance(value, str | list | dict) and not value)",
            "or not value",
        ),
        (
            "of members of the same name the last counts",
            "text.count(quoted) != 1",
            "text.count(quoted) < 1",
        ),
    ],
    "_merging/_rules.py": [
        ("one choice, one part", "len(value) == 1", "len(value) >= 1"),
        (
            "what has to be there",
            "all(find(value, path) is not MISSING for path in paths.present)",
            "True",
        ),
        (
            "what has to be empty",
            "and all(is_empty(find(value, path)) for path in paths.empty)",
            "",
        ),
        (
            "what has to be single",
            "and all(_has_one_element(find(value, path)) for path in paths.single)",
            "",
        ),
        (
            "nothing but what is named",
            "and all(_has_only_members(find(value, path), names) for path, names in paths.only)",
            "",
        ),
        ("the name of the event", "(self.event is None or event.name == self.event)", "True"),
        ("a delta is a string", "isinstance(find(value, paths.delta), str)", "True"),
        (
            "the values that tell a kind",
            "and all(_is_one_of(find(value, path), wanted) for path, wanted in paths.where)",
            "",
        ),
    ],
    "_merging/_pattern.py": [
        ("the body of a string has whole escapes", "u[0-9a-fA-F]{4}", "u[0-9a-fA-F]+"),
        ("the body of a string has no other escapes", r'["\\/bfnrt]', r'["\\/bfnrtx]'),
        ("a pair that was cut stays cut", r"\\u[dD][c-fC-F]|", ""),
        ("bytes that were cut stay cut", r"|[\x80-\xbf])", ")"),
        ("a number is one of JSON", "(?:0|[1-9][0-9]*)", "(?:[0-9]*)"),
        (
            "what follows a value is compared",
            "return (start, end) if at == len(block) else (0, 0)",
            "return start, end",
        ),
    ],
    "_merging/_template.py": [
        ("a closing tag stands alone", '"</thinking>"', '"</thinkin>"'),
        ("a tag stands alone", "if not text or text in TAGS:", "if not text:"),
        ("blank text begins no run", "if not text or text in TAGS:", "if text in TAGS:"),
        (
            "blank text may be amid a run",
            "suspicious = not (bodies and body) or",
            "suspicious = not (bodies and body.strip()) or",
        ),
        (
            "no tag comes of merging",
            'return _decoded(b"".join((*bodies, body))).strip() in TAGS',
            "return False",
        ),
        ("tags may be escaped", r' or b"\\u003" in body', ""),
        (
            "what begins with an escape may be a tag",
            r'rb" *[!-;=-\[\]-~]"',
            r'rb" *[!-;=-~]"',
        ),
        ("what begins with an angle may be a tag", r'rb" *[!-;=-\[\]-~]"', r'rb" *[!-\[\]-~]"'),
        (
            "a character that was cut stays cut, though the event has been parsed",
            "kind is DELTA)\n            if not DELTA_BODY.fullmatch(block, start, end):",
            "kind is DELTA)\n            if False:",
        ),
        (
            "other literals forbid merging",
            "            and self._literals == other._literals\n",
            "",
        ),
        (
            "other kinds of parts forbid merging",
            "            and self._kinds == other._kinds\n",
            "",
        ),
        (
            "the last event is the one that stays",
            "self._last = block, start, end, parts",
            "self._last = self._last if self._last[0] else (block, start, end, parts)",
        ),
        (
            "arrays are joined",
            "if kind is ARRAY and elements:",
            "if kind is ARRAY and elements and False:",
        ),
        (
            "the elements of arrays keep their order",
            'b",".join(joined)',
            'b",".join(joined[::-1])',
        ),
        ("arrays count for the size", "self.size += len(elements) + 1", "self.size += 0"),
        (
            "what is not UTF-8 is no error",
            "except ValueError:  # not UTF-8",
            "except KeyError:  # not UTF-8",
        ),
        (
            "tags are for text, not for arguments",
            "if suspicious and self._text and self._must_stay_separate(body):",
            "if suspicious and self._must_stay_separate(body):",
        ),
        (
            "spaces before the last brace do not count",
            'Span(offset + len(inside.rstrip(" ")), offset + len(inside))',
            "Span(offset + len(inside), offset + len(inside))",
        ),
        ("null is no array", " and isinstance(find(value, path), list)", ""),
        ("ids may differ", "if event.id is not None", "if False"),
    ],
    "_merging/_merger.py": [
        ("the first event is not merged", "delta = None if first", "delta = None if False"),
        (
            "the first event does not wait",
            "return max(urgency, HURRY) if first else urgency\n",
            "return urgency\n",
        ),
        (
            "a merged event has a limit",
            "template.size + len(block) > self._max_merged_bytes",
            "False",
        ),
        (
            "a merged event has a limit, though nothing is parsed",
            "                and template.size + len(chunk) <= self._max_merged_bytes\n",
            "",
        ),
        (
            "text that is not merged stands alone",
            "if first and (template.never_merges or is_full):",
            "if first and is_full:",
        ),
        (
            "text that is not merged stands alone, though nothing is parsed",
            "                not template.never_merges\n                and ",
            "                ",
        ),
        (
            "an event that is too large is not held",
            "self.held >= self._max_batch_bytes",
            "False",
        ),
        (
            "the rest of a torn event is none",
            'Place.IN_TORN_BLOCK if held.strip(b"\\r\\n") else Place.BETWEEN_BLOCKS',
            "Place.BETWEEN_BLOCKS",
        ),
        (
            "what passes keeps its place",
            "        self._end_run()\n        self._out.append(block)",
            "        self._out.append(block)",
        ),
        (
            "another kind of delta ends the run",
            "        if not first:\n            self._end_run()\n",
            "        if not first:\n",
        ),
        ("a comment does not wait", "return HURRY if merging else MAY_WAIT", "return MAY_WAIT"),
        (
            "a comment waits where nothing is merged",
            "return HURRY if merging else MAY_WAIT",
            "return HURRY",
        ),
        (
            "what is no delta does not wait",
            "return max(urgency, HURRY)\n",
            "return urgency\n",
        ),
        (
            "an event of an unknown stream waits",
            "return max(urgency, HURRY) if first else urgency\n",
            "return HURRY\n",
        ),
        (
            "an unknown stream is given up",
            "if self._wasted_reads == GIVE_UP_AFTER_UNKNOWN and",
            "if False and",
        ),
        (
            "a format of one's own is not given up",
            " and all(\n            format.exclusive for format in self._formats\n        ):",
            ":",
        ),
        (
            "deltas that are never alike are given up",
            "if self._wasted_reads == GIVE_UP_AFTER_UNMERGED:",
            "if False:",
        ),
        ("a stream is of one format", "if any(format.exclusive for format in known):", "if False:"),
        (
            "what is too deep is no error",
            "except (ValueError, RecursionError):",
            "except ValueError:",
        ),
        (
            "what is no JSON is no error",
            "except (ValueError, RecursionError):",
            "except RecursionError:",
        ),
        (
            "an event with more than plain fields is not merged",
            "if self.mode is not Mode.MERGING or not event.plain:",
            "if self.mode is not Mode.MERGING:",
        ),
        ("JSON in several lines is not merged", "if len(event.data) != 1:", "if not event.data:"),
        (
            "after stop nothing is merged",
            "        self._templates = []\n        self.mode",
            "        self.mode",
        ),
        (
            "what is held is released",
            "        self.release()\n        self._end_run()",
            "        self._end_run()",
        ),
        ("lines are no events", "LineSplitter() if lines else EventSplitter()", "EventSplitter()"),
        ("a delta may be urgent", "template.urgency = urgency", "template.urgency = MAY_WAIT"),
        (
            "a stream that is given up is watched",
            "Mode.WATCHING if self._flush_on else",
            "Mode.PASSTHROUGH if self._flush_on else",
        ),
    ],
    "_policy.py": [
        ("another status", 'or start.get("status") != 200', ""),
        (
            "an encoded response",
            'or header(headers, b"content-encoding") is not None\n        or',
            "or",
        ),
        (
            "a promised length",
            '        or header(headers, b"content-length") is not None\n    ):',
            "    ):",
        ),
        (
            "Last-Event-ID",
            'header(scope.get("headers", ()), b"last-event-id") is not None',
            "False",
        ),
        ("starting_after", 'in b"starting_after"', 'in b"starting"'),
        ("starting_after without a value", '(?![^&=])"', '="'),
        ("starting_after with escapes", "(?:%c|%%(?i:%02x))", "(?:%c|%02x)"),
        (
            "the answer to GET is a replay",
            'if not (format.get_is_replay and scope.get("method") == "GET")',
            "if True",
        ),
        ("the answer to GET is a replay of some formats only", "format.get_is_replay and ", ""),
        (
            "the header of a format",
            "and (format.header is None or header(headers, format.header) is not None)",
            "",
        ),
        ("lines of JSON", "lines=lines", "lines=False"),
        ("other media types", "not (lines or kind == EVENT_STREAM)", "not kind"),
    ],
    "_buffer.py": [
        (
            "an urgent event makes its batch due",
            "            self._unhurried_deadline = self.deadline\n            self._make_due(now)",
            "            pass",
        ),
        ("one delta is no run of deltas", "return run > 1", "return True"),
        ("what the user names makes its batch due", "if urgency is _AT_ONCE:", "if False:"),
        (
            "only what is rare hurries",
            "return run >= RARE",
            "return True",
        ),
        ("hurrying has a price", "self._extra_writes < EXTRA_WRITES", "True"),
        ("each write more is counted", "self._extra_writes += 1", "pass"),
        (
            "a write that costs none is not counted",
            "if now < self._unhurried_deadline:",
            "if True:",
        ),
        (
            "half an event waits no longer than any chunk",
            "self._merger.release()",
            "pass",
        ),
        (
            "on the fast path events are merged",
            "            self._merge(chunk, now)\n        return True",
            "            self._chunks.append(chunk)\n        return True",
        ),
    ],
    "_response.py": [
        (
            "without batching nothing is merged from the start",
            "if not self._batching:\n            self.buffer.stop_merging()",
            "if not self._batching:\n            pass",
        ),
        (
            "when batching is switched off, merging ends",
            "if not options.batching:\n            self.buffer.stop_merging()",
            "if not options.batching:\n            pass",
        ),
        (
            "a message that is not a chunk ends the merging",
            "self.buffer.stop_merging()  # the message",
            "pass  # the message",
        ),
    ],
    "_options.py": [
        ("merge", "not isinstance(item, Format):", "False:"),
        ("media types that merging can read", "_check_readable(name, self.media_types)", "pass"),
        ("JSON that is not in lines", ' or b"json" in t]', "]"),
        ("flush_on", 'raise ValueError(f"flush_on must name events; got {item!r} in it")', "pass"),
        (
            "max_merged_bytes",
            '_check_size("max_merged_bytes", self.max_merged_bytes, least=1)',
            "pass",
        ),
    ],
}
