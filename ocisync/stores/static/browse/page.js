'use strict';
// Reads the registry that serves this page. Every text from it reaches the document as text, never as markup.

const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const OF_A_DIGEST = /^sha(?:256|512)-[0-9a-f]{64,128}/;  // signatures and referrers that are kept as tags
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const TYPES = ['application/vnd.oci.image.index.v1+json', 'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json', 'application/vnd.docker.distribution.manifest.v2+json'];
const MOST_BYTES = 4 * 1024 * 1024;
const PAGE = 200;  // rows that are added at a time
const DENSE = 12;  // rows from which on each has one line
const GROUPED = 12;  // repositories from which on they are grouped by the first part of their names
const SIGNATURES = /sigstore|cosign|notary/;
const natural = new Intl.Collator('en', { numeric: true });
const main = document.getElementById('main');
const query = document.getElementById('query');
const host = location.host || 'registry';

// The registry, a few requests at a time, each document once.

const waiting = [];
const known = new Map();
let running = 0;

function read(path, accept) {
  if (!known.has(path)) {
    known.set(path, turn().then(() => load(path, accept)).finally(done));
    known.get(path).catch(() => known.delete(path));
  }
  return known.get(path);
}

function turn() {
  if (running < 6) { running += 1; return Promise.resolve(); }
  return new Promise((go) => waiting.push(go));
}

function done() {
  const next = waiting.shift();
  if (next) next(); else running -= 1;
}

async function load(path, accept) {
  const reply = await fetch('v2/' + path, { headers: accept ? { Accept: accept } : {}, credentials: 'same-origin' });
  if (!reply.ok) throw Object.assign(new Error('The registry answered ' + reply.status + '.'), { status: reply.status });
  if (Number(reply.headers.get('Content-Length')) > MOST_BYTES) throw new Error('The answer is too large to show.');
  const value = JSON.parse(await reply.text());
  const digest = reply.headers.get('Docker-Content-Digest') || reply.headers.get('x-amz-meta-docker-content-digest');  // ocisync serve; a bucket
  return { value: isObject(value) ? value : {}, modified: reply.headers.get('Last-Modified'), digest };
}

const manifest = (name, reference) => read(name + '/manifests/' + reference, TYPES.join(', '));
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const listOf = (value) => (Array.isArray(value) ? value : []);
const member = (value, key) => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined);
const described = (value) => listOf(value).filter((one) => DIGEST.test(member(one, 'digest')));

async function repositories() {
  const found = await read('_catalog');
  return listOf(found.value.repositories).filter((name) => typeof name === 'string' && NAME.test(name)).sort(natural.compare);
}

async function tagsOf(name) {
  const found = await read(name + '/tags/list');
  const all = listOf(found.value.tags).filter((tag) => typeof tag === 'string' && TAG.test(tag));
  return { shown: all.filter((tag) => !OF_A_DIGEST.test(tag)).sort(newestFirst), all: new Set(all) };
}

// What refers to a manifest; a registry that keeps no such lists is asked once for each repository.
const unreferred = new Set();

async function referrersOf(name, digest) {
  if (!DIGEST.test(digest) || unreferred.has(name)) return [];
  try {
    return described((await read(name + '/referrers/' + digest)).value.manifests);
  } catch {
    unreferred.add(name);
    return [];
  }
}

function rank(tag) { return tag === 'latest' ? 0 : /^v?[0-9]/.test(tag) ? 1 : 2; }

function newestFirst(one, other) {
  return rank(one) - rank(other) || natural.compare(other, one);
}

// One platform's image: what its manifest and its configuration say.
async function image(name, descriptor, document) {
  const found = document || (await manifest(name, descriptor.digest)).value;
  const layers = listOf(found.layers).filter(isObject);
  const config = member(found, 'config');
  const settings = DIGEST.test(member(config, 'digest')) ? (await read(name + '/blobs/' + config.digest)).value : {};
  const sizes = layers.map((layer) => layer.size);
  return { layers, settings, size: sizes.every(Number.isSafeInteger) ? sizes.reduce((sum, size) => sum + size, 0) : NaN,
    platform: platformOf(member(descriptor, 'platform')) || platformOf(settings) };
}

function platformOf(value) {
  const parts = ['os', 'architecture', 'variant'].map((key) => member(value, key)).filter((part) => typeof part === 'string' && part);
  return parts.length > 1 ? parts.join('/') : '';
}

// A tag: the image of every platform, without attestations.
async function tagged(name, tag) {
  const found = await manifest(name, tag);
  const children = described(found.value.manifests);
  const images = children.filter((child) => !platformOf(child.platform).startsWith('unknown/'));
  return { ...found, isIndex: Array.isArray(found.value.manifests), children: images, others: children.length - images.length };
}

// What things look like.

function node(kind, facts, ...inside) {
  const made = document.createElement(kind);
  for (const [key, value] of Object.entries(facts || {})) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? '' : String(value));
  }
  made.append(...inside.filter((one) => one !== null && one !== undefined && one !== ''));
  return made;
}

function plain(value, most = 2000) {
  const text = (typeof value === 'string' ? value : JSON.stringify(value) || '').replace(HIDDEN, '\ufffd');
  return text.length > most ? text.slice(0, most) + '…' : text;
}

function size(bytes) {
  if (!Number.isFinite(bytes) || bytes < 0) return '';
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return (bytes / 1024 ** unit).toLocaleString('en', { maximumSignificantDigits: 3 }) + ' ' + ['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit];
}

function when(text, words = '') {
  const moment = new Date(text);
  if (typeof text !== 'string' || Number.isNaN(moment.getTime()) || moment.getFullYear() < 2000) return '';
  const shown = moment.toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' });
  return node('time', { datetime: moment.toISOString(), title: moment.toLocaleString() }, words + shown);
}

function count(number, one, many) { return number.toLocaleString('en') + ' ' + (number === 1 ? one : many); }

function title(name) {
  const cut = name.lastIndexOf('/') + 1;
  return [cut ? node('span', { class: 'dim' }, name.slice(0, cut)) : '', name.slice(cut)];
}

// Commands that work here: without TLS podman, skopeo and crane must be told so; docker wants it in its own settings.

const isPlain = location.protocol === 'http:';
const isLoopback = /^(?:localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);

function commands(reference, digest) {
  const found = [['docker', 'docker pull ' + reference],
    ['podman', 'podman pull ' + (isPlain ? '--tls-verify=false ' : '') + reference],
    ['skopeo', 'skopeo copy ' + (isPlain ? '--src-tls-verify=false ' : '') + 'docker://' + reference + ' dir:image'],
    ['crane', 'crane pull ' + (isPlain && !isLoopback ? '--insecure ' : '') + reference + ' image.tar']];
  if (digest) found.push(['digest', digest]);
  const hint = isPlain && !isLoopback ? [node('p', { class: 'note hint' }, 'This registry is served without TLS. Docker pulls from it once ',
    node('code', {}, '"insecure-registries": ["' + host + '"]'), ' stands in its daemon.json.')] : [];
  return [node('ul', { class: 'pulls box' }, ...found.map(([tool, command]) => copyable(tool, command))), ...hint];
}

function copyable(tool, command) {
  const code = node('code', { tabindex: 0, title: command }, command);
  const button = node('button', { type: 'button', 'aria-label': 'Copy: ' + command }, 'Copy');
  button.addEventListener('click', () => copy(command, code, button));
  return node('li', {}, node('span', { class: 'tool' }, tool), code, button);
}

async function copy(text, code, button) {
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // without TLS a page may not write the clipboard by itself
    document.execCommand('copy');
  }
  button.textContent = 'Copied';
  say('Copied.');
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
}

function say(text) { document.getElementById('status').textContent = text; }

function wrong(error) { return node('p', { class: 'note wrong' }, plain(error.message)); }

// Rows fill themselves when they come into view.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    entry.target.fill().catch(() => entry.target.classList.add('wrong'));
  }
}, { rootMargin: '200px' });

function row(href, heading, fill) {
  const side = node('span', { class: 'side' });
  const under = node('span', { class: 'under chips' });
  const made = node('a', { class: 'row', href }, node('span', { class: 'name' }, ...heading), side, under);
  made.fill = () => fill(side, under);
  seen.observe(made);
  return node('li', {}, made);
}

// Ten thousand rows are added as the reader comes to them; until then there is only a mark at the end of the list.
const ends = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) entry.target.grow();
}, { rootMargin: '800px' });

function rows(items, make, isDense = items.length > DENSE) {
  const list = node('ul', { class: isDense ? 'rows dense' : 'rows' }, ...items.slice(0, PAGE).map(make));
  if (items.length <= PAGE) return [list];
  let shown = PAGE;
  const end = node('button', { type: 'button', class: 'more' });
  const label = () => { end.textContent = 'Show more of ' + items.length.toLocaleString('en'); };
  end.grow = () => {
    list.append(...items.slice(shown, shown + PAGE).map(make));
    shown += PAGE;
    if (shown >= items.length) { ends.unobserve(end); end.remove(); }
    else label();
  };
  end.addEventListener('click', end.grow);
  label();
  ends.observe(end);
  return [list, end];
}

// The three views.

async function showRepositories(search) {
  let names;
  try {
    names = await repositories();
  } catch (error) {
    if (error.status !== 404 && error.status !== 403) throw error;
    return [heading('Repositories'), node('p', { class: 'note' }, 'This registry keeps no list of its repositories. Write the name of one above, such as team/app.')];
  }
  const found = names.filter((name) => name.includes(search.toLowerCase()));
  const lead = search ? found.length + ' of ' + count(names.length, 'repository', 'repositories') : count(names.length, 'repository', 'repositories');
  return [heading('Repositories'), node('p', { class: 'lead' }, lead), ...(found.length ? grouped(found) : [nothing(search)])];
}

// Many repositories stand under the first part of their names, where that brings several together.
function grouped(names) {
  const groups = new Map();
  for (const name of names) {
    const group = name.includes('/') ? name.slice(0, name.indexOf('/')) : '';
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(name);
  }
  if (names.length < GROUPED || groups.size < 2 || groups.size > names.length / 2 || names.length > 2 * PAGE) return rows(names, repositoryRow);
  return [...groups].flatMap(([group, some]) => [
    node('h2', {}, group || 'Without a folder', ' ', node('span', { class: 'count' }, String(some.length))), ...rows(some, repositoryRow, true)]);
}

function repositoryRow(name) {
  return row('#/' + name, title(name), async (side, under) => {
    const { shown } = await tagsOf(name);
    side.append(count(shown.length, 'tag', 'tags'));
    under.append(...shown.slice(0, 4).map((tag) => node('span', { class: 'chip' }, tag)), shown.length > 4 ? '…' : '');
    if (!shown.length) return;
    const root = await tagged(name, shown[0]);  // the newest tells for all
    const first = await firstImage(name, root);
    const facts = [first ? size(first.size) : '', when(root.modified) || when(first && first.settings.created)].filter(Boolean);
    for (const fact of facts) side.append(' · ', fact);
  });
}

async function showTags(name, search) {
  const { shown, all } = await tagsOf(name);
  const found = shown.filter((tag) => tag.toLowerCase().includes(search.toLowerCase()));
  const lead = (search ? found.length + ' of ' : '') + count(shown.length, 'tag', 'tags');
  const usual = shown.includes('latest') || !shown.length ? '' : ':' + shown[0];
  return [crumbs(), heading(...title(name)), node('p', { class: 'lead' }, lead),
    ...commands(host + '/' + name + usual), node('div', { class: 'line' }, node('h2', {}, 'Tags'), orderOfTags()),
    ...(found.length ? rows(inOrder(found), (tag) => tagRow(name, tag, all)) : [nothing(search)])];
}

function tagRow(name, tag, all) {
  return row('#/' + name + ':' + tag, [tag], async (side, under) => {
    const root = await tagged(name, tag);
    const first = await firstImage(name, root);
    const amount = first ? size(first.size) : '';
    side.append(amount && node('span', { title: plain(first.platform, 60) }, amount), amount ? ' · ' : '', when(root.modified) || when(first && first.settings.created));
    const platforms = root.isIndex ? root.children.map((child) => platformOf(child.platform)) : [first.platform];
    const distinct = [...new Set(platforms.filter(Boolean))];
    under.append(...distinct.slice(0, 6).map((text) => node('span', { class: 'chip' }, plain(text, 60))), distinct.length > 6 ? '+' + (distinct.length - 6) : '',
      isSigned(root, all, await referrersOf(name, root.digest)) ? node('span', { class: 'chip good' }, 'signed') : '');
  });
}

// By a tag, as cosign does it, or by what refers to the image.
function isSigned(root, all, attached) {
  return Boolean(root.digest) && (all.has(root.digest.replace(':', '-') + '.sig') || attached.some(isSignature));
}

function isSignature(one) {
  const kind = [member(one, 'artifactType'), member(member(one, 'annotations'), 'dev.sigstore.bundle.predicateType')];
  return SIGNATURES.test(kind[0]) && !(typeof kind[1] === 'string' && !/sign/.test(kind[1]));
}

// The order of tags is the reader's to choose, and stays for the next repository.

let order = 'newest';
const ORDERS = { newest: 'Newest version first', oldest: 'Oldest version first', name: 'By name' };

function inOrder(tags) {
  if (order === 'name') return [...tags].sort(natural.compare);
  return order === 'oldest' ? [...tags].reverse() : tags;
}

function orderOfTags() {
  const choice = node('select', { id: 'order', 'aria-label': 'Order' }, ...Object.entries(ORDERS).map(([key, text]) =>
    node('option', { value: key, selected: key === order }, text)));
  choice.addEventListener('change', () => { order = choice.value; show(false); });
  return choice;
}

// A mirror may hold only some platforms of an index.
async function firstImage(name, root) {
  if (!root.isIndex) return image(name, {}, root.value);
  for (const child of root.children.slice(0, 8)) {
    try { return await image(name, child); } catch (error) { if (error.status !== 404) throw error; }
  }
  return null;
}

async function showTag(name, tag) {
  const root = await tagged(name, tag);
  const reference = host + '/' + name + ':' + tag;
  const digest = DIGEST.test(root.digest) ? host + '/' + name + '@' + root.digest : '';
  const parts = [crumbs(name), heading(...title(name), node('span', { class: 'dim' }, ':'), tag)];
  const [{ all }, attached] = await Promise.all([tagsOf(name).catch(() => ({ all: new Set() })), referrersOf(name, root.digest)]);
  const signed = isSigned(root, all, attached) ? node('span', { class: 'chip good' }, 'signed') : '';
  // A plain web server tells a file's date. In a directory all tags of one image are links to one file, as old as the image is here.
  parts.push(node('p', { class: 'lead chips' }, when(root.modified, root.digest ? 'Published ' : 'Here since '), signed));
  parts.push(...commands(reference, digest));
  const children = root.isIndex ? root.children : [{ own: root.value }];
  parts.push(node('h2', {}, root.isIndex ? count(children.length, 'platform', 'platforms') : 'Image'));
  parts.push(...children.slice(0, PAGE).map((child, at) => platform(name, child, at === 0)));
  const others = attached.filter((one) => !isSignature(one));
  if (others.length) {
    parts.push(node('h2', {}, 'Attached'), node('ul', { class: 'rows box plain' }, ...others.slice(0, PAGE).map((one) =>
      node('li', {}, node('span', { class: 'name' }, plain(one.artifactType || one.mediaType || '', 120)), node('span', { class: 'digest mono' }, one.digest)))));
  }
  if (root.others) parts.push(node('p', { class: 'note' }, count(root.others, 'attestation comes', 'attestations come') + ' with it.'));
  parts.push(...annotations(root.value.annotations));
  return parts;
}

function platform(name, child, isOpen) {
  const side = node('span', { class: 'side' });
  const label = node('span', { class: 'name' }, plain(platformOf(child.platform), 80) || 'Image');
  const inside = node('div', { class: 'inside' });
  const made = node('details', { class: 'box', open: isOpen }, node('summary', {}, label, side), inside);
  made.fill = async () => {
    try {
      const found = await image(name, child, child.own);
      if (found.platform) label.textContent = plain(found.platform, 80);
      side.append([size(found.size), count(found.layers.length, 'layer', 'layers')].filter(Boolean).join(' · '));
      inside.append(...facts(child, found), node('h3', {}, 'Layers'), layers(found));
    } catch (error) {
      side.append(error.status === 404 ? 'not in this mirror' : 'cannot be read');
      inside.append(wrong(error.status === 404 ? new Error('This platform was left out here.') : error));
    }
  };
  seen.observe(made);
  return made;
}

function facts(child, found) {
  const settings = found.settings.config;
  const words = (value) => listOf(value).map((one) => plain(one)).join(' ');
  const entries = [
    ['Digest', child.digest && node('span', { class: 'mono' }, child.digest)], ['Created', when(found.settings.created)],
    ['Author', found.settings.author && plain(found.settings.author)],
    ['Entrypoint', code(words(member(settings, 'Entrypoint')))], ['Command', code(words(member(settings, 'Cmd')))],
    ['Working directory', code(plain(member(settings, 'WorkingDir') || ''))], ['User', code(plain(member(settings, 'User') || ''))],
    ['Ports', code(Object.keys(member(settings, 'ExposedPorts') || {}).map((one) => plain(one)).join(' '))],
    ['Volumes', code(Object.keys(member(settings, 'Volumes') || {}).map((one) => plain(one)).join(' '))],
  ];
  return [definitions(entries), ...labels('Labels', member(settings, 'Labels')), ...environment(member(settings, 'Env'))];
}

function code(text) { return text ? node('code', {}, text) : ''; }

function definitions(entries, kind) {
  return node('dl', { class: kind }, ...entries.filter((entry) => entry[1]).flatMap(([term, value]) => [node('dt', {}, term), node('dd', {}, value)]));
}

function labels(heading, value) {
  const entries = isObject(value) ? Object.entries(value).slice(0, PAGE) : [];
  return entries.length ? [node('h3', {}, heading), definitions(entries.map(([key, text]) => [plain(key, 200), linked(text)]), 'wide')] : [];
}

function linked(text) {
  if (typeof text !== 'string' || !/^https:\/\/[^\s<>"']+$/.test(text) || text.length > 500) return plain(text) || ' ';
  return node('a', { href: text, rel: 'noopener noreferrer nofollow' }, plain(text));
}

function annotations(value) { const made = labels('Annotations', value); return made.length ? [node('div', {}, ...made)] : []; }

function environment(value) {
  const lines = listOf(value).filter((one) => typeof one === 'string').map((one) => plain(one)).slice(0, PAGE);
  return lines.length ? [node('h3', {}, 'Environment'), node('dl', {}, ...lines.flatMap((line) => {
    const cut = line.indexOf('=');
    return [node('dt', { class: 'mono' }, cut < 0 ? line : line.slice(0, cut)), node('dd', { class: 'mono' }, cut < 0 ? '' : line.slice(cut + 1))];
  }))] : [];
}

function layers(found) {
  const made = listOf(found.settings.history).filter((one) => isObject(one) && !one.empty_layer).map((one) => plain(one.created_by || '', 600));
  const commands = made.length === found.layers.length ? made : [];
  const largest = Math.max(1, ...found.layers.map((layer) => layer.size).filter(Number.isFinite));
  return node('ol', { class: 'layers' }, ...found.layers.slice(0, 500).map((layer, at) => {
    const bar = node('span', { class: 'bar', 'aria-hidden': 'true' });
    bar.style.width = Math.max(0, Math.min(100, (100 * layer.size) / largest)) + '%';
    return node('li', {}, node('span', { class: 'size' }, size(layer.size)),
      commands[at] ? node('span', { class: 'made' }, commands[at].replace(/^\/bin\/sh -c (#\(nop\) +)?/, '').replace(/ # buildkit$/, '')) : node('span', { class: 'digest mono' }, plain(layer.digest, 19)), bar);
  }));
}

function heading(...inside) { return node('h1', { tabindex: -1 }, ...inside); }

function crumbs(name) {
  const way = [node('a', { href: '#/' }, 'Repositories')];
  if (name) way.push(' / ', node('a', { href: '#/' + name }, name));
  return node('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, ...way);
}

function nothing(search) { return node('p', { class: 'note' }, search ? 'Nothing matches “' + plain(search, 200) + '”.' : 'Nothing is here yet.'); }

// Which view: #/ or #/name or #/name:tag.

function place() {
  const [, name, tag] = /^#\/([^:]*)(?::(.*))?$/.exec(location.hash) || [];
  return { name: NAME.test(name || '') ? name : '', tag: TAG.test(tag || '') ? tag : '' };
}

let latest = 0;

async function show(isNew) {
  const { name, tag } = place();
  const mine = (latest += 1);
  const search = query.value.trim();
  let parts;
  main.setAttribute('aria-busy', 'true');
  try {
    parts = tag ? await showTag(name, tag) : name ? await showTags(name, search) : await showRepositories(search);
  } catch (error) {
    parts = [crumbs(), heading(tag ? name + ':' + tag : name || 'Repositories'), wrong(error.status === 404 ? new Error('There is no such image here.') : error)];
  }
  if (mine !== latest) return;
  main.replaceChildren(...parts);
  main.removeAttribute('aria-busy');
  document.title = (name ? name + (tag ? ':' + tag : '') + ' · ' : '') + host;
  if (isNew) { scrollTo(0, 0); main.querySelector('h1').focus({ preventScroll: true }); }
  const lead = main.querySelector('.lead');
  if (!isNew && lead) say(lead.textContent);
}

function prepare(text = '') {
  const { name, tag } = place();
  query.value = text;
  query.placeholder = name && !tag ? 'Search tags' : 'Search repositories';
  document.getElementById('query-label').textContent = query.placeholder;
}

document.getElementById('host').textContent = host;
document.getElementById('find').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = query.value.trim().toLowerCase();
  const only = main.querySelectorAll('.rows .row');
  if (only.length === 1) location.hash = only[0].getAttribute('href');
  else if (!place().name && NAME.test(text.split(':')[0])) location.hash = '#/' + text;
});
query.addEventListener('input', () => {
  if (!place().tag) { show(false); return; }
  history.pushState(null, '', '#/');
  prepare(query.value);
  show(false);
});
addEventListener('hashchange', () => { prepare(); show(true); });
addEventListener('keydown', (event) => {
  if (event.key === '/' && document.activeElement !== query) { event.preventDefault(); query.focus(); }
});
prepare();
show(false);
