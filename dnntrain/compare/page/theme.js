// Light and dark, and the colours of charts in both.
const theme = (() => {
  'use strict';

  // Okabe and Ito's colours for every kind of colour vision, darker or lighter where they would be faint on the page.
  const COLOURS = {
    light: ['#0072b2', '#d55e00', '#008a64', '#b0508a', '#8f7300', '#2b8cc4'],
    dark: ['#56b4e9', '#f28e3c', '#2cc59b', '#e79ac5', '#f0e442', '#a9c7ff'],
  };
  // Dashes tell lines apart where colours do not: in print, and for who sees them otherwise.
  const DASHES = [[], [9, 4], [2, 3], [11, 3, 2, 3]];
  const SCALES = { light: ['#c46a00', '#8a8a8a', '#005a9c'], dark: ['#f5a742', '#a8a8a8', '#6cc0ff'] };
  const REMEMBERED = 'dnntrain-theme';

  const prefersDark = window.matchMedia('(prefers-color-scheme: dark)');
  const printing = window.matchMedia('print');
  const stillness = window.matchMedia('(prefers-reduced-motion: reduce)');
  const listeners = [];
  let chosen = recall();
  let onPaper = printing.matches;

  // Storage may be forbidden, as in private windows and for files; then the choice lasts as long as the page.
  function recall() {
    try {
      const found = window.localStorage.getItem(REMEMBERED);
      return found === 'light' || found === 'dark' ? found : null;
    } catch {
      return null;
    }
  }

  function remember(name) {
    try {
      window.localStorage.setItem(REMEMBERED, name);
    } catch {
      // Nothing depends on it.
    }
  }

  const onScreen = () => chosen || (prefersDark.matches ? 'dark' : 'light');
  const name = () => (onPaper ? 'light' : onScreen());

  function apply() {
    document.documentElement.dataset.theme = name();
    const button = dom.byId('theme');
    button.setAttribute('aria-pressed', String(onScreen() === 'dark'));
    for (const listener of listeners) listener();
  }

  function start() {
    dom.byId('theme').addEventListener('click', () => {
      chosen = onScreen() === 'dark' ? 'light' : 'dark';
      remember(chosen);
      apply();
    });
    prefersDark.addEventListener('change', apply);
    const print = (is) => {
      if (onPaper === is) return;
      onPaper = is;
      if (is) for (const each of document.querySelectorAll('details')) each.open = true;
      apply();
    };
    printing.addEventListener('change', (event) => print(event.matches));
    window.addEventListener('beforeprint', () => print(true));
    window.addEventListener('afterprint', () => print(false));
    apply();
  }

  // The page's own colours, by the names that its style sheet gives them.
  function colour(variable) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${variable}`).trim();
  }

  // How a group's lines look; it stays while groups are added. The baseline is drawn in the colour of the text.
  function line(group) {
    if (group.baseline) return { color: colour('ink'), dash: [], width: 2.6 };
    const colours = COLOURS[name()];
    const turn = Math.floor(group.age / colours.length);
    return { color: colours[group.age % colours.length], dash: DASHES[(group.age + turn) % DASHES.length], width: 2 };
  }

  const axis = () => ({
    axisLine: { lineStyle: { color: colour('line-strong') } },
    axisTick: { lineStyle: { color: colour('line-strong') } },
    axisLabel: { color: colour('muted'), fontSize: 12 },
    nameTextStyle: { color: colour('muted'), fontSize: 12 },
    splitLine: { lineStyle: { color: colour('line') } },
    minorSplitLine: { lineStyle: { color: colour('line') } },
  });

  // A line across a chart at a value. ECharts would round the value to two digits.
  const rule = () => ({
    silent: true, symbol: 'none', animation: false, precision: 12,
    lineStyle: { color: colour('muted'), type: [4, 4], width: 1 },
  });

  const tooltip = () => ({
    backgroundColor: colour('panel'),
    borderColor: colour('line-strong'),
    textStyle: { color: colour('ink'), fontSize: 13, fontFamily: 'inherit' },
    confine: true,
    transitionDuration: 0,
  });

  // A chart in an element, which follows the element's width; on paper all have one that fits it.
  const PAPER = 680;
  function chart(target) {
    const made = echarts.init(target, null, { renderer: 'canvas' });
    const fit = () => {
      const width = onPaper ? PAPER : target.clientWidth;
      if (width && width !== made.getWidth()) made.resize({ width });
    };
    new ResizeObserver(() => { if (!onPaper) fit(); }).observe(target);
    listeners.push(fit);
    return made;
  }

  return {
    start, colour, line, axis, rule, tooltip, chart,
    onPaper: () => onPaper,
    scale: () => SCALES[name()],
    font: () => getComputedStyle(document.body).fontFamily,
    animates: (count) => !stillness.matches && !onPaper && count <= 20,
    onChange: (listener) => listeners.push(listener),
  };
})();
