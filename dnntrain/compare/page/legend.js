// The legend is a list of checkboxes: it says how each line looks, and is how lines are switched on and off.
const legend = (() => {
  'use strict';

  const MANY = 12;

  function swatch(group) {
    const { color, dash, width } = theme.line(group);
    return dom.svg('svg', { class: 'swatch', viewBox: '0 0 30 10', 'aria-hidden': 'true' },
      dom.svg('line', {
        x1: 1, y1: 5, x2: 29, y2: 5, stroke: color, 'stroke-width': width + 0.6, 'stroke-dasharray': dash.join(' '),
      }));
  }

  function entry(id, text, note, group) {
    const input = dom.element('input', {
      type: 'checkbox', checked: selection.shows(id), 'data-id': id,
      onchange: () => selection.show([id], input.checked),
    });
    return dom.element('label', { class: 'entry', title: text }, input, group ? swatch(group) : '',
      dom.element('span', { class: 'entry-name' }, text), dom.element('span', { class: 'entry-note' }, note));
  }

  function create(target) {
    const list = dom.element('ul', { class: 'entries' });
    const filter = dom.element('input', { type: 'search', oninput: () => sift() });
    const search = dom.field('Find a group', filter);
    const all = (wanted) => selection.show(matching().map((group) => group.id), wanted);
    const buttons = dom.element('div', { class: 'buttons' },
      dom.element('button', { type: 'button', class: 'quiet', onclick: () => all(true) }, 'All'),
      dom.element('button', { type: 'button', class: 'quiet', onclick: () => all(false) }, 'None'));
    const shown = dom.element('p', { class: 'hint', role: 'status' });
    target.append(dom.element('fieldset', { class: 'legend' }, dom.element('legend', {}, 'Lines'),
      search, buttons, shown, list));
    let data = null;

    const matching = () => data.groups.filter((group) => matches(group));
    const matches = (group) => group.label.toLowerCase().includes(filter.value.trim().toLowerCase());

    function sift() {
      data.groups.forEach((group, index) => { list.children[index].hidden = !matches(group); });
    }

    function items() {
      return data.groups.map((group) => {
        const item = dom.element('li', {}, entry(group.id, group.label, format.figure(data.metric, group.quality.value), group));
        if (selection.mode() === 'runs') {
          item.append(dom.element('ul', {}, group.runs.map((index) => data.runs[index]).map((run) => dom.element('li', {},
            entry(selection.runKey(run), `seed ${run.seed}`, format.figure(data.metric, run.value), null)))));
        }
        return item;
      });
    }

    // Focus stays on the checkbox that has it, also where an update has to make the list anew.
    function render(fresh) {
      data = fresh;
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
      const looks = data.groups.map((group) => [
        group.id, group.label, group.quality.value, theme.line(group), group.runs.map((index) => data.runs[index].value),
      ]);
      dom.refill(list, [selection.mode(), looks], items);
      for (const input of list.querySelectorAll('input')) {
        input.checked = selection.shows(input.dataset.id);
        if (input.dataset.id === focused) input.focus({ preventScroll: true });
      }
      search.hidden = data.groups.length <= MANY;
      const count = data.groups.filter((group) => selection.shows(group.id)).length;
      shown.textContent = `${count} of ${format.counted(data.groups.length, 'group')} drawn; beside each, its ${data.metric}`;
      sift();
    }

    return { render };
  }

  return { create, swatch };
})();
