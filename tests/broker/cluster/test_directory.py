"""The directory by itself: claims, writes that meet, and nothing kept of those who have left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cluster.directory import Directory
from broker.cluster.entries import Elsewhere, why_to_end
from devices.profile import Profile, Rights
from devices.registry import Registry
from feedgen.store.base import StoreError
from feedgen.store.memory_shared import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from feedgen.items import Record

TURNS = 30
"""Turns of the loop that settle anything here."""


class House:
    """A node that serves devices in name only; it is what its store and its directory talk to.

    Attributes:
        said: What the directory asked of it, in order.
    """

    def __init__(self, world: SharedMemory, name: str) -> None:
        self.name = name
        self.store = world.node()
        self.registry = Registry(open_mode=True, default_follow=("#",))
        self.directory = Directory(self.store, self.registry, node=name, wait=0.0)
        self.directory.resident = self
        self.directory.wake = self.directory.flush
        self.said: list[tuple[str, str]] = []

    async def open(self) -> House:
        await self.store.join(self.name, self)
        return self

    async def hold(self, device: str) -> Profile:
        """Use and claim a device; its profile."""
        self.directory.use(device)
        await self.directory.look_up((device,))
        await self.directory.claim(device)
        profile = self.registry.enroll(device)
        assert profile is not None
        return profile

    # ---- Resident

    def came(self, device: str, dismissed: tuple[int, ...]) -> None:  # noqa: ARG002
        self.said.append(("came", device))

    def leaves(self, profile: Profile) -> None:
        profile.session = b"position"
        self.said.append(("leaves", profile.device))

    def left(self, device: str) -> None:
        self.said.append(("left", device))

    def wanted(self, device: str) -> None:
        self.said.append(("wanted", device))

    def removed(self, device: str) -> None:
        self.said.append(("removed", device))

    # ---- Resident and Changes both know this name

    def changed(self, about: Profile | str, word: str) -> None:
        if isinstance(about, str):
            self.directory.changed(about)
        else:
            self.said.append((word or "changed", about.device))

    # ---- Changes

    def accepted(self, records: Sequence[Record]) -> None: ...

    def members(self, nodes: frozenset[str]) -> None: ...

    def taken(self, device: str) -> None:
        self.directory.taken(device)

    def missed(self) -> None:
        self.directory.missed()


async def houses() -> tuple[SharedMemory, House, House]:
    world = SharedMemory()
    return world, await House(world, "one").open(), await House(world, "two").open()


async def settled() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def stored(world: SharedMemory, device: str) -> Profile:
    blob = world.devices[device].blob
    assert blob is not None
    return Profile.unpack(device, blob)


async def test_what_nobody_uses_is_let_go_with_its_position() -> None:
    world, one, _ = await houses()
    await one.hold("kitchen")
    one.directory.leave("kitchen")
    await settled()
    assert world.devices["kitchen"].holder == ""
    assert stored(world, "kitchen").session == b"position"
    assert one.registry.get("kitchen") is None
    assert one.said == [("came", "kitchen"), ("leaves", "kitchen")]


async def test_a_position_counts_only_if_the_holder_let_go() -> None:
    _, one, two = await houses()
    await one.hold("kitchen")
    one.directory.leave("kitchen")
    await settled()
    assert (await two.hold("kitchen")).session == b"position"
    assert (await one.hold("kitchen")).session is None  # two still has it


async def test_who_comes_back_while_it_is_let_go_waits_and_claims_it_anew() -> None:
    _, one, _ = await houses()
    await one.hold("kitchen")
    one.directory.leave("kitchen")
    await asyncio.sleep(0)
    assert not one.directory.holds("kitchen")
    profile = await one.hold("kitchen")
    assert profile.session == b"position"
    assert one.directory.holds("kitchen")


async def test_a_claim_that_comes_after_its_client_has_gone_is_let_go_as_it_was() -> None:
    world, one, two = await houses()
    await one.hold("kitchen")
    one.directory.leave("kitchen")
    await settled()
    two.directory.use("kitchen")
    await two.directory.look_up(("kitchen",))
    two.store.away = True
    claiming = asyncio.ensure_future(two.directory.claim("kitchen"))
    await asyncio.sleep(0)
    claiming.cancel()
    two.directory.leave("kitchen")
    two.store.away = False
    await settled()
    assert world.devices["kitchen"].holder == ""
    assert two.directory.held == 0
    assert two.registry.get("kitchen") is None


async def test_a_claim_that_turns_out_late_is_let_go_and_its_client_sent_away() -> None:
    world, one, two = await houses()
    came = monotonic()
    await one.hold("kitchen")
    # As if what it waited for the store had passed on the way there.
    claim = two.store.claim
    two.store.claim = lambda device, wait, _: claim(device, wait)  # type: ignore[method-assign]
    two.directory.use("kitchen")
    await two.directory.look_up(("kitchen",))
    with pytest.raises(Elsewhere):
        await two.directory.claim("kitchen", came)
    assert two.directory.holds("kitchen")
    two.directory.leave("kitchen")
    await settled()
    assert world.devices["kitchen"].holder == ""


async def test_a_claim_serves_those_who_came_in_time_and_not_those_who_came_before() -> None:
    _, one, two = await houses()
    early = monotonic()
    await one.hold("kitchen")
    await two.hold("kitchen")
    with pytest.raises(Elsewhere):
        await two.directory.claim("kitchen", early)
    await two.directory.claim("kitchen", monotonic())


@pytest.mark.parametrize("slow", [1, 5])
async def test_who_moves_in_the_time_that_an_answer_takes_is_let_in(
    monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    """However many answers took long: the first that does not tells where it was first."""
    _, one, two = await houses()
    await one.hold("kitchen")
    came = monotonic()
    asked = answers_take_long(monkeypatch, two, slow)
    two.directory.use("kitchen")
    await two.directory.look_up(("kitchen",))
    await two.directory.claim("kitchen", came)
    assert len(asked) == slow + 1


async def test_who_may_have_come_before_it_went_elsewhere_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, one, two = await houses()
    await one.hold("kitchen")
    came = monotonic()
    asked = answers_take_long(monkeypatch, two, 1_000)
    two.directory.use("kitchen")
    await two.directory.look_up(("kitchen",))
    with pytest.raises(Elsewhere):
        await two.directory.claim("kitchen", came)
    assert 1 < len(asked) < 100


def answers_take_long(monkeypatch: pytest.MonkeyPatch, house: House, count: int) -> list[str]:
    """The first answers about claims are 10 s on their way; what was asked is returned."""
    asked: list[str] = []
    passed = 0.0

    def slow(name: str) -> None:
        question = getattr(house.store, name)

        def ask(*args: object) -> asyncio.Future[object]:
            asked.append(name)
            future: asyncio.Future[object] = question(*args)
            if len(asked) <= count:
                future.add_done_callback(underway)
            return future

        monkeypatch.setattr(house.store, name, ask)

    def underway(_: object) -> None:
        nonlocal passed
        passed += 10.0

    for module in ("broker.cluster.directory", "feedgen.store.memory_shared"):
        monkeypatch.setattr(f"{module}.monotonic", lambda: monotonic() + passed)
    slow("claim")
    slow("still_held")
    return asked


async def test_a_change_from_elsewhere_while_a_write_is_under_way_is_not_lost() -> None:
    world, one, two = await houses()
    profile = await one.hold("kitchen")
    durable: list[int] = []
    profile.k = 16
    one.directory.save(profile, lambda: durable.append(1))
    await settled()
    two.directory.use("kitchen")
    await two.directory.look_up(("kitchen",))
    theirs = two.registry.get("kitchen")
    assert theirs is not None
    theirs.follow = ("news",)
    profile.k = 4
    one.directory.save(profile, lambda: durable.append(2))
    await two.directory.write(theirs)
    await settled()
    assert durable == [1, 2]
    assert (profile.k, profile.follow) == (4, ("news",))
    assert stored(world, "kitchen") == profile
    assert ("changed", "kitchen") in one.said


async def test_nothing_is_durable_that_a_fenced_holder_writes() -> None:
    _, one, two = await houses()
    profile = await one.hold("kitchen")
    one.store.away = True
    durable: list[int] = []
    profile.epoch += 1
    one.directory.save(profile, lambda: durable.append(1))
    await two.hold("kitchen")
    one.store.away = False
    await settled()
    assert durable == []
    assert ("left", "kitchen") in one.said
    assert not one.directory.holds("kitchen")


@pytest.mark.parametrize("turns", range(1, 8))
async def test_of_two_operators_who_add_a_device_the_later_one_is_refused(turns: int) -> None:
    """Whether or not word of the first has come before the second is handed to the store."""
    world, one, two = await houses()
    for house in (one, two):
        house.directory.use("kitchen")
        await house.directory.look_up(("kitchen",))
    two.directory.wake = lambda: None  # its turn to flush comes later
    first, second = (
        asyncio.ensure_future(house.directory.write(house.registry.add("kitchen", follow=(word,))))
        for house, word in ((one, "first"), (two, "second"))
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    two.directory.flush()
    await first
    with pytest.raises(StoreError, match="device kitchen exists already"):
        await second
    await settled()
    assert stored(world, "kitchen").follow == ("first",)
    known = two.registry.get("kitchen")
    assert known is not None
    assert known.follow == ("first",)


async def test_who_is_in_unproven_goes_when_the_device_turns_out_to_be_added_elsewhere() -> None:
    world, _, two = await houses()
    await two.hold("kitchen")
    kept = world.devices["kitchen"]
    added = Profile("kitchen", ("#",), secret_hash=b"x" * 32)
    kept.version, kept.blob = world.serial(), added.pack()
    mine = two.registry.get("kitchen")
    assert mine is not None
    with pytest.raises(StoreError, match="device kitchen exists already"):
        await two.directory.write(mine, "secret_rotated")
    assert ("secret_rotated", "kitchen") in two.said


async def test_the_operator_is_told_when_the_device_has_just_moved() -> None:
    _, one, two = await houses()
    profile = await one.hold("kitchen")
    one.store.away = True
    profile.revoked = True
    writing = asyncio.ensure_future(one.directory.write(profile, "revoked"))
    await asyncio.sleep(0)
    await two.hold("kitchen")
    one.store.away = False
    with pytest.raises(StoreError, match="try again"):
        await writing


async def test_a_profile_that_cannot_be_read_is_not_taken_for_none() -> None:
    world, one, two = await houses()
    await one.hold("kitchen")
    one.directory.leave("kitchen")
    await settled()
    world.devices["kitchen"].blob = b"of a newer release"
    two.directory.use("kitchen")
    with pytest.raises(StoreError, match="cannot be read"):
        await two.directory.look_up(("kitchen",))
    two.directory.leave("kitchen")
    await settled()
    assert world.devices["kitchen"].blob == b"of a newer release"


async def test_waiting_for_all_to_leave_ends_when_nothing_is_held() -> None:
    world, one, _ = await houses()
    for number in range(20):
        await one.hold(f"d{number}")
        one.directory.leave(f"d{number}")
    await asyncio.wait_for(one.directory.all_left(), 5)
    assert not any(device.holder for device in world.devices.values())


BASE = Profile("kitchen", secret_hash=b"old")


@pytest.mark.parametrize(
    ("base", "theirs", "reason"),
    [
        (BASE, BASE, ""),
        (BASE, replace(BASE, follow=("a",), k=4, epoch=7), ""),
        (BASE, replace(BASE, revoked=True), "revoked"),
        (replace(BASE, revoked=True), BASE, ""),
        (BASE, replace(BASE, rights=Rights(publish=("a",))), "rights_changed"),
        (BASE, replace(BASE, password="encoded"), "password_changed"),
        (BASE, replace(BASE, secret_hash=b"new"), "secret_rotated"),
        (BASE, replace(BASE, secret_hash=None), "secret_rotated"),
        (Profile("kitchen"), BASE, "secret_rotated"),
        (BASE, replace(BASE, next_hash=b"new"), ""),
        (replace(BASE, next_hash=b"new"), replace(BASE, secret_hash=b"new"), ""),
    ],
)
def test_connections_end_that_were_let_in_on_what_holds_no_more(
    base: Profile, theirs: Profile, reason: str
) -> None:
    assert why_to_end(base, theirs) == reason


# ---- Any order of things

steps = st.lists(
    st.tuples(
        st.sampled_from(("hold", "leave", "save", "command", "away", "back", "turn")),
        st.integers(0, 1),
        st.sampled_from("ab"),
        st.integers(1, 64),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_whatever_happens_nothing_is_kept_and_both_read_the_same(
    steps: list[tuple[str, int, str, int]],
) -> None:
    async def run() -> None:
        world, *pair = await houses()
        held: list[tuple[House, str]] = []
        tasks: list[asyncio.Task[object]] = []

        def begin(work: Callable[[], object]) -> None:
            tasks.append(asyncio.ensure_future(work()))  # type: ignore[arg-type]

        async def come(house: House, device: str) -> None:
            house.directory.use(device)
            try:
                await house.directory.look_up((device,))
                await house.directory.claim(device)
                house.registry.enroll(device)
            except StoreError:
                pass  # it had just moved: a client would be told to come again
            finally:
                held.append((house, device))

        async def command(house: House, device: str, number: int) -> None:
            house.directory.use(device)
            try:
                await house.directory.look_up((device,))
                profile = house.registry.get(device)
                if profile is not None:
                    profile.operator_attrs = {"number": number}
                    await house.directory.write(profile)
            except StoreError:
                pass  # it had just moved
            finally:
                house.directory.leave(device)

        for what, at, device, number in steps:
            house = pair[at]
            profile = house.registry.get(device)
            if what == "hold":
                begin(lambda house=house, device=device: come(house, device))
            elif what == "leave" and (house, device) in held:
                held.remove((house, device))
                house.directory.leave(device)
            elif what == "save" and profile is not None and house.directory.holds(device):
                profile.k = number
                house.directory.save(profile)
            elif what == "command":
                begin(lambda house=house, device=device, n=number: command(house, device, n))
            elif what in {"away", "back"}:
                house.store.away = what == "away"
            await asyncio.sleep(0)
        for house in pair:
            house.store.away = False
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        await settled()
        for house, device in held:
            house.directory.leave(device)
        await settled()
        for house in pair:
            assert len(house.registry) == 0
            assert house.directory.held == 0
            assert not house.directory.waiting
            assert not house.directory._entries
        assert not any(device.holder for device in world.devices.values())

    asyncio.run(run())


async def test_a_profile_that_becomes_unreadable_before_it_is_claimed_stays_in_the_store() -> None:
    world, one, _ = await houses()
    one.directory.use("kitchen")
    await one.directory.look_up(("kitchen",))
    kept = world.devices["kitchen"]
    kept.version, kept.blob = world.serial(), b"of a release to come"
    with pytest.raises(StoreError):
        await one.directory.claim("kitchen")
    one.directory.leave("kitchen")
    await settled()
    assert world.devices["kitchen"].blob == b"of a release to come"
    assert world.devices["kitchen"].holder == ""


async def test_a_profile_that_is_added_elsewhere_while_its_device_is_let_go_stays() -> None:
    world, one, two = await houses()
    one.directory.use("kitchen")
    await one.directory.look_up(("kitchen",))
    await one.directory.claim("kitchen")
    kept = world.devices["kitchen"]
    kept.version, kept.blob = world.serial(), Profile("kitchen", ("added",)).pack()
    one.directory.leave("kitchen")
    await settled()
    assert stored(world, "kitchen").follow == ("added",)
    assert world.devices["kitchen"].holder == ""
    assert (await two.hold("kitchen")).follow == ("added",)


async def test_word_of_a_change_that_overtakes_the_answer_to_a_question_is_not_lost() -> None:
    world, one, two = await houses()
    await two.hold("anna")
    two.directory.save(two.registry.get("anna") or Profile("anna"))
    await settled()
    one.directory.use("anna")
    fetch = one.store.fetch
    read = await fetch(("anna",))
    late = asyncio.get_running_loop().create_future()
    one.store.fetch = lambda _: late  # type: ignore[method-assign, assignment]
    looking = asyncio.ensure_future(one.directory.look_up(("anna",)))
    await asyncio.sleep(0)
    revoked = replace(stored(world, "anna"), revoked=True)
    kept = world.devices["anna"]
    kept.version, kept.blob = world.serial(), revoked.pack()
    one.directory.changed("anna")
    one.store.fetch = fetch  # type: ignore[method-assign]
    late.set_result(read)
    await looking
    await settled()
    found = one.registry.get("anna")
    assert found is not None
    assert found.revoked


async def test_a_node_that_counted_as_dead_lets_go_of_what_others_have_claimed() -> None:
    world, one, two = await houses()
    now = world.clock()
    world.clock = lambda: now
    await one.hold("kitchen")
    one.store.away = True
    now += world.lease + 1
    await two.hold("kitchen")
    one.store.away = False
    await settled()
    assert ("left", "kitchen") in one.said
    assert not one.directory.holds("kitchen")
    assert two.directory.holds("kitchen")
