// What a chart shows, as a table for who cannot see it; it is filled when it is opened.
const summary = (() => {
  'use strict';

  function create(target) {
    const body = dom.element('div');
    const details = dom.element('details', { class: 'alternative', ontoggle: () => fill() },
      dom.element('summary', {}, 'The figures of this chart'), body);
    target.append(details);
    let content = null;

    function fill() {
      if (!details.open || !content) return;
      const { caption, metric, better, lines } = content;
      const pick = better === 'max' ? (a, b) => a.y > b.y : (a, b) => a.y < b.y;
      const rows = lines.map((line) => {
        const points = line.points.filter((point) => point.y !== null);
        const best = points.reduce((found, point) => (pick(point, found) ? point : found));
        const last = points[points.length - 1];
        return dom.element('tr', {}, dom.element('th', { scope: 'row' }, line.name),
          ...[format.figure(metric, best.y), best.epoch, format.figure(metric, last.y), last.epoch]
            .map((text) => dom.element('td', { class: 'number' }, String(text))));
      });
      const word = better === 'max' ? 'highest' : 'lowest';
      body.replaceChildren(dom.scrollable(caption, dom.element('table', {},
        dom.element('caption', {}, caption),
        dom.element('thead', {}, dom.element('tr', {}, ['line', word, 'in epoch', 'last', 'in epoch'].map((title, index) =>
          dom.element('th', { scope: 'col', class: index ? 'number' : null }, title)))),
        dom.element('tbody', {}, rows))));
    }

    return { show(fresh) { content = fresh; fill(); } };
  }

  return { create };
})();
