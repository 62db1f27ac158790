//! Sockets: none listens.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{good_reply, holding};
use crate::bench::Bench;
use crate::fuzz::network::Server;
use crate::row::tell;

#[test]
fn nothing_listens() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    // A server that takes its time, so that there is time to look.
    let good = Mutex::new(good_reply());
    let server = Server::start(Box::new(move |head, body| {
        std::thread::sleep(Duration::from_millis(60));
        good.lock().expect("one at a time")(head, body)
    }));
    let args = [
        "infer",
        "bytes",
        "x",
        "--paths",
        "4",
        "--server",
        &server.url,
        "--max-tokens",
        "200",
    ];
    let mut child = bench.start(&args);
    let (mut looks, mut listening, mut sockets) = (0, BTreeSet::new(), 0);
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() && began.elapsed() < Duration::from_secs(20)
    {
        let mut own = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", child.id()))
            .into_iter()
            .flatten()
            .flatten()
        {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let inode = target
                .to_string_lossy()
                .strip_prefix("socket:[")
                .map(|text| text.trim_end_matches(']').to_owned());
            own.extend(inode);
        }
        sockets += own.len();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // A socket that listens, or one of UDP that is bound and not connected.
                let listens = fields[3] == "0A" || (fields[3] == "07" && table.starts_with("udp"));
                if listens && own.contains(fields[9]) {
                    listening.insert(format!("{table} {}", fields[1]));
                }
            }
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.wait();
    tell(
        "security: sockets",
        &[
            ("looks", &looks),
            ("sockets seen", &sockets),
            ("that listen", &listening.len()),
        ],
    );
    assert!(sockets > 0, "the command was never seen with a socket");
    assert!(listening.is_empty(), "{listening:?}");
    // In the sources one thing listens: the server that `leap bench remote` measures against.
    let mut places = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [
        "src",
        "protocol/src",
        "model/src",
        "infer/src",
        "data-gen/src",
        "train/src",
    ] {
        for word in [
            "TcpListener::bind(",
            "UdpSocket::bind(",
            "UnixListener::bind(",
        ] {
            places.extend(holding(&root.join(folder), word).1);
        }
    }
    assert_eq!(places.len(), 1, "{places:?}");
    let text = fs::read_to_string(&places[0]).expect("a source");
    assert!(
        text.contains("TcpListener::bind((\"127.0.0.1\"")
            || text.contains("TcpListener::bind(\"127.0.0.1"),
        "{}",
        places[0]
    );
}
