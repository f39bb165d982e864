// Puts the page together, and again whenever there is news.
(() => {
  'use strict';

  const isMetric = (name) => name.includes('/') && !name.startsWith('activations/');
  let data = JSON.parse(dom.byId('data').textContent);
  let charts = null;

  function show(part, wanted) {
    document.querySelector(`[data-part="${part}"]`).hidden = !wanted;
  }

  function heading() {
    const runs = format.counted(data.runs.length, 'run');
    const groups = format.counted(data.groups.length, 'group');
    const best = data.better === 'max' ? 'higher' : 'lower';
    dom.byId('title').textContent = data.groups.length ? `${groups}, ${runs}` : 'No runs yet';
    dom.byId('subtitle').textContent = data.groups.length
      ? `Compared by ${data.metric} (${best} is better) with ${data.baseline}${data.groups.some((group) => group.runs.length > 1) ? ', over seeds' : ''}` : '';
    document.title = data.groups.length ? `${data.metric}: ${groups}, ${runs}` : 'dnntrain: no runs yet';
    const notice = dom.byId('notice');
    notice.textContent = data.notice ?? '';
    notice.hidden = !data.notice;
  }

  function createCharts() {
    const main = curves.create(dom.byId('curves'), {
      label: 'Learning curves', withLegend: true, log: false, wanted: isMetric,
      preferred: (fresh) => [fresh.metric, fresh.target.metric, 'valid/loss', 'train/loss'],
    });
    const further = curves.create(dom.byId('further'), {
      label: 'Further figures', withLegend: false, log: true, wanted: (name) => !isMetric(name),
      preferred: () => ['grad_norm', 'lr'],
    });
    return { main, further };
  }

  // A part that has nothing to show is left out. It is made visible first, since a chart must know how wide it is.
  function part(name, wanted, render) {
    show(name, wanted);
    if (wanted) show(name, render() !== false);
  }

  function render() {
    const any = data.groups.length > 0;
    const compared = data.groups.length > 1;
    heading();
    selection.meet(data.groups);
    part('answers', any, () => answers.render(data));
    if (any) {
      for (const name of ['curves', 'further']) show(name, true);
      charts ??= createCharts();
    }
    part('curves', any, () => charts.main.render(data));
    part('table', any, () => table.render(data));
    part('parallel', compared, () => parallel.render(data));
    part('importance', compared, () => importance.render(data));
    part('further', any, () => charts.further.render(data));
    part('differences', any, () => differences.render(data));
    part('environment', any, () => differences.environment(data));
  }

  theme.start();
  render();
  theme.onChange(render);
  live.start((fresh) => { data = fresh; render(); });
})();
