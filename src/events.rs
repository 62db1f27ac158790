//! `events.jsonl`: what happened in an output folder, and when. A log, and no artefact.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Name of the log in an output folder.
pub(crate) const FILE: &str = "events.jsonl";

/// The log of one folder.
pub(crate) struct Events(File);

impl Events {
    /// Opens the log of `folder`, or makes it.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(folder.join(FILE))?;
            // A process that was killed as it wrote has left the beginning of a line.
            let mut last = [b'\n'];
            if file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            if last != [b'\n'] {
                file.write_all(b"\n")?;
            }
            Ok::<_, std::io::Error>(Self(file))
        };
        open().with_context(|| format!("cannot write in `{}`", folder.display()))
    }

    /// Adds an event with the time; a log that cannot be written ends no work.
    pub(crate) fn add(&mut self, mut event: Value) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |time| time.as_secs_f64());
        if let Some(event) = event.as_object_mut() {
            event.insert("time".to_string(), json!(time));
        }
        // In one call, so that a line is there or not.
        let _ = self.0.write_all(format!("{event}\n").as_bytes());
    }

    /// Adds an event of this kind.
    pub(crate) fn tell(&mut self, kind: &str, what: &Value) {
        let mut event = json!({ "event": kind });
        if let (Some(event), Some(what)) = (event.as_object_mut(), what.as_object()) {
            event.extend(what.clone());
        }
        self.add(event);
    }
}
