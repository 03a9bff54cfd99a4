// ws and the program for the tests of both roles: connections with their events as queues, what is
// sent, and how each side is started.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { createRequire } = require('node:module');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Failure, Program, Queue, check, equal, makeCertificates } = require('./harness.cjs');

const { values: options } = parseArgs({ options: {
  program: { type: 'string' },
  'node-modules': { type: 'string' },
  only: { type: 'string', multiple: true, default: [] },
} });
if (!options.program) {
  console.error('node_ws.cjs: --program PATH is needed');
  process.exit(2);
}
const WebSocket = options['node-modules']
  ? createRequire(path.resolve(options['node-modules'], 'x.cjs'))(
    path.resolve(options['node-modules'], 'ws'))
  : require('ws');

const MIB = 1 << 20;
const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 100000];
const LARGE = ['--max-message', 4 * MIB, '--queue-bytes', 16 * MIB];
const TEXTS = ['hello', '', '\u00e9\u20ac\u{1f600}', 'line\nbreak\0zero'];
const BINARIES = [Buffer.alloc(0), Buffer.from([...Array(256).keys()]), Buffer.from([0xff, 0xfe])];
const MEBIBYTES = ['x'.repeat(MIB), '\u20ac'.repeat(MIB / 4), crypto.randomBytes(MIB)];
const certificates = makeCertificates();
const pem = (name) => path.join(certificates, name);
const echoes = {
  text: TEXTS, binary: BINARIES,
  'text-of-every-length-form': SIZES.map((size) => 'x'.repeat(size)),
  'binary-of-every-length-form': SIZES.map((size) => Buffer.alloc(size, 0x80)),
  '1-mib': MEBIBYTES,
};
const fragmented = [
  ['one ', 'two ', 'three'], ['', 'a', ''], Array(300).fill('\u20ac'),
  [Buffer.from('bin'), Buffer.alloc(0), Buffer.from('ary')],
  [crypto.randomBytes(70000), crypto.randomBytes(70000), crypto.randomBytes(1)],
];
// The repeated line refers to the window that the one before left.
const packable = ['', 'x', 'again and again '.repeat(1000), 'a line of its own',
  'a line of its own', Buffer.alloc(MIB), crypto.randomBytes(MIB), 'again and again '.repeat(1000)];
const packed = {
  default: {}, 'no-takeover': { serverNoContextTakeover: true, clientNoContextTakeover: true },
  'server-window-10': { serverMaxWindowBits: 10 }, 'client-window-10': { clientMaxWindowBits: 10 },
};
const pingPayloads = ['', 'x', Buffer.from([...Array(125).keys()])];
const closes = [[1000, ''], [1000, 'done'], [1001, 'going away'], [1008, '\u20ac'.repeat(41)],
  [1011, ''], [1012, 'later'], [3000, 'mine'], [4999, 'x'.repeat(123)]];
const closeName = (code, reason) =>
  `close-${code}${reason ? `-${Buffer.byteLength(reason)}-bytes` : ''}`;

// One connection with its events as queues. Made as soon as the socket is there: messages may
// come with the upgrade.
class Peer {
  constructor(ws) {
    this.ws = ws;
    this.messages = new Queue();
    this.pings = new Queue();
    this.pongs = new Queue();
    ws.on('message', (data, binary) => this.messages.push(binary ? data : data.toString()));
    ws.on('ping', (data) => this.pings.push(data));
    ws.on('pong', (data) => this.pongs.push(data));
    ws.on('error', (error) => { this.error = error; });
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        this.messages.push(new Failure(`closed with ${code} ${reason}`));
      });
    });
  }
  async receive() {
    const message = await this.messages.next();
    if (message instanceof Failure) throw message;
    return message;
  }
  async echo(...messages) {
    for (const message of messages) {
      this.ws.send(message);
      equal(await this.receive(), message, 'echo');
    }
  }
  async fragments(parts) {
    const binary = Buffer.isBuffer(parts[0]);
    parts.forEach((part, at) => this.ws.send(part, { binary, fin: at === parts.length - 1 }));
    const whole = binary ? Buffer.concat(parts) : parts.join('');
    equal(await this.receive(), whole, 'echo of fragments');
  }
  // A round trip: the payload that went out comes back.
  async ping(payload) {
    this.ws.ping(payload);
    equal(await this.pongs.next(), Buffer.from(payload), 'pong');
  }
}

function program(own, ...args) {
  const running = new Program(path.resolve(options.program), ...args);
  own(async () => {
    running.child.kill('SIGKILL');
    await running.ended;
  });
  return running;
}

const serve = (own, ...args) => program(own, 'serve', '--listen', '127.0.0.1:0', ...args);

async function dial(own, url, settings = {}, protocols = []) {
  const ws = new WebSocket(url, protocols,
    { perMessageDeflate: false, maxPayload: 8 * MIB, ...settings });
  const peer = new Peer(ws);
  own(() => ws.terminate());
  await new Promise((resolve, reject) => {
    ws.once('open', resolve);
    ws.once('error', reject);
  });
  return peer;
}

// A server on a port of its own. `accept` gives the next connection as a Peer.
async function listen(own, settings = {}, identity = null) {
  const plain = identity
    ? https.createServer({ cert: fs.readFileSync(pem(`${identity}.pem`)),
      key: fs.readFileSync(pem(`${identity}.key`)) })
    : http.createServer();
  const wss = new WebSocket.WebSocketServer({ server: plain, perMessageDeflate: false,
    maxPayload: 8 * MIB, ...settings });
  const arrivals = new Queue();
  wss.on('connection', (ws, request) => {
    const peer = new Peer(ws);
    peer.request = request;
    arrivals.push(peer);
  });
  await new Promise((resolve) => plain.listen(0, '127.0.0.1', resolve));
  own(async () => {
    wss.clients.forEach((ws) => ws.terminate());
    wss.close();
    plain.closeAllConnections();
    await new Promise((resolve) => plain.close(resolve));
  });
  return {
    url: `${identity ? 'wss' : 'ws'}://127.0.0.1:${plain.address().port}/`,
    arrivals,
    async accept(client) {
      const early = client.ended.then((status) => {
        throw new Failure(`the program ended with ${status} before it connected; ${client.errors}`);
      });
      early.catch(() => {});
      return Promise.race([arrivals.next(), early]);
    },
  };
}

module.exports = { LARGE, MEBIBYTES, MIB, certificates, closeName, closes, dial, echoes, fragmented,
  listen, options, packable, packed, pem, pingPayloads, program, serve };
