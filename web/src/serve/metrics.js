/**
 * What those watch who run `exitlm serve`, in Prometheus' format. Of the package this file alone
 * has a dependency, and only the command loads it: nothing of it comes into a page or a Worker.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** @returns {import('./handler.js').Metrics} */
export function prometheus() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const about = (/** @type {string} */ name, /** @type {string} */ help) => ({
    name: `exitlm_${name}`,
    help,
    registers: [registry],
  });
  const gauge = (/** @type {string} */ name, /** @type {string} */ help) =>
    new Gauge(about(name, help));
  const counter = (
    /** @type {string} */ name,
    /** @type {string} */ help,
    /** @type {string[]} */ labelNames = [],
  ) => new Counter({ ...about(name, help), labelNames });
  const histogram = (
    /** @type {string} */ name,
    /** @type {string} */ help,
    /** @type {number[]} */ buckets,
  ) => new Histogram({ ...about(name, help), buckets });

  const requests = counter('http_requests_total', 'Requests, by what they were answered.', [
    'path',
    'status',
    'code',
  ]);
  const answers = counter('answers_total', 'Answers that are over, by why they ended.', ['reason']);
  const read = counter('prompt_tokens_total', 'Tokens of prompts.');
  const reused = counter('cached_prompt_tokens_total', 'Of them, those known from before.');
  const written = counter('completion_tokens_total', 'Tokens of answers.');
  const first = histogram(
    'time_to_first_token_seconds',
    'From a request to the first token of its answer, the wait in the line included.',
    [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  );
  const speed = histogram(
    'answer_tokens_per_second',
    'Speed of an answer after its first token.',
    [1, 2.5, 5, 10, 25, 50, 100, 250, 500],
  );
  const depth = histogram(
    'answer_depth_ratio',
    'Share of the layers that the tokens of an answer went through.',
    [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
  );
  const ready = gauge('ready', 'Whether the model is loaded, to the last byte.');
  const answering = gauge('sessions_in_use', 'Questions that are being answered.');
  const waiting = gauge('queue_length', 'Questions that wait.');
  const memory = gauge('memory_bytes', 'Memory of the model and its conversations.');
  const starts = counter('engine_starts_total', 'How often the model was loaded.');

  return {
    responded: (path, status, code) => requests.inc({ path, status, code }),
    answered({ reason, usage, timing, meanDepth }, waitedMs) {
      answers.inc({ reason });
      read.inc(usage.promptTokens);
      reused.inc(usage.reusedTokens);
      written.inc(usage.completionTokens);
      if (usage.completionTokens > 0) depth.observe(meanDepth);
      if (waitedMs !== null && timing.promptMs !== null)
        first.observe((waitedMs + timing.promptMs) / 1000);
      if (timing.tokensPerSecond !== null) speed.observe(timing.tokensPerSecond);
    },
    async page(state) {
      ready.set(Number(state.ready));
      answering.set(state.answering);
      waiting.set(state.waiting);
      memory.set(state.memoryBytes);
      starts.reset();
      starts.inc(state.starts);
      return new Response(await registry.metrics(), {
        headers: { 'Content-Type': registry.contentType, 'Cache-Control': 'no-store' },
      });
    },
  };
}
