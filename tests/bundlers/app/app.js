// The newcomer's page: every test of this folder builds it from the packed tarball. `loadOptions`
// is for bundlers that leave a worker behind.
import { ExitLM } from 'exitlm';

const out = document.getElementById('out');

async function main() {
  const lm = await ExitLM.load('tiny.gguf', globalThis.loadOptions);
  const reply = lm.chat([{ role: 'user', content: 'Hi, how are you?' }], { maxTokens: 12 });
  for await (const token of reply) {
    const span = document.createElement('span');
    span.textContent = token.text;
    span.title = `${token.layer} of ${token.of} layers`;
    out.append(span);
  }
  await lm.ready;
  Object.assign(out.dataset, {
    done: 'yes',
    threads: lm.info.threads,
    network: (await lm.memory()).networkBytes,
  });
  await lm.dispose();
}

main().catch((error) => {
  out.dataset.error = `${error.code} ${error.stack}`;
});
