"""The promises of the embedded server, proved with real servers and real processes."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path

import launcher
import pytest
import redis
from kombu import Connection as Broker
from support import PROGRAMS, absent

from worker.config import Settings
from worker.errors import EmbeddedServerError
from worker.server import valkey
from worker.server.connection import Connection
from worker.server.embedded import EmbeddedServer, Patience

pytestmark = pytest.mark.timeout(60)


class User:
    """Another process that uses the server."""

    def __init__(self, data_dir: Path) -> None:
        given, ask = os.pipe()
        answers, out = os.pipe()
        self._ask, self._answers = os.fdopen(ask, "w"), os.fdopen(answers)
        command = [sys.executable, str(PROGRAMS / "embedded_user.py"), str(data_dir)]
        with (
            os.fdopen(given, "rb") as its_in,
            os.fdopen(out, "wb") as its_out,
            Path(os.devnull).open("wb") as nothing,
        ):
            self.process = launcher.start(command, env=os.environ, given=its_in, out=its_out, err=nothing)

    def ask(self, *words: object) -> None:
        """Send a line, without waiting for its answer."""
        self._ask.write(" ".join(map(str, words)) + "\n")
        self._ask.flush()

    def answer(self) -> str:
        """Wait for the answer to the next line."""
        answer = self._answers.readline().strip()
        assert answer, "the user died"
        return answer

    def do(self, *words: object) -> str:
        """Send a line and wait for its answer."""
        self.ask(*words)
        return self.answer()

    def kill(self) -> None:
        """Do to it what kill -9 does."""
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self._ask.close()
        self._answers.close()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the only directory where socket directories may come to be."""
    directory = Path(tempfile.mkdtemp(prefix="b-", dir="/tmp")).resolve()  # where paths are short
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def home(tmp_path: Path, sockets: Path) -> Iterator[Path]:
    """Return a data directory that doesn't exist yet; afterwards nothing of its server may be left."""
    data_dir = tmp_path / "data"
    yield data_dir
    left = [
        int(pid.read_text()) for pid in tmp_path.rglob("server.pid") if is_locked(pid.parent / "server.lock")
    ]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
    # Files are tempfile's own, by which it tries a directory: who is killed then leaves one.
    assert not [path for path in sockets.iterdir() if path.is_dir()]


@pytest.fixture
def new_user(home: Path) -> Iterator[Callable[[], User]]:
    """Return a function that makes users; they are killed at the end."""
    users: list[User] = []

    def make() -> User:
        users.append(User(home))
        return users[-1]

    yield make
    for user in users:
        user.kill()


def is_locked(path: Path) -> bool:
    """Say whether anybody holds the lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_running(pid: int) -> bool:
    """Say whether the process is there, and not just as a zombie that init hasn't collected."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()[:1] not in {"", "Z"}


def eventually(condition: Callable[[], bool], limit_s: float = 60) -> None:
    """Wait for the condition."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def server_pid(data_dir: Path) -> int:
    """Return the living server's pid."""
    return int((data_dir / "server.pid").read_text())


def new_seed() -> int:
    """Return a seed, and print it, for repeating what failed."""
    seed = random.randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    return seed


def do(url: str, *command: object) -> object:
    """Return what a command answers, as redis-py has it."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def test_data_survives_stop_and_start(home: Path) -> None:
    """What the server held is there the next time; it is durable, on a socket only, and evicts nothing."""
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
        assert do(server.url, "CONFIG", "GET", "appendfsync") == {"appendfsync": "always"}
        assert do(server.url, "CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert do(server.url, "CONFIG", "GET", "port") == {"port": "0"}
    with EmbeddedServer(data_dir=home) as server:
        assert do(server.url, "GET", "a") == "1"


def test_nothing_is_left_after_stop(home: Path, sockets: Path) -> None:
    """No process and no socket; what was there was private, and safe from the terminal's Ctrl-C."""
    server = EmbeddedServer(data_dir=home)
    server.start()
    pid = server_pid(home)
    assert server.socket_path.parent.parent == sockets
    modes = [path.stat().st_mode & 0o777 for path in (home, server.socket_path.parent, server.socket_path)]
    assert modes == [0o700, 0o700, 0o700]
    assert os.getsid(pid) != os.getsid(0)
    server.stop()
    eventually(lambda: not is_running(pid))
    assert not list(sockets.iterdir())
    assert not (home / "server.pid").exists()
    with pytest.raises(EmbeddedServerError, match=r"call start\(\) first"):
        _ = server.url


def test_start_and_stop_may_be_repeated(home: Path) -> None:
    """Starting twice is one use; stopping twice, or before starting, does nothing."""
    server = EmbeddedServer(data_dir=home)
    server.stop()
    server.start()
    pid = server_pid(home)
    server.start()
    assert server_pid(home) == pid
    server.stop()
    assert not is_locked(home / "server.lock")
    server.stop()


def test_the_last_of_two_processes_ends_the_server(home: Path, new_user: Callable[[], User]) -> None:
    """The first to leave doesn't end it, whether it started it or not."""
    first, second = new_user(), new_user()
    pid = int(first.do("start"))
    assert int(second.do("start")) == pid
    first.do("stop")
    assert is_running(pid)
    assert int(first.do("start")) == pid
    second.do("stop")
    assert is_running(pid)
    first.do("stop")
    eventually(lambda: not is_running(pid))
    assert not is_locked(home / "server.lock")


def test_a_killed_user_leaves_its_server_to_the_next(home: Path, new_user: Callable[[], User]) -> None:
    """The same server, with its data, is found, used and ended."""
    user = new_user()
    pid = int(user.do("start"))
    user.kill()
    with EmbeddedServer(data_dir=home) as server:
        assert server_pid(home) == pid
        do(server.url, "SET", "a", "1")
    eventually(lambda: not is_running(pid))


@pytest.mark.parametrize("users", [1, 3])
def test_a_server_ends_by_itself_after_its_last_user_was_killed(
    home: Path, new_user: Callable[[], User], users: int
) -> None:
    """Within seconds, though nobody comes by again; all data is kept, and nothing else goes on."""
    killed = [new_user() for _ in range(users)]
    (pid,) = {int(user.do("start")) for user in killed}
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "kept", "yes")
    for user in killed:
        assert is_running(pid)
        user.kill()
    eventually(lambda: not is_running(pid))
    eventually(lambda: not is_locked(home / "watcher.lock"))
    with EmbeddedServer(data_dir=home) as server:
        assert do(server.url, "GET", "kept") == "yes"


def test_users_may_be_killed_at_any_moment(home: Path, new_user: Callable[[], User]) -> None:
    """Whatever a user was killed in the middle of, the next one has a server and the data."""
    seed = new_seed()
    chance = random.Random(seed)
    for count in range(1, 13):
        users = [new_user() for _ in range(2)]
        for user in users:
            user.ask("rounds", seed, 100)
        time.sleep(chance.uniform(0, 0.6))
        for user in users:
            user.kill()
        with EmbeddedServer(data_dir=home) as server:
            assert do(server.url, "INCR", "kills") == count


def test_a_killed_server_starts_again_with_what_was_durable(home: Path) -> None:
    """Also for a user that is still there; stale socket and pid files confuse nobody."""
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
        for _ in range(2):
            pid = server_pid(home)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: not is_running(pid))
            assert server.socket_path.exists()
            (home / "server.pid").write_text(str(os.getpid()))
            server.start()
            assert server_pid(home) not in {pid, os.getpid()}
            assert do(server.url, "GET", "a") == "1"
        os.kill(server_pid(home), signal.SIGKILL)


def test_a_server_that_is_just_dying_is_replaced(home: Path) -> None:
    """One that is killed at this moment still holds its lock; it isn't waited for, nor said to be damaged."""
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
        os.kill(pid := server_pid(home), signal.SIGKILL)
        eventually(lambda: not is_running(pid))
        dying = os.open(home / "server.lock", os.O_RDWR)
        fcntl.flock(dying, fcntl.LOCK_EX)
        threading.Timer(0.3, os.close, [dying]).start()
        server.start()
        assert do(server.url, "GET", "a") == "1"


def test_many_starting_at_once_have_one_server(home: Path, new_user: Callable[[], User]) -> None:
    """Eight processes, one server, started once."""
    users = [new_user() for _ in range(8)]
    for user in users:
        user.ask("start")
    assert len({user.answer() for user in users}) == 1
    assert (home / "server.log").read_text().count("Valkey is starting") == 1
    for user in users:
        user.ask("stop")
    for user in users:
        user.answer()


def test_starting_and_ending_race_safely(home: Path, new_user: Callable[[], User]) -> None:
    """Whoever comes while the last one ends the server waits, and starts it again; nobody ever fails."""
    seed = new_seed()
    users = [new_user() for _ in range(4)]
    for number, user in enumerate(users):
        user.ask("rounds", seed + number, 10)
    assert [user.answer() for user in users] == ["done"] * 4
    assert not is_locked(home / "server.lock")
    with EmbeddedServer(data_dir=home) as server:
        assert do(server.url, "GET", "rounds") == "40"


@pytest.mark.parametrize("end", ["exit", "stop"])
def test_a_forked_child_does_not_end_the_server(home: Path, new_user: Callable[[], User], end: str) -> None:
    """Neither its exit nor its stop() takes the server, or the right to it, from the parent."""
    user = new_user()
    pid = int(user.do("start"))
    assert user.do("fork", end) == "0"
    with EmbeddedServer(data_dir=home):
        pass
    assert is_running(pid)
    user.do("stop")
    assert not is_locked(home / "server.lock")


def test_a_forked_child_does_not_end_the_server_even_as_the_last(
    home: Path, new_user: Callable[[], User]
) -> None:
    """Its stop() after its parent's death leaves the server to the next user."""
    user = new_user()
    pid = int(user.do("start"))
    child = int(user.do("fork", "orphan"))
    user.kill()
    eventually(lambda: not is_running(child))
    assert is_running(pid)
    with EmbeddedServer(data_dir=home):
        assert server_pid(home) == pid


def test_the_server_stays_while_a_forked_child_lives(home: Path, new_user: Callable[[], User]) -> None:
    """A pool's children keep it, even without the parent that started it."""
    user = new_user()
    pid = int(user.do("start"))
    child = int(user.do("fork", "pause"))
    user.do("stop")
    user.kill()
    with EmbeddedServer(data_dir=home):
        pass
    assert is_running(pid)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not is_running(child))
    with EmbeddedServer(data_dir=home):
        assert server_pid(home) == pid


def test_locks_reach_neither_the_server_nor_programs(home: Path, new_user: Callable[[], User]) -> None:
    """Only users count as users."""
    user = new_user()
    user.do("start")
    program = int(user.do("exec"))
    user.kill()
    assert is_running(program)
    assert not is_locked(home / "users.lock")
    os.kill(program, signal.SIGKILL)
    with EmbeddedServer(data_dir=home):
        pass


def test_directories_may_have_long_and_odd_names(home: Path) -> None:
    """The socket's path doesn't depend on the data directory's length, nor its options on its characters."""
    data_dir = home / ("long " * 40) / 'it\'s "ödd" 100% #1' / ("x" * 200)
    with EmbeddedServer(data_dir=data_dir) as server:
        assert len(str(server.socket_path)) < 107
        do(server.url, "SET", "a", "1")
    with EmbeddedServer(data_dir=data_dir) as server:
        assert do(server.url, "GET", "a") == "1"


def test_redis_py_and_celery_understand_the_urls(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both reach the same server, even where the path has characters that URLs quote."""
    odd = sockets / "o d%d"
    odd.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))
    with Connection.open(Settings(data_dir=home)) as opened:
        assert do(opened.url, "PING")
        with Broker(opened.broker_url) as broker:
            queue = broker.SimpleQueue("q")
            queue.put("hello")
            queue.close()
        assert do(opened.url, "LLEN", "q") == 1
    odd.rmdir()


def test_users_with_other_surroundings_find_the_server(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says where it listens; nobody guesses from XDG_RUNTIME_DIR, which cron doesn't have."""
    with EmbeddedServer(data_dir=home) as first:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr(tempfile, "tempdir", str(home))
        with EmbeddedServer(data_dir=home) as second:
            assert second.socket_path == first.socket_path
            assert second.socket_path.parent.parent == sockets


def test_a_copy_of_a_living_directory_is_another(home: Path, tmp_path: Path) -> None:
    """Using the copy neither finds nor ends the original's server, not even if its own fails to start."""
    with EmbeddedServer(data_dir=home) as original:
        do(original.url, "SET", "a", "1")
        copy = shutil.copytree(home, tmp_path / "copy")
        with EmbeddedServer(data_dir=copy) as server:
            assert server.socket_path != original.socket_path
            assert do(server.url, "GET", "a") == "1"
        shutil.copy(home / "server.lock", copy)
        next(copy.rglob("*.manifest")).write_text("damaged")
        with pytest.raises(EmbeddedServerError):
            EmbeddedServer(data_dir=copy).start()
        assert do(original.url, "GET", "a") == "1"


def test_a_moved_directory_keeps_its_server(home: Path, tmp_path: Path) -> None:
    """The server is found at the new place, and whoever takes the old place gets one of their own."""
    first = EmbeddedServer(data_dir=home)
    first.start()
    do(first.url, "SET", "a", "1")
    moved = home.rename(tmp_path / "moved")
    with EmbeddedServer(data_dir=moved) as found, EmbeddedServer(data_dir=home) as other:
        assert do(found.url, "GET", "a") == "1"
        assert do(other.url, "GET", "a") is None
        shutil.rmtree(home, ignore_errors=True)
    assert first.socket_path.exists()
    first.stop()
    with EmbeddedServer(data_dir=moved):
        pass


@pytest.mark.parametrize("made_anew", [False, True])
def test_deleting_the_directory_leaves_no_server_behind(home: Path, *, made_anew: bool) -> None:
    """A user whose data was deleted still ends the server."""
    server = EmbeddedServer(data_dir=home)
    server.start()
    pid = server_pid(home)
    do(server.url, "SET", "a", "1")
    eventually((home / "watcher.lock").exists)  # the last file that is made: else it is made while we delete
    shutil.rmtree(home)
    if made_anew:
        home.mkdir()
    server.stop()
    eventually(lambda: not is_running(pid))


def test_deleted_contents_do_not_make_two_servers(home: Path) -> None:
    """A server whose lock was deleted is ended before another may write to the same directory."""
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
        pid = server_pid(home)
        for path in home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with EmbeddedServer(data_dir=home) as second:
            eventually(lambda: not is_running(pid))
            assert do(second.url, "GET", "a") is None


def test_a_server_that_hangs_is_reported_and_ended(home: Path) -> None:
    """A second user is told so; the last one ends it by force."""
    short = Patience(start_s=0.1, end_s=0.2, answer_s=0.2)
    with EmbeddedServer(data_dir=home, patience=Patience(end_s=0.2, answer_s=0.2)):
        pid = server_pid(home)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EmbeddedServerError, match="does not answer on"):
            EmbeddedServer(data_dir=home, patience=short).start()
        assert is_running(pid)
    eventually(lambda: not is_running(pid))


def test_loading_is_waited_for_but_not_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server with more data than patience allows goes on loading, so that the next try finds it further.

    Whoever waits at a terminal is told why.
    """
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
    with next(home.rglob("*.incr.aof")).open("ab") as log:
        log.write(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * 1_500_000)
    with pytest.raises(EmbeddedServerError, match=r"on by itself.*LOADING"):
        EmbeddedServer(data_dir=home, patience=Patience(loading_s=0)).start()
    pid = server_pid(home)
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with EmbeddedServer(data_dir=home, patience=Patience(silent_s=0)) as server:
        assert capsys.readouterr().err == f"starting the server: reading what {home} holds\n"
        assert server_pid(home) == pid
        assert do(server.url, "GET", "n") == "1500000"


def test_damaged_data_is_named_with_the_cure(home: Path) -> None:
    """The server's own words, and what to do; the check that is proposed works."""
    with EmbeddedServer(data_dir=home) as server:
        do(server.url, "SET", "a", "1")
    log = next(home.rglob("*.incr.aof"))
    log.write_bytes(log.read_bytes() + b"rubbish\r\n" * 9)
    with pytest.raises(
        EmbeddedServerError, match=r"(?s)valkey-check-aof.*Bad file format.*incr\.aof"
    ) as caught:
        EmbeddedServer(data_dir=home).start()
    checker = home / "valkey-check-aof"
    checker.symlink_to(str(caught.value).split("'ln -s ")[1].split(" valkey-check-aof'")[0])
    subprocess.run([checker, "--fix", log], input=b"y\n", check=True, capture_output=True)
    with EmbeddedServer(data_dir=home) as server:
        assert do(server.url, "GET", "a") == "1"


def test_a_server_that_fails_to_start_is_quoted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last lines are in the error."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of cheese\n")
    broken.chmod(0o755)
    monkeypatch.setattr(valkey, "binary", lambda: broken)
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*out of cheese"):
        EmbeddedServer(data_dir=home).start()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("library", ["libjemalloc.so.2", "libnone.so.9", None])
def test_the_server_allocates_by_what_the_machine_has(
    home: Path, library: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With jemalloc where there is one, and without a word where it can't be had."""
    if library == "libjemalloc.so.2" and not find_library("jemalloc"):
        absent("libjemalloc2 isn't here: tests/neighbours/debian.txt names it")
    monkeypatch.setattr(valkey, "find_library", lambda name: library if name == "jemalloc" else None)
    with EmbeddedServer(data_dir=home) as server:
        assert do(server.url, "SET", "a", "1")
        pid = int((home / "server.pid").read_text())
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert ("libjemalloc" in mapped) == (library == "libjemalloc.so.2")
        assert "mxfast" in Path(f"/proc/{pid}/environ").read_text()


def test_a_machine_without_a_server_is_told_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsupported platform is a clear error."""
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(EmbeddedServerError, match=r"pdp11.*set BADGES_REDIS_URL"):
        EmbeddedServer(data_dir=home).start()


@pytest.mark.parametrize("below", [".", "below"])
def test_an_unusable_data_directory_is_a_clear_error(home: Path, below: str) -> None:
    """A file in its place; for root, everything else can be written."""
    home.touch()
    with pytest.raises(EmbeddedServerError, match=r"/data.*BADGES_DATA_DIR"):
        EmbeddedServer(data_dir=home / below).start()


def test_a_lock_that_cannot_be_had_is_a_clear_error(home: Path) -> None:
    """Something else has its name; nothing is held afterwards."""
    (home / "start.lock").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match=r"start\.lock.*BADGES_DATA_DIR"):
        EmbeddedServer(data_dir=home).start()
    (home / "start.lock").rmdir()
    with EmbeddedServer(data_dir=home):
        pass


@pytest.mark.parametrize("fault", ["0777", "0770", "owner"])
def test_a_foreign_data_directory_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """One that others own or may write to: nothing is written there, nor to what a link of theirs names."""
    home.mkdir()
    mine = home.with_name("mine")
    mine.write_text("kept")
    (home / "server.lock").symlink_to(mine)
    if fault == "owner":
        us = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    else:
        home.chmod(int(fault, 8))
    with pytest.raises(EmbeddedServerError, match=r"not a directory of our own alone.*BADGES_DATA_DIR"):
        EmbeddedServer(data_dir=home).start()
    assert mine.read_text() == "kept"
    assert list(home.iterdir()) == [home / "server.lock"]
    monkeypatch.undo()
    home.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"symbolic links.*BADGES_DATA_DIR"):
        EmbeddedServer(data_dir=home).start()
    assert mine.read_text() == "kept"


def test_what_is_in_the_data_directory_is_ours_to_read(home: Path) -> None:
    """Whatever others' rights are by default."""
    home.mkdir(mode=0o755)
    umask = os.umask(0)
    try:
        with EmbeddedServer(data_dir=home) as server:
            do(server.url, "SET", "a", "1")
            assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    finally:
        os.umask(umask)


@pytest.mark.parametrize("fault", ["mode", "link"])
def test_a_foreign_socket_directory_is_refused(home: Path, sockets: Path, tmp_path: Path, fault: str) -> None:
    """Nobody who prepared the directory gets to read the jobs."""
    with EmbeddedServer(data_dir=home) as server:
        directory = server.socket_path.parent
    if fault == "link":
        directory.symlink_to(tmp_path)
    else:
        directory.mkdir(mode=0o700)
    if fault == "mode":
        directory.chmod(0o750)
    with pytest.raises(EmbeddedServerError, match=r"not a directory of our own alone.*TMPDIR"):
        EmbeddedServer(data_dir=home).start()
    assert directory.exists()
    assert not is_locked(home / "users.lock")
    shutil.rmtree(sockets)
    sockets.mkdir()


def test_the_socket_goes_where_its_path_is_short(
    home: Path, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unusable XDG_RUNTIME_DIR is passed over; without any short place there is a clear error."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    for runtime in (str(long), "relative", "/nonexistent"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with EmbeddedServer(data_dir=home) as server:
            assert server.socket_path.parent.parent == sockets
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(EmbeddedServerError, match=r"too long for a socket.*set TMPDIR"):
        EmbeddedServer(data_dir=home).start()
