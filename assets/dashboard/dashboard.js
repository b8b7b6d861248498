'use strict';
const D = JSON.parse(document.getElementById('data').textContent);
const byIndex = new Map(D.latents.map(l => [l.index, l]));
const list = document.getElementById('list'), find = document.getElementById('find');
const sort = document.getElementById('sort'), main = document.getElementById('latent');

// Text becomes text nodes only.
function el(tag, name, ...inside) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  for (const one of inside) if (one !== null && one !== undefined) made.append(one);
  return made;
}
const number = v => v === null ? '—' : String(v);
const percent = d => d === 0 ? '0' : d >= 0.001 ? (100 * d).toFixed(2) + ' %' : d.toExponential(1);
const words = e => e[3].map(i => D.words[i]);
const link = i => byIndex.has(i) ? Object.assign(el('a', '', String(i)), {href: '#' + i}) : String(i);

function example(e, most) {
  const line = el('p');
  words(e).forEach((word, i) => {
    const token = el('span', i === e[2] ? 'peak' : '', word), value = e[4][i];
    if (value > 0) {
      const share = Math.round(8 + 72 * Math.min(1, value / most));
      token.style.background = `color-mix(in srgb, var(--fire) ${share}%, transparent)`;
      token.dataset.v = number(value);
    }
    line.append(token);
  });
  const value = el('b', '', number(e[4][e[2]]));
  value.title = `context ${e[0]}, token ${e[1]}`;
  return el('div', 'example', value, line);
}

function bars([edges, counts]) {
  if (!counts.length) return el('p', 'none', 'nothing');
  const most = Math.max(...counts.map(Math.sqrt)), row = el('div', 'bars');
  counts.forEach((n, i) => {
    const bar = el('i');
    bar.style.height = (100 * Math.sqrt(n) / most) + '%';
    bar.title = `${edges[i]} to ${edges[i + 1]}: ${n}`;
    row.append(bar);
  });
  const ends = el('div', 'ends', el('span', '', number(edges[0])), el('span', '', 'height: root of the count'),
    el('span', '', number(edges[edges.length - 1])));
  return el('div', '', row, ends);
}

function table(head, rows) {
  const t = el('table');
  t.append(el('tr', '', ...head.map(h => el('th', '', h))));
  for (const row of rows) t.append(row);
  return t;
}
const cells = (...all) => el('tr', '', ...all.map(c => el('td', '', c)));

function facts(l) {
  const all = [['fires in', percent(l.density)], ['rows', l.fired], ['mean when firing', number(l.mean)],
    ['largest', number(l.max)], ['decoder norm', number(l.norm)], ['lift of the label', number(l.lift)]];
  return el('dl', '', ...all.map(([name, value]) => el('div', '', el('dt', '', name), el('dd', '', String(value)))));
}

function logits(l) {
  if (!l.logits) return [el('p', 'none', 'What this dictionary writes is not added to the residual stream as it is.')];
  const [up, down, spread] = l.logits;
  const side = (name, tokens) => table(['token', 'logit'], tokens.map(([w, v]) => {
    const row = cells(D.words[w], number(v));
    row.lastChild.className = name;
    return row;
  }));
  return [el('div', 'wide', el('div', '', side('up', up)), el('div', '', side('down', down)), bars(spread))];
}

function show(l) {
  main.replaceChildren();
  const part = (title, ...inside) => main.append(el('section', '', el('h3', '', title), ...inside));
  main.append(el('h2', '', `Latent ${l.index}`),
    el('p', 'label-line', l.label || el('span', 'none', 'No token statistic foretells it.')), facts(l));
  part('Values', bars(l.histogram));
  part('Top examples, one a context', ...l.top.map(e => example(e, l.max)));
  if (l.quantiles.length) {
    const of = l.sampled < l.fired ? `${l.sampled} drawn of ${l.fired} firings` : `all ${l.fired} firings`;
    part(`By strength: ${of}`, ...l.quantiles.flatMap(([low, high, examples]) =>
      [el('div', 'group', `${low} to ${high}`), ...examples.map(e => example(e, l.max))]));
  }
  part('Logits it moves directly', ...logits(l));
  const near = table(['similar decoder rows', 'cosine'], l.near.map(([i, c]) => cells(link(i), number(c))));
  const whom = {all: 'fires with', collected: 'fires with, of the latents here', none: 'fires with (not counted)'}[D.cofiring_over];
  const beside = table([whom, 'Jaccard', 'rows', 'phi'], l.with.map(([i, p, j, n]) => cells(link(i), number(j), String(n), number(p))));
  part('Other latents', el('div', 'wide', el('div', '', near), el('div', '', beside)));
  main.scrollTop = 0;
  document.title = `Latent ${l.index} · ${D.model}`;
}

function shown() {
  const asked = find.value.trim().toLowerCase(), key = sort.value;
  const says = l => String(l.index) === asked || (l.label || '').toLowerCase().includes(asked)
    || l.top.some(e => D.words[e[3][e[2]]].toLowerCase().includes(asked));
  const found = D.latents.filter(l => !asked || says(l));
  const by = {index: (a, b) => a.index - b.index, density: (a, b) => b.density - a.density, max: (a, b) => b.max - a.max,
    label: (a, b) => !a.label - !b.label || (a.label || '').localeCompare(b.label || '') || a.index - b.index};
  return found.sort(by[key]);
}

function fill() {
  const found = shown(), now = Number(location.hash.slice(1));
  document.getElementById('count').textContent = `${found.length} of ${D.latents.length}`;
  list.replaceChildren(...found.map(l => {
    const top = l.top.length ? `${D.words[l.top[0][3][l.top[0][2]]]} · ` : '';
    const a = el('a', l.index === now ? 'now' : '', el('b', '', String(l.index)),
      el('span', 'label' + (l.label ? '' : ' none'), l.label || 'no label'), el('small', '', `${top}${percent(l.density)} · max ${l.max}`));
    a.href = '#' + l.index;
    return el('li', '', a);
  }));
}

function go() {
  const l = byIndex.get(Number(location.hash.slice(1))) || shown()[0];
  if (l) show(l);
  fill();
  list.querySelector('.now')?.scrollIntoView({block: 'nearest'});
}

document.addEventListener('keydown', event => {
  const step = {ArrowDown: 1, j: 1, ArrowUp: -1, k: -1}[event.key];
  if (event.target === find || event.target === sort || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === '/') { find.focus(); event.preventDefault(); }
  if (!step) return;
  const found = shown(), at = found.findIndex(l => l.index === Number(location.hash.slice(1)));
  const next = found[Math.max(0, Math.min(found.length - 1, at + step))];
  if (next) { location.hash = '#' + next.index; event.preventDefault(); }
});
find.addEventListener('input', fill);
sort.addEventListener('change', fill);
window.addEventListener('hashchange', go);
document.getElementById('place').textContent = `${D.dictionary} · ${D.reads}${D.writes === D.reads ? '' : ' to ' + D.writes}`
  + ` of ${D.model}; ${D.latents.length} of ${D.d_sae} latents on ${D.rows} tokens (left out: ${D.policy})`;
if (!location.hash && D.latents.length) location.replace('#' + shown()[0].index);
go();
