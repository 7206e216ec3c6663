/**
 * What callers give and get: plain data, and the words of both sides.
 *
 * @typedef {string | URL | (string | URL)[] | Blob | ReadableStream<Uint8Array> | ArrayBuffer |
 *   ArrayBufferView} ModelSource an address; a list with the addresses of a split model's files;
 *   the address of a manifest (`exitlm pack`); or the bytes
 *
 * @typedef {object} Progress
 * @property {number} loaded bytes that are in the engine
 * @property {number} total
 * @property {number} layersReady layers that have arrived
 * @property {number} layers
 * @property {'network' | 'cache' | 'memory'} source of the latest bytes
 * @property {number} bytesPerSecond
 *
 * @typedef {object} KeyValueCache a cache of the caller's own; keys are strings, values bytes
 * @property {(key: string) => Promise<Uint8Array | undefined | null>} get
 * @property {(key: string, bytes: Uint8Array) => Promise<unknown>} put
 * @property {(key: string) => Promise<unknown>} [delete]
 *
 * @typedef {object} LoadOptions
 * @property {ModelSource | false} [heads] exit heads; left out: `NAME.exits.gguf` beside the model,
 *   where there is one; false: none
 * @property {number | 'auto'} [threads] threads that compute; 'auto' leaves one processor free and
 *   takes at most four, and one where memory cannot be shared
 * @property {'auto' | 'opfs' | 'cache-api' | 'none' | KeyValueCache} [cache] where the model is
 *   kept for the next time
 * @property {string} [cacheKey] the address under which it is kept, where that of `source` changes
 *   from time to time (a signed one); `ExitLM.cache` knows it by this
 * @property {number} [contextLength] tokens of prompt and reply together; left out: the model's, at
 *   most 2048
 * @property {'f32' | 'f16' | 'q8'} [kvType] of the K/V cache: 'q8' takes a quarter of the memory;
 *   left out: 'f32', but 'q8' on iOS, on a device with at most 4 GB and where 'f32' finds no room
 * @property {boolean} [kvMaps] whether the heads' K/V maps are loaded (1.4 MB of the default
 *   model's 3.4), which replies with `kv: 'maps'` need and levels that are calibrated with them;
 *   left out: with the heads where those are a local file or bytes, else after the last weight,
 *   where a level is calibrated with them (never by `exitlm/edge`)
 * @property {boolean} [vocabularyOnly] only the tokenizer and the chat template, from the header of
 *   a model of any architecture: `tokenize`, `detokenize` and `countTokens`, but no replies
 * @property {boolean | string | URL} [worker] run the engine in a worker (where there are any: the
 *   default); or the address of the worker's script, `web/src/worker.js` of a copy of this package,
 *   where a bundler leaves it behind
 * @property {AbortSignal} [signal] stops loading, also after `load` has resolved
 * @property {(progress: Progress) => void} [onProgress] hears how far loading is, at most 20 times a
 *   second, also after `load` has resolved
 * @property {(message: string) => void} [onWarning] something did not work that loading can do
 *   without, such as keeping a copy; left out: console.warn
 * @property {string | string[]} [sha256] expected, of the file or of each file
 * @property {typeof globalThis.fetch} [fetch] used for the model's bytes
 * @property {string | URL | WebAssembly.Module | ArrayBuffer | ArrayBufferView} [wasm] the engine:
 *   an address, that of a folder with all its variants (ending in '/'), a compiled module, or bytes
 *
 * @typedef {object} GenerateOptions
 * @property {'full' | 'exit' | 'lossless'} [mode] default: 'exit' where there are heads, else
 *   'full'; of a shaped reply 'lossless' in place of 'exit'
 * @property {number} [accuracy] wanted of mode 'exit', 0.5 … 1; `lm.exits.defaultAccuracy`
 * @property {'risk' | 'max-coverage' | 'min-coverage' | 'midpoint' | 'platt'} [strategy]
 * @property {number} [maxTokens] left out: up to the context's end
 * @property {number} [temperature] 0, the default, takes the likeliest token
 * @property {number} [topK]
 * @property {number} [topP]
 * @property {number} [minP]
 * @property {number} [repeatPenalty]
 * @property {number | bigint} [seed] left out: a new one each time, see Result.seed
 * @property {string | string[]} [stop] texts that end the reply; they are not part of it
 * @property {'auto' | 'exact' | 'maps'} [kv] how skipped layers' K/V is made; left out, or auto: of
 *   those that the level is calibrated with, the one that costs least. A reply that may use
 *   maps waits for those that are still to come
 * @property {number[]} [thresholds] an uncertainty for each head, in place of those of a level: it
 *   exits below. No promise goes with them
 * @property {number} [audit] share of the exits that is verified, 0 … 1: the full model's choice in
 *   the same context, as a level promises it. K/V is then exact; `kv: 'maps'` is refused with it,
 *   since what the maps make wrong would not be seen
 * @property {number} [maxDraft] mode 'lossless': most drafts before a verification, made wherever an
 *   exit is under its threshold; default: where they pay
 * @property {number} [draftLayer] mode 'lossless': a fixed exit layer
 * @property {number} [draftLength] mode 'lossless': and a fixed number of drafts
 * @property {boolean} [events] also yield drafts, acceptances and rejections
 * @property {object | boolean} [schema] the reply is JSON of this JSON Schema (docs/shaped.md says
 *   what of it is understood)
 * @property {boolean} [json] true: the reply is JSON, of any kind
 * @property {RegExp} [pattern] the reply matches it as a whole
 * @property {number} [logprobs] tokens carry `logprob`, and in `top` so many of the likeliest, 0 …
 *   20 (docs/logprobs.md says of which distribution)
 * @property {Tool[]} [tools] of `chat`: what the reply may call (docs/tools.md)
 * @property {'auto' | 'none' | 'required' | (string & {})} [toolChoice] 'auto', the default: text,
 *   calls or both; 'required': one call at least; a name: one call of this tool
 * @property {boolean} [parallelToolCalls] false: one call at most
 * @property {'error' | 'drop'} [overflow] of `chat`, what a conversation that outgrows the context
 *   does: 'error', the default, rejects with CONTEXT_FULL; 'drop' leaves out the oldest turns but not
 *   the system message, as many as give back half the context, which the model then reads anew
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} Tool
 * @property {string} name letters, digits, _, - and .
 * @property {string} [description]
 * @property {object} [parameters] a JSON Schema of type object; left out: none
 *
 * @typedef {{ id: string, name: string, arguments: Record<string, any> }} ToolCall
 *
 * @typedef {object} SessionOptions
 * @property {number} [contextLength] tokens of prompt and reply together; left out: as `lm`'s
 *
 * @typedef {object} Info
 * @property {string} name
 * @property {string} architecture
 * @property {string} licence
 * @property {string} quantisation
 * @property {number} layers
 * @property {number} parameters
 * @property {number} vocabulary
 * @property {number} dimension
 * @property {number} contextLength tokens of prompt and reply together, in use
 * @property {number} modelContextLength …that the model was trained for
 * @property {number} weightBytes
 * @property {string} fingerprint '' until the bytes that it covers are there
 * @property {string} kernel the instruction set in use
 * @property {number} threads
 * @property {string} kvType of the K/V cache
 * @property {{ model: number, session: number, total: number }} memory bytes
 * @property {string} version of the engine
 *
 * @typedef {object} Level a line of the calibration
 * @property {string} strategy
 * @property {string} kv K/V policy that it was calibrated with
 * @property {string} kvType …and K/V type
 * @property {number} temperature up to which it holds; 0: greedy replies
 * @property {number} maxTokens of the longest replies that it holds for
 * @property {number} accuracy
 * @property {boolean} certified
 * @property {number} delta
 * @property {number} bound upper estimate of the disagreement at 1 - delta, of the thresholds that
 *   were chosen; what is certified is 1 - accuracy
 * @property {number[]} threshold a head exits where its uncertainty is below
 * @property {number} [firstThreshold] the last head's for the first token of a reply, where it stands
 *   after the last layer; 0: the same
 * @property {number[]} coverage share of tokens that exit at each head
 * @property {number} agreement
 * @property {number} agreementExited
 * @property {number} regret of a token: by how many logits the full model preferred its own choice
 *   in the same context, as a share of 8 (0 up to 0.5, a near-tie); mean. 1: not measured
 * @property {number} regretBound upper bound of it at 1 - delta
 * @property {number} unwanted share of tokens that have any
 * @property {number} conversations
 * @property {number} tokens
 * @property {boolean} [onDevice] made here by `calibrate`
 *
 * @typedef {object} Exits
 * @property {number[]} layers layers run before each head
 * @property {{ layer: number, rows: number, form: string, macs: number }[]} heads
 * @property {string} metric
 * @property {string} kv K/V policy of a reply with thresholds of its own; each level says its own
 * @property {string} kvType
 * @property {number} defaultAccuracy the level where none is asked for: the one that the heads file
 *   names, else its strictest certified one, else 1 (nothing exits)
 * @property {string} fingerprint of the model that they belong to
 * @property {string} licence
 * @property {string} data
 * @property {string} engineVersion
 * @property {Level[]} levels
 *
 * @typedef {object} Check
 * @property {boolean} runs
 * @property {string} reason a sentence: why not, or what to expect
 * @property {number | null} bytes to download
 * @property {{ model: number, session: number, total: number } | null} memory bytes that it will
 *   take
 * @property {Features & { threadsUsed: number, kernel: string }} features
 * @property {{ tokensPerSecond: number | null }} estimate a rough one, of the whole model on one
 *   thread
 * @property {string[]} missing what of the model this engine lacks: 'architecture mamba', 'weight
 *   type IQ2_XXS', 'tokenizer bert', 'pre-tokenizer kimi-k2'
 * @property {{ name: string, architecture: string, tokenizer: string, preTokenizer: string, licence:
 *   string, quantisation: string | null, parameters: number | null, layers: number | null,
 *   contextLength: number | null } | null} model what its header says; null where that is not known
 *   of a model that does not run
 * @property {{ name: string, bytes: number | null } | null} heads exit heads: those named, or beside
 *   the model
 *
 * @typedef {object} CachedModel
 * @property {string} url
 * @property {number} bytes kept
 * @property {boolean} complete false: the rest is fetched at the next load
 * @property {Date} savedAt
 *
 * @typedef {object} Features what this machine's WebAssembly can do
 * @property {boolean} wasm
 * @property {boolean} simd fixed-width SIMD, the least that is needed
 * @property {boolean} relaxedSimd relaxed dot products, with right values
 * @property {boolean} threads shared memory and workers to use it
 *
 * @typedef {object} ChatMessage
 * @property {'system' | 'user' | 'assistant' | 'tool' | (string & {})} role one of the four; the type
 *   lets a variable with any string pass
 * @property {string} content
 * @property {ToolCall[]} [toolCalls] of an assistant: the calls of Result.toolCalls
 * @property {string} [toolCallId] of a tool: the call that it answers
 * @property {boolean} [prefix] of the last one, an assistant's: the reply goes on from its content
 *
 * @typedef {object} Token one token of a reply
 * @property {number} index 0, 1, …
 * @property {number} id
 * @property {string} text whole characters only; may be empty while one is incomplete
 * @property {number} layer transformer layers run for it
 * @property {number} of …of so many
 * @property {number} depth layer / of
 * @property {number} work its share of a full token's multiply-adds when it was emitted, failed
 *   checks included
 * @property {number} head the exit head that answered; -1: the model's own final head
 * @property {number} confidence of that head, 0 … 1
 * @property {boolean} drafted whether it came from a draft (mode `lossless`)
 * @property {boolean} [forced] its shape left no choice: no layer was run for it
 * @property {boolean} [disagreed] with `audit`: the full model would have chosen another token here
 * @property {number} [draftHead] of a drafted token: the head, or -2 for prompt lookup
 * @property {string} [call] with `tools`: what it says of a call; `text` has the rest, mostly ''
 * @property {number | null} ms since the token before; null where there is no usable clock
 * @property {number} [logprob] with `logprobs`: the natural logarithm of its probability
 * @property {Likely[]} [top] with `logprobs`: the likeliest tokens, best first
 * @property {'token'} [type] with `events: true`
 *
 * @typedef {{ id: number, text: string, logprob: number }} Likely a token that might have been
 *
 * @typedef {Omit<Token, 'type'> & { type: 'draft' | 'accept' | 'reject' }} DraftEvent with `events:
 *   true`
 *
 * @typedef {object} Result
 * @property {string} text the whole reply, without its calls
 * @property {'stop' | 'length' | 'abort' | 'tool'} reason of a shaped reply 'stop': it is complete;
 *   'tool': its calls wait for answers
 * @property {ToolCall[]} [toolCalls] with `tools`: the complete calls
 * @property {any} [json] of a complete reply with `schema` or `json`: its value
 * @property {number} [forced] of a shaped reply and with `tools`: tokens that its shape left no choice about
 * @property {{ promptTokens: number, completionTokens: number, reusedTokens: number }} usage
 *   reusedTokens: of the prompt, those whose K/V was there already
 * @property {Record<string, number>} exits tokens that each head answered; '-1' is the model's own
 * @property {number} meanDepth
 * @property {number} meanWork counts all that was done after the prompt
 * @property {number} drafted
 * @property {number} accepted
 * @property {number} draftAttempts
 * @property {number} audited exits that were verified with the full model
 * @property {number} auditDisagreed
 * @property {boolean} certified whether the reply lies inside what its accuracy is certified for;
 *   always in the modes `full` and `lossless`
 * @property {string | null} uncertified else why not
 * @property {number} [dropped] with `overflow: 'drop'`: messages that were left out
 * @property {string | null} seed the seed of a sampled reply, also where it was drawn
 * @property {{ promptMs: number | null, decodeMs: number | null, tokensPerSecond: number | null }}
 *   timing
 */
export {};
