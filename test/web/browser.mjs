// Headless Chromium for the page tests, and what they do in a chat page.
//
// CHORUS_CHROMIUM names the browser (/usr/bin/chromium), CHORUS_ARTEFACTS the folder for screenshots.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { load } from './lib.mjs';

const { chromium } = load('playwright-core');
export const PATIENCE = 60_000;

export async function launch(t, options = {}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'chorus-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHORUS_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    reducedMotion: 'reduce',
    ...options,
  });
  context.setDefaultTimeout(PATIENCE);
  const wrong = [];
  const asked = [];
  context.on('page', (page) => {
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('console', (m) => {
      if (/Content Security Policy|Refused to/i.test(m.text())) wrong.push(m.text());
    });
    page.on('request', (request) => asked.push(request.url()));
  });
  t.after(async () => {
    // How each page looked in the end: what one wants to see of a test that failed.
    for (const [i, page] of context.pages().slice(1).entries()) {
      await shot(page, `end-${t.name.replace(/\W+/g, '-')}-${i + 1}`).catch(() => {});
    }
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  });
  // Nothing may break in a page, and nothing may be asked of a host other than these.
  context.fine = (...hosts) => {
    const ours = ['127.0.0.1', ...hosts];
    assert.deepEqual(wrong, []);
    assert.deepEqual(asked.filter((url) => !ours.includes(new URL(url).hostname)), []);
  };
  return context;
}

export async function shot(page, name) {
  const folder = process.env.CHORUS_ARTEFACTS ?? path.join(os.tmpdir(), 'chorus-artefacts');
  fs.mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
}

export const connected = (page) => page.locator('#status[data-state=open]').waitFor();

// A user of its own in a page of its own.
export async function enter(context, server, name, room = 'lobby') {
  const page = await context.newPage();
  await page.goto(`${server.http}/`);
  await page.fill('#name', name);
  await page.fill('#room', room);
  await page.click('#enter button');
  await connected(page);
  await page.locator('#people li', { hasText: name }).waitFor();
  return page;
}

export async function say(page, text) {
  await page.fill('#message', text);
  await page.press('#message', 'Enter');
}

// The message with this text, delivered.
export const said = (page, text) => page.locator('.entry:not([data-delivery=sending]):not([data-delivery=waiting])')
  .filter({ has: page.locator('.text').getByText(text, { exact: true }) });
export const texts = (page) => page.locator('.entry .text').allTextContents();
