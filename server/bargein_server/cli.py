"""The command `bargein-server`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from . import __version__
from .agent import Agent, NotAnAgent
from .app import SESSION_PATH, create_app, shut_down_sessions
from .guard.authentication import BearerTokens
from .serving.gc_tuning import tune_gc
from .serving.listener import listening_socket
from .serving.server import Server, uvicorn_config
from .settings import Settings, SettingsError, settings_from, settings_from_environment
from .telemetry.logs import JsonFormatter, Line
from .telemetry.setup import NotInstalled, export

log = logging.getLogger("bargein.server")

AGENTS = ("demo", "tone", "openai", "local")

_SWITCHES = {
    "metrics": "serve /metrics for Prometheus",
    "traces": "trace turns with OpenTelemetry, see OTEL_EXPORTER_OTLP_ENDPOINT",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve an agent until SIGINT or SIGTERM. Exits with 2 when it was called wrongly."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.workers > 1:
        parser.error("--workers above 1: sessions live in one process for now; run several servers instead")
    try:
        settings = settings_from(_given_settings(options))
        agent = _agent(options)
        tokens = _tokens(options.tokens, os.environ.get("BARGEIN_TOKEN"))
        if not tokens and not options.insecure and not _is_loopback(options.host):
            raise NotProtected(options.host)
        authenticator = BearerTokens(tokens) if tokens else None
        flush = export() if settings.traces else None
        app = create_app(agent, settings, authenticator=authenticator, origins=options.origin)
    except (SettingsError, NotAnAgent, NotInstalled, AgentNotFound, BadTokens, NotProtected) as error:
        parser.error(str(error))
    _configure_logging(options.log_level, options.log_format)

    def announce(port: int) -> None:
        url = f"ws://{_url_host(options.host)}:{port}{SESSION_PATH}"
        agent_name = options.target or options.agent
        if options.log_format == "json":
            log.info(Line("server.listening", {"agent": agent_name, "url": url}))
        else:
            print(f"bargein serves {agent_name} at {url}", flush=True)
            print(f"talk to it:  bargein chat {url}", flush=True)
            print(f"or open      http://{_url_host(options.host)}:{port}/", flush=True)

    uvicorn_level = "debug" if options.log_level == "debug" else "warning"
    config = uvicorn_config(app, settings, options.host, options.port, uvicorn_level)
    server = Server(config, lambda: shut_down_sessions(app), announce, flush)
    try:
        listener = listening_socket(options.host, options.port, settings.stalled_s)
    except OSError as error:
        print(f"bargein-server: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        sys.exit(3)
    tune_gc()
    runner = asyncio.Runner(loop_factory=config.get_loop_factory())
    with suppress(KeyboardInterrupt):
        runner.run(server.serve(sockets=[listener]))
    if server.stuck:
        log.warning("%d turns do not end: exiting without them", server.stuck)
        logging.shutdown()
        os._exit(1)
    runner.close()
    if not server.started:
        sys.exit(3)


class BadTokens(ValueError):
    """The file of tokens cannot be used; the message says why."""


class NotProtected(ValueError):
    """Whoever reaches the address could talk to the agent."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines: set BARGEIN_TOKEN, give --tokens FILE, or --insecure"
        )


class AgentNotFound(ValueError):
    """The agent that was named cannot be had; the message says why and what to do."""


def load_agent(target: str) -> Agent:
    """Import `module:name`.

    Raises:
        AgentNotFound: The form is wrong, or there is no such module or name.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise AgentNotFound(f"expected module:agent, got {target!r}; or --agent {', '.join(AGENTS)}")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, and it is one of its own imports that is not
        raise AgentNotFound(f"no module named {error.name!r} in {os.getcwd()} or on the path") from None
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise AgentNotFound(f"module {module_name!r} has no {name!r}")
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _agent(options: argparse.Namespace) -> Agent:
    if options.target is not None:
        return load_agent(options.target)
    if options.agent == "demo":
        from .examples.demo import demo

        return demo
    if options.agent == "tone":
        from .examples.tone import tone

        return tone
    try:
        if options.agent == "openai":
            from .agents.chat_completions import OpenAIAgent

            return OpenAIAgent(model=options.model)
        from .agents.local import LocalAgent

        return LocalAgent()
    except ImportError as error:
        install = f'pip install "bargein[{options.agent}]"'
        raise AgentNotFound(f"--agent {options.agent} needs {error.name}: {install}") from None
    except ValueError as error:
        raise AgentNotFound(f"--agent {options.agent}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bargein-server",
        usage="%(prog)s [options] [module:agent]",
        description="Serve an agent that can be interrupted.",
        epilog="Each limit is also an environment variable, BARGEIN_ and its name in capitals.",
    )
    parser.add_argument("target", nargs="?", metavar="module:agent", help="an async generator function")
    parser.add_argument("--agent", choices=AGENTS, default="demo", help="one that is built in (%(default)s)")
    parser.add_argument("--model", help="the model of --agent openai (OPENAI_MODEL)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 for a free one (%(default)s)")
    parser.add_argument("--tokens", metavar="FILE", help="who may connect: lines of `principal token`")
    parser.add_argument("--origin", action="append", default=[], help="a web origin that may connect too")
    parser.add_argument("--insecure", action="store_true", help="listen publicly and let everybody in")
    parser.add_argument("--workers", type=int, default=1, help="only 1 for now")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", default="text", choices=("text", "json"))
    parser.add_argument("--version", action="version", version=f"bargein-server {__version__}")
    limits = parser.add_argument_group("limits (seconds, bytes, counts)")
    for field in msgspec.structs.fields(Settings):
        flag, dest = "--" + field.name.replace("_", "-"), f"setting_{field.name}"
        if field.type is bool:
            parser.add_argument(
                flag, dest=dest, action=argparse.BooleanOptionalAction, help=_SWITCHES[field.name]
            )
        else:
            limits.add_argument(flag, dest=dest, metavar="N", help=f"default {field.default}")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def _given_settings(options: argparse.Namespace) -> dict[str, str]:
    given = settings_from_environment(os.environ)
    for name in Settings.__struct_fields__:
        value = getattr(options, f"setting_{name}")
        if value is not None:
            given[name] = str(value).lower() if isinstance(value, bool) else value
    return given


def _tokens(file: str | None, single: str | None) -> dict[str, str]:
    """Return the principal of each token: of a file with `principal token` lines, and of a variable."""
    tokens = {single: "client"} if single else {}
    if file is None:
        return tokens
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadTokens(f"cannot read {file}: {error}") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not line.startswith("#"):
            if len(words) != 2:
                raise BadTokens(f"{file}, line {number}: expected a principal and a token")
            tokens[words[1]] = words[0]
    return tokens


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _configure_logging(level: str, form: str) -> None:
    """Log what is ours at `level`; others only when something is wrong, unless all is asked for."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else plain)
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if level == "debug" else logging.WARNING)
    for name in ("bargein", "bargein_server"):
        logging.getLogger(name).setLevel(level.upper())


def _url_host(host: str) -> str:
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
