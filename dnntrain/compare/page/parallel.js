// Parallel coordinates: a line a group through its settings to what it came to.
const parallel = (() => {
  'use strict';

  const FEWEST_GROUPS = 3;
  const FEWEST_KEYS = 2;
  const MOST_KEYS = 8;
  const MOST_CATEGORIES = 6;
  // Numbers of which the largest is so many times the smallest are spread by their logarithm.
  const WIDE = 30;

  let chart = null;
  let caption = null;
  let canvas = null;

  // The keys to show: those that mattered most, where there are too many.
  function chosen(data) {
    const order = data.importance.flatMap((each) => each.keys);
    const place = (key) => (order.includes(key) ? order.indexOf(key) : order.length);
    const keys = [...data.keys].sort((a, b) => place(a) - place(b)).slice(0, MOST_KEYS);
    return data.keys.filter((key) => keys.includes(key));
  }

  function scaleOf(values) {
    const known = [...new Set(values.filter((value) => value !== null))];
    const numeric = known.every((value) => typeof value === 'number');
    if (numeric && known.length > MOST_CATEGORIES) {
      const [low, high] = [Math.min(...known), Math.max(...known)];
      return { type: low > 0 && high / low >= WIDE ? 'log' : 'value', scale: true };
    }
    const sorted = known.sort((a, b) => (numeric ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true })));
    const data = sorted.map(format.cell);
    if (values.includes(null)) data.push(format.NOTHING);
    return { type: 'category', data };
  }

  function render(data) {
    const groups = data.groups.filter((group) => group.quality.value !== null);
    if (groups.length < FEWEST_GROUPS || data.keys.length < FEWEST_KEYS) return false;
    if (!chart) build();
    const keys = chosen(data);
    const some = keys.length < data.keys.length ? `The ${keys.length} of ${data.keys.length} settings that go most with the result. ` : '';
    const narrow = canvas.clientWidth < 640;
    const end = narrow ? 'at the bottom' : 'at the right';
    caption.textContent = `${some}Each line is a group, from its settings to ${data.metric} ${end}; drag along an axis to pick lines, click it to let go.`;
    canvas.setAttribute('aria-label', `Settings of ${groups.length} groups beside ${data.metric}; the table above has the same figures.`);
    canvas.style.height = narrow ? `${70 * (keys.length + 1) + 60}px` : '380px';
    chart.resize();
    chart.setOption(option(data, groups, keys, narrow), true);
    chart.getZr().flush();
    return true;
  }

  function build() {
    caption = dom.element('figcaption');
    canvas = dom.element('div', { class: 'chart', role: 'img' });
    dom.byId('parallel').append(dom.element('figure', { class: 'panel' }, caption, canvas));
    chart = theme.chart(canvas);
  }

  function option(data, groups, keys, narrow) {
    const axis = theme.axis();
    const places = keys.map((key) => data.keys.indexOf(key));
    const scales = places.map((place) => scaleOf(groups.map((group) => group.settings[place])));
    const results = groups.map((group) => group.quality.value);
    const looks = {
      ...axis, nameTextStyle: { ...axis.nameTextStyle, color: theme.colour('ink') }, nameGap: 14, splitLine: { show: false },
      areaSelectStyle: { color: theme.colour('accent'), borderColor: theme.colour('accent'), opacity: 0.2, width: 14 },
    };
    const border = { textBorderColor: theme.colour('panel'), textBorderWidth: 3 };
    // Beside a lying axis there is no room for its name, so that it stands on it.
    if (narrow) Object.assign(looks, {
      nameLocation: 'start', nameGap: 0,
      nameTextStyle: { ...looks.nameTextStyle, ...border, align: 'left', verticalAlign: 'bottom', padding: [0, 0, 5, 0] },
    });
    const label = { ...axis.axisLabel, color: theme.colour('ink'), ...border };
    const cells = (group) => places.map((place, index) => {
      const value = group.settings[place];
      return scales[index].type === 'category' ? format.cell(value) : value;
    });
    const ends = [Math.min(...results), Math.max(...results)];
    const goodUp = data.better === 'max' ? theme.scale() : [...theme.scale()].reverse();
    return {
      animation: false,
      textStyle: { fontFamily: theme.font() },
      tooltip: { ...theme.tooltip(), trigger: 'item', formatter: ({ dataIndex }) => tip(data, groups[dataIndex], keys, places) },
      parallel: narrow
        ? { layout: 'vertical', left: 20, right: 30, top: 40, bottom: 30, parallelAxisDefault: looks }
        : { left: 60, right: 110, top: 44, bottom: 24, parallelAxisDefault: looks },
      parallelAxis: [
        ...keys.map((key, index) => ({
          dim: index, name: format.cut(format.key(key).split('.').pop(), 18), ...scales[index],
          axisLabel: { ...label, formatter: (value) => format.cut(String(value), 14) },
        })),
        {
          dim: keys.length, name: data.metric, type: 'value', scale: true,
          axisLabel: { ...label, formatter: (value) => format.tick(data.metric, value) },
        },
      ],
      visualMap: { show: false, dimension: keys.length, min: ends[0], max: ends[1], inRange: { color: goodUp } },
      series: [{
        type: 'parallel', inactiveOpacity: 0.06, activeOpacity: 0.95,
        lineStyle: { width: groups.length > 60 ? 1.2 : 2.4, opacity: groups.length > 60 ? 0.5 : 0.85 },
        emphasis: { lineStyle: { width: 4, opacity: 1 } },
        data: groups.map((group) => ({ value: [...cells(group), group.quality.value], name: group.label })),
      }],
    };
  }

  function tip(data, group, keys, places) {
    return dom.element('div', { class: 'tip' }, dom.element('strong', {}, format.cut(group.label, 40)),
      dom.element('table', {}, keys.map((key, index) => dom.element('tr', {},
        dom.element('td', {}, format.key(key)), dom.element('td', {}, format.cut(String(format.cell(group.settings[places[index]])), 30)))),
      dom.element('tr', {}, dom.element('td', {}, data.metric), dom.element('td', {}, format.figure(data.metric, group.quality.value)))));
  }

  return { render };
})();
