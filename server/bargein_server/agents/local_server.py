"""Program that runs llama.cpp's HTTP server until its parent is gone.

`local` starts it. It prints its address as one line to standard output once the model is loaded. It ends when
its standard input ends. On Linux the kernel also kills it at the moment its parent dies, which covers the
time in which the model is being loaded.

It imports nothing of bargein, so that it starts fast and can be run by path.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    _die_with(options.parent)
    # Ctrl-C in a terminal reaches this process too; the parent handles it, after its turns have ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Referenced until the end: the server lives as long as the object.
    server = _serve(options)
    print(server.listening_address, flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # Not `sys.exit`, which waits for a generation in progress.
    os._exit(0)


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _serve(options: argparse.Namespace) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.n_ctx = options.context
    params.n_parallel = options.parallel
    params.cpuparams.n_threads = options.threads
    params.n_gpu_layers = 0
    params.use_jinja = True
    params.port = 0
    params.hostnames = ["127.0.0.1"]
    params.ui = False
    # No web page may use it.
    params.cors_origins = ""
    params.endpoint_slots = True
    params.endpoint_metrics = True
    # The cache of finished prompts grows to 8 GiB otherwise.
    params.cache_ram_mib = 256
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
