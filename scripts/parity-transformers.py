#!/usr/bin/env python3
"""Compares `leap train` with transformers and peft on a real model, and has both read what it writes.

    python3 scripts/parity-transformers.py --model DIR [--leap target/release/leap] [--out FILE]

DIR is a Hugging Face folder in f32, such as SmolLM2-135M-Instruct. On the same samples in the same
order (`leap train --order`) it takes 50 optimizer steps with `leap train` and with torch, and compares

  1. the loss and the gradient norm of each step: the largest difference, and whether the differences
     lean to one side (mean against its standard error). At every fourth step both compute from the weights
     that torch has then, and both are held against torch in f64: torch's own f32 leans;
  2. the written checkpoint: transformers finds no missing and no unexpected tensor, the dtypes, shapes
     and config of the model it came from, and the weights that torch arrived at;
  3. an adapter after 10 steps: peft finds every tensor, and its logits are those of the folder that
     `leap checkpoint merge` writes, read by transformers.

Prints one JSON object; exit code 1 if a limit is missed. Needs torch, transformers, peft; takes about
10 minutes on two cores, and 4 GB of memory for each side.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

STEPS, ADAPTER_STEPS, SAMPLES_PER_STEP = 50, 10, 4
IN_F64 = range(0, STEPS, 4)  # steps that are computed in f64, too
LIMITS = {
    "loss_off_by": 1e-4,
    "grad_norm_off_by": 1e-3,  # relative
    "lean": 2.0,  # standard errors
    "weights_off_by": 1e-4,
    "adapter_logits_off_by": 1e-3,
}
SETTINGS = {
    "steps": STEPS,
    "samples_per_step": SAMPLES_PER_STEP,
    "tokens_per_micro_batch": 256,
    "max_tokens": 256,
    "lr": 1e-5,
    "schedule": '"cosine"',
    "warmup": 0.05,
    "min_lr_ratio": 0.0,
    "weight_decay": 0.01,
    "decay_on": '"matrices"',
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "clip_norm": 1.0,
    "train_on": '"own"',
    "save_every_steps": 0,
    "keep": 1,
}


def sample_texts(count):
    """Sums and products, worked out: (prompt, thought, answer), a pure function of the index."""
    for i in range(count):
        a, b, c = 17 + 31 * i % 83, 5 + 7 * i % 41, 2 + i % 9
        lines = [f"First, {a} + {b} = {a + b}.", f"Then {a + b} * {c} = {(a + b) * c}."]
        if i % 3 == 0:
            lines.append(f"Let me check: {(a + b) * c} / {c} = {a + b}, and {a + b} - {b} = {a}.")
        yield f"What is ({a} + {b}) * {c}?\n", " ".join(lines) + "\n", f"So the answer is {(a + b) * c}."


def write_samples(model, leap, path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    end = json.load(open(os.path.join(model, "config.json")))["eos_token_id"]
    end = end[0] if isinstance(end, list) else end
    shown = subprocess.run([leap, "checkpoint", "show", model, "--json"], capture_output=True, text=True, check=True)
    kept = json.loads(shown.stdout)["tokenizer"]
    samples = []
    for i, (prompt, thought, answer) in enumerate(sample_texts(60)):
        spans = [("prompt", encode(prompt)), ("thought", encode(thought)), ("answer", encode(answer) + [end])]
        samples.append({
            "version": 1, "id": f"sum-{i}#0.0", "problem": f"sum-{i}", "tokenizer": kept,
            "spans": [{"kind": kind, "ids": ids} for kind, ids in spans],
        })
    with open(path, "w") as file:
        for sample in samples:
            file.write(json.dumps(sample) + "\n")
    return {sample["id"]: sample for sample in samples}


def recipe(model, samples, adapter=False, **changes):
    settings = dict(SETTINGS, steps=ADAPTER_STEPS, lr=1e-3) if adapter else dict(SETTINGS, **changes)
    lines = ['job = "train"', 'title = "parity with transformers"', "seed = 1", "[model]",
             f"checkpoint = {json.dumps(model)}", 'dtype = "f32"', "[samples]", f"file = {json.dumps(samples)}",
             "hold_out_problems = 0", "[train]"]
    lines += [f"{key} = {value}" for key, value in settings.items()]
    if adapter:
        lines += ["[train.lora]", "rank = 8", "alpha = 16.0", "dropout = 0.0",
                  'targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]']
    return "\n".join(lines) + "\n"


def tokens(sample):
    """Ids, and for each whether it carries loss."""
    ids, trained = [], []
    for span in sample["spans"]:
        ids += span["ids"]
        trained += [span["kind"] in ("thought", "summary", "answer")] * len(span["ids"])
    return ids, trained


def rate(step):
    """The rate of a step, from 0, as transformers' cosine schedule with warm-up has it."""
    warmup = math.ceil(SETTINGS["warmup"] * STEPS)
    if step < warmup:
        return SETTINGS["lr"] * step / warmup
    done = (step - warmup) / max(1, STEPS - warmup)
    return SETTINGS["lr"] * 0.5 * (1 + math.cos(math.pi * done))


def backward(net, batch):
    """Loss and gradient of a step, summed over its samples; the gradient norm is summed in f64: torch
    sums the squares of millions of elements in f32, which loses some of them."""
    import torch

    net.zero_grad(set_to_none=True)
    total = sum(sum(trained[1:]) for _, trained in batch)
    loss_sum = 0.0
    for row, trained in batch:
        row_ids, mask = torch.tensor([row]), torch.tensor(trained[1:])
        logits = net(input_ids=row_ids, use_cache=False).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, row_ids[0, 1:], reduction="none")
        loss = (losses * mask).sum() / total
        loss.backward()
        loss_sum += loss.item()
    squares = [p.grad.double().square().sum().item() for p in net.parameters()]
    return loss_sum, math.sqrt(sum(squares))


def ours_from(net, source, leap, samples, work):
    """Loss and gradient norm of `leap train` in one step over these samples from the weights of `net`."""
    with tempfile.TemporaryDirectory(dir=work) as here:
        at = lambda name: os.path.join(here, name)
        shutil.copytree(source, at("model"), ignore=shutil.ignore_patterns("*.safetensors*"))
        net.save_pretrained(at("model"))
        shutil.copy(os.path.join(source, "config.json"), at("model"))
        with open(at("samples.jsonl"), "w") as file:
            for sample in samples:
                file.write(json.dumps(sample) + "\n")
        open(at("one.toml"), "w").write(recipe(at("model"), at("samples.jsonl"), steps=1, warmup=0.0))
        subprocess.run([leap, "train", at("one.toml"), "--out", at("out"), "-q"], check=True, stdout=subprocess.DEVNULL)
        step = json.loads(open(os.path.join(at("out"), "curves.jsonl")).readline())
        return step["loss"], step["grad_norm"]


def in_f64(net):
    """A copy that computes all in f64: transformers has norms and rotary angles in f32 whatever comes in."""
    import copy

    import torch

    exact = copy.deepcopy(net).double()
    theta = net.config.rope_parameters["rope_theta"]
    for module in exact.modules():
        if type(module).__name__.endswith("RMSNorm"):
            def norm(x, module=module):
                mean = x.square().mean(-1, keepdim=True)
                return module.weight * (x * torch.rsqrt(mean + module.variance_epsilon))
            module.forward = norm
        elif type(module).__name__.endswith("RotaryEmbedding"):
            size = 2 * module.inv_freq.numel()
            frequencies = theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
            def angles(x, position_ids, frequencies=frequencies):
                angles = position_ids[:, :, None].double() * frequencies
                both = torch.cat((angles, angles), dim=-1)
                return both.cos(), both.sin()
            module.forward = angles
    return exact


def train_torch(model, order, samples, leap, work):
    import torch
    import transformers

    net = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    net.train()
    decays = [p for p in net.parameters() if p.ndim == 2]
    rest = [p for p in net.parameters() if p.ndim != 2]
    groups = [{"params": decays, "weight_decay": SETTINGS["weight_decay"]}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=SETTINGS["lr"], betas=(SETTINGS["beta1"], SETTINGS["beta2"]),
                                  eps=SETTINGS["eps"])
    wide_net = in_f64(net)
    curve = []
    for step, ids in enumerate(order):
        batch = [tokens(samples[i]) for i in ids]
        exact = ours = (None, None)
        if step in IN_F64:
            ours = ours_from(net, model, leap, [samples[i] for i in ids], work)
            with torch.no_grad():
                for wide, p in zip(wide_net.parameters(), net.parameters()):
                    wide.copy_(p)
            exact = backward(wide_net, batch)
            wide_net.zero_grad(set_to_none=True)
        loss_sum, norm = backward(net, batch)
        torch.nn.utils.clip_grad_norm_(net.parameters(), SETTINGS["clip_norm"])
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        curve.append({"torch": (loss_sum, norm), "exact": exact, "ours_from_here": ours})
        print(f"torch step {step + 1} of {STEPS}: loss {loss_sum:.6f}", file=sys.stderr, flush=True)
    return net, curve


def lean(differences):
    """How many standard errors the mean is from zero."""
    spread = statistics.stdev(differences)
    mean = abs(statistics.fmean(differences))
    return 0.0 if mean == 0 else mean / (spread / math.sqrt(len(differences)))


def summary(differences):
    return {
        "steps": len(differences),
        "off_by": max(map(abs, differences)),
        "mean": statistics.fmean(differences),
        "lean": lean(differences),
    }


def compare_checkpoint(folder, net, source):
    import torch
    import transformers

    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    ours, theirs = dict(loaded.named_parameters()), dict(net.named_parameters())
    assert ours.keys() == theirs.keys()
    off = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
    named = lambda path: {k: v for k, v in json.load(open(os.path.join(path, "config.json"))).items()
                          if k not in ("transformers_version", "dtype", "torch_dtype")}
    return {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "mismatched": sorted(map(str, info["mismatched_keys"])),
        "dtypes": sorted({str(p.dtype) for p in ours.values()}),
        "shapes_differ": [name for name in theirs if ours[name].shape != theirs[name].shape],
        "config_differs": sorted(k for k, v in named(source).items() if named(folder).get(k) != v),
        "weights_off_by": off,
        "weights_moved_by": max((theirs[name] - p).abs().max().item() for name, p in
                                transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
                                .named_parameters()),
    }


def compare_adapter(leap, model, adapter, work):
    import peft
    import torch
    import transformers

    merged = os.path.join(work, "merged")
    subprocess.run([leap, "checkpoint", "merge", model, adapter, merged, "--dtype", "f32"], check=True, stdout=subprocess.DEVNULL)
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    probe = torch.tensor([[(7919 * i) % 40000 + 100 for i in range(64)]])
    with torch.no_grad():
        plain = base(probe).logits.clone()
        with_adapter = peft.PeftModel.from_pretrained(base, adapter)
        in_file = peft.utils.load_peft_weights(adapter)
        in_model = peft.get_peft_model_state_dict(with_adapter)
        adapted = with_adapter(probe).logits
        whole, info = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype="auto", output_loading_info=True)
        off = (whole(probe).logits - adapted).abs().max().item()
    return {
        "missing": sorted(in_model.keys() - in_file.keys()) + sorted(info["missing_keys"]),
        "unexpected": sorted(in_file.keys() - in_model.keys()) + sorted(info["unexpected_keys"]),
        "tensors": len(in_file),
        "adapter_logits_off_by": off,
        "adapter_changes_logits_by": (adapted - plain).abs().max().item(),
    }


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--leap", default="target/release/leap")
    ap.add_argument("--out", help="write the JSON object to this file too")
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers
    import peft

    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as work:
        at = lambda name: os.path.join(work, name)
        samples = write_samples(a.model, a.leap, at("samples.jsonl"))
        for name, adapter in (("full.toml", False), ("lora.toml", True)):
            open(at(name), "w").write(recipe(os.path.abspath(a.model), at("samples.jsonl"), adapter))
        listed = subprocess.run([a.leap, "train", at("full.toml"), "--order"], capture_output=True, text=True, check=True)
        order = [json.loads(line)["samples"] for line in listed.stdout.splitlines()]
        subprocess.run([a.leap, "train", at("full.toml"), "--out", at("full"), "--no-progress"], check=True,
                       stdout=subprocess.DEVNULL)
        curve = [json.loads(line) for line in open(os.path.join(at("full"), "curves.jsonl"))]
        net, theirs = train_torch(a.model, order, samples, a.leap, work)
        losses = [ours["loss"] - their["torch"][0] for ours, their in zip(curve, theirs)]
        norms = [ours["grad_norm"] / their["torch"][1] - 1 for ours, their in zip(curve, theirs)]
        in_f64_too = [step for step in theirs if step["exact"][0]]
        against_f64 = {
            name: {
                "loss": summary([step[side][0] - step["exact"][0] for step in in_f64_too]),
                "grad_norm": summary([step[side][1] / step["exact"][1] - 1 for step in in_f64_too]),
            }
            for side, name in (("ours_from_here", "ours"), ("torch", "torch"))
        }
        subprocess.run([a.leap, "train", at("lora.toml"), "--out", at("lora"), "--no-progress"], check=True,
                       stdout=subprocess.DEVNULL)
        found = {
            "command": "python3 scripts/parity-transformers.py --model DIR",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
            "model": json.load(open(os.path.join(a.model, "config.json")))["model_type"],
            "steps": len(curve),
            "loss_off_by": max(map(abs, losses)),
            "loss_lean": lean(losses),
            "grad_norm_off_by": max(map(abs, norms)),
            "grad_norm_lean": lean(norms),
            "against_f64": against_f64,
            "checkpoint": compare_checkpoint(os.path.join(at("full"), "checkpoint"), net, a.model),
            "adapter": compare_adapter(a.leap, a.model, os.path.join(at("lora"), "adapter"), work),
            "curve": [{"step": i + 1, "loss": ours["loss"], "loss_of_torch": their["torch"][0],
                       "grad_norm": ours["grad_norm"], "grad_norm_of_torch": their["torch"][1],
                       "from_weights_of_torch": {"loss": their["ours_from_here"][0],
                                                 "loss_in_f64": their["exact"][0],
                                                 "grad_norm": their["ours_from_here"][1],
                                                 "grad_norm_in_f64": their["exact"][1]}
                       if their["exact"][0] else None}
                      for i, (ours, their) in enumerate(zip(curve, theirs))],
        }
    text = json.dumps(found, indent=1)
    print(text)
    if a.out:
        open(a.out, "w").write(text + "\n")
    checkpoint, adapter = found["checkpoint"], found["adapter"]
    wrong = [name for name, value, limit in (
        ("loss", found["loss_off_by"], LIMITS["loss_off_by"]),
        ("gradient norm", found["grad_norm_off_by"], LIMITS["grad_norm_off_by"]),
        ("lean of the loss against f64", found["against_f64"]["ours"]["loss"]["lean"], LIMITS["lean"]),
        ("lean of the gradient norm against f64", found["against_f64"]["ours"]["grad_norm"]["lean"], LIMITS["lean"]),
        ("weights", checkpoint["weights_off_by"], LIMITS["weights_off_by"]),
        ("logits of the adapter", adapter["adapter_logits_off_by"], LIMITS["adapter_logits_off_by"]),
    ) if not value <= limit]
    for part, of in (("checkpoint", checkpoint), ("adapter", adapter)):
        for key in ("missing", "unexpected", "mismatched", "shapes_differ", "config_differs"):
            if of.get(key):
                wrong.append(f"{part}: {key} {of[key]}")
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
