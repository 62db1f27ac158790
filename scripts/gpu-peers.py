#!/usr/bin/env python3
"""What PyTorch and transformers do on the same card, for the table beside `leap bench gpu`.

    scripts/gpu-peers.py [OUT.json] [--small]

Rows: the copy of memory and square products in bf16 (the card's roofs as PyTorch reaches them), the
products of a 7B model, tokens per second of `generate` at 1, 16 and 64 rows behind a prompt of 2,048
tokens, and a training step on one document of 4,096, 8,192 and 16,384 tokens (bf16 weights, fused
AdamW in bf16, gradient checkpointing, SDPA) of a model of R1-Distill-Qwen-1.5B's shape with weights
that mean nothing. A row is written as soon as it is done.
"""

import json
import sys
import time

import torch
import transformers

SMALL = "--small" in sys.argv
OUT = next((a for a in sys.argv[1:] if not a.startswith("--")), "gpu-peers.json")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FOUND = {
    "card": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "small": SMALL,
}


def keep(name, value):
    FOUND[name] = value
    print(name, json.dumps(value), flush=True)
    with open(OUT, "w") as file:
        json.dump(FOUND, file, indent=1)


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def best(run, repeat=10):
    least = float("inf")
    for turn in range(repeat + 2):
        wait()
        began = time.perf_counter()
        run()
        wait()
        if turn >= 2:
            least = min(least, time.perf_counter() - began)
    return least


def random(*shape):
    return torch.rand(*shape, device=DEVICE, dtype=torch.bfloat16) * 2 - 1


def roofs():
    count, size = (1 << 20, 256) if SMALL else (1 << 29, 8192)
    data = torch.rand(count, device=DEVICE)
    copied = 8 * count / best(lambda: data * 1.5)
    del data
    a, b = random(size, size), random(size, size)
    rate = 2 * size**3 / best(lambda: a @ b.T)
    keep("roof", {"memory_bytes_per_s": copied, "product_flops": rate})


def products():
    rows = []
    width, inner, key_value = (64, 192, 32) if SMALL else (3584, 18944, 512)
    for name, n, k in [
        ("up", inner, width),
        ("down", width, inner),
        ("query", width, width),
        ("key", key_value, width),
    ]:
        for m in [1, 16, 64, 4096]:
            a, b = random(m, k), random(n, k)
            rows.append({"product": name, "shape": [m, n, k], "seconds": best(lambda: a @ b.T)})
    keep("products", rows)


def model(shape):
    hidden, inner, heads, kv_heads, vocabulary, layers = shape
    config = transformers.Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=131072,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        use_cache=True,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        made = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    return made


def decode(net, name):
    rows = []
    context, new = (16, 4) if SMALL else (2048, 32)
    net.eval()
    for batch in [1, 16, 64]:
        ids = torch.randint(0, net.config.vocab_size, (batch, context), device=DEVICE)

        def run(count):
            net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )

        with torch.no_grad():
            run(2)
            wait()
            began = time.perf_counter()
            run(1)
            wait()
            first = time.perf_counter() - began
            began = time.perf_counter()
            run(1 + new)
            wait()
            seconds = time.perf_counter() - began - first
        rows.append({"batch": batch, "tokens_per_s": batch * new / seconds})
    keep(f"decode {name}", rows)


def train(net, name):
    rows = []
    net.train()
    net.config.use_cache = False
    net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=DEVICE == "cuda")
    for tokens in [64] if SMALL else [4096, 8192, 16384]:
        ids = torch.randint(0, net.config.vocab_size, (1, tokens), device=DEVICE)
        seconds = []
        try:
            for _ in range(3):
                wait()
                began = time.perf_counter()
                loss = net(input_ids=ids, labels=ids).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                wait()
                seconds.append(time.perf_counter() - began)
        except torch.cuda.OutOfMemoryError:
            rows.append({"tokens": tokens, "failed": "out of memory"})
            break
        peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
        rows.append(
            {"tokens": tokens, "tokens_per_s": tokens / min(seconds), "peak_bytes": peak}
        )
    keep(f"train {name}", rows)


roofs()
products()
small = (96, 192, 6, 2, 512, 2)
net = model(small if SMALL else (1536, 8960, 12, 2, 151936, 28))
decode(net, "1.5b")
train(net, "1.5b")
