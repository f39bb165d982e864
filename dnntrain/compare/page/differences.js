// Two groups or runs side by side, and what the runs were trained on.
const differences = (() => {
  'use strict';

  const MOST_NAMED = 4;
  let parts = null;

  function build(target) {
    const select = () => dom.element('select', { onchange: () => fill() });
    const [one, other] = [select(), select()];
    const body = dom.element('div', { 'aria-live': 'polite' });
    target.append(dom.element('div', { class: 'panel' },
      dom.element('div', { class: 'controls' }, dom.field('One', one), dom.field('Another', other)), body));
    return { one, other, body, data: null };
  }

  function options(data) {
    const option = (value, text) => dom.element('option', { value }, format.cut(text, 60));
    return [
      dom.element('optgroup', { label: 'Groups' }, data.groups.map((group) => option(`group ${group.id}`, group.label))),
      dom.element('optgroup', { label: 'Runs' }, data.runs.map((run) => option(`run ${run.id}`, run.id))),
    ];
  }

  function render(data) {
    parts ??= build(dom.byId('differences'));
    parts.data = data;
    if (data.runs.length < 2) return false;
    const names = [data.groups.map((group) => [group.id, group.label]), data.runs.map((run) => run.id)];
    const base = data.groups.find((group) => group.baseline);
    const best = data.groups.find((group) => !group.baseline);
    const wanted = [
      parts.one.value || `group ${base.id}`,
      parts.other.value || (best ? `group ${best.id}` : `run ${data.runs[1].id}`),
    ];
    [parts.one, parts.other].forEach((select, index) => {
      dom.refill(select, names, () => options(data));
      select.value = wanted[index];
      if (select.selectedIndex < 0) select.selectedIndex = 0;
    });
    fill();
    return true;
  }

  // A group is shown by its first run, without the seed, which is all that its runs differ in.
  function picked(value) {
    const { data } = parts;
    const group = data.groups.find((each) => value === `group ${each.id}`);
    if (group) return { name: group.label, index: group.runs[0], isGroup: true };
    const index = data.runs.findIndex((run) => value === `run ${run.id}`);
    return { name: data.runs[index]?.id ?? '', index, isGroup: false };
  }

  function fill() {
    const { data, body } = parts;
    const [one, other] = [picked(parts.one.value), picked(parts.other.value)];
    const { keys, cells } = data.specs;
    const rows = keys.map((key, index) => [key, cells[one.index]?.[index], cells[other.index]?.[index]])
      .filter(([key, a, b]) => a !== b && !(key === 'seed' && (one.isGroup || other.isGroup)));
    dom.refill(body, [one.name, other.name, rows], () => (rows.length
      ? dom.scrollable('What differs', dom.element('table', {},
        dom.element('caption', {}, `${format.counted(rows.length, 'setting')} of the experiment ${rows.length === 1 ? 'differs' : 'differ'}.`),
        dom.element('thead', {}, dom.element('tr', {}, ['setting', one.name, other.name].map((title) =>
          dom.element('th', { scope: 'col' }, title)))),
        dom.element('tbody', {}, rows.map(([key, a, b]) => dom.element('tr', {},
          dom.element('th', { scope: 'row' }, format.key(key)),
          [a, b].map((value) => dom.element('td', { class: 'value' }, format.cell(value))))))))
      : dom.element('p', {}, 'No setting of the experiment differs.')));
  }

  // What the runs were trained on: values that differ with the runs that have them, then what all have in common.
  function environment(data) {
    const { keys, cells, common } = data.environments;
    const rows = keys.flatMap((key, index) => {
      const having = new Map();
      data.runs.forEach((run, place) => {
        const text = format.cell(cells[place][index]);
        having.set(text, [...(having.get(text) ?? []), run.id]);
      });
      return [...having].map(([text, runs], place) => [place ? '' : key, having.size, text, named(runs, data)]);
    });
    const shared = Object.entries(common);
    dom.refill(dom.byId('environment'), [rows, shared], () => dom.element('div', { class: 'panel' },
      rows.length ? differing(rows) : dom.element('p', {}, data.runs.length > 1
        ? 'All runs were trained in the same environment.' : 'What the run was trained on:'),
      shared.length ? dom.element('details', { open: data.runs.length === 1 },
        dom.element('summary', {}, `What all have in common: ${format.counted(shared.length, 'value')}`),
        dom.scrollable('Common environment', dom.element('table', {},
          dom.element('caption', {}, 'The same for all runs'),
          dom.element('tbody', {}, shared.map(([key, value]) => dom.element('tr', {},
            dom.element('th', { scope: 'row' }, key), dom.element('td', { class: 'value' }, format.cell(value)))))))) : ''));
    return rows.length + shared.length > 0;
  }

  function differing(rows) {
    return dom.scrollable('Environment', dom.element('table', {},
      dom.element('caption', {}, 'What is not the same for all runs'),
      dom.element('thead', {}, dom.element('tr', {}, ['', 'value', 'of'].map((title) =>
        (title ? dom.element('th', { scope: 'col' }, title) : dom.element('td'))))),
      dom.element('tbody', {}, rows.map(([key, count, text, runs]) => dom.element('tr', {},
        key ? dom.element('th', { scope: 'rowgroup', rowspan: count }, key) : '',
        dom.element('td', { class: 'value' }, text), dom.element('td', {}, runs))))));
  }

  function named(runs, data) {
    const some = runs.slice(0, MOST_NAMED).join(', ');
    if (runs.length <= MOST_NAMED) return some;
    return `${format.counted(runs.length, 'run')} of ${data.runs.length}`;
  }

  return { render, environment };
})();
