"""Who is let in, and as whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.access.door import Attempt, Door, Refused
from broker.access.identity import Identity
from broker.access.passwords import hash_password
from broker.config import Config
from broker.counters import Counters
from devices.packets import Connect
from devices.profile import EVERYTHING, NO_RIGHTS, Profile, Rights
from devices.registry import Registry, hash_secret

KEY = b"k" * 32
SIGNER = ed25519.Ed25519PrivateKey.generate()
ENCODED = hash_password("a good passphrase")
EDITOR = Rights(publish=("news/#",), read=("home/#",), write=("home/x",), follow=("a/#",))
OPENED = Rights(publish=EVERYTHING, read=EVERYTHING, write=EVERYTHING, operator=True)

NO_CREDENTIALS = Refused(5, "no_credentials")
WRONG = Refused(4, "bad_credentials")
LIMITED = Refused(3, "login_limited")
NOT_ITSELF = Refused(5, "client_id_of_another")
REVOKED = Refused(5, "revoked")
UNKNOWN = Refused(5, "unknown")


class House:
    """A door with who is behind it, a clock that stands, and what was stored."""

    def __init__(self, config: Config) -> None:
        self.registry = Registry(open_mode=config.open_mode, default_follow=("#",))
        for name in ("kitchen", "station"):
            self.registry.add(name, secret_hash=hash_secret("open sesame", name, KEY))
        self.registry.add("hall")  # known by certificate or token alone
        self.registry.add("ann", password=ENCODED, rights=EDITOR)
        self.stored: list[Profile] = []
        self.counters = Counters()
        self.now = 0.0
        self.door = Door(
            config,
            registry=self.registry,
            key=KEY,
            counters=self.counters,
            on_promoted=self.stored.append,
            clock=lambda: self.now,
        )

    def profile(self, name: str) -> Profile:
        found = self.registry.get(name)
        assert found is not None
        return found

    def at_once(self, attempt: Attempt) -> Identity | Refused:
        """The verdict of everything that takes no thread."""
        verdict = self.door.admit(attempt)
        assert not isinstance(verdict, asyncio.Future)
        return verdict

    async def ask(self, attempt: Attempt) -> Identity | Refused:
        verdict = self.door.admit(attempt)
        return (await verdict)() if isinstance(verdict, asyncio.Future) else verdict


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """A house with closed registration, which takes tokens, or as said."""
    key = tmp_path / "token-key.pem"
    public = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key.write_bytes(public)
    with ExitStack() as doors:

        def make(*, opened: bool = False, tokens: bool = True, **sections: Any) -> House:
            token = {"key": key, "algorithm": "EdDSA"} if tokens else {}
            made = House(Config(open=opened, token=token, **sections))
            doors.callback(made.door.close)
            return made

        yield make


def attempt(
    client_id: str,
    name: str | None = None,
    password: str | bytes | None = None,
    *,
    certificate: str | None = None,
    address: str = "192.0.2.1",
    assigned: bool = False,
) -> Attempt:
    secret = password.encode() if isinstance(password, str) else password
    connect = Connect(client_id, username=name, password=secret)
    return Attempt(connect, assigned, address, certificate, came=0.0)


def token(name: str, **claims: Any) -> bytes:
    return jwt.encode({"sub": name, "exp": 4_000_000_000} | claims, SIGNER, "EdDSA").encode()


def who(verdict: Identity | Refused) -> tuple[str, str | None] | Refused:
    """The user and the device that were let in."""
    return (verdict.user, verdict.device) if isinstance(verdict, Identity) else verdict


# Generated secrets.


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    ("tried", "verdict"),
    [
        (attempt("kitchen", "kitchen", "open sesame"), ("kitchen", "kitchen")),
        (attempt("kitchen", "", "open sesame"), ("kitchen", "kitchen")),
        # A client id of its own choice is welcome with a valid secret, but has no feed.
        (attempt("phone", "kitchen", "open sesame"), ("kitchen", None)),
        (attempt("anonymous-1", "kitchen", "open sesame", assigned=True), ("kitchen", None)),
        (attempt("kitchen", "kitchen", "wrong"), WRONG),
        (attempt("kitchen", "kitchen", ""), WRONG),
        (attempt("hall", "kitchen", "wrong"), WRONG),
        (attempt("kitchen", "kitchen"), NO_CREDENTIALS),
        (attempt("phone", "kitchen"), NO_CREDENTIALS),
        (attempt("kitchen"), NO_CREDENTIALS),
        # Another's secret, id or both.
        (attempt("kitchen", "station", "open sesame"), NOT_ITSELF),
        (attempt("station", "kitchen", "open sesame"), NOT_ITSELF),
    ],
    ids=str,
)
def test_a_name_that_has_a_secret_needs_it(house, opened: bool, tried: Attempt, verdict) -> None:
    assert who(house(opened=opened).at_once(tried)) == verdict


def test_a_rotated_secret_is_valid_beside_the_old_one_until_it_is_first_used(house) -> None:
    made = house()
    kitchen = made.profile("kitchen")
    kitchen.next_hash = hash_secret("new sesame", "kitchen", KEY)
    old, new = (attempt("kitchen", "kitchen", text) for text in ("open sesame", "new sesame"))
    assert who(made.at_once(old)) == ("kitchen", "kitchen")
    assert made.stored == []
    assert who(made.at_once(new)) == ("kitchen", "kitchen")
    assert made.stored == [kitchen]
    assert kitchen.next_hash is None
    assert made.counters.connections["secrets_promoted"] == 1
    assert made.at_once(old) == WRONG
    assert who(made.at_once(new)) == ("kitchen", "kitchen")
    assert made.stored == [kitchen]


def test_a_next_secret_that_did_not_let_anybody_in_ends_no_other(house) -> None:
    made = house()
    kitchen = made.profile("kitchen")
    kitchen.next_hash = hash_secret("new sesame", "kitchen", KEY)
    assert made.at_once(attempt("station", "kitchen", "new sesame")) == NOT_ITSELF
    kitchen.revoked = True
    assert made.at_once(attempt("kitchen", "kitchen", "new sesame")) == REVOKED
    assert kitchen.next_hash is not None
    assert made.stored == []


def test_a_first_secret_that_is_still_to_be_used_is_a_credential_already(house) -> None:
    made = house(opened=True)
    made.profile("hall").next_hash = hash_secret("new sesame", "hall", KEY)
    assert made.at_once(attempt("hall")) == NO_CREDENTIALS
    assert who(made.at_once(attempt("hall", "hall", "new sesame"))) == ("hall", "hall")


# Nobody.


@pytest.mark.parametrize(
    ("tried", "refused"),
    [
        (attempt("new"), NO_CREDENTIALS),
        (attempt("hall"), NO_CREDENTIALS),
        (attempt("hall", "hall"), NO_CREDENTIALS),
        (attempt("anonymous-1", assigned=True), NO_CREDENTIALS),
    ],
    ids=str,
)
def test_with_closed_registration_nobody_comes_in_without_credentials(
    house, tried, refused
) -> None:
    assert house().at_once(tried) == refused


async def test_who_guesses_learns_nothing_about_which_names_there_are(house) -> None:
    made = house()
    for name in ("new", "hall", "ann", "kitchen", "#", ""):
        assert await made.ask(attempt("phone", name, "guess")) == WRONG


@pytest.mark.parametrize(
    ("tried", "device"),
    [
        (attempt("new"), "new"),
        (attempt("hall"), "hall"),
        (attempt("new", "new", "anything"), "new"),
        (attempt("new", ""), "new"),
        (attempt("new", "other"), None),
        (attempt("#"), None),
        (attempt("+"), None),
        (attempt("a/b"), None),
        (attempt("anonymous-1", assigned=True), None),
        (attempt("x" * 64), "x" * 64),
        (attempt("x" * 65), None),
    ],
    ids=str,
)
def test_with_open_registration_a_device_is_what_its_client_id_says(house, tried, device) -> None:
    found = house(opened=True).at_once(tried)
    assert found == Identity(tried.connect.client_id, "", device, OPENED)


@pytest.mark.parametrize("opened", [False, True])
def test_whoever_is_revoked_stays_outside_whatever_it_proves(house, opened: bool) -> None:
    made = house(opened=opened)
    for name in ("kitchen", "hall"):
        made.profile(name).revoked = True
    assert made.at_once(attempt("kitchen", "kitchen", "open sesame")) == REVOKED
    assert made.at_once(attempt("kitchen", "kitchen", "wrong")) == WRONG
    assert made.at_once(attempt("x", certificate="hall")) == REVOKED
    assert made.at_once(attempt("hall", "hall", token("hall"))) == REVOKED
    assert made.at_once(attempt("hall")) == (REVOKED if opened else NO_CREDENTIALS)


# Certificates.


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    ("tried", "verdict"),
    [
        (attempt("hall", certificate="hall"), ("hall", "hall")),
        (attempt("hall", "hall", certificate="hall"), ("hall", "hall")),
        (attempt("hall", "hall", "whatever", certificate="hall"), ("hall", "hall")),
        (attempt("kitchen", certificate="kitchen"), ("kitchen", "kitchen")),
        (attempt("phone", certificate="kitchen"), ("kitchen", None)),
        (attempt("hall", "kitchen", certificate="hall"), Refused(5, "certificate_of_another")),
        # Not even with the right secret: who has two names has none.
        (
            attempt("kitchen", "kitchen", "open sesame", certificate="hall"),
            Refused(5, "certificate_of_another"),
        ),
        (attempt("kitchen", certificate="hall"), NOT_ITSELF),
    ],
    ids=str,
)
def test_a_certificate_names_the_user(house, opened: bool, tried: Attempt, verdict) -> None:
    assert who(house(opened=opened).at_once(tried)) == verdict


def test_a_certificate_of_a_name_that_nobody_added_counts_with_open_registration_alone(
    house,
) -> None:
    assert house().at_once(attempt("new", certificate="new")) == UNKNOWN
    assert who(house(opened=True).at_once(attempt("new", certificate="new"))) == ("new", "new")


# Tokens.


@pytest.mark.parametrize("name", ["hall", "", "kitchen"])
def test_a_token_names_its_subject(house, name: str) -> None:
    subject = name or "hall"
    found = house().at_once(attempt(subject, name, token(subject)))
    assert found == Identity(subject, subject, subject, NO_RIGHTS, expires=4_000_000_030)


@pytest.mark.parametrize(
    ("tried", "verdict"),
    [
        (attempt("hall", "hall", token("kitchen")), Refused(4, "token_of_another")),
        (attempt("kitchen", "hall", token("hall")), NOT_ITSELF),
        (attempt("phone", "hall", token("hall")), ("hall", None)),
        (attempt("new", "new", token("new")), UNKNOWN),
        (attempt("hall", "hall", token("hall", exp=1_000_000_000)), Refused(4, "token_expired")),
        (attempt("hall", "hall", token("hall")[:-4] + b"AAAA"), Refused(4, "bad_token")),
    ],
    ids=str,
)
def test_a_token_that_is_not_the_clients_own_opens_nothing(house, tried: Attempt, verdict) -> None:
    assert who(house().at_once(tried)) == verdict


async def test_without_a_key_a_token_is_a_password_like_any_other(house) -> None:
    made = house(tokens=False)
    assert await made.ask(attempt("hall", "hall", token("hall"))) == WRONG
    made.profile("hall").secret_hash = hash_secret(token("hall", iat=1), "hall", KEY)
    assert who(made.at_once(attempt("hall", "hall", token("hall", iat=1)))) == ("hall", "hall")


# Chosen passwords.


async def test_a_chosen_password_is_checked_beside_the_loop(house) -> None:
    made = house()
    verdict = made.door.admit(attempt("phone", "ann", "a good passphrase"))
    assert isinstance(verdict, asyncio.Future)
    assert (await verdict)() == Identity("phone", "ann", None, EDITOR)
    assert who(await made.ask(attempt("ann", "ann", "a good passphrase"))) == ("ann", "ann")
    assert await made.ask(attempt("phone", "ann", "a bad passphrase")) == WRONG


async def test_a_name_may_have_a_secret_and_a_password(house) -> None:
    made = house()
    made.profile("ann").secret_hash = hash_secret("open sesame", "ann", KEY)
    assert who(made.at_once(attempt("ann", "ann", "open sesame"))) == ("ann", "ann")
    assert who(await made.ask(attempt("ann", "ann", "a good passphrase"))) == ("ann", "ann")
    assert await made.ask(attempt("ann", "ann", "neither")) == WRONG


async def test_a_name_that_nobody_has_goes_the_way_of_a_wrong_password(house) -> None:
    made = house()
    for name in ("nobody", "hall"):
        verdict = made.door.admit(attempt("phone", name, "guess"))
        assert isinstance(verdict, asyncio.Future)
        assert (await verdict)() == WRONG


def test_where_nobody_has_a_password_no_thread_is_bothered(house) -> None:
    made = house()
    made.profile("ann").password = None
    assert made.at_once(attempt("phone", "nobody", "guess")) == WRONG
    assert made.at_once(attempt("phone", "ann", "a good passphrase")) == WRONG


async def test_the_first_password_is_noticed_while_the_server_runs(house) -> None:
    made = house()
    made.profile("ann").password = None
    made.at_once(attempt("phone", "nobody", "guess"))
    made.profile("ann").password = ENCODED
    made.now += 60
    assert isinstance(made.door.admit(attempt("phone", "nobody", "guess")), asyncio.Future)


@pytest.mark.parametrize("when", ["during the check", "between the check and its verdict"])
@pytest.mark.parametrize("happens", ["removed", "replaced", "changed", "revoked"])
async def test_what_happens_until_the_verdict_is_given_counts(
    house, happens: str, when: str
) -> None:
    made = house()
    answer = made.door.admit(attempt("phone", "ann", "a good passphrase"))
    assert isinstance(answer, asyncio.Future)
    if when != "during the check":
        await answer
    ann = made.profile("ann")
    if happens == "removed":
        made.registry.remove("ann")
    elif happens == "replaced":
        made.registry.restore(replace(ann))
    elif happens == "changed":
        ann.password = hash_password("another passphrase")
    else:
        ann.revoked = True
    assert (await answer)() == (REVOKED if happens == "revoked" else WRONG)


async def test_a_client_that_leaves_during_a_check_disturbs_nobody(house) -> None:
    made = house(auth={"password_workers": 1, "password_queue": 1})
    first = made.door.admit(attempt("phone", "ann", "a good passphrase"))
    second = made.door.admit(attempt("tablet", "ann", "a good passphrase"))
    assert isinstance(first, asyncio.Future)
    assert isinstance(second, asyncio.Future)
    first.cancel()
    assert who((await second)()) == ("ann", None)


async def test_when_too_many_wait_a_login_is_put_off_and_not_held_against_anybody(house) -> None:
    made = house(auth={"password_workers": 1, "password_queue": 1, "login_failures": 3})
    tries = [attempt(f"phone{i}", "ann", "a good passphrase") for i in range(8)]
    verdicts = [made.door.admit(each) for each in tries]
    assert verdicts[2:] == [Refused(3, "login_busy")] * 6
    for each in verdicts[:2]:
        assert isinstance(each, asyncio.Future)
        assert who((await each)()) == ("ann", None)
    assert who(await made.ask(tries[0])) == ("ann", None)


async def test_whoever_waits_when_the_door_closes_is_refused(house) -> None:
    made = house(auth={"password_workers": 1})
    verdicts = [made.door.admit(attempt(str(i), "ann", "a good passphrase")) for i in range(3)]
    made.door.close()
    assert (await verdicts[2])() == Refused(3, "server_stopped")


# Limits on failures.


async def test_after_so_many_failures_passwords_of_an_address_are_refused_unchecked(house) -> None:
    made = house(auth={"login_failures": 2, "login_refill": 6})
    guess = attempt("phone", "ann", "guess")
    right = attempt("phone", "ann", "a good passphrase")
    assert [await made.ask(guess) for _ in range(2)] == [WRONG, WRONG]
    assert made.at_once(right) == LIMITED
    assert made.at_once(attempt("phone", "nobody", "guess")) == LIMITED
    assert made.at_once(attempt("hall", "hall", token("hall"))) == LIMITED
    elsewhere = replace(right, address="192.0.2.2")
    assert who(await made.ask(elsewhere)) == ("ann", None)
    made.now += 10
    assert who(await made.ask(right)) == ("ann", None)


def test_above_the_limit_the_right_secret_still_opens_and_a_wrong_one_is_answered_like_all(
    house,
) -> None:
    made = house(auth={"login_failures": 2})
    wrong = attempt("kitchen", "kitchen", "wrong")
    assert [made.at_once(wrong) for _ in range(4)] == [WRONG, WRONG, LIMITED, LIMITED]
    assert who(made.at_once(attempt("kitchen", "kitchen", "open sesame"))) == ("kitchen", "kitchen")
    assert made.at_once(wrong) == LIMITED


def test_bad_tokens_are_failures_and_good_ones_are_not(house) -> None:
    made = house(auth={"login_failures": 1})
    good = attempt("hall", "hall", token("hall"))
    for _ in range(5):
        assert who(made.at_once(good)) == ("hall", "hall")
    assert made.at_once(attempt("hall", "hall", token("kitchen"))) == Refused(4, "token_of_another")
    assert made.at_once(good) == LIMITED


async def test_many_with_the_right_password_come_in_at_one_time_behind_one_address(house) -> None:
    made = house(auth={"login_failures": 2, "password_queue": 10})
    right = [attempt(f"phone{i}", "ann", "a good passphrase") for i in range(6)]
    verdicts = await asyncio.gather(*map(made.ask, right))
    assert [who(each) for each in verdicts] == [("ann", None)] * 6


async def test_many_guesses_at_one_time_are_paid_for_one_by_one(house) -> None:
    made = house(auth={"login_failures": 2, "login_refill": 6, "password_queue": 10})
    guesses = [attempt(str(i), "ann", "guess") for i in range(5)]
    assert await asyncio.gather(*map(made.ask, guesses)) == [WRONG] * 5
    right = attempt("phone", "ann", "a good passphrase")
    for _ in range(3):  # three failures that the address did not have, ten seconds each
        assert made.at_once(right) == LIMITED
        made.now += 10
    assert made.at_once(right) == LIMITED
    made.now += 10
    assert who(await made.ask(right)) == ("ann", None)


async def test_who_leaves_before_the_answer_has_failed_all_the_same(house) -> None:
    made = house(auth={"login_failures": 1, "password_workers": 1})
    left = made.door.admit(attempt("phone", "ann", "guess"))
    right = made.door.admit(attempt("phone", "ann", "a good passphrase"))
    left.cancel()
    assert who((await right)()) == ("ann", None)  # its check began before the failure was known
    assert made.at_once(attempt("phone", "ann", "a good passphrase")) == LIMITED


def test_a_device_with_an_old_secret_does_not_put_off_others_for_ever(house) -> None:
    made = house(auth={"login_failures": 1, "login_refill": 6})
    wrong = attempt("kitchen", "kitchen", "wrong")
    assert [made.at_once(wrong) for _ in range(50)] == [WRONG] + [LIMITED] * 49
    made.now += 10
    assert who(made.at_once(attempt("hall", "hall", token("hall")))) == ("hall", "hall")


# Bounds.


def test_names_have_a_longest_length(house) -> None:
    made = house(opened=True)
    for longest in ("x" * 256, "ü" * 128):
        assert who(made.at_once(attempt(longest, longest, "x"))) == ("", None)
        assert who(made.at_once(attempt("x", certificate=longest))) == (longest, None)
        longer = longest + "x"
        assert made.at_once(attempt(longer)) == Refused(2, "client_id_too_long")
        assert made.at_once(attempt("x", longer, "x")) == Refused(4, "user_name_too_long")
        assert made.at_once(attempt("x", certificate=longer)) == Refused(4, "user_name_too_long")


# Rights.


def rights_of(verdict: Identity | Refused) -> Rights:
    assert isinstance(verdict, Identity)
    return verdict.rights


async def test_rights_are_those_given_and_those_of_all(house) -> None:
    made = house(topics={"read": ("weather/#", "home/#"), "write": ()})
    ann = rights_of(await made.ask(attempt("phone", "ann", "a good passphrase")))
    assert ann == replace(EDITOR, read=("weather/#", "home/#"))
    kitchen = rights_of(made.at_once(attempt("kitchen", "kitchen", "open sesame")))
    assert kitchen == Rights(read=("weather/#", "home/#"))


def test_open_registration_gives_everything_but_what_the_settings_narrow(house) -> None:
    made = house(opened=True, topics={"read": ("weather/#",)})
    found = rights_of(made.at_once(attempt("new")))
    assert found == replace(OPENED, read=("weather/#",))


async def test_open_registration_takes_no_right_away(house) -> None:
    made = house(opened=True, topics={"read": ()})
    ann = rights_of(await made.ask(attempt("phone", "ann", "a good passphrase")))
    assert ann == replace(OPENED, read=("home/#",), follow=("a/#",))


def test_rights_that_nobody_has_proven_are_not_given(house) -> None:
    made = house(opened=True, topics={"read": (), "write": ()})
    made.registry.set_rights(made.profile("hall"), EDITOR)
    assert rights_of(made.at_once(attempt("hall"))) == replace(OPENED, read=(), write=())
    assert rights_of(made.at_once(attempt("hall", certificate="hall"))).read == ("home/#",)


def test_equal_rights_are_one_object(house) -> None:
    made = house()
    one, two = (
        rights_of(made.at_once(attempt(name, name, "open sesame")))
        for name in ("kitchen", "station")
    )
    assert one is two


def test_no_secret_shows_in_what_may_be_logged(house) -> None:
    made = house()
    tried = attempt("kitchen", "kitchen", "open sesame")
    assert "sesame" not in repr(tried)
    assert "sesame" not in repr(made.at_once(tried))
    assert "secret_hash" not in repr(made.profile("kitchen"))
    assert "argon2" not in repr(made.profile("ann"))
