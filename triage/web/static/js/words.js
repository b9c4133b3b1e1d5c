// Words in the reader's language. English stands in the code; another language is fetched before anything is drawn.

const language = document.querySelector('meta[name="language"]')?.content ?? "en";
let words = {};
if (language !== "en") {
  const response = await fetch(`/words/${language}`).catch(() => null);
  if (response?.ok) ({ words } = await response.json());
}

const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name] ?? "");

/** `text` in the reader's language, its %(name)s filled in. */
export const t = (text, values = {}) => fill(words[text] ?? text, values);

/** The form that fits `n`, which is also there as %(n)s. */
export function tn(one, many, n, values = {}) {
  const forms = words[one] ?? [one, many];
  return fill(forms[n === 1 ? 0 : 1], { n, ...values });
}
