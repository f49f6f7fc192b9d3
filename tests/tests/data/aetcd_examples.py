"""The README and the documentation's examples of the Python package aetcd.

Usage: aetcd_examples.py PORT. Prints `all well` at the end.
"""

import asyncio
import sys

import aetcd


async def keys(client):
    await client.put(b"foo", b"bar")
    assert (await client.get(b"foo")).value == b"bar"
    assert await client.delete(b"foo")
    assert await client.get(b"foo") is None
    for name in (b"p/1", b"p/2", b"p/3"):
        await client.put(name, b"x")
    found = await client.get_prefix(b"p/")
    assert [kv.key for kv in found] == [b"p/1", b"p/2", b"p/3"]
    found = await client.get_range(b"p/2", b"p/9")
    assert [kv.key for kv in found] == [b"p/2", b"p/3"]
    assert await client.replace(b"p/1", b"x", b"y")
    assert not await client.replace(b"p/1", b"x", b"y")
    await client.delete_prefix(b"p/")
    assert await client.get(b"p/1") is None


async def transactions(client):
    await client.put(b"doot", b"doot")
    succeeded, _ = await client.transaction(
        compare=[
            client.transactions.value(b"doot") == b"doot",
            client.transactions.version(b"doot") > 0,
        ],
        success=[client.transactions.put(b"doot", b"success")],
        failure=[client.transactions.put(b"doot", b"failure")],
    )
    assert succeeded and (await client.get(b"doot")).value == b"success"


async def leases_and_locks(client):
    lease = await client.lease(60)
    await client.put(b"leased", b"x", lease=lease)
    assert 0 < await lease.remaining_ttl() <= 60
    await lease.refresh()
    await lease.revoke()
    assert await client.get(b"leased") is None
    async with client.lock(b"key", ttl=20) as lock:
        assert await lock.is_acquired()
    assert not await lock.is_acquired()


async def watches(client):
    seen = []
    watch = await client.watch_prefix(b"w/")
    for number in range(5):
        await client.put(b"w/%d" % number, b"x")
    async for event in watch:
        seen.append(event.kv.key)
        if len(seen) == 5:
            await watch.cancel()
            break
    assert seen == [b"w/%d" % number for number in range(5)]
    once = asyncio.create_task(client.watch_once(b"once", timeout=20))
    while not once.done():
        await client.put(b"once", b"x")
        await asyncio.sleep(0.01)
    assert (await once).kv.key == b"once"


async def upkeep(client):
    status = await client.status()
    members = [member async for member in client.members()]
    assert status.db_size > 0 and len(members) == 1
    await client.defragment()
    revision = (await client.get(b"doot")).header.revision
    await client.compact(revision)
    assert [alarm async for alarm in client.list_alarms()] == []


async def main():
    async with aetcd.Client(host="127.0.0.1", port=int(sys.argv[1]), timeout=20) as client:
        await keys(client)
        await transactions(client)
        await leases_and_locks(client)
        await watches(client)
        await upkeep(client)
    print("all well")


asyncio.run(asyncio.wait_for(main(), 60))
