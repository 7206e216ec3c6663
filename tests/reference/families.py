"""The answers of `transformers` for a GGUF file: what the engine's are judged by that share no code
with either, one model class a family. A check for development; nothing else needs Python.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch==2.8.0 transformers==4.56.2 gguf==0.17.1
    /tmp/venv/bin/python tests/reference/families.py --vectors > tests/data/answers/families.json
    /tmp/venv/bin/python tests/reference/families.py MODEL.gguf --ids FILE [--top K] [--from N]

The first form makes the random models of FAMILIES with build/tests/make_tiny and prints the vectors
that tests/js/answers.test.mjs compares. The second prints positions as tests/reference/reference.c
does, so that tests/answers/teacher.mjs --reference can ask it about a file of any size.
"""

import argparse
import json
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers

# Name, and how make_tiny is told to make it. Prompts are longer than every window.
FLOATS = ["--type", "F32", "--embedding", "F32"]
FAMILIES = {
    "llama 3: factors, an output matrix of its own, heads not the model's width": [
        "--untied", "--rope-freqs", "--head-dim", "32"],
    "smollm3: layers without RoPE": ["--arch", "smollm3"],
    "qwen2: biases": ["--arch", "qwen2"],
    "qwen3: norms of q and k": ["--arch", "qwen3", "--head-dim", "32", "--untied"],
    "gemma3: windows of 24": [
        "--arch", "gemma3", "--head-dim", "32", "--kv-heads", "1", "--window", "24"],
    "gptneox": ["--arch", "gptneox", "--kv-heads", "4", "--rope-dims", "4", "--untied"],
    "phi2": ["--arch", "phi2", "--kv-heads", "4", "--rope-dims", "8", "--untied"],
}
IDS = 120
LONG = 420  # where there are windows: past what the engine keeps of one
TOP = 8
KEPT = 40  # positions


class File:
    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.arch = self.key("general.architecture", raw=True)

    def key(self, name, default=None, raw=False):
        field = self.reader.fields.get(name if raw else f"{self.arch}.{name}")
        return default if field is None else field.contents()

    def weight(self, name):
        t = self.tensors[name]
        return torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type), np.float32))


def sizes(f):
    heads, dim = f.key("attention.head_count"), f.key("embedding_length")
    return {
        "vocab_size": f.tensors["token_embd.weight"].shape[1].item(),
        "hidden_size": dim,
        "intermediate_size": f.key("feed_forward_length"),
        "num_hidden_layers": f.key("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": f.key("attention.head_count_kv", heads),
        "head_dim": f.key("attention.key_length", dim // heads),
        "max_position_embeddings": f.key("context_length"),
        "rope_theta": f.key("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in f.tensors,
        "attn_implementation": "eager",
    }


def rms_config(f):
    c = sizes(f) | {"rms_norm_eps": f.key("attention.layer_norm_rms_epsilon")}
    biased = "blk.0.attn_q.bias" in f.tensors
    if f.arch == "llama":
        return transformers.LlamaConfig(**c, attention_bias=biased)
    if f.arch == "smollm3":
        return transformers.SmolLM3Config(**c, pad_token_id=0)
    if f.arch == "qwen2":
        return transformers.Qwen2Config(**c)
    if f.arch == "qwen3":
        return transformers.Qwen3Config(**c)
    period = f.key("attention.sliding_window_pattern", 6)
    return transformers.Gemma3TextConfig(
        **c,
        query_pre_attn_scalar=c["head_dim"],
        sliding_window=f.key("attention.sliding_window"),
        layer_types=[
            "full_attention" if (i + 1) % period == 0 else "sliding_attention"
            for i in range(c["num_hidden_layers"])
        ],
        rope_local_base_freq=10000.0,
    )


def layer_norm_config(f):
    c = sizes(f) | {"layer_norm_eps": f.key("attention.layer_norm_epsilon")}
    rotary = f.key("rope.dimension_count") / c["head_dim"]
    if f.arch == "phi2":
        return transformers.PhiConfig(**c, partial_rotary_factor=rotary, hidden_act="gelu_new")
    return transformers.GPTNeoXConfig(
        **c, rotary_pct=rotary, rotary_emb_base=c["rope_theta"], hidden_act="gelu",
        use_parallel_residual=f.key("use_parallel_residual", True))


# transformers' names of the layers' tensors
RMS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {
    "gemma3": RMS | {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "gptneox": {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_qkv": "attention.query_key_value",
        "attn_output": "attention.dense",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    },
    "phi2": RMS | {"attn_output": "self_attn.dense", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"},
}
BASE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BASES = {
    "gptneox": {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm",
                "output": "embed_out"},
    "phi2": BASE | {"output_norm": "model.final_layernorm"},
}


def name_of(arch, name):
    prefix = "gpt_neox.layers" if arch == "gptneox" else "model.layers"
    if not name.startswith("blk."):
        part, kind = name.split(".")
        return f"{BASES.get(arch, BASE)[part]}.{kind}"
    _, layer, part, kind = name.split(".")
    return f"{prefix}.{layer}.{NAMES.get(arch, RMS)[part]}.{kind}"


def value_of(f, config, name):
    w = f.weight(name)
    heads = config.num_attention_heads
    part = name.split(".")[-2]
    if f.arch in ("llama", "smollm3") and part in ("attn_q", "attn_k"):  # pairs (2i, 2i+1)
        n = heads if part == "attn_q" else config.num_key_value_heads
        return w.reshape(n, -1, 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)
    if part == "attn_qkv":  # all of q, of k, of v; there head by head
        return w.reshape(3, heads, -1, *w.shape[1:]).transpose(0, 1).reshape(w.shape)
    if f.arch == "gemma3" and name.endswith("norm.weight"):
        return w - 1
    return w


def load(path):
    f = File(path)
    config = (layer_norm_config if f.arch in ("gptneox", "phi2") else rms_config)(f)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    state = {
        name_of(f.arch, name): value_of(f, config, name)
        for name in f.tensors
        if name != "rope_freqs.weight"
    }
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    if "rope_freqs.weight" in f.tensors:
        model.model.rotary_emb.inv_freq /= f.weight("rope_freqs.weight")
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def some_ids(n, vocab):
    state, ids = 12345, []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2**32
        ids.append((state >> 8) % vocab)
    return ids


def print_vectors():
    families = []
    for name, options in FAMILIES.items():
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            subprocess.run(["build/tests/make_tiny", file.name, *FLOATS, *options], check=True)
            model = load(file.name)
        n = LONG if "--window" in options else IDS
        ids = some_ids(n, model.config.vocab_size)
        top = logits_of(model, ids).topk(TOP)
        families.append({
            "name": name,
            "options": FLOATS + options,
            "ids": ids,
            # what stands at an index, given the ids before it: [[index, [id, logit]...]...]
            "positions": [
                [i + 1, *([id, round(logit, 6)] for id, logit in
                          zip(top.indices[i].tolist(), top.values[i].tolist()))]
                for i in range(0, n - 1, n // KEPT)
            ],
        })
    made = f"transformers {transformers.__version__}, torch {torch.__version__}, float32"
    lines = ",\n".join(json.dumps(f, separators=(",", ":")) for f in families)
    print(f'{{"made":{json.dumps(made)},"families":[\n{lines}\n]}}')


def print_positions(args):
    with open(args.ids) as file:
        ids = [int(id) for id in file.read().split()]
    logits = logits_of(load(args.model), ids)
    total = scored = 0
    for i in range(max(args.start, 1), len(ids)):
        row = logits[i - 1]
        top = row.topk(args.top)
        logprob = (row[ids[i]].double() - row.double().logsumexp(0)).item()
        total, scored = total + logprob, scored + 1
        print(json.dumps({"type": "position", "index": i, "id": ids[i], "logprob": logprob, "top": [
            {"id": id, "logit": logit}
            for id, logit in zip(top.indices.tolist(), top.values.tolist())]}))
    print(json.dumps({"type": "done", "tokens": scored,
                      "perplexity": float(np.exp(-total / max(scored, 1)))}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--ids")
    parser.add_argument("--top", type=int, default=2)
    parser.add_argument("--from", dest="start", type=int, default=1)
    parser.add_argument("--vectors", action="store_true")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if args.vectors:
        print_vectors()
    elif args.model and args.ids:
        print_positions(args)
    else:
        sys.exit("families.py: --vectors, or MODEL.gguf --ids FILE")


main()
