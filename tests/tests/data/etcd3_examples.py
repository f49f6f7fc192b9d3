"""The README of the Python package etcd3, example by example, and what else it offers.

Usage: etcd3_examples.py PORT. Prints `all well` at the end.
"""

import io
import os
import sys
import threading

import etcd3

etcd = etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=20)

# keys
assert etcd.get("foo") == (None, None)
etcd.put("bar", "doot")
value, meta = etcd.get("bar")
assert (value, meta.version) == (b"doot", 1)
assert etcd.delete("bar") is True
assert etcd.delete("bar") is False
assert etcd.put_if_not_exists("once", "1") and not etcd.put_if_not_exists("once", "2")
assert etcd.replace("once", "1", "3") and not etcd.replace("once", "1", "4")
for name in ("p/1", "p/2", "p/3", "q/1"):
    etcd.put(name, "x")
assert [meta.key for _, meta in etcd.get_prefix("p/")] == [b"p/1", b"p/2", b"p/3"]
down = etcd.get_prefix("p/", sort_order="descend", sort_target="key")
assert [meta.key for _, meta in down] == [b"p/3", b"p/2", b"p/1"]
assert [meta.key for _, meta in etcd.get_range("p/2", "q/2")] == [b"p/2", b"p/3", b"q/1"]
assert len(list(etcd.get_all())) == 5
assert etcd.delete_prefix("p/").deleted == 3

# locks
lock = etcd.lock("thing")
assert lock.acquire() and lock.is_acquired()
other = etcd.lock("thing", ttl=20)
assert not other.acquire(timeout=1)
lock.release()
assert other.acquire(timeout=20)
other.release()
with etcd.lock("doot-machine") as lock:
    assert lock.is_acquired()

# transactions
etcd.put("/doot/testing", "doot")
succeeded, _ = etcd.transaction(
    compare=[
        etcd.transactions.value("/doot/testing") == "doot",
        etcd.transactions.version("/doot/testing") > 0,
    ],
    success=[etcd.transactions.put("/doot/testing", "success")],
    failure=[etcd.transactions.put("/doot/testing", "failure")],
)
assert succeeded and etcd.get("/doot/testing")[0] == b"success"

# leases
lease = etcd.lease(60)
etcd.put("leased", "x", lease=lease)
assert lease.granted_ttl == 60 and 0 < lease.remaining_ttl <= 60
assert lease.keys == [b"leased"]
assert next(iter(lease.refresh())).TTL == 60
lease.revoke()
assert etcd.get("leased") == (None, None)


# watches
def put_later(keys):
    writer = etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=20)
    for key in keys:
        writer.put(key, "x")


events_iterator, cancel = etcd.watch("/doot/watch")
threading.Thread(target=put_later, args=(["/doot/watch"] * 11,)).start()
seen = 0
for event in events_iterator:
    assert event.key == b"/doot/watch"
    seen += 1
    if seen > 10:
        cancel()
assert seen == 11

keys = [f"/doot/watch/prefix/{number}" for number in range(11)]
events_iterator, cancel = etcd.watch_prefix("/doot/watch/prefix/")
threading.Thread(target=put_later, args=(keys,)).start()
seen = []
for event in events_iterator:
    seen.append(event.key.decode())
    if len(seen) > 10:
        cancel()
assert seen == keys

called = threading.Event()
watch_id = etcd.add_watch_callback("/anotherkey", lambda _: called.set())
etcd.put("/anotherkey", "x")
assert called.wait(20)
etcd.cancel_watch(watch_id)
called.clear()
watch_id = etcd.add_watch_prefix_callback("/doot/watch/prefix/", lambda _: called.set())
etcd.put("/doot/watch/prefix/x", "x")
assert called.wait(20)
etcd.cancel_watch(watch_id)

# the cluster and its upkeep
members = list(etcd.members)
status = etcd.status()
assert status.leader.id == members[0].id and status.db_size > 0
assert list(etcd.list_alarms()) == []
assert etcd.create_alarm() and len(list(etcd.list_alarms())) == 1
assert etcd.disarm_alarm() and list(etcd.list_alarms()) == []
assert isinstance(etcd.hash(), int)
etcd.defragment()
revision = etcd.get_response("x").header.revision
etcd.compact(revision)
try:
    etcd.compact(revision)
    raise SystemExit("a second compaction was accepted")
except Exception as error:  # the package passes gRPC's error on
    assert "required revision has been compacted" in str(error), error
snapshot = io.BytesIO()
etcd.snapshot(snapshot)
assert len(snapshot.getvalue()) > 32
print("all well", flush=True)
# The package's threads and gRPC's may wait for each other at the end.
os._exit(0)
