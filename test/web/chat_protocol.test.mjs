// docs/chat.md from outside: npm's ws against `chorus serve`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Peer, Program, Queue, WebSocket, soon } from './lib.mjs';

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

test('a newcomer is told who is there, the others who came', async (t) => {
  const server = await Program.start(t, '--threads', 2, '--presence-grace', 0);
  const ada = await Peer.join(t, server, 'tea', 'a-1', 'Ada');
  assert.deepEqual(ada.joined.users, [{ user_id: 'a-1', username: 'Ada' }]);
  const bo = await Peer.join(t, server, 'tea', 'b-2', 'Bo \u{1F9C1} & <b>');
  assert.deepEqual(bo.joined.users.map((u) => u.username), ['Ada', 'Bo \u{1F9C1} & <b>']);
  assert.equal(bo.joined.room, 'tea');
  assert.equal(bo.joined.users_count, 2);
  assert.match(bo.joined.timestamp, ISO);
  const came = await ada.heard.next();
  assert.deepEqual([came.type, came.user_id, came.username], ['user_joined', 'b-2', 'Bo \u{1F9C1} & <b>']);
  await bo.leave();
  const left = await ada.heard.next();
  assert.deepEqual([left.type, left.user_id], ['user_left', 'b-2']);
});

test('a user with two connections comes and goes once', async (t) => {
  const server = await Program.start(t, '--presence-grace', 0);
  const ada = await Peer.join(t, server, 'tea', 'ada');
  const one = await Peer.join(t, server, 'tea', 'bo');
  const two = await Peer.join(t, server, 'tea', 'bo');
  assert.equal(two.joined.users_count, 2);
  await one.leave();
  const cy = await Peer.join(t, server, 'tea', 'cy');
  assert.equal(cy.joined.users_count, 3);
  await two.leave();
  const seen = [];
  for (let i = 0; i < 3; i++) seen.push(await ada.heard.next());
  assert.deepEqual(seen.map((m) => `${m.type} ${m.user_id}`), ['user_joined bo', 'user_joined cy', 'user_left bo']);
});

test('who reconnects in time has neither left nor come', async (t) => {
  const server = await Program.start(t, '--threads', 2, '--presence-grace', '1h');
  const ada = await Peer.join(t, server, 'tea', 'ada', 'Ada');
  for (let i = 0; i < 5; i++) {
    const bo = await Peer.join(t, server, 'tea', 'bo', 'Bo');
    assert.deepEqual(bo.joined.users.map((u) => u.user_id), ['ada', 'bo']);
    bo.say({ type: 'message', message: `visit ${i}` });
    await bo.next('message');
    if (i % 2) bo.ws.terminate();
    else await bo.leave();
  }
  const seen = [];
  while (seen.at(-1) !== 'message visit 4') {
    const m = await ada.heard.next();
    seen.push(`${m.type} ${m.message ?? m.user_id}`);
  }
  assert.deepEqual(seen, ['user_joined bo', ...[0, 1, 2, 3, 4].map((i) => `message visit ${i}`)]);
});

test('the sender gets its own message, and not its own typing', async (t) => {
  const server = await Program.start(t, '--threads', 2);
  const ada = await Peer.join(t, server, 'tea', 'ada', 'Ada');
  const bo = await Peer.join(t, server, 'tea', 'bo', 'Bo');
  await ada.next('user_joined');
  ada.say({ type: 'typing' });
  ada.say({ type: 'typing', is_typing: false });
  ada.say({ type: 'message', message: 'hello "there"\n\u2028 \u{1F9C1}', ref: 'r1' });
  const own = await ada.heard.next();
  assert.equal(own.type, 'message', 'nothing of its typing came before');
  assert.equal(own.message, 'hello "there"\n\u2028 \u{1F9C1}');
  assert.deepEqual([own.user_id, own.username, own.room, own.ref], ['ada', 'Ada', 'tea', 'r1']);
  assert.match(own.timestamp, ISO);
  assert.equal((await bo.next('typing')).is_typing, true);
  assert.equal((await bo.heard.next()).is_typing, false);
  assert.deepEqual(await bo.heard.next(), own);
});

test('rooms are apart', async (t) => {
  const server = await Program.start(t);
  const ada = await Peer.join(t, server, 'tea', 'ada');
  const bo = await Peer.join(t, server, 'coffee', 'bo');
  ada.say({ type: 'message', message: 'tea only' });
  await ada.next('message');
  bo.say({ type: 'message', message: 'coffee only' });
  assert.equal((await bo.heard.next()).message, 'coffee only');
  const rooms = await (await fetch(`${server.http}/chat/rooms.json`)).json();
  assert.deepEqual(rooms, { rooms: [{ name: 'coffee', users: 1 }, { name: 'tea', users: 1 }] });
});

test('a newcomer gets the last hundred messages, in order', async (t) => {
  const server = await Program.start(t, '--presence-grace', 0);
  const ada = await Peer.join(t, server, 'tea', 'ada');
  const ids = [];
  for (let i = 0; i < 130; i++) ada.say({ type: 'message', message: `number ${i}` });
  for (let i = 0; i < 130; i++) ids.push((await ada.next('message')).id);
  assert.equal(new Set(ids).size, 130);
  await ada.leave();
  // Everybody has left; the history stays.
  const query = 'user_id=bo&username=Bo';
  const bo = new Peer(t, `${server.ws}/ws/chat/tea?${query}`);
  for (let i = 30; i < 130; i++) {
    const m = await bo.heard.next();
    assert.deepEqual([m.type, m.message, m.id], ['message', `number ${i}`, ids[i]]);
  }
  assert.equal((await bo.heard.next()).type, 'joined');
  const welcome = await bo.heard.next();
  assert.deepEqual([welcome.type, welcome.message], ['system', 'Welcome to tea. Nobody else is here yet.']);
  assert.equal(welcome.code, 'welcome');
  assert.match(welcome.timestamp, ISO);
});

test('ping is answered', async (t) => {
  const server = await Program.start(t);
  const ada = await Peer.join(t, server, 'tea', 'ada');
  ada.say({ type: 'ping', id: 17 });
  ada.say({ type: 'ping', id: 'x' });
  ada.say({ type: 'ping', id: { deep: 1 } });
  assert.equal((await ada.heard.next()).id, 17);
  assert.equal((await ada.heard.next()).id, 'x');
  const third = await ada.heard.next();
  assert.deepEqual([third.type, third.id], ['pong', undefined]);
  assert.match(third.timestamp, ISO);
});

test('what can not be used gets an error, and the connection lives', async (t) => {
  const server = await Program.start(t);
  const ada = await Peer.join(t, server, 'tea', 'ada');
  const wrong = [
    ['{"type":', 'bad_json'], ['', 'bad_json'], ['[]', 'bad_json'], ['"text"', 'bad_json'],
    ['{"type":"message","message":"\\ud800"}', 'bad_json'],
    ['['.repeat(1000) + ']'.repeat(1000), 'bad_json'],
    [Buffer.from('{"type":"ping"}'), 'bad_json'],
    ['{}', 'bad_type'], [{ type: 7 }, 'bad_type'], [{ type: 'shout' }, 'bad_type'],
    [{ type: 'joined', users: [] }, 'bad_type'],
    [{ type: 'message' }, 'no_message'], [{ type: 'message', message: 5 }, 'no_message'],
    [{ type: 'message', message: ' \n\t' }, 'no_message'],
    [{ type: 'message', message: 'é'.repeat(4001) }, 'too_long'],
    [{ type: 'message', message: 'x', ref: 'r'.repeat(65) }, 'too_long'],
    [{ type: 'message', message: 'x'.repeat(70_000) }, 'too_long'],
  ];
  for (const [message, code] of wrong) {
    ada.say(message);
    const answer = await ada.heard.next();
    assert.equal(answer.type, 'error', `to ${String(message).slice(0, 60)}`);
    assert.equal(answer.code, code, `to ${JSON.stringify(message).slice(0, 60)}`);
    assert.match(answer.message, /^[A-Z].{20,200}\.$/s);
    assert.match(answer.timestamp, ISO);
  }
  ada.say({ type: 'message', message: '', ref: 'mine' });
  assert.equal((await ada.heard.next()).ref, 'mine');
  ada.say({ type: 'message', message: '\u{1F9C1}'.repeat(4000) });
  assert.equal((await ada.heard.next()).type, 'message');
});

test('who can not be let in is told why and closed with 1008', async (t) => {
  const server = await Program.start(t);
  const wrong = [
    'tea', 'tea?user_id=a', 'tea?username=A', 'tea?user_id=&username=A', 'tea?user_id=a&username=',
    'tea?user_id=a&username=%20%20', `tea?user_id=${'a'.repeat(65)}&username=A`,
    `tea?user_id=a&username=${'%C3%A9'.repeat(41)}`, 'tea?user_id=a%20b&username=A',
    'tea?user_id=a&username=%FF', 'tea?user_id=a&username=a%00b', 'tea?user_id=a&username=%C2%85x',
    'tea?user_id=a&username=%ED%A0%80', 't%20a?user_id=a&username=A',
    `${'t'.repeat(65)}?user_id=a&username=A`, '%3Cb%3E?user_id=a&username=A',
  ];
  for (const target of wrong) {
    const peer = new Peer(t, `${server.ws}/ws/chat/${target}`);
    const told = await peer.heard.next(`an answer to ${target}`);
    assert.deepEqual([told.type, told.code], ['error', 'refused'], target);
    assert.match(told.message, /1 to \d+ (letters|characters)/);
    const { code, reason } = await soon(peer.closed, 'the close');
    assert.equal(code, 1008, target);
    assert.ok(told.message.startsWith(reason.slice(0, 100)) && reason !== '', reason);
  }
  const widest = await Peer.join(t, server, 't'.repeat(64), 'a'.repeat(64), 'é'.repeat(40));
  assert.equal(widest.joined.users_count, 1);
  const rooms = await (await fetch(`${server.http}/chat/rooms.json`)).json();
  assert.equal(rooms.rooms.length, 1);
});

test('a reader that never reads costs only itself', async (t) => {
  const server = await Program.start(t, '--queue-bytes', '64k', '--presence-grace', 0);
  const deaf = await Peer.join(t, server, 'tea', 'deaf');
  deaf.ws.pause();
  const ada = await Peer.join(t, server, 'tea', 'ada');
  const text = 'x'.repeat(4000);
  // Left over for want of reading: more than the sockets and the queue hold.
  let gone = false;
  ada.next('user_left').then(() => { gone = true; }, () => {});
  const own = new Queue();
  ada.ws.on('message', (data) => { if (String(data).includes('"message":"x')) own.push(1); });
  for (let i = 0; i < 20_000 && !gone; i++) {
    ada.say({ type: 'message', message: text });
    await own.next('an own message');
  }
  assert.ok(gone, 'the deaf one was not put out');
});

test('the server stops in order with the chat open', async (t) => {
  const server = await Program.start(t, '--threads', 2);
  const peers = [];
  for (let i = 0; i < 10; i++) peers.push(await Peer.join(t, server, 'tea', `u${i}`));
  assert.equal(await server.stop(), 0, server.errors);
  for (const peer of peers) assert.ok([1001, 1012].includes((await peer.closed).code));
  assert.equal(WebSocket.CLOSED, peers[0].ws.readyState);
});
