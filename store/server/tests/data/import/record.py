#!/usr/bin/env python3
"""Records data of a real etcd and what it answers, for tests/import.rs; see README.md.

    record.py <folder with etcd-3.5, etcd-3.6, etcdctl-3.5, etcdctl-3.6>
"""
import base64, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

BIN, HERE = os.path.abspath(sys.argv[1]), os.path.dirname(os.path.abspath(__file__))
# The database is written as late as possible, so that the end is in the log only.
LAGS = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"]


def b64(text):
    return base64.b64encode(text.encode()).decode()


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Etcd:
    def __init__(self, version, data, flags):
        self.version, self.token = version, None
        self.url, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.log = open(data + ".log", "ab")
        self.process = subprocess.Popen(
            [f"{BIN}/etcd-{version}", "--name=m1", f"--data-dir={data}", f"--listen-client-urls={self.url}",
             f"--advertise-client-urls={self.url}", f"--listen-peer-urls={peer}",
             f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=m1={peer}", *flags],
            stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=2)
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"etcd {version} does not serve: see {data}.log")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        if self.token:
            request.add_header("Authorization", self.token)
        try:
            return json.load(urllib.request.urlopen(request, timeout=20))
        except urllib.error.HTTPError as error:
            return json.load(error)

    def must(self, path, body):
        answer = self.ask(path, body)
        assert "error" not in answer and "code" not in answer, (path, body, answer)
        return answer

    def login(self, name, password):
        self.token = None
        self.token = self.must("/v3/auth/authenticate", {"name": name, "password": password})["token"]

    def ctl(self, *arguments):
        subprocess.run([f"{BIN}/etcdctl-{self.version}", "--endpoints", self.url, *arguments], check=True,
                       stdout=subprocess.DEVNULL)


def put(etcd, key, value, **more):
    return int(etcd.must("/v3/kv/put", {"key": b64(key), "value": b64(value), **more})["header"]["revision"])


def first_part(etcd):
    """Keys, leases, a compaction, users and roles; auth is on afterwards."""
    etcd.must("/v3/lease/grant", {"TTL": "3600", "ID": "7587848390000001"})
    etcd.must("/v3/lease/grant", {"TTL": "86400", "ID": "7587848390000002"})
    etcd.must("/v3/lease/grant", {"TTL": "7200", "ID": "7587848390000003"})
    for at in range(120):
        lease = {"lease": "7587848390000001"} if at % 5 == 0 else {}
        revision = put(etcd, f"k{at % 60:02}", "v" * (at % 40 * 25), **lease)
        if at % 11 == 0:
            etcd.must("/v3/kv/deleterange", {"key": b64(f"k{at % 30:02}")})
    put(etcd, "large", "l" * 400_000)
    put(etcd, "gone", "x", lease="7587848390000003")
    etcd.must("/v3/lease/revoke", {"ID": "7587848390000003"})
    etcd.must("/v3/kv/compaction", {"revision": str(revision - 50), "physical": True})
    for role in ("root", "keys", "reader", "dropped"):
        etcd.must("/v3/auth/role/add", {"name": role})
    grant = lambda role, kind, key, end: etcd.must("/v3/auth/role/grant", {
        "name": role, "perm": {"permType": kind, "key": b64(key), "range_end": b64(end)}})
    grant("keys", "READWRITE", "k", "l")
    grant("keys", "WRITE", "only", "")
    grant("reader", "READ", "a", "\0")
    for name, password in (("root", "rootpw"), ("dora", "secret"), ("old", "pw")):
        etcd.must("/v3/auth/user/add", {"name": name, "password": password})
    etcd.must("/v3/auth/user/add", {"name": "certified", "options": {"no_password": True}})
    for user, role in (("root", "root"), ("dora", "keys"), ("certified", "reader"), ("old", "dropped")):
        etcd.must("/v3/auth/user/grant", {"user": user, "role": role})
    etcd.must("/v3/auth/enable", {})


def second_part(etcd):
    """Every kind of request once more, with auth on."""
    etcd.login("dora", "secret")
    put(etcd, "k03", "dora's")
    assert etcd.ask("/v3/kv/put", {"key": b64("zzz"), "value": ""})["message"] == "etcdserver: permission denied"
    etcd.login("root", "rootpw")
    etcd.must("/v3/lease/grant", {"TTL": "5000", "ID": "7587848390000004"})
    etcd.must("/v3/lease/revoke", {"ID": "7587848390000001"})
    put(etcd, "k04", "leased anew", lease="7587848390000004")
    for at in range(60):
        revision = put(etcd, f"log{at % 20:02}", "in the log", lease="7587848390000002" if at % 7 == 0 else "0")
    etcd.must("/v3/kv/txn", {
        "compare": [{"key": b64("k03"), "target": "VERSION", "result": "GREATER", "version": "0"}],
        "success": [{"request_delete_range": {"key": b64("k05"), "range_end": b64("k09")}},
                    {"request_put": {"key": b64("txn"), "value": b64("then")}},
                    {"request_txn": {"success": [{"request_put": {"key": b64("nested"), "value": b64("1")}}]}}],
        "failure": [{"request_put": {"key": b64("txn"), "value": b64("else")}}]})
    etcd.must("/v3/kv/deleterange", {"key": b64("log1"), "range_end": b64("log2")})
    etcd.must("/v3/kv/compaction", {"revision": str(revision - 20)})
    etcd.must("/v3/auth/role/delete", {"role": "dropped"})
    etcd.must("/v3/auth/role/revoke", {"role": "keys", "key": b64("only")})
    etcd.must("/v3/auth/user/changepw", {"name": "dora", "password": "secret2"})
    etcd.must("/v3/auth/user/delete", {"name": "old"})
    etcd.must("/v3/auth/user/add", {"name": "late", "password": "latepw"})
    etcd.must("/v3/auth/user/grant", {"user": "late", "role": "reader"})
    etcd.must("/v3/auth/user/revoke", {"name": "certified", "role": "reader"})
    etcd.login("late", "latepw")
    etcd.login("root", "rootpw")
    for at in range(30):
        put(etcd, f"end{at % 10}", "in the log only", lease="7587848390000004" if at % 4 == 0 else "0")
    etcd.must("/v3/kv/deleterange", {"key": b64("end5")})
    etcd.must("/v3/lease/grant", {"TTL": "600", "ID": "7587848390000005"})
    put(etcd, "k00", "the last", lease="7587848390000005")


def answers(etcd):
    """What a client can tell two stores apart by."""
    etcd.login("root", "rootpw")
    everything = {"key": b64("\0"), "range_end": b64("\0")}
    now = int(etcd.must("/v3/kv/range", {**everything, "count_only": True})["header"]["revision"])
    compacted = int(etcd.must("/v3/maintenance/hashkv", {})["compact_revision"])
    asks = [("/v3/kv/range", everything)]
    asks += [("/v3/kv/range", {**everything, "revision": str(at), "keys_only": True})
             for at in (compacted - 1, compacted, compacted + 1, now - 3, now + 1)]
    asks += [("/v3/maintenance/hashkv", {"revision": str(at)}) for at in (0, compacted - 1, *range(compacted, now + 1, 5), now)]
    asks += [("/v3/lease/leases", {})]
    asks += [("/v3/lease/timetolive", {"ID": f"758784839000000{at}", "keys": True}) for at in (1, 2, 3, 4, 5)]
    asks += [("/v3/auth/status", {}), ("/v3/auth/user/list", {}), ("/v3/auth/role/list", {})]
    asks += [("/v3/auth/user/get", {"name": name}) for name in ("root", "dora", "old", "certified", "late")]
    asks += [("/v3/auth/role/get", {"role": role}) for role in ("keys", "reader", "dropped")]
    said = [{"path": path, "body": body, "user": "root", "answer": etcd.ask(path, body)} for path, body in asks]
    for name, password in (("dora", "secret2"), ("late", "latepw")):
        etcd.login(name, password)
        for key in ("k00", "large", "txn"):
            path, body = "/v3/kv/range", {"key": b64(key), "keys_only": True}
            said.append({"path": path, "body": body, "user": name, "answer": etcd.ask(path, body)})
    for name, password in (("dora", "secret"), ("old", "pw"), ("certified", "")):
        etcd.token = None
        path, body = "/v3/auth/authenticate", {"name": name, "password": password}
        said.append({"path": path, "body": body, "user": None, "answer": etcd.ask(path, body)})
    return said


def record(name, first, second, flags):
    work = tempfile.mkdtemp()
    data = work + "/data"
    etcd = Etcd(first, data, flags)
    first_part(etcd)
    # In an orderly way: all of it is in the database.
    etcd.process.terminate()
    etcd.process.wait()
    database = data + "/member/snap/db"
    shutil.copyfile(database, work + "/earlier")
    etcd = Etcd(second, data, [*LAGS, *flags])
    second_part(etcd)
    etcd.kill()
    if not flags:
        # Changes of users and compactions are written at once; only like this they are replayed.
        shutil.copyfile(work + "/earlier", database)
    # As it was left; etcd itself must come to the same from it.
    shutil.copytree(data, work + "/replayed")
    etcd = Etcd(second, work + "/replayed", flags)
    etcd.process.terminate()
    etcd.process.wait()
    # It remembers the hash of before a compaction as long as it runs.
    etcd = Etcd(second, work + "/replayed", flags)
    told = answers(etcd)
    etcd.ctl("--user=root:rootpw", "snapshot", "save", work + "/snapshot.db")
    etcd.kill()
    with open(work + "/answers.json", "w") as out:
        out.write("\n".join(json.dumps(one, sort_keys=True) for one in told) + "\n")
    files = ["data", "snapshot.db", "answers.json"]
    subprocess.run(["tar", "--sparse", "--sort=name", "--owner=0", "--group=0", "-C", work, "-cJf",
                    f"{HERE}/{name}.tar.xz", *files], check=True, env={**os.environ, "XZ_OPT": "-9e"})
    shutil.rmtree(work)


record("etcd-3.5", "3.5", "3.5", [])
record("etcd-3.6", "3.6", "3.6", [])
# With files of the old store and log files that begin behind the first entry.
record("etcd-3.5-snapshots", "3.5", "3.5", ["--snapshot-count=40"])
record("etcd-3.6-snapshots", "3.6", "3.6", ["--snapshot-count=40"])
record("etcd-3.5-then-3.6", "3.5", "3.6", ["--snapshot-count=100"])
