/**
 * Shaped replies: the options `schema`, `json`, `pattern` and `tools` as grammars of C. The last ones are
 * kept, since the replies of a page mostly have few shapes.
 *
 * @typedef {import('./engine.js').Engine} Engine
 */
import { ExitLMError } from '../link/errors.js';
import { isShaped, usage } from '../link/options.js';

const KEPT = 4;

/** Flags of a RegExp as C has them; u, g, y and d change nothing about what matches as a whole. */
const FLAGS = /** @type {Record<string, number>} */ ({ i: 1, s: 2, u: 0, g: 0, y: 0, d: 0 });

/** Whether its text is JSON. @param {Record<string, any>} options */
export const isJson = ({ schema, json }) => schema !== undefined || json === true;

export class Shapes {
  #engine;
  #model;
  /** Addresses of grammars by what they were made of. @type {Map<string, number>} */
  #grammars = new Map();
  /** How many replies under way use each. @type {Map<number, number>} */
  #users = new Map();

  /** @param {Engine} engine @param {number} model */
  constructor(engine, model) {
    this.#engine = engine;
    this.#model = model;
  }

  /**
   * The grammar that the options ask for, until it is released; 0 where they ask for none.
   * @param {Record<string, any>} options
   * @param {object[] | null} tools that it may call
   * @param {import('./tools.js').Form | null} form of calls
   * @param {string} begun what a reply with a shape goes on from: with it before it, it is of the shape
   * @returns {number}
   */
  take(options, tools, form, begun) {
    const grammar = this.#grammarOf(options, tools, form, begun);
    this.#users.set(grammar, (this.#users.get(grammar) ?? 0) + 1);
    return grammar;
  }

  /** @param {number} grammar */
  release(grammar) {
    this.#users.set(grammar, (this.#users.get(grammar) ?? 0) - 1);
  }

  /**
   * @param {Record<string, any>} options
   * @param {object[] | null} tools
   * @param {import('./tools.js').Form | null} form
   * @param {string} begun
   */
  #grammarOf(options, tools, form, begun) {
    const { schema, json, pattern } = options;
    if (typeof (json ?? false) !== 'boolean')
      throw new ExitLMError(
        'USAGE',
        'option json: true (any JSON) or false was expected; a schema goes into the option schema',
      );
    if (!tools && !isShaped(options)) return 0;
    const shapes = [tools, schema !== undefined, json === true, pattern !== undefined];
    if (shapes.filter(Boolean).length > 1)
      throw new ExitLMError(
        'USAGE',
        'options schema, json, pattern and tools: only one shape is possible',
      );
    if (tools) return this.#ofTools(tools, options, form);
    if (pattern !== undefined) return this.#ofPattern(pattern, begun);
    if (json === true) return this.#ofSchema(true, begun);
    if (typeof schema !== 'boolean' && (typeof schema !== 'object' || schema === null))
      usage('schema', 'a JSON Schema, an object,', schema);
    return this.#ofSchema(schema, begun);
  }

  /** @param {object | boolean} schema @param {string} begun */
  #ofSchema(schema, begun) {
    return this.#kept(
      JSON.stringify(schema),
      (memory, n) => this.#engine.make('grammar_from_schema', this.#model, memory, n),
      '',
      begun,
    );
  }

  /** @param {object[]} tools @param {Record<string, any>} options @param {string | null} form */
  #ofTools(tools, { toolChoice = 'auto', parallelToolCalls = true }, form) {
    const llama3 = form === 'llama3';
    return this.#kept(
      JSON.stringify(tools),
      (memory, n) =>
        this.#engine.withText(toolChoice, (choice) =>
          this.#engine.make(
            'grammar_from_tools',
            this.#model,
            memory,
            n,
            choice,
            llama3,
            !parallelToolCalls,
          ),
        ),
      `${toolChoice} ${parallelToolCalls} `,
    );
  }

  /** @param {unknown} pattern @param {string} begun */
  #ofPattern(pattern, begun) {
    if (!(pattern instanceof RegExp)) usage('pattern', 'a RegExp', pattern);
    const { source, flags } = /** @type {RegExp} */ (pattern);
    const unknown = Array.from(flags).find((flag) => !(flag in FLAGS));
    if (unknown)
      throw new ExitLMError('USAGE', `option pattern: the flag ${unknown} is not supported`);
    const bits = Array.from(flags).reduce((sum, flag) => sum | FLAGS[flag], 0);
    return this.#kept(
      source,
      (memory, n) => this.#engine.make('grammar_from_pattern', this.#model, memory, n, bits),
      `/${bits}/`,
      begun,
    );
  }

  /**
   * @param {string} text
   * @param {(memory: number, n: number) => number} make
   * @param {string} [kind]
   * @param {string} [begun]
   */
  #kept(text, make, kind = '', begun = '') {
    const key = JSON.stringify([kind, text, begun]);
    const grammar = this.#grammars.get(key) ?? this.#made(text, make, begun);
    this.#grammars.delete(key);
    this.#grammars.set(key, grammar); // the last one used stands last
    const oldest = [...this.#grammars].find(([, address]) => !this.#users.get(address));
    if (oldest && oldest[1] !== grammar && this.#grammars.size > KEPT) {
      this.#grammars.delete(oldest[0]);
      this.#users.delete(oldest[1]);
      this.#engine.call('grammar_free', oldest[1]);
    }
    return grammar;
  }

  /**
   * @param {string} text
   * @param {(memory: number, n: number) => number} make
   * @param {string} begun
   */
  #made(text, make, begun) {
    const engine = this.#engine;
    const grammar = engine.withText(text, make);
    try {
      if (begun)
        engine.withText(begun, (memory, n) => engine.run('grammar_begin', grammar, memory, n));
    } catch (error) {
      engine.call('grammar_free', grammar);
      throw error;
    }
    return grammar;
  }
}
