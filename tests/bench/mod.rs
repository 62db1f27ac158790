//! A folder of its own and the `leap` binary in it.
#![allow(dead_code, reason = "each test file uses a part of the bench")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A temporary folder in which `leap` is run.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a run of `leap` left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(path, text).expect("the file");
    }

    /// A folder `model` with a checkpoint that can be loaded.
    pub(crate) fn golden_model(&self) {
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/model/tests/golden/qwen2-tied/"
        );
        let folder = self.path("model");
        std::fs::create_dir_all(&folder).expect("the folder");
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(format!("{golden}{name}"), folder.join(name)).expect("a golden file");
        }
    }

    /// A folder `bytes` with a tokenizer whose ids are bytes, as the test's server speaks them.
    pub(crate) fn byte_tokenizer(&self) {
        // How byte-level tokenizers write bytes: those that can be seen as they are, the others behind.
        let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let mut behind = 256;
        let vocab: Map<String, Value> = (0..=255_u8)
            .map(|byte| {
                let letter = match seen(&byte) {
                    true => u32::from(byte),
                    false => {
                        behind += 1;
                        behind - 1
                    }
                };
                let letter = char::from_u32(letter).expect("a character");
                (letter.to_string(), json!(byte))
            })
            .collect();
        let level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{
                "id": 256, "content": "<|end|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }],
            "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocab, "merges": [],
            },
        });
        self.write("bytes/tokenizer.json", &tokenizer.to_string());
        self.write(
            "bytes/tokenizer_config.json",
            "{\"eos_token\": \"<|end|>\"}",
        );
    }

    /// `leap` as it asks a hub, with nothing of this machine's own settings for hubs.
    pub(crate) fn hub_command(&self, endpoint: &str, token: &str, args: &[&str]) -> Command {
        let mut command = self.command(args);
        for name in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "HF_HUB_OFFLINE",
            "HF_HUB_CACHE",
            "HF_TOKEN_PATH",
            "SSL_CERT_FILE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_TOKEN", token)
            .env("HF_HOME", self.path("hf-home"));
        command
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leap"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1");
        command
    }

    pub(crate) fn leap(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().expect("leap starts");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    /// Starts `leap` and lets it run.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("leap starts")
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Exit code 2, the message on stderr, nothing on stdout, and no backtrace.
    #[track_caller]
    pub(crate) fn fails(self, message: &str) -> Self {
        assert_eq!(
            self.code,
            Some(2),
            "stdout {}, stderr {}",
            self.stdout,
            self.stderr
        );
        assert!(
            self.stderr.contains(message),
            "no `{message}` in {}",
            self.stderr
        );
        assert!(self.stderr.contains("error: "), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{}", self.stdout);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("RUST_BACKTRACE"));
        self
    }
}

/// `leap` with these arguments fails with this message and this advice.
#[track_caller]
pub(crate) fn check_error(args: &[&str], message: &str, advice: &str) {
    let ran = Bench::new().leap(args).fails(message);
    assert!(
        ran.stderr.contains(advice),
        "no `{advice}` in {}",
        ran.stderr
    );
}

/// All files of a run that must not depend on when and how often it was interrupted.
pub(crate) fn artefacts(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    collect(folder, folder, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .strip_prefix(root)
            .expect("below")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            collect(root, &path, found);
        } else if !["timing.json", "events.jsonl", ".lock"].contains(&name.as_str()) {
            found.push((name, std::fs::read(&path).expect("a file")));
        }
    }
}

/// The recipe `tiny` with budgets of a few seconds.
const MICRO: &[&str] = &[
    "run",
    "tiny",
    "problems.train.count=24",
    "problems.test.count=6",
    "model.scratch.train.tokens=4000",
    "model.scratch.train.save_every_steps=2",
    "model.scratch.layers=1",
    "model.scratch.hidden_size=32",
    "model.scratch.intermediate_size=64",
    "train.leap_t.tokens=1500",
    "train.leap_t.save_every_steps=1",
    "train.control.tokens=1500",
    "engine.wave=4",
    "protocol.paths=3",
    "--out",
];

/// The arguments that run it into `out`.
pub(crate) fn micro(out: &str) -> Vec<&str> {
    let mut args = MICRO.to_vec();
    args.push(out);
    args
}
