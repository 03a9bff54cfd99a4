// The chat page over three servers that share a Redis, behind nginx and behind HAProxy: users on different
// servers talk, one server is killed, and both go on.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { connected, enter, launch, said, say, shot, texts } from './browser.mjs';
import { Peer, Program } from './lib.mjs';

const PATIENCE = 60_000;

// A program of the system, killed after the test, and its folder.
function daemon(t, name, args, folder) {
  const places = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin', '/usr/bin', '/sbin'];
  const program = places.map((place) => path.join(place, name)).find((file) => fs.existsSync(file));
  assert.ok(program, `${name} is not installed: ./run test installs the Debian packages of the tests`);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.on('close', resolve));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  t.after(async () => {
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await ended;
    clearTimeout(late);
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return { child, said: () => said };
}

const folder = (name) => fs.mkdtempSync(path.join(os.tmpdir(), `chorus-${name}-`));

async function comesTrue(condition, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

function accepts(address) {
  return new Promise((resolve) => {
    const socket = net.connect(address);
    socket.on('connect', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
}

// On a unix socket: no port to be taken by somebody else.
async function startRedis(t) {
  const home = folder('redis');
  const socket = path.join(home, 'socket');
  const server = daemon(t, 'redis-server', ['--port', '0', '--unixsocket', socket, '--dir', home,
    '--save', '', '--appendonly', 'no'], home);
  await comesTrue(() => accepts({ path: socket }), 'redis-server');
  return { url: `unix:${socket}`, said: server.said };
}

// An address of this process' own, where no port is dealt to anybody else before a balancer takes it: what
// asks the kernel for a port or connects meanwhile does so on 127.0.0.1.
const own = `127.${64 + ((process.pid >> 16) & 63)}.${(process.pid >> 8) & 255}.${process.pid & 255}`;

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject).listen(0, own, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// Until the balancer listens; one that has ended says why.
async function listens(name, server, port) {
  await comesTrue(() => {
    assert.equal(server.child.exitCode, null, `${name} has ended: ${server.said()}`);
    return accepts({ host: own, port });
  }, name);
  return { http: `http://${own}:${port}`, said: server.said };
}

// In front of all nodes; a node that does not answer is left out for a second.
async function startNginx(t, nodes) {
  const home = folder('nginx');
  const port = await freePort();
  const servers = nodes.map((node) => `server ${node.listen} max_fails=1 fail_timeout=1s;`).join(' ');
  const proxied = `proxy_http_version 1.1; proxy_set_header Host $http_host;
    proxy_next_upstream error timeout http_503; proxy_connect_timeout 5s;`;
  fs.writeFileSync(path.join(home, 'nginx.conf'), `daemon off; worker_processes 1; pid ${home}/pid;
${process.getuid() === 0 ? 'user root root;' : ''}
error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${home}/b; proxy_temp_path ${home}/p; fastcgi_temp_path ${home}/f;
  uwsgi_temp_path ${home}/u; scgi_temp_path ${home}/s;
  upstream pages { ${servers} }
  upstream chat { ${servers} }
  server {
    listen ${own}:${port};
    location / { ${proxied} proxy_pass http://pages; }
    location /ws/ { ${proxied} proxy_read_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
      proxy_pass http://chat; }
  }
}
`);
  const server = daemon(t, 'nginx', ['-e', 'stderr', '-p', home, '-c', path.join(home, 'nginx.conf')], home);
  return listens('nginx', server, port);
}

// The same by HAProxy, which asks the nodes themselves whether they are ready.
async function startHaproxy(t, nodes) {
  const home = folder('haproxy');
  const port = await freePort();
  const servers = nodes.map((node, i) => `  server n${i} ${node.listen} check inter 500ms`).join('\n');
  fs.writeFileSync(path.join(home, 'haproxy.cfg'), `global
  maxconn 256
defaults
  mode http
  balance roundrobin
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
  retries 3
  option redispatch 1
  option httpchk GET /readyz
frontend all
  bind ${own}:${port}
  use_backend chat if { path_beg /ws/ }
  default_backend pages
backend pages
${servers}
backend chat
${servers}
`);
  const server = daemon(t, 'haproxy', ['-db', '-f', path.join(home, 'haproxy.cfg')], home);
  return listens('haproxy', server, port);
}

const people = async (page) => (await page.locator('#people li bdi').allTextContents()).sort();

async function stats(node) {
  const answer = await fetch(`${node.http}/dashboard/stats.json`);
  assert.equal(answer.status, 200);
  return answer.json();
}

// The only one of these nodes that has a session.
async function nodeOf(nodes) {
  return comesTrue(async () => {
    const all = await Promise.all(nodes.map(stats));
    const busy = nodes.filter((_, i) => all[i].server.connections === 1);
    return busy.length === 1 && busy[0];
  }, 'one node with a session');
}

async function story(t, balance) {
  const redis = await startRedis(t);
  const nodes = await Promise.all([1, 2, 3].map(() =>
    Program.start(t, '--broker', redis.url, '--broker-lease', '10s', '--presence-grace', '20s')));
  const proxy = await balance(t, nodes);
  const context = await launch(t);

  const ada = await enter(context, proxy, 'Ada');
  const adas = await nodeOf(nodes);
  const bo = await enter(context, proxy, 'Bo');
  const bos = await nodeOf(nodes.filter((node) => node !== adas));
  const third = nodes.find((node) => node !== adas && node !== bos);
  await ada.locator('.notice', { hasText: 'Bo joined' }).waitFor();
  for (const page of [ada, bo]) assert.deepEqual(await people(page), ['Ada', 'Bo']);
  await say(ada, 'from one node');
  await said(bo, 'from one node').waitFor();
  await say(bo, 'to the other');
  await said(ada, 'to the other').waitFor();
  await bo.locator('#message').pressSequentially('Hm');
  await ada.locator('#typing', { hasText: 'Bo is typing…' }).waitFor();
  await bo.fill('#message', '');

  // The page of any node shows that it is one of several.
  const watching = await context.newPage();
  await watching.goto(`${third.http}/dashboard`);
  await watching.locator('#broker-state', { hasText: 'connected' }).waitFor();
  await shot(watching, 'dashboard-broker');
  await watching.close();

  // Dan is on Ada's node, and will not come back.
  await Peer.join(t, adas, 'lobby', 'dan', 'Dan');
  await bo.locator('.notice', { hasText: 'Dan joined' }).waitFor();

  await adas.kill();
  await ada.locator('#banner').waitFor();
  await say(bo, 'said while Ada was away, or just back');
  await connected(ada);
  await said(ada, 'said while Ada was away, or just back').waitFor();
  await say(ada, 'I am back');
  await said(bo, 'I am back').waitFor();

  // A newcomer on what is left finds all of it.
  const cy = await enter(context, proxy, 'Cy');
  await said(cy, 'I am back').waitFor();
  const all = ['from one node', 'to the other', 'said while Ada was away, or just back', 'I am back'];
  for (const page of [ada, bo, cy]) assert.deepEqual(await texts(page), all);
  assert.equal(await ada.locator('.notice', { hasText: 'may be missing' }).count(), 0, 'all was recovered');
  // Who was there by the dead node's word leaves with its lease. Ada has come back within the time for
  // that: she has neither left nor joined.
  await bo.locator('.notice', { hasText: 'Dan left' }).waitFor();
  assert.deepEqual(await bo.locator('.notice', { hasText: /^Ada / }).allTextContents(), []);
  for (const page of [ada, bo, cy]) assert.deepEqual(await people(page), ['Ada', 'Bo', 'Cy']);
  await shot(ada, 'cluster');
  for (const node of nodes.filter((one) => one !== adas)) assert.equal(await node.stop(), 0);
  context.fine(own);
}

for (const [name, balance] of [['nginx', startNginx], ['HAProxy', startHaproxy]])
  test(`users on different servers behind ${name} talk, and go on when one server is killed`,
    (t) => story(t, balance));
