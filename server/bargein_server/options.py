"""Options of `bargein-server` that are settings, and its logging."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence

from .settings import Settings
from .settings_reader import OTHER_VARIABLES, PREFIX, SETTINGS, Setting, SettingsError, did_you_mean
from .telemetry.logs import JsonFormatter


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, setting in SETTINGS.items():
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        group, dest = groups[setting.group], f"setting_{name}"
        if isinstance(setting.default, bool):
            group.add_argument(
                setting.flag, dest=dest, action=argparse.BooleanOptionalAction, help=_help(setting)
            )
        else:
            metavar = "|".join(setting.choices) or ("SECONDS" if setting.unit == "seconds" else "N")
            group.add_argument(setting.flag, dest=dest, metavar=metavar, help=_help(setting))


def _help(setting: Setting) -> str:
    if isinstance(setting.default, bool):
        return setting.description
    unit = f"{setting.unit}, " if setting.unit else ""
    default = setting.default if setting.choices else f"{setting.default:.10g}"
    return f"{setting.description} ({unit}default: {default})".replace("%", "%%")


def settings_from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that environment variables contain, by name.

    Raises:
        SettingsError: A variable begins with `BARGEIN_` and is unknown.
    """
    names = {setting.variable: name for name, setting in SETTINGS.items()}
    given = {}
    for variable, value in environment.items():
        if variable in names:
            given[names[variable]] = value
        elif variable.startswith(PREFIX) and variable not in OTHER_VARIABLES:
            others = [known.removeprefix(PREFIX) for known in (*names, *OTHER_VARIABLES)]
            nearest = did_you_mean(variable.removeprefix(PREFIX), others, PREFIX)
            raise SettingsError(f"unknown environment variable {variable}{nearest}")
    return given


def given_settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings of flags and environment variables, by name.

    Raises:
        SettingsError: A variable begins with `BARGEIN_` and is unknown.
    """
    given = settings_from_environment(os.environ)
    for name in Settings.__struct_fields__:
        value = getattr(options, f"setting_{name}")
        if value is not None:
            given[name] = str(value).lower() if isinstance(value, bool) else value
    return given


def decided_by_code(options: argparse.Namespace, stores: Sequence[object]) -> list[str]:
    """Return the given options that an application's code decides.

    Args:
        options: The parsed options.
        stores: What its code gave as `store`. The variable may name one of them, because code reads it, too.
    """
    names = ("tokens", "origin", "door", "mcp", "page", "peer", "model", "voice", "turn_judge")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    given += [SETTINGS[name].flag for name in given_settings(options)]
    named = all(isinstance(store, str | None) for store in stores)  # an object has no URL to compare
    if named and options.store is not None and options.store not in [store or "none" for store in stores]:
        given.append("BARGEIN_STORE" if options.store == os.environ.get("BARGEIN_STORE") else "--store")
    return given


def configure_logging(level: str, form: str) -> None:
    """Configure the root logger.

    Our own records are logged at `level`, those of others at WARNING, and those of uvicorn at INFO if the
    level is `debug`. Below that, libraries log headers with credentials, and messages with what users say.
    """
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else plain)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("bargein", "bargein_server"):
        logging.getLogger(name).setLevel(level.upper())
