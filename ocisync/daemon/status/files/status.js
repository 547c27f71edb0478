'use strict';
// The page works without this. It only fetches the page again from time to time and puts what is new in its place.

const BUSY = 2000, QUIET = 10000, LONGEST = 60000;  // milliseconds between two looks
const live = () => document.getElementById('live');
let wait = QUIET;
let timer = 0;

document.documentElement.classList.add('live');

async function refresh() {
  clearTimeout(timer);
  try {
    const reply = await fetch(location.href, { credentials: 'same-origin', cache: 'no-store' });
    if (!reply.ok) throw new Error(String(reply.status));
    take(new DOMParser().parseFromString(await reply.text(), 'text/html'));
    wait = document.getElementById('main').dataset.busy === 'yes' ? BUSY : QUIET;
    live().textContent = 'live';
  } catch {
    wait = Math.min(LONGEST, wait * 2);
    live().textContent = 'no answer; tries again';
  }
  plan();
}

function plan() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, wait);
}

// What the reader has opened, typed and marked stays.
function take(page) {
  const before = document.getElementById('main'), after = page.getElementById('main');
  if (!after || String(getSelection())) return;
  for (const one of before.querySelectorAll('details[id]')) {
    const same = after.querySelector('#' + CSS.escape(one.id));
    if (same) same.open = one.open;
  }
  const active = document.activeElement;
  const typed = active && active.form && active.form.id === 'find' ? active : null;
  const form = typed && before.querySelector('#find');
  if (form && after.querySelector('#find')) after.querySelector('#find').replaceWith(form);
  const focused = !typed && active && active.id ? active.id : '';
  document.title = page.title;
  const icon = page.querySelector('link[rel=icon]');
  if (icon) document.querySelector('link[rel=icon]').href = icon.href;
  const scroll = scrollY;
  const mark = typed && typed.selectionStart;
  before.replaceWith(after);
  if (typed) { typed.focus({ preventScroll: true }); if (typeof mark === 'number') typed.setSelectionRange(mark, mark); }
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus({ preventScroll: true });
  offer();
  scrollTo(0, scroll);
}

// Searching needs no button.
function search() {
  const form = document.getElementById('find');
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, '', query.size ? '?' + query : location.pathname);
  refresh();
}

let typing = 0;
document.addEventListener('input', (event) => {
  if (!event.target.form || event.target.form.id !== 'find') return;
  clearTimeout(typing);
  typing = setTimeout(search, 200);
});
document.addEventListener('submit', (event) => {
  if (event.target.id !== 'find') return;
  event.preventDefault();
  search();
});
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
document.addEventListener('keydown', (event) => {
  const field = document.getElementById('q');
  if (event.key === '/' && field && document.activeElement !== field) { event.preventDefault(); field.focus(); }
});

// Who knows the daemon's token may have rules run. Nobody else is shown a button, and the daemon would refuse.

const KEY = 'ocisync-token';
const unlock = document.getElementById('unlock');
const login = document.getElementById('login');
const token = () => sessionStorage.getItem(KEY) || '';
let saying = 0;

function say(text) {
  clearTimeout(saying);
  document.getElementById('said').textContent = text;
  saying = setTimeout(() => { document.getElementById('said').textContent = ''; }, 6000);
}

function offer() {
  if (!unlock) return;
  unlock.hidden = false;
  unlock.textContent = token() ? 'Lock' : 'Unlock';
  for (const old of document.querySelectorAll('.next button')) old.remove();
  if (!token()) return;
  for (const row of document.querySelectorAll('tr[data-rule]')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Run now';
    button.setAttribute('aria-label', 'Run ' + row.dataset.rule + ' now');
    button.addEventListener('click', () => run(row.dataset.rule, button));
    row.querySelector('.next').append(button);
  }
}

async function run(rule, button) {
  button.disabled = true;
  try {
    const headers = { 'Authorization': 'Bearer ' + token(), 'Content-Type': 'application/json' };
    const reply = await fetch('v1/sync', { method: 'POST', headers, body: JSON.stringify({ rule }), credentials: 'same-origin' });
    if (reply.status === 401 || reply.status === 403) sessionStorage.removeItem(KEY);
    say(reply.ok ? rule + ' runs now.' : reply.status === 401 ? 'This is not the daemon’s token.' : (await reply.text()).slice(0, 300));
  } catch {
    say('The daemon does not answer.');
  }
  await refresh();
}

if (unlock) {
  unlock.addEventListener('click', () => {
    if (!token()) { login.showModal(); return; }
    sessionStorage.removeItem(KEY);
    offer();
  });
  login.addEventListener('close', () => {
    const field = document.getElementById('token');
    if (login.returnValue === 'yes' && field.value) sessionStorage.setItem(KEY, field.value);
    field.value = '';
    offer();
  });
}
offer();
wait = document.getElementById('main').dataset.busy === 'yes' ? BUSY : QUIET;
plan();
