// Writes docs/api.md from the declarations (web/types, which tsc makes of the JSDoc):
//
//   npm run build && node docs/generate.mjs
//
// tests/js/docs.test.mjs says when the file is behind.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** @typedef {{ doc: string, text: string }} Statement a declaration and the comment above it */
/** @typedef {{ name: string, file: string, title: string, about: string }} Entry */

/** What a package's user imports, in the order of the page. @type {Entry[]} */
const ENTRIES = [
  { name: 'exitlm', file: 'index', title: 'Pages, workers, Node, Deno, Bun', about: 'The engine runs in a worker where there are any.' },
  { name: 'exitlm/openai', file: 'openai', title: 'In OpenAI\'s shape', about: '`chat.completions.create`, streaming and not, with the exit of each token beside its text.' },
  { name: 'exitlm/ai-sdk', file: 'ai-sdk', title: 'For the Vercel AI SDK', about: 'A language-model provider for `generateText` and `streamText`.' },
  { name: 'exitlm/prompt-api', file: 'prompt-api', title: 'In the shape of Chrome\'s LanguageModel', about: 'For the devices on which the browser\'s own model does not run.' },
  { name: 'exitlm/edge', file: 'edge', title: 'Where there are no workers', about: 'Cloudflare Workers and the like: `ExitLM` in the caller\'s thread, and a request handler.' },
];

/** Top-level statements (or a class body's members) with their comments. @param {string} source @returns {Statement[]} */
function statements(source) {
  const found = [];
  let doc = '';
  let text = '';
  let depth = 0;
  let comment = '';
  for (const line of source.split('\n')) {
    const trimmed = line.trim();
    if (comment || (trimmed.startsWith('/**') && text === '')) {
      comment += `${trimmed}\n`;
      if (trimmed.endsWith('*/')) {
        doc = comment;
        comment = '';
      }
      continue;
    }
    if (trimmed === '') continue;
    text += `${line}\n`;
    const bare = line.replace(/\/\*\*.*?\*\/|'[^']*'|"[^"]*"/g, '').replace(/^\s*(\/\*\*|\*).*$/, '');
    depth += (bare.match(/[{([]/g)?.length ?? 0) - (bare.match(/[})\]]/g)?.length ?? 0);
    if (depth > 0 || !/[;}]$/.test(trimmed)) continue;
    found.push({ doc, text: text.trim() });
    doc = '';
    text = '';
  }
  return found;
}

/** A comment's prose, and its @param and @returns as lists. @param {string} doc */
function readDoc(doc) {
  const lines = doc.replace(/^\/\*\*|\*\/\s*$/g, '').split('\n').map((line) => line.replace(/^\s*\* ?/, '').trimEnd());
  const text = lines.join('\n').trim();
  const [prose, ...tags] = text.split(/(?:^|\s)@(?=(?:param|returns|type|template|override|protected|typedef|property|implements)\b)/);
  const params = tags.flatMap((tag) => {
    const match = /^param \{.*?\}+ \[?([\w.]+)(?:=[^\]]*)?\]? ?([^]*)$/.exec(tag.replaceAll('\n', ' '));
    return match && match[2] ? [`\`${match[1]}\`: ${match[2].trim()}`] : [];
  });
  const returns = tags.map((tag) => /^returns (?:\{[^]*?\}(?=\s|$))?\s*([^]*)$/.exec(tag)?.[1]?.trim()).find(Boolean);
  return { prose: prose.trim(), params, returns, hidden: tags.some((tag) => /^protected\b/.test(tag)) };
}

const tidy = (/** @type {string} */ type) => type.replace(/import\(['"][^'"]+['"]\)\./g, '').replace(/\/\*\*[^]*?\*\//g, '').replace(/\s+/g, ' ').replace(/; \}/g, ' }').trim();
const cell = (/** @type {string} */ text) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** @param {string} body of an object type */
function table(body) {
  const rows = statements(body).map(({ doc, text }) => {
    const match = /^(?:readonly )?([\w']+)(\?)?: ([^]*);$/.exec(text);
    return match ? `| \`${match[1]}${match[2] ?? ''}\` | \`${cell(tidy(match[3]))}\` | ${cell(readDoc(doc).prose)} |` : null;
  }).filter(Boolean);
  return rows.length ? ['| field | type | |', '|---|---|---|', ...rows].join('\n') : '';
}

/** @param {string} types the folder of declarations */
export function generate(types) {
  /** @type {Map<string, Statement[]>} */
  const files = new Map();
  const read = (/** @type {string} */ file) => {
    if (!files.has(file)) files.set(file, statements(fs.readFileSync(path.join(types, `${file}.d.ts`), 'utf8')));
    return /** @type {Statement[]} */ (files.get(file));
  };
  /** Types that are shown already. */
  const shown = new Set();

  /** @param {string} file @param {string} name @returns {{ file: string, statement: Statement } | null} through aliases */
  const find = (file, name) => {
    const statement = read(file).find(({ text }) => new RegExp(`^export (?:declare )?(?:type|class|function|const) ${name}\\b`).test(text));
    if (!statement) return null;
    const alias = /^export type \w+ = import\(['"]\.\/([\w-]+)\.js['"]\)\.(\w+)(?:<[^>]*>)?;$/.exec(statement.text);
    return alias ? find(alias[1], alias[2]) : { file, statement };
  };

  /** @param {Statement} statement @returns {string} */
  const showType = ({ doc, text }) => {
    const [, name, definition] = /^export type (\w+(?:<[^=]*>)?) = ([^]*);$/.exec(text) ?? [];
    const { prose } = readDoc(doc);
    const object = /^\{\n([^]*)\n\}$/.exec(definition);
    return [`#### ${name}`, prose, object ? table(object[1]) : `\`${tidy(definition)}\``].filter(Boolean).join('\n\n');
  };

  /** @param {string} file @param {Statement} statement @returns {string[]} */
  const showClass = (file, { doc, text }) => {
    const [, name, head, body] = /^export declare class (\w+)([^{]*)\{\n([^]*)\}$/.exec(text) ?? [];
    const base = /extends (\w+)/.exec(head)?.[1];
    const out = [`### ${name}`, readDoc(doc).prose];
    const from = base && new RegExp(`import \\{ ${name} as ${base} \\} from ['"]\\./([\\w-]+)\\.js['"]`).exec(read(file).map((s) => s.text).join('\n'));
    const inherited = from ? find(from[1], name) : null;
    if (inherited) shown.add(`${inherited.file} ${name}`);
    const members = [...statements(body), ...(inherited ? statements(/\{\n([^]*)\}$/.exec(inherited.statement.text)?.[1] ?? '') : [])];
    const seen = new Set();
    for (const member of members) {
      const signature = tidy(member.text).replace(/;$/, '');
      const { prose, params, returns, hidden } = readDoc(member.doc);
      const key = signature.split(/[(:<]/)[0];
      if (/^(#|private|protected|set )/.test(signature) || /^(static )?connect\b|\[Symbol/.test(signature) || key === 'constructor' || hidden || seen.has(key)) continue;
      seen.add(key);
      out.push(`#### \`${key.replace(/^get /, '').replace(/^static /, `${name}.`)}\``, `\`\`\`ts\n${signature}\n\`\`\``, prose);
      if (params.length) out.push(params.map((p) => `- ${p}`).join('\n'));
      if (returns) out.push(`Returns ${returns}.`);
    }
    return out;
  };

  const out = ['# API', 'Generated from the JSDoc of `web/src` (`node docs/generate.mjs`). The types come with the package.',
    ENTRIES.map(({ name, title }) => `- [\`${name}\`](#${name.replaceAll('/', '')}): ${title}`).join('\n')];
  for (const { name, file, title, about } of ENTRIES) {
    out.push(`## \`${name}\``, `${title}. ${about}`);
    const names = [];
    for (const { text } of read(file)) {
      const declared = /^export (?:declare )?(?:type|class|function|const) (\w+)/.exec(text)?.[1];
      if (declared) names.push([file, declared]);
      const again = /^export \{ ([\w, ]+) \} from ['"]\.\/([\w-]+)\.js['"]/.exec(text);
      if (again) names.push(...again[1].split(', ').map((each) => [again[2], each]));
    }
    const typesOf = [];
    for (const [from, each] of names) {
      const found = find(from, each);
      if (!found || shown.has(`${found.file} ${each}`)) continue;
      const { statement } = found;
      shown.add(`${found.file} ${each}`);
      if (/^export declare class/.test(statement.text)) out.push(...showClass(found.file, statement));
      else if (/^export declare (function|const)/.test(statement.text)) {
        const { prose, params, returns } = readDoc(statement.doc);
        if (!prose) continue; // for other files of the package
        out.push(`### ${each}`, `\`\`\`ts\n${tidy(statement.text).replace('export declare ', '').replace(/;$/, '')}\n\`\`\``, prose);
        if (params.length) out.push(params.map((p) => `- ${p}`).join('\n'));
        if (returns) out.push(`Returns ${returns}.`);
      } else typesOf.push(showType(statement));
    }
    if (typesOf.length) out.push('### Types', ...typesOf);
  }
  return `${out.filter(Boolean).join('\n\n')}\n`;
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  fs.writeFileSync(path.join(root, 'docs/api.md'), generate(path.join(root, 'web/types')));
}
