"""Parts of voice as one, and their start and stop with the server's."""

from __future__ import annotations

from ..agent import Agent, AgentNotStarted, hears
from .interfaces import NotInstalled, VoiceError, VoiceParts
from .speaking import speaking


def spoken_by(agent: Agent, parts: VoiceParts, ahead_s: float) -> Agent:
    """Return the agent with the voice of the parts.

    It is the agent itself when they have none, and when it hears: it speaks itself.
    """
    if parts.voice is None or hears(agent):
        return agent
    return speaking(agent, parts.voice, ahead_s, language=parts.language)


class VoiceLife:
    """Start and stop of an agent with the parts of voice, as of one agent.

    Args:
        agent: The agent; a `Speaking` starts its voice itself.
        parts: The parts.
    """

    def __init__(self, agent: Agent, parts: VoiceParts) -> None:
        self._parts = (parts.detector, parts.recogniser, parts.judge, agent)

    async def startup(self) -> None:
        """Start the parts, then the agent.

        Raises:
            AgentNotStarted: A part cannot start; with the cause.
        """
        try:
            for part in self._parts:
                if (startup := getattr(part, "startup", None)) is not None:
                    await startup()
        except (NotInstalled, VoiceError) as error:
            raise AgentNotStarted(str(error)) from error

    async def shutdown(self) -> None:
        """Stop the agent, then the parts."""
        for part in reversed(self._parts):
            if (shutdown := getattr(part, "shutdown", None)) is not None:
                await shutdown()
