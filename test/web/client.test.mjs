// chorus.js in Node: against a server that the test scripts with npm's ws, and against `chorus serve`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClosedError, Client, QueueFullError, Rpc, RpcError, RpcFailure } from '../../src/cli/web/chorus.js';
import { Peer, Program, Queue, WebSocket, load, soon } from './lib.mjs';

const { WebSocketServer } = load('ws');

// A server whose every connection the test holds. `speaks`: the subprotocol it selects.
class Scripted {
  static async start(t, { speaks } = {}) {
    const made = new Scripted();
    made.arrivals = new Queue();
    made.speaks = speaks;
    made.barred = false;
    made.offers = [];
    made.server = new WebSocketServer({
      port: 0, host: '127.0.0.1', clientTracking: true,
      handleProtocols: (offered) => (made.speaks && offered.has(made.speaks) ? made.speaks : false),
      verifyClient: ({ req }) => {
        made.offers.push(req.headers['sec-websocket-protocol'] ?? '');
        return !made.barred;
      },
    });
    made.server.on('connection', (ws) => {
      ws.heard = new Queue();
      ws.ended = new Promise((resolve) => ws.on('close', (code, reason) => resolve({ code, reason: String(reason) })));
      ws.on('message', (data, binary) => ws.heard.push(binary ? data : String(data)));
      ws.on('error', () => {});
      made.arrivals.push(ws);
    });
    await new Promise((resolve) => made.server.on('listening', resolve));
    made.url = `ws://127.0.0.1:${made.server.address().port}/`;
    t.after(() => {
      for (const ws of made.server.clients) ws.terminate();
      made.server.close();
    });
    return made;
  }
  next() { return this.arrivals.next('a connection'); }
}

// A client with its events in a queue, by name and members.
function dial(t, url, options = {}) {
  const client = new Client(url, { WebSocket, initialDelay: 5, maxDelay: 20, ...options });
  client.events = new Queue();
  client.log = [];
  for (const type of ['connecting', 'open', 'message', 'joined', 'left', 'recovered', 'roundtrip',
    'disconnected', 'closed', 'dropped', 'error']) {
    client.addEventListener(type, (event) => {
      client.log.push(type);
      client.events.push(event);
    });
  }
  client.until = (type) => client.events.find((e) => e.type === type, `the event "${type}"`);
  t.after(() => client.close());
  return client;
}

const resuming = { resume: true };
const frame = (header, payload) => JSON.stringify(header) + (payload === undefined ? '' : `\n${payload}`);
const parts = (text) => {
  const at = String(text).indexOf('\n');
  return at < 0 ? [JSON.parse(text)] : [JSON.parse(String(text).slice(0, at)), String(text).slice(at + 1)];
};

// --- connecting -------------------------------------------------------------------------------------

test('sends, receives and closes', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false });
  assert.equal(client.state, 'connecting');
  const ws = await server.next();
  await client.until('open');
  client.send('text');
  client.send(new Uint8Array([1, 10, 255]));
  assert.equal(await ws.heard.next(), 'text');
  assert.deepEqual([...await ws.heard.next()], [1, 10, 255]);
  ws.send('back');
  ws.send(Buffer.from([7, 8]));
  assert.equal((await client.until('message')).data, 'back');
  assert.deepEqual([...(await client.until('message')).data], [7, 8]);
  client.close(3001, 'enough');
  assert.deepEqual(await soon(ws.ended, 'the close'), { code: 3001, reason: 'enough' });
  assert.equal(client.state, 'closed');
  assert.throws(() => client.send('x'), ClosedError);
  assert.throws(() => client.connect(), ClosedError);
});

test('comes back after a loss and sends what was queued, in order', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false });
  const first = await server.next();
  await client.until('open');
  first.terminate();
  const lost = await client.until('disconnected');
  assert.deepEqual([lost.code, lost.opened, lost.attempt], [1006, true, 1]);
  const text = ['a', 'b', 'c'];
  text.forEach((m) => client.send(m));
  assert.equal(client.queued, 3);
  const second = await server.next();
  for (const m of text) assert.equal(await second.heard.next(), m);
  const open = await client.until('open');
  assert.equal(open.reconnected, true);
  assert.equal(client.connections, 2);
  assert.equal(client.queued, 0);
});

test('backs off exponentially with full jitter up to a cap', async (t) => {
  const server = await Scripted.start(t);
  server.barred = true;
  let draw = 0;
  const draws = [0.5, 0.25, 0.999, 0.5, 0, 0.5];
  const client = dial(t, server.url, { resume: false, initialDelay: 4, maxDelay: 20, random: () => draws[draw++ % draws.length] });
  const waits = [];
  for (let i = 0; i < 6; i++) waits.push((await client.until('disconnected')).retryIn);
  // Bounds 4, 8, 16, 20, 20, 20.
  assert.deepEqual(waits, [2, 2, 0.999 * 16, 10, 0, 10]);
  client.close();
});

test('the backoff starts over only after a proven connection', async (t) => {
  const server = await Scripted.start(t);
  const never = dial(t, server.url, { resume: false, random: () => 1, provenAfter: 60_000 });
  const attempts = [];
  for (let i = 0; i < 3; i++) {
    (await server.next()).terminate();
    attempts.push((await never.until('disconnected')).attempt);
  }
  assert.deepEqual(attempts, [1, 2, 3]);
  never.close();
  const soonProven = dial(t, server.url, { resume: false, random: () => 1, provenAfter: 0 });
  let ws = await server.next();
  while (ws.readyState !== WebSocket.OPEN) ws = await server.next(); // one of the first client's
  const seen = [];
  for (let i = 0; i < 3; i++) {
    await soonProven.until('open');
    // Proven by a timer of zero milliseconds, which is behind us once another such timer, set later, has run.
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const one of server.server.clients) one.terminate();
    seen.push((await soonProven.until('disconnected')).attempt);
  }
  assert.deepEqual(seen, [0, 0, 0]);
});

test('waits as long as a close reason asks, and is not hurried by the page', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false });
  (await server.next()).close(1012, 'retry-after=0.02; restart');
  const asked = await client.until('disconnected');
  assert.deepEqual([asked.code, asked.retryIn], [1012, 20]);
  const again = await server.next();
  again.close(1001, 'retry-after=now');
  const other = await client.until('disconnected');
  assert.ok(other.retryIn <= 20, 'a reason that names no number does not count');
});

test('a server that asks it back at once does not keep it spinning', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false, random: () => 1 });
  const waits = [];
  for (let i = 0; i < 3; i++) {
    (await server.next()).close(1012, 'retry-after=0');
    waits.push((await client.until('disconnected')).retryIn);
  }
  assert.deepEqual(waits, [0, 10, 20]);
});

test('ends for good on a fatal close, and tells', async (t) => {
  for (const code of [1002, 1003, 1007, 1008, 1009, 1010]) {
    const server = await Scripted.start(t);
    const client = dial(t, server.url, { resume: false });
    (await server.next()).close(code, 'never again');
    const closed = await client.until('closed');
    assert.deepEqual([closed.code, closed.reason], [code, 'never again']);
    assert.equal(client.state, 'closed');
    assert.ok(!client.log.includes('disconnected'));
  }
  for (const code of [1000, 1001, 1011, 1012, 1013, 4000]) {
    const server = await Scripted.start(t);
    const client = dial(t, server.url, { resume: false });
    (await server.next()).close(code);
    assert.equal((await client.until('disconnected')).code, code);
    await server.next();
    client.close();
  }
});

test('gives up after maxAttempts', async (t) => {
  const server = await Scripted.start(t);
  server.barred = true;
  const client = dial(t, server.url, { resume: false, maxAttempts: 3 });
  const closed = await client.until('closed');
  assert.match(closed.why, /3 attempts/);
  assert.equal(server.offers.length, 3);
});

test('gives up an attempt that takes too long', async (t) => {
  class Stuck extends EventTarget {
    static made = 0;
    constructor() {
      super();
      Stuck.made++;
    }
    close() {}
  }
  const client = dial(t, 'ws://nowhere/', { WebSocket: Stuck, connectTimeout: 10 });
  const lost = await client.until('disconnected');
  assert.equal(lost.opened, false);
  await client.until('connecting');
  assert.ok(Stuck.made >= 2);
});

test('an unusable URL ends it, a function is asked each time', async (t) => {
  const bad = dial(t, 'http//nothing', { autoConnect: false });
  bad.connect();
  assert.equal(bad.state, 'closed');
  const server = await Scripted.start(t);
  let asked = 0;
  const client = dial(t, () => `${server.url}?token=${++asked}`, { resume: false });
  (await server.next()).terminate();
  await server.next();
  await client.until('open');
  assert.equal(asked, 2);
});

test('connect() cuts a wait short, and so does a network that is back', async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false, initialDelay: 1e6, maxDelay: 1e6, random: () => 1 });
  for (const hurry of [() => client.connect(), () => page.dispatchEvent(new Event('online'))]) {
    (await server.next()).terminate();
    await client.until('disconnected');
    page.dispatchEvent(new Event('offline'));
    assert.equal(client.state, 'disconnected');
    hurry();
    await client.until('open');
  }
  // What the server asked for is kept to.
  (await server.next()).close(1012, 'retry-after=3000');
  assert.equal((await client.until('disconnected')).retryIn, 3e6);
  page.dispatchEvent(new Event('online'));
  assert.equal(client.state, 'disconnected');
  client.connect();
  await client.until('open');
  client.close();
});

// --- the queue --------------------------------------------------------------------------------------

test('the queue is bounded, in messages and in bytes', async (t) => {
  const server = await Scripted.start(t);
  server.barred = true;
  const slow = { resume: false, initialDelay: 1e6, maxDelay: 1e6, random: () => 1 };
  const client = dial(t, server.url, { ...slow, maxQueuedMessages: 3 });
  for (const m of ['a', 'b', 'c']) client.send(m);
  assert.throws(() => client.send('d'), QueueFullError);
  assert.equal(client.queued, 3);

  const narrow = dial(t, server.url, { ...slow, maxQueuedBytes: 100 });
  narrow.send(new Uint8Array(100));
  assert.throws(() => narrow.send(new Uint8Array(1)), QueueFullError);

  const dropping = dial(t, server.url, { ...slow, maxQueuedMessages: 2, onFull: 'drop-oldest' });
  for (const m of ['a', 'b', 'c']) dropping.send(m);
  assert.equal((await dropping.until('dropped')).data, 'a');
  assert.equal(dropping.queued, 2);
  assert.throws(() => dropping.send(new Uint8Array(2 << 20)), QueueFullError);
  assert.equal(dropping.queued, 2, 'what can never fit pushes nothing out');
});

test('what is aborted leaves the queue, and bytes are copied', async (t) => {
  const server = await Scripted.start(t);
  server.barred = true;
  const client = dial(t, server.url, { resume: false });
  const abort = new AbortController();
  const bytes = new Uint8Array([1, 2]);
  let sentOn;
  client.send('stays', { onSent: (connection) => { sentOn = connection; } });
  client.send('goes', { signal: abort.signal });
  client.send(bytes);
  bytes.fill(9);
  abort.abort();
  assert.equal(client.queued, 2);
  server.barred = false;
  const ws = await server.next();
  assert.equal(await ws.heard.next(), 'stays');
  assert.deepEqual([...await ws.heard.next()], [1, 2]);
  assert.equal(sentOn, 1);
  assert.throws(() => client.send('x', { signal: abort.signal }), { name: 'AbortError' });
});

// --- heartbeat --------------------------------------------------------------------------------------

const heartbeat = {
  interval: 10, timeout: 20_000,
  make: (id) => `ping ${id}`,
  match: (data) => (String(data).startsWith('pong ') ? Number(String(data).slice(5)) : undefined),
};

test('measures round trips, and keeps pongs to itself', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false, heartbeat });
  const ws = await server.next();
  for (let i = 1; i <= 3; i++) {
    assert.equal(await ws.heard.next(), `ping ${i}`);
    ws.send(`pong ${i}`);
    assert.ok((await client.until('roundtrip')).milliseconds >= 0);
  }
  assert.ok(client.roundTrip >= 0);
  assert.ok(!client.log.includes('message'));
});

test('gives up a server that does not answer', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false, heartbeat: { ...heartbeat, timeout: 20 } });
  const first = await server.next();
  await first.heard.next();
  const lost = await client.until('disconnected');
  assert.match(lost.reason, /no answer/);
  await server.next();
});

// --- chorus.v1 --------------------------------------------------------------------------------------

test('goes on without chorus.v1 where nobody selects it', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url);
  assert.equal((await client.until('open')).resuming, false);
  assert.deepEqual(server.offers, ['chorus.v1', '']);
  let ws = await server.next();
  if (ws.readyState !== WebSocket.OPEN) ws = await server.next();
  client.send('plain');
  assert.equal(await ws.heard.next(), 'plain');
  ws.terminate();
  await client.until('open');
  assert.deepEqual(server.offers.slice(2), [''], 'and remembers it');
});

test('says hello, follows positions and acknowledges', async (t) => {
  const server = await Scripted.start(t, { speaks: 'chorus.v1' });
  const client = dial(t, server.url, resuming);
  client.send('early');
  let ws = await server.next();
  const hello = JSON.parse(await ws.heard.next());
  assert.deepEqual(hello, { t: 'hello', client: client.clientId });
  assert.match(client.clientId, /^[a-z0-9]{16,64}$/);
  assert.equal(await ws.heard.next(), '{"t":"msg"}\nearly');
  ws.send(frame({ t: 'joined', room: 'lobby', epoch: 'e1', offset: 17, missed: 0 }));
  ws.send(frame({ t: 'msg', room: 'lobby', epoch: 'e1', offset: 18 }, 'eighteen\nwith a second line'));
  ws.send(frame({ t: 'msg', room: 'lobby', epoch: 'e1', offset: 18 }, 'a duplicate'));
  ws.send(frame({ t: 'msg', room: 'lobby', epoch: 'e1', offset: 12 }, 'an old one'));
  ws.send(frame({ t: 'msg', room: 'lobby' }, 'not kept'));
  ws.send(frame({ t: 'msg' }, 'only you'));
  ws.send(frame({ t: 'weather', of: 'tomorrow' }));
  ws.send(Buffer.concat([Buffer.from('{"t":"msg","room":"lobby","epoch":"e1","offset":20}\n'), Buffer.from([0, 10, 1])]));
  const joined = await client.until('joined');
  assert.deepEqual([joined.room, joined.recovered], ['lobby', undefined]);
  const seen = [];
  for (let i = 0; i < 4; i++) seen.push(await client.until('message'));
  assert.deepEqual(seen.slice(0, 3).map((m) => [m.data, m.room, m.offset, m.epoch]), [
    ['eighteen\nwith a second line', 'lobby', 18, 'e1'], ['not kept', 'lobby', undefined, undefined],
    ['only you', undefined, undefined, undefined]]);
  assert.deepEqual([...seen[3].data], [0, 10, 1]);
  assert.deepEqual(client.positions(), { lobby: { epoch: 'e1', offset: 20 } });
  // A second after the first unacknowledged one, at the latest.
  assert.deepEqual(parts(await ws.heard.next()), [{ t: 'ack', room: 'lobby', offset: 20 }]);
  ws.terminate();

  ws = await server.next();
  assert.deepEqual(JSON.parse(await ws.heard.next()),
    { t: 'hello', client: client.clientId, rooms: { lobby: { epoch: 'e1', offset: 20 } } });
  ws.send(frame({ t: 'joined', room: 'lobby', epoch: 'e1', offset: 20, recovered: true, missed: 1 }));
  ws.send(frame({ t: 'msg', room: 'lobby', epoch: 'e1', offset: 22 }, 'missed'));
  const recovered = await client.until('recovered');
  assert.deepEqual([recovered.room, recovered.recovered, recovered.missed, recovered.why], ['lobby', true, 1, undefined]);
  assert.equal((await client.until('message')).data, 'missed');
});

test('tells of a gap, and follows a new epoch', async (t) => {
  const server = await Scripted.start(t, { speaks: 'chorus.v1' });
  const positions = { a: { epoch: 'e1', offset: 90 }, b: { epoch: 'e1', offset: 5 }, c: { epoch: 'e1', offset: 1 } };
  const client = dial(t, server.url, { ...resuming, positions, clientId: 'abcdefabcdefabcdef' });
  const ws = await server.next();
  assert.deepEqual(JSON.parse(await ws.heard.next()), { t: 'hello', client: 'abcdefabcdefabcdef', rooms: positions });
  ws.send(frame({ t: 'joined', room: 'a', epoch: 'e2', offset: 3, recovered: false, missed: 0, why: 'epoch' }));
  ws.send(frame({ t: 'msg', room: 'a', epoch: 'e2', offset: 4 }, 'lower, and new'));
  ws.send(frame({ t: 'joined', room: 'b', epoch: 'e1', offset: 9, recovered: false, missed: 0, why: 'trimmed' }));
  ws.send(frame({ t: 'joined', room: 'c' }));
  const answers = [];
  for (let i = 0; i < 3; i++) answers.push(await client.until('recovered'));
  assert.deepEqual(answers.map((e) => [e.room, e.recovered, e.why]),
    [['a', false, 'epoch'], ['b', false, 'trimmed'], ['c', false, 'no_history']]);
  assert.deepEqual(client.positions(), { a: { epoch: 'e2', offset: 4 }, b: { epoch: 'e1', offset: 9 } });
  ws.send(frame({ t: 'left', room: 'b' }));
  assert.equal((await client.until('left')).room, 'b');
  assert.deepEqual(Object.keys(client.positions()), ['a']);
});

test('a hello keeps to 16 KiB and 256 rooms, and tells of what it left out', async (t) => {
  const server = await Scripted.start(t, { speaks: 'chorus.v1' });
  const client = dial(t, server.url, resuming);
  let ws = await server.next();
  await ws.heard.next();
  const room = (i) => `${i}${'\u00fc'.repeat(200)}`;
  for (let i = 0; i < 300; i++) ws.send(frame({ t: 'joined', room: room(i), epoch: 'e1', offset: 5 }));
  ws.send(frame({ t: 'joined', room: '__proto__', epoch: 'e1', offset: 5 }));
  ws.send(frame({ t: 'msg' }, 'all'));
  await client.until('message');
  assert.equal(Object.keys(client.positions()).length, 256);
  ws.terminate();
  ws = await server.next();
  const text = await ws.heard.next();
  assert.ok(Buffer.byteLength(text) <= 16 * 1024, `${Buffer.byteLength(text)} bytes`);
  assert.ok(Buffer.byteLength(text) > 15 * 1024, `${Buffer.byteLength(text)} bytes`);
  const named = Object.keys(JSON.parse(text).rooms);
  assert.ok(named.includes('__proto__') && named.includes(room(299)) && !named.includes(room(100)));

  ws.send(frame({ t: 'joined', room: room(100), epoch: 'e1', offset: 9, missed: 0 }));
  ws.send(frame({ t: 'joined', room: room(101), epoch: 'e2', offset: 1, missed: 0 }));
  ws.send(frame({ t: 'joined', room: room(102), epoch: 'e1', offset: 4, missed: 2 }));
  ws.send(frame({ t: 'msg', room: room(102), epoch: 'e1', offset: 5 }, 'doubled'));
  ws.send(frame({ t: 'msg', room: room(102), epoch: 'e1', offset: 6 }, 'new'));
  assert.equal((await client.until('recovered')).why, 'unnamed');
  assert.equal((await client.until('recovered')).why, 'epoch');
  assert.equal((await client.until('message')).data, 'new');
  assert.equal(client.log.filter((type) => type === 'recovered').length, 2);
});

test('what an interceptor throws loses no message', async (t) => {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false,
    heartbeat: { ...heartbeat, interval: 1e6, match: () => { throw new Error('no pong'); } } });
  client.intercept(() => { throw new Error('not taken'); });
  (await server.next()).send('text');
  assert.equal((await client.until('error')).error.message, 'no pong');
  assert.equal((await client.until('error')).error.message, 'not taken');
  assert.equal((await client.until('message')).data, 'text');
});

test('what is published to a room calls nothing here and answers nothing', async (t) => {
  const server = await Scripted.start(t, { speaks: 'chorus.v1' });
  const client = dial(t, server.url, resuming);
  const rpc = new Rpc(client);
  let called = 0;
  rpc.handle('wipe', () => { called++; });
  const ws = await server.next();
  await ws.heard.next();
  const answer = rpc.request('who');
  const { id } = JSON.parse(parts(await ws.heard.next())[1]);
  ws.send(frame({ t: 'joined', room: 'r', epoch: 'e', offset: 0 }));
  const forged = [JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'wipe' }), JSON.stringify({ jsonrpc: '2.0', id, result: 'mallory' })];
  ws.send(frame({ t: 'msg', room: 'r', epoch: 'e', offset: 1 }, forged[0]));
  ws.send(frame({ t: 'msg', room: 'r' }, forged[1]));
  ws.send(frame({ t: 'msg' }, JSON.stringify({ jsonrpc: '2.0', id, result: 'ada' })));
  for (const text of forged) assert.equal((await client.until('message')).data, text);
  assert.equal(await answer, 'ada');
  assert.equal(called, 0);
  const empty = rpc.request('who');
  ws.send(frame({ t: 'msg' }, JSON.stringify({ jsonrpc: '2.0', id: JSON.parse(parts(await ws.heard.next())[1]).id })));
  await assert.rejects(empty, RpcError);
});

test('acknowledges after 64 messages without waiting', async (t) => {
  const server = await Scripted.start(t, { speaks: 'chorus.v1' });
  const client = dial(t, server.url, resuming);
  const ws = await server.next();
  await ws.heard.next();
  ws.send(frame({ t: 'joined', room: 'r', epoch: 'e', offset: 0 }));
  for (let i = 1; i <= 130; i++) ws.send(frame({ t: 'msg', room: 'r', epoch: 'e', offset: i }, 'x'));
  assert.deepEqual(parts(await ws.heard.next())[0], { t: 'ack', room: 'r', offset: 64 });
  assert.deepEqual(parts(await ws.heard.next())[0], { t: 'ack', room: 'r', offset: 128 });
  assert.deepEqual(parts(await ws.heard.next())[0], { t: 'ack', room: 'r', offset: 130 });
  client.close();
});

test('what breaks the protocol ends the connection', async (t) => {
  const wrong = ['no json\nx', '[1]', '{"room":"r"}', '{"t":"msg"}', '{"t":"msg","offset":1}\nx',
    '{"t":"msg","room":"r","epoch":"e","offset":1.5}\nx', '{"t":"joined"}', '{"t":"left"}',
    '{"t":"joined","room":"r","epoch":"e"}', `{"t":"x","y":"${'z'.repeat(1100)}"}`, Buffer.from([0xff, 10, 1])];
  for (const message of wrong) {
    const server = await Scripted.start(t, { speaks: 'chorus.v1' });
    const client = dial(t, server.url, resuming);
    const ws = await server.next();
    ws.send(message);
    assert.match((await client.until('error')).error.message, /the server sent/);
    assert.equal((await client.until('closed')).code, 1002);
    assert.equal((await soon(ws.ended, 'the close')).code, 1002, String(message));
  }
});

// --- JSON-RPC ---------------------------------------------------------------------------------------

async function rpcPair(t, options) {
  const server = await Scripted.start(t);
  const client = dial(t, server.url, { resume: false });
  const rpc = new Rpc(client, options);
  const ws = await server.next();
  await client.until('open');
  const next = async () => JSON.parse(await ws.heard.next());
  const answer = (o) => ws.send(JSON.stringify(o));
  return { server, client, rpc, ws, next, answer };
}

test('requests are answered by id, in any order', async (t) => {
  const { rpc, next, answer, client } = await rpcPair(t);
  const first = rpc.request('add', [1, 2]);
  const second = rpc.request('name');
  const third = rpc.request('fail', { deep: true });
  const [a, b, c] = [await next(), await next(), await next()];
  assert.deepEqual([a.jsonrpc, a.method, a.params], ['2.0', 'add', [1, 2]]);
  assert.deepEqual(Object.keys(b).sort(), ['id', 'jsonrpc', 'method']);
  answer({ jsonrpc: '2.0', id: c.id, error: { code: 5, message: 'no', data: [1] } });
  answer({ jsonrpc: '2.0', id: b.id, result: null });
  answer({ jsonrpc: '2.0', id: 'nobody', result: 1 });
  answer({ jsonrpc: '2.0', id: a.id, result: 3 });
  assert.equal(await first, 3);
  assert.equal(await second, null);
  await assert.rejects(third, (e) => e instanceof RpcError && e.code === 5 && e.message === 'no' && e.data[0] === 1);
  answer({ plain: 'message' });
  assert.equal((await client.until('message')).data, '{"plain":"message"}');
});

test('a request ends by timeout, signal, loss and close', async (t) => {
  const { rpc, ws, client, server } = await rpcPair(t);
  await assert.rejects(rpc.request('slow', undefined, { timeout: 10 }), { name: 'RpcFailure', reason: 'timeout' });
  const abort = new AbortController();
  const aborted = rpc.request('slow', undefined, { signal: abort.signal });
  abort.abort(new Error('changed my mind'));
  await assert.rejects(aborted, /changed my mind/);
  await assert.rejects(rpc.request('x', undefined, { signal: abort.signal }), /changed my mind/);
  const lost = rpc.request('slow');
  server.barred = true;
  ws.terminate();
  await assert.rejects(lost, { reason: 'disconnected' });
  // One that waits in the queue survives the attempts that fail, and goes when its time is up.
  const waiting = rpc.request('later', undefined, { timeout: 60 });
  assert.equal(client.queued, 1);
  await assert.rejects(waiting, { reason: 'timeout' });
  assert.equal(client.queued, 0);
  const queued = rpc.request('afterwards');
  server.barred = false;
  const again = await server.next();
  const m = JSON.parse(await again.heard.next());
  assert.equal(m.method, 'afterwards');
  again.send(JSON.stringify({ jsonrpc: '2.0', id: m.id, result: 'done' }));
  assert.equal(await queued, 'done');
  const last = rpc.request('never');
  client.close();
  await assert.rejects(last, (e) => e instanceof RpcFailure && e.reason === 'closed');
  await assert.rejects(rpc.request('x'), ClosedError);
});

test('answers what the other side calls', async (t) => {
  const { rpc, next, answer, ws } = await rpcPair(t, { maxRunning: 2 });
  const told = new Queue();
  const waiting = [];
  rpc.handle('add', ([a, b]) => a + b);
  rpc.handle('nothing', async () => {});
  rpc.handle('own', () => { throw new RpcError(7, 'mine', { x: 1 }); });
  rpc.handle('broken', () => { throw new Error('a secret'); });
  rpc.handle('tell', (params) => told.push(params));
  rpc.handle('wait', () => new Promise((resolve) => waiting.push(resolve)));
  const remove = rpc.handle('gone', () => 1);
  remove();
  const ask = async (m) => {
    answer({ jsonrpc: '2.0', id: 1, ...m });
    return next();
  };
  assert.deepEqual(await ask({ method: 'add', params: [2, 3] }), { jsonrpc: '2.0', id: 1, result: 5 });
  assert.deepEqual(await ask({ method: 'nothing', id: 'x' }), { jsonrpc: '2.0', id: 'x', result: null });
  assert.deepEqual((await ask({ method: 'own' })).error, { code: 7, message: 'mine', data: { x: 1 } });
  assert.deepEqual((await ask({ method: 'broken' })).error, { code: -32603, message: 'the method failed' });
  assert.equal((await ask({ method: 'gone' })).error.code, -32601);
  assert.equal((await ask({ method: 5 })).error.code, -32600);
  answer({ jsonrpc: '2.0', method: 'tell', params: { a: 1 } });
  assert.deepEqual(await told.next(), { a: 1 });
  answer({ jsonrpc: '2.0', method: 'unknown' }); // a notification has no answer
  answer({ jsonrpc: '2.0', id: 8, method: 'wait' });
  answer({ jsonrpc: '2.0', id: 9, method: 'wait' });
  assert.equal((await ask({ method: 'add', params: [1, 1] })).error.code, -32000);
  for (const finish of waiting) finish('free');
  assert.deepEqual(await next(), { jsonrpc: '2.0', id: 8, result: 'free' });
  assert.deepEqual(await next(), { jsonrpc: '2.0', id: 9, result: 'free' });
  ws.send(JSON.stringify([{ jsonrpc: '2.0', id: 2, method: 'add', params: [1, 1] }, 17,
    { jsonrpc: '2.0', method: 'tell', params: 'batched' }]));
  assert.deepEqual(await next(), [{ jsonrpc: '2.0', id: 2, result: 2 },
    { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'this is no request of JSON-RPC 2.0' } }]);
  assert.equal(await told.next(), 'batched');
});

test('batches', async (t) => {
  const { rpc, next, answer } = await rpcPair(t);
  const batch = rpc.batch([{ method: 'a' }, { method: 'note', notify: true }, { method: 'b', params: [1] }]);
  const sent = await next();
  assert.deepEqual(sent.map((m) => [m.method, m.id !== undefined]), [['a', true], ['note', false], ['b', true]]);
  answer([{ jsonrpc: '2.0', id: sent[2].id, error: { code: 1, message: 'bad' } }, { jsonrpc: '2.0', id: sent[0].id, result: 'A' }]);
  const [a, b] = await batch;
  assert.deepEqual([a.status, a.value], ['fulfilled', 'A']);
  assert.deepEqual([b.status, b.reason.code], ['rejected', 1]);
  assert.deepEqual(await rpc.batch([]), []);
  rpc.notify('told', { x: 1 });
  assert.deepEqual(await next(), { jsonrpc: '2.0', method: 'told', params: { x: 1 } });
});

// --- the real server --------------------------------------------------------------------------------

test('echoes through chorus serve, over a restart', async (t) => {
  const first = await Program.start(t);
  const client = dial(t, `${first.ws}/echo`, { resume: false });
  await client.until('open');
  client.send('one');
  assert.equal((await client.until('message')).data, 'one');
  assert.equal(await first.stop(), 0);
  const lost = await client.until('disconnected');
  assert.ok([1001, 1012].includes(lost.code), `code ${lost.code}`);
  client.send('two');
  await Program.start(t, '--listen', first.listen);
  assert.equal((await client.until('message')).data, 'two');
});

test('talks in the chat of chorus serve', async (t) => {
  const server = await Program.start(t);
  const client = dial(t, `${server.ws}/ws/chat/tea?user_id=ada&username=Ada`, {
    heartbeat: {
      interval: 10,
      make: (id) => JSON.stringify({ type: 'ping', id }),
      match: (data) => (data.includes('"pong"') ? JSON.parse(data).id : undefined),
    },
  });
  const types = [];
  while (types.at(-1) !== 'system') types.push(JSON.parse((await client.until('message')).data).type);
  assert.deepEqual(types, ['joined', 'system']);
  assert.equal(client.resuming, true);
  await client.until('roundtrip');
  client.send(JSON.stringify({ type: 'message', message: 'hello' }));
  assert.equal(JSON.parse((await client.until('message')).data).message, 'hello');
});

test('resumes in the chat of chorus serve, and is told of a restart', async (t) => {
  const sockets = [];
  class Kept extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const first = await Program.start(t, '--threads', 2);
  // Waits long enough for what is said meanwhile; `connect` ends the wait.
  const client = dial(t, `${first.ws}/ws/chat/tea?user_id=ada&username=Ada`,
    { ...resuming, WebSocket: Kept, initialDelay: 1e6, maxDelay: 1e6, random: () => 1 });
  const heard = [];
  const texts = async (count) => {
    const from = heard.length;
    while (heard.length < from + count) {
      const m = JSON.parse((await client.until('message')).data);
      if (m.type === 'message') heard.push(m.message);
    }
    return heard.slice(from);
  };
  const say = (peer, text) => peer.say({ type: 'message', message: text });
  assert.equal((await client.until('open')).resuming, true);
  const joined = await client.until('joined');
  assert.equal(joined.recovered, undefined);

  const bo = await Peer.join(t, first, 'tea', 'bo');
  say(bo, 'one');
  say(bo, 'two');
  assert.deepEqual(await texts(2), ['one', 'two']);
  for (const round of [1, 2, 3]) {
    sockets.at(-1).terminate();
    await client.until('disconnected');
    const missed = Array.from({ length: round * 4 }, (_, i) => `round ${round}, ${i}`);
    for (const text of missed) say(bo, text);
    // In the room when Bo has it back.
    await bo.heard.find((m) => m.message === missed.at(-1), 'the last of them');
    client.connect();
    const recovered = await client.until('recovered');
    assert.deepEqual([recovered.recovered, recovered.missed], [true, missed.length]);
    say(bo, 'and on');
    assert.deepEqual(await texts(missed.length + 1), [...missed, 'and on']);
  }
  assert.equal(new Set(heard.filter((text) => text !== 'and on')).size, heard.length - 3, 'nothing twice');

  // A new life of the server has another epoch, and says so.
  assert.equal(await first.stop(), 0);
  await client.until('disconnected');
  await Program.start(t, '--listen', first.listen);
  client.connect();
  const gap = await client.until('recovered');
  assert.deepEqual([gap.recovered, gap.why], [false, 'epoch']);
  client.send(JSON.stringify({ type: 'message', message: 'still here' }));
  assert.deepEqual(await texts(1), ['still here']);
});
