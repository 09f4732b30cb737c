// What a page does beside reading and single actions: it updates itself, asks before what
// cannot be taken back, keeps the theme, and knows some keys. Without it all else works.
'use strict';
(() => {
  const root = document.documentElement;
  const kept = {
    get(name) { try { return localStorage.getItem('dashboard.' + name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem('dashboard.' + name, value); } catch { /* not kept */ } },
  };
  const setTheme = (theme) => {
    root.classList.remove('light', 'dark');
    if (theme === 'light' || theme === 'dark') root.classList.add(theme);
    for (const b of document.querySelectorAll('[data-theme-set]')) b.setAttribute('aria-pressed', String(b.dataset.themeSet === theme));
  };
  setTheme(kept.get('theme') || 'system'); // before the page is painted

  // Times: the local one beside that of the server, in the title.
  const localTimes = (within) => {
    for (const t of within.querySelectorAll('time[datetime]')) {
      const at = new Date(t.dateTime);
      if (isNaN(at) || t.dataset.local) continue;
      t.dataset.local = '1';
      t.title = (t.title || t.textContent) + '\n' + at.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'long' });
    }
  };

  // What a person has opened, chosen or typed within a part outlives its replacement.
  const keep = (part) => {
    const open = [...part.querySelectorAll('details[id]')].filter((d) => d.open).map((d) => d.id);
    const shut = [...part.querySelectorAll('details[id]')].filter((d) => !d.open).map((d) => d.id);
    const checked = new Set([...part.querySelectorAll('input[type=checkbox]:checked')].map((c) => c.name + '=' + c.value));
    const scrolled = [...part.querySelectorAll('.scroll, pre')].map((s) => [s.scrollLeft, s.scrollTop]);
    const focused = part.contains(document.activeElement) ? pathTo(part, document.activeElement) : null;
    return () => {
      for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
      for (const id of shut) { const d = document.getElementById(id); if (d) d.open = false; }
      for (const c of part.querySelectorAll('input[type=checkbox]')) if (checked.has(c.name + '=' + c.value)) c.checked = true;
      [...part.querySelectorAll('.scroll, pre')].forEach((s, i) => { if (scrolled[i]) [s.scrollLeft, s.scrollTop] = scrolled[i]; });
      if (focused) { const e = find(part, focused); if (e) e.focus({ preventScroll: true }); }
    };
  };
  // An element is found again by where it leads to, else by its place.
  const pathTo = (part, e) => ({ href: e.getAttribute('href'), at: [...part.querySelectorAll(e.tagName)].indexOf(e), tag: e.tagName });
  const find = (part, p) => {
    const all = [...part.querySelectorAll(p.tag)];
    return (p.href && all.find((e) => e.getAttribute('href') === p.href)) || all[p.at];
  };
  const busy = (part) => {
    const a = document.activeElement;
    return part.contains(a) && /^(INPUT|SELECT|TEXTAREA)$/.test(a.tagName) && a.type !== 'checkbox';
  };
  const replace = (parts) => {
    const chosen = getSelection();
    for (const [id, html] of Object.entries(parts)) {
      const part = document.getElementById(id);
      if (!part || part.tagName !== 'LIVE-PART' || busy(part)) continue;
      if (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode)) continue; // text is being copied
      const restore = keep(part);
      part.innerHTML = html; // made by the server's templates, which escape all data
      restore();
      localTimes(part);
    }
    document.dispatchEvent(new Event('parts'));
  };

  const live = { source: null, timer: 0, paused: false, failed: 0 };
  const show = (state, text) => {
    const box = document.querySelector('[data-live-state]');
    if (!box) return;
    box.hidden = false;
    const b = box.querySelector('button');
    b.className = state;
    b.setAttribute('aria-pressed', String(live.paused));
    box.querySelector('[data-live-text]').textContent = text;
  };
  const address = () => 'events?page=' + encodeURIComponent(document.body.dataset.page);
  const stop = () => {
    if (live.source) live.source.close();
    clearTimeout(live.timer);
    live.source = null;
  };
  // Where no stream gets through the page polls.
  const poll = () => {
    live.timer = setTimeout(async () => {
      try {
        const answer = await fetch(address() + '&poll=1', { headers: { Accept: 'application/json' } });
        if (!answer.ok) throw new Error(await answer.text());
        replace(await answer.json());
        show('on', 'Live, by polling');
      } catch (e) {
        show('off', 'Not live: ' + (e.message || 'no connection').slice(0, 80));
      }
      if (!live.paused && !document.hidden) poll();
    }, 3000);
  };
  const start = () => {
    stop();
    if (live.paused) { show('off', 'Paused'); return; }
    if (document.hidden || !document.querySelector('live-part')) return;
    if (live.failed >= 3 || !window.EventSource) { poll(); return; }
    show('on', 'Live');
    const source = live.source = new EventSource(address());
    source.addEventListener('parts', (e) => { live.failed = 0; show('on', 'Live'); replace(JSON.parse(e.data)); });
    source.addEventListener('failure', (e) => show('off', 'Not live: ' + JSON.parse(e.data).slice(0, 80)));
    source.onerror = () => {
      if (live.source !== source) return;
      live.failed++;
      show('off', 'Connecting…');
      if (source.readyState === EventSource.CLOSED || live.failed >= 3) { stop(); live.failed = 3; poll(); }
    };
  };
  const toggle = () => { live.paused = !live.paused; live.failed = 0; start(); };

  const goTo = { o: './', q: 'queues', r: 'runs', d: 'dead', s: 'schedules', l: 'limits', t: 'tasks', c: 'consumers' };
  let lead = 0; // when g was pressed
  const onKey = (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) return;
    if (e.key === '/') {
      const field = document.querySelector('input[type=search]');
      if (field) { e.preventDefault(); field.focus(); }
    } else if (e.key === 'p') toggle();
    else if (e.key === 'g') lead = e.timeStamp;
    else if (goTo[e.key] && e.timeStamp - lead < 1200) location.href = goTo[e.key];
  };

  // Rows that are chosen: how many, and all of the page at once.
  const countChosen = () => {
    for (const form of document.querySelectorAll('form[data-choose]')) {
      const boxes = [...document.querySelectorAll('input[data-row]')];
      const n = boxes.filter((b) => b.checked).length;
      const text = form.querySelector('[data-chosen]');
      if (text) text.textContent = n ? n + ' selected' : 'None selected';
      for (const b of form.querySelectorAll('button[data-needs-row]')) b.disabled = n === 0;
      const all = document.querySelector('[data-all-rows]');
      if (all) { all.checked = n > 0 && n === boxes.length; all.indeterminate = n > 0 && n < boxes.length; }
    }
  };

  document.addEventListener('DOMContentLoaded', () => {
    setTheme(kept.get('theme') || 'system');
    const themes = document.querySelector('[data-themes]');
    if (themes) themes.hidden = false;
    for (const e of document.querySelectorAll('[data-script]')) e.hidden = false;
    for (const e of document.querySelectorAll('[data-here]')) e.textContent = new URL('.', location).href.replace(/\/$/, '');
    localTimes(document);
    countChosen();
    document.addEventListener('click', (e) => {
      const t = e.target.closest('[data-theme-set], [data-live-toggle], [data-copy]');
      if (!t) return;
      if (t.dataset.themeSet) { kept.set('theme', t.dataset.themeSet); setTheme(t.dataset.themeSet); }
      else if ('liveToggle' in t.dataset) toggle();
      else {
        const from = document.getElementById(t.dataset.copy);
        if (from) navigator.clipboard.writeText(from.textContent).then(() => { t.textContent = 'Copied'; }, () => { t.textContent = 'Select the text to copy it'; });
      }
    });
    document.addEventListener('change', (e) => {
      if (e.target.matches('[data-all-rows]')) for (const b of document.querySelectorAll('input[data-row]')) b.checked = e.target.checked;
      if (e.target.matches('[data-all-rows], input[data-row]')) countChosen();
      if (e.target.matches('select[data-go]')) e.target.form.requestSubmit();
    });
    document.addEventListener('parts', countChosen);
    document.addEventListener('submit', (e) => {
      const question = (e.submitter && e.submitter.dataset.confirm) || e.target.dataset.confirm;
      if (question && !confirm(question)) e.preventDefault();
    });
    document.addEventListener('keydown', onKey);
    document.addEventListener('visibilitychange', () => { if (document.hidden) stop(); else start(); });
    addEventListener('pagehide', stop);
    addEventListener('pageshow', (e) => { if (e.persisted) start(); });
    start();
  });
})();
