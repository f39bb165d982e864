// A chart of figures over epochs or time: choice of metric and axis, smoothing, zoom, and a tooltip that follows.
const curves = (() => {
  'use strict';

  const MOST_IN_TOOLTIP = 12;
  const ZOOM_STEP = 0.25;

  // Lines of one chart with the state of its controls; `wanted` picks the metrics that it offers.
  function create(target, { wanted, preferred, log, withLegend, label }) {
    const state = { metric: null, time: false, log, weight: 0 };
    const parts = layout(target, state, () => draw(), { withLegend, label });
    const chart = theme.chart(parts.canvas);
    let data = null;
    let lines = [];
    let pointerY = null;
    let begun = false;

    chart.getZr().on('mousemove', (event) => { pointerY = event.offsetY; });
    parts.zoom.append(...zoomButtons());
    selection.onChange(() => draw());
    // A chart that is out of sight is drawn when it comes near; all are drawn for paper.
    let inSight = false;
    let late = false;
    new IntersectionObserver((entries) => {
      inSight = entries[entries.length - 1].isIntersecting;
      if (inSight && late) paint();
    }, { rootMargin: '200px' }).observe(parts.canvas);

    function zoomButtons() {
      const button = (text, title, change) => dom.element('button', {
        type: 'button', class: 'quiet', title, 'aria-label': title, onclick: () => zoom(change),
      }, text);
      return [
        button('+', 'Zoom in', ([a, b]) => [a + (b - a) * ZOOM_STEP, b - (b - a) * ZOOM_STEP]),
        button('−', 'Zoom out', ([a, b]) => [a - (b - a) / 2, b + (b - a) / 2]),
        button('←', 'Move left', ([a, b]) => (a - (b - a) * ZOOM_STEP < 0 ? [0, b - a] : [a, b].map((x) => x - (b - a) * ZOOM_STEP))),
        button('→', 'Move right', ([a, b]) => (b + (b - a) * ZOOM_STEP > 100 ? [100 - b + a, 100] : [a, b].map((x) => x + (b - a) * ZOOM_STEP))),
        button('All', 'All of the range', () => [0, 100]),
      ];
    }

    const range = () => {
      const found = chart.getOption()?.dataZoom?.[0];
      return found ? [found.start, found.end] : [0, 100];
    };

    function zoom(change) {
      const [start, end] = change(range()).map((value) => Math.min(100, Math.max(0, value)));
      chart.dispatchAction({ type: 'dataZoom', start, end });
    }

    function offer() {
      const known = new Set(data.runs.flatMap((run) => Object.keys(run.curves)));
      const metrics = [...known].filter(wanted);
      if (!metrics.includes(state.metric)) {
        state.metric = preferred(data).find((metric) => metrics.includes(metric)) ?? metrics[0] ?? null;
      }
      dom.refill(parts.metric, metrics, () => metrics.map((metric) => dom.element('option', { value: metric }, metric)));
      parts.metric.value = state.metric;
      return metrics.length > 0;
    }

    // Returns whether there is anything to draw.
    function render(fresh) {
      data = fresh;
      const any = offer();
      if (any) draw();
      return any;
    }

    function draw() {
      if (!data || !state.metric) return;
      lines = series.lines(data, state);
      parts.legend?.render(data);
      const grouped = selection.mode() === 'groups';
      const smoothed = state.weight ? `, smoothed by ${state.weight}` : '';
      const what = grouped
        ? 'Line: mean over seeds, as far as at least half of them go. Shade: from the lowest to the highest seed.'
        : 'A line a run; the dot is its best epoch.';
      parts.caption.textContent = `${state.metric} over ${state.time ? 'time' : 'epochs'}${smoothed}. ${what}`;
      parts.canvas.setAttribute('aria-label', `${label}: ${state.metric}, ${format.counted(lines.length, 'line')}. `
        + 'The figures stand in the table below the chart.');
      parts.empty.hidden = lines.length > 0;
      parts.summary.show({ caption: `${state.metric}: best and last`, metric: state.metric, better: data.directions[state.metric] ?? 'min', lines });
      late = true;
      if (inSight || theme.onPaper()) paint();
    }

    function paint() {
      late = false;
      const before = begun ? range() : [0, 100];
      const kept = before[0] > 0 || before[1] < 100 ? chart.getOption().dataZoom[0] : null;
      chart.setOption(option(), { replaceMerge: ['series'] });
      // While zoomed, an update keeps what is in view rather than its share of a range that has grown.
      if (kept) chart.dispatchAction({ type: 'dataZoom', startValue: kept.startValue, endValue: kept.endValue });
      chart.getZr().flush();
      begun = true;
    }

    function option() {
      const axis = theme.axis();
      const made = {
        animation: theme.animates(lines.length) && !begun,
        animationDuration: 400,
        textStyle: { fontFamily: theme.font() },
        // The pointer has a layer of its own, so that moving it does not draw all lines again.
        axisPointer: { zlevel: 1 },
        grid: { left: 12, right: 20, top: 34, bottom: 62, containLabel: true },
        tooltip: { ...theme.tooltip(), trigger: 'axis', formatter: tip, axisPointer: { type: 'line', triggerEmphasis: false, zlevel: 1, lineStyle: { color: theme.colour('line-strong') } } },
        xAxis: {
          ...axis, type: 'value', name: state.time ? 'training time' : 'epoch', nameLocation: 'middle', nameGap: 28,
          min: state.time ? 0 : 'dataMin', max: 'dataMax', minInterval: state.time ? 0 : 1, splitLine: { show: false },
          axisLabel: { ...axis.axisLabel, hideOverlap: true, showMinLabel: true, formatter: state.time ? format.duration : undefined },
        },
        yAxis: {
          ...axis, type: state.log ? 'log' : 'value', scale: true, name: state.metric,
          nameTextStyle: { ...axis.nameTextStyle, align: 'left', padding: [0, 0, 4, -4] },
          axisLabel: { ...axis.axisLabel, formatter: (value) => format.tick(state.metric, value) },
        },
        series: [...lines.flatMap((line) => [band(line), curve(line)]).filter(Boolean), dots(), ...goal(), probe()],
      };
      return begun ? made : { ...made, dataZoom: zoomers() };
    }

    function zoomers() {
      return [
        { type: 'slider', filterMode: 'none', height: 18, bottom: 6, showDetail: false, brushSelect: false, throttle: 30 },
        { type: 'inside', filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseWheel: false, moveOnMouseMove: true },
      ];
    }

    function curve(line) {
      const { color, dash, width } = theme.line(line.group);
      const thin = selection.mode() === 'runs' && lines.length > 12;
      return {
        type: 'line', id: line.id, name: line.name, z: line.group.baseline ? 4 : 3,
        symbol: 'none', clip: true, silent: lines.length > 20, tooltip: { trigger: 'none' },
        lineStyle: { color, width: thin ? width * 0.6 : width, type: dash.length ? dash : 'solid', opacity: thin ? 0.8 : 1 },
        itemStyle: { color },
        emphasis: lines.length > 20 ? { disabled: true } : { focus: 'series', blurScope: 'coordinateSystem' },
        data: line.points.map((point) => [point.x, point.y]),
      };
    }

    // The pointer looks for the nearest epoch in this unseen line alone; to look in hundreds of lines takes too long.
    function probe() {
      const places = new Map(lines.flatMap((line) => line.points.filter((point) => point.y !== null).map(({ x, y }) => [x, y])));
      const data = [...places].sort(([a], [b]) => a - b);
      return { type: 'line', id: 'probe', data, symbol: 'none', silent: true, lineStyle: { opacity: 0 } };
    }

    // Dots for the best epochs of runs, and for lines that are a single point, which would not be seen.
    function dots() {
      const marked = lines.flatMap((line) => {
        const known = line.points.filter((point) => point.y !== null);
        return known.filter((point) => known.length === 1 || point.epoch === line.best)
          .map((point) => ({ value: [point.x, point.y], itemStyle: { color: theme.line(line.group).color } }));
      });
      return { type: 'scatter', id: 'dots', z: 5, silent: true, clip: true, symbolSize: 7, tooltip: { show: false }, data: marked };
    }

    // The range of seeds is one polygon, which a log axis bends correctly (stacked areas it would not).
    function band(line) {
      if (line.points.every((point) => point.low === undefined || point.low === point.high)) return null;
      return {
        type: 'custom', id: `band ${line.id}`, silent: true, clip: true, z: 1, tooltip: { show: false },
        encode: { x: 0, y: [1, 2] }, dimensions: ['x', 'low', 'high'],
        data: line.points.map((point) => [point.x, point.low, point.high]),
        renderItem(params, api) {
          if (params.dataIndexInside > 0) return null;
          const edge = (side) => line.points.map((point) => api.coord([point.x, point[side]]));
          return {
            type: 'polygon', silent: true, shape: { points: [...edge('high'), ...edge('low').reverse()] },
            style: { fill: theme.line(line.group).color, opacity: 0.13 },
          };
        },
      };
    }

    // What the baseline came to, which convergence is measured by.
    function goal() {
      if (state.metric !== data.target.metric || data.target.value === null || !lines.length) return [];
      return [{
        type: 'line', id: 'goal', data: [], silent: true, tooltip: { show: false },
        markLine: {
          ...theme.rule(), data: [{ yAxis: data.target.value }],
          label: { formatter: "the baseline's best", position: 'insideEndBottom', color: theme.colour('muted'), fontSize: 12, textBorderColor: theme.colour('panel'), textBorderWidth: 3 },
        },
      }];
    }

    // Text from runs goes into the tooltip as text; ECharts takes an element in place of HTML.
    function tip(found) {
      const x = found[0].axisValue;
      const rows = lines.map((line) => ({ line, point: series.nearest(line.points, x) })).filter(({ point }) => point);
      if (!rows.length) return '';
      const here = pointerY === null ? null : chart.convertFromPixel({ yAxisIndex: 0 }, pointerY);
      const distance = ({ point }) => (here === null ? 0 : Math.abs(point.y - here));
      const near = rows.length <= MOST_IN_TOOLTIP ? rows : rows.sort((a, b) => distance(a) - distance(b)).slice(0, MOST_IN_TOOLTIP);
      near.sort((a, b) => b.point.y - a.point.y);
      const more = rows.length - near.length;
      return dom.element('div', { class: 'tip' },
        dom.element('strong', {}, state.time ? `after ${format.duration(x)}` : `epoch ${x}`),
        dom.element('table', {}, near.map(({ line, point }) => dom.element('tr', {},
          dom.element('td', {}, legend.swatch(line.group)),
          dom.element('td', {}, format.cut(line.name, 34)),
          dom.element('td', { class: 'number' }, format.figure(state.metric, point.y)),
          dom.element('td', { class: 'tip-range' }, spread(point))))),
        more ? dom.element('p', { class: 'hint' }, `and ${format.counted(more, 'line')} further from the pointer`) : '');
    }

    function spread(point) {
      if (point.low === undefined || point.low === point.high) return '';
      return `${format.figure(state.metric, point.low)} to ${format.figure(state.metric, point.high)}`;
    }

    return { render };
  }

  // The controls and the places of a chart.
  function layout(target, state, redraw, { withLegend, label }) {
    const change = (key) => (value) => { state[key] = value; redraw(); };
    const metric = dom.element('select', { onchange: () => change('metric')(metric.value) });
    const amount = dom.element('span', {}, 'none');
    const smoothing = dom.element('input', {
      type: 'range', min: 0, max: 0.95, step: 0.05, value: 0,
      oninput: () => {
        amount.textContent = Number(smoothing.value) ? smoothing.value : 'none';
        change('weight')(Number(smoothing.value));
      },
    });
    const zoom = dom.element('div', { class: 'buttons' });
    const modes = withLegend
      ? dom.choice('Draw', { groups: 'Mean of seeds', runs: 'Each run' }, selection.mode(), selection.setMode) : '';
    const controls = dom.element('div', { class: 'controls' },
      dom.field('Metric', metric), modes,
      dom.choice('Over', { epoch: 'Epochs', time: 'Time' }, 'epoch', (value) => change('time')(value === 'time')),
      dom.field(dom.element('span', {}, 'Smoothing: ', amount), smoothing),
      dom.element('div', { class: 'field', role: 'group', 'aria-label': `Zoom of ${label}` }, dom.element('span', {}, 'Zoom'), zoom),
      dom.checkbox('Log scale', state.log, change('log')));
    const caption = dom.element('figcaption');
    const canvas = dom.element('div', { class: 'chart curves-chart', role: 'img' });
    const empty = dom.element('p', { class: 'empty', hidden: true }, 'Nothing to draw: no line is switched on that has this figure.');
    const side = dom.element('div', { class: 'side' });
    const figure = dom.element('figure', {}, caption, empty, canvas);
    const body = dom.element('div', { class: withLegend ? 'chart-and-legend' : '' }, figure, withLegend ? side : '');
    const panel = dom.element('div', { class: 'panel' }, controls, body);
    target.append(panel);
    return {
      metric, zoom, caption, canvas, empty,
      summary: summary.create(panel), legend: withLegend ? legend.create(side) : null,
    };
  }

  return { create };
})();
