"""Signing in and what follows: tokens, refreshing, replay, throttling, and the attacks on each."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from gateway import Gateway, running_gateway

pytestmark = pytest.mark.requirement("SEC-2")

PASSWORD = "vier Birnen auf dem Tisch"
BETTER = "drei Äpfel unter dem Bett"
SECRET = "a-secret-of-the-tests-9Zk2LmQ8vW4xR7tY-and-as-long-as-HS512-wants-it-3Hd6"


class School:
    """A tenant with an administrator, and how to sign in there."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slug = f"school-{uuid4().hex[:8]}"
        with gateway.server.admin() as api:
            self.id = api.post("/api/v1/tenants", json={"name": "x", "slug": self.slug}).json()["id"]
        self.boss = self.person("boss@school.example", "admin")

    def person(self, email: str, role: str = "viewer", **fields: object) -> str:
        body = {"tenant_id": self.id, "email": email, "role": role, "password": PASSWORD, **fields}
        with self.gateway.server.admin() as api:
            return str(api.post("/api/v1/users", json=body).raise_for_status().json()["id"])

    def post(self, path: str, body: dict[str, object], **headers: str) -> httpx.Response:
        return httpx.post(f"{self.gateway.server.url}/api/v1/auth/{path}", json=body, headers=headers, timeout=30)

    def login(self, email: str = "boss@school.example", password: str = PASSWORD, **headers: str) -> httpx.Response:
        return self.post("login", {"tenant": self.slug, "email": email, "password": password}, **headers)

    def tokens(self, email: str = "boss@school.example") -> dict[str, Any]:
        return dict(self.login(email).raise_for_status().json())

    def me(self, token: str) -> httpx.Response:
        with self.gateway.http(token) as client:
            return client.get("/api/v1/auth/me")

    def refused_within_a_second(self, token: str) -> bool:
        deadline = time.monotonic() + 1.2
        while time.monotonic() < deadline:
            if self.me(token).status_code == 401:
                return True
            time.sleep(0.02)
        return False


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("sign-in"), {"LOCAL_MODELS_ENABLED": "false", "JWT_SECRET": SECRET}
    ) as made:
        yield made


@pytest.fixture
def school(gateway: Gateway) -> School:
    return School(gateway)


def test_a_person_signs_in_and_is_who_they_are(school: School) -> None:
    """The tokens' shape is OAuth's; the answer is not kept by anybody; the address is found in any spelling."""
    answer = school.login("  Boss@SCHOOL.example ")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    me = school.me(tokens["access_token"]).json()
    assert (me["tenant_id"], me["user"]["id"], me["user"]["role"]) == (school.id, school.boss, "admin")
    assert "users:manage" in me["permissions"]
    assert "platform:manage" not in me["permissions"]


def test_refreshing_turns_the_token_over(school: School) -> None:
    """Each is good once; the new ones go on."""
    first = school.tokens()
    second = school.post("refresh", {"refresh_token": first["refresh_token"]}).json()
    assert second["refresh_token"] != first["refresh_token"]
    third = school.post("refresh", {"refresh_token": second["refresh_token"]})
    assert third.status_code == 200
    assert school.me(third.json()["access_token"]).status_code == 200


def test_a_replayed_refresh_token_ends_the_whole_family(school: School) -> None:
    """Whoever of the two is the thief: both are out, and the audit log says so."""
    first = school.tokens()
    other = school.tokens()
    second = school.post("refresh", {"refresh_token": first["refresh_token"]}).json()
    replayed = school.post("refresh", {"refresh_token": first["refresh_token"]})
    assert (replayed.status_code, replayed.json()["code"]) == (401, "sign_in_failed")
    assert school.post("refresh", {"refresh_token": second["refresh_token"]}).status_code == 401
    assert school.refused_within_a_second(second["access_token"])
    assert school.me(other["access_token"]).status_code == 200, "another sign-in is another family"
    with school.gateway.http(other["access_token"]) as client:
        events = client.get("/api/v1/audit-events", params={"action": "session.replayed"}).json()["data"]
    assert [event["subject"]["id"] for event in events] == [school.boss]


def test_of_two_refreshes_at_once_one_wins(school: School) -> None:
    """A token that is used twice at the same moment was used twice."""
    tokens = school.tokens()
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                school.post("refresh", {"refresh_token": tokens["refresh_token"]}).status_code
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + 7 * [401]


def test_signing_out_ends_the_session(school: School) -> None:
    """The refresh token at once, the access token within a second."""
    tokens = school.tokens()
    with school.gateway.http(tokens["access_token"]) as client:
        assert client.post("/api/v1/auth/logout").status_code == 204
    assert school.post("refresh", {"refresh_token": tokens["refresh_token"]}).status_code == 401
    assert school.refused_within_a_second(tokens["access_token"])


def test_a_changed_password_ends_all_sessions(school: School) -> None:
    """One's own, for who knows the current one; a weak one is refused."""
    tokens, other = school.tokens(), school.tokens()
    with school.gateway.http(tokens["access_token"]) as client:

        def change(current: str, new: str) -> httpx.Response:
            return client.post("/api/v1/auth/password", json={"current_password": current, "new_password": new})

        assert change("wrong", BETTER).status_code == 401
        for weak in ("aaaaaaaaaaaa", "abcdefghijkl", "abcabcabcabc", "password1234"):
            refused = change(PASSWORD, weak)
            assert (refused.status_code, refused.json()["code"]) == (400, "weak_password"), weak
        assert change(PASSWORD, BETTER).status_code == 204
    assert school.refused_within_a_second(other["access_token"])
    assert school.login().status_code == 401
    assert school.login(password=BETTER).status_code == 200


def test_who_is_shut_out_is_out_within_a_second(school: School) -> None:
    """Their sessions, their keys, and signing in anew; a role changes as fast."""
    user = school.person("guest@school.example", "editor")
    token = school.tokens("guest@school.example")["access_token"]
    with school.gateway.http(school.tokens()["access_token"]) as boss:
        key = boss.post("/api/v1/keys", json={"name": "theirs", "user_id": user}).json()["key"]
        assert school.me(key).json()["permissions"] == [
            *("documents:read", "documents:write", "models:use", "self:read")
        ]
        assert boss.patch(f"/api/v1/users/{user}", json={"role": "viewer"}).status_code == 200
        deadline = time.monotonic() + 1.2
        while "documents:write" in school.me(key).json()["permissions"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "documents:write" not in school.me(token).json()["permissions"]
        assert "documents:write" not in school.me(key).json()["permissions"]
        assert boss.patch(f"/api/v1/users/{user}", json={"disabled": True}).json()["disabled"] is True
        assert school.refused_within_a_second(token)
        assert school.refused_within_a_second(key)
        assert school.login("guest@school.example").status_code == 401


def test_nothing_tells_which_names_there_are(school: School) -> None:
    """Wrong password, nobody of that name, no such tenant, no password set: one answer, in about the same time."""
    with school.gateway.server.admin() as api:
        keys_only = {"tenant_id": school.id, "email": "robot@school.example"}
        assert api.post("/api/v1/users", json=keys_only).status_code == 201
    tries = [
        {"tenant": school.slug, "email": "boss@school.example", "password": "wrong"},
        {"tenant": school.slug, "email": "nobody@school.example", "password": "wrong"},
        {"tenant": school.slug, "email": "robot@school.example", "password": "wrong"},
        {"tenant": "nowhere", "email": "boss@school.example", "password": "wrong"},
        {"tenant": "x'; drop table users; --", "email": "' or 1=1 --", "password": "' or '1'='1"},
    ]
    took, bodies = [], set()
    for body in tries:
        before = time.perf_counter()
        answer = school.post("login", body)
        took.append(time.perf_counter() - before)
        assert answer.status_code == 401
        bodies.add(re.sub('"instance":"[^"]*"', "", answer.text))
    assert len(bodies) == 1
    assert max(took) < 20 * min(took), took


def test_guessing_is_slowed_down_and_the_right_password_too(school: School) -> None:
    """After five failures the next try waits, whatever it is: else the wait would tell. Others sign in meanwhile."""
    school.person("other@school.example")
    codes = [school.login(password=f"guess {n}").status_code for n in range(5)]
    assert codes == 5 * [401]
    blocked = school.login()
    assert (blocked.status_code, blocked.json()["code"]) == (429, "sign_in_blocked")
    assert 1 <= int(blocked.headers["retry-after"]) <= 15
    assert school.login("other@school.example").status_code == 200
    unknown = [school.login("ghost@school.example", "x").status_code for _ in range(6)]
    assert unknown == [*5 * [401], 429], "a name that nobody has is counted alike"


def test_guesses_at_once_are_all_counted(school: School) -> None:
    """A hundred connections are no way around."""
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: codes.append(school.login(password=f"guess {n}").status_code))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count(429) > 0
    assert school.login().status_code == 429


def test_a_forged_address_is_not_believed(school: School) -> None:
    """`x-forwarded-for` is for proxies that are trusted, and there are none: no new address with each try."""
    for n in range(3):
        school.login("nobody@school.example", "x", **{"x-forwarded-for": f"203.0.113.{n}", "forwarded": "for=1.2.3.4"})
    with school.gateway.http(school.tokens()["access_token"]) as client:
        events = client.get("/api/v1/audit-events", params={"action": "sign_in.failed"}).json()["data"]
    assert {event["address"] for event in events} == {"127.0.0.1"}


def test_no_password_or_token_is_logged(school: School) -> None:
    """Neither the right one nor a wrong one, nor any token; nor in an error or the audit log."""
    school.login(password="ein falsches Geheimnis 1")
    tokens = school.tokens()
    with school.gateway.http(tokens["access_token"]) as client:
        shown = client.get("/api/v1/audit-events", params={"limit": 100}).text
    text = school.gateway.server.logged() + shown
    for secret in (PASSWORD, "ein falsches Geheimnis 1", tokens["refresh_token"], tokens["access_token"], SECRET):
        assert secret not in text


def forged(token: str, **changes: Any) -> dict[str, str]:
    """Attacks on an access token, by name."""
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, signature = token.split(".")

    def signed(secret: str = SECRET, algorithm: str = "HS256", headers: Any = None, **others: Any) -> str:
        known = {name: value for name, value in {**claims, **others}.items() if value is not None}
        return jwt.encode(known, secret, algorithm, headers={"typ": "at+jwt", **(headers or {})})

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return {
        "alg none": f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{body}.",
        "alg none with a signature": f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{body}.{signature}",
        "alg NONE": f"{part({'alg': 'nOnE', 'typ': 'at+jwt'})}.{body}.{signature}",
        "another algorithm": signed(algorithm="HS512"),
        "another secret": signed("x" * 40),
        "another audience": signed(aud="else"),
        "no audience": signed(aud=None),
        "another issuer": signed(iss="else"),
        "expired": signed(exp=now - 60, iat=now - 700, nbf=now - 700),
        "never expires": signed(exp=None),
        "not yet valid": signed(nbf=now + 600),
        "issued in the future": signed(iat=now + 600),
        "another kind": signed(headers={"typ": "JWT"}),
        "critical extension": signed(headers={"crit": ["x"], "x": 1}),
        "a session that is none": signed(sid="0" * 32),
        "a session's name that is none": signed(sid="'; drop table sessions; --"),
        "no session": signed(sid=None),
        "kid traversal": f"{part({'alg': 'HS256', 'kid': '../../../../dev/null'})}.{body}.{signature}",
        "changed body": f"{head}.{part({**claims, 'sid': '1' * 32})}.{signature}",
        "changed signature": f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "no signature": f"{head}.{body}.",
        "half": f"{head}.{body}",
        "huge": signed(x="x" * 20_000),
    }


@pytest.mark.parametrize("name", forged(jwt.encode({"sid": "0" * 32}, SECRET, "HS256")))
def test_forged_tokens_open_nothing(school: School, name: str) -> None:
    """Each is refused in the words of every other bad credential; the true one beside them is taken."""
    true = school.tokens()["access_token"]
    forgery = forged(true)[name]
    assert school.me(true).status_code == 200
    refused = school.me(forgery)
    assert refused.status_code == (401 if len(forgery) < 60_000 else 431)
    assert refused.json()["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "credential",
    [
        "sk-wattos-' or '1'='1' --" + "x" * 30,
        "' union select password_hash from users --",
        "sk-wattos-" + "x" * 42 + "'",
        "sk-wattos-%00" + "x" * 40,
        "eyJ.eyJ.eyJ",
        "..",
        "a.b.c",
    ],
)
def test_injection_in_a_credential_finds_nothing(school: School, credential: str) -> None:
    """What does not look like a credential is not looked up; what does is looked up by its hash."""
    assert school.me(credential).status_code == 401
    assert school.me(school.tokens()["access_token"]).status_code == 200
