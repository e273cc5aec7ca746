from __future__ import annotations

import asyncio
import json
import socket
import stat
import threading

import pytest
import uvloop

from broker.control import (
    MAX_CONNECTIONS,
    MAX_LINE,
    ControlClient,
    ControlError,
    ControlServer,
    NoServer,
    dumps,
    loads,
)


async def _echo(args):
    return args


async def _refuse(args):
    raise ControlError(f"there is no device {args['device']!r}")


async def _break(_args):
    raise RuntimeError("password=hunter2")


async def _unprintable(_args):
    return {"a": {1, 2}}


HANDLERS = {"echo": _echo, "refuse": _refuse, "break": _break, "unprintable": _unprintable}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


@pytest.fixture
async def served(path):
    """Run a server with a few handlers of every kind, and give its path."""
    running = ControlServer(path, HANDLERS)
    await running.start()
    yield path
    await running.stop()


async def call(path, do, **args):
    """Call as the command line does, from a thread."""
    return await asyncio.to_thread(ControlClient(path, timeout=10).call, do, **args)


async def exchange(path, data: bytes) -> list[dict]:
    """Send raw bytes and return every answer until the server closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    await closed(writer)
    return answers


async def closed(writer):
    """Close this end of a connection, and let the loop see it."""
    writer.close()
    await writer.wait_closed()


async def test_a_command_is_answered_with_its_result(served):
    args = {"device": "kitchen", "follow": ["#"], "secret": True, "nothing": None, "n": 1 << 40}
    assert await call(served, "echo", **args) == args


async def test_bytes_arrive_as_bytes_both_ways(served):
    window = {"kitchen": [[7, b"\xff\x00"], [9, "text"]], "empty": [[8, b""]]}
    assert await call(served, "echo", **window) == window


async def test_a_refusal_reaches_the_caller_in_its_own_words(served):
    with pytest.raises(ControlError, match=r"^there is no device 'attic'$"):
        await call(served, "refuse", device="attic")


@pytest.mark.logs_errors
@pytest.mark.parametrize("do", ["break", "unprintable"])
async def test_a_fault_inside_the_server_is_logged_and_not_told(served, caplog, do):
    with pytest.raises(ControlError) as caught:
        await call(served, do)
    assert str(caught.value) == "the command failed inside the server; its log says why"
    assert f"control command {do} failed" in caplog.text
    assert await call(served, "echo", still="there") == {"still": "there"}


async def test_an_unknown_command_is_refused_by_name(served):
    with pytest.raises(ControlError, match="knows no command 'fly'"):
        await call(served, "fly")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"do": 1}',
        b'{"do": "echo", "args": []}',
        b'{"do": "echo", "args": {"b64": "AA=="}}',
        b'{"do": ["echo"]}',
        b"\xff\xfe",
        b'{"do": "echo", "args": {"x": {"b64": "!"}}}',
        b"[" * 100_000,
    ],
)
async def test_a_line_that_is_no_request_is_refused_and_the_next_one_served(served, line):
    bad, good = await exchange(served, line + b'\n{"do": "echo", "args": {"a": 1}}\n')
    assert bad["ok"] is False
    assert bad["error"].startswith("a request is one line of JSON")
    assert good == {"ok": True, "result": {"a": 1}}


async def test_args_may_be_left_out(served):
    assert await exchange(served, b'{"do": "echo"}\n') == [{"ok": True, "result": {}}]


async def test_a_line_that_never_ends_is_cut_off(served):
    (answer,) = await exchange(served, b"x" * (MAX_LINE + 2))
    assert answer["ok"] is False
    assert "at most" in answer["error"]


async def test_a_request_without_its_newline_is_not_carried_out(served):
    assert await exchange(served, b'{"do": "echo"}') == []


async def test_a_client_refuses_to_send_a_line_that_the_server_would_cut_off(served):
    with pytest.raises(ControlError, match="longer than"):
        await call(served, "echo", text="x" * MAX_LINE)


async def test_a_large_answer_arrives_whole(path):
    async def windows(_args):
        return ["x" * 1000] * 5000

    server = ControlServer(path, {"windows": windows})
    await server.start()
    assert len(await call(path, "windows")) == 5000
    await server.stop()


async def test_only_the_owner_can_reach_the_socket(served):
    assert stat.S_IMODE(served.stat().st_mode) == 0o600


async def test_the_socket_leaves_no_other_file(served):
    assert list(served.parent.iterdir()) == [served]


async def test_too_many_connections_are_told_so_and_room_is_made_again(served):
    open_ = [await asyncio.open_unix_connection(served) for _ in range(MAX_CONNECTIONS)]
    for reader, writer in open_:  # each is served, so each is counted
        writer.write(b'{"do": "echo"}\n')
        await reader.readline()
    with pytest.raises(ControlError, match="too many control connections"):
        await call(served, "echo")
    reader, writer = open_.pop()
    writer.write_eof()
    assert await reader.read() == b""
    await closed(writer)
    assert await call(served, "echo") == {}
    for _, writer in open_:
        await closed(writer)


async def test_a_silent_connection_is_closed(path):
    server = ControlServer(path, HANDLERS, idle_timeout=0.01)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b""
    await closed(writer)
    await server.stop()


async def test_stopping_closes_connections_and_removes_the_file(path):
    server = ControlServer(path, HANDLERS)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"do": "echo"}\n')
    await reader.readline()
    await server.stop()
    assert await reader.read() == b""
    assert not path.exists()
    await closed(writer)
    await server.stop()  # twice is once


async def test_the_socket_of_a_dead_server_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    server = ControlServer(path, HANDLERS)
    await server.start()
    assert await call(path, "echo") == {}
    await server.stop()


async def test_a_second_server_does_not_take_the_socket_of_a_living_one(served):
    with pytest.raises(ControlError, match="another server answers on it"):
        await ControlServer(served, HANDLERS).start()
    assert await call(served, "echo", first="lives") == {"first": "lives"}


async def test_stopping_leaves_the_file_of_a_successor_alone(path):
    server = ControlServer(path, HANDLERS)
    await server.start()
    path.unlink()
    path.write_text("the successor's")
    await server.stop()
    assert path.exists()


async def test_a_data_directory_deeper_than_a_socket_address_works(tmp_path):
    deep = tmp_path.joinpath(*["a-long-directory-name"] * 8)
    deep.mkdir(parents=True)
    server = ControlServer(deep / "control.sock", HANDLERS)
    await server.start()
    assert await call(deep / "control.sock", "echo", a=1) == {"a": 1}
    await server.stop()
    assert list(deep.iterdir()) == []


async def test_a_directory_that_is_not_there_is_said_to_be_the_trouble(tmp_path):
    with pytest.raises(ControlError, match="No such file or directory"):
        await ControlServer(tmp_path / "none" / "control.sock", HANDLERS).start()


def test_no_server_is_told_apart_from_a_refusal(tmp_path):
    with pytest.raises(NoServer):
        ControlClient(tmp_path / "control.sock").call("echo")
    with pytest.raises(NoServer):
        ControlClient(tmp_path.joinpath(*["no-such-directory-here"] * 8)).call("echo")
    (tmp_path / "file").write_text("")
    with pytest.raises(NoServer):
        ControlClient(tmp_path / "file").call("echo")
    with pytest.raises(NoServer):
        ControlClient(tmp_path / "file" / "control.sock").call("echo")


@pytest.mark.parametrize("answer", [b"", b"half a li", b"[]\n", b"{}\n", b'{"ok": true}\n'])
def test_a_server_that_breaks_off_is_an_error_of_the_declared_kind(path, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError, match="broke off") as caught:
            ControlClient(path).call("echo")
        thread.join()
    assert not isinstance(caught.value, NoServer)


def test_a_server_that_never_answers_is_given_up(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(ControlError, match=r"no answer within 0\.01 s"):
            ControlClient(path, timeout=0.01).call("echo")


def test_what_is_dumped_is_one_line_and_loads_again():
    value = {"a": [1, "two\n", None, True, b"\x00\n", {"b": [b""]}]}
    assert b"\n" not in dumps(value)
    assert loads(dumps(value)) == value


def test_it_serves_under_uvloop_too(path):
    async def run():
        server = ControlServer(path, HANDLERS)
        await server.start()
        assert await call(path, "echo", a=1) == {"a": 1}
        await server.stop()
        assert not path.exists()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
