//! `leap` on a disk that goes wrong at one change (see disk.c).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use crate::bench::Bench;
use crate::work::Work;

/// What the disk does at a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A write takes half of its bytes, and from then on nothing.
    Full,
    /// The change fails once.
    Io,
    /// From then on nothing can be changed.
    ReadOnly,
    /// From then on nothing may be changed.
    Denied,
    /// From then on nothing can be renamed.
    Device,
    /// The process is killed before the change.
    Kill,
    /// A write takes half of its bytes, and the process is killed.
    Torn,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Io => "io",
            Self::ReadOnly => "readonly",
            Self::Denied => "denied",
            Self::Device => "device",
            Self::Kill => "kill",
            Self::Torn => "torn",
        }
    }

    /// Whether the process lives on and tells what is wrong.
    pub(crate) fn is_told(self) -> bool {
        !matches!(self, Self::Kill | Self::Torn)
    }

    /// What the operating system calls it.
    fn words(self) -> &'static str {
        match self {
            Self::Full => "No space left on device",
            Self::Io => "Input/output error",
            Self::ReadOnly => "Read-only file system",
            Self::Denied => "Permission denied",
            Self::Device => "Invalid cross-device link",
            Self::Kill | Self::Torn => "",
        }
    }
}

/// How a call on such a disk ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) told: String,
    /// Changes of the disk, if the process ended by itself.
    pub(crate) changes: Option<u64>,
}

/// Runs a work's output `number` on a disk that does `how` at change `at`; 0: never.
pub(crate) fn run(bench: &Bench, work: &Work, number: usize, how: How, at: u64) -> Ended {
    let count = bench.path(&format!("changes-{number}"));
    let _ = std::fs::remove_file(&count);
    let mut command = work.command(bench, number);
    command
        .env("LD_PRELOAD", library())
        .env("FIRE_FOLDER", bench.path(&number.to_string()))
        .env("FIRE_AT", at.to_string())
        .env("FIRE_HOW", how.name())
        .env("FIRE_COUNT", &count);
    let output = command.output().expect("leap starts");
    let changes = std::fs::read_to_string(&count).ok();
    Ended {
        status: output.status,
        told: String::from_utf8_lossy(&output.stderr).into_owned(),
        changes: changes.and_then(|text| text.trim().parse().ok()),
    }
}

impl Ended {
    /// Whether the output was whole before this call, whose command does not write what is there: a call
    /// can be killed between the name of its output and its end.
    pub(crate) fn finds_it_done(&self) -> bool {
        let there = ["exists", "is there already"];
        self.status.code() == Some(2) && there.iter().any(|words| self.told.contains(words))
    }

    /// Checks that a call which the disk failed has ended as it should: with what is wrong, where, and
    /// what to do, or in spite of it.
    #[track_caller]
    pub(crate) fn check_told(&self, work: &Work, how: How) {
        let told = &self.told;
        let name = work.name;
        assert!(!told.contains("panicked"), "{name}, {how:?}: {told}");
        if self.status.success() {
            return;
        }
        assert_eq!(self.status.code(), Some(2), "{name}, {how:?}: {told}");
        assert!(told.contains("error: "), "{name}, {how:?}: {told}");
        assert!(told.contains('`'), "{name}, {how:?} names no file: {told}");
        assert!(told.contains(how.words()), "{name}, {how:?}: {told}");
        let advised = how == How::Io || told.contains("hint: ");
        assert!(advised, "{name}, {how:?} gives no advice: {told}");
    }
}

/// disk.c, compiled.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fire/disk.c");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library.as_path(), Path::new(source)])
            .arg("-ldl")
            .status()
            .expect("a C compiler, which the build needs as well");
        assert!(status.success(), "disk.c does not compile");
        library
    })
}
