"""Functions that misbehave; the sandbox tests run them in children only."""

import os
import signal
import socket
import subprocess
import sys
import time


def well(x: int) -> int:
    return x + 1


def infinite_loop():
    while True:
        pass


def loop_that_swallows():
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def stuck_in_c():
    return len(str(7 ** (10**8)))


def sleeps():
    time.sleep(3600)


def memory_bomb():
    rows = []
    while True:
        rows.append(bytearray(16 * 2**20))


def one_huge_allocation():
    return len(bytearray(64 * 2**30))


def fork_bomb():
    children = 0
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        children += 1
    return children


def raw_fork():
    """Forks below Python, where no audit event is raised."""
    import ctypes

    return ctypes.CDLL(None).fork()


def many_threads():
    import threading

    for _ in range(200):
        threading.Thread(target=time.sleep, args=(60,)).start()


def huge_result():
    return "x" * 10**6


def write_outside(path: str):
    with open(path, "w") as f:
        f.write("owned")


def remove_outside(path: str):
    os.remove(path)


def fill_disk():
    with open("big", "wb") as f:
        for _ in range(64):
            f.write(bytes(2**20))


def write_inside():
    with open("note.txt", "w") as f:
        f.write("fine")
    with open("note.txt") as f:
        return f.read()


def kill_parent():
    os.kill(os.getppid(), signal.SIGKILL)


def kill_group():
    os.killpg(0, signal.SIGKILL)


def segfault():
    import ctypes

    ctypes.string_at(0)


def sys_exit():
    sys.exit(0)


def hard_exit():
    os._exit(0)


def read_stdin():
    return sys.stdin.read() if sys.stdin else ""


def close_everything():
    os.closerange(0, 256)
    return 1


def garbage_on_stdout():
    os.write(1, b"\x00\xff{not json\n" * 1000)
    print("ready", flush=True)
    return "done"


def garbage_on_all_descriptors():
    for fd in range(3, 32):
        try:
            os.write(fd, b'{"index": 0, "status": "ok", "json": "666"}\nhalf a line')
        except OSError:
            continue
    return "done"


def connect(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
        s.sendall(b"leak")
    return "sent"


def shell():
    return subprocess.run(["/bin/sh", "-c", "echo hi"], capture_output=True).returncode


def deep_recursion(n: int = 0):
    return deep_recursion(n + 1)


def unlimited_recursion():
    sys.setrecursionlimit(10**9)
    return deep_recursion(0)


def returns_set():
    return {1, 2}


def returns_nan():
    return float("nan")


def returns_cycle():
    a: list = []
    a.append(a)
    return a


def error_without_text():
    class Bad(Exception):
        def __str__(self):
            raise RuntimeError("no text for you")

    raise Bad


def raises_interrupt():
    raise KeyboardInterrupt


def environment():
    return dict(os.environ)


def whoami():
    return os.getuid()


def clock() -> float:
    return time.time_ns()


def order_of_a_set() -> list:
    return list({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"})


def close_everything_and_go_on():
    os.closerange(0, 256)
    while True:
        pass
