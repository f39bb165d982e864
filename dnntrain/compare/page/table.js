// The table of all groups or all runs: sorted by its heads, filtered by a text.
const table = (() => {
  'use strict';

  const state = { rows: 'groups', sort: { groups: null, runs: null } };
  let data = null;
  let parts = null;

  function build(target) {
    const filter = dom.element('input', { type: 'search', oninput: () => fill(), placeholder: 'selu 0.001', autocomplete: 'off' });
    const count = dom.element('p', { class: 'hint', role: 'status', 'aria-live': 'polite', id: 'table-count' });
    const caption = dom.element('caption');
    const head = dom.element('tr');
    const body = dom.element('tbody');
    const whole = dom.element('table', { class: 'figures' }, caption, dom.element('thead', {}, head), body);
    target.append(dom.element('div', { class: 'panel' },
      dom.element('div', { class: 'controls' },
        dom.choice('A row for each', { groups: 'Group', runs: 'Run' }, state.rows, (value) => { state.rows = value; fill(); }),
        dom.field('Filter rows', filter), count),
      dom.scrollable('All figures', whole)));
    return { filter, count, caption, head, body };
  }

  function rows() {
    if (state.rows === 'groups') return data.groups.map((group) => ({ group }));
    return data.runs.map((run) => ({ run, group: data.groups[run.group] }));
  }

  // Rows that have nothing to be sorted by stand last, whichever way the others go.
  function compare(column, down) {
    return (one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      const lacking = (a === null || a === undefined) - (b === null || b === undefined);
      if (lacking || a === b || a === null || a === undefined) return lacking;
      const order = typeof a === 'number' && typeof b === 'number' ? a - b
        : String(a).localeCompare(String(b), 'en', { numeric: true });
      return down ? -order : order;
    };
  }

  function sortBy(column) {
    const sort = state.sort[state.rows];
    const down = sort?.title === column.title ? !sort.down : column.first === 'high';
    state.sort[state.rows] = { title: column.title, down };
    fill();
  }

  function fill() {
    const shown = state.rows === 'groups' ? columns.ofGroups(data) : columns.ofRuns(data);
    const sort = state.sort[state.rows];
    const sorted = shown.find((column) => column.title === sort?.title);
    const words = parts.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = rows().map((row) => ({ ...row, cells: shown.map((column) => column.show(row)) }));
    const left = all.filter((row) => {
      const text = row.cells.join('\n').toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (sorted) left.sort(compare(sorted, sort.down));
    const noun = state.rows === 'groups' ? 'group' : 'run';
    parts.count.textContent = `${left.length} of ${format.counted(all.length, noun)}`;
    parts.caption.textContent = sorted ? `Sorted by ${sorted.title}, ${sort.down ? 'highest' : 'lowest'} first.`
      : `The ${noun}s, the best by ${data.metric} first; a column's name sorts by it.`;
    dom.refill(parts.head, [shown.map((column) => column.title)], () => shown.map((column) => header(column)));
    shown.forEach((column, index) => mark(parts.head.children[index], column, sort));
    parts.body.replaceChildren(...left.map((row) => kept(row, shown)));
  }

  function header(column) {
    return dom.element('th', { scope: 'col', class: column.number ? 'number' : null },
      dom.element('button', { type: 'button', onclick: () => sortBy(column) }, column.title, dom.element('span', { class: 'arrow', 'aria-hidden': 'true' })));
  }

  function mark(cell, column, sort) {
    const active = sort?.title === column.title;
    if (active) cell.setAttribute('aria-sort', sort.down ? 'descending' : 'ascending');
    else cell.removeAttribute('aria-sort');
    cell.querySelector('.arrow').textContent = active ? (sort.down ? '▼' : '▲') : '';
  }

  // Rows that show the same as before are moved rather than made anew, which keeps long tables quick.
  const made = new Map();
  function kept(row, shown) {
    const id = row.run ? `run ${row.run.id}` : row.group.id;
    const look = JSON.stringify([row.cells, theme.line(row.group)]);
    if (made.get(id)?.look !== look) made.set(id, { look, element: line(row, shown) });
    return made.get(id).element;
  }

  function line(row, shown) {
    return dom.element('tr', { class: row.group.baseline ? 'is-baseline' : null }, row.cells.map((text, index) => {
      const column = shown[index];
      if (!column.head) return dom.element('td', { class: column.number ? 'number' : null, 'data-title': column.title }, text);
      return dom.element('th', { scope: 'row', title: text }, legend.swatch(row.group), text);
    }));
  }

  function render(fresh) {
    data = fresh;
    parts ??= build(dom.byId('table'));
    fill();
  }

  return { render };
})();
