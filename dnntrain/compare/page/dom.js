// Making and filling elements. Text from runs enters the page only as text nodes and attributes, never as HTML.
const dom = (() => {
  'use strict';

  const SVG = 'http://www.w3.org/2000/svg';

  // Makes an element. Attributes that are false or null are left out; those that start with "on" are listeners.
  function element(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function svg(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
  }

  function filled(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, '');
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ''));
    return made;
  }

  const byId = (id) => document.getElementById(id);

  // Rebuilds an element only when what it is made from has changed, so that focus and open menus survive an update.
  const known = new WeakMap();
  function refill(target, key, build) {
    const text = JSON.stringify(key);
    if (known.get(target) === text) return;
    known.set(target, text);
    target.replaceChildren(...[build()].flat());
  }

  let count = 0;
  const uniqueId = (prefix) => `${prefix}-${(count += 1)}`;

  // A group of radio buttons that looks like one switch.
  function choice(legend, options, value, onchange) {
    const name = uniqueId('choice');
    return element('fieldset', { class: 'switch' }, element('legend', {}, legend),
      element('div', { class: 'switch-options' }, Object.entries(options).map(([key, text]) =>
        element('label', {}, element('input', {
          type: 'radio', name, value: key, checked: key === value, onchange: () => onchange(key),
        }), element('span', {}, text)))));
  }

  function checkbox(text, checked, onchange) {
    const input = element('input', { type: 'checkbox', checked, onchange: () => onchange(input.checked) });
    return element('label', { class: 'check' }, input, text);
  }

  // A control with its name above it. The label stands beside the control: within it, a menu's choices would be read
  // as part of its name.
  function field(text, control) {
    control.id = uniqueId('field');
    return element('div', { class: 'field' }, element('label', { for: control.id }, text), control);
  }

  // A table that scrolls by itself where it is wider than the page, with the keyboard too.
  function scrollable(label, ...children) {
    return element('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' }, ...children);
  }

  return { element, svg, byId, refill, uniqueId, choice, checkbox, field, scrollable };
})();
