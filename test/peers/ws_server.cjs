// npm's ws as a server with manners and without, by the URL of the first connection to it:
//
//   /echo                           sends messages back, as every later connection does whatever its URL
//   /drop      /end                 at the first message: a reset, or the end of TCP, without a close frame
//   /close?code=N&reason=TEXT       at the first message
//   /busy?after=SECONDS             answers the upgrade with 503 and Retry-After
//   /deaf                           from the first message on reads no more, and keeps the connection
//
//   ws_server.cjs --node-modules PATH --port N
// Tells on standard output, a JSON object a line: {"arrived": PATH, "at": ms},
// {"closing": true, "at": ms}, {"left": CODE, "at": ms}.
'use strict';
const http = require('node:http');
const { createRequire } = require('node:module');
const path = require('node:path');
const { parseArgs } = require('node:util');

const { values: options } = parseArgs({ options: {
  'node-modules': { type: 'string' }, port: { type: 'string' },
} });
const modules = path.resolve(options['node-modules']);
const { WebSocketServer } = createRequire(path.join(modules, 'x.cjs'))(path.join(modules, 'ws'));

const now = () => Number(process.hrtime.bigint() / 1000n) / 1000;
const tell = (what) => process.stdout.write(`${JSON.stringify({ ...what, at: now() })}\n`);
const seen = new Set();

const misbehave = {
  '/drop': (ws) => ws._socket.resetAndDestroy(),
  '/end': (ws) => ws._socket.end(),
  '/close': (ws, query) => {
    tell({ closing: true });
    ws.close(Number(query.get('code')), query.get('reason') ?? '');
  },
  '/deaf': (ws) => ws._socket.pause(),
};

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true, maxPayload: 1 << 23 });
server.on('upgrade', (request, socket, head) => {
  const { pathname, searchParams } = new URL(request.url, 'ws://here');
  const first = !seen.has(request.url);
  seen.add(request.url);
  tell({ arrived: pathname });
  if (pathname === '/busy' && first) {
    tell({ left: 503 });
    socket.end('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n'
      + `Retry-After: ${searchParams.get('after')}\r\n\r\n`);
    return;
  }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const act = first ? misbehave[pathname] : undefined;
    ws.on('message', (data, isBinary) => {
      if (act) act(ws, searchParams);
      else ws.send(data, { binary: isBinary });
    });
    ws.on('error', () => {});
    ws.on('close', (code) => tell({ left: code }));
  });
});
server.listen(Number(options.port), '127.0.0.1', () => tell({ listening: true }));
