/**
 * A WebSocket client that comes back by itself, for browsers and for Node 18 or later.
 *
 *   import { Client, Rpc } from './chorus.js';
 *   const client = new Client('wss://example.org/ws/chat/lobby');
 *   client.addEventListener('message', (e) => console.log(e.data));
 *   client.send('hello');                      // queued until there is a connection
 *
 * It reconnects with exponential backoff and full jitter, waits as long as a server's `retry-after=`
 * asks, keeps what is sent meanwhile in a bounded queue, and with a server that speaks the subprotocol
 * `chorus.v1` gets what its rooms published while it was away: in order, nothing twice, or it says that
 * this can't be done. docs/javascript.md explains it with examples. No dependencies.
 *
 * @module chorus
 */

/** The subprotocol of docs/protocol.md. */
export const RESUME_PROTOCOL = 'chorus.v1';

/** Close codes of a server after which trying again the same way can't succeed. */
const FATAL_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);
const ACK_MESSAGES = 64;
const ACK_DELAY = 1000;
const FIRST_PING = 500; // after opening, when what the opening brought has been worked off
const MAX_CLIENT_HEADER = 16 * 1024; // bytes
const MAX_SERVER_HEADER = 1024;
const MAX_ROOMS = 256;
const MAX_RETRY_AFTER = 3600_000;
const WORTH_TRUSTING = 1000; // milliseconds that a server may ask for again and again
const LINE_FEED = 10;

/**
 * @typedef {'idle'|'connecting'|'open'|'disconnected'|'closed'} State
 * `idle`: not told to connect yet. `connecting`: an attempt is under way. `disconnected`: waiting for
 * the next attempt. `closed`: ended for good, by `close()` or by a fatal close of the server.
 */

/** @typedef {{epoch: string, offset: number}} Position */

/**
 * @typedef {object} Heartbeat  A round trip by messages of the application, where the server answers
 *   them; a browser's script can't send WebSocket pings.
 * @property {number} [interval=15000]  Milliseconds from one ping to the next.
 * @property {number} [timeout=10000]  The connection is given up when no answer came for this long.
 * @property {(id: number) => (string|Uint8Array)} make  Makes the ping with this number.
 * @property {(data: string|Uint8Array) => (number|undefined)} match  The number in a pong; nothing for
 *   any other message. What matches is not given to the application.
 */

/**
 * @typedef {object} ClientOptions
 * @property {string[]} [protocols]  Subprotocols to offer, after `chorus.v1`.
 * @property {boolean|'auto'} [resume='auto']  Offer `chorus.v1`. A browser gives up a connection whose
 *   server selects none of the offered subprotocols. So `true` is for servers that speak it, and 'auto'
 *   tries again at once without the offer when the very first attempt with it failed.
 * @property {boolean} [autoConnect=true]  Connect at once; else at `connect()`.
 * @property {number} [initialDelay=500]  The backoff's first bound in milliseconds.
 * @property {number} [maxDelay=30000]  Its cap.
 * @property {number} [factor=2]  What it grows by.
 * @property {number} [provenAfter=5000]  A connection has proven itself, and the backoff starts over,
 *   when it was open for this many milliseconds.
 * @property {number} [connectTimeout=10000]  An attempt is given up after this many milliseconds.
 * @property {number} [maxAttempts=Infinity]  In a row without a proven connection; then it closes.
 * @property {number} [maxQueuedMessages=1000]  Bound of the queue while there is no connection.
 * @property {number} [maxQueuedBytes=1048576]  The same in bytes, and the bound of what an open
 *   connection may hold back.
 * @property {'throw'|'drop-oldest'} [onFull='throw']  What `send` does when the queue is full: throw a
 *   QueueFullError, or drop the oldest and tell by a `dropped` event.
 * @property {Heartbeat} [heartbeat]
 * @property {Record<string, Position>} [positions]  Where to resume, from an earlier `positions()`.
 * @property {string} [clientId]  16 to 64 letters and digits; drawn at random when not given. To be
 *   kept together with `positions`.
 * @property {(close: {code: number, reason: string, opened: boolean}) => boolean} [isFatal]  Ends the
 *   client for good. By default the codes 1002, 1003, 1007, 1008, 1009 and 1010 do.
 * @property {typeof WebSocket} [WebSocket]  Needed where there is no global one, such as `ws` in Node.
 * @property {() => number} [random]  In [0, 1); for tests.
 */

/** Thrown by `send` when the queue of what waits for a connection is full. */
export class QueueFullError extends Error {
  constructor() {
    super('the queue is full: wait for "open", send less, or raise maxQueuedMessages and maxQueuedBytes');
    this.name = 'QueueFullError';
  }
}

/** Thrown by `send` and `connect` after the client has ended. */
export class ClosedError extends Error {
  constructor(why = 'the client is closed') {
    super(why);
    this.name = 'ClosedError';
  }
}

/** What a Client dispatches: an Event whose members are those that its type is listed with. */
export class ClientEvent extends Event {
  /** @param {string} type @param {object} [members] */
  constructor(type, members = {}) {
    super(type);
    Object.assign(this, members);
  }
}

/**
 * A connection that comes back by itself.
 *
 * Events, with their members:
 * - `state` {state}: after each change, before the event of the same name.
 * - `connecting` {attempt}: an attempt begins, the first is 1.
 * - `open` {protocol, resuming, reconnected}: connected. `resuming`: the server speaks `chorus.v1`.
 * - `message` {data, room, offset, epoch}: `data` is a string or a Uint8Array. The others are undefined
 *   for what was not published to a room, or without `chorus.v1`.
 * - `joined` {room, recovered, missed, why} and `left` {room}: membership, under `chorus.v1`.
 * - `recovered` {room, recovered, missed, why}: the answer to a position that this client had named.
 *   True: the next `missed` messages are what was missed. False: there is a gap, `why` says from what.
 * - `roundtrip` {milliseconds}: a heartbeat was answered.
 * - `disconnected` {code, reason, opened, retryIn, attempt}: lost, or an attempt failed. The next one
 *   begins in `retryIn` milliseconds.
 * - `closed` {code, reason, why}: ended for good.
 * - `dropped` {data}: pushed out of the full queue.
 * - `error` {error}: `match` or an interceptor threw, or the server broke the protocol; for a log.
 */
export class Client extends EventTarget {
  #url;
  #options;
  #WebSocket;
  /** @type {WebSocket|null} */ #socket = null;
  /** @type {State} */ #state = 'idle';
  #attempts = 0;
  #connections = 0;
  #resuming = false;
  #offers = true;
  #offersProven = false;
  #queue = [];
  #queuedBytes = 0;
  /** @type {Map<string, Position>} */ #positions = new Map();
  /** @type {Map<string, {offset: number, count: number}>} */ #unacknowledged = new Map();
  #timers = {};
  #waitIsAsked = false;
  #roundTrip = undefined;
  #ping = { id: 0, sent: 0, waiting: false };
  #unlisten = () => {};
  #interceptors = new Set();

  /**
   * @param {string|URL|(() => string|URL)} url  A function is asked before each attempt, for a fresh
   *   token for example.
   * @param {ClientOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#url = typeof url === 'function' ? url : () => url;
    this.#options = {
      protocols: [], resume: 'auto', autoConnect: true, initialDelay: 500, maxDelay: 30_000, factor: 2,
      provenAfter: 5000, connectTimeout: 10_000, maxAttempts: Infinity, maxQueuedMessages: 1000,
      maxQueuedBytes: 1 << 20, onFull: 'throw', random: Math.random,
      isFatal: ({ code }) => FATAL_CODES.has(code), ...options,
    };
    this.#WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError('there is no global WebSocket here: give one, new Client(url, {WebSocket})');
    }
    /** Names this client across its reconnects; no proof of identity. */
    this.clientId = this.#options.clientId ?? randomId();
    for (const [room, at] of Object.entries(this.#options.positions ?? {})) {
      this.#move(room, { epoch: at.epoch, offset: at.offset });
    }
    this.#offers = this.#options.resume !== false;
    this.#offersProven = this.#options.resume !== 'auto';
    if (this.#options.autoConnect) this.connect();
  }

  /** @returns {State} */
  get state() { return this.#state; }
  /** Messages that wait for a connection. */
  get queued() { return this.#queue.length; }
  /** The last round trip in milliseconds; undefined before the first. */
  get roundTrip() { return this.#roundTrip; }
  /** How many connections there have been. */
  get connections() { return this.#connections; }
  /** Whether the connection speaks `chorus.v1`. */
  get resuming() { return this.#resuming; }

  /**
   * Where this client is in each room that keeps history: what to give as `positions`, together with
   * `clientId`, to a later client that goes on from here.
   * @returns {Record<string, Position>}
   */
  positions() {
    return Object.fromEntries([...this.#positions].map(([room, at]) => [room, { ...at }]));
  }

  /** Connects now: begins, or cuts the wait for the next attempt short. Nothing while it is open. */
  connect() {
    if (this.#state === 'closed') throw new ClosedError();
    if (this.#state === 'connecting' || this.#state === 'open') return;
    if (this.#state === 'idle') this.#listenToPage();
    this.#attempt();
  }

  /**
   * Sends a message, or queues it until there is a connection. Delivery is at most once: what was handed
   * to a connection that is lost then is not sent again.
   * @param {string|ArrayBuffer|ArrayBufferView} data  Text or bytes; bytes are copied.
   * @param {{signal?: AbortSignal, onSent?: (connection: number) => void}} [options]  Aborting takes the
   *   message out of the queue. `onSent` is called when it is handed to a connection, with its number.
   * @throws {QueueFullError|ClosedError}
   */
  send(data, { signal, onSent } = {}) {
    if (this.#state === 'closed') throw new ClosedError();
    signal?.throwIfAborted();
    const payload = typeof data === 'string' ? data : bytesOf(data).slice();
    if (this.#state === 'open' && this.#queue.length === 0) {
      if (this.#socket.bufferedAmount > this.#options.maxQueuedBytes) throw new QueueFullError();
      this.#hand(payload);
      onSent?.(this.#connections);
      return;
    }
    const item = { payload, size: sizeOf(payload), onSent };
    // One that would not fit into the empty queue pushes nothing out.
    if (item.size > this.#options.maxQueuedBytes) throw new QueueFullError();
    while (!this.#fits(item)) {
      if (this.#options.onFull !== 'drop-oldest' || this.#queue.length === 0) throw new QueueFullError();
      const oldest = this.#queue[0];
      this.#unqueue(oldest);
      this.#emit('dropped', { data: oldest.payload });
    }
    item.abort = () => this.#unqueue(item);
    item.signal = signal;
    signal?.addEventListener('abort', item.abort, { once: true });
    this.#queue.push(item);
    this.#queuedBytes += item.size;
  }

  /**
   * Ends the client for good; what is queued is lost.
   * @param {number} [code=1000]  1000, or 3000 to 4999.
   * @param {string} [reason]
   */
  close(code = 1000, reason = '') {
    if (this.#state === 'closed') return;
    const socket = this.#socket;
    this.#acknowledgeAll();
    this.#forgetSocket();
    this.#end(code, reason, 'closed by this side');
    try {
      socket?.close(code, reason);
    } catch {
      socket?.close();
    }
  }

  /**
   * Sees each message before its `message` event, which there is only when nobody has taken it.
   * @param {(data: string|Uint8Array, from: {room?: string}) => boolean} take  True: taken. `room` names
   *   where the message was published, under `chorus.v1`.
   * @returns {() => void}  Stops it.
   */
  intercept(take) {
    this.#interceptors.add(take);
    return () => this.#interceptors.delete(take);
  }

  // --- connecting ----------------------------------------------------------------------------------

  #attempt() {
    this.#clear('retry');
    this.#waitIsAsked = false;
    this.#attempts++;
    this.#begin();
  }

  #begin() {
    this.#enter('connecting', { attempt: this.#attempts });
    if (this.#state !== 'connecting') return; // a listener closed it
    const { protocols, connectTimeout } = this.#options;
    const offered = this.#offers ? [RESUME_PROTOCOL, ...protocols] : protocols;
    let socket;
    try {
      const url = String(this.#url());
      socket = offered.length ? new this.#WebSocket(url, offered) : new this.#WebSocket(url);
    } catch (error) {
      // An unusable URL stays one.
      this.#end(1006, '', error.message);
      return;
    }
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    let opened = false;
    const current = () => socket === this.#socket;
    socket.onopen = () => {
      if (!current()) return;
      opened = true;
      this.#opened(socket);
    };
    socket.onmessage = (event) => { if (current()) this.#received(event.data); };
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => { if (current()) this.#lost(code, String(reason), opened); };
    this.#after('connect', connectTimeout, () => {
      this.#abandon('the attempt took too long', false);
    });
  }

  #opened(socket) {
    this.#clear('connect');
    this.#connections++;
    this.#resuming = socket.protocol === RESUME_PROTOCOL;
    this.#offersProven = true; // or that they are of no use
    this.#ping.waiting = false;
    this.#after('proven', this.#options.provenAfter, () => { this.#attempts = 0; });
    if (this.#resuming) {
      socket.send(helloOf(this.clientId, this.#positions));
    }
    this.#enter('open', { protocol: socket.protocol, resuming: this.#resuming,
      reconnected: this.#connections > 1 });
    while (socket === this.#socket && this.#queue.length) {
      const item = this.#queue[0];
      this.#unqueue(item);
      this.#hand(item.payload);
      item.onSent?.(this.#connections);
    }
    if (socket === this.#socket) this.#beat(FIRST_PING);
  }

  // The peer does not answer: waits no longer, not even for its close.
  #abandon(why, opened) {
    const socket = this.#socket;
    this.#forgetSocket();
    try {
      socket.close();
    } catch {
      // Closing while connecting is an error to some implementations; it is dropped all the same.
    }
    this.#lost(1006, why, opened);
  }

  #forgetSocket() {
    const socket = this.#socket;
    this.#socket = null;
    this.#resuming = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // Node's ws throws what nobody listens to
  }

  #lost(code, reason, opened) {
    this.#forgetSocket();
    for (const name of ['connect', 'proven', 'beat', 'pong', 'ack']) this.#clear(name);
    this.#unacknowledged.clear();
    if (!opened && !this.#offersProven) {
      this.#offers = !this.#offers;
      if (!this.#offers) {
        this.#begin();
        return;
      }
    }
    const { isFatal, maxAttempts, initialDelay, maxDelay, factor, random } = this.#options;
    if (isFatal({ code, reason, opened })) {
      this.#end(code, reason, 'the server closed the connection for good');
      return;
    }
    if (this.#attempts >= maxAttempts) {
      this.#end(code, reason, `no proven connection in ${this.#attempts} attempts`);
      return;
    }
    const asked = retryAfter(reason);
    const bound = Math.min(maxDelay, initialDelay * factor ** Math.max(0, this.#attempts - 1));
    const own = random() * bound;
    // A server that says "at once" again and again must not keep the client spinning.
    const retryIn = asked < WORTH_TRUSTING && this.#attempts > 1 ? Math.max(asked, own) : asked ?? own;
    this.#waitIsAsked = asked !== undefined;
    this.#after('retry', retryIn, () => this.#attempt());
    this.#enter('disconnected', { code, reason, opened, retryIn, attempt: this.#attempts });
  }

  #end(code, reason, why) {
    for (const name of Object.keys(this.#timers)) this.#clear(name);
    this.#unlisten();
    for (const item of [...this.#queue]) this.#unqueue(item);
    this.#enter('closed', { code, reason, why });
  }

  // A page that is shown again, or a network that is back, is the moment to look.
  #listenToPage() {
    const page = globalThis.document;
    const network = typeof globalThis.addEventListener === 'function' ? globalThis : undefined;
    // An open connection is asked whether it still is one.
    const ask = () => { if (this.#state === 'open') this.#beat(0); };
    const look = () => {
      if (this.#state === 'disconnected' && !this.#waitIsAsked) this.#attempt();
      else ask();
    };
    const shown = () => { if (page.visibilityState === 'visible') look(); };
    page?.addEventListener('visibilitychange', shown);
    network?.addEventListener('online', look);
    network?.addEventListener('offline', ask);
    network?.addEventListener('pageshow', look);
    this.#unlisten = () => {
      page?.removeEventListener('visibilitychange', shown);
      network?.removeEventListener('online', look);
      network?.removeEventListener('offline', ask);
      network?.removeEventListener('pageshow', look);
    };
  }

  // --- messages ------------------------------------------------------------------------------------

  #hand(payload) {
    this.#socket.send(this.#resuming ? withHeader({ t: 'msg' }, payload) : payload);
  }

  #received(raw) {
    const data = typeof raw === 'string' ? raw : bytesOf(raw);
    if (!this.#resuming) {
      this.#deliver(data, {});
      return;
    }
    const parts = split(data);
    if (!parts) {
      this.#violated('a message without a well-formed header');
      return;
    }
    const { header, payload } = parts;
    switch (header.t) {
      case 'msg': this.#published(header, payload); break;
      case 'joined': this.#joined(header); break;
      case 'left':
        if (typeof header.room !== 'string') { this.#violated('a "left" without a room'); break; }
        this.#positions.delete(header.room);
        this.#unacknowledged.delete(header.room);
        this.#emit('left', { room: header.room });
        break;
      default: // a newer server's
    }
  }

  #published({ room, epoch, offset }, payload) {
    if (payload === undefined || (offset !== undefined && (!isOffset(offset) || typeof room !== 'string'))) {
      this.#violated('a "msg" that lacks what it needs');
      return;
    }
    if (offset === undefined) {
      this.#deliver(payload, { room });
      return;
    }
    const at = this.#positions.get(room);
    const life = epoch ?? at?.epoch;
    if (typeof life !== 'string') {
      this.#violated('a "msg" with an offset in no epoch');
      return;
    }
    if (at && at.epoch === life && offset <= at.offset) return; // had it
    this.#move(room, { epoch: life, offset });
    const socket = this.#socket;
    this.#deliver(payload, { room, epoch: life, offset });
    if (socket === this.#socket) this.#processed(room, offset);
  }

  #joined({ room, epoch, offset, recovered, missed, why }) {
    const kept = epoch !== undefined;
    if (typeof room !== 'string' || (kept && (typeof epoch !== 'string' || !isOffset(offset)))) {
      this.#violated('a "joined" that lacks what it needs');
      return;
    }
    const at = this.#positions.get(room);
    const unnamed = at !== undefined && recovered === undefined; // the hello had no place for it
    // Nothing is amiss when all that follows the position follows.
    const whole = unnamed && at.epoch === epoch && offset <= at.offset;
    if (!kept) this.#positions.delete(room);
    else if (!whole) this.#move(room, { epoch, offset });
    this.#emit('joined', { room, recovered, missed, why });
    if (whole || (!unnamed && recovered === undefined)) return;
    const gap = why ?? (!kept ? 'no_history' : unnamed && at.epoch === epoch ? 'unnamed' : 'epoch');
    this.#emit('recovered', { room, recovered: recovered === true, missed,
      why: recovered === true ? undefined : gap });
  }

  #move(room, position) {
    this.#positions.delete(room); // to the end of the map: see helloOf
    this.#positions.set(room, position);
    if (this.#positions.size <= MAX_ROOMS) return;
    const [quiet] = this.#positions.keys();
    this.#positions.delete(quiet);
    this.#unacknowledged.delete(quiet);
  }

  #processed(room, offset) {
    const count = (this.#unacknowledged.get(room)?.count ?? 0) + 1;
    this.#unacknowledged.set(room, { offset, count });
    if (count >= ACK_MESSAGES) this.#acknowledge(room);
    else if (!this.#timers.ack) this.#after('ack', ACK_DELAY, () => this.#acknowledgeAll());
  }

  #acknowledge(room) {
    const { offset } = this.#unacknowledged.get(room);
    this.#unacknowledged.delete(room);
    this.#socket.send(JSON.stringify({ t: 'ack', room, offset }));
  }

  #acknowledgeAll() {
    this.#clear('ack');
    if (this.#state !== 'open') return;
    for (const room of [...this.#unacknowledged.keys()]) this.#acknowledge(room);
  }

  #deliver(data, from) {
    const { heartbeat } = this.#options;
    const pong = heartbeat && from.offset === undefined ? this.#asked(heartbeat.match, data) : undefined;
    if (pong !== undefined) {
      this.#pong(pong);
      return;
    }
    for (const take of this.#interceptors) if (this.#asked(take, data, from)) return;
    this.#emit('message', { data, ...from });
  }

  // What the application decides; when it throws, the message is not taken, and not lost.
  #asked(decide, ...about) {
    try {
      return decide(...about);
    } catch (error) {
      this.#emit('error', { error });
      return undefined;
    }
  }

  #violated(what) {
    const why = `the server sent ${what}`;
    this.#emit('error', { error: new Error(why) });
    const socket = this.#socket;
    if (!socket) return;
    this.#forgetSocket();
    try {
      socket.close(1002, why);
    } catch {
      socket.close(4002, why); // a browser's script may not say 1002
    }
    this.#lost(1002, why, true);
  }

  // --- heartbeat -----------------------------------------------------------------------------------

  #beat(delay) {
    const { heartbeat } = this.#options;
    if (!heartbeat) return;
    this.#after('beat', delay, () => {
      this.#beat(heartbeat.interval ?? 15_000);
      if (this.#ping.waiting) return;
      this.#ping = { id: this.#ping.id + 1, sent: performance.now(), waiting: true };
      this.#hand(heartbeat.make(this.#ping.id));
      this.#after('pong', heartbeat.timeout ?? 10_000, () => {
        this.#abandon('no answer to a ping', true);
      });
    });
  }

  #pong(id) {
    if (!this.#ping.waiting || id !== this.#ping.id) return;
    this.#ping.waiting = false;
    this.#clear('pong');
    this.#roundTrip = performance.now() - this.#ping.sent;
    this.#emit('roundtrip', { milliseconds: this.#roundTrip });
  }

  // --- small parts ---------------------------------------------------------------------------------

  #fits({ size }) {
    const { maxQueuedMessages, maxQueuedBytes } = this.#options;
    return this.#queue.length < maxQueuedMessages && this.#queuedBytes + size <= maxQueuedBytes;
  }

  #unqueue(item) {
    const at = this.#queue.indexOf(item);
    if (at < 0) return;
    this.#queue.splice(at, 1);
    this.#queuedBytes -= item.size;
    item.signal?.removeEventListener('abort', item.abort);
  }

  #enter(state, members) {
    this.#state = state;
    this.#emit('state', { state });
    if (this.#state === state) this.#emit(state, members);
  }

  #emit(type, members) { this.dispatchEvent(new ClientEvent(type, members)); }

  #after(name, delay, run) {
    this.#clear(name);
    this.#timers[name] = setTimeout(() => {
      delete this.#timers[name];
      run();
    }, delay);
  }

  #clear(name) {
    clearTimeout(this.#timers[name]);
    delete this.#timers[name];
  }
}

/** An `error` member of a JSON-RPC 2.0 response. A handler that throws one answers with it. */
export class RpcError extends Error {
  /** @param {number} code @param {string} message @param {*} [data] */
  constructor(code, message, data) {
    super(message);
    this.name = 'RpcError';
    this.code = code;
    this.data = data;
  }
}

/** A request that got no answer: `reason` is 'timeout', 'disconnected' or 'closed'. */
export class RpcFailure extends Error {
  /** @param {string} reason @param {string} message */
  constructor(reason, message) {
    super(message);
    this.name = 'RpcFailure';
    this.reason = reason;
  }
}

/**
 * JSON-RPC 2.0 in both directions over a Client. Its messages have no `message` event; all others go on
 * as before.
 */
export class Rpc {
  #client;
  #timeout;
  #prefix;
  #last = 0;
  #handlers = new Map();
  #pending = new Map();
  #running = 0;
  #maxRunning;

  /**
   * @param {Client} client
   * @param {{timeout?: number, maxRunning?: number}} [options]  `timeout`: milliseconds a request waits by
   *   default (10000). `maxRunning`: handlers that run at a time (256); more requests are refused.
   */
  constructor(client, { timeout = 10_000, maxRunning = 256 } = {}) {
    this.#client = client;
    this.#timeout = timeout;
    this.#maxRunning = maxRunning;
    this.#prefix = client.clientId.slice(0, 6);
    // What somebody published to a room is not the server's: it must call nothing here.
    client.intercept((data, { room }) => room === undefined && this.#received(data));
    client.addEventListener('disconnected', () => this.#failSent());
    client.addEventListener('connecting', () => this.#failSent()); // by a listener of `state`, at once
    client.addEventListener('closed', () => {
      this.#failAll(() => true, 'closed', 'the client was closed before the answer came');
    });
  }

  /**
   * Calls a method of the other side.
   * @param {string} method
   * @param {object|Array} [params]
   * @param {{timeout?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<*>}  The result. Rejects with RpcError (the other side's answer), RpcFailure (no
   *   answer in time, or the connection was lost: the method may have run or not), the signal's reason,
   *   or what `send` throws.
   */
  async request(method, params, options = {}) {
    const { message, answer } = this.#prepare(method, params, options);
    this.#post([message], message);
    return answer;
  }

  /** Tells the other side something that has no answer. @param {string} method @param {object|Array} [params] */
  notify(method, params) {
    this.#client.send(JSON.stringify(call(method, params)));
  }

  /**
   * Sends several calls as one message.
   * @param {{method: string, params?: object|Array, notify?: boolean}[]} calls
   * @param {{timeout?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<PromiseSettledResult<*>[]>}  One for each call that is no notification, in order.
   */
  async batch(calls, options = {}) {
    if (calls.length === 0) return [];
    const messages = [];
    const answers = [];
    for (const { method, params, notify } of calls) {
      if (notify) {
        messages.push(call(method, params));
        continue;
      }
      const { message, answer } = this.#prepare(method, params, options);
      messages.push(message);
      answers.push(answer);
    }
    const settled = Promise.allSettled(answers);
    this.#post(messages.filter((m) => m.id !== undefined), messages);
    return settled;
  }

  /**
   * Answers a method that the other side calls.
   * @param {string} method
   * @param {(params: *) => *} handler  May be async. What it throws is answered: an RpcError as it is,
   *   anything else as -32603 without its text.
   * @returns {() => void}  Takes the handler away again.
   */
  handle(method, handler) {
    this.#handlers.set(method, handler);
    return () => { if (this.#handlers.get(method) === handler) this.#handlers.delete(method); };
  }

  #prepare(method, params, { timeout = this.#timeout, signal }) {
    signal?.throwIfAborted();
    const id = `${this.#prefix}-${++this.#last}`;
    const entry = { connection: 0, cancel: new AbortController() };
    const answer = new Promise((resolve, reject) => {
      const finish = (settle) => (value) => {
        if (!this.#pending.delete(id)) return;
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        entry.cancel.abort(); // out of the queue, if it still waits there
        settle(value);
      };
      entry.resolve = finish(resolve);
      entry.reject = finish(reject);
      const aborted = () => entry.reject(signal.reason);
      signal?.addEventListener('abort', aborted, { once: true });
      const timer = setTimeout(() => {
        entry.reject(new RpcFailure('timeout', `no answer to ${method} in ${timeout} ms`));
      }, timeout);
      this.#pending.set(id, entry);
    });
    return { message: { ...call(method, params), id }, answer };
  }

  #post(requests, message) {
    const entries = requests.map(({ id }) => this.#pending.get(id));
    // A batch leaves the queue only when nobody waits for any part of it.
    const signal = entries.length === 1 && !Array.isArray(message) ? entries[0].cancel.signal : undefined;
    try {
      this.#client.send(JSON.stringify(message), {
        signal,
        onSent: (connection) => { for (const entry of entries) entry.connection = connection; },
      });
    } catch (error) {
      for (const entry of entries) entry.reject(error);
    }
  }

  #failSent() {
    this.#failAll((entry) => entry.connection > 0, 'disconnected',
      'the connection was lost before the answer came; the method may have run or not');
  }

  #failAll(which, reason, why) {
    for (const entry of [...this.#pending.values()]) {
      if (which(entry)) entry.reject(new RpcFailure(reason, why));
    }
  }

  #received(data) {
    if (typeof data !== 'string' || !/^\s*[[{]/.test(data)) return false;
    let parsed;
    try {
      parsed = JSON.parse(data);
    } catch {
      return false;
    }
    const ours = (m) => m !== null && typeof m === 'object' && m.jsonrpc === '2.0';
    if (Array.isArray(parsed) ? !parsed.some(ours) : !ours(parsed)) return false;
    this.#take(parsed);
    return true;
  }

  async #take(parsed) {
    const { connections } = this.#client;
    const all = Array.isArray(parsed) ? parsed : [parsed];
    const answers = (await Promise.all(all.map((m) => this.#one(m)))).filter((a) => a !== undefined);
    // An answer is for the connection that asked.
    if (!answers.length || this.#client.state !== 'open' || this.#client.connections !== connections) return;
    try {
      this.#client.send(JSON.stringify(Array.isArray(parsed) ? answers : answers[0]));
    } catch (error) {
      this.#client.dispatchEvent(new ClientEvent('error', { error }));
    }
  }

  async #one(m) {
    if (m === null || typeof m !== 'object' || m.jsonrpc !== '2.0') {
      return failed(null, -32600, 'this is no request of JSON-RPC 2.0');
    }
    if (m.method === undefined) {
      const entry = this.#pending.get(m.id);
      if (m.error) entry?.reject(new RpcError(m.error.code, m.error.message, m.error.data));
      else if ('result' in m) entry?.resolve(m.result);
      else entry?.reject(new RpcError(-32099, 'the answer has neither result nor error'));
      return undefined;
    }
    if (typeof m.method !== 'string') return failed(m.id ?? null, -32600, 'the method must be a string');
    const handler = this.#handlers.get(m.method);
    const quiet = m.id === undefined;
    if (!handler) return quiet ? undefined : failed(m.id, -32601, 'there is no such method');
    if (this.#running >= this.#maxRunning) {
      return quiet ? undefined : failed(m.id, -32000, 'too many requests at a time');
    }
    this.#running++;
    try {
      const result = await handler(m.params);
      return quiet ? undefined : { jsonrpc: '2.0', id: m.id, result: result ?? null };
    } catch (error) {
      if (quiet) this.#client.dispatchEvent(new ClientEvent('error', { error }));
      if (quiet) return undefined;
      if (error instanceof RpcError) return failed(m.id, error.code, error.message, error.data);
      return failed(m.id, -32603, 'the method failed');
    } finally {
      this.#running--;
    }
  }
}

function call(method, params) {
  return params === undefined ? { jsonrpc: '2.0', method } : { jsonrpc: '2.0', method, params };
}

function failed(id, code, message, data) {
  return { jsonrpc: '2.0', id, error: data === undefined ? { code, message } : { code, message, data } };
}

/** The wait that a close reason asks for, in milliseconds; undefined when it asks for none. */
function retryAfter(reason) {
  const found = /^retry-after=(\d+(?:\.\d+)?)/.exec(reason);
  return found ? Math.min(Number(found[1]) * 1000, MAX_RETRY_AFTER) : undefined;
}

// The latest to have moved are the last of the map; what is too much for a header is left out.
function helloOf(client, positions) {
  const rooms = {};
  let size = JSON.stringify({ t: 'hello', client, rooms }).length;
  for (const [room, at] of [...positions].reverse()) {
    size += new TextEncoder().encode(JSON.stringify({ [room]: at })).length - 1; // braces, a comma
    if (size > MAX_CLIENT_HEADER) break;
    Object.defineProperty(rooms, room, { value: at, enumerable: true }); // "__proto__" is a name, too
  }
  return JSON.stringify(positions.size ? { t: 'hello', client, rooms } : { t: 'hello', client });
}

function isOffset(value) { return Number.isSafeInteger(value) && value >= 0; }

function randomId() {
  const bytes = new Uint8Array(16);
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, i) => { bytes[i] = Math.random() * 256; }); // Node 18; it is no secret
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

/** @returns {Uint8Array} */
function bytesOf(data) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Uint8Array(data);
}

function sizeOf(payload) {
  return typeof payload === 'string' ? payload.length * 3 : payload.byteLength; // UTF-8 at its longest
}

function withHeader(header, payload) {
  const text = `${JSON.stringify(header)}\n`;
  if (typeof payload === 'string') return text + payload;
  const head = new TextEncoder().encode(text);
  const whole = new Uint8Array(head.length + payload.length);
  whole.set(head);
  whole.set(payload, head.length);
  return whole;
}

/** Header and payload of a message; nothing when the header is malformed. */
function split(data) {
  const text = typeof data === 'string';
  const at = text ? data.indexOf('\n') : data.indexOf(LINE_FEED);
  const head = at < 0 ? data : data.slice(0, at);
  if (head.length > MAX_SERVER_HEADER) return undefined;
  try {
    const header = JSON.parse(text ? head : new TextDecoder('utf-8', { fatal: true }).decode(head));
    if (header === null || typeof header !== 'object' || typeof header.t !== 'string') return undefined;
    const payload = at < 0 ? undefined : text ? data.slice(at + 1) : data.subarray(at + 1);
    return { header, payload };
  } catch {
    return undefined;
  }
}
