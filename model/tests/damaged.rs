//! Checkpoint folders that are broken or hostile: refused, with the tensor or the file named.

#![expect(
    clippy::unwrap_used,
    reason = "tests fail on files that cannot be read"
)]

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use model::checkpoint::{self, CheckpointError, SaveSettings};
use model::decoder::Decoder;
use model::device::Dtype;
use place::{Place, config, device, every, values};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Tensors of a file: name, number type, shape, bytes.
type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

fn read_tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect()
}

fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Saves a model, changes its tensors, and says how loading it ends.
fn changed(
    family: &str,
    tied: bool,
    change: impl FnOnce(&mut Tensors),
) -> Result<Decoder, CheckpointError> {
    let place = Place::new();
    let path = place.saved(family, tied).join("model.safetensors");
    let mut tensors = read_tensors(&path);
    change(&mut tensors);
    write_tensors(&path, &tensors);
    // Its hash is that of the tensors before.
    fs::remove_file(place.path("model").join("lineage.json")).unwrap();
    checkpoint::load(&place.path("model"), &device(), Dtype::F32).map(|(_, model)| model)
}

#[track_caller]
fn check_changed(words: &[&str], tied: bool, change: impl FnOnce(&mut Tensors)) {
    let error = changed("qwen2", tied, change)
        .map(|_| ())
        .expect_err("it is refused")
        .to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

#[test]
fn every_tensor_must_be_there_and_none_left_over() {
    check_changed(&[QUERY, "missing", "[12, 8]"], false, |t| {
        drop(t.remove(QUERY))
    });
    check_changed(&[HEAD, "missing"], false, |t| drop(t.remove(HEAD)));
    check_changed(&["q_proj.bias", "missing"], false, |t| {
        drop(t.remove("model.layers.0.self_attn.q_proj.bias"));
    });
    check_changed(&["more.weight", "no place", "[12, 8]"], false, |t| {
        t.insert("more.weight".into(), t[QUERY].clone());
    });
    check_changed(&["layers.2.", "no place"], false, |t| {
        t.insert(
            "model.layers.2.self_attn.q_proj.weight".into(),
            t[QUERY].clone(),
        );
    });
    check_changed(&[QUERY, "[8, 12]", "[12, 8]"], false, |t| {
        t.get_mut(QUERY).unwrap().1 = vec![8, 12];
    });
    check_changed(&[QUERY, "[96]"], false, |t| {
        t.get_mut(QUERY).unwrap().1 = vec![96]
    });
    check_changed(&[QUERY, "I32"], false, |t| {
        t.get_mut(QUERY).unwrap().0 = safetensors::Dtype::I32
    });
    check_changed(&[QUERY, "NaN", "element 5"], false, |t| {
        t.get_mut(QUERY).unwrap().2[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    check_changed(&[EMBEDDING, "inf", "element 0"], true, |t| {
        t.get_mut(EMBEDDING).unwrap().2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
}

#[test]
fn a_tied_head_may_be_stored_twice_only_if_it_is_the_same() {
    let twice = |t: &mut Tensors| drop(t.insert(HEAD.into(), t[EMBEDDING].clone()));
    assert!(changed("qwen2", true, twice).is_ok());
    check_changed(&["tie_word_embeddings", HEAD], true, |t| {
        twice(t);
        t.get_mut(HEAD).unwrap().2[100] ^= 1;
    });
    check_changed(&["tie_word_embeddings", HEAD], true, |t| {
        twice(t);
        t.get_mut(HEAD).unwrap().1 = vec![8, 24];
    });
}

#[test]
fn stored_rotary_frequencies_are_passed_over() {
    let frequencies = (safetensors::Dtype::F32, vec![1], vec![0, 0, 128, 63]);
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    assert!(changed("llama", false, |t| drop(t.insert(name.into(), frequencies))).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// Every finite 16-bit pattern, and any f32, comes out as the f32 of the same value.
    #[test]
    fn numbers_are_widened_exactly(patterns in prop::collection::vec(any::<u16>(), 96), kind in 0..3) {
        let (mut stored, mut expected) = (Vec::new(), Vec::new());
        for pattern in patterns {
            let (bytes, value) = match kind {
                0 => (pattern.to_le_bytes().to_vec(), f16::from_bits(pattern).to_f32()),
                1 => (pattern.to_le_bytes().to_vec(), bf16::from_bits(pattern).to_f32()),
                _ => {
                    let bits = u32::from(pattern).wrapping_mul(0x9E37_79B9);
                    (bits.to_le_bytes().to_vec(), f32::from_bits(bits))
                }
            };
            let finite = value.is_finite();
            stored.extend(if finite { bytes } else { vec![0; bytes.len()] });
            expected.push(if finite { value.to_bits() } else { 0 });
        }
        let dtype = [safetensors::Dtype::F16, safetensors::Dtype::BF16, safetensors::Dtype::F32];
        let dtype = dtype[kind as usize];
        let model = changed("qwen2", false, |t| {
            t.insert(QUERY.into(), (dtype, vec![12, 8], stored));
        });
        prop_assert_eq!(&values(&model.unwrap())[QUERY].1, &expected);
    }
}

/// Writes raw bytes as the weights of a folder, and says why they are refused.
#[track_caller]
fn check_raw(words: &[&str], bytes: &[u8]) {
    let place = Place::new();
    let dir = place.saved("llama", true);
    fs::write(dir.join("model.safetensors"), bytes).unwrap();
    let error = checkpoint::load(&dir, &device(), Dtype::F32)
        .map(|_| ())
        .expect_err("refused")
        .to_string();
    for word in words.iter().chain(&["model.safetensors"]) {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// A file with this header, and `data` zero bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn hostile_headers_are_refused() {
    check_raw(&["small"], b"");
    check_raw(&["small"], &[1, 2, 3]);
    check_raw(&["18446744073709551615"], &[255; 8]);
    check_raw(&["99999999"], &99_999_999u64.to_le_bytes());
    check_raw(&["length"], &1000u64.to_le_bytes());
    check_raw(&["JSON"], &file("{", 0));
    check_raw(&["JSON"], &file("[1]", 0));
    check_raw(&["UTF-8"], &[2, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE]);
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{b}}}}}"#
        )
    };
    check_raw(&["offset"], &file(&two("[0,8]", "[4,12]"), 12));
    check_raw(&["offset"], &file(&two("[0,8]", "[0,8]"), 8));
    check_raw(&["offset"], &file(&two("[0,8]", "[12,20]"), 20));
    check_raw(&["offset"], &file(&two("[0,8]", "[16,8]"), 16));
    check_raw(&["cover"], &file(&two("[0,8]", "[8,16]"), 12));
    check_raw(&["cover"], &file(&two("[0,8]", "[8,16]"), 99));
    let one = |shape: &str, end: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    check_raw(&["shape"], &file(&one("[3]", "8"), 8));
    check_raw(
        &["overflow"],
        &file(&one("[9223372036854775807,4]", "8"), 8),
    );
    check_raw(&["cover"], &file(&one("[2000000000]", "8000000000"), 8));
    check_raw(&["JSON"], &file(&one("[-1]", "8"), 8));
    // Of two tensors of one name, the parser takes the last.
    check_raw(
        &["two tensors `a`"],
        &file(&two("[0,8]", "[0,8]").replace("\"b\"", "\"a\""), 8),
    );
}

/// Saves a model in several files, changes its index, and says why it is refused. `change` gets the
/// folder, the index and the names of the first two files.
#[track_caller]
fn check_index(word: &str, change: impl FnOnce(&Path, &mut Value, [&str; 2])) {
    let place = Place::new();
    let model = Decoder::init(&config("llama", true), 5, &device());
    let saved = place.save("model", &model, every(700)).unwrap();
    let dir = place.path("model");
    fs::create_dir(place.path("outside")).unwrap();
    fs::copy(
        dir.join(&saved.files[0]),
        place.path("outside/weights.safetensors"),
    )
    .unwrap();
    let path = dir.join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&dir, &mut index, [&saved.files[0], &saved.files[1]]);
    fs::write(&path, index.to_string()).unwrap();
    let error = checkpoint::load(&dir, &device(), Dtype::F32)
        .map(|_| ())
        .expect_err("refused");
    let error = error.to_string();
    assert!(error.contains(word), "`{word}` is not in: {error}");
}

#[test]
fn an_index_stays_in_its_folder_and_tells_the_truth() {
    let elsewhere = |file: &'static str| {
        move |_: &Path, index: &mut Value, _: [&str; 2]| {
            index["weight_map"][EMBEDDING] = json!(file)
        }
    };
    check_index("leads out", elsewhere("../outside/weights.safetensors"));
    check_index("leads out", elsewhere("/etc/passwd"));
    check_index("leads out", elsewhere(".."));
    check_index("leads out", elsewhere(""));
    check_index("leads out", elsewhere("sub/model.safetensors"));
    check_index("leads out", elsewhere("..\\outside\\weights.safetensors"));
    check_index("index.json", |_, index, _| index["weight_map"] = json!([]));
    check_index("disagree", |_, index, [_, second]| {
        index["weight_map"][EMBEDDING] = json!(second);
    });
    check_index("disagree", |_, index, _| {
        index["weight_map"]
            .as_object_mut()
            .unwrap()
            .remove("model.norm.weight");
    });
    check_index("disagree", |_, index, [first, _]| {
        index["weight_map"]["more.weight"] = json!(first);
    });
    // The same tensor in two files.
    check_index("disagree", |dir, index, [first, _]| {
        fs::copy(dir.join(first), dir.join("twin.safetensors")).unwrap();
        index["weight_map"]["more.weight"] = json!("twin.safetensors");
    });
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let dir = place.saved("llama", true);
    fs::rename(dir.join("model.safetensors"), place.path("weights")).unwrap();
    symlink(place.path("weights"), dir.join("model.safetensors")).unwrap();
    let error = checkpoint::load(&dir, &device(), Dtype::F32)
        .map(|_| ())
        .expect_err("refused");
    assert!(matches!(error, CheckpointError::Outside { name, .. } if name == "model.safetensors"));
    // A link to a file beside it is harmless.
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    fs::rename(place.path("weights"), dir.join("data")).unwrap();
    symlink("data", dir.join("model.safetensors")).unwrap();
    assert!(checkpoint::load(&dir, &device(), Dtype::F32).is_ok());
    for name in [
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    ] {
        let (path, kept) = (dir.join(name), place.path("kept"));
        let there = fs::rename(&path, &kept).is_ok();
        symlink("/dev/zero", &path).unwrap();
        let wrong = checkpoint::damages(&dir).map(|damages| format!("{damages:?}"));
        let wrong = wrong.unwrap_or_else(|error| error.to_string());
        assert!(wrong.contains("out of"), "{name}: {wrong}");
        fs::remove_file(&path).unwrap();
        if there {
            fs::rename(&kept, &path).unwrap();
        }
    }
    // So is the hub's cache, where files are links from snapshots/<revision> into blobs.
    fs::create_dir_all(place.path("cache/snapshots")).unwrap();
    fs::create_dir_all(place.path("cache/blobs")).unwrap();
    fs::rename(&dir, place.path("cache/snapshots/main")).unwrap();
    let dir = place.path("cache/snapshots/main");
    fs::rename(dir.join("data"), place.path("cache/blobs/data")).unwrap();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    symlink("../../blobs/data", dir.join("model.safetensors")).unwrap();
    assert!(checkpoint::load(&dir, &device(), Dtype::F32).is_ok());
    // Nor does a save copy what a link outside shows.
    fs::write(place.path("secret"), "secret").unwrap();
    symlink(place.path("secret"), place.path("from/tokenizer.json")).unwrap();
    let model = Decoder::init(&config("llama", true), 5, &device());
    let saved = place.save("out", &model, SaveSettings::new(Dtype::F32));
    assert!(matches!(saved, Err(CheckpointError::Outside { .. })));
}
