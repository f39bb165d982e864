// Which groups and runs are drawn, whether groups or runs are, and who wants to know when that changes.
const selection = (() => {
  'use strict';

  // More lines than this say nothing at first sight: the best groups and the baseline are drawn, the others on demand.
  const AT_FIRST = 10;

  const hidden = new Set();
  const seen = new Set();
  const listeners = [];
  let mode = 'groups';
  let waiting = false;

  // Decides about groups that were not there before; what the reader chose is left alone.
  function meet(groups) {
    let shown = groups.filter((group) => seen.has(group.id) && !hidden.has(group.id)).length;
    for (const group of groups) {
      if (seen.has(group.id)) continue;
      seen.add(group.id);
      if (group.baseline) continue;
      if (shown >= AT_FIRST) hidden.add(group.id);
      else shown += 1;
    }
  }

  // Several changes before the next picture count as one.
  function changed() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const listener of listeners) listener();
    });
  }

  function show(ids, wanted) {
    for (const id of ids) {
      if (wanted) hidden.delete(id);
      else hidden.add(id);
    }
    changed();
  }

  // Runs have a name of their own here, since a group is called by its oldest run.
  const runKey = (run) => `run ${run.id}`;

  return {
    meet, show, runKey,
    shows: (id) => !hidden.has(id),
    mode: () => mode,
    setMode(value) { mode = value; changed(); },
    onChange: (listener) => listeners.push(listener),
  };
})();
