// Numbers as people read them; the terminal writes them the same way.
const format = (() => {
  'use strict';

  const NOTHING = '–';
  const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

  // A metric: accuracies in percent, the rest with four digits.
  function figure(name, value) {
    if (value === null || value === undefined) return NOTHING;
    if (name && name.endsWith('accuracy')) return `${(100 * value).toFixed(2)} %`;
    return number(value, 4);
  }

  function number(value, digits = 4) {
    if (value === null || value === undefined) return NOTHING;
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e15) return whole.format(value);
    if (size >= 10 ** digits && size < 1e12) return whole.format(value);
    if (size !== 0 && size < 1e-4) return value.toExponential(digits - 2);
    return value.toPrecision(digits);
  }

  // A value on an axis: no more digits than the ticks need.
  function tick(name, value) {
    if (name && name.endsWith('accuracy')) return `${Number((100 * value).toPrecision(6))} %`;
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return Number(value.toPrecision(3)).toExponential();
    return String(Number(value.toPrecision(6)));
  }

  function duration(seconds) {
    if (seconds === null || seconds === undefined) return NOTHING;
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const total = Math.round(seconds);
    const pad = (value) => String(value).padStart(2, '0');
    const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
    return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
  }

  function volume(bytes) {
    if (bytes === null || bytes === undefined) return NOTHING;
    const units = ['B', 'KB', 'MB', 'GB', 'TB'];
    let unit = 0;
    for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
    return unit ? `${bytes.toFixed(1)} ${units[unit]}` : `${bytes.toFixed(0)} B`;
  }

  // A cell of a configuration, as its file would have it.
  function cell(value) {
    if (value === null || value === undefined) return NOTHING;
    return typeof value === 'number' ? String(Number(value.toPrecision(7))) : value;
  }

  const counted = (count, one, many = `${one}s`) => `${whole.format(count)} ${count === 1 ? one : many}`;

  // The key of a setting without the part that says nothing.
  const key = (name) => name.replace(/\.name$/, '');

  // Cuts a text where there is little room, in the middle, since names often differ at their ends.
  function cut(text, length) {
    if (text.length <= length) return text;
    const half = Math.floor((length - 1) / 2);
    return `${text.slice(0, length - 1 - half)}…${text.slice(text.length - half)}`;
  }

  return { figure, number, tick, duration, volume, cell, counted, key, cut, NOTHING };
})();
