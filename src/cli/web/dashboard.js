// The dashboard: asks for /dashboard/stats.json once a second and draws the last two minutes.
const at = (id) => document.getElementById(id);
const EVERY = 1000;
const KEPT = 121; // samples
const FEWEST = 31; // that a chart is wide: it grows with what is known
const SVG = 'http://www.w3.org/2000/svg';

const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return [n < 10 && unit ? n.toFixed(1) : count.format(n), units[unit]];
}
bytes.least = 1024;
const plain = (n) => [n < 10_000 ? count.format(n) : short.format(n), ''];
const perSecond = (n) => [n < 10 && n % 1 ? n.toFixed(1) : plain(n)[0], '/s'];
const duration = (n) => (n < 1 ? [count.format(n * 1000), 'µs'] : [n < 10 ? n.toFixed(1) : count.format(n), 'ms']);

// Each series takes a value from a sample, or from two of them in a row (a rate).
const value = (take) => (s) => take(s);
const rate = (take) => (s, before) =>
  (before && s.run === before.run && s.time > before.time
    ? Math.max(0, (take(s) - take(before)) / (s.time - before.time)) : undefined);

const charts = [
  { title: 'Connections', format: plain, series: [['open', value((s) => s.server.connections)]] },
  { title: 'Messages', format: perSecond, series: [
    ['received', rate((s) => s.server.messages_received)], ['sent', rate((s) => s.server.messages_sent)]] },
  { title: 'Round trip', format: duration, series: [
    ['p50', value((s) => s.round_trip_ms.p50)], ['p90', value((s) => s.round_trip_ms.p90)],
    ['p99', value((s) => s.round_trip_ms.p99)]] },
  { title: 'Queues', format: bytes, series: [
    ['all', value((s) => s.queues.bytes)], ['longest', value((s) => s.queues.longest_bytes)]] },
  { title: 'Drops and evictions', format: perSecond, series: [
    ['dropped', rate((s) => s.server.messages_dropped)], ['evicted', rate((s) => s.server.evicted)]] },
  { title: 'Arrivals and refusals', format: perSecond, series: [
    ['upgraded', rate((s) => s.server.upgraded)],
    ['refused', rate((s) => s.server.refused_limit + s.server.refused_other)],
    ['failed', rate((s) => s.server.handshakes_failed)]] },
];

const totals = [
  ['Connections accepted', 'accepted'], ['Sessions opened', 'upgraded'],
  ['Messages received', 'messages_received'], ['Messages sent', 'messages_sent'],
  ['Resumed without a gap', 'resumes_recovered'], ['Resumed with a gap', 'resumes_lost'],
  ['Messages dropped', 'messages_dropped'], ['Sessions evicted', 'evicted'],
  ['Refused by a limit', 'refused_limit'], ['Refused otherwise', 'refused_other'],
  ['Handshakes failed', 'handshakes_failed'], ['Handlers failed', 'handler_failures'],
];

const brokerTotals = [
  ['Commands', 'commands'], ['Received', 'received'], ['Waiting for an answer', 'waiting'],
  ['Connections lost', 'disconnects'], ['Refused while away', 'refused'], ['Possible losses read again', 'gaps'],
];

function element(name, className, text = '') {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function shape(name, className) {
  const made = document.createElementNS(SVG, name);
  made.setAttribute('class', className);
  return made;
}

// The next round number that a scale may end with.
function ceiling(n) {
  if (!(n > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 4, 5, 8, 10].find((step) => step * power >= n * 1.05) * power || 10 * power;
}

class Chart {
  constructor({ title, format, series }) {
    Object.assign(this, { title, format, series, values: series.map(() => []) });
    this.tile = element('article', 'tile');
    this.now = element('div', 'now');
    this.numbers = series.map(([name], i) => {
      const box = element('div', `s${i}`);
      const value = element('span', 'value', '–');
      const unit = element('span', 'unit');
      const line = element('div');
      line.append(value, unit);
      box.append(line, element('div', 'name', name));
      this.now.append(box);
      return { value, unit };
    });
    const plot = element('div', 'plot');
    this.svg = shape('svg', '');
    this.svg.setAttribute('preserveAspectRatio', 'none');
    this.svg.setAttribute('role', 'img');
    for (const y of [0, 50, 100]) {
      const line = shape('path', 'grid');
      line.setAttribute('d', `M0 ${y}H${KEPT}`);
      this.svg.append(line);
    }
    this.lines = series.map((_, i) => {
      const area = shape('path', `area s${i}`);
      const line = shape('path', `line s${i}`);
      this.svg.append(area, line);
      return { area, line };
    });
    this.max = element('span', 'scale max');
    plot.append(this.svg, this.max);
    const axis = element('div', 'axis');
    this.since = element('span');
    axis.append(this.since, element('span', '', 'now'));
    this.tile.append(element('h2', '', title), this.now, plot, axis);
  }

  add(sample, before) {
    this.series.forEach(([, take], i) => {
      this.values[i].push(take(sample, before));
      if (this.values[i].length > KEPT) this.values[i].shift();
    });
    this.draw();
  }

  draw() {
    const top = ceiling(Math.max(this.format.least ?? 0, ...this.values.flat().filter((v) => v !== undefined)));
    this.max.textContent = this.format(top).join(' ').trim();
    const width = Math.max(FEWEST, this.values[0].length) - 1;
    this.svg.setAttribute('viewBox', `0 0 ${width} 100`);
    this.since.textContent = width < 120 ? `${width} seconds ago` : '2 minutes ago';
    const said = [];
    this.values.forEach((values, i) => {
      const last = values.at(-1);
      const [text, unit] = last === undefined ? ['–', ''] : this.format(last);
      this.numbers[i].value.textContent = text;
      this.numbers[i].unit.textContent = unit;
      said.push(`${this.series[i][0]} ${text} ${unit}`.trim());
      const { line, area } = this.lines[i];
      const { open, closed } = this.path(values, top, width);
      line.setAttribute('d', open);
      area.setAttribute('d', closed);
    });
    this.svg.setAttribute('aria-label', `${this.title}: ${said.join(', ')}`);
  }

  // Lines between neighbours; what is unknown leaves a gap.
  path(values, top, width) {
    let open = '';
    let closed = '';
    let begin = -1;
    const first = width + 1 - values.length;
    const x = (k) => first + k;
    const y = (v) => (100 - (v / top) * 100).toFixed(2);
    for (let k = 0; k <= values.length; k++) {
      if (k < values.length && values[k] !== undefined) {
        if (begin < 0) {
          begin = k;
          closed += `M${x(k)} 100`;
        }
        open += `${begin === k ? 'M' : 'L'}${x(k)} ${y(values[k])}`;
        closed += `L${x(k)} ${y(values[k])}`;
      } else if (begin >= 0) {
        closed += `L${x(k - 1)} 100Z`;
        begin = -1;
      }
    }
    return { open, closed };
  }
}

const drawn = charts.map((chart) => new Chart(chart));
at('charts').append(...drawn.map((chart) => chart.tile));

function showTables(sample) {
  at('rooms').replaceChildren(...sample.rooms.map((room) => {
    const row = element('tr');
    const name = element('th', '', room.name);
    name.scope = 'row';
    row.append(name, ...['users', 'published', 'deliveries', 'dropped', 'evicted'].map((key) =>
      element('td', '', count.format(room[key]))));
    return row;
  }));
  at('no-rooms').hidden = sample.rooms.length > 0;
  at('totals').replaceChildren(...totals.flatMap(([label, key]) =>
    [element('dt', '', label), element('dd', '', count.format(sample.server[key]))]));
}

// Older servers say nothing of it.
function showBroker(broker) {
  at('broker').hidden = !broker;
  if (!broker) return;
  at('broker-state').textContent = `${broker.engine}: ${broker.connected ? 'connected' : `away (${broker.why || 'no connection'})`}`;
  at('broker-totals').replaceChildren(...brokerTotals.flatMap(([label, key]) =>
    [element('dt', '', label), element('dd', '', count.format(broker[key]))]));
}

function tell(state, text) {
  const status = at('status');
  if (status.textContent === text) return;
  status.textContent = text;
  status.dataset.state = state;
}

let before;
let paused = false;
let wait = EVERY;

async function look() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch('/dashboard/stats.json', { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const sample = await answer.json();
      if (sample.time !== before?.time || sample.run !== before?.run) {
        for (const chart of drawn) chart.add(sample, before);
        showTables(sample);
        showBroker(sample.broker);
        before = sample;
      }
      tell('open', 'Live');
      wait = EVERY;
    } catch {
      tell('disconnected', 'The server does not answer; still trying');
      wait = Math.min(wait * 1.5, 10_000);
    }
  }
  setTimeout(look, wait);
}

at('pause').addEventListener('click', () => {
  paused = !paused;
  at('pause').setAttribute('aria-pressed', String(paused));
  at('pause').textContent = paused ? 'Go on' : 'Pause';
  tell(paused ? 'connecting' : 'open', paused ? 'Paused' : 'Live');
});
look();
