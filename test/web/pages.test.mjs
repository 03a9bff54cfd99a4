// The chat page and the dashboard in headless Chromium.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, enter, launch, said, say, shot, texts } from './browser.mjs';
import { Peer, Program } from './lib.mjs';

test('two pages chat; who reloads sees the history', async (t) => {
  const server = await Program.start(t, '--presence-grace', '1h');
  const context = await launch(t);
  const ada = await enter(context, server, 'Ada Lovelace');
  const bo = await enter(context, server, 'Bo');
  await ada.locator('.notice', { hasText: 'Bo joined' }).waitFor();
  assert.deepEqual(await ada.locator('#people li bdi').allTextContents(), ['Ada Lovelace', 'Bo']);
  assert.equal(await bo.locator('#people-count').textContent(), '2');
  await bo.locator('.notice', { hasText: 'Welcome to lobby. One other person is here.' }).waitFor();

  await say(ada, 'Good morning!');
  await said(bo, 'Good morning!').waitFor();
  await say(bo, 'Hello Ada. The notes are at https://example.org/notes, as promised.');
  await say(bo, 'Two lines,\nif need be.');
  await said(ada, 'Two lines,\nif need be.').waitFor();
  await say(ada, 'Thanks \u{1F642}');
  await said(bo, 'Thanks \u{1F642}').waitFor();
  const all = ['Good morning!', 'Hello Ada. The notes are at https://example.org/notes, as promised.',
    'Two lines,\nif need be.', 'Thanks \u{1F642}'];
  assert.deepEqual(await texts(ada), all);
  assert.deepEqual(await texts(bo), all);
  assert.equal(await ada.locator('.entry.own').count(), 2);
  assert.equal(await bo.locator('.text a').getAttribute('href'), 'https://example.org/notes');

  await bo.reload();
  await connected(bo);
  await said(bo, 'Thanks \u{1F642}').waitFor();
  assert.deepEqual(await texts(bo), all);
  assert.equal(await bo.locator('.entry.own').count(), 2, 'the same user as before');

  // A reload is no farewell: the others have seen nothing of it.
  await say(bo, 'And here again');
  await said(ada, 'And here again').waitFor();
  assert.deepEqual(await ada.locator('.notice', { hasText: /^Bo / }).allTextContents(), ['Bo joined']);
  assert.deepEqual(await ada.locator('#people li bdi').allTextContents(), ['Ada Lovelace', 'Bo']);
  await shot(ada, 'reloaded');
  context.fine();
});

test('who goes for good is missed', async (t) => {
  const server = await Program.start(t, '--presence-grace', '300ms');
  const context = await launch(t);
  const ada = await enter(context, server, 'Ada');
  const bo = await enter(context, server, 'Bo');
  await ada.locator('.notice', { hasText: 'Bo joined' }).waitFor();
  await bo.close();
  await ada.locator('.notice', { hasText: 'Bo left' }).waitFor();
  assert.deepEqual(await ada.locator('#people li bdi').allTextContents(), ['Ada']);
  context.fine();
});

test('a typing notice appears and goes', async (t) => {
  const server = await Program.start(t);
  const context = await launch(t);
  const ada = await enter(context, server, 'Ada');
  const bo = await enter(context, server, 'Bo');
  await bo.locator('#message').pressSequentially('Hm');
  await ada.locator('#typing', { hasText: 'Bo is typing…' }).waitFor();
  await shot(ada, 'typing');
  assert.equal(await bo.locator('#typing').textContent(), '');
  await bo.press('#message', 'Enter');
  await ada.locator('#typing:empty').waitFor({ state: 'attached' });
  await bo.locator('#message').pressSequentially('x');
  await ada.locator('#typing', { hasText: 'Bo' }).waitFor();
  await bo.press('#message', 'Backspace');
  await ada.locator('#typing:empty').waitFor({ state: 'attached' });
  context.fine();
});

test('the server restarts; both come back by themselves and say so', async (t) => {
  const first = await Program.start(t);
  const context = await launch(t);
  const ada = await enter(context, first, 'Ada');
  const bo = await enter(context, first, 'Bo');
  await say(ada, 'Before');
  await said(bo, 'Before').waitFor();

  await first.stop();
  for (const page of [ada, bo]) {
    await page.locator('#banner', { hasText: 'Not connected' }).waitFor();
    await page.locator('#status:not([data-state=open])').waitFor();
  }
  await say(ada, 'Written while it was away');
  await ada.locator('.entry[data-delivery=waiting]').waitFor();
  await shot(ada, 'away');

  const second = await Program.start(t, '--listen', first.listen);
  for (const page of [ada, bo]) {
    await connected(page);
    await page.locator('.notice', { hasText: /Reconnected.*Some messages may be missing/ }).waitFor();
    await page.locator('#banner').waitFor({ state: 'hidden' });
  }
  await said(ada, 'Written while it was away').waitFor();
  await said(bo, 'Written while it was away').waitFor();
  await say(bo, 'After');
  await said(ada, 'After').waitFor();
  for (const page of [ada, bo]) {
    assert.deepEqual(await texts(page), ['Before', 'Written while it was away', 'After']);
  }
  await shot(ada, 'back');
  assert.equal(await second.stop(), 0);
  context.fine();
});

test('a page that lost its connection catches up', async (t) => {
  const server = await Program.start(t);
  const context = await launch(t);
  const bo = await enter(context, server, 'Bo');
  // Ada's connection runs through a page-side socket that the test can cut.
  const page = await context.newPage();
  await page.addInitScript(() => {
    const Original = WebSocket;
    globalThis.sockets = [];
    globalThis.barred = false;
    globalThis.WebSocket = class extends Original {
      constructor(url, protocols) {
        super(globalThis.barred ? `ws://${location.host}/nothing` : url, protocols);
        globalThis.sockets.push(this);
      }
    };
  });
  await page.goto(`${server.http}/#lobby`);
  await page.fill('#name', 'Ada');
  await page.press('#name', 'Enter');
  await connected(page);
  await say(bo, 'one');
  await said(page, 'one').waitFor();
  await page.evaluate(() => {
    globalThis.barred = true;
    globalThis.sockets.at(-1).close();
  });
  await page.locator('#banner').waitFor();
  await say(bo, 'two');
  await say(bo, 'three');
  await said(bo, 'three').waitFor();
  await page.evaluate(() => { globalThis.barred = false; });
  await page.evaluate(() => { document.getElementById('retry').click(); }); // hidden if it is back already
  await page.locator('.notice', { hasText: 'Reconnected: 2 missed messages above' }).waitFor();
  assert.deepEqual(await texts(page), ['one', 'two', 'three']);
  // By the resume protocol, not by the history of a newcomer.
  const stats = await (await fetch(`${server.http}/dashboard/stats.json`)).json();
  assert.equal(stats.server.resumes_recovered, 1);
  assert.equal(stats.server.resumes_lost, 0);
  context.fine();
});

test('the keyboard is enough', async (t) => {
  const server = await Program.start(t);
  const context = await launch(t);
  const page = await context.newPage();
  await page.goto(`${server.http}/`);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  assert.equal(await focused(), 'name');
  await page.keyboard.type('Keys');
  await page.keyboard.press('Enter');
  await connected(page);
  assert.equal(await focused(), 'message');
  await page.keyboard.type('line one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('line two');
  await page.keyboard.press('Enter');
  await said(page, 'line one\nline two').waitFor();
  assert.equal(await focused(), 'message');

  // From the top of the page, everything in the order in which it stands there.
  await page.focus('.skip');
  const order = [];
  while (order.at(-1) !== 'message' && order.length < 20) {
    order.push(await focused());
    const ring = await page.evaluate(() => {
      const style = getComputedStyle(document.activeElement);
      return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    });
    assert.ok(ring, `no visible focus on ${order.at(-1)}`);
    await page.keyboard.press('Tab');
  }
  assert.equal(order[0], 'Skip to the message box');
  const sought = ['Chorus', 'other', 'leave', 'theme', 'log', 'message'];
  assert.deepEqual(order.filter((id) => sought.includes(id)), sought);
  await page.locator('#rooms a').nth(1).focus();
  await shot(page, 'keyboard');

  // Another room, by the keyboard alone.
  await page.focus('#other');
  await page.keyboard.type('quiet-corner');
  await page.keyboard.press('Enter');
  await page.locator('#room-name', { hasText: '#quiet-corner' }).waitFor();
  await connected(page);
  assert.equal(await focused(), 'message');
  assert.equal(new URL(page.url()).hash, '#quiet-corner');
  assert.equal(await page.locator('#log').getAttribute('role'), 'log');
  assert.equal(await page.locator('#log').getAttribute('aria-live'), 'polite');
  const unnamed = await page.evaluate(() => [...document.querySelectorAll('button, input, textarea, a[href]')]
    .filter((e) => !e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length)
    .map((e) => e.outerHTML));
  assert.deepEqual(unnamed, []);
  context.fine();
});

test('markup in names and messages stays text', async (t) => {
  const server = await Program.start(t);
  const context = await launch(t);
  const name = '<img src=x onerror="bad()">';
  const strings = [
    '<script>globalThis.bad()</script>', '<img src=x onerror=bad()>', '"><svg onload=bad()>',
    'javascript:bad()', '<a href="javascript:bad()">x</a>', '<iframe srcdoc="<script>parent.bad()</script>">',
    '${bad()} {{bad()}}', 'https://example.org/"onmouseover="bad()', "https://example.org/'><script>bad()</script>",
    '\u202Eright to left',
  ];
  await context.addInitScript(() => { globalThis.bad = () => { globalThis.wasBad = true; }; });
  const ada = await enter(context, server, 'Ada');
  const mallory = await Peer.join(t, server, 'lobby', 'mallory', name);
  for (const text of strings) mallory.say({ type: 'message', message: text });
  mallory.say({ type: 'typing' });
  await said(ada, strings.at(-1)).waitFor();
  await ada.locator('#typing', { hasText: name }).waitFor();
  assert.deepEqual(await texts(ada), strings);
  assert.ok((await ada.locator('#people li bdi').allTextContents()).includes(name));
  const found = await ada.evaluate(() => ({
    bad: globalThis.wasBad,
    elements: document.querySelectorAll('#app script, #app iframe, .log img, .log svg, .people img').length,
    links: [...document.querySelectorAll('.log a')].map((a) => a.protocol),
    handlers: [...document.querySelectorAll('#app *')].filter((e) => [...e.attributes].some((a) => a.name.startsWith('on'))).length,
  }));
  assert.deepEqual(found, { bad: undefined, elements: 0, links: ['https:', 'https:'], handlers: 0 });
  await shot(ada, 'markup');

  // And the policy would stop what got through.
  const policy = await ada.evaluate(() => new Promise((resolve) => {
    document.addEventListener('securitypolicyviolation', (e) => resolve(e.effectiveDirective), { once: true });
    const script = document.createElement('script');
    script.textContent = 'globalThis.bad()';
    document.body.append(script);
  }));
  assert.match(policy, /^script-src/);
  assert.equal(await ada.evaluate(() => globalThis.wasBad), undefined);
});

test('light and dark, wide and narrow', async (t) => {
  const server = await Program.start(t);
  const context = await launch(t);
  const page = await enter(context, server, 'Ada Lovelace');
  const grace = await Peer.join(t, server, 'lobby', 'grace', 'Grace Hopper');
  const alan = await Peer.join(t, server, 'lobby', 'alan', 'Alan');
  await Peer.join(t, server, 'random', 'kurt', 'Kurt');
  grace.say({ type: 'message', message: 'The build is green again. I moved the timer wheel to one per shard.' });
  grace.say({ type: 'message', message: 'Would somebody read it before lunch?' });
  await grace.next('message');
  alan.say({ type: 'message', message: 'I will. Is the reconnect test in there as well?' });
  await said(page, 'I will. Is the reconnect test in there as well?').waitFor();
  const answer = 'It is: both pages come back by themselves after a restart, and what was said meanwhile is not lost.';
  await say(page, answer);
  await said(page, answer).waitFor();
  grace.say({ type: 'message', message: 'Lovely. Notes are at https://example.org/timers.' });
  await said(page, 'Lovely. Notes are at https://example.org/timers.').waitFor();
  grace.say({ type: 'typing' });
  await page.locator('#typing', { hasText: 'Grace Hopper is typing…' }).waitFor();
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await shot(page, 'chat-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.locator('html[data-theme=dark]').waitFor();
  assert.notEqual(await ground(), light);
  await shot(page, 'chat-dark');
  await page.click('#theme');
  await page.locator('html[data-theme=light]').waitFor();
  assert.equal(await ground(), light);
  await page.reload();
  await connected(page);
  assert.equal(await ground(), light, 'the choice is kept');

  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `the page is ${wide} wide`);
  await said(page, 'Lovely. Notes are at https://example.org/timers.').waitFor();
  await shot(page, 'phone');
  await page.click('#show-people');
  await page.locator('#people li', { hasText: 'Grace Hopper' }).waitFor();
  await page.keyboard.press('Escape');
  await page.locator('#people-panel').waitFor({ state: 'hidden' });
  await page.click('#show-rooms');
  await page.locator('#rooms a', { hasText: 'random' }).waitFor();
  await shot(page, 'phone-rooms');
  await page.locator('#rooms a', { hasText: 'random' }).click();
  await page.locator('#room-name', { hasText: '#random' }).waitFor();
  await page.locator('#rooms-panel').waitFor({ state: 'hidden' });

  const newcomer = await context.newPage();
  await newcomer.goto(`${server.http}/`);
  await newcomer.locator('#enter').waitFor();
  await shot(newcomer, 'welcome');
  context.fine();
});

test('the dashboard moves under load', async (t) => {
  const server = await Program.start(t, '--threads', 2, '--ping-interval', '200ms', '--pong-wait', '20s');
  const context = await launch(t);
  const page = await context.newPage();
  await page.goto(`${server.http}/dashboard`);
  await page.locator('#status', { hasText: 'Live' }).waitFor();
  assert.equal(await page.locator('#charts article').count(), 6);
  const number = (title, series) => page.locator('article', { has: page.getByRole('heading', { name: title, exact: true }) })
    .locator(`.now .s${series} .value`);
  await number('Connections', 0).filter({ hasText: /^0$/ }).waitFor();
  await page.locator('#no-rooms').waitFor();

  const peers = [];
  for (let i = 0; i < 12; i++) peers.push(await Peer.join(t, server, i % 3 ? 'lobby' : 'tea', `u${i}`));
  const load = setInterval(() => {
    for (const peer of peers) peer.say({ type: 'message', message: 'x'.repeat(200) });
  }, 20);
  t.after(() => clearInterval(load));
  await number('Connections', 0).filter({ hasText: /^12$/ }).waitFor();
  await number('Messages', 0).filter({ hasText: /^[1-9]\d\d/ }).waitFor();
  await number('Messages', 1).filter({ hasText: /^[1-9]/ }).waitFor();
  await number('Round trip', 0).filter({ hasText: /^\d/ }).waitFor();
  await page.locator('#rooms tr', { hasText: 'lobby' }).waitFor();
  assert.equal(await page.locator('#rooms tr').count(), 2);
  // Lines are drawn, from more than a few samples.
  await page.waitForFunction(() => (document.querySelector('#charts .line').getAttribute('d').match(/L/g) ?? []).length >= 6);
  await shot(page, 'dashboard-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.locator('html[data-theme=dark]').waitFor();
  await shot(page, 'dashboard-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
  await shot(page, 'dashboard-phone');
  await page.click('#pause');
  await page.locator('#status', { hasText: 'Paused' }).waitFor();
  context.fine();
});
