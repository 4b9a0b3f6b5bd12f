"""The command `bargein-server`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import __version__
from .addresses import UNIX
from .agent import Agent, NotAnAgent
from .cluster.machine import PEER_HELP, BadPeer, machine_of
from .cluster.worker import Worker, worker_of
from .endpoints.doors.table import DOORS
from .endpoints.sites import NotASite, Site, is_application
from .guard.authentication import BadTokens, BearerTokens, tokens_of_environment, tokens_of_file
from .guard.origins import BadOrigin
from .launcher import BadRootPath, Launcher, NotProtected, NotStarted, print_address
from .options import add_settings, configure_logging, decided_by_code, given_settings
from .page_configuration import BadPage, add_page_option, page_of
from .serving.reloading import serve_reloading
from .serving.supervisor import NotSupported, supervise
from .serving.worker_life import worker_store
from .sessions_command import main as sessions_main
from .settings_reader import (
    SettingsError,
    did_you_mean,
    settings_from,
)
from .stores.urls import BadStore, default_url
from .telemetry.logs import Line
from .telemetry.setup import NotInstalled
from .voice.options import VoiceOptionError, add_voice_options, voice_of

log = logging.getLogger("bargein.server")

AGENTS = ("demo", "tone", "model", "openai", "local", "realtime")
DEFAULT_AGENT = "demo"

MAX_WORKERS = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve an agent until SIGINT or SIGTERM.

    Raises:
        SystemExit: With status 2 for wrong arguments, 3 when the server does not start.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["sessions"]:
        sys.exit(sessions_main(given[1:], DEFAULT_AGENT))
    parser = _parser()
    options = parser.parse_args(given)
    worker = worker_of(os.environ)
    try:
        if options.reload:
            if options.workers > 1:
                raise SettingsError("--reload is for development: leave --workers or --reload out")
            return serve_reloading(_serve_again, [each for each in given if each != "--reload"])
        if options.workers > 1 and options.host.startswith(UNIX):
            raise SettingsError("workers share a port, not a Unix socket: leave --workers or --uds out")
        if (options.workers > 1 or options.peer is not None) and worker is None:
            machine_of(options.peer, _store_url(options), os.environ)
            sys.exit(_supervise(options, given))
        launcher = _launcher(options, worker)
    except (
        NotSupported, BadPeer, SettingsError, NotAnAgent, NotProtected, NotInstalled, AgentNotFound,
        BadTokens, BadOrigin, BadRootPath, BadPage, BadStore, NotASite, VoiceOptionError,
    ) as error:  # fmt: skip
        parser.error(str(error))
    configure_logging(options.log_level, options.log_format)
    try:
        launcher.listen()
    except OSError as error:
        _not_listening(error)
    try:
        launcher.run()
    except NotStarted:
        sys.exit(3)


def _serve_again(arguments: Sequence[str], sockets: object) -> None:
    """Serve in a process of `serve_reloading`."""
    main(arguments)


def _not_listening(error: OSError) -> NoReturn:
    print(f"bargein-server: {error.strerror or error}", file=sys.stderr)
    sys.exit(3)


def _supervise(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run several workers until a signal; return the exit status."""
    settings = settings_from(given_settings(options))
    configure_logging(options.log_level, options.log_format)
    try:
        return supervise(
            options.workers, arguments, options.host, options.port, settings, os.environ, _store_url(options)
        )
    except OSError as error:
        _not_listening(error)


class AgentNotFound(ValueError):
    """The named agent cannot be loaded; the message has the cause."""


def load_agent(target: str) -> Agent:
    """Import `module:name`.

    Raises:
        AgentNotFound: The form is wrong, or there is no such module or name.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise AgentNotFound(f"expected module:agent, got {target!r}; or --agent {', '.join(AGENTS)}")
    if module_name.endswith(".py"):
        meant = module_name.removesuffix(".py").replace(os.sep, ".")
        raise AgentNotFound(f"expected a module, got the file {module_name!r}; did you mean {meant}:{name}?")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module exists; one of its own imports does not
        raise AgentNotFound(f"no module named {error.name!r} in {os.getcwd()} or on the path") from None
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            nearest = did_you_mean(part, [known for known in dir(found) if not known.startswith("_")])
            raise AgentNotFound(f"module {module_name!r} has no {name!r}{nearest}")
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _launcher(options: argparse.Namespace, worker: Worker | None) -> Launcher:
    settings = settings_from(given_settings(options))
    agent = _agent(options)
    if is_application(agent):
        return _site_launcher(agent, options)
    tokens = tokens_of_environment(os.environ)
    if options.tokens is not None:
        tokens |= tokens_of_file(options.tokens)
    return Launcher(
        agent,
        options.host,
        options.port,
        settings,
        BearerTokens(tokens) if tokens else None,
        options.origin,
        insecure=options.insecure,
        root_path=options.root_path,
        name=_name(options, agent),
        uvicorn_level="info" if options.log_level == "debug" else "warning",
        announce=_log_address if options.log_format == "json" else print_address,
        store=_store_url(options) if worker is None else worker_store(_store_url(options), settings, worker),
        worker=worker,
        machine=machine_of(options.peer, _store_url(options), os.environ),
        doors=options.door,
        voice=voice_of(options),
        page=page_of(options),
    )


def _store_url(options: argparse.Namespace) -> str:
    name: str = options.target or options.agent or DEFAULT_AGENT
    return options.store if options.store is not None else default_url(name, os.environ)


def _site_launcher(found: Any, options: argparse.Namespace) -> Launcher:
    """Return the launcher of an application of others.

    Raises:
        NotASite: It contains none of ours, or options are given that its code decides.
    """
    site = Site(found)
    given = decided_by_code(options, [chat.state.store for chat in site.chats])
    given += ["BARGEIN_TOKEN"] if tokens_of_environment(os.environ) else []
    if given:
        raise NotASite(
            f"{options.target} is an application: its create_app() decides about {', '.join(given)}"
        )
    if options.workers > 1:
        raise NotASite("--workers needs a module:agent; run several servers of an application instead")
    return Launcher(
        site, options.host, options.port, site.settings, insecure=options.insecure,
        root_path=options.root_path, name=options.target,
        uvicorn_level="info" if options.log_level == "debug" else "warning",
        announce=_log_address if options.log_format == "json" else print_address,
    )  # fmt: skip


def _name(options: argparse.Namespace, agent: Agent) -> str:
    """Return the name to print; a built-in model agent has its model's name."""
    name: str = options.target or options.agent or DEFAULT_AGENT
    model = options.model or getattr(agent, "model", "")
    return f"{name} ({model})" if options.agent in ("openai", "model") else name


def _log_address(name: str, url: str) -> None:
    log.info(Line("server.listening", {"agent": name, "url": url}))


def _agent(options: argparse.Namespace) -> Agent:
    if options.target is not None and options.agent is not None:
        raise AgentNotFound(f"expected {options.target} or --agent {options.agent}, not both")
    if options.mcp and options.agent not in ("model", "openai", "realtime"):
        raise AgentNotFound("--mcp gives tools to --agent model, --agent openai or --agent realtime")
    if options.target is not None:
        return load_agent(options.target)
    if (options.agent or DEFAULT_AGENT) == "demo":
        from .examples.demo import demo

        return demo
    if options.agent == "tone":
        from .examples.demo import tone

        return tone
    try:
        if options.agent == "openai":
            return _openai_agent(options.model, options.mcp, bool(options.door))
        if options.agent == "realtime":
            return _realtime_agent(options.model, options.mcp)
        if options.agent == "model":
            return _model_agent(options.model, options.mcp, bool(options.door))
        from .agents.local import LocalAgent

        return LocalAgent()
    except ImportError as error:
        if "pip install" in str(error):  # the message names the extra
            raise AgentNotFound(f"--agent {options.agent}: {error}") from None
        install = f'pip install "bargein[{options.agent}]"'
        raise AgentNotFound(f"--agent {options.agent} needs {error.name}: {install}") from None
    except ValueError as error:
        raise AgentNotFound(f"--agent {options.agent}: {error}") from None


def _openai_agent(model: str | None, servers: Sequence[str], doors: bool) -> Agent:
    from .agents.chat_completions import OpenAIAgent

    if not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
        raise AgentNotFound("expected OPENAI_API_KEY, or OPENAI_BASE_URL for another server")
    if not model and not os.environ.get("OPENAI_MODEL") and os.environ.get("OPENAI_BASE_URL"):
        raise AgentNotFound("expected a model: give --model NAME or set OPENAI_MODEL")
    return OpenAIAgent(model=model, tools=_mcp_tools(servers), client_tools=doors, client_instructions=doors)


def _model_agent(model: str | None, servers: Sequence[str], doors: bool) -> Agent:
    from .agents.provider_models import ModelAgent

    if not model:
        raise AgentNotFound("expected a model: give --model PROVIDER:NAME, such as openai:gpt-5-mini")
    return ModelAgent(model=model, tools=_mcp_tools(servers), client_tools=doors, client_instructions=doors)


def _realtime_agent(model: str | None, servers: Sequence[str]) -> Agent:
    from .speech_models.realtime import RealtimeAgent

    if not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
        raise AgentNotFound("expected OPENAI_API_KEY, or OPENAI_BASE_URL for another server")
    return RealtimeAgent(model or "gpt-realtime", tools=_mcp_tools(servers))


def _mcp_tools(servers: Sequence[str]) -> list[Any]:
    if not servers:
        return []
    from .agents.mcp_tools import mcp

    return [mcp(server) for server in servers]


_DOOR_HELP = (
    "protocol of others to serve as well (repeatable): OpenAI's chat completions, Vercel's AI SDK, AG-UI, "
    "OpenAI's Realtime, or calls from Twilio"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bargein-server",
        usage="%(prog)s [options] [module:agent]",
        description="Serve an agent that can be interrupted. `%(prog)s sessions` lists, shows, exports and "
        "deletes conversations.",
        epilog="Each setting is also an environment variable: BARGEIN_ and its name in capitals, such as "
        "BARGEIN_HOLD_S for --hold-s. A flag takes precedence over its variable.",
    )
    _add_agent(parser)
    _add_address(parser)
    parser.add_argument(
        "--workers",
        type=_workers,
        default=os.environ.get("BARGEIN_WORKERS", "1"),
        metavar="N",
        help="number of processes that share the port, each on one core (BARGEIN_WORKERS; default: 1)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="start again when a Python file below this folder changes"
    )
    parser.add_argument("--peer", metavar="HOST:PORT", help=PEER_HELP)
    parser.add_argument("--version", action="version", version=f"bargein-server {__version__}")
    access = parser.add_argument_group("Access")
    access.add_argument(
        "--tokens", metavar="FILE", help="file of lines `principal token`; BARGEIN_TOKEN adds a single token"
    )
    access.add_argument(
        "--origin", action="append", default=[], help="web origin whose pages may connect (repeatable)"
    )
    access.add_argument(
        "--insecure", action="store_true", help="let every client of a public address in without a token"
    )
    parser.add_argument(
        "--store",
        default=os.environ.get("BARGEIN_STORE"),
        metavar="URL",
        help="where conversations are kept: sqlite:///FILE, or none (BARGEIN_STORE; default: a file of the "
        "agent in ~/.local/state/bargein)",
    )
    parser.add_argument("--door", action="append", default=[], choices=tuple(DOORS), help=_DOOR_HELP)
    add_voice_options(parser)
    add_page_option(parser)
    logs = parser.add_argument_group("Logs")
    levels = ("debug", "info", "warning", "error")
    logs.add_argument("--log-level", default="info", choices=levels, help="default: %(default)s")
    logs.add_argument("--log-format", default="text", choices=("text", "json"), help="default: %(default)s")
    add_settings(parser)
    return parser


def _add_agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="module:agent",
        help="an async generator function, or an ASGI application",
    )
    parser.add_argument("--agent", choices=AGENTS, help=f"a built-in agent (default: {DEFAULT_AGENT})")
    parser.add_argument(
        "--model",
        help="the model of --agent model, such as anthropic:claude-sonnet-5, google:… or openai:…, or of "
        "--agent openai (OPENAI_MODEL; at OpenAI's own server it has a default)",
    )
    parser.add_argument(
        "--mcp",
        action="append",
        default=[],
        metavar="COMMAND|URL",
        help="MCP server whose tools the model of --agent model or openai gets (repeatable)",
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default=os.environ.get("BARGEIN_HOST", "127.0.0.1"),
        help="address to listen on (BARGEIN_HOST; default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("BARGEIN_PORT", "8000"),
        help="port to listen on, 0 for a free one (BARGEIN_PORT; default: %(default)s)",
    )
    parser.add_argument(
        "--uds",
        dest="host",
        type=UNIX.__add__,
        metavar="PATH",
        help="Unix socket to listen on in place of an address, for a proxy on this machine",
    )
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a proxy publishes the server, such as /chat",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS}, got {text!r}")
    return int(text)
