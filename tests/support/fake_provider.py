"""A strict server that behaves like the HTTP API of a provider of language models.

The server has the files, batches and chat completions of OpenAI's API, which other providers and
local servers offer too. It refuses the same requests. It keeps a ledger of the requests of each
batch, the answers and their costs. Like the real servers, it ignores idempotency keys. A client
that creates a batch twice has two batches.
"""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.fake_server import FakeServer, Refusal

CHAT = "/v1/chat/completions"
INPUT_CENTS, OUTPUT_CENTS = Decimal("0.00025"), Decimal("0.001")  # of a token; half in a batch
MODELS = {"small", "large"}
_CHAT_ARGUMENTS = {"model", "messages", "max_tokens", "temperature", "response_format", "metadata"}
_ENDS = {"completed", "expired", "cancelled", "failed"}


@dataclass
class Call:
    """A request for a chat completion, and its result. Times are times of the clock."""

    prompt: str
    began: float
    input_tokens: int
    status: int = 0
    output_tokens: int = 0
    cents: Decimal = Decimal(0)


@dataclass
class SubmittedBatch:
    """A batch in the ledger. ``answered`` has the ids that were answered, and charged."""

    id: str
    file_id: str
    metadata: dict[str, str]
    began: float
    requests: dict[str, Any]
    errors: list[dict[str, Any]]
    cancelled: float | None = None
    answered: list[str] = field(default_factory=list)
    cents: Decimal = Decimal(0)
    output_file_id: str | None = None
    error_file_id: str | None = None
    is_settled: bool = False


@dataclass
class FakeProvider(FakeServer):
    """The members are switches, which may be set at any time. Batches are numbered from 1 in the
    order of their creation. Calls of the chat are numbered in the same way.
    """

    key: str = "sk-test"
    clock: Callable[[], float] = time.time
    # Prompt -> answer. By default a small JSON object. A prompt with "forbidden" is refused (400).
    answer: Callable[[str], str] = lambda prompt: json.dumps(
        {"label": "negative" if digest(prompt) % 2 else "positive"}
    )
    # (prompt, how often it was answered before) -> whether this answer is cut off.
    is_malformed: Callable[[str, int], bool] = lambda _prompt, _before: False

    # For batches: the maximum number of requests in a file, the seconds until a batch is done, and
    # until it is listed. Then the batches that expire with half of their requests done, and by
    # batch, the number of requests that come back in neither file.
    max_requests: int = 50_000
    batch_s: float = 0.0
    listing_delay_s: float = 0.0
    expiring: set[int] = field(default_factory=set)
    missing: dict[int, int] = field(default_factory=dict)

    # For the chat: the minimum and maximum seconds of a call. A function from the number of a call
    # to None, or to the status and Retry-After of its refusal. Then the input tokens that are
    # accepted in each `minute_s`.
    latency_s: tuple[float, float] = (0.0, 0.0)
    refuse: Callable[[int], tuple[int, str | None] | None] = lambda _number: None
    tokens_per_minute: float | None = None
    minute_s: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls: list[Call] = []
        self.batches: dict[str, SubmittedBatch] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._asked: dict[str, int] = {}
        self._ids = itertools.count(1)
        self._random = random.Random(1)

    def __enter__(self) -> Self:
        super().__enter__()
        self.url += "/v1"
        self.environment = {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.key}
        return self

    # --- the ledger

    @property
    def cents(self) -> Decimal:
        """The cost of all answers, of calls and in batches."""
        with self.lock:
            self._settle_all()
            ledger: Iterable[Call | SubmittedBatch] = (*self.calls, *self.batches.values())
            return sum((each.cents for each in ledger), Decimal(0))

    def batches_of(self, custom_id: str) -> list[str]:
        """The ids of all batches that had this request."""
        with self.lock:
            return [batch.id for batch in self.batches.values() if custom_id in batch.requests]

    def answers_of(self, custom_id: str) -> int:
        with self.lock:
            self._settle_all()
            return sum(custom_id in batch.answered for batch in self.batches.values())

    # --- requests

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[Any, bool]:
        if headers.get("Authorization") != f"Bearer {self.key}":
            raise Refusal(401, "Incorrect API key provided", "invalid_api_key")
        url = urlsplit(path)
        request = f"{method} {url.path}"
        if request == f"POST {CHAT}":
            return self._complete(_json_of(headers, body)), True
        with self.lock:
            self.requests.append(request)
            match url.path.split("/")[2:]:
                case ["files"] if method == "POST":
                    return self._upload(headers, body), True
                case ["files", file_id, "content"] if method == "GET":
                    return self._file(file_id), False
                case ["batches"] if method == "POST":
                    return self._create(_json_of(headers, body)), True
                case ["batches"] if method == "GET":
                    return self._list({k: v[0] for k, v in parse_qs(url.query).items()}), True
                case ["batches", batch_id] if method == "GET":
                    return self._shown(self._batch(batch_id)), True
                case ["batches", batch_id, "cancel"] if method == "POST":
                    return self._cancel(batch_id), True
        raise Refusal(404, f"Invalid URL ({request})")

    def _new_id(self, kind: str) -> str:
        return f"{kind}{hashlib.sha256(str(next(self._ids)).encode()).hexdigest()[:16]}"

    def _answered(self, body: dict[str, Any], price: Decimal) -> tuple[dict[str, Any], Decimal]:
        """A completion and its cost in cents."""
        prompt = _prompt_of(body)
        before = self._asked[prompt] = self._asked.get(prompt, -1) + 1
        text = self.answer(prompt)
        if self.is_malformed(prompt, before):
            text = text[: len(text) // 2]
        tokens_in, tokens_out = _tokens(prompt), _tokens(text)
        completion = {
            "id": self._new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(self.clock()),
            "model": body["model"],
            "system_fingerprint": "fp\u2028",  # ends a line for str.splitlines, but not in JSON
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
            },
        }
        return completion, (tokens_in * INPUT_CENTS + tokens_out * OUTPUT_CENTS) * price

    # --- chat

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        _check_chat(body)
        prompt = _prompt_of(body)
        with self.lock:
            call = Call(prompt, self.clock(), _tokens(prompt))
            refused = self.refuse(len(self.calls) + 1) or self._over_the_limit(call)
            self.calls.append(call)
            if refused:
                call.status, after = refused
                code = "rate_limit_exceeded" if call.status == 429 else None
                more = {} if after is None else {"Retry_After": after}
                raise Refusal(call.status, "Please try again later", code, **more)
            seconds = self._random.uniform(*self.latency_s)
        time.sleep(seconds)
        with self.lock:
            if "forbidden" in prompt:
                call.status = 400
                raise Refusal(400, "The prompt violates the policy", "content_filter")
            completion, call.cents = self._answered(body, Decimal(1))
            call.status, call.output_tokens = 200, completion["usage"]["completion_tokens"]
        return completion

    def _over_the_limit(self, call: Call) -> tuple[int, str] | None:
        if self.tokens_per_minute is None:
            return None
        since = call.began - self.minute_s
        recent = [each for each in self.calls if each.began > since and each.status in (0, 200)]
        if sum(each.input_tokens for each in recent) + call.input_tokens <= self.tokens_per_minute:
            return None
        wait_s = recent[0].began - since if recent else self.minute_s
        return 429, f"{wait_s:.3f}"

    # --- files and batches

    def _upload(self, headers: Any, body: bytes) -> dict[str, Any]:
        kind = headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data"):
            raise Refusal(400, f"Content-Type is {kind!r}, and not multipart/form-data")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {
            part.get_param("name", header="content-disposition"): part for part in form.iter_parts()
        }
        if "file" not in parts or "purpose" not in parts:
            raise Refusal(400, "'file' and 'purpose' are required")
        purpose = parts["purpose"].get_payload(decode=True)
        name = parts["file"].get_filename() or ""
        if purpose != b"batch" or not name.endswith(".jsonl"):
            raise Refusal(400, f"Invalid file {name!r} for purpose {purpose!r}")
        content = parts["file"].get_payload(decode=True)
        assert isinstance(content, bytes)
        file_id = self._new_id("file-")
        self.files[file_id] = content
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(self.clock()),
            "filename": name,
            "purpose": "batch",
        }

    def _file(self, file_id: str) -> bytes:
        if file_id not in self.files:
            raise Refusal(404, f"No such File object: {file_id}")
        return self.files[file_id]

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        unknown = body.keys() - {"input_file_id", "endpoint", "completion_window", "metadata"}
        if unknown:
            raise Refusal(400, f"Unknown parameter: {sorted(unknown)}")
        if body.get("endpoint") != CHAT or body.get("completion_window") != "24h":
            raise Refusal(400, "Invalid 'endpoint' or 'completion_window'")
        metadata = body.get("metadata") or {}
        if len(metadata) > 16 or not all(
            isinstance(value, str) and len(name) <= 64 and len(value) <= 512
            for name, value in metadata.items()
        ):
            raise Refusal(400, "Invalid 'metadata': at most 16 texts of 512 characters")
        file_id = body.get("input_file_id")
        if file_id not in self.files:
            raise Refusal(400, f"Invalid file ID: {file_id}")
        requests, errors = _requests_in(self.files[file_id], self.max_requests)
        batch = SubmittedBatch(
            self._new_id("batch_"), file_id, metadata, self.clock(), requests, errors
        )
        self.batches[batch.id] = batch
        return self._shown(batch)

    def _batch(self, batch_id: str) -> SubmittedBatch:
        if batch_id not in self.batches:
            raise Refusal(404, f"No batch found with id '{batch_id}'")
        return self.batches[batch_id]

    def _cancel(self, batch_id: str) -> dict[str, Any]:
        batch = self._batch(batch_id)
        if self._status(batch) in _ENDS:
            raise Refusal(409, f"Cannot cancel a batch with status '{self._status(batch)}'")
        batch.cancelled = batch.cancelled or self.clock()
        return self._shown(batch)

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        limit = int(query.get("limit", "20"))
        if not 1 <= limit <= 100:
            raise Refusal(400, "Invalid 'limit': 1 to 100")
        until = self.clock() - self.listing_delay_s
        listed = [batch for batch in reversed(self.batches.values()) if batch.began <= until]
        if "after" in query:
            last = self._batch(query["after"])
            listed = listed[listed.index(last) + 1 :]
        page = [self._shown(batch) for batch in listed[:limit]]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(listed) > limit,
        }

    def _progress(self, batch: SubmittedBatch, until: float | None = None) -> float:
        age = (self.clock() if until is None else until) - batch.began
        return 1.0 if age >= self.batch_s else age / self.batch_s

    def _status(self, batch: SubmittedBatch) -> str:
        progress = self._progress(batch)
        if batch.errors:
            return "failed"
        if batch.cancelled is not None:
            ended = batch.cancelled + self.batch_s / 10 <= self.clock()
            return "cancelled" if ended else "cancelling"
        if progress < 1:
            return ("validating", "in_progress", "finalizing")[(progress > 0.1) + (progress > 0.9)]
        number = list(self.batches).index(batch.id) + 1
        return "expired" if number in self.expiring else "completed"

    def _shown(self, batch: SubmittedBatch) -> dict[str, Any]:
        status = self._status(batch)
        self._settle(batch)
        total = len(batch.requests)
        done = len(batch.answered) if batch.is_settled else int(self._progress(batch) * total)
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": CHAT,
            "completion_window": "24h",
            "input_file_id": batch.file_id,
            "created_at": int(batch.began),
            "status": status,
            "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "request_counts": {
                "total": total,
                "completed": done,
                "failed": total - done if batch.is_settled else 0,
            },
            "metadata": batch.metadata,
        }

    def _settle_all(self) -> None:
        for batch in self.batches.values():
            self._settle(batch)

    def _settle(self, batch: SubmittedBatch) -> None:
        """Write the files of a batch that has ended."""
        status = self._status(batch)
        if batch.is_settled or status not in _ENDS or status == "failed":
            return
        batch.is_settled = True
        number = list(self.batches).index(batch.id) + 1
        count = total = len(batch.requests)
        if status == "expired":
            count = total // 2
        elif batch.cancelled is not None:
            count = int(self._progress(batch, batch.cancelled) * total)
        output, errors = [], []
        lost = set(list(batch.requests)[: self.missing.get(number, 0)])
        for place, (custom_id, body) in enumerate(batch.requests.items()):
            line: dict[str, Any] = {"id": self._new_id("batch_req_"), "custom_id": custom_id}
            if custom_id in lost:
                continue
            if place >= count:
                why = {"code": f"batch_{status}", "message": f"The batch has {status}."}
                errors.append({**line, "response": None, "error": why})
            elif "forbidden" in _prompt_of(body):
                refusal = Refusal(400, "The prompt violates the policy", "content_filter")
                response = {"status_code": 400, "request_id": "r", "body": refusal.body}
                errors.append({**line, "response": response, "error": None})
            else:
                completion, cents = self._answered(body, Decimal("0.5"))
                batch.cents += cents
                batch.answered.append(custom_id)
                response = {"status_code": 200, "request_id": "r", "body": completion}
                output.append({**line, "response": response, "error": None})
        self._random.shuffle(output)  # the order is undefined
        batch.output_file_id = self._add_file(output)
        batch.error_file_id = self._add_file(errors)

    def _add_file(self, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        file_id = self._new_id("file-")
        texts = (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.files[file_id] = "".join(texts).encode()
        return file_id


def digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def _tokens(text: str) -> int:
    return len(text) // 4 + 1


def _prompt_of(body: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in body["messages"])


def _json_of(headers: Any, body: bytes) -> dict[str, Any]:
    kind = headers.get("Content-Type", "").partition(";")[0]
    if kind != "application/json":
        raise Refusal(400, f"Content-Type is {kind!r}, and not application/json")
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Refusal(400, f"The body is no valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(400, "The body is no JSON object")
    return found


def _check_chat(body: dict[str, Any]) -> None:
    if unknown := body.keys() - _CHAT_ARGUMENTS:
        raise Refusal(400, f"Unrecognized request argument supplied: {sorted(unknown)}")
    if body.get("model") not in MODELS:
        raise Refusal(404, f"The model {body.get('model')!r} does not exist", "model_not_found")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' is required")
    for message in messages:
        is_one = isinstance(message, dict) and message.keys() == {"role", "content"}
        if not is_one or not isinstance(message["content"], str):
            raise Refusal(400, f"Invalid message: {message}")


def _requests_in(content: bytes, most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The requests of an input file by custom_id, and the errors of the file."""
    requests: dict[str, Any] = {}
    errors = []
    for number, line in enumerate(content.splitlines(), 1):
        code = _code_of(line, requests)
        if code is not None:
            errors.append({"code": code, "line": number, "message": code, "param": None})
    if len({body["model"] for body in requests.values()}) > 1:
        errors.append({"code": "model_mismatch", "line": None, "message": "", "param": None})
    if not requests and not errors:
        errors.append({"code": "empty_file", "line": None, "message": "", "param": None})
    if len(requests) > most:
        errors.append({"code": "too_many_tasks", "line": None, "message": "", "param": None})
    return requests, errors


def _code_of(line: bytes, requests: dict[str, Any]) -> str | None:
    """Add the request of a line, or return the code of the line's error."""
    try:
        found = json.loads(line)
    except ValueError:
        return "invalid_json_line"
    if not isinstance(found, dict) or found.keys() != {"custom_id", "method", "url", "body"}:
        return "invalid_request"
    custom_id = found["custom_id"]
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 64:
        return "invalid_custom_id"
    if custom_id in requests:
        return "duplicate_custom_id"
    if found["method"] != "POST" or found["url"] != CHAT:
        return "url_mismatch"
    try:
        _check_chat(found["body"])
    except Refusal:
        return "invalid_body"
    requests[custom_id] = found["body"]
    return None
