// The editor's visible texts in the languages of the plugin; ./texts/en.js is what the others are made from.
import de from "./texts/de.js";
import en from "./texts/en.js";
import es from "./texts/es.js";
import fr from "./texts/fr.js";
import ja from "./texts/ja.js";
import ko from "./texts/ko.js";
import zh from "./texts/zh.js";

export const LANGUAGES = { de, en, es, fr, ja, ko, zh };

/**
 * The texts of a language.
 * @param {string | undefined} locale as in ComfyUI's setting Comfy.Locale; English where there are no texts for it
 * @returns {(key: string, values?: object) => string} a text with its {words} filled in; a value may be a text
 *     itself, {key, values}
 */
export function wordsOf(locale) {
  const texts = Object.hasOwn(LANGUAGES, locale ?? "en") ? LANGUAGES[locale ?? "en"] : en;
  const words = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
  const shown = (value) => (value?.key ? words(value.key, value.values) : `${value}`);
  return words;
}
