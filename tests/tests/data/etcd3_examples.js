// The examples of the npm package etcd3, from its README and its reference, and what else it offers.
//
// Usage: etcd3_examples.js PORT. Prints `all well` at the end.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const {
  Etcd3, EtcdLockFailedError, EtcdPermissionDeniedError, EtcdUserExistsError, EtcdRoleNotFoundError,
} = require('etcd3');

// Of an enumeration that exists for TypeScript only.
const SERIALIZABLE = 1;
const hosts = `127.0.0.1:${process.argv[2]}`;
const client = new Etcd3({ hosts });

// The first value that `ask` gives which is as wanted.
async function eventually(what, ask) {
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    if (await ask()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`in vain: ${what}`);
}

async function quickstart() {
  await client.put('foo').value('bar');
  assert.equal(await client.get('foo').string(), 'bar');
  assert.deepEqual(await client.getAll().prefix('f').keys(), ['foo']);
  await client.delete().all();
  assert.equal(await client.get('foo').string(), null);
}

async function queries() {
  for (const [key, value] of [['a/1', '3'], ['a/2', '1'], ['a/3', '2'], ['b', '{"x":[1]}']]) {
    await client.put(key).value(value);
  }
  assert.deepEqual(await client.getAll().prefix('a/').numbers(), { 'a/1': 3, 'a/2': 1, 'a/3': 2 });
  assert.deepEqual(await client.get('b').json(), { x: [1] });
  assert.equal(await client.getAll().all().count(), 4);
  const sorted = await client.getAll().prefix('a/').sort('Value', 'Descend').limit(2).keys();
  assert.deepEqual(sorted, ['a/1', 'a/3']);
  assert.deepEqual(await client.getAll().inRange({ start: 'a/2', end: 'b' }).keys(), ['a/2', 'a/3']);
  assert.equal(await client.get('nothing').exists(), false);
  const before = (await client.get('b').exec()).header.revision;
  const previous = await client.put('b').value('new').getPrevious();
  assert.equal(previous.value.toString(), '{"x":[1]}');
  assert.equal(await client.get('b').revision(before).string(), '{"x":[1]}');
  await client.put('b').touch();
  assert.equal((await client.get('b').exec()).kvs[0].version, '3');
  const gone = await client.delete().prefix('a/').getPrevious();
  assert.deepEqual(gone.map((kv) => kv.key.toString()), ['a/1', 'a/2', 'a/3']);
  const large = Buffer.alloc(1_000_000, 7);
  await client.put('large').value(large);
  assert.ok(large.equals(await client.get('large').buffer()));
}

async function comparisons() {
  const lock = (id) => client
    .if('my_lock', 'Create', '==', 0)
    .then(client.put('my_lock').value(id))
    .else(client.get('my_lock'))
    .commit();
  const unlock = (id) => client
    .if('my_lock', 'Value', '==', id)
    .then(client.delete().key('my_lock'))
    .commit();
  assert.equal((await lock('one')).succeeded, true);
  const second = await lock('two');
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), 'one');
  assert.equal((await unlock('two')).succeeded, false);
  assert.equal((await unlock('one')).succeeded, true);
  assert.equal(await client.get('my_lock').exists(), false);
}

async function leases() {
  const lease = client.lease(10);
  await lease.put('available-hosts/me').value('');
  const keys = await client.getAll().prefix('available-hosts/').keys();
  assert.deepEqual(keys.map((key) => key.slice('available-hosts/'.length)), ['me']);
  assert.equal((await lease.keepaliveOnce()).TTL, '10');
  const [renewed] = await once(client.lease(2), 'keepaliveSucceeded');
  assert.equal(renewed.TTL, '2');
  await lease.revoke();
  assert.equal(await client.get('available-hosts/me').exists(), false);
  const lost = client.lease(60);
  const id = await lost.grant();
  const told = once(lost, 'lost');
  await client.leaseClient.leaseRevoke({ ID: id });
  await lost.keepaliveOnce().catch(() => {});
  await told;
}

async function locks() {
  assert.equal(await client.lock('my_resource').do(() => 'inside'), 'inside');
  const held = await client.lock('my_resource').ttl(30).acquire();
  await assert.rejects(client.lock('my_resource').acquire(), EtcdLockFailedError);
  await held.release();
  await (await client.lock('my_resource').acquire()).release();
}

async function watches() {
  const watcher = await client.watch().key('watched').withPreviousKV().create();
  const seen = [];
  watcher.on('put', (kv, old) => seen.push(['put', kv.value.toString(), old && old.value.toString()]));
  watcher.on('delete', (kv) => seen.push(['delete', kv.key.toString()]));
  await client.put('watched').value('1');
  await client.put('watched').value('2');
  await client.delete().key('watched');
  await eventually('three events', () => seen.length === 3);
  assert.deepEqual(seen.map((event) => event.slice(0, 2)), [['put', '1'], ['put', '2'], ['delete', 'watched']]);
  assert.equal(seen[1][2], '1');
  await watcher.cancel();
  const first = (await client.put('past').value('1')).header.revision;
  await client.put('past').value('2');
  const past = await client.watch().prefix('pa').only('put').startRevision(first).create();
  const values = [];
  past.on('put', (kv) => values.push(kv.value.toString()));
  await eventually('the past', () => values.length === 2);
  assert.deepEqual(values, ['1', '2']);
  await past.cancel();
}

async function transfers() {
  const accounts = client.namespace('bank/');
  await accounts.put('account1').value(100);
  await accounts.put('account2').value(0);
  // Its default never lets a key be written that was read, with any etcd.
  const options = { retries: 50, isolation: SERIALIZABLE };
  const transfer = (amount) => client.stm(options).transact(async (tx) => {
    const [from, to] = await Promise.all([tx.get('bank/account1').number(), tx.get('bank/account2').number()]);
    if (from < amount) throw new Error('You do not have enough money to transfer!');
    await Promise.all([
      tx.put('bank/account1').value(from - amount),
      tx.put('bank/account2').value(to + amount),
    ]);
  });
  await Promise.all([10, 20, 30].map(transfer));
  assert.equal(await client.get('bank/account1').number(), 40);
  assert.equal(await client.get('bank/account2').number(), 60);
  await assert.rejects(transfer(42), /enough money/);
  await accounts.delete().all();
  assert.equal(await client.getAll().prefix('bank/').count(), 0);
}

async function elections() {
  const election = client.election('singleton-job', 5);
  const observer = await election.observe();
  const first = election.campaign('first');
  await first.wait();
  await eventually('the first leads', () => observer.leader() === 'first');
  const second = election.campaign('second');
  await first.proclaim('still the first');
  await eventually('the proclamation', () => observer.leader() === 'still the first');
  const elected = once(second, 'elected');
  await first.resign();
  await elected;
  await eventually('the second leads', async () => (await election.leader()) === 'second');
  await observer.cancel();
  await second.resign();
}

async function users() {
  const root = await client.role('root').create();
  const admin = await client.user('root').create('pw');
  await admin.addRole(root);
  const reader = await client.role('reader').create();
  await reader.grant({ permission: 'Read', range: client.range({ prefix: 'open/' }) });
  assert.deepEqual((await reader.permissions()).map((one) => one.permission), ['Read']);
  const ann = await client.user('ann').create('secret');
  await assert.rejects(client.user('ann').create('other'), EtcdUserExistsError);
  await assert.rejects(ann.addRole('ghost'), EtcdRoleNotFoundError);
  await ann.addRole(reader);
  assert.deepEqual((await ann.roles()).map((role) => role.name), ['reader']);
  await client.put('open/door').value('yes');
  await client.auth.authEnable();
  const anns = new Etcd3({ hosts, auth: { username: 'ann', password: 'secret' } });
  assert.equal(await anns.get('open/door').string(), 'yes');
  await assert.rejects(anns.put('open/door').value('no').exec(), EtcdPermissionDeniedError);
  await assert.rejects(anns.get('closed').string(), EtcdPermissionDeniedError);
  anns.close();
  const roots = new Etcd3({ hosts, auth: { username: 'root', password: 'pw' } });
  await roots.auth.authDisable();
  assert.deepEqual((await roots.getUsers()).map((user) => user.name), ['ann', 'root']);
  roots.close();
  await ann.delete();
  await reader.delete();
}

async function maintenance() {
  const status = await client.maintenance.status();
  assert.match(status.version, /^3\./);
  assert.equal((await client.cluster.memberList({})).members.length, 1);
  assert.deepEqual((await client.maintenance.alarm({ action: 'GET', memberID: 0, alarm: 'NONE' })).alarms, []);
  await client.maintenance.defragment();
  const { header } = await client.put('last').value('1');
  await client.kv.compact({ revision: header.revision });
  await assert.rejects(client.get('last').revision(1).string(), /required revision has been compacted/);
}

(async () => {
  for (const part of [
    quickstart, queries, comparisons, leases, locks, watches, transfers, elections, users, maintenance,
  ]) {
    await part().catch((error) => {
      error.message = `${part.name}: ${error.message}`;
      throw error;
    });
  }
  console.log('all well');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
