//! Requests without end through the local engine in one process: memory and descriptors stay where they
//! are, and every place of keys and values comes back.

use std::path::Path;

use infer::engine::Engine;
use infer::local::{LocalEngine, LocalSettings};
use model::checkpoint;
use model::device::{DeviceSpec, Dtype};
use protocol::{ByteVocab, Finish, PathKey, Request, Sampling, Stop, Stream};

use crate::row::{again, scale, tell};

/// Most growth of resident memory between a tenth of the requests and their end.
const MOST_GROWTH: f64 = 1.1;
/// Requests in flight.
const FLIGHT: usize = 8;

/// Resident memory in bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the system tells");
    let pages: f64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("pages");
    pages * 4096.0
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("the system tells")
        .count()
}

/// The request of a number: most go through, some are refused, some are given up by who asked.
fn request(number: usize) -> Request {
    let stream = Stream::of_run(9).indexed(number as u64);
    let lot = |at: u64, most: f64| (stream.uniform(at) * most) as usize;
    // Half of them share a beginning with others.
    let group = number / 4 % 2 * (number % 5);
    let length = 1 + lot(0, 60.0) % 60;
    let append = (0..length)
        .map(|at| ((group * 31 + at * 7) % 250) as u32)
        .collect();
    let refused = number % 17 == 3;
    Request {
        key: PathKey {
            group: number as u32,
            path: 0,
        },
        keep: 0,
        append,
        sampling: Sampling {
            temperature: if number.is_multiple_of(3) { 0.0 } else { 1.1 },
            top_k: 20,
            top_p: 0.95,
            min_p: 0.0,
        },
        stop: Stop {
            strings: vec!["\n\n".into(), "</think>".into()],
            eos: vec![ByteVocab::EOS],
        },
        // More than there are positions is refused.
        max_tokens: if refused { 100_000 } else { 1 + lot(1, 12.0) },
        logprobs: number.is_multiple_of(7),
        stream,
    }
}

#[cfg(target_os = "linux")]
#[test]
fn requests_without_end() {
    // In a process of its own: what other rows hold is no growth of this one.
    if std::env::var_os("LEAP_FIRE_SOAK").is_none() {
        let own = std::env::current_exe().expect("this program");
        let mut own = std::process::Command::new(own);
        own.args(["--exact", "soak::requests_without_end"])
            .env("LEAP_FIRE_SOAK", "1");
        let output = own.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let row = said.lines().find(|line| line.starts_with("fire: "));
        again(row.unwrap_or_default());
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && row.is_some(), "{stdout}\n{said}");
        return;
    }
    let requests = scale(2_000, 20_000);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/model/tests/golden/qwen2-tied");
    let device = DeviceSpec::Cpu.open().expect("a CPU");
    let (_, decoder) =
        checkpoint::load(Path::new(folder), &device, Dtype::F32).expect("a checkpoint");
    let settings = LocalSettings {
        wave: 1,
        max_rows: FLIGHT,
        prefill_tokens: 64,
        kv_mib: 8,
    };
    let mut engine = LocalEngine::new(decoder, &ByteVocab, settings).expect("an engine");
    let (mut sent, mut heard, mut failed, mut cancelled) = (0, 0, 0, 0);
    let (mut early, mut most, mut most_places) = (None, 0.0_f64, 0);
    let before = descriptors();
    while heard < requests {
        while sent < requests && sent - heard < FLIGHT {
            engine.submit(request(sent));
            // Given up before it is heard.
            if sent % 13 == 5 {
                engine.close(request(sent).key);
            }
            sent += 1;
        }
        let completion = engine
            .wait()
            .expect("the engine works")
            .expect("requests are in flight");
        heard += 1;
        most_places = most_places.max(engine.kv_bytes());
        match completion.finish {
            Finish::Failed(_) => failed += 1,
            Finish::Cancelled => cancelled += 1,
            _ => assert!(!completion.ids.is_empty(), "something was sampled"),
        }
        engine.close(completion.key);
        if heard == requests / 10 {
            early = Some(resident());
        }
        if heard > requests / 10 && heard % 100 == 0 {
            most = most.max(resident());
        }
    }
    assert!(
        engine.wait().expect("the engine works").is_none(),
        "nothing is left"
    );
    let (early, end) = (early.expect("a tenth"), resident());
    let (places, after) = (engine.kv_bytes(), descriptors());
    let growth = end / early;
    tell(
        "soak: local engine",
        &[
            ("requests", &requests),
            ("refused", &failed),
            ("cancelled", &cancelled),
            ("memory at a tenth MB", &format!("{:.1}", early / 1e6)),
            ("at the end", &format!("{:.1}", end / 1e6)),
            ("at most", &format!("{:.1}", most / 1e6)),
            ("growth", &format!("{growth:.3} (at most {MOST_GROWTH})")),
            ("most bytes of keys and values", &most_places),
            ("at the end", &places),
            ("descriptors", &format!("{before} to {after}")),
        ],
    );
    assert!(
        failed > requests / 30 && cancelled > requests / 30,
        "{failed} refused, {cancelled} cancelled"
    );
    assert!(most_places > 0, "keys and values were held");
    assert_eq!(
        places, 0,
        "places of keys and values that did not come back"
    );
    assert!(growth <= MOST_GROWTH, "memory grew by {growth:.3}");
    assert!(after <= before + 4, "{before} descriptors became {after}");
}
