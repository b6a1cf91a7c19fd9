"""Programs of a stand-in environment that start at once: a server that has imported everything
forks for each call, with the caller's arguments, folder and streams. A recipe starts 15 programs;
importing torch in each would be most of its test's time.

As a script: ``preloaded.py SOCKET`` serves, ``preloaded.py SOCKET PROGRAM ARGUMENT...`` calls.
"""

import json
import os
import socket
import sys


def call(address: str, argv: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(address)
        message = json.dumps({"argv": argv, "cwd": os.getcwd()}).encode()
        socket.send_fds(link, [message], [0, 1, 2])
        link.shutdown(socket.SHUT_WR)
        return int(link.recv(16))


def serve(address: str) -> None:
    import runpy

    import torch

    from e2etts.bin import main as command
    for verb in command.VERBS:
        __import__(f"e2etts.bin.{verb.replace('-', '_')}")
    torch.set_num_threads(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(address)
        door.listen()
        while True:
            link, _ = door.accept()
            message, streams, _, _ = socket.recv_fds(link, 1 << 20, 3)
            child = os.fork()
            if child:
                link.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
                for stream in streams:
                    os.close(stream)
                link.close()
                continue
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            wanted = json.loads(message)
            os.chdir(wanted["cwd"])
            program, *sys.argv = wanted["argv"]
            status = 1
            try:
                if program == "e2etts":
                    status = command.main(sys.argv)
                else:
                    sys.path.insert(0, os.path.dirname(sys.argv[0]))
                    runpy.run_path(sys.argv[0], run_name="__main__")
                    status = 0
            except SystemExit as e:
                status = e.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1])
