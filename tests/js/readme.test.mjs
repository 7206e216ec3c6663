// What the README shows is run: its JavaScript as it stands, its commands by their options, its
// files and links by their existence.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
const start = fs.readFileSync(path.join(root, 'docs/start.md'), 'utf8');
const model = path.join(root, 'models/smollm2-135m-instruct.gguf');
const program = process.env.EXITLM ?? path.join(root, 'build/exitlm');

/** The code blocks of a language. */
const blocks = (/** @type {string} */ language) =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map((m) => m[1]);

for (const [i, code] of blocks('js').entries()) {
  test(
    `README: JavaScript ${i + 1} answers as it stands`,
    { skip: !fs.existsSync(model) && 'the model is not there: npm run model' },
    () => {
      // inside the package, so that it finds `exitlm` by its own name
      const folder = path.join(root, 'build/readme');
      fs.mkdirSync(folder, { recursive: true });
      const file = path.join(folder, `example-${i + 1}.mjs`);
      const json = code.includes('{ json }');
      fs.writeFileSync(file, `${code}${json ? 'console.log(JSON.stringify(json));' : ''}\n`);
      const [, shown, last] =
        /^(.*?)(\{.*\})?\s*$/s.exec(
          execFileSync(process.execPath, [file], {
            cwd: root,
            encoding: 'utf8',
            timeout: 120_000,
            stdio: ['ignore', 'pipe', 'ignore'],
          }),
        ) ?? [];
      assert.ok(shown.length > 20, `the example shows text: ${shown}`);
      if (json) assert.deepEqual(Object.keys(JSON.parse(last)), ['city']);
    },
  );
}

test(
  'docs/start.md: the quick start in Node answers under its schema',
  { skip: !fs.existsSync(model) && 'the model is not there: npm run model' },
  () => {
    const [, code = ''] = /^`extract\.mjs`:\n```js\n(.*?)^```/ms.exec(start) ?? [];
    const file = path.join(root, 'build/readme/extract.mjs');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, code);
    const said = execFileSync(process.execPath, [file], {
      cwd: root,
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.deepEqual(Object.keys(JSON.parse(said)), ['name', 'age', 'city']);
  },
);

test('docs/start.md: its lines of CMake are those of tests/install', () => {
  const [, lines = ''] = /^```cmake\n(.*?)^```/ms.exec(start) ?? [];
  const built = fs
    .readFileSync(path.join(root, 'tests/install/CMakeLists.txt'), 'utf8')
    .replace('${example}', 'example');
  assert.ok(lines);
  for (const line of lines.trim().split('\n')) assert.ok(built.includes(line), line);
});

test('README: every command and option that it shows exists', () => {
  const { scripts } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const commands = [
    ...blocks('sh').join('').split('\n'),
    ...[...readme.matchAll(/`((?:npm run|npm|node|exitlm|npx exitlm) [^`]*)`/g)].map((m) => m[1]),
  ];
  let checked = 0;
  for (const line of commands) {
    const [, script] = /^npm (?:run )?([\w:]+)/.exec(line) ?? [];
    if (script && !['install', 'ci', 'pack'].includes(script)) {
      assert.ok(scripts[script], `npm ${script} is a script of package.json`);
      checked++;
    }
    const [, file] = /^node (\S+)/.exec(line) ?? [];
    if (file) assert.ok(fs.existsSync(path.join(root, file)), `${file} exists`);
    const [, command, rest] = /^exitlm (\w+)(.*)/.exec(line) ?? [];
    if (!command) continue;
    const help = execFileSync(program, [command, '--help'], { encoding: 'utf8' });
    for (const [option] of rest.matchAll(/--[\w-]+/g))
      assert.ok(help.includes(option), `exitlm ${command} has ${option}`);
    checked++;
  }
  assert.ok(checked >= 5);
});

test('README: what it links to is there', () => {
  const links = [...readme.matchAll(/\]\(([^)#]+?)(?:#[^)]*)?\)/g)]
    .map((m) => m[1])
    .filter((link) => !/^https?:/.test(link));
  for (const link of links) assert.ok(fs.existsSync(path.join(root, link)), `${link} exists`);
  assert.ok(links.length > 0);
});
