// What the parts of the page share: elements, text, numbers.

export const byId = (id) => document.getElementById(id);

export function setText(id, text) {
  const element = typeof id === 'string' ? byId(id) : id;
  if (element.textContent !== text) element.textContent = text; // unchanged text is not announced again
}

export function number(n) {
  return Math.round(n).toLocaleString('en').replaceAll(',', '\u202f');
}

export function milliseconds(n) {
  return n === undefined ? undefined : `${number(n)} ms`;
}

// Fills a list of statistics: the elements `PREFIX-NAME`. `null` hides an entry, `undefined` leaves a dash.
export function showStats(prefix, values) {
  for (const [name, text] of Object.entries(values)) {
    const element = byId(`${prefix}-${name}`);
    element.parentElement.hidden = text === null;
    setText(element, text ?? '–');
  }
}
