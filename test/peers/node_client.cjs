// npm's ws as client of `chorus serve`.
'use strict';
const fs = require('node:fs');
const { Failure, check, equal, test } = require('./harness.cjs');
const { LARGE, MEBIBYTES, closeName, closes, dial, echoes, fragmented, packable, packed, pem,
  pingPayloads, serve } = require('./node_common.cjs');

for (const [name, messages] of Object.entries(echoes)) {
  test(`client/${name}`, async (own) => {
    const server = serve(own, ...LARGE);
    const peer = await dial(own, `${await server.url()}/echo`);
    await peer.echo(...messages);
    peer.ws.close(1000);
    equal((await peer.closed).code, 1000, 'close code');
    await server.stop();
  });
}

test('client/fragments', async (own) => {
  const server = serve(own, ...LARGE);
  const peer = await dial(own, `${await server.url()}/echo`);
  for (const parts of fragmented) await peer.fragments(parts);
});

test('client/1000-in-flight', async (own) => {
  const server = serve(own, ...LARGE);
  const peer = await dial(own, `${await server.url()}/echo`);
  for (let number = 0; number < 1000; number++) peer.ws.send(`message ${number}`);
  for (let number = 0; number < 1000; number++) {
    equal(await peer.receive(), `message ${number}`, 'messages in order');
  }
});

for (const [name, parameters] of Object.entries(packed)) {
  const perMessageDeflate = { threshold: 0, ...parameters };
  test(`client/compression-${name}`, async (own) => {
    const server = serve(own, '--compression', 'on', ...LARGE);
    const peer = await dial(own, `${await server.url()}/echo`, { perMessageDeflate });
    check(peer.ws.extensions.includes('permessage-deflate'), 'compression was not agreed');
    await peer.echo(...packable);
    for (const parts of fragmented) await peer.fragments(parts);
  });
}

test('client/compression-declined-when-off', async (own) => {
  const server = serve(own, '--compression', 'off');
  const peer = await dial(own, `${await server.url()}/echo`, { perMessageDeflate: true });
  equal(peer.ws.extensions, '', 'extensions');
  await peer.echo('plain '.repeat(1000));
});

test('client/ping-to-program', async (own) => {
  const server = serve(own);
  const peer = await dial(own, `${await server.url()}/echo`);
  for (const payload of pingPayloads) await peer.ping(payload);
  await peer.echo('after pings');
});

test('client/ping-from-program', async (own) => {
  // ws answers the heartbeat, so the connection outlives the pong wait.
  const server = serve(own, '--ping-interval', '1s', '--pong-wait', '10s');
  const peer = await dial(own, `${await server.url()}/echo`);
  for (let count = 0; count < 12; count++) await peer.pings.next();
  await peer.echo('still here');
});

test('client/dropped-without-pong', async (own) => {
  const server = serve(own, '--ping-interval', '1s', '--pong-wait', '3s');
  const peer = await dial(own, `${await server.url()}/echo`, { autoPong: false });
  await peer.pings.next();
  await peer.closed;
  await server.stop();
});

for (const [code, reason] of closes) {
  test(`client/${closeName(code, reason)}`, async (own) => {
    const server = serve(own);
    const peer = await dial(own, `${await server.url()}/echo`);
    await peer.echo('before');
    peer.ws.close(code, reason);
    const answer = await peer.closed;
    equal(answer.code, code, 'answer to the close');
    check([reason, ''].includes(answer.reason), `reason ${answer.reason}`);
    await server.stop();
  });
}

test('client/closed-by-program-that-stops', async (own) => {
  const server = serve(own);
  const peer = await dial(own, `${await server.url()}/echo`);
  await peer.echo('before');
  server.child.kill('SIGTERM');
  equal((await peer.closed).code, 1012, 'close code of a server that stops');
  await server.expectExit(0);
});

test('client/closed-for-a-message-too-big', async (own) => {
  const server = serve(own, '--max-message', 1000);
  const peer = await dial(own, `${await server.url()}/echo`);
  await peer.echo('x'.repeat(1000));
  peer.ws.send('x'.repeat(1001));
  equal((await peer.closed).code, 1009, 'close code');
});

test('client/broadcast', async (own) => {
  const server = serve(own, '--threads', 2);
  const url = `${await server.url()}/broadcast`;
  const members = [];
  const until = async (peer, mark) => { while (await peer.receive() !== mark); };
  for (let number = 0; number < 20; number++) {
    const peer = await dial(own, url);
    members.push(peer);
    peer.ws.send(`in ${number}`);
    await until(peer, `in ${number}`);
  }
  members[0].ws.send('start');
  for (const member of members) await until(member, 'start');
  for (let number = 0; number < 100; number++) {
    members[0].ws.send(number % 2 ? `message ${number}` : Buffer.from(`binary ${number}`));
  }
  for (const member of members) {
    for (let number = 0; number < 100; number++) {
      equal(await member.receive(),
        number % 2 ? `message ${number}` : Buffer.from(`binary ${number}`), 'broadcast');
    }
  }
  await server.stop();
});

test('client/refused', async (own) => {
  const server = serve(own);
  try {
    await dial(own, `${await server.url()}/nothing/here`);
  } catch (error) {
    check(error.message.includes('404'), `expected status 404, saw ${error.message}`);
    return;
  }
  throw new Failure('an unknown path was upgraded');
});

test('client/wss', async (own) => {
  const server = serve(own, '--tls-cert', pem('server.pem'), '--tls-key', pem('server.key'),
    '--compression', 'on', ...LARGE);
  const url = `${await server.url('wss')}/echo`;
  const ca = fs.readFileSync(pem('ca.pem'));
  for (const host of ['127.0.0.1', 'localhost']) {
    const peer = await dial(own, url.replace('127.0.0.1', host), { ca, family: 4 });
    await peer.echo('secret', ...MEBIBYTES);
    await peer.ping('round trip');
    peer.ws.close(1000);
    equal((await peer.closed).code, 1000, 'close code');
  }
  const peer = await dial(own, url, { ca, perMessageDeflate: { threshold: 0 } });
  await peer.echo(...packable);
  let refused;
  try {
    await dial(own, url, { ca: fs.readFileSync(pem('stranger_ca.pem')) });
  } catch (error) {
    refused = error;
  }
  check(refused, 'connected without a trusted issuer');
  await (await dial(own, url, { ca })).echo('after a failed handshake');
  await server.stop();
});
