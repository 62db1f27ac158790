//! Files that were damaged behind the tool's back: it repairs them, or names them; it never goes on
//! from them.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::Stream;

use crate::bench::Bench;
use crate::crash::SMALL;
use crate::disk::{self, How};
use crate::row::{scale, tell};
use crate::work::{Files, Work};
use crate::works::works;

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One byte is another one.
    Changed,
    /// The end is missing.
    CutOff,
    /// Nothing is left.
    Emptied,
    /// A stretch of bytes is there twice.
    Doubled,
    /// A stretch in the middle is missing.
    Missing,
}

const DAMAGES: [Damage; 5] = [
    Damage::Changed,
    Damage::CutOff,
    Damage::Emptied,
    Damage::Doubled,
    Damage::Missing,
];

impl Damage {
    /// None if these bytes would be left as they are.
    fn to(self, bytes: &[u8], stream: &Stream) -> Option<Vec<u8>> {
        if bytes.is_empty() {
            return None;
        }
        let mut damaged = bytes.to_vec();
        let at = stream.below(1, bytes.len());
        let end = (at + 1 + stream.below(2, 64)).min(bytes.len());
        match self {
            Self::Changed => damaged[at] ^= 1 << stream.below(3, 8),
            Self::CutOff => damaged.truncate(at),
            Self::Emptied => damaged.clear(),
            Self::Doubled => {
                let stretch = bytes[at..end].to_vec();
                damaged.splice(at..at, stretch);
            }
            Self::Missing => drop(damaged.drain(at..end)),
        }
        (damaged != bytes).then_some(damaged)
    }
}

/// Every file of an output, work in progress included.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(all_files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a copy")),
        }
    }
}

/// What came of damage.
#[derive(Default)]
struct Found {
    repaired: usize,
    named: usize,
}

impl Found {
    /// Damages a copy of the output `from` in all ways, one file at a time, and runs the work on it.
    fn damage(&mut self, bench: &Bench, work: &Work, from: usize, expected: &Files, share: f64) {
        let source = bench.path(&from.to_string());
        let names: Vec<PathBuf> = all_files(&source)
            .into_iter()
            .map(|path| path.strip_prefix(&source).expect("below").to_owned())
            .filter(|name| !name.ends_with("events.jsonl") && !name.ends_with("timing.json"))
            .collect();
        let copied = 900 + from;
        for (number, name) in names.iter().enumerate() {
            for (kind, damage) in DAMAGES.iter().enumerate() {
                let stream = Stream::of_run(14)
                    .indexed(number as u64)
                    .indexed(kind as u64);
                if stream.uniform(0) >= share {
                    continue;
                }
                let place = bench.path(&copied.to_string());
                copy(&source, &place);
                let file = place.join(name);
                let bytes = fs::read(&file).expect("a file");
                if let Some(damaged) = damage.to(&bytes, &stream) {
                    fs::write(&file, damaged).expect("written");
                    self.run(bench, work, copied, expected, name, *damage);
                }
                fs::remove_dir_all(&place).expect("removed");
            }
        }
    }

    fn run(
        &mut self,
        bench: &Bench,
        work: &Work,
        number: usize,
        expected: &Files,
        name: &Path,
        damage: Damage,
    ) {
        let ran = work.command(bench, number).output().expect("leap starts");
        let told = String::from_utf8_lossy(&ran.stderr);
        let what = format!("{}: {} {damage:?}: {told}", work.name, name.display());
        assert!(!told.contains("panicked"), "{what}");
        if ran.status.success() {
            work.check_same(bench, number, expected);
            self.repaired += 1;
            return;
        }
        assert_eq!(ran.status.code(), Some(2), "{what}");
        let file = name.file_name().expect("a name").to_string_lossy();
        let folder = name.parent().and_then(Path::file_name);
        let folder = folder.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let named = told.contains(&*file) || !folder.is_empty() && told.contains(&folder);
        assert!(named, "the file is not named: {what}");
        assert!(told.contains("hint: "), "no advice: {what}");
        self.named += 1;
    }
}

/// Runs the output `number` for a share of the time that it takes, and kills it.
fn begin(bench: &Bench, work: &Work, number: usize, changes: u64) {
    disk::run(bench, work, number, How::Kill, changes);
}

#[test]
fn a_damaged_file_of_a_run_is_made_again_or_named() {
    let bench = Bench::new();
    let work = Work::road(SMALL);
    let (expected, _) = work.undisturbed(&bench);
    let mut finished = Found::default();
    finished.damage(&bench, &work, 0, &expected, scale(0.15, 1.0));
    let mut half = Found::default();
    // In the corpus, in trainings, in an evaluation.
    for (number, changes) in [(1, 90), (2, 260), (3, 420), (4, 700)] {
        begin(&bench, &work, number, changes);
        half.damage(&bench, &work, number, &expected, scale(0.1, 1.0));
    }
    tell(
        "damaged files of a run",
        &[
            ("of a finished run: made again", &finished.repaired),
            ("named", &finished.named),
            ("of a run that was killed: made again", &half.repaired),
            ("named", &half.named),
            ("gone on from", &0),
        ],
    );
}

/// The text with another digit in the first number behind `key`: the one behind the point, or the last.
fn other_digit(text: &str, key: &str) -> String {
    let quoted = format!("\"{key}\":");
    let behind = text.find(&quoted).expect("a key") + quoted.len();
    let digit = |c: char| c.is_ascii_digit();
    let begin = behind + text[behind..].find(digit).expect("a number");
    let length = text[begin..].find(|c| !digit(c)).expect("an end");
    let at = match text[begin + length..].starts_with('.') {
        true => begin + length + 1,
        false => begin + length - 1,
    };
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] ^= 1;
    String::from_utf8(bytes).expect("a digit for a digit")
}

#[test]
fn no_changed_number_of_a_standing_is_gone_on_from() {
    let bench = Bench::new();
    let (_, works) = works(&bench);
    let train = works.iter().find(|work| work.name == "train");
    let train = train.expect("a training");
    let (expected, _) = train.undisturbed(&bench);
    let changes = disk::run(&bench, train, 1, How::Kill, 0).changes;
    begin(&bench, train, 2, changes.expect("it ended by itself") / 2);
    let trainer = bench.path(&train.out(2)).join("trainer");
    let mut states = all_files(&trainer);
    states.retain(|file| {
        let folder = file.parent().expect("a state").extension();
        file.ends_with("manifest.json") && folder.is_none()
    });
    let newest = states.pop().expect("a state");
    let text = fs::read_to_string(&newest).expect("a manifest");
    let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let standing = parsed["standing"].as_object().expect("an object");
    let keys = standing.iter().filter(|(_, value)| !value.is_null());
    let keys: Vec<&String> = keys.map(|(key, _)| key).collect();
    assert!(keys.len() > 6, "{text}");
    for key in &keys {
        let place = bench.path("3");
        copy(&bench.path("2"), &place);
        let below = newest.strip_prefix(bench.path("2")).expect("below");
        fs::write(place.join(below), other_digit(&text, key)).expect("written");
        let ran = train.command(&bench, 3).output().expect("leap starts");
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{key}: {told}");
        let named = told.contains("is not used") && told.contains("manifest.json` is damaged");
        assert!(named, "{key}: {told}");
        train.check_same(&bench, 3, &expected);
        fs::remove_dir_all(&place).expect("removed");
    }
    tell(
        "changed numbers in the standing of a training",
        &[("named", &keys.len()), ("gone on from", &0)],
    );
}
