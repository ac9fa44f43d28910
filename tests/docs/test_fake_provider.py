"""The server that the examples of language models run against is as strict as real ones."""

import http.client
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.fake_provider import CHAT, FakeProvider

BOUNDARY = "0123456789"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(batch_s=100, clock=Clock()) as provider:
        yield provider


def call(
    provider: FakeProvider, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    url = urlsplit(provider.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    kind = {"Content-Type": "application/json"} if body is not None else {}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    all_headers = {"Authorization": f"Bearer {provider.key}", **kind, **more}
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, f"{url.path}/{path}", content, all_headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    is_json = response.headers["Content-Type"] == "application/json" and "/content" not in path
    return response.status, json.loads(text) if is_json else text.decode(), response.headers


def upload(provider: FakeProvider, content: str, purpose: str = "batch") -> tuple[int, Any]:
    disposition = "\r\nContent-Disposition: form-data; name="
    form = (
        f'--{BOUNDARY}{disposition}"purpose"\r\n\r\n{purpose}\r\n--{BOUNDARY}{disposition}"file"; '
        f'filename="in.jsonl"\r\n\r\n{content}\r\n--{BOUNDARY}--\r\n'
    )
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    status, answer, _ = call(provider, "POST", "files", form.encode(), Content_Type=kind)
    return status, answer.get("id", answer)


def prompt(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}], **more}


def line(custom_id: str, **more: Any) -> str:
    body = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": prompt(custom_id)}
    return json.dumps(body | more) + "\n"


def create(provider: FakeProvider, content: str, **more: Any) -> tuple[int, Any]:
    _, file_id = upload(provider, content)
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **more}
    return call(provider, "POST", "batches", body)[:2]


def wait(provider: FakeProvider, seconds: float) -> None:
    assert isinstance(provider.clock, Clock)
    provider.clock.now += seconds


def state(provider: FakeProvider, batch: dict[str, Any]) -> dict[str, Any]:
    status, answer, _ = call(provider, "GET", f"batches/{batch['id']}")
    assert status == 200
    assert isinstance(answer, dict)
    return answer


def lines(provider: FakeProvider, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    status, text, _ = call(provider, "GET", f"files/{file_id}/content")
    assert status == 200
    return {each["custom_id"]: each for each in map(json.loads, text.split("\n")[:-1])}


def test_a_batch_goes_through_its_states_and_its_results_come_in_two_files(
    provider: FakeProvider,
) -> None:
    content = line("a") + line("b", body=prompt("forbidden")) + line("c")
    status, batch = create(provider, content, metadata={"key": "k"})
    assert (status, batch["status"], batch["metadata"]) == (200, "validating", {"key": "k"})
    seen: list[str] = []
    for _ in range(3):
        wait(provider, 50 if not seen else 45 if len(seen) == 1 else 5)
        seen.append(state(provider, batch)["status"])
    assert seen == ["in_progress", "finalizing", "completed"]
    batch = state(provider, batch)
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    output = lines(provider, batch["output_file_id"])
    assert output.keys() == {"a", "c"}
    errors = lines(provider, batch["error_file_id"])
    assert [errors["b"]["response"]["status_code"], errors["b"]["error"]] == [400, None]
    usage = output["a"]["response"]["body"]["usage"]
    cost = usage["prompt_tokens"] * Decimal("0.000125")
    cost += usage["completion_tokens"] * Decimal("0.0005")
    assert provider.batches[batch["id"]].answered == ["a", "c"]
    assert 0 < cost < provider.cents < 3 * cost


def test_an_expired_a_cancelled_and_an_incomplete_batch_have_partial_results(
    provider: FakeProvider,
) -> None:
    provider.expiring = {1}
    provider.missing = {3: 3}
    content = "".join(map(line, "abcdefghij"))
    expired, cancelled, incomplete = (create(provider, content)[1] for _ in range(3))
    wait(provider, 40)
    assert call(provider, "POST", f"batches/{cancelled['id']}/cancel")[1]["status"] == "cancelling"
    wait(provider, 60)
    assert call(provider, "POST", f"batches/{cancelled['id']}/cancel")[0] == 409
    found = []
    for batch in (expired, cancelled, incomplete):
        after = state(provider, batch)
        output = lines(provider, after["output_file_id"])
        errors = lines(provider, after["error_file_id"])
        codes = {each["error"]["code"] for each in errors.values()}
        found.append((after["status"], len(output), len(errors), codes))
    assert found == [
        ("expired", 5, 5, {"batch_expired"}),
        ("cancelled", 4, 6, {"batch_cancelled"}),
        ("completed", 7, 0, set()),
    ]
    assert len(provider.batches_of("a")) == 3
    assert provider.answers_of("a") == 2


def test_wrong_requests_are_refused(provider: FakeProvider) -> None:
    batch = {"input_file_id": "file-0", "endpoint": CHAT, "completion_window": "24h"}
    chat = "chat/completions"
    wrong = [
        (401, call(provider, "GET", "batches", Authorization="Bearer no")),
        (404, call(provider, "GET", "batches/batch_0")),
        (404, call(provider, "GET", "files/file-0/content")),
        (404, call(provider, "GET", "models")),
        (400, call(provider, "POST", "batches", batch)),
        (400, create(provider, line("a"), metadata={"key": 1})),
        (400, create(provider, line("a"), idempotency_key="k")),
        (400, call(provider, "POST", "files", {"purpose": "batch"})),
        (400, upload(provider, line("a"), "assistants")),
        (400, call(provider, "POST", chat, prompt(), Content_Type="text/plain")),
        (400, call(provider, "POST", chat, b"{")),
        (400, call(provider, "POST", chat, prompt(max_token=5))),
        (404, call(provider, "POST", chat, {"model": "no", "messages": []})),
    ]
    assert [status for status, _ in wrong] == [answer[0] for _, answer in wrong]
    assert provider.batches == {}
    assert provider.cents == 0


def test_a_chat_is_throttled_cut_off_and_charged_as_the_switches_say(
    provider: FakeProvider,
) -> None:
    provider.refuse = {1: (429, "2"), 2: (429, None), 3: (503, None)}.get
    provider.is_malformed = lambda _, before: before == 0
    answers = [call(provider, "POST", "chat/completions", prompt()) for _ in range(5)]
    assert [(status, headers["Retry-After"]) for status, _, headers in answers] == [
        (429, "2"),
        (429, None),
        (503, None),
        (200, None),
        (200, None),
    ]
    cut, whole = (answer["choices"][0]["message"]["content"] for _, answer, _ in answers[3:])
    assert whole.startswith(cut)
    assert json.loads(whole)["label"] in ("positive", "negative")
    assert provider.cents == sum(each.cents for each in provider.calls[3:]) > 0


def test_a_test_can_act_between_the_effect_of_a_request_and_its_answer(
    provider: FakeProvider,
) -> None:
    seen = []
    counts = itertools.count()
    provider.on_request = lambda when, request: seen.append(
        (next(counts), when, request, len(provider.batches))
    )
    create(provider, line("a"))
    assert seen[2:] == [(2, "before", "POST /v1/batches", 0), (3, "after", "POST /v1/batches", 1)]
