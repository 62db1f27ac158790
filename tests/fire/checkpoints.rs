//! Checkpoint folders of strangers, broken and hostile: refused by every command that reads one, with
//! the file or the tensor named, in little memory and in little time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Bench, micro};
use crate::row::tell;

/// What a refusal may take.
const LONGEST: Duration = Duration::from_secs(20);
/// Kilobytes of memory that a refusing process may have, beside maps of files.
const MEMORY: &str = "400000";

/// A finished run, whose checkpoints and samples are good.
pub(crate) fn made() -> &'static Path {
    static MADE: OnceLock<(Bench, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let bench = Bench::new();
        bench.leap(&micro("made")).succeeds();
        let path = bench.path("made");
        (bench, path)
    });
    path
}

/// A safetensors file in its parts.
struct File {
    path: PathBuf,
    header: Value,
    data: Vec<u8>,
}

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("weights");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        Self {
            path: path.to_owned(),
            header: serde_json::from_slice(&bytes[8..8 + length]).expect("a header"),
            data: bytes[8 + length..].to_vec(),
        }
    }

    fn write(&self) {
        self.write_header(&self.header.to_string());
    }

    fn write_header(&self, header: &str) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.data);
        fs::write(&self.path, bytes).expect("weights");
    }

    fn offsets(&self, name: &str) -> [u64; 2] {
        let offsets = &self.header[name]["data_offsets"];
        [0, 1].map(|at| offsets[at].as_u64().expect("an offset"))
    }
}

const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A damage: its name, what does it, and what the refusal has to name.
type Case = (&'static str, Box<dyn Fn(&Path) + Sync>, &'static str);

/// Damage to the header and the data of the weights.
fn weights(change: impl Fn(&mut File) + Sync + 'static) -> Box<dyn Fn(&Path) + Sync> {
    Box::new(move |folder| {
        let mut file = File::read(&folder.join(SINGLE));
        change(&mut file);
        file.write();
    })
}

/// Another file in the place of one.
fn instead(name: &'static str, put: impl Fn(&Path) + Sync + 'static) -> Box<dyn Fn(&Path) + Sync> {
    Box::new(move |folder| {
        let path = folder.join(name);
        let _ = fs::remove_file(&path);
        put(&path);
    })
}

/// Damage to the index of a folder whose weights are in several files.
fn index(change: impl Fn(&Path, &mut Value) + Sync + 'static) -> Box<dyn Fn(&Path) + Sync> {
    Box::new(move |folder| {
        let file = File::read(&folder.join(SINGLE));
        let names = file.header.as_object().expect("an object").keys();
        let map: serde_json::Map<String, Value> = names
            .filter(|name| *name != "__metadata__")
            .map(|name| (name.clone(), json!("model-00001-of-00001.safetensors")))
            .collect();
        fs::rename(
            folder.join(SINGLE),
            folder.join("model-00001-of-00001.safetensors"),
        )
        .expect("a shard");
        let mut index = json!({"weight_map": map});
        change(folder, &mut index);
        fs::write(folder.join(INDEX), index.to_string()).expect("an index");
    })
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo")
        .arg(path)
        .status()
        .expect("mkfifo runs");
    assert!(made.success(), "no pipe at {}", path.display());
}

fn folder(path: &Path) {
    fs::create_dir(path).expect("a folder");
}

fn endless(path: &Path) {
    symlink("/dev/zero", path).expect("a link");
}

fn outside(path: &Path) {
    let secret = path
        .parent()
        .and_then(Path::parent)
        .expect("a folder")
        .join("secret");
    fs::write(&secret, "of somebody else").expect("a file");
    symlink(&secret, path).expect("a link");
}

/// A file with a hole of 100 GB, which takes no disk.
fn hole(path: &Path) {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    file.and_then(|file| file.set_len(100 << 30))
        .expect("a file with a hole");
}

fn number(file: &mut File, name: &str, element: usize, value: f32) {
    // Without a lineage, whose hash would be wrong before the number is.
    let _ = fs::remove_file(file.path.with_file_name("lineage.json"));
    let at = file.offsets(name)[0] as usize + 4 * element;
    file.data[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = vec![
        (
            "another number type",
            weights(|file| file.header[QUERY]["dtype"] = json!("I32")),
            QUERY,
        ),
        (
            "a number type of 4 bits",
            weights(|file| file.header[QUERY]["dtype"] = json!("F4")),
            SINGLE,
        ),
        (
            "a number type that nobody knows",
            weights(|file| file.header[QUERY]["dtype"] = json!("F33")),
            SINGLE,
        ),
        (
            "another shape",
            weights(|file| {
                let shape = file.header[QUERY]["shape"].clone();
                let product =
                    shape[0].as_u64().unwrap_or_default() * shape[1].as_u64().unwrap_or_default();
                file.header[QUERY]["shape"] = json!([1, product]);
            }),
            QUERY,
        ),
        (
            "a shape whose product overflows",
            weights(|file| {
                file.header[QUERY]["shape"] = json!([1_u64 << 62, 1_u64 << 62]);
            }),
            SINGLE,
        ),
        (
            "a shape of another size than its bytes",
            weights(|file| file.header[QUERY]["shape"] = json!([3, 3])),
            SINGLE,
        ),
        (
            "a tensor that is missing",
            weights(|file| {
                let [from, to] = file.offsets("model.norm.weight");
                // Its bytes go to another one, so that there is no hole.
                file.header["left.over"] =
                    json!({"dtype": "F32", "shape": [(to - from) / 4], "data_offsets": [from, to]});
                drop(
                    file.header
                        .as_object_mut()
                        .expect("an object")
                        .remove("model.norm.weight"),
                );
            }),
            "model.norm.weight",
        ),
        (
            "a tensor too many",
            weights(|file| {
                let end = file.data.len();
                file.data.extend_from_slice(&[0; 8]);
                file.header["left.over"] =
                    json!({"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]});
            }),
            "left.over",
        ),
        (
            "a name that steers a terminal",
            weights(|file| {
                let end = file.data.len();
                file.data.extend_from_slice(&[0; 4]);
                let name = "left\u{1b}]52;c;aGk=\u{7}\u{202e}over";
                file.header[name] =
                    json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
            }),
            "left",
        ),
        (
            "NaN",
            weights(|file| number(file, QUERY, 5, f32::NAN)),
            QUERY,
        ),
        (
            "infinity",
            weights(|file| number(file, QUERY, 0, f32::NEG_INFINITY)),
            QUERY,
        ),
        (
            "one bit of a weight",
            weights(|file| file.data[1000] ^= 1),
            "lineage.json",
        ),
        (
            "overlapping offsets",
            weights(|file| {
                let [from, to] = file.offsets(QUERY);
                file.header[QUERY]["data_offsets"] = json!([from - 4, to - 4]);
            }),
            SINGLE,
        ),
        (
            "a hole between tensors",
            weights(|file| {
                let end = file.data.len();
                file.data.extend_from_slice(&[0; 12]);
                file.header["left.over"] =
                    json!({"dtype": "F32", "shape": [1], "data_offsets": [end + 8, end + 12]});
            }),
            SINGLE,
        ),
        (
            "an offset beyond the file",
            weights(|file| {
                let [from, to] = file.offsets(QUERY);
                file.header[QUERY]["data_offsets"] = json!([from + (1 << 40), to + (1 << 40)]);
            }),
            SINGLE,
        ),
        (
            "an offset beyond all numbers",
            weights(|file| {
                file.header[QUERY]["data_offsets"] = json!([u64::MAX - 4, u64::MAX]);
            }),
            SINGLE,
        ),
        (
            "offsets that run backwards",
            weights(|file| {
                let [from, to] = file.offsets(QUERY);
                file.header[QUERY]["data_offsets"] = json!([to, from]);
            }),
            SINGLE,
        ),
        (
            "bytes behind the last tensor",
            weights(|file| file.data.extend_from_slice(&[7; 64])),
            SINGLE,
        ),
        (
            "a name twice",
            Box::new(|folder| {
                let file = File::read(&folder.join(SINGLE));
                let [from, to] = file.offsets(QUERY);
                let again =
                    json!({"dtype": "F32", "shape": [(to - from) / 4], "data_offsets": [from, to]});
                let header = file.header.to_string();
                file.write_header(&format!("{{\"{QUERY}\":{again},{}", &header[1..]));
            }),
            SINGLE,
        ),
        (
            "a header that is no JSON",
            Box::new(|folder| File::read(&folder.join(SINGLE)).write_header("{\"a\":")),
            SINGLE,
        ),
        (
            "a header that is nested deeply",
            Box::new(|folder| {
                File::read(&folder.join(SINGLE)).write_header(&"{\"a\":".repeat(100_000));
            }),
            SINGLE,
        ),
        (
            "a header of 100 GB",
            instead(SINGLE, |path| {
                fs::write(path, (100_u64 << 30).to_le_bytes()).expect("a header");
            }),
            SINGLE,
        ),
        (
            "a header of 100 GB in a file of 100 GB",
            instead(SINGLE, |path| {
                fs::write(path, (99_u64 << 30).to_le_bytes()).expect("a header");
                hole(path);
            }),
            SINGLE,
        ),
        (
            "a header of 8 MB of zeros in a file of 100 GB",
            instead(SINGLE, |path| {
                fs::write(path, (8_u64 << 20).to_le_bytes()).expect("a header");
                hole(path);
            }),
            SINGLE,
        ),
        (
            "weights that are cut in the middle",
            Box::new(|folder| {
                let path = folder.join(SINGLE);
                let bytes = fs::read(&path).expect("weights");
                fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of them");
            }),
            SINGLE,
        ),
        (
            "weights that are cut in the header",
            Box::new(|folder| {
                let path = folder.join(SINGLE);
                let bytes = fs::read(&path).expect("weights");
                fs::write(&path, &bytes[..100]).expect("a part of them");
            }),
            SINGLE,
        ),
        (
            "weights of no byte",
            instead(SINGLE, |path| fs::write(path, "").expect("a file")),
            SINGLE,
        ),
        (
            "an index that leaves the folder",
            index(|_, index| {
                index["weight_map"][QUERY] = json!("../secret.safetensors");
            }),
            "../secret.safetensors",
        ),
        (
            "an index with an absolute name",
            index(|_, index| {
                index["weight_map"][QUERY] = json!("/etc/passwd");
            }),
            "/etc/passwd",
        ),
        (
            "an index with the name `..`",
            index(|_, index| index["weight_map"][QUERY] = json!("..")),
            "`..`",
        ),
        (
            "an index with an empty name",
            index(|_, index| index["weight_map"][QUERY] = json!("")),
            "leads out",
        ),
        (
            "an index with a name of zeros",
            index(|_, index| index["weight_map"][QUERY] = json!("a\0b")),
            "leads out",
        ),
        (
            "an index that names a file that is not there",
            index(|_, index| {
                index["weight_map"][QUERY] = json!("model-00002-of-00002.safetensors");
            }),
            "model-00002-of-00002.safetensors",
        ),
        (
            "an index that names the wrong file",
            index(|folder, index| {
                let one = "model-00001-of-00001.safetensors";
                fs::copy(folder.join(one), folder.join("model-00002.safetensors")).expect("a copy");
                let mut file = File::read(&folder.join("model-00002.safetensors"));
                file.header =
                    json!({"other": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}});
                file.data.truncate(4);
                file.write();
                index["weight_map"][QUERY] = json!("model-00002.safetensors");
            }),
            "model-0000",
        ),
        (
            "an index that keeps a tensor quiet",
            index(|_, index| {
                drop(
                    index["weight_map"]
                        .as_object_mut()
                        .expect("a map")
                        .remove(QUERY),
                );
            }),
            QUERY,
        ),
        (
            "an index without a map",
            index(|_, index| *index = json!({})),
            INDEX,
        ),
        (
            "a shard that is a link out of the folder",
            index(|folder, _| {
                let shard = folder.join("model-00001-of-00001.safetensors");
                let out = folder
                    .parent()
                    .expect("a folder")
                    .join("elsewhere.safetensors");
                fs::rename(&shard, &out).expect("moved");
                symlink(&out, &shard).expect("a link");
            }),
            "model-00001-of-00001.safetensors",
        ),
        (
            "weights that are a link out of the folder",
            Box::new(|folder| {
                let out = folder
                    .parent()
                    .expect("a folder")
                    .join("elsewhere.safetensors");
                fs::rename(folder.join(SINGLE), &out).expect("moved");
                symlink(&out, folder.join(SINGLE)).expect("a link");
            }),
            SINGLE,
        ),
        (
            "a lineage of other weights",
            Box::new(|folder| {
                let path = folder.join("lineage.json");
                let mut record: Value =
                    serde_json::from_slice(&fs::read(&path).expect("a lineage")).expect("JSON");
                record["weights"] = json!("00");
                fs::write(&path, record.to_string()).expect("a lineage");
            }),
            "lineage.json",
        ),
        (
            "a lineage that is no JSON",
            instead("lineage.json", |path| fs::write(path, "{").expect("a file")),
            "lineage.json",
        ),
        (
            "a model of ten thousand layers",
            Box::new(|folder| {
                let path = folder.join("config.json");
                let mut config: Value =
                    serde_json::from_slice(&fs::read(&path).expect("a config")).expect("JSON");
                config["num_hidden_layers"] = json!(10_000);
                fs::write(&path, config.to_string()).expect("a config");
            }),
            "model.layers.1.",
        ),
        (
            "a model of more weights than there are",
            Box::new(|folder| {
                let path = folder.join("config.json");
                let mut config: Value =
                    serde_json::from_slice(&fs::read(&path).expect("a config")).expect("JSON");
                config["hidden_size"] = json!(1_u64 << 31);
                config["intermediate_size"] = json!(1_u64 << 31);
                fs::write(&path, config.to_string()).expect("a config");
            }),
            "config.json",
        ),
    ];
    for name in [
        SINGLE,
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "lineage.json",
    ] {
        cases.push(("a pipe", instead(name, pipe), name));
        cases.push(("a folder", instead(name, folder), name));
        cases.push(("a device", instead(name, endless), name));
        cases.push((
            "a link to a file of somebody else",
            instead(name, outside),
            name,
        ));
        if name != SINGLE {
            cases.push(("a file of 100 GB", instead(name, hole), name));
        }
    }
    cases
}

/// How a command ended: its code, and all that it said.
fn ends(bench: &Bench, args: &[String]) -> Result<(Option<i32>, String), String> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let leap = bench.command(&args);
    // Files hold what pipes do not.
    let file = |name: &str| fs::File::create(bench.path(name)).expect("a file");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -d {MEMORY}; exec \"$@\""), "sh"])
        .arg(leap.get_program())
        .args(leap.get_args())
        .current_dir(bench.path("."))
        .env("NO_COLOR", "1")
        .stdout(file("stdout"))
        .stderr(file("stderr"));
    let mut child = command.spawn().expect("leap starts");
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if began.elapsed() > LONGEST {
            child.kill().expect("it is there");
            let _ = child.wait();
            return Err(format!("did not end in {LONGEST:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    for name in ["stdout", "stderr"] {
        let text = fs::read_to_string(bench.path(name));
        said += &text.map_err(|_| "said what is no UTF-8".to_owned())?;
    }
    Ok((child.wait().expect("a child").code(), said))
}

/// What is wrong with the way a damaged folder is refused.
fn fault(bench: &Bench, folder: &str, named: &str) -> Result<(), String> {
    let made = made().display();
    let texts = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let mut train = texts(&["train", "sft-tiny", "train.tokens=2000", "--out", "trained"]);
    train.push(format!("model.checkpoint={folder}"));
    train.push(format!("samples.file={made}/samples.jsonl"));
    let commands = [
        (texts(&["checkpoint", "verify", folder]), 1),
        (
            texts(&[
                "infer",
                folder,
                "What is 6 * 7?",
                "--paths",
                "1",
                "--max-tokens",
                "8",
            ]),
            2,
        ),
        (train, 2),
    ];
    for (args, expected) in commands {
        let command = args[0].clone();
        let (code, said) = ends(bench, &args).map_err(|problem| format!("{command} {problem}"))?;
        let whole = format!("{command}: code {code:?}: {said}");
        // `verify` tells damage with 1, and 2 where there is nothing that it could look at.
        if code != Some(expected) && !(expected == 1 && code == Some(2)) {
            return Err(whole);
        }
        // A size that is told cannot be had either: then nobody looks for its tensors.
        let too_large = said.contains("and this process may have");
        if !(said.contains(named) || too_large)
            || said.contains("panicked")
            || said.contains("\u{1b}")
            || said.contains('\u{202e}')
        {
            return Err(whole);
        }
    }
    Ok(())
}

#[test]
fn every_damage_is_refused_by_name() {
    let cases = cases();
    let good = made().join("checkpoints/base");
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A good folder passes under the same limits: it is the damage that is refused.
    let bench = Bench::new();
    let verify = [
        "checkpoint".to_owned(),
        "verify".to_owned(),
        good.display().to_string(),
    ];
    assert_eq!(ends(&bench, &verify).map(|(code, _)| code), Ok(Some(0)));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((what, damage, named)) =
                    cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let bench = Bench::new();
                    fs::create_dir(bench.path("model")).expect("a folder");
                    for entry in fs::read_dir(&good).expect("a folder") {
                        let from = entry.expect("an entry").path();
                        fs::copy(
                            &from,
                            bench.path("model").join(from.file_name().expect("a name")),
                        )
                        .expect("a copy");
                    }
                    damage(&bench.path("model"));
                    if let Err(problem) = fault(&bench, "model", named) {
                        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
                        faults.push(format!("{what} ({named}): {problem}"));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell(
        "checkpoints: damage",
        &[
            ("cases", &cases.len()),
            ("commands each", &3),
            ("not refused by name", &faults.len()),
            ("memory limit kB", &MEMORY),
            ("s", &format!("{:.1}", began.elapsed().as_secs_f64())),
        ],
    );
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
