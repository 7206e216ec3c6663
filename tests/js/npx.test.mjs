// `npx exitlm`: the program of the npm package, from the packed tarball, as somebody has it who
// never saw the repository.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { install, temporary } from '../bundlers/support/app.mjs';
import { program as nativeProgram } from './support/cli.mjs';
import { tinyBytes, tinyHeads, tinyPath } from './support/tiny-model.mjs';

const app = temporary();
const program = path.join(app, 'node_modules/exitlm/web/src/cli.mjs');
/** @type {http.Server} */
let server;

before(async () => {
  install(app);
  server = http.createServer((request, response) =>
    request.url === '/tiny.gguf' ? response.end(tinyBytes) : response.writeHead(404).end(),
  );
  await new Promise((resolve) => {
    server.listen(0, 'localhost', () => resolve(undefined));
  });
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const file = path.join(app, 'node_modules/exitlm/models/catalog.json');
  const catalog = JSON.parse(fs.readFileSync(file, 'utf8'));
  const [shipped] = catalog.models;
  const sha256 = createHash('sha256').update(tinyBytes).digest('hex');
  const bytes = await tinyHeads();
  const heads = {
    size_bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
  for (const name of ['tiny', 'damaged'])
    fs.writeFileSync(path.join(path.dirname(file), `${name}.exits.gguf`), bytes);
  fs.truncateSync(path.join(path.dirname(file), 'damaged.exits.gguf'), 1000);
  const entry = (/** @type {string} */ name, /** @type {string} */ url, sum = sha256) => ({
    ...shipped,
    name,
    file: `${name}.gguf`,
    size_bytes: tinyBytes.length,
    sha256: sum,
    sources: [{ type: 'https', url: `http://localhost:${port}${url}` }],
    heads: { ...heads, file: `${name}.exits.gguf` },
  });
  catalog.models.push(
    entry('tiny', '/tiny.gguf'),
    entry('damaged', '/tiny.gguf'),
    entry('gone', '/gone.gguf'),
    entry('other', '/tiny.gguf', '0'.repeat(64)),
  );
  fs.writeFileSync(file, JSON.stringify(catalog));
});
after(() => {
  server.close();
});

/** @param {string[]} args */
function run(args, { input = '' } = {}) {
  return new Promise(
    (/** @type {(r: { status: number | null, out: string, err: string }) => void} */ resolve) => {
      const child = spawn(process.execPath, [program, ...args], {
        cwd: app,
        env: { ...process.env, XDG_CACHE_HOME: path.join(app, '.cache') },
      });
      let out = '';
      let err = '';
      child.stdout.on('data', (data) => {
        out += data;
      });
      child.stderr.on('data', (data) => {
        err += data;
      });
      child.on('close', (status) => resolve({ status, out, err }));
      child.stdin.end(input);
    },
  );
}
async function good(/** @type {string[]} */ args, options = {}) {
  const { status, out, err } = await run(args, options);
  assert.equal(status, 0, `${args.join(' ')}: ${err}`);
  return out;
}

test('npm finds the program', () => {
  fs.writeFileSync(path.join(app, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  const bin = JSON.parse(
    fs.readFileSync(path.join(app, 'node_modules/exitlm/package.json'), 'utf8'),
  ).bin.exitlm;
  assert.equal(path.join(app, 'node_modules/exitlm', bin), program);
  assert.match(fs.readFileSync(program, 'utf8'), /^#!\/usr\/bin\/env node\n/);
  assert.equal(
    spawnSync(process.execPath, [program, '--version'], { encoding: 'utf8' }).stdout.trim(),
    `exitlm ${JSON.parse(fs.readFileSync('package.json', 'utf8')).version}`,
  );
});

test('serve: with the dependencies that the package names', async () => {
  const { dependencies } = JSON.parse(
    fs.readFileSync(path.join(app, 'node_modules/exitlm/package.json'), 'utf8'),
  );
  assert.ok(Object.keys(dependencies).length <= 5);
  for (const name of Object.keys(dependencies))
    fs.symlinkSync(path.resolve('node_modules', name), path.join(app, 'node_modules', name));
  // as npm links it, and as docs/scale.md says to start it: the signal must reach the server
  const bin = path.join(app, 'node_modules/.bin/exitlm');
  fs.mkdirSync(path.dirname(bin), { recursive: true });
  fs.chmodSync(program, 0o755);
  fs.symlinkSync('../exitlm/web/src/cli.mjs', bin);
  const child = spawn(bin, ['serve', tinyPath, '--port', '0']);
  const [line] = await once(child.stdout, 'data');
  const url = /OPENAI_BASE_URL=(\S+)\/v1/.exec(line)?.[1];
  assert.match(await (await fetch(`${url}/metrics`)).text(), /^exitlm_engine_starts_total 1$/m);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('help', async () => {
  const overview = await good(['--help']);
  for (const word of ['chat', 'serve', 'pull', 'inspect', 'tokenize', 'pack', 'native program'])
    assert.match(overview, new RegExp(word));
  assert.match(
    await good(['chat', '--help']),
    /usage: exitlm chat MODEL \[options\][^]*--accuracy/,
  );
  assert.equal(await good([]), overview);
});

test('commands of the native program, by WebAssembly: paths, exit status, no warnings', async () => {
  const to = path.join(app, 'deep/below/packed');
  const { status, out, err } = await run(['pack', tinyPath, '--shard-size=256K', '-o', to]);
  assert.deepEqual([status, err], [0, '']);
  assert.match(out, /^deep\/below\/packed\/manifest\.json: \d+ shards/);
  const lm = await good(['chat', path.join(to, 'manifest.json'), '-p', 'Hi', '--max-tokens', '5']);
  assert.equal(lm, await good(['chat', tinyPath, '-p', 'Hi', '--max-tokens', '5']));
  for (const name of ['score', 'bench', 'gather', 'train', 'calibrate', 'eval'])
    assert.match(await good([name, '--help']), new RegExp(`^usage: exitlm ${name} MODEL`, 'm'));
  for (const [args, expected, says] of /** @type {[string[], number, RegExp][]} */ ([
    [['pack', 'nope'], 1, /no name of the catalogue/],
    [['pack', tinyPath], 2, /-o DIR is missing/],
    [['pack'], 2, /MODEL is missing/],
  ])) {
    const failed = await run(args);
    assert.equal(failed.status, expected, failed.err);
    assert.match(failed.err, says);
  }
});

describe('wrong usage: status 2, one line that says what', () => {
  for (const [args, message] of /** @type {[string[], RegExp][]} */ ([
    [['chatt'], /unknown command "chatt".*--help/],
    [['chat'], /chat: MODEL is missing/],
    [['chat', tinyPath, 'more'], /"more" came too/],
    [['chat', tinyPath, '--nonsense'], /'--nonsense'; "exitlm chat --help" lists/],
    [['serve', tinyPath, '--prot', '1'], /'--prot'; did you mean --port\?/],
    [
      ['chat', tinyPath, '-p', 'x', '--mode', 'fast'],
      /--mode: "fast" is not one of full, exit, lossless/,
    ],
    [
      ['chat', tinyPath, '-p', 'x', '--accuracy', '2'],
      /--accuracy: "2" is not a number from 0.5 to 1/,
    ],
    [
      ['chat', tinyPath, '-p', 'x', '--threads', 'many'],
      /--threads: "many" is neither a number nor auto/,
    ],
    [['chat', tinyPath, '-p', 'x', '--heads', 'none', '--mode', 'exit'], /needs exit heads/],
  ])) {
    test(args.filter((a) => a !== tinyPath).join(' '), async () => {
      const { status, out, err } = await run(args);
      assert.deepEqual([status, out], [2, '']);
      assert.match(err, message);
      assert.match(err, /^exitlm: [^\n]+\n$/);
    });
  }
});

test('the heads of the catalogue are in the package', () => {
  const models = path.join(app, 'node_modules/exitlm/models');
  const { heads } = JSON.parse(fs.readFileSync('models/catalog.json', 'utf8')).models[0];
  assert.equal(fs.statSync(path.join(models, heads.file)).size, heads.size_bytes);
});

test('inspect says of exit heads what they promise', async () => {
  const heads = path.resolve('models/smollm2-135m-instruct.exits.gguf');
  assert.match(await good(['inspect', heads]), /^risk +0\.98 .* exact, q8$/m);
  const { type, levels } = JSON.parse(await good(['inspect', heads, '--json']));
  assert.ok(type === 'heads' && levels.length > 10);
});

test('inspect says of a model what the native program does', async () => {
  const keys = (/** @type {string} */ json) => Object.keys(JSON.parse(json)).sort();
  const native = spawnSync(nativeProgram, ['inspect', tinyPath, '--json'], { encoding: 'utf8' });
  assert.equal(native.status, 0, native.stderr);
  assert.deepEqual(keys(await good(['inspect', tinyPath, '--json'])), keys(native.stdout));
  assert.match(await good(['inspect', tinyPath]), /^verdict +runs here: /m);
  fs.writeFileSync(path.join(app, 'cut.gguf'), tinyBytes.subarray(0, tinyBytes.length - 1000));
  const { status, out, err } = await run(['inspect', 'cut.gguf']);
  assert.deepEqual([status, out], [1, '']);
  assert.match(err, /^exitlm: cut\.gguf: truncated: tensor /);
  fs.symlinkSync(tinyPath, path.join(app, 'linked.gguf'));
  assert.match(await good(['inspect', 'linked.gguf']), /^verdict +runs here: /m);
  await good(['pack', tinyPath, '-o', 'inspected']);
  assert.match(await good(['inspect', 'inspected/manifest.json']), /^verdict +runs here: /m);
});

test('pull: fetched, verified, found by its name, its heads too', async () => {
  const { status, out, err } = await run(['pull', 'tiny']);
  assert.equal(status, 0, err);
  assert.equal(out.trim(), path.join('models', 'tiny.gguf'));
  assert.deepEqual(fs.readFileSync(path.join(app, 'models/tiny.gguf')), tinyBytes);
  assert.match(err, /verified \(SHA-256/);
  assert.match(err, /exit heads are verified: .*tiny\.exits\.gguf/);
  assert.match((await run(['pull', 'Tiny'])).err, /is there and verified/);
  assert.ok((await good(['chat', 'tiny', '-p', 'Hi', '--max-tokens', '5'])).length > 1);
});

test('pull: what fails', async () => {
  for (const [name, message] of /** @type {[string, RegExp][]} */ ([
    ['nothing', /no model "nothing" in the catalogue; it has .*tiny/],
    ['damaged', /damaged\.exits\.gguf: 1000 bytes came, the catalogue says/],
    ['gone', /could not be fetched.*404/],
    ['other', /SHA-256 is .*the catalogue says 0000/],
  ])) {
    const { status, err } = await run(['pull', name, '-o', 'elsewhere']);
    assert.equal(status, 1);
    assert.match(err, message);
    assert.match(err.trimEnd().split('\n').at(-1) ?? '', /^exitlm: /);
  }
  assert.deepEqual(
    fs.readdirSync(path.join(app, 'elsewhere')),
    ['damaged.gguf'],
    'nothing half is left',
  );
});

describe('chat', () => {
  const model = path.join(app, 'with-heads.gguf');
  before(async () => {
    fs.copyFileSync(tinyPath, model);
    // found beside the model
    fs.writeFileSync(path.join(app, 'with-heads.exits.gguf'), await tinyHeads());
  });
  test('plain text is that of the JSON', async () => {
    const text = await good(['chat', model, '-p', 'Hi', '--max-tokens', '12']);
    const objects = (await good(['chat', model, '-p', 'Hi', '--max-tokens', '12', '--json']))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const [start, ...tokens] = objects;
    const done = tokens.pop();
    assert.deepEqual(
      [start.type, start.layers, start.heads, start.mode, start.accuracy],
      ['start', 6, [2, 4, 6], 'exit', 0.95],
    );
    assert.ok(start.prompt_tokens > 5);
    assert.deepEqual(
      tokens.map((t) => [t.type, t.index]),
      tokens.map((_, i) => ['token', i]),
    );
    for (const key of [
      'id',
      'text',
      'layer',
      'of',
      'depth',
      'work',
      'head',
      'confidence',
      'drafted',
      'ms',
    ])
      assert.ok(key in tokens[0], key);
    assert.equal(tokens.map((t) => t.text).join(''), done.text);
    assert.equal(`${done.text}\n`, text);
    for (const key of [
      'reason',
      'completion_tokens',
      'prompt_ms',
      'decode_ms',
      'tokens_per_second',
      'mean_depth',
      'mean_work',
      'certified',
      'exits',
      'drafted',
      'accepted',
    ])
      assert.ok(key in done, key);
  });
  test('what is said in each mode is what the native program says', async () => {
    const args = ['chat', model, '-p', 'Hi', '--max-tokens', '6', '--json'];
    const ends = async (/** @type {string[]} */ ...more) => {
      const lines = (await good([...args, ...more])).trim().split('\n');
      return [JSON.parse(lines[0]), JSON.parse(lines.at(-1) ?? '')];
    };
    const [start, full] = await ends('--mode', 'full');
    assert.deepEqual([start.heads, full.exits, full.certified], [[], { '-1': 6 }, true]);
    const [, lossless] = await ends('--mode', 'lossless');
    for (const key of ['draft_attempts', 'acceptance_rate', 'mean_draft_length'])
      assert.ok(key in lossless, key);
    const [, audited] = await ends('--kv', 'exact', '--audit', '1', '--accuracy', '0.9');
    assert.equal(audited.audited, 6 - audited.exits['-1']);
    assert.ok('audit_disagreement' in audited);
    const [, drawn] = await ends('--temp', '0.7');
    assert.equal(drawn.certified, false);
    assert.match(drawn.uncertified, /drawn/);
    const [shaped] = await ends('--pattern', 'ab');
    assert.deepEqual([shaped.mode, shaped.accuracy], ['lossless', null]);
  });
  test('options are those of the native program', async () => {
    const words = async (/** @type {string[]} */ ...more) =>
      good(['chat', model, '-p', 'Hi', '--max-tokens', '12', ...more]);
    const text = await words();
    const second = [...text][3];
    assert.equal(await words('--stop', 'never said', second), `${text.split(second)[0]}\n`);
    assert.equal(await words('--kernel', 'simd128'), text);
    for (const [more, says] of /** @type {[string[], RegExp][]} */ ([
      [['--kernel', 'avx2'], /--kernel: .* does not run "avx2"; it runs .*simd128/],
      [['-p', ''], /--prompt is empty/],
      [['--stop=x', 'y'], /one MODEL was expected, "y" came too/],
    ])) {
      const { status, out, err } = await run(['chat', model, '-p', 'Hi', ...more]);
      assert.deepEqual([status, out], [2, '']);
      assert.match(err, says);
    }
    const strict = await run([
      'chat',
      model,
      '-p',
      'Hi',
      '--accuracy',
      '0.99',
      '--max-tokens',
      '2',
    ]);
    assert.equal(strict.status, 0);
    assert.match(
      strict.err,
      /^exitlm: accuracy 0.99 is above the strictest certified level of .*\n$/,
    );
  });
  test('from standard input; lossless gives the words of full', async () => {
    const full = await good(['chat', model, '-p', '-', '--mode', 'full', '--max-tokens', '12'], {
      input: 'Hi',
    });
    assert.equal(
      await good(['chat', model, '-p', 'Hi', '--mode', 'lossless', '--max-tokens', '12']),
      full,
    );
  });
  test('a conversation, line by line', async () => {
    const out = await good(['chat', model, '--max-tokens', '4'], {
      input: 'Hi\n\n/reset\nHi\n/quit\nnever\n',
    });
    const [first, second, ...rest] = out.split('\n');
    assert.equal(first, second);
    assert.deepEqual(rest, ['']);
  });
  test('--save and --load go on with a conversation', async () => {
    const args = ['chat', model, '--max-tokens', '8'];
    const both = await good(args, { input: 'Hi\nAnd you?\n' });
    const file = path.join(app, 'a.talk');
    const first = await good([...args, '-p', 'Hi', '--save', file]);
    const second = ['-p', 'And you?', '--load', file];
    assert.equal(first + (await good([...args, ...second])), both);
    const done = JSON.parse(
      (await good([...args, ...second, '--json'])).trim().split('\n').at(-1) ?? '',
    );
    assert.ok(done.reused_tokens > 8, 'what was saved is not read again');
    fs.writeFileSync(path.join(app, 'short.talk'), fs.readFileSync(file).subarray(0, -9));
    for (const [load, status, says] of /** @type {[string, number, RegExp][]} */ ([
      [model, 1, /is no conversation that chat --save wrote/],
      ['nowhere.talk', 1, /nowhere.talk: cannot be read/],
      ['short.talk', 1, /ends too early/],
    ])) {
      const failed = await run([...args, '-p', 'x', '--load', load]);
      assert.equal(failed.status, status);
      assert.match(failed.err, says);
    }
    assert.equal((await run([...args, ...second, '--system', 's'])).status, 2);
  });
  test('colours by depth, and none where nobody wants them', async () => {
    const shown = await good([
      'chat',
      model,
      '-p',
      'Hi',
      '--show-depth',
      '--accuracy',
      '0.9',
      '--max-tokens',
      '20',
    ]);
    assert.match(shown, /\x1b\[38;5;\d+m/);
  });
});

test('tokenize', async () => {
  const { ids } = JSON.parse(
    await good(['tokenize', tinyPath, '-p', 'Hello there', '--ids', '--json']),
  );
  assert.equal(
    (await good(['tokenize', tinyPath, '--ids'], { input: 'Hello there' })).trim(),
    ids.join(' '),
  );
  assert.equal(
    (await good(['tokenize', tinyPath, '-p', 'Hello there'])).trim().split('\n').length,
    ids.length,
  );
});

test('a file that is none, an address that is not there: status 1', async () => {
  fs.writeFileSync(path.join(app, 'bad.gguf'), 'no model');
  for (const [model, message] of /** @type {[string, RegExp][]} */ ([
    ['bad.gguf', /^exitlm: bad\.gguf: .*(GGUF|truncated)/],
    ['none.gguf', /no such file, seen from /],
    ['Other', /models\/other\.gguf is not in .*"npx exitlm pull other"/],
    ['nope', /no name of the catalogue, which has/],
    ['http://localhost:9/x.gguf', /localhost:9/],
  ])) {
    const { status, err } = await run(['chat', model, '-p', 'x']);
    assert.equal(status, 1, err);
    assert.match(err, message);
    assert.match(err, /^exitlm: [^\n]+\n$/);
  }
});
