// npm's ws against the example `tokens`: what a client in the manner of browsers sees.
//
//   node admission_node.cjs --node-modules DIR --program PATH/chorus_tokens
'use strict';
const { createRequire } = require('node:module');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Program, check, equal, runTests, test } = require('./harness.cjs');

const { values: options } = parseArgs({ options: {
  program: { type: 'string' },
  'node-modules': { type: 'string' },
  only: { type: 'string', multiple: true, default: [] },
} });
const WebSocket = createRequire(path.resolve(options['node-modules'], 'x.cjs'))(
  path.resolve(options['node-modules'], 'ws'));
const TOKEN = 'open-sesame';

// How it ends: the first message, a refusal's status, or code and reason of a close.
function outcome(url, { first, ...how } = {}) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, how);
    ws.on('unexpected-response', (request, response) => {
      resolve({ status: response.statusCode });
      request.destroy();
    });
    ws.on('open', () => { if (first) ws.send(first); });
    ws.on('message', (data) => {
      resolve({ message: data.toString() });
      ws.close();
    });
    ws.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    ws.on('error', (error) => { if (!/destroyed|hang up/.test(error.message)) reject(error); });
  });
}

function serving(name, body) {
  test(name, async (own) => {
    const program = new Program(options.program, '--serve');
    own(() => program.child.kill());
    await body(await program.url());
  });
}

serving('header', async (url) => {
  const headers = { Authorization: `Bearer ${TOKEN}` };
  equal(await outcome(`${url}/header`, { headers }), { message: 'hello ali' }, 'right');
  equal(await outcome(`${url}/header`), { status: 401 }, 'none');
});

serving('query', async (url) => {
  equal(await outcome(`${url}/query?token=${TOKEN}`), { message: 'hello ali' }, 'right');
  const { code, reason } = await outcome(`${url}/query?token=mellon`);
  equal(code, 1008, 'close code');
  check(reason.includes('sign in again'), reason);
});

serving('first-message', async (url) => {
  equal(await outcome(`${url}/message`, { first: TOKEN }), { message: 'hello ali' }, 'right');
  equal((await outcome(`${url}/message`, { first: 'mellon' })).code, 1008, 'wrong');
});

serving('origins', async (url) => {
  equal(await outcome(`${url}/message`, { origin: 'https://evil.test' }), { status: 403 }, 'cross');
  equal(await outcome(`${url}/message`, { origin: 'https://a.example.org', first: TOKEN }),
    { message: 'hello ali' }, 'allowed');
});

runTests(options.only);
