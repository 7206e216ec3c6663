// Tokens of code, without comments and white space: how much there is to read.
//
//   node tests/tokens.mjs [ROOT] [BEFORE]     of src, web and wasm, a line for each folder; with
//   BEFORE, another checkout, also the difference
//
// `tokensOf` serves other tests too: what it returns are tokens, so no comment or string is taken
// for code.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @typedef {{ type: 'word' | 'number' | 'string' | 'template' | 'regex' | 'sign', text: string, at:
 *   number }} Token
 */

const FOLDERS = ['src', 'web', 'wasm'];
const LEFT_OUT = new Set(['node_modules', 'dist', 'types', 'vendor', 'build', '.wrangler']);
const LANGUAGES = /** @type {const} */ ({
  '.c': 'c',
  '.h': 'c',
  '.inc': 'c',
  '.js': 'js',
  '.mjs': 'js',
});

const WHITE = /(?:[\s\ufeff]|\\\r?\n|\/\/(?:[^\n\\]|\\[^])*|\/\*[^]*?\*\/)+/y;
const WHITE_JS = /(?:[\s\ufeff]|\/\/[^\n]*|\/\*[^]*?\*\/|^#![^\n]*)+/y;
const WORD = /[#@]?[\p{ID_Start}_$][\p{ID_Continue}$\u200c\u200d]*/uy;
const WORD_C = /[A-Za-z_]\w*/y;
const NUMBER =
  /(?:0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eEpP][+-]?\d+)?)[\w.]*/y;
const STRING = /"(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*'/y;
const REGEX = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/\w*/y;
const TEMPLATE_PART = /(?:[^`\\$]|\\[^]|\$(?!\{))*(?:`|\$\{)/y;
const SIGN =
  />>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|=>|==|!=|<=|>=|&&|\|\||\?\?|\?\.(?!\d)|\+\+|--|\+=|-=|\*=|\/=|%=|&=|\|=|\^=|<<|>>|\*\*|->|##|[^\s\w]/y;
/** A slash after one of these begins a regular expression. */
const BEFORE_VALUE = new Set([
  'return',
  'typeof',
  'case',
  'in',
  'of',
  'delete',
  'void',
  'throw',
  'new',
  'else',
  'do',
  'yield',
  'await',
  'instanceof',
  'default',
  'extends',
]);

/**
 * @param {string} code
 * @param {'js' | 'c'} language
 * @returns {Token[]}
 */
export function tokensOf(code, language) {
  const js = language === 'js';
  /** @type {Token[]} */
  const tokens = [];
  /** Braces that are open in each template that has not ended. @type {number[]} */
  const templates = [];
  let at = 0;
  const take = (/** @type {RegExp} */ pattern) => {
    pattern.lastIndex = at;
    const text = pattern.exec(code)?.[0] ?? null;
    if (text !== null) at += text.length;
    return text;
  };
  const valueComes = () => {
    const last = tokens[tokens.length - 1];
    if (!last) return true;
    if (last.type === 'word') return BEFORE_VALUE.has(last.text);
    return last.type === 'sign'
      ? !/^[)\]}]$/.test(last.text)
      : last.type === 'template' && last.text.endsWith('${');
  };
  while (at < code.length) {
    if (take(js ? WHITE_JS : WHITE) !== null) continue;
    const start = at;
    const add = (/** @type {Token['type']} */ type, /** @type {string | null} */ text) =>
      text !== null && tokens.push({ type, text, at: start });
    const first = code[at];
    if (js && (first === '`' || (first === '}' && templates[templates.length - 1] === 0))) {
      if (first === '}') templates.pop();
      at++;
      const part = take(TEMPLATE_PART);
      if (part === null) throw new Error(`a template that does not end, at ${start}`);
      if (part.endsWith('${')) templates.push(0);
      add('template', first + part);
      continue;
    }
    if (templates.length && first === '{') templates[templates.length - 1]++;
    if (templates.length && first === '}') templates[templates.length - 1]--;
    if (
      add('word', take(js ? WORD : WORD_C)) ||
      add('number', take(NUMBER)) ||
      add('string', take(STRING))
    )
      continue;
    if (js && first === '/' && valueComes() && add('regex', take(REGEX))) continue;
    if (/["'`]/.test(first))
      throw new Error(`a text that does not end, at ${start}: ${code.slice(start, start + 40)}`);
    add('sign', take(SIGN));
  }
  return tokens;
}

/** @param {string} file @returns {number} */
function countOf(file) {
  const language = LANGUAGES[/** @type {keyof typeof LANGUAGES} */ (path.extname(file))];
  if (!language) return 0;
  try {
    return tokensOf(fs.readFileSync(file, 'utf8'), language).length;
  } catch (error) {
    throw new Error(`${file}: ${/** @type {Error} */ (error).message}`, { cause: error });
  }
}

/**
 * Tokens of each folder that has code itself. @param {string} root @returns {Map<string, number>}
 */
export function countTokens(root) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  const walk = (/** @type {string} */ folder) => {
    for (const entry of fs.readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const name = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!LEFT_OUT.has(entry.name)) walk(name);
      } else {
        const n = countOf(path.join(root, name));
        if (n) counts.set(folder, (counts.get(folder) ?? 0) + n);
      }
    }
  };
  for (const folder of FOLDERS) if (fs.existsSync(path.join(root, folder))) walk(folder);
  return counts;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [root = fileURLToPath(new URL('..', import.meta.url)), before] = process.argv.slice(2);
  const now = countTokens(root);
  const then = before ? countTokens(before) : now;
  const show = (/** @type {string} */ name, /** @type {(folder: string) => boolean} */ wanted) => {
    const sum = (/** @type {Map<string, number>} */ counts) =>
      [...counts].reduce((all, [folder, n]) => all + (wanted(folder) ? n : 0), 0);
    const [n, m] = [sum(now), sum(then)];
    console.log(
      `${name.padEnd(24)}${String(n).padStart(8)}${before ? `${String(m).padStart(10)}${String(n - m).padStart(9)}` : ''}`,
    );
  };
  for (const folder of [...new Set([...now.keys(), ...then.keys()])].sort())
    show(folder, (f) => f === folder);
  for (const top of FOLDERS) show(`${top}, all`, (f) => f === top || f.startsWith(`${top}/`));
  show('all', () => true);
}
