#!/usr/bin/env node
// npm's ws against the program, in both roles.
//
//   node_ws.cjs --program PATH/chorus [--node-modules FOLDER] [--only NAME]
//
// `client/...`: ws is a client of `chorus serve`. `server/...`: it is the server that
// `chorus connect` talks to. ws is looked for in the given folder, then as Node always does
// (node_modules beside this file and above, NODE_PATH).
'use strict';
const fs = require('node:fs');
const { runTests } = require('./harness.cjs');
const { certificates, options } = require('./node_common.cjs');
// Loading them registers their tests.
require('./node_client.cjs');
require('./node_server.cjs');

runTests(options.only).finally(() => fs.rmSync(certificates, { recursive: true }));
