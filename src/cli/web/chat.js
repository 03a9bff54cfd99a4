// The chat page: one Client of chorus.js for the room that the address names (/#lobby), and what it
// hears shown by chat_view.js.
import { Client, QueueFullError } from '/chorus.js';
import { Log, markDelivery, paintAvatar, showPeople, showRooms, typingSentence } from '/web/chat_view.js';

const at = (id) => document.getElementById(id);
const ROOM = /^[A-Za-z0-9._-]{1,64}$/;
const USUAL_ROOMS = ['lobby', 'random', 'help'];
const TYPING_SAID = 2000; // milliseconds between two notices of ours
const TYPING_KEPT = 5000; // how long one of somebody else's holds
const SEEN_KEPT = 2000;

// Storage may be forbidden; the page works without, until it is reloaded.
const memory = new Map();
const stored = {
  get(key, storage = 'sessionStorage') {
    try {
      return globalThis[storage].getItem(`chorus.${key}`);
    } catch {
      return memory.get(key) ?? null;
    }
  },
  set(key, value, storage = 'sessionStorage') {
    try {
      globalThis[storage].setItem(`chorus.${key}`, value);
    } catch {
      memory.set(key, value);
    }
  },
};

// Each tab is a user of its own, and stays the same one when it is reloaded.
function ownId() {
  let id = stored.get('user');
  if (!id) {
    id = `u-${crypto.getRandomValues(new Uint32Array(2)).join('').slice(0, 14)}`;
    stored.set('user', id);
  }
  return id;
}

const me = { user_id: ownId(), username: stored.get('name') ?? '' };
const log = new Log(at('log'), at('latest'));
let talk = null; // the room we are in
let knownRooms = [];

// --- one room ---------------------------------------------------------------------------------------

class Talk {
  constructor(room) {
    this.room = room;
    this.users = new Map();
    this.seen = new Set();
    this.pending = new Map(); // own messages that did not come back yet, by ref
    this.typing = new Map();
    this.away = false; // had a connection and lost it
    this.gap = false; // told of one, and has not yet said so
    this.caughtUp = 0;
    this.inRoom = false;
    this.welcomed = false;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const query = new URLSearchParams(me);
    this.client = new Client(`${scheme}://${location.host}/ws/chat/${room}?${query}`, {
      resume: true,
      maxDelay: 10_000,
      heartbeat: {
        interval: 10_000,
        timeout: 8000,
        make: (id) => JSON.stringify({ type: 'ping', id }),
        match: (data) => {
          if (typeof data !== 'string' || !data.includes('"pong"')) return undefined;
          const m = parsed(data);
          return m?.type === 'pong' ? m.id : undefined;
        },
      },
    });
    const on = (type, run) => this.client.addEventListener(type, run);
    on('state', () => this.showState());
    on('roundtrip', () => this.showState());
    on('open', (e) => this.opened(e));
    on('message', (e) => this.heard(e.data));
    on('recovered', (e) => { this.gap ||= !e.recovered; });
    on('disconnected', (e) => this.disconnected(e));
    on('closed', (e) => this.closed(e));
    on('error', (e) => console.warn(e.error));
    this.showState();
  }

  leave() {
    clearInterval(this.countdown);
    for (const timer of this.typing.values()) clearTimeout(timer.timer);
    this.left = true;
    this.client.close();
  }

  opened() {
    this.inRoom = false;
    this.caughtUp = 0;
    clearInterval(this.countdown);
    at('banner').hidden = true;
  }

  heard(data) {
    const m = parsed(data);
    if (!m) return;
    switch (m.type) {
      case 'message': this.said(m); break;
      case 'joined': this.joined(m); break;
      case 'user_joined': this.arrived(m); break;
      case 'user_left': this.gone(m); break;
      case 'typing': this.types(m); break;
      case 'system':
        // Who comes back was welcomed before.
        if (m.code !== 'welcome' || !this.welcomed) log.notice(String(m.message));
        this.welcomed ||= m.code === 'welcome';
        break;
      case 'error': this.refused(m); break;
      default: // of a newer server
    }
  }

  joined(m) {
    this.users = new Map(m.users.map((u) => [u.user_id, u.username]));
    this.inRoom = true;
    this.showPeople(m.users_count);
    if (this.away) {
      this.away = false;
      const n = this.caughtUp;
      const missed = n ? `: ${n} missed ${n === 1 ? 'message' : 'messages'} above` : '';
      if (this.gap) {
        this.gap = false;
        log.notice(`Reconnected${missed}. Some messages may be missing.`, 'warn');
      } else {
        log.notice(`Reconnected${missed}`, 'strong');
      }
      for (const [ref, own] of this.pending) {
        if (own.connection && own.connection < this.client.connections) this.undelivered(ref);
      }
    }
    refreshRooms();
  }

  said(m) {
    if (this.seen.has(m.id)) return;
    this.seen.add(m.id);
    if (this.seen.size > SEEN_KEPT) this.seen.delete(this.seen.values().next().value);
    const own = m.user_id === me.user_id;
    if (own && this.pending.has(m.ref)) {
      const { entry } = this.pending.get(m.ref);
      this.pending.delete(m.ref);
      markDelivery(entry, 'delivered');
      return;
    }
    if (this.away && !this.inRoom) this.caughtUp++;
    this.stopsTyping(m.user_id);
    log.message(m, own);
    if (!own && this.inRoom && document.hidden) showUnread(1);
  }

  say(text) {
    const ref = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
    const shown = { ...me, message: text, timestamp: new Date().toISOString() };
    const own = { text, connection: 0, entry: null };
    this.client.send(JSON.stringify({ type: 'message', message: text, ref }), {
      onSent: (connection) => {
        own.connection = connection;
        if (own.entry) markDelivery(own.entry, 'sending');
      },
    });
    own.entry = log.message(shown, true);
    markDelivery(own.entry, own.connection ? 'sending' : 'waiting');
    this.pending.set(ref, own);
    this.saysTyping(false);
  }

  undelivered(ref) {
    const own = this.pending.get(ref);
    this.pending.delete(ref);
    markDelivery(own.entry, 'failed', () => {
      this.say(own.text);
      own.entry.remove();
      at('message').focus();
    });
  }

  refused(m) {
    if (m.ref && this.pending.has(m.ref)) this.undelivered(m.ref);
    if (m.code === 'refused') this.why = m.message;
    else log.notice(String(m.message), 'warn');
  }

  // What was under way when we joined may tell what `joined` has told already.
  arrived(m) {
    const known = this.users.has(m.user_id);
    this.users.set(m.user_id, m.username);
    this.showPeople();
    if (!known) log.notice(`${m.username} joined`, 'event');
  }

  gone(m) {
    this.stopsTyping(m.user_id);
    if (!this.users.delete(m.user_id)) return;
    this.showPeople();
    log.notice(`${m.username} left`, 'event');
  }

  showPeople(count = this.users.size) {
    showPeople(at('people'), this.users, me.user_id);
    at('people-count').textContent = String(Math.max(count, this.users.size));
    listRooms();
  }

  // --- typing ---

  types(m) {
    if (m.user_id === me.user_id) return;
    this.stopsTyping(m.user_id);
    if (!m.is_typing) return;
    const timer = setTimeout(() => this.stopsTyping(m.user_id), TYPING_KEPT);
    this.typing.set(m.user_id, { name: m.username, timer });
    this.showTyping();
  }

  stopsTyping(id) {
    clearTimeout(this.typing.get(id)?.timer);
    if (this.typing.delete(id)) this.showTyping();
  }

  showTyping() {
    at('typing').textContent = typingSentence([...this.typing.values()].map((t) => t.name));
  }

  saysTyping(on) {
    const now = Date.now();
    if (on ? now - (this.typingSaid ?? 0) < TYPING_SAID : !this.typingSaid) return;
    this.typingSaid = on ? now : 0;
    clearTimeout(this.typingEnds);
    if (this.client.state === 'open') {
      this.client.send(JSON.stringify({ type: 'typing', is_typing: on }));
    }
  }

  typed(text) {
    this.saysTyping(text.trim() !== '');
    clearTimeout(this.typingEnds);
    if (text.trim()) this.typingEnds = setTimeout(() => this.saysTyping(false), TYPING_KEPT - 1000);
  }

  // --- state ---

  showState() {
    if (this.left) return;
    const { state, roundTrip } = this.client ?? {};
    const words = { connecting: 'Connecting…', open: 'Connected', disconnected: 'Disconnected',
      closed: 'Closed' };
    const text = words[state] ?? words.connecting;
    if (at('state').textContent !== text) at('state').textContent = text;
    at('status').dataset.state = state ?? 'connecting';
    const known = state === 'open' && roundTrip !== undefined;
    at('trip').textContent = known ? ` · ${Math.max(1, Math.round(roundTrip))} ms` : '';
  }

  disconnected({ retryIn, opened }) {
    if (opened) this.away = true;
    for (const id of [...this.typing.keys()]) this.stopsTyping(id);
    this.typingSaid = 0;
    const due = performance.now() + retryIn;
    const tell = () => {
      const seconds = Math.ceil((due - performance.now()) / 1000);
      at('banner-text').textContent = seconds > 0
        ? `Not connected. Trying again in ${seconds} s`
        : 'Not connected. Trying again…';
    };
    tell();
    clearInterval(this.countdown);
    this.countdown = setInterval(tell, 500);
    at('banner').hidden = false;
  }

  closed({ why }) {
    if (this.left) return;
    clearInterval(this.countdown);
    if (this.why) {
      askName(this.why);
      return;
    }
    at('banner').hidden = false;
    at('banner-text').textContent = `The connection has ended: ${why}.`;
  }
}

function parsed(data) {
  try {
    const m = JSON.parse(data);
    return m !== null && typeof m === 'object' ? m : undefined;
  } catch {
    return undefined;
  }
}

// --- rooms ------------------------------------------------------------------------------------------

function roomOfAddress() {
  const name = decodeURIComponent(location.hash.slice(1));
  return ROOM.test(name) ? name : undefined;
}

function enterRoom(room) {
  if (talk?.room === room && talk.client.state !== 'closed') return;
  talk?.leave();
  log.clear();
  at('people').replaceChildren();
  at('people-count').textContent = '0';
  at('typing').textContent = '';
  at('banner').hidden = true;
  at('room-name').textContent = `#${room}`;
  showUnread(0);
  talk = new Talk(room);
  if (location.hash !== `#${room}`) history.replaceState(null, '', `#${room}`);
  document.title = `#${room} · Chorus`;
  listRooms();
}

function listRooms() {
  const rooms = new Map(USUAL_ROOMS.map((name) => [name, 0]));
  for (const { name, users } of knownRooms) rooms.set(name, users);
  if (talk) {
    rooms.set(talk.room, talk.inRoom ? talk.users.size : rooms.get(talk.room) ?? 0);
  }
  showRooms(at('rooms'), [...rooms].map(([name, users]) => ({ name, users })), talk?.room);
}

async function refreshRooms() {
  try {
    const answer = await fetch('/chat/rooms.json', { signal: AbortSignal.timeout(5000) });
    if (answer.ok) knownRooms = (await answer.json()).rooms.slice(0, 30);
  } catch {
    // Shown as it was; the connection's own state says more.
  }
  listRooms();
}

let unread = 0;
function showUnread(more) {
  unread = more ? unread + more : 0;
  if (talk) document.title = `${unread ? `(${unread}) ` : ''}#${talk.room} · Chorus`;
}

// --- names ------------------------------------------------------------------------------------------

function askName(complaint = '') {
  talk?.leave();
  talk = null;
  closePanels();
  at('app').hidden = true;
  at('welcome').hidden = false;
  at('name').value = me.username || stored.get('name', 'localStorage') || '';
  at('room').value = roomOfAddress() ?? 'lobby';
  at('enter-error').hidden = !complaint;
  at('enter-error').textContent = complaint;
  at('name').focus();
}

function begin(room) {
  at('welcome').hidden = true;
  at('app').hidden = false;
  at('me-name').textContent = me.username;
  paintAvatar(at('me-avatar'), me);
  enterRoom(room);
  at('message').focus();
}

at('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  me.username = at('name').value.trim();
  if (!me.username) {
    at('name').focus();
    return;
  }
  stored.set('name', me.username);
  stored.set('name', me.username, 'localStorage');
  begin(at('room').value.trim());
});
at('leave').addEventListener('click', () => askName());
at('other-room').addEventListener('submit', (event) => {
  event.preventDefault();
  location.hash = at('other').value.trim();
  at('other').value = '';
});
addEventListener('hashchange', () => {
  const room = roomOfAddress();
  if (!room || !talk) return;
  enterRoom(room);
  closePanels();
  at('message').focus();
});

// --- writing ----------------------------------------------------------------------------------------

const box = at('message');

function fitBox() {
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight + 2}px`;
  at('send').disabled = box.value.trim() === '';
  const left = box.maxLength - box.value.length;
  at('count').textContent = left <= 200 ? `${left} left` : '';
}

box.addEventListener('input', () => {
  fitBox();
  talk?.typed(box.value);
});
box.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at('composer').requestSubmit();
  }
});
at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text || !talk) return;
  try {
    talk.say(text);
  } catch (error) {
    log.notice(error instanceof QueueFullError
      ? 'Too much waits for the connection already; try again when it is back.'
      : error.message, 'warn');
    return;
  }
  box.value = '';
  fitBox();
  box.focus();
});
at('retry').addEventListener('click', () => {
  if (!talk) return;
  if (talk.client.state === 'closed') enterRoom(talk.room);
  else talk.client.connect();
});

// --- panels of a narrow window ----------------------------------------------------------------------

const panels = [['show-rooms', 'rooms-panel'], ['show-people', 'people-panel']];
function closePanels() {
  for (const [button, panel] of panels) {
    at(panel).classList.remove('shown');
    at(button).setAttribute('aria-expanded', 'false');
  }
  at('shade').hidden = true;
}
for (const [button, panel] of panels) {
  at(button).addEventListener('click', () => {
    const show = !at(panel).classList.contains('shown');
    closePanels();
    if (!show) return;
    at(panel).classList.add('shown');
    at(button).setAttribute('aria-expanded', 'true');
    at('shade').hidden = false;
    at(panel).querySelector('a[href^="#"], a, button')?.focus();
  });
}
at('shade').addEventListener('click', closePanels);
addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  const open = panels.find(([, panel]) => at(panel).classList.contains('shown'));
  closePanels();
  if (open) at(open[0]).focus();
});
document.addEventListener('visibilitychange', () => { if (!document.hidden) showUnread(0); });
setInterval(() => { if (!document.hidden && talk) refreshRooms(); }, 10_000);

if (me.username) begin(roomOfAddress() ?? 'lobby');
else askName();
