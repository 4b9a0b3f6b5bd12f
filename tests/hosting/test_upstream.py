"""What a turn holds open: the gate, and closing it from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

import pytest

from bargein_server import TurnClosed
from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams


class Item:
    """Something open: counts its cancels, and says on which thread they came."""

    def __init__(self) -> None:
        self.cancels = 0
        self.threads: list[int] = []
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancels += 1
        self.threads.append(threading.get_ident())
        self.cancelled.set()


@contextmanager
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def enter(streams: TurnStreams, item: Item) -> None:
    streams.enter(item)


async def test_close_cancels_all_that_is_open() -> None:
    """Closing reaches every open item before it returns, and none that has left."""
    streams = TurnStreams()
    items = [Item(), Item(), Item()]
    for item in items:
        streams.enter(item)
    streams.leave(items[0])
    streams.close()
    assert [item.cancels for item in items] == [0, 1, 1]
    assert (streams.entered, len(streams)) == (3, 2)


async def test_gate_refuses_after_close() -> None:
    """What comes after the fence is refused, and is neither counted nor kept."""
    streams = TurnStreams()
    streams.close()
    with pytest.raises(TurnClosed):
        streams.enter(Item())
    assert (streams.entered, len(streams)) == (0, 0)


async def test_close_again_is_harmless() -> None:
    """Closing twice is closing once, also when an item leaves while it is cancelled."""

    class Leaving(Item):
        def cancel(self) -> None:
            super().cancel()
            streams.leave(self)

    streams, items = TurnStreams(), [Leaving(), Leaving()]
    for item in items:
        streams.enter(item)
    streams.close()
    streams.close()
    assert [item.cancels for item in items] == [1, 1]


async def test_leaving_twice_is_harmless() -> None:
    """An item that left may leave again, and one that never entered too."""
    streams, item = TurnStreams(), Item()
    streams.leave(item)
    streams.enter(item)
    streams.leave(item)
    streams.leave(item)
    assert len(streams) == 0


async def test_drained_waits_for_the_last() -> None:
    """`drained` returns when the last item has left, to all who wait."""
    streams, items = TurnStreams(), [Item(), Item()]
    for item in items:
        streams.enter(item)
    waiting = [asyncio.create_task(streams.drained()) for _ in range(2)]
    await asyncio.sleep(0)
    streams.leave(items[0])
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    streams.leave(items[1])
    await asyncio.gather(*waiting)


async def test_drained_is_over_at_once_when_nothing_is_open() -> None:
    """Nothing open is drained."""
    await TurnStreams().drained()


async def test_cancelling_drained_is_safe() -> None:
    """A waiter that gave up does not disturb the others."""
    streams, item = TurnStreams(), Item()
    streams.enter(item)
    gone, stays = asyncio.create_task(streams.drained()), asyncio.create_task(streams.drained())
    await asyncio.sleep(0)
    gone.cancel()
    streams.leave(item)
    await stays
    assert gone.cancelled()


async def test_another_loop_closes_what_it_opened() -> None:
    """An item of another thread's loop is cancelled on that thread, and can be waited for here."""
    streams, item = TurnStreams(), Item()
    with other_loop() as loop:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(enter(streams, item), loop))
        streams.close()
        assert await asyncio.to_thread(item.cancelled.wait, 5)
        assert item.threads != [threading.get_ident()]
        drained = asyncio.create_task(streams.drained())
        await asyncio.sleep(0)
        loop.call_soon_threadsafe(streams.leave, item)
        await asyncio.wait_for(drained, 5)


async def test_a_loop_that_is_gone_counts_as_closed() -> None:
    """What a closed loop left behind does not hold the turn."""
    streams, item = TurnStreams(), Item()
    with other_loop() as loop:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(enter(streams, item), loop))
    streams.close()
    await streams.drained()
    assert item.cancels == 0


async def test_turn_closed_passes_as_a_cancel() -> None:
    """A child task that is refused ends cancelled; it does not break its task group."""
    streams = TurnStreams()
    streams.close()
    async with asyncio.TaskGroup() as group:
        child = group.create_task(enter(streams, Item()))
    assert child.cancelled()


async def test_the_variable_reaches_children_and_is_left_on_purpose() -> None:
    """Child tasks and threads see the turn; a task in a context of its own does not."""
    streams = TurnStreams()

    async def seen() -> TurnStreams | None:
        return TURN_STREAMS.get()

    TURN_STREAMS.set(streams)
    assert await asyncio.create_task(seen()) is streams
    assert await asyncio.to_thread(TURN_STREAMS.get) is streams
    assert await asyncio.create_task(seen(), context=Context()) is None
