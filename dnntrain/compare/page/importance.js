// How much of the variance between groups goes with each setting.
const importance = (() => {
  'use strict';

  const percent = (share) => `${Math.round(100 * share)} %`;
  const chance = (p) => (p < 0.001 ? '< 0.001' : String(Number(p.toPrecision(2))));

  function render(data) {
    const found = data.importance;
    dom.refill(dom.byId('importance'), [data.metric, found], () => (found.length ? content(data, found) : []));
    return found.length > 0;
  }

  function content(data, found) {
    const titles = ['setting', 'share of the variance', '', 'p', 'values'];
    return dom.element('div', { class: 'panel' },
      dom.element('p', {}, `How much of what the ${found[0].groups} groups differ in by ${data.metric} goes with each setting, `
        + 'taken by itself. Only these groups are known: settings that go together share what they explain, and p is how '
        + 'often figures dealt out at random would show as large a share.'),
      dom.scrollable('What mattered', dom.element('table', { class: 'importance' },
        dom.element('caption', {}, `Share of the variance of ${data.metric} between groups`),
        dom.element('thead', {}, dom.element('tr', {}, titles.map((title, index) => (title
          ? dom.element('th', { scope: 'col', class: index === 3 || index === 4 ? 'number' : null, colspan: index === 1 ? 2 : null }, title) : '')))),
        dom.element('tbody', {}, found.map((each) => row(each))))));
  }

  function row(each) {
    return dom.element('tr', {},
      dom.element('th', { scope: 'row' }, each.keys.map(format.key).join(', '),
        each.keys.length > 1 ? dom.element('span', { class: 'hint' }, ' (always together)') : ''),
      dom.element('td', { class: 'bar-cell' }, dom.element('div', { class: 'bar', style: `inline-size: ${Math.max(100 * each.share, 0.5)}%` })),
      dom.element('td', { class: 'number' }, percent(each.share)),
      dom.element('td', { class: 'number' }, chance(each.p)),
      dom.element('td', { class: 'number' }, String(each.levels)));
  }

  return { render };
})();
