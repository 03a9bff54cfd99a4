// What the Node peer tests share: running the program, certificates, counting.
'use strict';
const { spawn, execFileSync } = require('node:child_process');
const { isDeepStrictEqual } = require('node:util');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const PATIENCE = 60000; // milliseconds for one test

class Failure extends Error {}

function brief(value) {
  if (Buffer.isBuffer(value)) return `${value.length} bytes ${value.toString('hex', 0, 24)}`;
  return String(typeof value === 'object' ? JSON.stringify(value) : value).slice(0, 120);
}

function check(condition, sentence) {
  if (!condition) throw new Failure(sentence);
}

function equal(seen, expected, what) {
  check(isDeepStrictEqual(seen, expected),
    `${what}: expected ${brief(expected)}, saw ${brief(seen)}`);
}

function makeCertificates() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chorus-certs-'));
  execFileSync('/bin/sh', [path.join(__dirname, '..', 'certs', 'make_certs.sh'), folder]);
  return folder;
}

// Values in order of arrival; `next` waits for one.
class Queue {
  constructor() {
    this.values = [];
    this.waiting = [];
  }
  push(value) {
    if (this.waiting.length) this.waiting.shift()(value);
    else this.values.push(value);
  }
  next() {
    if (this.values.length) return Promise.resolve(this.values.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

// One run of the program.
class Program {
  constructor(file, ...args) {
    this.child = spawn(file, args.map(String), { stdio: 'pipe' });
    this.errors = '';
    this.lines = new Queue();
    let rest = '';
    this.child.stdout.setEncoding('utf8');
    this.child.stdout.on('data', (text) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop();
      parts.forEach((line) => this.lines.push(line));
    });
    this.child.stdin.on('error', () => {});
    this.child.stderr.on('data', (data) => { this.errors += data; });
    this.ended = new Promise((resolve) => {
      this.child.on('close', (status, signal) => {
        this.lines.push(null);
        resolve(signal || status);
      });
      this.child.on('error', (error) => {
        this.errors += error.message;
        this.lines.push(null);
        resolve('not started');
      });
    });
  }
  async url(scheme = 'ws') {
    const line = await this.lines.next();
    const prefix = `listening on ${scheme}://127.0.0.1:`;
    check(line !== null && line.startsWith(prefix),
      `ready line: ${line}; ${this.errors.slice(-300)}`);
    return line.trim().slice('listening on '.length);
  }
  async expectExit(...statuses) {
    const status = await this.ended;
    check(statuses.includes(status), `exit status ${status}, expected ${statuses.join(' or ')}; ` +
      this.errors.slice(-300));
    check(status === 0 || this.errors.trim(), `exit status ${status} without a sentence`);
  }
  async stop() {
    this.child.kill('SIGTERM');
    await this.expectExit(0);
  }
}

const rows = [];

function test(name, run) {
  rows.push([name, run]);
}

// Runs the tests one after the other and sets the exit status. `run` gets an `own` function that
// takes a clean-up action, done after the test in reverse order.
async function runTests(only) {
  let passed = 0;
  let failed = 0;
  for (const [name, run] of rows) {
    if (only.length && !only.some((part) => name.includes(part))) continue;
    const cleanups = [];
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Failure('not finished in the time allowed')), PATIENCE);
    });
    let broken;
    const astray = new Promise((_, reject) => { broken = reject; });
    const onAstray = (error) => broken(error);
    process.on('uncaughtException', onAstray);
    process.on('unhandledRejection', onAstray);
    try {
      await Promise.race([run((action) => cleanups.push(action)), late, astray]);
      passed++;
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}: ${error instanceof Failure ? error.message : error.stack}`);
    }
    clearTimeout(timer);
    late.catch(() => {});
    astray.catch(() => {});
    for (const action of cleanups.reverse()) await action();
    process.off('uncaughtException', onAstray);
    process.off('unhandledRejection', onAstray);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed || !passed ? 1 : 0;
}

module.exports = { Failure, Program, Queue, check, equal, makeCertificates, runTests, test };
