//! Small models saved into folders of their own.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::checkpoint::{self, CheckpointError, SaveSettings, Saved};
use model::config::ModelConfig;
use model::decoder::Decoder;
use model::device::{Device, DeviceSpec, Dtype};
use model::lineage::Lineage;
use serde_json::json;

pub(crate) fn device() -> Device {
    DeviceSpec::Cpu.open().unwrap()
}

/// A small model of one of the families.
pub(crate) fn config(family: &str, tied: bool) -> ModelConfig {
    let class = match family {
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    let json = json!({
        "architectures": [class], "model_type": family, "vocab_size": 24, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 6, "max_position_embeddings": 64,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied,
        "bos_token_id": 1, "eos_token_id": [2, 3],
    });
    ModelConfig::parse(&json.to_string()).unwrap()
}

pub(crate) fn lineage() -> Lineage {
    Lineage {
        base: "b".into(),
        samples: "s".into(),
        recipe: "r".into(),
        step: 7,
        ..Lineage::default()
    }
}

/// A folder to work in, with tokenizer files to copy.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        fs::write(
            dir.path().join("from/tokenizer_config.json"),
            "{ \"eos_token\" : null }",
        )
        .unwrap();
        fs::write(
            dir.path().join("from/chat_template.jinja"),
            "{{ messages }}",
        )
        .unwrap();
        fs::write(dir.path().join("from/notes.txt"), "not copied").unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn save(
        &self,
        name: &str,
        model: &Decoder,
        settings: SaveSettings,
    ) -> Result<Saved, CheckpointError> {
        let from = self.path("from");
        checkpoint::save_as(
            &self.path(name),
            model.config(),
            model,
            &from,
            &lineage(),
            settings,
        )
    }

    /// A saved model to be broken.
    pub(crate) fn saved(&self, family: &str, tied: bool) -> PathBuf {
        let model = Decoder::init(&config(family, tied), 5, &device());
        self.save("model", &model, SaveSettings::new(Dtype::F32))
            .unwrap();
        self.path("model")
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// All files of a folder.
pub(crate) fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: fs::DirEntry| {
        (
            entry.file_name().into_string().unwrap(),
            fs::read(entry.path()).unwrap(),
        )
    };
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| file(entry.unwrap()))
        .collect()
}

pub(crate) fn values(model: &Decoder) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
    let bits = |parameter: &model::parameters::Parameter| {
        let values = parameter.data().try_into_vec_as::<f32>().unwrap();
        (
            parameter.shape(),
            values.into_iter().map(f32::to_bits).collect(),
        )
    };
    model
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), bits(p)))
        .collect()
}

pub(crate) fn every(shard_bytes: u64) -> SaveSettings {
    SaveSettings {
        shard_bytes,
        ..SaveSettings::new(Dtype::F32)
    }
}
