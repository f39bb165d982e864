// The columns of the table: for each a title, how a row's value is shown, and by what it is sorted.
const columns = (() => {
  'use strict';

  // `low` sorts from the lowest at first, `high` from the highest: what is better stands at the top.
  const text = (title, value) => ({ title, value, show: (row) => value(row) ?? format.NOTHING, first: 'low' });
  const number = (title, value, show = format.number, first = 'low') => ({ title, value, show: (row) => show(value(row)), first, number: true });

  function setting(data, index) {
    const numeric = data.groups.every((group) => group.settings[index] === null || typeof group.settings[index] === 'number');
    const title = format.key(data.keys[index]);
    return { title, value: (row) => row.group.settings[index], show: (row) => format.cell(row.group.settings[index]), first: 'low', number: numeric };
  }

  const best = (data) => (data.better === 'max' ? 'high' : 'low');
  const figure = (data) => (value) => format.figure(data.metric, value);

  function ofGroups(data) {
    const speed = (key) => ({ group }) => group.speed[key];
    return [
      { ...text('group', ({ group }) => group.label), head: true },
      number('seeds', ({ group }) => group.runs.length),
      number(data.metric, ({ group }) => group.quality.value, figure(data), best(data)),
      { title: '95 % interval', number: true, first: best(data), value: ({ group }) => group.quality.low, show: ({ group }) => interval(data, group) },
      text('beside the baseline', ({ group }) => group.quality.verdict),
      ...data.keys.map((_, index) => setting(data, index)),
      number('best epoch', ({ group }) => group.convergence.best_epoch),
      { ...number('epochs to target', ({ group }) => group.convergence.epochs ?? Infinity), show: ({ group }) => (group.convergence.epochs === null ? 'not reached' : format.number(group.convergence.epochs)) },
      number('time to target', ({ group }) => group.convergence.seconds, format.duration),
      number('samples/s', speed('samples_per_second'), (value) => format.number(value && Math.round(value)), 'high'),
      number('s/epoch', speed('seconds_per_epoch'), (value) => format.number(value, 3)),
      number('peak memory', speed('peak_memory'), format.volume),
      number('parameters', ({ group }) => group.parameters),
      text('status', ({ group }) => Object.entries(group.statuses).map(([status, count]) => `${count} ${status}`).join(', ')),
    ];
  }

  function ofRuns(data) {
    const last = data.runs.some((run) => run.tags.length) ? [text('tags', ({ run }) => run.tags.join(', '))] : [];
    if (data.runs.some((run) => run.error)) last.push(text('error', ({ run }) => run.error));
    return [
      { ...text('run', ({ run }) => run.id), head: true },
      text('group', ({ group }) => group.label),
      number('seed', ({ run }) => run.seed, String),
      number(data.metric, ({ run }) => run.value, figure(data), best(data)),
      ...data.keys.map((_, index) => setting(data, index)),
      number('best epoch', ({ run }) => run.epoch),
      number('epochs', ({ run }) => run.epochs.length),
      number('time', ({ run }) => run.seconds, format.duration),
      text('status', ({ run }) => run.status),
      ...last,
    ];
  }

  function interval(data, { quality }) {
    if (quality.low === null) return format.NOTHING;
    return `${format.figure(data.metric, quality.low)} .. ${format.figure(data.metric, quality.high)}`;
  }

  return { ofGroups, ofRuns };
})();
