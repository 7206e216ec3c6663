/**
 * `npx exitlm`: the commands that make sense without the native program, on the WebAssembly engine.
 * Options, output and exit status are the native program's (src/cli).
 */
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { parseArgs } from 'node:util';
import { megabytes, messageOf } from '../link/errors.js';
import { modeOf, oneSlip } from '../link/options.js';
import { ExitLM } from './page.js';

// By its address: it lies outside the folder that the types are made of.
const catalogue = new URL('../../../models/fetch.mjs', import.meta.url).href;
const { entryOf, fetchModel, namesOf } = await import(catalogue);

/** What the native program does, run as a WASI module. */
const PROGRAM = ['pack', 'score', 'bench', 'gather', 'train', 'calibrate', 'eval'];

const OVERVIEW = `exitlm ${version()}: small language models on the CPU, each token as deep as it needs (WebAssembly engine)

usage: exitlm COMMAND [operands] [options]

  chat       Talk with a model: one question, or an interactive chat.
  serve      An OpenAI-shaped server on this machine.
  pull       Fetch a model of the catalogue and its exit heads, verified.
  inspect    Say what a model is, whether it runs here, what it needs and what is missing.
  tokenize   Show the tokens of a text.

  pack       Cut a model into shards for loading that answers early.

${PROGRAM.slice(1).join(', ')}: the native program's, here on one thread of WebAssembly.
"exitlm COMMAND --help" lists options. MODEL is a GGUF file or its address, a manifest of "exitlm pack", or a name of the catalogue.
Exit status: 0, 1 for a failure, 2 for wrong usage.`;

/**
 * @typedef {{ type: 'string' | 'boolean', short?: string, multiple?: boolean, value?: string, help:
 *   string, number?: [low: number, high: number, integer: boolean], choices?: string[] }} Option
 */
/** @typedef {Record<string, Option>} Options */

const MOST = 2 ** 32 - 1;

/** @param {string} about @returns {Option} */
const flag = (about) => ({ type: 'boolean', help: about });
/** @param {string} value @param {string} about @param {Partial<Option>} [more] @returns {Option} */
const textOption = (value, about, more) => ({ type: 'string', value, help: about, ...more });
/**
 * @param {string} value
 * @param {[low: number, high: number, integer: boolean]} range
 * @param {string} about
 */
const numberOption = (value, range, about) => textOption(value, about, { number: range });
/** @param {string[]} choices @param {string} about */
const oneOf = (choices, about) => textOption(choices.join('|'), about, { choices });

const HEADS = textOption(
  'FILE',
  'exit heads, or none; default: NAME.exits.gguf beside the model, if it is there',
);
const CONTEXT = numberOption(
  'N',
  [1, MOST, true],
  "context in tokens; default: the model's, at most 2048",
);
const KV_TYPE = oneOf(['f32', 'f16', 'q8'], 'numbers of the K/V cache (default f32)');

/**
 * @type {Record<string, { operands: string, about: string, options: Options, run: (operands:
 *   string[], options: any) => Promise<void> }>}
 */
const commands = {
  chat: {
    operands: 'MODEL',
    about: 'Talk with a model: one question, or an interactive chat.',
    run: chat,
    options: {
      'prompt': textOption(
        'TEXT',
        'one question; "-" reads it from standard input. Without it: an interactive chat',
        { short: 'p' },
      ),
      'system': textOption('TEXT', 'system message'),
      'raw': flag('no chat template: the text as it stands is continued'),
      'heads': HEADS,
      'mode': oneOf(
        ['full', 'exit', 'lossless'],
        'default: exit where there are heads, lossless for a shape or tools; else full',
      ),
      'accuracy': numberOption(
        'A',
        [0.5, 1, false],
        'of mode exit: expected share of tokens that the full model would have chosen (default: the level that the heads name)',
      ),
      'strategy': oneOf(
        ['risk', 'max-coverage', 'min-coverage', 'midpoint', 'platt'],
        'how the thresholds were calibrated (default risk)',
      ),
      'kv': oneOf(
        ['auto', 'exact', 'maps'],
        'K/V of the layers that an exit skips; default auto: of those that the level is calibrated with, the cheapest',
      ),
      'audit': numberOption('P', [0, 1, false], 'share of the exits that the full model verifies'),
      'show-depth': flag('colour each token by its depth'),
      'draft-layer': numberOption(
        'L',
        [1, 65535, true],
        'of mode lossless: always draft with the head after this layer',
      ),
      'draft-length': numberOption('N', [1, 8, true], 'and always so many tokens'),
      'max-tokens': numberOption(
        'N',
        [1, MOST, true],
        'longest answer; default: to the end of the context',
      ),
      'temp': numberOption(
        'T',
        [0, 100, false],
        'temperature; 0 always takes the likeliest token (default 0)',
      ),
      'top-k': numberOption('K', [0, MOST, true], 'sample among the K likeliest; 0: all'),
      'top-p': numberOption(
        'P',
        [0, 1, false],
        'sample among the likeliest with this probability together',
      ),
      'min-p': numberOption(
        'P',
        [0, 1, false],
        'sample among those at least P times as likely as the likeliest',
      ),
      'repeat-penalty': numberOption(
        'R',
        [0.1, 10, false],
        'divides the logits of the last 64 tokens',
      ),
      'seed': numberOption(
        'S',
        [0, Number.MAX_SAFE_INTEGER, true],
        'the same seed gives the same answer (default 0)',
      ),
      'stop': textOption('TEXT ...', 'end the answer before this text; may be repeated', {
        multiple: true,
      }),
      'json-schema': textOption('FILE|JSON', 'the answer is JSON of this schema'),
      'pattern': textOption('REGEX', 'the answer matches this regular expression as a whole'),
      'tools': textOption(
        'FILE',
        'JSON: a list of {name, description, parameters} that the answer may call',
      ),
      'tool-choice': textOption(
        'auto|required|NAME',
        'required: one call at least; NAME: one of this tool (default auto)',
      ),
      'logprobs': numberOption(
        'K',
        [0, 20, true],
        "of --json: each token's log-probability, and the K likeliest tokens",
      ),
      'load': textOption(
        'FILE',
        'go on with a conversation that --save wrote, without reading it again',
      ),
      'save': textOption('FILE', 'write the conversation at its end'),
      'threads': textOption('N', 'threads that compute (or auto, default 1)'),
      'ctx': CONTEXT,
      'kv-type': KV_TYPE,
      'kernel': textOption(
        'NAME',
        'instruction set to compute with, simd128 or relaxed; default: the best that Node has',
      ),
      'json': flag('one JSON object a line: start, tokens, done'),
    },
  },
  serve: {
    operands: 'MODEL',
    about: 'An OpenAI-shaped server on this machine: chat completions, completions, responses.',
    run: serve,
    options: {
      'heads': HEADS,
      'port': numberOption('N', [0, 65535, true], 'port (default 8080); 0: any that is free'),
      'host': textOption(
        'ADDRESS',
        'where to listen (default 127.0.0.1, this machine alone); elsewhere a token is needed',
      ),
      'token': textOption('T', 'asked for as Authorization: Bearer T, the API key of clients'),
      'sessions': numberOption(
        'N',
        [1, 64, true],
        'questions that are answered together, and conversations that are kept (default 1)',
      ),
      'waiting': numberOption(
        'N',
        [0, 4096, true],
        'questions that wait for a place; more are refused at once, with 503 (default 64)',
      ),
      'threads': textOption('N', 'threads that compute (default auto)'),
      'ctx': CONTEXT,
      'kv-type': KV_TYPE,
    },
  },
  pull: {
    operands: 'NAME',
    about: 'Fetch a model of the catalogue and its exit heads, verified.',
    run: pull,
    options: { output: textOption('DIR', 'folder to put it in (default models)', { short: 'o' }) },
  },
  inspect: {
    operands: 'FILE',
    about:
      'Say what a model is, whether it runs here, what it needs and what is missing; or of exit heads, what they promise.',
    run: inspect,
    options: { json: flag('one JSON object') },
  },
  tokenize: {
    operands: 'MODEL',
    about: 'Show the tokens of a text.',
    run: tokenize,
    options: {
      prompt: textOption('TEXT', 'the text; without it and without -f: standard input', {
        short: 'p',
      }),
      file: textOption('FILE', 'a file with the text', { short: 'f' }),
      ids: flag('the ids alone, on one line'),
      special: flag('special tokens in the text count as such'),
      bos: flag('put begin-of-text first where the model wants it'),
      json: flag('one JSON object'),
    },
  },
};

class Usage extends Error {}

function version() {
  return JSON.parse(fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
    .version;
}

/** @param {string} name */
function help(name) {
  const { operands, about, options } = commands[name];
  const lines = Object.entries(options).map(([long, { short, value, help: text }]) => {
    const left = `  ${short ? `-${short}, ` : '    '}--${long}${value ? ` ${value}` : ''}`;
    return left.length > 28 ? `${left}\n${' '.repeat(30)}${text}` : `${left.padEnd(30)}${text}`;
  });
  return `${about}\n\nusage: exitlm ${name} ${operands} [options]\n\n${lines.join('\n')}\n  -h, --help                  this text\n      --version               the program's version`;
}

/** @param {string[]} args */
async function main(args) {
  const [name, ...rest] = args;
  if (name === '--version') return console.log(`exitlm ${version()}`);
  if (name === undefined || name === '--help' || name === '-h') return console.log(OVERVIEW);
  if (PROGRAM.includes(name)) {
    const [model, ...more] = rest;
    const { runProgram } = await import('./program.mjs');
    process.exitCode = await runProgram(
      model === undefined || model.startsWith('-') ? args : [name, findModel(model), ...more],
    );
    return;
  }
  const command = commands[name];
  if (!command) throw new Usage(`unknown command "${name}"; "exitlm --help" lists the commands`);
  if (rest.includes('--help') || rest.includes('-h')) return console.log(help(name));
  if (rest.includes('--version')) return console.log(`exitlm ${version()}`);
  const { values, positionals } = parse(name, rest, command.options);
  if (positionals.length === 0)
    throw new Usage(
      `${name}: ${command.operands} is missing: exitlm ${name} ${command.operands} [options]`,
    );
  if (positionals.length > 1)
    throw new Usage(`${name}: one ${command.operands} was expected, "${positionals[1]}" came too`);
  await command.run(positionals, values);
}

/**
 * As the native program does it: words after the operand are further values of a list before them.
 * @param {string} name
 * @param {string[]} args
 * @param {Options} options
 */
function parse(name, args, options) {
  let parsed;
  try {
    parsed = parseArgs({ args, options, allowPositionals: true, tokens: true });
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    const [said] = message.split('\n')[0].split('. ');
    const [, given] = /^Unknown option '--([^']+)'/.exec(said) ?? [];
    const like =
      given &&
      Object.keys(options).find(
        (long) => long.startsWith(given) || given.startsWith(long) || oneSlip(long, given),
      );
    const advice = like ? `did you mean --${like}?` : `"exitlm ${name} --help" lists the options`;
    throw new Usage(`${name}: ${said}${given ? `; ${advice}` : ''}`);
  }
  /** @type {Record<string, any>} */
  const values = { ...parsed.values };
  /** @type {string[]} */
  const positionals = [];
  let list = '';
  for (const token of parsed.tokens) {
    if (token.kind === 'option') {
      list = options[token.name].multiple && !token.inlineValue ? token.name : '';
    } else if (token.kind === 'option-terminator') list = '';
    else if (list && positionals.length > 0) values[list].push(token.value);
    else {
      positionals.push(token.value);
      list = '';
    }
  }
  for (const [long, { number, choices }] of Object.entries(options)) {
    const value = values[long];
    if (value === undefined) continue;
    if (number) {
      const n = value === '' ? NaN : Number(value);
      const [low, high, integer] = number;
      if (!(n >= low && n <= high) || (integer && !Number.isInteger(n))) {
        throw new Usage(
          `${name}: --${long}: "${value}" is not ${integer ? 'an integer' : 'a number'} from ${low} to ${high}`,
        );
      }
      values[long] = n;
    }
    if (choices && !choices.includes(value))
      throw new Usage(`${name}: --${long}: "${value}" is not one of ${choices.join(', ')}`);
  }
  return { values, positionals };
}

/**
 * A file, an address, or the file of a name of the catalogue.
 * @param {string} name
 */
function findModel(name) {
  if (/^https?:/.test(name) || fs.existsSync(name)) return name;
  const entry = entryOf(name);
  if (!entry) {
    if (/[./\\]/.test(name))
      throw new Error(
        `${name}: no such file, seen from ${process.cwd()}; give a GGUF file or a name of the catalogue`,
      );
    throw new Error(`${name}: no such file, and no name of the catalogue, which has ${namesOf()}`);
  }
  const found = ['models', '.']
    .map((folder) => path.join(folder, entry.file))
    .find((file) => fs.existsSync(file));
  if (!found)
    throw new Error(
      `${name}: models/${entry.file} is not in ${process.cwd()}, nor is ${entry.file}; "npx exitlm pull ${entry.name}" fetches it, or give the path of the file`,
    );
  return found;
}

/** The engine's file for a kernel. @param {string} kernel @param {string | undefined} threads */
async function moduleOf(kernel, threads = '1') {
  const { detectFeatures } = await import('../engine/features.js');
  const known = [...(detectFeatures().relaxedSimd ? ['relaxed'] : []), 'simd128'];
  if (!known.includes(kernel))
    throw new Usage(
      `chat: --kernel: Node ${process.versions.node} does not run "${kernel}"; it runs ${known.join(', ')}`,
    );
  const variant = `${kernel === 'relaxed' ? kernel : 'simd'}${threads === '1' ? '' : '-mt'}`;
  return new URL(`../../dist/exitlm-${variant}.wasm`, import.meta.url);
}

/** @param {string} model @param {any} o */
async function open(model, o, name = 'chat') {
  if (
    o.threads !== undefined &&
    o.threads !== 'auto' &&
    !(Number.isInteger(Number(o.threads)) && Number(o.threads) >= 1)
  ) {
    throw new Usage(`${name}: --threads: "${o.threads}" is neither a number nor auto`);
  }
  const interactive = process.stderr.isTTY;
  let told = 0;
  const lm = await ExitLM.load(findModel(model), {
    heads: o.heads === 'none' || (o.heads === undefined && o.mode === 'full') ? false : o.heads,
    threads: o.threads === 'auto' ? 'auto' : Number(o.threads ?? 1),
    contextLength: o.ctx,
    kvType: o['kv-type'],
    wasm: o.kernel === undefined ? undefined : await moduleOf(o.kernel, o.threads),
    onProgress: ({ loaded, total, source }) => {
      if (source !== 'network' || total === 0) return;
      const percent = Math.floor((100 * loaded) / total);
      const line = `${percent} % of ${Math.round(total / 1e6)} MB`;
      if (interactive) process.stderr.write(`\r\x1b[K${line}\r`);
      else if (name === 'serve' && percent >= told + 10) {
        told = percent;
        console.error(`exitlm: ${line}`);
      }
    },
  });
  if (name !== 'serve') await lm.ready; // a server begins with what is there
  if (interactive) process.stderr.write('\x1b[K');
  return lm;
}

/** JSON, or that of a file. @param {string} option @param {string | undefined} value */
function jsonOf(option, value) {
  if (value === undefined) return undefined;
  const text = /^\s*\{|^true$/.test(value) ? value : read(value).toString('utf8');
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Usage(`chat: --${option}: ${messageOf(error)}`);
  }
}

/**
 * @typedef {object} Talk
 * @property {ExitLM} lm
 * @property {Pick<ExitLM, 'chat' | 'complete'>} where its K/V is
 * @property {import('../link/types.js').ChatMessage[]} messages
 */

/** A line of JSON with the messages, then what `session.save()` gives. @param {string} file */
function readTalk(file) {
  const bytes = read(file);
  const end = bytes.indexOf('\n');
  try {
    const { messages } = JSON.parse(bytes.toString('utf8', 0, end));
    if (
      messages.every((/** @type {any} */ { role, content }) => role && typeof content === 'string')
    )
      return { messages, bytes: bytes.subarray(end + 1) };
  } catch {} // and so
  throw new Error(`${file}: is no conversation that chat --save wrote`);
}

/** @param {string} file */
function read(file) {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    throw new Error(`${file}: cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** @param {string[]} operands @param {any} o */
async function chat([model], o) {
  if (o.load !== undefined && o.system !== undefined)
    throw new Usage('chat: --load and --system: the conversation has its system message');
  if (o.prompt === '')
    throw new Usage(
      'chat: --prompt is empty; give a text, or leave it out for an interactive chat',
    );
  const loaded = o.load === undefined ? null : readTalk(o.load);
  const lm = await open(model, o);
  const options = {
    mode: o.mode,
    accuracy: o.accuracy,
    strategy: o.strategy,
    kv: o.kv,
    audit: o.audit,
    maxTokens: o['max-tokens'],
    temperature: o.temp,
    topK: o['top-k'],
    topP: o['top-p'],
    minP: o['min-p'],
    repeatPenalty: o['repeat-penalty'],
    seed: o.seed ?? 0,
    stop: o.stop,
    draftLayer: o['draft-layer'],
    draftLength: o['draft-length'],
    schema: jsonOf('json-schema', o['json-schema']),
    pattern: o.pattern === undefined ? undefined : new RegExp(o.pattern, 'u'),
    tools: jsonOf('tools', o.tools),
    toolChoice: o['tool-choice'],
    logprobs: o.logprobs,
  };
  const session = loaded
    ? await lm.restore(loaded.bytes).catch((error) => {
        error.message = `${o.load}: ${error.message}`;
        throw error;
      })
    : o.save && lm.session();
  /** @type {Talk} */
  const talk = {
    lm,
    where: session || lm,
    messages: loaded?.messages ?? (o.system ? [{ role: 'system', content: o.system }] : []),
  };
  if (o.prompt !== undefined)
    await answer(talk, o.prompt === '-' ? fs.readFileSync(0, 'utf8') : o.prompt, options, o);
  else await converse(talk, options, o);
  if (o.save !== undefined)
    fs.writeFileSync(
      o.save,
      Buffer.concat([
        Buffer.from(`${JSON.stringify({ messages: talk.messages })}\n`),
        await session.save(),
      ]),
    );
  await lm.dispose();
}

/** @param {Talk} talk @param {any} options @param {any} o */
async function converse(talk, options, o) {
  const lines = readline.createInterface({
    input: process.stdin,
    output: process.stdin.isTTY ? process.stderr : undefined,
    prompt: '> ',
  });
  /** @type {AbortController | null} */
  let running = null;
  lines.on('SIGINT', () => (running ? running.abort() : lines.close()));
  if (process.stdin.isTTY) lines.prompt();
  for await (const line of lines) {
    if (line === '/quit') break;
    if (line === '/help')
      console.error('/help, /reset, /quit; Ctrl-C stops the answer, Ctrl-D ends');
    else if (line === '/reset') talk.messages.splice(talk.messages[0]?.role === 'system' ? 1 : 0);
    else if (line.trim() !== '') {
      running = new AbortController();
      await answer(talk, line, options, o, running.signal);
      running = null;
    }
    if (process.stdin.isTTY) lines.prompt();
  }
}

/** Of nothing: null. @param {number} part @param {number} whole */
const share = (part, whole) => (whole ? part / whole : null);

/**
 * One turn; the answer is added to the conversation.
 * @param {Talk} talk
 * @param {string} text
 * @param {any} options
 * @param {any} o
 * @param {AbortSignal} [stop]
 */
async function answer({ lm, where, messages }, text, options, o, stop) {
  const say = (/** @type {any} */ object) => process.stdout.write(`${JSON.stringify(object)}\n`);
  messages.push({ role: 'user', content: text });
  const mode = modeOf(options, lm.exits);
  const reply = o.raw ? where.complete(text, options) : where.chat(messages, options);
  stop?.addEventListener('abort', () => reply.cancel(), { once: true });
  if (o.json) {
    const prompt_tokens = o.raw
      ? (await lm.tokenize(text, { special: true, bos: true })).length
      : await lm.countTokens(messages, options);
    const { name, architecture, layers, threads, kernel } = lm.info;
    say({
      type: 'start',
      model: name,
      arch: architecture,
      layers,
      heads: lm.exits?.layers ?? [],
      mode,
      accuracy: mode === 'exit' ? (o.accuracy ?? lm.exits?.defaultAccuracy ?? null) : null,
      threads,
      kernel,
      prompt_tokens,
    });
  }
  for await (const { draftHead, ...token } of reply) {
    if (o.json)
      say({
        type: 'token',
        ...token,
        ...(draftHead === undefined ? {} : { draft_head: draftHead }),
      });
    else process.stdout.write(o['show-depth'] ? coloured(token.text, token.depth) : token.text);
  }
  const r = await reply.result;
  messages.push({ role: 'assistant', content: r.text, toolCalls: r.toolCalls });
  if (o.json) {
    say({
      type: 'done',
      reason: r.reason,
      text: r.text,
      prompt_tokens: r.usage.promptTokens,
      reused_tokens: r.usage.reusedTokens,
      completion_tokens: r.usage.completionTokens,
      prompt_ms: r.timing.promptMs,
      decode_ms: r.timing.decodeMs,
      tokens_per_second: r.timing.tokensPerSecond,
      mean_depth: r.meanDepth,
      mean_work: r.meanWork,
      certified: r.certified,
      ...(r.certified ? {} : { uncertified: r.uncertified }),
      exits: r.exits,
      drafted: r.drafted,
      accepted: r.accepted,
      ...(mode === 'lossless'
        ? {
            draft_attempts: r.draftAttempts,
            acceptance_rate: share(r.accepted, r.drafted),
            mean_draft_length: share(r.drafted, r.draftAttempts),
          }
        : {}),
      ...(mode === 'exit' && options.audit
        ? { audited: r.audited, audit_disagreement: share(r.auditDisagreed, r.audited) }
        : {}),
      ...(r.toolCalls ? { tool_calls: r.toolCalls } : {}),
      ...(r.forced === undefined ? {} : { forced: r.forced }),
    });
  } else process.stdout.write('\n');
}

/** Colours of a terminal below a depth. */
const COLOURS = [
  [0.65, 39],
  [0.85, 77],
  [1, 179],
];

/** Blue is shallow, plain is the whole model. @param {string} text @param {number} depth */
function coloured(text, depth) {
  if (depth >= 1 || process.env.NO_COLOR) return text;
  const [, colour] = /** @type {[number, number]} */ (COLOURS.find(([below]) => depth < below));
  return `\x1b[38;5;${colour}m${text}\x1b[0m`;
}

/** What Node lacks, and what would be faster. @param {ExitLM} lm */
const advice = ({ info: { kernel } }) =>
  kernel.startsWith('relaxed')
    ? ''
    : `; Node ${process.versions.node} has no relaxed SIMD: Node 22 and later have it, and answer faster`;

/** How long those that are being answered have when the server is stopped. */
const PATIENCE_MS = 10_000;
/** Each is said once, and no more than these. */
const MOST_WARNINGS = 20;

/** @param {string[]} operands @param {any} o */
async function serve([model], o) {
  const { close, isLoopback, listen, serverOf } = await import('../serve/node.js');
  const { createHandler } = await import('../serve/handler.js');
  const { prometheus } = await import('../serve/metrics.js');
  const { host = '127.0.0.1', port = 8080, token, sessions = 1, waiting = 64 } = o;
  if (!isLoopback(host) && !token)
    throw new Usage(
      `serve: --host ${host}: others can reach this address, so --token is needed: a word that clients give as their API key`,
    );
  const file = findModel(model); // before it is said that it is loading
  const stopped = new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => resolve(null));
  });
  /** One, and another each time that it has crashed. @type {Promise<ExitLM>[]} */
  const opened = [];
  const last = () => opened[opened.length - 1];
  const handler = createHandler({
    model: path.basename(model.replace(/[?#].*|\/manifest\.json$/, ''), '.gguf'),
    load: () => {
      opened.push(open(file, { threads: 'auto', ...o }, 'serve'));
      return last();
    },
    eager: true,
    token,
    cors: false,
    maxBodyBytes: 1 << 22,
    maxOutputTokens: Infinity,
    maxWaiting: waiting,
    sessions,
    metrics: prometheus(),
  });
  /** @type {Set<string | null>} */
  const told = new Set([null]);
  const server = serverOf(async (request) => {
    const response = await handler(request);
    const warning = response.headers.get('X-ExitLM-Warning');
    if (!told.has(warning) && told.size < MOST_WARNINGS) {
      told.add(warning);
      console.error(`exitlm: ${warning}`);
    }
    return response;
  }, host);
  const address = await listen(server, port, host).catch((error) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new Error(`serve: port ${port} is taken; --port N names another, 0 any that is free`);
  });
  console.error(`exitlm: ${model} is loading; questions that come before wait`);
  const loaded = await Promise.race([last(), stopped]);
  if (!loaded) process.exit(); // nobody is being answered
  const { kernel, threads } = loaded.info;
  console.error(`exitlm: kernel ${kernel}, threads ${threads}${advice(loaded)}`);
  console.log(`OPENAI_BASE_URL=${address}/v1 OPENAI_API_KEY=${token ?? 'none'}`);
  await stopped;
  console.error('exitlm: stopping; what is being answered ends first');
  await close(server, PATIENCE_MS);
  await (await last()).dispose();
}

/** @param {string[]} operands @param {any} o */
async function pull([name], o) {
  console.log(
    await fetchModel(name, {
      directory: o.output ?? 'models',
      log: (/** @type {string} */ line) => console.error(line),
    }),
  );
}

/** @param {string[]} operands @param {any} o */
async function inspect([model], o) {
  const file = findModel(model);
  if (fs.existsSync(file) && path.extname(file) !== '.json') {
    const { runProgram } = await import('./program.mjs');
    const real = fs.realpathSync(file); // the module does not follow links out of its folder
    process.exitCode = await runProgram([
      'inspect',
      real === path.resolve(file) ? file : real,
      ...(o.json ? ['--json'] : []),
    ]);
    return;
  }
  // one that would be downloaded, of which the header alone is fetched, or a manifest
  const { runs, reason, bytes, memory, estimate, missing, heads, ...check } =
    await ExitLM.check(file);
  const said = check.model;
  if (!said?.architecture)
    throw new Error(reason.startsWith(`${file}: `) ? reason : `${file}: ${reason}`);
  if (o.json) {
    console.log(
      JSON.stringify({
        type: 'model',
        file,
        file_bytes: bytes,
        name: said.name,
        arch: said.architecture,
        tokenizer: said.tokenizer,
        pre_tokenizer: said.preTokenizer,
        licence: said.licence,
        quantisation: said.quantisation,
        parameters: said.parameters,
        layers: said.layers,
        context_tokens: said.contextLength,
        runs,
        reason,
        missing,
        memory: memory && { model_bytes: memory.model, session_bytes: memory.session },
        estimate: { tokens_per_second: estimate.tokensPerSecond },
        heads: heads?.name ?? null,
      }),
    );
    return;
  }
  const line = (/** @type {string} */ name, /** @type {unknown} */ text) =>
    console.log(`${name.padEnd(14)} ${plain(String(text || 'not stated'))}`);
  line('model', file);
  line('name', said.name);
  line('architecture', said.architecture);
  line('tokenizer', [said.tokenizer, said.preTokenizer].filter(Boolean).join(', '));
  line('licence', said.licence);
  line(runs ? 'verdict' : 'does not run', reason);
  for (const lack of missing) line('missing', lack);
  if (memory)
    line(
      'memory',
      `${megabytes(memory.model)} for the model, ${megabytes(memory.session)} for a session with the default context`,
    );
  if (said.parameters)
    line('parameters', `${(said.parameters / 1e6).toFixed(1)} million, ${said.quantisation}`);
  if (bytes !== null) line('file', megabytes(bytes));
  line('exit heads', heads?.name ?? 'none beside it');
}

/** Text of a file cannot command the terminal. @param {string} text */
const plain = (text) => text.replace(/[\p{Cc}\p{Cf}]/gu, '\ufffd');

/** @param {string[]} operands @param {any} o */
async function tokenize([model], o) {
  if (o.prompt !== undefined && o.file !== undefined)
    throw new Usage('tokenize: --prompt and --file exclude each other');
  const lm = await ExitLM.load(findModel(model), { vocabularyOnly: true });
  const ids = await lm.tokenize(o.prompt ?? fs.readFileSync(o.file ?? 0, 'utf8'), {
    special: o.special,
    bos: o.bos,
  });
  const tokens = [];
  for (const id of o.ids ? [] : ids) tokens.push(await lm.detokenize([id]));
  if (o.json) console.log(JSON.stringify(o.ids ? { ids } : { ids, tokens }));
  else if (o.ids) console.log(ids.join(' '));
  else
    for (const [i, id] of ids.entries())
      console.log(`${String(id).padStart(7)}  ${JSON.stringify(tokens[i])}`);
  await lm.dispose();
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`exitlm: ${messageOf(error).replaceAll('\n', ' ')}\n`);
  process.exit(error instanceof Usage || error?.code === 'USAGE' ? 2 : 1);
});
