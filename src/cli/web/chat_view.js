// What the chat page shows. Nothing that a user wrote is ever taken for markup: all of it goes in as
// text nodes.

/** @param {string} name @param {object} [attributes] @param {...(Node|string)} children */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key === 'class') made.className = value;
    else if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const longDate = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const TOGETHER = 5 * 60_000; // messages of one author within this time stand under one name
const MAX_SHOWN = 1000;

function initials(name) {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((word) => [...word][0] ?? '').join('').toUpperCase();
}

function hue(id) {
  let sum = 7;
  for (const c of id) sum = (sum * 31 + c.codePointAt(0)) % 997;
  return (sum * 47) % 360;
}

export function paintAvatar(avatar, { user_id: id, username }) {
  avatar.textContent = initials(username);
  avatar.style.setProperty('--hue', hue(id));
}

function avatarOf(user) {
  const avatar = element('span', { class: 'avatar', 'aria-hidden': 'true' });
  paintAvatar(avatar, user);
  return avatar;
}

// Links become links: only http and https, only what a text says literally.
function linked(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(/https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g)) {
    let url;
    try {
      url = new URL(found[0]);
    } catch {
      continue;
    }
    parts.push(text.slice(end, found.index),
      element('a', { href: url.href, rel: 'noopener noreferrer nofollow', target: '_blank' }, found[0]));
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

/** The list of messages. Stays at the end as long as the reader is there. */
export class Log {
  #list;
  #latest;
  #last = null; // of the entries: who and when, to put messages together
  #day = '';
  #atEnd = true;

  constructor(list, latest) {
    this.#list = list;
    this.#latest = latest;
    list.addEventListener('scroll', () => {
      this.#atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
      if (this.#atEnd) latest.hidden = true;
    }, { passive: true });
    latest.addEventListener('click', () => {
      this.toEnd();
      list.focus({ preventScroll: true });
    });
    new ResizeObserver(() => { if (this.#atEnd) this.toEnd(); }).observe(list);
  }

  clear() {
    this.#list.replaceChildren();
    this.#last = null;
    this.#day = '';
    this.toEnd();
  }

  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#atEnd = true;
    this.#latest.hidden = true;
  }

  /** @returns {HTMLElement} */
  message({ user_id: id, username, message, timestamp }, own) {
    const at = new Date(timestamp);
    this.#dayOf(at);
    const follows = this.#last?.id === id && this.#last.name === username && at - this.#last.at < TOGETHER;
    this.#last = { id, name: username, at };
    const entry = element('article', { class: `entry${own ? ' own' : ''}${follows ? ' follows' : ''}` },
      avatarOf({ user_id: id, username }),
      element('div', { class: 'body' },
        element('div', { class: 'who' },
          element('bdi', {}, own ? 'You' : username),
          element('time', { datetime: timestamp, title: at.toLocaleString() }, clock.format(at))),
        element('span', { class: 'text', dir: 'auto' }, ...linked(message))));
    this.#add(entry, own);
    return entry;
  }

  /** A line of the page's own. @param {''|'event'|'strong'|'warn'} kind */
  notice(text, kind = '') {
    this.#dayOf(new Date());
    this.#last = null;
    this.#add(element('p', { class: `notice ${kind}` }, element('span', { dir: 'auto' }, text)), false);
  }

  #dayOf(at) {
    const day = at.toDateString();
    if (day === this.#day) return;
    this.#day = day;
    this.#last = null;
    const today = day === new Date().toDateString();
    this.#add(element('p', { class: 'notice day' }, today ? 'Today' : longDate.format(at)), false);
  }

  #add(node, own) {
    const stay = this.#atEnd || own;
    this.#list.append(node);
    while (this.#list.childElementCount > MAX_SHOWN) this.#list.firstElementChild.remove();
    if (stay) this.toEnd();
    else this.#latest.hidden = false;
  }
}

/** Says under an own message what became of it; no text for a delivered one. */
export function markDelivery(entry, state, again) {
  entry.dataset.delivery = state;
  entry.querySelector('.delivery')?.remove();
  if (state === 'failed') {
    entry.querySelector('.body').append(element('span', { class: 'delivery failed' }, 'Not delivered. ',
      element('button', { type: 'button', onclick: again }, 'Send again')));
  } else if (state === 'waiting') {
    entry.querySelector('.body').append(element('span', { class: 'delivery' }, 'Waits for the connection'));
  }
}

/** @param {HTMLElement} list @param {Map<string, string>} users  Names by id. */
export function showPeople(list, users, ownId) {
  const rows = [...users].sort(([a, an], [b, bn]) =>
    (b === ownId) - (a === ownId) || an.localeCompare(bn));
  list.replaceChildren(...rows.map(([id, name]) => element('li', {},
    avatarOf({ user_id: id, username: name }), element('bdi', {}, name),
    ...(id === ownId ? [element('span', { class: 'you' }, 'you')] : []))));
}

/** @param {{name: string, users: number}[]} rooms */
export function showRooms(list, rooms, current) {
  const focused = list.contains(document.activeElement) ? document.activeElement.hash : null;
  list.replaceChildren(...rooms.map(({ name, users }) => element('li', {},
    element('a', { href: `#${name}`, 'aria-current': name === current ? 'page' : undefined },
      element('span', { class: 'name' }, name),
      ...(users ? [element('span', { class: 'users' }, String(users),
        element('span', { class: 'unseen' }, users === 1 ? ' person' : ' people'))] : [])))));
  for (const link of list.querySelectorAll('a')) if (focused && link.hash === focused) link.focus();
}

/** "Ada is typing…" @param {string[]} names */
export function typingSentence(names) {
  if (names.length === 0) return '';
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return 'Several people are typing…';
}
