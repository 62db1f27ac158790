//! What strangers write stays text: in pages, on terminals; and what is secret is told to nobody.

use std::fs;
use std::path::Path;

use crate::fuzz::network::ok;

mod keys;
mod licences;
mod pages;
#[cfg(target_os = "linux")]
mod sockets;

type Reply = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send>;

/// What a good server says.
fn good_reply() -> Reply {
    Box::new(|head, _| {
        match head.contains(" /v1/models") {
        true => ok(br#"{"data":[{"id":"m","owned_by":"vllm","max_model_len":20000}]}"#),
        false => ok(br#"{"choices":[{"text":"seven","finish_reason":"stop","token_ids":[115,101,118,101,110,256]}]}"#),
    }
    })
}

/// Files below a folder that hold a text, and how many there are.
fn holding(folder: &Path, text: &str) -> (usize, Vec<String>) {
    let (mut files, mut found) = (0, Vec::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            files += 1;
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    (files, found)
}
