"""Batches that wait for more, and no longer than it is worth."""

import math

import anyio

from ocisync.sync.publish import receive_batch


async def test_the_end_of_the_queue_ends_the_wait() -> None:
    send, receive = anyio.create_memory_object_stream[int](10)
    async with receive:
        async with send:
            for number in (2, 3):
                await send.send(number)
        with anyio.fail_after(10):
            assert await receive_batch(1, receive, 100, math.inf) == [1, 2, 3]


async def test_what_comes_later_is_waited_for() -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    async with receive, anyio.create_task_group() as group:

        async def later() -> None:
            async with send:
                for number in (2, 3):
                    await anyio.lowlevel.checkpoint()
                    await send.send(number)

        group.start_soon(later)
        with anyio.fail_after(10):
            assert await receive_batch(1, receive, 100, math.inf) == [1, 2, 3]


async def test_a_full_batch_leaves_the_rest() -> None:
    send, receive = anyio.create_memory_object_stream[int](10)
    async with send, receive:
        for number in (2, 3, 4):
            await send.send(number)
        with anyio.fail_after(10):
            assert await receive_batch(1, receive, 2, math.inf) == [1, 2]
            assert await receive_batch(3, receive, 2, 0) == [3, 3]
            assert await receive.receive() == 4


async def test_the_wait_ends_and_loses_nothing() -> None:
    send, receive = anyio.create_memory_object_stream[int](10)
    async with send, receive:
        await send.send(2)
        assert await receive_batch(1, receive, 100, 0.01) == [1, 2]
        await send.send(3)
        assert await receive_batch(1, receive, 100, 0) == [1, 3]
        assert receive.statistics().current_buffer_used == 0
