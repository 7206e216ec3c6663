"""Chat completions in OpenAI's shape, answered by exitlm.wasm in Wasmtime.

    pip install wasmtime
    python3 serve.py MODEL [--module exitlm.wasm] [--pool 2] [--port 8080] [-- OPTIONS OF exitlm chat ...]

The module is compiled once. Instances wait with the weights loaded, each for one question (`chat MODEL -p - --json` reads it from standard
input); whoever has answered is replaced. A question finds no instance that waits: 503 with Retry-After. One user message a request, after the
system message that --system gives.
"""
import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import wasmtime

MAX_BODY_BYTES = 65536
WAIT_SECONDS = 30


class Instance:
    """One instance: loads the model, waits for its question, answers, ends."""

    def __init__(self, engine, module, folder, arguments):
        self.scratch = tempfile.TemporaryDirectory(prefix='exitlm-')
        self.pipes = {name: os.path.join(self.scratch.name, name) for name in ('in', 'out', 'err')}
        os.mkfifo(self.pipes['in'])
        os.mkfifo(self.pipes['out'])
        # Both ends are open before the instance opens its own: nobody waits for the other.
        self.question = os.open(self.pipes['in'], os.O_RDWR)
        self.answer = os.open(self.pipes['out'], os.O_RDWR)
        self.store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ['exitlm', *arguments]
        wasi.preopen_dir(folder, 'models')
        wasi.stdin_file = self.pipes['in']
        wasi.stdout_file = self.pipes['out']
        wasi.stderr_file = self.pipes['err']
        self.store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self.start = linker.instantiate(self.store, module).exports(self.store)['_start']
        self.abandoned = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.start(self.store)
        except (wasmtime.ExitTrap, wasmtime.Trap, wasmtime.WasmtimeError):
            pass
        finally:
            if not self.abandoned:
                os.write(self.answer, b'\n')  # an empty line: there is no more

    def ask(self, text):
        """Yields the objects of the answer."""
        keep = self.answer
        writer = threading.Thread(target=self.write, args=(text.encode(),), daemon=True)
        writer.start()
        with os.fdopen(os.dup(keep), 'rb') as lines:
            for line in lines:
                if line == b'\n':
                    return
                yield json.loads(line)
                if line.startswith(b'{"type":"done"'):
                    return

    def write(self, data):
        while data:
            data = data[os.write(self.question, data):]
        os.close(self.question)

    def error(self):
        try:
            with open(self.pipes['err'], encoding='utf8') as file:
                return file.read().strip()
        except OSError:
            return ''

    def close(self, answered):
        if not answered:  # nobody reads on: the program's next line fails, and it ends
            self.abandoned = True
            os.close(self.answer)
        self.thread.join()
        if answered:
            os.close(self.answer)
        self.scratch.cleanup()


class Pool:
    def __init__(self, options):
        self.engine = wasmtime.Engine()
        self.module = wasmtime.Module.from_file(self.engine, options.module)
        self.folder = os.path.dirname(os.path.abspath(options.model))
        self.name = os.path.basename(options.model)
        self.arguments = ['chat', f'models/{self.name}', '-p', '-', '--json', '--threads', '1', *options.chat]
        self.ready = queue.Queue()
        for _ in range(options.pool):
            self.add()

    def add(self):
        self.ready.put(Instance(self.engine, self.module, self.folder, self.arguments))

    def take(self):
        return self.ready.get(timeout=WAIT_SECONDS)

    def replace(self, instance, answered):
        """Ends an instance and starts the next one, beside whatever else goes on."""
        def work():
            self.add()
            instance.close(answered)
        threading.Thread(target=work, daemon=True).start()


class Refusal(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


def question_of(body, model):
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Refusal(400, 'invalid_json', f"the request's body is not JSON ({error})") from None
    messages = request.get('messages') if isinstance(request, dict) else None
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict) or messages[0].get('role') != 'user' \
            or not isinstance(messages[0].get('content'), str) or not messages[0]['content'].strip():
        raise Refusal(400, 'invalid_value', 'messages: one message of the user, with text, is taken')
    for name in request.keys() - {'messages', 'model', 'stream'}:
        raise Refusal(400, 'unknown_parameter', f'{name}: not taken here; give options of exitlm chat after --')
    if request.get('model') not in (None, model):
        raise Refusal(404, 'model_not_found', f'model {request["model"]!r}: here is {model!r}')
    return messages[0]['content'], bool(request.get('stream'))


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 60  # of a client that says nothing
    pool = None
    model = ''

    def log_message(self, *_):
        pass

    def reply(self, status, value, headers=()):
        data = json.dumps(value).encode() + b'\n'
        self.send_response(status)
        for name, text in [('Content-Type', 'application/json'), ('Content-Length', str(len(data))), *headers]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, error):
        kind = 'server_error' if error.status >= 500 else 'invalid_request_error'
        self.close_connection = True
        self.reply(error.status, {'error': {'message': str(error), 'type': kind, 'param': None, 'code': error.code}},
                   [('Connection', 'close'), *([('Retry-After', '5')] if error.status == 503 else [])])

    def do_GET(self):
        if self.path != '/v1/models':
            return self.refuse(Refusal(404, 'not_found', f'{self.path}: there is /v1/chat/completions and /v1/models'))
        self.reply(200, {'object': 'list', 'data': [{'id': self.model, 'object': 'model', 'created': 0, 'owned_by': 'exitlm'}]})

    def check_page(self):
        """No page of another site asks here: not by a form, and not under a name that it had lead to this machine."""
        host = self.headers.get('Host', '')
        if host.rpartition(':')[0] not in ('localhost', '127.0.0.1') and host not in ('localhost', '127.0.0.1'):
            raise Refusal(403, 'host_not_allowed', f'{host}: this is localhost')
        if self.headers.get('Origin') not in (None, f'http://{host}'):
            raise Refusal(403, 'origin_not_allowed', f'{self.headers["Origin"]}: pages from there may not ask')
        if self.headers.get_content_type() != 'application/json':
            raise Refusal(415, 'unsupported_media_type', 'Content-Type: application/json was expected')

    def do_POST(self):
        try:
            if self.path != '/v1/chat/completions':
                raise Refusal(404, 'not_found', f'{self.path}: there is /v1/chat/completions and /v1/models')
            self.check_page()
            length = self.headers.get('Content-Length', '')
            if not (length.isascii() and length.isdigit()):
                raise Refusal(411, 'length_required', 'Content-Length was expected')
            if int(length) > MAX_BODY_BYTES:
                raise Refusal(413, 'request_too_large', f"the request's body: at most {MAX_BODY_BYTES} bytes are taken")
            text, stream = question_of(self.rfile.read(int(length)), self.model)
            try:
                instance = self.pool.take()
            except queue.Empty:
                raise Refusal(503, 'overloaded', 'all instances are answering; ask again later') from None
        except Refusal as error:
            return self.refuse(error)
        items = instance.ask(text)
        answered = False
        try:
            self.answer(instance, items, stream)
            answered = True
        except ConnectionError:
            self.close_connection = True  # the client went away
        finally:
            items.close()
            self.pool.replace(instance, answered)

    def answer(self, instance, items, stream):
        base = {'id': f'chatcmpl-{uuid.uuid4().hex}', 'created': int(time.time()), 'model': self.model}
        tokens, done, began = [], None, False
        for item in items:
            if item['type'] == 'done':
                done = item
            elif item['type'] == 'token':
                exit_ = {name: item[name] for name in ('layer', 'of', 'depth', 'work', 'head', 'confidence')}
                tokens.append(exit_)
                if stream:
                    began = began or self.begin()
                    self.event({**base, 'object': 'chat.completion.chunk', 'choices': [
                        {'index': 0, 'delta': {'content': item['text'], 'exit': exit_}, 'finish_reason': None}]})
        if done is None:
            if began:
                return self.end_events()
            return self.refuse(Refusal(400 if 'context' in instance.error() else 500, 'failed', instance.error() or 'the engine failed'))
        reason = 'length' if done['reason'] == 'length' else 'stop'
        usage = {'prompt_tokens': done['prompt_tokens'], 'completion_tokens': done['completion_tokens'],
                 'total_tokens': done['prompt_tokens'] + done['completion_tokens']}
        if stream:
            began = began or self.begin()
            self.event({**base, 'object': 'chat.completion.chunk', 'choices': [{'index': 0, 'delta': {}, 'finish_reason': reason}], 'usage': usage})
            return self.end_events()
        message = {'role': 'assistant', 'content': done['text'], 'exit': {'tokens': tokens, 'meanDepth': done['mean_depth']}}
        self.reply(200, {**base, 'object': 'chat.completion', 'choices': [{'index': 0, 'message': message, 'finish_reason': reason}], 'usage': usage})

    def begin(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream')
        self.send_header('Connection', 'close')
        self.end_headers()
        self.close_connection = True
        return True

    def event(self, value):
        self.wfile.write(f'data: {json.dumps(value)}\n\n'.encode())
        self.wfile.flush()

    def end_events(self):
        self.wfile.write(b'data: [DONE]\n\n')


def main():
    parser = argparse.ArgumentParser(description='Chat completions answered by exitlm.wasm in Wasmtime.')
    parser.add_argument('model')
    parser.add_argument('--module', default='exitlm.wasm')
    parser.add_argument('--pool', type=int, default=2)
    parser.add_argument('--port', type=int, default=8080)
    parser.epilog = 'After -- come options of exitlm chat, such as --max-tokens 128.'
    given = sys.argv[1:]
    cut = given.index('--') if '--' in given else len(given)
    options = parser.parse_args(given[:cut])
    options.chat = given[cut + 1:]
    Handler.pool = Pool(options)
    Handler.model = os.path.basename(options.model).removesuffix('.gguf')
    server = ThreadingHTTPServer(('127.0.0.1', options.port), Handler)
    print(f'http://127.0.0.1:{server.server_port}/v1/chat/completions', flush=True)
    server.serve_forever()


if __name__ == '__main__':
    main()
