"""exitlm.wasm embedded in a Python program, by Wasmtime:

    pip install wasmtime
    python3 embed.py exitlm.wasm MODEL QUESTION [OPTION OF exitlm chat ...]
"""
import json
import os
import sys
import tempfile

import wasmtime


def chat(engine, module, model, question, *options):
    """What `exitlm chat MODEL -p QUESTION --json` prints, as objects."""
    folder, name = os.path.split(os.path.abspath(model))
    store, linker, wasi = wasmtime.Store(engine), wasmtime.Linker(engine), wasmtime.WasiConfig()
    wasi.argv = ['exitlm', 'chat', f'models/{name}', '-p', question, '--json', *options]
    wasi.preopen_dir(folder, 'models')
    wasi.inherit_stderr()
    with tempfile.NamedTemporaryFile() as out:
        wasi.stdout_file = out.name
        store.set_wasi(wasi)
        linker.define_wasi()
        try:
            linker.instantiate(store, module).exports(store)['_start'](store)
        except wasmtime.ExitTrap as end:
            if end.code:
                sys.exit(end.code)
        return [json.loads(line) for line in out]


if __name__ == '__main__':
    engine = wasmtime.Engine()
    module = wasmtime.Module.from_file(engine, sys.argv[1])
    print(*(event['text'] for event in chat(engine, module, *sys.argv[2:]) if event['type'] == 'token'), sep='', end='')
