// The three answers, a line a group in each, and the chart that shows how sure the first one is.
const answers = (() => {
  'use strict';

  const MOST = 8;
  const MOST_IN_CHART = 25;
  // What a verdict looks like; the words say the same.
  const TONES = {
    better: 'good', faster: 'good', worse: 'bad', slower: 'bad', baseline: 'base',
  };

  const QUESTIONS = [
    {
      part: 'quality', title: 'Quality', question: 'Is the model better?',
      figure: (group, data) => format.figure(data.metric, group.quality.value),
    },
    {
      part: 'convergence', title: 'Convergence', question: 'Does it get there sooner?',
      figure: ({ convergence }) => (convergence.epochs === null ? 'not reached' : format.counted(convergence.epochs, 'epoch')),
    },
    {
      part: 'speed', title: 'Speed', question: 'What does it cost?',
      figure: ({ speed }) => (speed.samples_per_second === null ? format.NOTHING : `${format.number(Math.round(speed.samples_per_second))}/s`),
    },
  ];

  function explained(data, part) {
    if (part === 'quality') return `${data.metric}, mean over seeds; ${data.better === 'max' ? 'higher' : 'lower'} is better`;
    if (part === 'speed') return 'Samples a second in training, medians over runs: as measured, with no verdict on luck';
    const { metric, value } = data.target;
    return value === null ? 'The baseline has no figure to reach'
      : `Epochs to ${metric} ${format.figure(metric, value)}, the baseline's best`;
  }

  // The words after the verdict itself, which stands before them as a mark.
  function rest(answer) {
    const text = answer.text;
    return text.startsWith(answer.verdict) ? text.slice(answer.verdict.length).replace(/^[:;]?\s*/, '') : text;
  }

  function item(group, { part, figure }, data) {
    const answer = group[part];
    const words = rest(answer);
    return dom.element('li', {},
      dom.element('p', { class: 'answer-head' }, legend.swatch(group),
        dom.element('span', { class: 'answer-name', title: group.label }, group.label),
        dom.element('span', { class: 'answer-figure' }, figure(group, data))),
      dom.element('p', { class: 'answer-words' },
        dom.element('span', { class: `verdict ${TONES[answer.verdict] ?? 'open'}` }, answer.verdict),
        words ? ` ${words}` : ''));
  }

  function card(question, data) {
    const items = data.groups.map((group) => item(group, question, data));
    const title = dom.uniqueId('answer');
    const made = dom.element('article', { class: 'panel answer', 'aria-labelledby': title },
      dom.element('h3', { id: title }, question.title, dom.element('span', { class: 'question' }, question.question)),
      dom.element('p', { class: 'hint' }, explained(data, question.part)),
      dom.element('ul', { class: 'answer-list' }, items.slice(0, MOST)));
    if (items.length > MOST) {
      made.append(dom.element('details', {}, dom.element('summary', {}, `${format.counted(items.length - MOST, 'more group')}`),
        dom.element('ul', { class: 'answer-list' }, items.slice(MOST))));
    }
    return made;
  }

  function render(data) {
    const look = data.groups.map((group) => [
      group.id, group.label, group.quality, group.convergence, group.speed, theme.line(group),
    ]);
    const target = dom.byId('answers');
    const open = [...target.querySelectorAll('details')].map((each) => each.open);
    dom.refill(target, [data.metric, data.target, look], () => QUESTIONS.map((question) => card(question, data)));
    target.querySelectorAll('details').forEach((each, index) => { each.open = open[index] ?? each.open; });
    dom.refill(dom.byId('remarks'), data.remarks, () => data.remarks.map((remark) => dom.element('li', {}, remark)));
    drawQuality(data);
  }

  let chart = null;
  function drawQuality(data) {
    const groups = data.groups.filter((group) => group.quality.value !== null).slice(0, MOST_IN_CHART);
    const figure = dom.byId('quality-figure');
    figure.hidden = groups.length < 2;
    if (figure.hidden) return;
    const target = dom.byId('quality-chart');
    target.style.height = `${64 + 30 * groups.length}px`;
    chart ??= theme.chart(target);
    chart.resize();
    const all = groups.length < data.groups.length ? ` The best ${groups.length} of ${data.groups.length} groups.` : '';
    dom.byId('quality-caption').textContent = `${data.metric}: mean over seeds with its 95 % interval; `
      + `small dots are the seeds, the broken line is the baseline's mean.${all}`;
    target.setAttribute('role', 'img');
    target.setAttribute('aria-label', `${data.metric} by group: ${groups.map((group) =>
      `${group.label} ${format.figure(data.metric, group.quality.value)}`).join(', ')}`);
    chart.setOption(qualityOption(data, groups), true);
    chart.getZr().flush();
  }

  function qualityOption(data, groups) {
    const axis = theme.axis();
    const narrow = dom.byId('quality-chart').clientWidth < 560;
    const names = groups.map((group) => group.label);
    const base = data.groups.find((group) => group.baseline).quality.value;
    const seeds = groups.flatMap((group, index) => group.runs.map((run) => data.runs[run])
      .filter((run) => run.value !== null).map((run) => ({ value: [run.value, index], run, group })));
    return {
      animation: false,
      textStyle: { fontFamily: theme.font() },
      grid: { left: 8, right: 24, top: 8, bottom: 34, containLabel: true },
      tooltip: { ...theme.tooltip(), trigger: 'item', formatter: (found) => qualityTip(data, found) },
      xAxis: {
        ...axis, type: 'value', scale: true, name: data.metric, nameLocation: 'middle', nameGap: 28,
        axisLabel: { ...axis.axisLabel, hideOverlap: true, formatter: (value) => format.tick(data.metric, value) },
      },
      yAxis: {
        ...axis, type: 'category', inverse: true, data: names, axisTick: { show: false }, axisLine: { show: false },
        axisLabel: { color: theme.colour('ink'), fontSize: 13, formatter: (name) => format.cut(name, narrow ? 16 : 34) },
      },
      series: [
        {
          type: 'custom', z: 2, encode: { x: [1, 2], y: 0 }, renderItem: (params, api) => whisker(groups[params.dataIndex], api),
          data: groups.map(({ quality }, index) => ({ value: [index, quality.low ?? quality.value, quality.high ?? quality.value], group: groups[index] })),
          markLine: base === null ? undefined : { ...theme.rule(), label: { show: false }, data: [{ xAxis: base }] },
        },
        {
          type: 'scatter', z: 3, symbolSize: 6, data: seeds.map((seed) => ({ ...seed, itemStyle: { color: theme.line(seed.group).color, opacity: 0.55 } })),
        },
        {
          type: 'scatter', z: 4, symbolSize: 12, symbol: 'diamond',
          data: groups.map((group, index) => ({ value: [group.quality.value, index], group, itemStyle: { color: theme.line(group).color } })),
        },
      ],
    };
  }

  // An interval: a line with two ends; nothing for a group that has none.
  function whisker(group, api) {
    if (group.quality.low === null) return null;
    const [low, high] = [1, 2].map((side) => api.coord([api.value(side), api.value(0)]));
    const style = { stroke: theme.line(group).color, lineWidth: 2, opacity: 0.85 };
    const bar = (x1, y1, x2, y2) => ({ type: 'line', shape: { x1, y1, x2, y2 }, style });
    return {
      type: 'group',
      children: [bar(low[0], low[1], high[0], high[1]), bar(low[0], low[1] - 6, low[0], low[1] + 6), bar(high[0], high[1] - 6, high[0], high[1] + 6)],
    };
  }

  function qualityTip(data, { data: { group, run } }) {
    const { low, high, value } = group.quality;
    const lines = run ? [`seed ${run.seed}: ${format.figure(data.metric, run.value)}`]
      : [`mean ${format.figure(data.metric, value)}`, low === null ? 'no interval' : `95 % interval ${format.figure(data.metric, low)} to ${format.figure(data.metric, high)}`];
    return dom.element('div', { class: 'tip' }, dom.element('strong', {}, format.cut(group.label, 40)),
      lines.map((line) => dom.element('p', {}, line)));
  }

  return { render };
})();
