//! The bytes of each token of a byte-level BPE.
//!
//! Such a tokenizer writes each byte as one printable character (GPT-2's table). Turning that back
//! once, at load, lets texts be cut and searched at token borders without decoding from the start.

use serde_json::Value;

/// Ids above it are refused: an embedding with so many rows does not exist, and one absurd id would
/// make the table absurdly large.
const ID_LIMIT: u64 = 1 << 24;

/// Bytes of every token, by id.
pub(super) struct Pieces {
    byte_level: bool,
    bytes: Vec<u8>,
    /// Where each id's bytes lie; `None` for an id that no token has.
    ranges: Vec<Option<(u32, u32)>>,
    special: Vec<u32>,
}

impl Pieces {
    /// Reads the vocabulary of a `tokenizer.json`.
    ///
    /// # Errors
    /// A text if an id is impossible.
    pub(super) fn new(tokenizer: &Value) -> Result<Self, String> {
        let byte_level = is_byte_level(&tokenizer["decoder"]);
        let mut pieces = Self {
            byte_level,
            bytes: Vec::new(),
            ranges: Vec::new(),
            special: Vec::new(),
        };
        let table = byte_table();
        for (token, id) in tokenizer["model"]["vocab"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let bytes: Option<Vec<u8>> = token.chars().map(|c| byte_of(&table, c)).collect();
            // A token with other characters stands for its own text, as in the foreign decoder.
            pieces.set(id, &bytes.unwrap_or_else(|| token.as_bytes().to_vec()))?;
        }
        for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or("");
            let id = pieces.set(&token["id"], text.as_bytes())?;
            if token["special"] == true {
                pieces.special.push(id);
            }
        }
        // A vocabulary in list form (Unigram) has its ids by position.
        let listed = tokenizer["model"]["vocab"].as_array().map_or(0, Vec::len);
        let known = pieces.ranges.len().max(listed);
        pieces.ranges.resize(known, None);
        pieces.special.sort_unstable();
        pieces.special.dedup();
        Ok(pieces)
    }

    fn set(&mut self, id: &Value, bytes: &[u8]) -> Result<u32, String> {
        let id = id.as_u64().filter(|id| *id < ID_LIMIT);
        let id = id.ok_or_else(|| format!("an id is not a whole number below {ID_LIMIT}"))?;
        let slot = id as usize;
        if self.ranges.len() <= slot {
            self.ranges.resize(slot + 1, None);
        }
        let start = u32::try_from(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        let end = u32::try_from(self.bytes.len());
        match (start, end) {
            (Ok(start), Ok(end)) => self.ranges[slot] = Some((start, end)),
            _ => return Err("the vocabulary is larger than 4 GiB".to_owned()),
        }
        Ok(id as u32)
    }

    /// Whether the bytes of a token can be told.
    pub(super) fn byte_level(&self) -> bool {
        self.byte_level
    }

    /// The bytes of a token.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let (start, end) = (*self.ranges.get(id as usize)?)?;
        self.byte_level
            .then(|| &self.bytes[start as usize..end as usize])
    }

    /// The largest id plus 1.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Ids of special tokens, ascending.
    pub(super) fn special(&self) -> &[u32] {
        &self.special
    }
}

fn is_byte_level(decoder: &Value) -> bool {
    let list = decoder["decoders"].as_array();
    decoder["type"] == "ByteLevel" || list.into_iter().flatten().any(is_byte_level)
}

/// The character that stands for each byte: itself where it is printable, else the next free one
/// from U+0100 on. Source: GPT-2's `bytes_to_unicode`.
pub(super) fn byte_table() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        table[usize::from(byte)] = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("U+0100 to U+0143 are characters")
            }
        };
    }
    table
}

fn byte_of(table: &[char; 256], c: char) -> Option<u8> {
    let index = match c as u32 {
        // Where the character is the byte itself.
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => return Some(c as u8),
        0x100.. => table.iter().position(|entry| *entry == c)?,
        _ => return None,
    };
    u8::try_from(index).ok()
}
