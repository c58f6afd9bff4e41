"""Nothing is fetched and nothing is sent: importing and training open no connection."""

import os
import subprocess
import sys

PROGRAM = """
import sys

CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
tried = []


def refuse(event, details):
    if event in CONNECTIONS:
        tried.append((event, str(details[-1])))
        raise OSError(f"refused by the test: {event}")


sys.addaudithook(refuse)
import coview

for name in coview.__all__:
    getattr(coview, name)
if sys.argv[1] == "train":
    run = coview.pretrain(
        "scenes", limit=100, size=8, encoder="resnet10/8-small", epochs=1, batch_size=16,
        device="cpu", workers=1, out=sys.argv[2],
    )
    assert run.is_ended and run.report_path.exists()
elif sys.argv[1] == "connect":  # that the test would see it
    import urllib.request

    try:
        urllib.request.urlopen("http://127.0.0.1:9")
    except OSError:
        pass
print(f"tried: {tried}")
"""


def connections(*arguments):
    """What the program says of the connections that it tried, as another process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_importing_and_training_open_no_connection(tmp_path):
    assert connections("train", tmp_path / "run") == "tried: []"


def test_a_connection_would_be_seen(tmp_path):
    assert connections("connect").startswith("tried: [('socket.")
