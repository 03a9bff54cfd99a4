// npm's ws as the server that `chorus connect` talks to.
'use strict';
const { check, equal, test } = require('./harness.cjs');
const { MEBIBYTES, closeName, closes, echoes, fragmented, listen, packable, packed, pem,
  pingPayloads, program } = require('./node_common.cjs');

for (const [name, messages] of Object.entries(echoes)) {
  test(`server/${name}`, async (own) => {
    const listener = await listen(own);
    const client = program(own, 'connect', listener.url, '--echo');
    const peer = await listener.accept(client);
    await peer.echo(...messages);
    peer.ws.close(1000, 'done');
    equal((await peer.closed).code, 1000, 'answer to the close');
    await client.expectExit(0);
  });
}

test('server/fragments', async (own) => {
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--echo');
  const peer = await listener.accept(client);
  for (const parts of fragmented) await peer.fragments(parts);
  peer.ws.close(1000);
  await client.expectExit(0);
});

test('server/compression-not-offered-when-off', async (own) => {
  const listener = await listen(own, { perMessageDeflate: true });
  const client = program(own, 'connect', listener.url, '--echo', '--compression', 'off');
  const peer = await listener.accept(client);
  equal(peer.ws.extensions, '', 'extensions');
  await peer.echo('plain '.repeat(1000));
});

test('server/ping-to-program', async (own) => {
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--echo');
  const peer = await listener.accept(client);
  for (const payload of pingPayloads) await peer.ping(payload);
  await peer.echo('after pings');
});

test('server/close-without-code', async (own) => {
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--echo');
  const peer = await listener.accept(client);
  await peer.echo('before');
  peer.ws.close();
  const { code } = await peer.closed;
  equal(code, 1005, 'answer to a close without code');
  await client.expectExit(0);
});

test('server/dropped-without-close', async (own) => {
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--echo');
  const peer = await listener.accept(client);
  await peer.echo('before');
  peer.ws.terminate();
  await client.expectExit(1, 6);
});

test('server/lines-and-count', async (own) => {
  // Input lines reach the peer as text, its messages come out as lines, and the program closes
  // with 1000 when it has had its count.
  const lines = ['first', '\u00e9\u20ac\u{1f600}', '', 'x'.repeat(70000)];
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--count', lines.length);
  const peer = await listener.accept(client);
  client.child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  for (const line of lines) {
    equal(await peer.receive(), line, 'message');
    peer.ws.send(line);
  }
  for (const line of lines) equal(await client.lines.next(), line, 'output line');
  equal((await peer.closed).code, 1000, 'close code');
  await client.expectExit(0);
});

test('server/header-and-subprotocol', async (own) => {
  const listener = await listen(own, { handleProtocols: () => 'two.example' });
  const client = program(own, 'connect', listener.url, '--echo', '--header', 'X-Extra: value',
    '--subprotocol', 'one.example', '--subprotocol', 'two.example');
  const peer = await listener.accept(client);
  equal(peer.request.headers['x-extra'], 'value', 'header');
  equal(peer.request.headers['sec-websocket-protocol'].replaceAll(' ', ''),
    'one.example,two.example', 'offered subprotocols');
  await peer.echo('agreed');
  peer.ws.close(1000);
  await client.expectExit(0);
});

for (const status of [401, 403, 503]) {
  test(`server/refuses-with-${status}`, async (own) => {
    const listener = await listen(own, { verifyClient: (_info, done) => done(false, status) });
    await program(own, 'connect', listener.url, '--echo').expectExit(3);
  });
}

test('server/reconnects', async (own) => {
  const listener = await listen(own);
  const client = program(own, 'connect', listener.url, '--echo', '--reconnect');
  const first = await listener.accept(client);
  await first.echo('here');
  first.ws.terminate();
  await (await listener.accept(client)).echo('here again');
});

const secure = [
  ['by-address', '127.0.0.1', 'server', true, 0], ['by-name', 'localhost', 'server', true, 0],
  ['wrong-host', '127.0.0.1', 'other', true, 4], ['expired', '127.0.0.1', 'expired', true, 4],
  ['unknown-issuer', '127.0.0.1', 'stranger', true, 4],
  ['no-issuer-given', '127.0.0.1', 'server', false, 4],
];
for (const [name, host, identity, trusting, status] of secure) {
  test(`server/wss-${name}`, async (own) => {
    const listener = await listen(own, {}, identity);
    const client = program(own, 'connect', listener.url.replace('127.0.0.1', host), '--echo',
      ...(trusting ? ['--ca', pem('ca.pem')] : []));
    if (status === 0) {
      const peer = await listener.accept(client);
      await peer.echo('secret', ...MEBIBYTES);
      await peer.ping('round trip');
      peer.ws.close(1000);
    }
    await client.expectExit(status);
    check(!listener.arrivals.values.length, 'the peer saw a connection');
  });
}

test('server/wss-insecure', async (own) => {
  const listener = await listen(own, {}, 'stranger');
  const client = program(own, 'connect', listener.url, '--echo', '--insecure');
  const peer = await listener.accept(client);
  await peer.echo('trusting');
  peer.ws.close(1000);
  await client.expectExit(0);
});

test('server/wss-to-a-plain-port', async (own) => {
  const listener = await listen(own);
  const url = listener.url.replace('ws:', 'wss:');
  await program(own, 'connect', url, '--echo', '--ca', pem('ca.pem')).expectExit(4);
});

for (const [name, parameters] of Object.entries(packed)) {
  const perMessageDeflate = { threshold: 0, ...parameters };
  test(`server/compression-${name}`, async (own) => {
    const listener = await listen(own, { perMessageDeflate });
    const client = program(own, 'connect', listener.url, '--echo', '--compression', 'on');
    const peer = await listener.accept(client);
    check(peer.ws.extensions.includes('permessage-deflate'), 'compression was not agreed');
    await peer.echo(...packable);
    for (const parts of fragmented) await peer.fragments(parts);
    peer.ws.close(1000);
    await client.expectExit(0);
  });
}

for (const [code, reason] of closes) {
  test(`server/${closeName(code, reason)}`, async (own) => {
    const listener = await listen(own);
    const client = program(own, 'connect', listener.url, '--echo');
    const peer = await listener.accept(client);
    await peer.echo('before');
    peer.ws.close(code, reason);
    const answer = await peer.closed;
    equal(answer.code, code, 'answer to the close');
    await client.expectExit(code < 1002 ? 0 : 6);
  });
}
