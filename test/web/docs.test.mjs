// Runs the programs of docs/javascript.md against `chorus serve`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Program, load, soon, source } from './lib.mjs';

const page = fs.readFileSync(source('../../../docs/javascript.md'), 'utf8');
const blocks = [...page.matchAll(/^```js\n(.*?)^```$/gms)].map((m) => m[1]);
const printed = [/^connected\nAda: hello\n$/, /^true\n$/, /^3\nthere is no such method\n$/];

test('every program of docs/javascript.md runs', async (t) => {
  assert.equal(blocks.length, printed.length);
  const server = await Program.start(t);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chorus-docs-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const ws = pathToFileURL(load.resolve('ws')).href;
  for (const [i, block] of blocks.entries()) {
    const file = path.join(folder, `${i}.mjs`);
    fs.writeFileSync(file, `import { createRequire } from 'node:module';\n` +
      `globalThis.WebSocket ??= createRequire('${ws}')('ws');\n` +
      block.replace("'./chorus.js'", `'${pathToFileURL(source('chorus.js')).href}'`)
        .replace('ws://127.0.0.1:8080', server.ws));
    const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
    t.after(() => child.kill());
    let out = '';
    child.stdout.on('data', (data) => { out += data; });
    child.stderr.on('data', (data) => { out += data; });
    const status = await soon(new Promise((resolve) => child.on('close', resolve)), `the end of block ${i}`);
    assert.equal(status, 0, out);
    assert.match(out, printed[i]);
  }
});
