// What the web tests share: the program, a chat peer on npm's ws, waiting for events.
//
// CHORUS_PROGRAM names the program, CHORUS_NODE_MODULES the folder that holds ws and playwright-core.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = process.env.CHORUS_NODE_MODULES ?? path.join(here, '..', 'peers', 'node_modules');
export const load = createRequire(path.join(modules, '..', 'package.json'));
export const WebSocket = load('ws');
export const source = (name) => path.join(here, '..', '..', 'src', 'cli', 'web', name);

const PATIENCE = 60_000; // milliseconds for one wait; only what hangs meets it

// Rejects with a sentence when the promise takes too long.
export function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Values in order of arrival.
export class Queue {
  #values = [];
  #waiting = [];
  push(value) {
    if (this.#waiting.length) this.#waiting.shift()(value);
    else this.#values.push(value);
  }
  next(what = 'a value') {
    if (this.#values.length) return Promise.resolve(this.#values.shift());
    return soon(new Promise((resolve) => this.#waiting.push(resolve)), what);
  }
  // The next one that is meant; the others before it are dropped.
  async find(match, what = 'a certain value') {
    for (;;) {
      const value = await this.next(what);
      if (match(value)) return value;
    }
  }
  get waiting() { return this.#values.length; }
}

// One run of `chorus serve`, killed after the test.
export class Program {
  constructor(t, ...args) {
    if (!process.env.CHORUS_PROGRAM) throw new Error('CHORUS_PROGRAM names no program');
    this.errors = '';
    this.child = spawn(process.env.CHORUS_PROGRAM, ['serve', ...args.map(String)],
      { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stderr.on('data', (data) => { this.errors += data; });
    this.ended = new Promise((resolve) => this.child.on('close', (status, signal) => resolve(signal ?? status)));
    t.after(() => this.kill());
  }

  static async start(t, ...args) {
    const made = new Program(t, ...(args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0']), ...args);
    let text = '';
    const ready = new Promise((resolve, reject) => {
      made.child.stdout.on('data', (data) => {
        text += data;
        if (text.includes('\n')) resolve(text);
      });
      made.child.on('close', () => reject(new Error(`chorus serve ended: ${made.errors}`)));
    });
    made.ws = /listening on (\S+)/.exec(await soon(ready, 'the ready line'))[1];
    made.http = made.ws.replace(/^ws/, 'http');
    made.listen = made.ws.replace(/^ws:\/\//, '');
    return made;
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
  async stop() {
    this.child.kill('SIGTERM');
    return soon(this.ended, 'the end of the program');
  }
}

// A chat user on one connection.
export class Peer {
  constructor(t, url) {
    this.ws = new WebSocket(url);
    this.heard = new Queue();
    this.opened = new Promise((resolve, reject) => {
      this.ws.on('open', resolve);
      this.ws.on('error', reject);
    });
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => {
      this.ws.on('close', (code, reason) => resolve({ code, reason: String(reason) }));
    });
    this.ws.on('message', (data, binary) => this.heard.push(binary ? data : JSON.parse(data)));
    t.after(() => this.ws.terminate());
  }

  static async join(t, server, room, id, name = id) {
    const query = new URLSearchParams({ user_id: id, username: name });
    const peer = new Peer(t, `${server.ws}/ws/chat/${room}?${query}`);
    await soon(peer.opened, 'an open connection');
    peer.joined = await peer.next('joined');
    await peer.next('system'); // the welcome
    return peer;
  }

  say(o) { this.ws.send(typeof o === 'string' || o instanceof Buffer ? o : JSON.stringify(o)); }
  next(type) { return this.heard.find((m) => m.type === type, `a "${type}"`); }
  leave() {
    this.ws.close(1000);
    return soon(this.closed, 'a close');
  }
}
